//! Where a build's result goes: `--output`.

mod parse;

use std::path::Path;

use crate::commands::container::copy_archive::Destination;
use crate::commands::container::copy_archive::pipe::pipe;
use crate::commands::container::copy_archive::unpack::unpack;
use crate::commands::container::snapshot::{refuse_terminal, write_archive};
use crate::commands::image::transfer;
use crate::error::{CliError, Result};
use crate::host_files;
use crate::http::{Request, path_part};
use crate::session::Session;

/// One `--output`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildOutput {
    /// The place.
    target: Target,
    /// Further names of the image.
    names: Vec<String>,
    /// Times later than `SOURCE_DATE_EPOCH` are set to that.
    rewrites_timestamps: bool,
}

/// Where a result goes.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Target {
    /// Nowhere: the steps are kept for later builds.
    Nothing,
    /// The image stays with the daemon.
    Image {
        /// Whether its names go to their registries.
        push: bool,
    },
    /// An archive that `load` reads; `-` is standard output.
    Archive(String),
    /// The same in a directory.
    Layout(String),
    /// The files as a tar; `-` is standard output.
    Tar(String),
    /// The files in a directory.
    Local(String),
}

impl BuildOutput {
    /// Brings a built image to its place; `tags` are the names that the build itself gave it.
    pub async fn write(&self, session: &mut Session, image: &str, tags: &[String]) -> Result<()> {
        let names: Vec<&String> = match self.names.as_slice() {
            [] => tags.iter().collect(),
            own => own.iter().collect(),
        };
        match &self.target {
            Target::Nothing | Target::Image { push: false } => Ok(()),
            Target::Image { push: true } => {
                for name in names {
                    transfer::push_as_talk(session, name).await?;
                }
                Ok(())
            }
            Target::Archive(path) => {
                refuse_terminal(session, Some(path))?;
                let response = session.client.send(saved(image, &names)).await?;
                write_archive(session, response, Some(path)).await
            }
            Target::Layout(path) => {
                unpack_answer(session, saved(image, &names), Path::new(path)).await
            }
            Target::Tar(path) => {
                refuse_terminal(session, Some(path))?;
                let response = session.client.send(files(image)).await?;
                write_archive(session, response, Some(path)).await
            }
            Target::Local(path) => unpack_answer(session, files(image), Path::new(path)).await,
        }
    }

    /// Fails where the place cannot take the result, before anything is built.
    pub fn check_place(&self) -> Result<()> {
        let is_directory = |path: &str| {
            host_files::metadata(Path::new(path))
                .ok()
                .map(|found| found.is_dir())
        };
        match &self.target {
            Target::Local(path) | Target::Layout(path) if is_directory(path) == Some(false) => Err(
                CliError::usage(format!("destination directory {path} is a file")),
            ),
            Target::Archive(path) | Target::Tar(path) if is_directory(path) == Some(true) => Err(
                CliError::usage(format!("destination file {path} is a directory")),
            ),
            _ => Ok(()),
        }
    }

    /// Says whether the image goes to registries.
    pub fn is_pushed(&self) -> bool {
        self.target == Target::Image { push: true }
    }

    /// Says whether the image itself is asked for.
    pub fn keeps_image(&self) -> bool {
        matches!(self.target, Target::Image { .. })
    }

    /// Says whether what comes out is an image, wherever it goes.
    pub fn is_image(&self) -> bool {
        matches!(
            self.target,
            Target::Image { .. } | Target::Archive(_) | Target::Layout(_)
        )
    }

    /// Says whether the result goes to standard output.
    pub fn is_on_stdout(&self) -> bool {
        matches!(&self.target, Target::Tar(path) | Target::Archive(path) if path == "-")
    }

    /// Says whether times later than `SOURCE_DATE_EPOCH` are set to that.
    pub fn rewrites_timestamps(&self) -> bool {
        self.rewrites_timestamps
    }
}

/// Returns the names that outputs give the image.
pub fn names(outputs: &[BuildOutput]) -> impl Iterator<Item = &String> {
    outputs.iter().flat_map(|output| &output.names)
}

/// Unpacks the archive that answers a request in a directory of this machine, which is made where it is missing.
pub(super) async fn unpack_answer(
    session: &mut Session,
    request: Request,
    directory: &Path,
) -> Result<()> {
    host_files::create_directories(directory)?;
    let mut response = session.client.send(request).await?;
    let destination = Destination::on_host(directory, "/.", true, None)?;
    let (sender, reader) = pipe();
    let unpacking = tokio::task::spawn_blocking(move || unpack(reader, &destination));
    while let Some(chunk) = response.chunk().await? {
        if sender.send(chunk).await.is_err() {
            break;
        }
    }
    drop(sender);
    unpacking
        .await
        .map_err(|error| CliError::transport("unpacking the answer", error))?
}

/// Asks for the image as an archive, under its names where it has any.
fn saved(image: &str, names: &[&String]) -> Request {
    if names.is_empty() {
        return Request::get(format!("/images/{}/get", path_part(image)));
    }
    let request = Request::get("/images/get");
    names
        .iter()
        .fold(request, |request, name| request.query("names", name))
}

fn files(image: &str) -> Request {
    Request::get(format!("/wharf/images/{}/files", path_part(image)))
}
