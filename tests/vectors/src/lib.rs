//! Runs the recorded test vectors: what the reference implementations answer to the same inputs.
//!
//! A vector file is `{"area": …, "vectors": [{"id", "input", "expected"}, …]}`. [`areas::AREAS`] says who
//! answers each area; [`differences`] lists every vector that is answered otherwise on purpose, with the
//! reason. `own/` holds the project's own inputs; more files are run from wherever they are
//! (`cargo xtask vectors DIR`).

#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test program: it fails by panicking and talks on the terminal"
)]

pub mod areas;
pub mod differences;
mod document;
#[cfg(feature = "api")]
pub mod live;
mod report;

use std::path::{Path, PathBuf};

pub use document::{Document, Vector, find_documents};
pub use report::{AreaReport, Verdict, judge};

/// Names the directory with more vector files; `../shared/vectors/public` beside the project otherwise.
pub const PUBLIC_VARIABLE: &str = "WHARF_PUBLIC_VECTORS";

/// Returns the directory of the project's own vectors.
#[must_use]
pub fn own_directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("own")
}

/// Returns the directory where more vectors may be.
#[must_use]
pub fn public_directory() -> PathBuf {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/vectors/public");
    std::env::var_os(PUBLIC_VARIABLE).map_or_else(beside, PathBuf::from)
}

/// Runs one area's file of a directory and fails the calling test on any failure.
///
/// # Panics
/// If a vector fails, or an area has none of the project's own. A directory that is not there is told as skipped; not
/// every area has public vectors.
pub fn assert_area(directory: &Path, area: &str) {
    let path = directory.join(format!("{area}.json"));
    if !path.is_file() {
        assert_ne!(directory, own_directory(), "no vectors of {area}");
        if !directory.is_dir() {
            println!("SKIP: no vectors at {}", directory.display());
        }
        return;
    }
    let report = judge(&Document::read(&path).unwrap());
    println!("{report}");
    assert!(report.failures.is_empty(), "{}", report.details());
}
