//! Where a build's result goes: `--output`.

use std::path::Path;

use crate::commands::container::copy_archive::{self, Destination};
use crate::commands::container::snapshot::{refuse_terminal, write_archive};
use crate::error::{CliError, Result};
use crate::host_files;
use crate::http::{Request, path_part};
use crate::session::Session;

/// One `--output`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BuildOutput {
    /// The image stays with the daemon.
    Image {
        /// Further names.
        names: Vec<String>,
        /// Times later than `SOURCE_DATE_EPOCH` are set to that.
        rewrite_timestamp: bool,
    },
    /// An archive that `load` reads; `-` is standard output.
    Archive(String),
    /// The files as a tar; `-` is standard output.
    Tar(String),
    /// The files in a directory.
    Local(String),
}

impl BuildOutput {
    /// Reads a value of the form `type=TYPE[,dest=PATH][,name=NAME]`, a path, or `-`.
    pub fn parse(value: &str) -> Result<Self> {
        if value == "-" {
            return Ok(Self::Tar(value.to_owned()));
        }
        if !value.contains('=') {
            return Ok(Self::Local(value.to_owned()));
        }
        let (mut kind, mut destination) = ("", None);
        let (mut names, mut rewrite_timestamp) = (Vec::new(), false);
        for field in value.split(',') {
            match field.split_once('=') {
                Some(("type", text)) => kind = text,
                Some(("dest", text)) => destination = Some(text.to_owned()),
                Some(("name", text)) => names.push(text.to_owned()),
                Some(("rewrite-timestamp", text)) => rewrite_timestamp = is_true(text),
                Some(("push", text)) if !is_true(text) => {}
                Some(("push", _)) => {
                    return Err(CliError::usage(
                        "--output push=true is not supported yet: push the image afterwards",
                    ));
                }
                _ => {
                    return Err(CliError::usage(format!(
                        "invalid --output {value:?}: {field:?} is not supported"
                    )));
                }
            }
        }
        let needed = |what: &str| {
            destination
                .clone()
                .ok_or_else(|| CliError::usage(format!("--output type={what} needs dest=PATH")))
        };
        match kind {
            "image" => Ok(Self::Image {
                names,
                rewrite_timestamp,
            }),
            // Without a place docker's type means the daemon's own images.
            "docker" if destination.is_none() => Ok(Self::Image {
                names,
                rewrite_timestamp,
            }),
            "docker" | "oci" => Ok(Self::Archive(destination.clone().unwrap_or("-".to_owned()))),
            "tar" => Ok(Self::Tar(destination.clone().unwrap_or("-".to_owned()))),
            "local" => needed("local").map(Self::Local),
            "" => Err(CliError::usage(format!("--output {value:?} needs a type"))),
            other => Err(CliError::usage(format!(
                "--output type={other} is not supported: use image, docker, oci, tar or local"
            ))),
        }
    }

    /// Brings a built image to its place.
    pub async fn write(&self, session: &mut Session, image: &str) -> Result<()> {
        match self {
            Self::Image { .. } => Ok(()),
            Self::Archive(path) => {
                refuse_terminal(session, Some(path))?;
                let request = Request::get(format!("/images/{}/get", path_part(image)));
                let response = session.client.send(request).await?;
                write_archive(session, response, Some(path)).await
            }
            Self::Tar(path) => {
                refuse_terminal(session, Some(path))?;
                let response = session.client.send(files(image)).await?;
                write_archive(session, response, Some(path)).await
            }
            Self::Local(path) => unpack_answer(session, files(image), Path::new(path)).await,
        }
    }

    /// Says whether the image itself is asked for.
    pub fn keeps_image(&self) -> bool {
        matches!(self, Self::Image { .. })
    }
}

/// Returns the names that outputs give the image.
pub fn names(outputs: &[BuildOutput]) -> impl Iterator<Item = &String> {
    outputs.iter().flat_map(|output| match output {
        BuildOutput::Image { names, .. } => names.as_slice(),
        _ => &[],
    })
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
    let (sender, reader) = copy_archive::pipe();
    let unpacking = tokio::task::spawn_blocking(move || copy_archive::unpack(reader, &destination));
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

fn files(image: &str) -> Request {
    Request::get(format!("/wharf/images/{}/files", path_part(image)))
}

fn is_true(text: &str) -> bool {
    matches!(text, "" | "1" | "true")
}

#[cfg(test)]
mod tests {
    use super::BuildOutput;

    #[test]
    fn outputs() {
        let parse = |text: &str| BuildOutput::parse(text).map_err(|error| error.to_string());
        assert_eq!(parse("out").unwrap(), BuildOutput::Local("out".into()));
        assert_eq!(parse("-").unwrap(), BuildOutput::Tar("-".into()));
        assert_eq!(
            parse("type=local,dest=x").unwrap(),
            BuildOutput::Local("x".into())
        );
        assert_eq!(
            parse("type=oci,dest=x.tar").unwrap(),
            BuildOutput::Archive("x.tar".into())
        );
        assert_eq!(
            parse("type=image,name=a,rewrite-timestamp=true").unwrap(),
            BuildOutput::Image {
                names: vec!["a".into()],
                rewrite_timestamp: true
            }
        );
        for (text, part) in [
            ("type=local", "needs dest"),
            ("type=registry,name=x", "is not supported"),
            ("dest=x", "needs a type"),
            ("type=image,push=true", "push the image afterwards"),
        ] {
            assert!(parse(text).unwrap_err().contains(part), "{text}");
        }
    }
}
