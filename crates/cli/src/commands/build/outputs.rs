//! Where a build's result goes: `--output`.

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
pub enum BuildOutput {
    /// The image stays with the daemon.
    Image {
        /// Further names.
        names: Vec<String>,
        /// Whether its names go to their registries.
        push: bool,
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
        let mut names = Vec::new();
        let (mut rewrite_timestamp, mut push) = (false, false);
        for field in value.split(',') {
            match field.split_once('=') {
                Some(("type", text)) => kind = text,
                Some(("dest", text)) => destination = Some(text.to_owned()),
                Some(("name", text)) => names.push(text.to_owned()),
                Some(("rewrite-timestamp", text)) => rewrite_timestamp = is_true(text),
                Some(("push", text)) => push = is_true(text),
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
        let image = |push| Self::Image {
            names: names.clone(),
            push,
            rewrite_timestamp,
        };
        match kind {
            "image" => Ok(image(push)),
            "registry" => Ok(image(true)),
            _ if push => Err(CliError::usage(format!(
                "--output {value:?}: only type=image can be pushed"
            ))),
            // Without a place docker's type means the daemon's own images.
            "docker" if destination.is_none() => Ok(image(false)),
            "docker" | "oci" => Ok(Self::Archive(destination.clone().unwrap_or("-".to_owned()))),
            "tar" => Ok(Self::Tar(destination.clone().unwrap_or("-".to_owned()))),
            "local" => needed("local").map(Self::Local),
            "" => Err(CliError::usage(format!("--output {value:?} needs a type"))),
            other => Err(CliError::usage(format!(
                "--output type={other} is not supported: use image, registry, docker, oci, tar or local"
            ))),
        }
    }

    /// Brings a built image to its place; `tags` are the names that the build itself gave it.
    pub async fn write(&self, session: &mut Session, image: &str, tags: &[String]) -> Result<()> {
        match self {
            Self::Image { push: false, .. } => Ok(()),
            Self::Image { names, .. } => {
                for name in if names.is_empty() { tags } else { names } {
                    transfer::push_as_talk(session, name).await?;
                }
                Ok(())
            }
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

    /// Says whether the image goes to registries.
    pub fn is_pushed(&self) -> bool {
        matches!(self, Self::Image { push: true, .. })
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
                push: false,
                rewrite_timestamp: true
            }
        );
        for text in ["type=registry", "type=image,push=true"] {
            let pushed = BuildOutput::Image {
                names: Vec::new(),
                push: true,
                rewrite_timestamp: false,
            };
            assert_eq!(parse(text).unwrap(), pushed);
        }
        for (text, part) in [
            ("type=local", "needs dest"),
            ("type=other,name=x", "is not supported"),
            ("dest=x", "needs a type"),
            ("type=oci,dest=x,push=true", "only type=image can be pushed"),
        ] {
            assert!(parse(text).unwrap_err().contains(part), "{text}");
        }
    }
}
