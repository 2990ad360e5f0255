//! Writes `docs/compatibility.md`: every command, flag and endpoint of docker's and every instruction of the
//! Dockerfile language, and how wharf stands to it.
//!
//! What docker has is recorded in `data/`; what wharf has comes from the code (the command line's definition, the
//! table of routes, the language room); what differs or is refused is told once, in `data/notes.txt`, or beside the
//! route. So a new flag or endpoint only needs the page written again: `cargo xtask compatibility`.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test program talks on the terminal"
)]

mod commands;
mod endpoints;
mod instructions;
mod notes;
mod page;
pub mod record;

use std::path::{Path, PathBuf};

/// The recorded commands and flags of docker's client.
pub const DOCKER_COMMANDS: &str = include_str!("../data/docker-cli-28.5.txt");
/// The recorded flags of buildx's `build`.
pub const BUILDX_BUILD: &str = include_str!("../data/buildx-build-0.29.txt");
const DOCKER_ENDPOINTS: &str = include_str!("../data/engine-api-1.51.txt");
const DOCKERFILE: &str = include_str!("../data/dockerfile.txt");
const NOTES: &str = include_str!("../data/notes.txt");

/// How wharf stands to something of docker's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Status {
    /// As docker.
    Works,
    /// There, with differences that a note tells.
    Differs,
    /// Not there, or refused with a clear error.
    Missing,
}

impl Status {
    /// Returns the word of the page.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Works => "works",
            Self::Differs => "differs",
            Self::Missing => "missing",
        }
    }
}

/// One thing of docker's.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// How wharf stands to it.
    pub status: Status,
    /// What differs or why it is missing; may be empty.
    pub note: String,
}

/// Returns the page's text.
///
/// # Errors
/// The mistakes of the notes, a line each.
pub fn page() -> Result<String, String> {
    let notes = notes::Notes::parse(NOTES)?;
    let text = page::render(&notes)?;
    notes.check_all_used()?;
    Ok(text)
}

/// Returns where the page is.
#[must_use]
pub fn page_path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/compatibility.md")
}
