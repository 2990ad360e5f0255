//! Sending a directory as a tar archive, without what its ignore file leaves out.

use std::io::Write;
use std::path::{Path, PathBuf};

use base64::prelude::{BASE64_URL_SAFE, Engine};
use wharf_dockerfile::{IgnoreFile, ignore};

use crate::archive::{self, Compression};
use crate::commands::build::source::{DOCKERFILE_LIMIT_BYTES, Dockerfile};
use crate::error::{CliError, Result};
use crate::host_files;
use crate::http::{Request, Upload};

/// Name in the archive of a Dockerfile that is not in the context; no file there has it by accident.
pub const INLINE_NAME: &str = ".dockerfile.wharf-inline";
/// How an ignore file beside a Dockerfile outside of the context is named.
const BESIDE_DOCKERFILE: &str = "the Dockerfile's .dockerignore";
/// Deepest directory that is sent.
pub const DEPTH_LIMIT: usize = 1000;

/// Adds a directory to a request, as an archive that is written while it is sent.
pub fn upload_directory(
    request: Request,
    root: PathBuf,
    dockerfile: Dockerfile,
    compression: Compression,
) -> Result<Request> {
    let ignore = ignore_file(&root, &dockerfile)?;
    let mut request = request;
    let (name, content) = match dockerfile {
        Dockerfile::Inside(name) => (name, None),
        Dockerfile::Content { text, ignore } => {
            if let Some(ignore) = ignore {
                request = request.query("dockerignoreinline", encode_inline(&ignore));
            }
            (INLINE_NAME.to_owned(), Some(text))
        }
    };
    let request = request.query("dockerfile", &name);
    let upload = archive::upload_as(compression, move |sink| {
        let mut writer = Writer {
            builder: tar::Builder::new(sink),
            ignore,
            keep: name,
        };
        writer.directory(&root, "", 0)?;
        if let Some(content) = content {
            writer.file(INLINE_NAME, &content)?;
        }
        writer
            .builder
            .into_inner()
            .map(drop)
            .map_err(|error| CliError::io("writing the context", error))
    });
    Ok(request.upload("application/x-tar", upload))
}

/// Returns an archive that holds nothing but a Dockerfile.
pub fn upload_lone(content: Vec<u8>, compression: Compression) -> Upload {
    archive::upload_as(compression, move |sink| {
        let mut writer = Writer {
            builder: tar::Builder::new(sink),
            ignore: IgnoreFile::default(),
            keep: INLINE_NAME.to_owned(),
        };
        writer.file(INLINE_NAME, &content)?;
        writer
            .builder
            .into_inner()
            .map(drop)
            .map_err(|error| CliError::io("writing the context", error))
    })
}

/// Returns a file's content as the query parameter that carries it beside the context.
pub fn encode_inline(content: &[u8]) -> String {
    BASE64_URL_SAFE.encode(content)
}

/// Reads the ignore file: the Dockerfile's own first, then the context's.
pub fn ignore_file(root: &Path, dockerfile: &Dockerfile) -> Result<IgnoreFile> {
    named_ignore_file(root, dockerfile).map(|(_, file)| file)
}

/// Reads the ignore file and returns its name, where there is one.
pub fn named_ignore_file(
    root: &Path,
    dockerfile: &Dockerfile,
) -> Result<(Option<String>, IgnoreFile)> {
    let inside = match dockerfile {
        Dockerfile::Inside(name) => Some(name.as_str()),
        Dockerfile::Content {
            ignore: Some(content),
            ..
        } => {
            let file = parse_ignore_file(BESIDE_DOCKERFILE, content)?;
            return Ok((Some(BESIDE_DOCKERFILE.to_owned()), file));
        }
        Dockerfile::Content { .. } => None,
    };
    for name in ignore::file_names(inside) {
        if let Some(content) =
            host_files::read_if_present(&root.join(&name), DOCKERFILE_LIMIT_BYTES)?
        {
            let file = parse_ignore_file(&name, &content)?;
            return Ok((Some(name), file));
        }
    }
    Ok((None, IgnoreFile::default()))
}

fn parse_ignore_file(name: &str, content: &[u8]) -> Result<IgnoreFile> {
    IgnoreFile::parse(&String::from_utf8_lossy(content))
        .map_err(|error| CliError::usage(format!("error reading {name}: {error}")))
}

struct Writer<'a> {
    builder: tar::Builder<&'a mut dyn Write>,
    ignore: IgnoreFile,
    /// The Dockerfile, which is sent even if it is ignored: the daemon needs it.
    keep: String,
}

impl Writer<'_> {
    fn directory(&mut self, path: &Path, inside: &str, depth: usize) -> Result<()> {
        if depth > DEPTH_LIMIT {
            return Err(CliError::usage(format!(
                "{} is more than {DEPTH_LIMIT} directories deep",
                path.display()
            )));
        }
        for entry in host_files::entries(path)? {
            let name = entry.file_name();
            let relative = if inside.is_empty() {
                name.to_string_lossy().into_owned()
            } else {
                format!("{inside}/{}", name.to_string_lossy())
            };
            let is_directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
            let holds_dockerfile =
                self.keep == relative || self.keep.starts_with(&format!("{relative}/"));
            let excluded =
                self.excludes(&relative)? && !holds_dockerfile && !is_ignore_file(&relative);
            if is_directory {
                if excluded && self.can_skip(&relative)? {
                    continue;
                }
                if !excluded {
                    self.append(&entry.path(), &relative)?;
                }
                self.directory(&entry.path(), &relative, depth + 1)?;
            } else if !excluded {
                self.append(&entry.path(), &relative)?;
            }
        }
        Ok(())
    }

    fn excludes(&self, relative: &str) -> Result<bool> {
        let decision = self
            .ignore
            .decide(relative)
            .map_err(|error| CliError::usage(error.to_string()))?;
        Ok(decision.is_ignored)
    }

    fn can_skip(&self, relative: &str) -> Result<bool> {
        self.ignore
            .can_skip_directory(relative)
            .map_err(|error| CliError::usage(error.to_string()))
    }

    fn append(&mut self, path: &Path, name: &str) -> Result<()> {
        archive::append(&mut self.builder, path, Path::new(name))
            .map_err(|error| CliError::io(format!("cannot send {}", path.display()), error))
    }

    fn file(&mut self, name: &str, content: &[u8]) -> Result<()> {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o600);
        header.set_size(content.len() as u64);
        self.builder
            .append_data(&mut header, name, content)
            .map_err(|error| CliError::io("writing the context", error))
    }
}

/// The ignore files themselves are sent, because the daemon leaves out what they name once more.
pub fn is_ignore_file(relative: &str) -> bool {
    matches!(relative, ".dockerignore" | ".containerignore")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(root: &Path, dockerfile: &str) -> Vec<String> {
        let dockerfile = Dockerfile::Inside(dockerfile.into());
        let ignore = ignore_file(root, &dockerfile).unwrap();
        let Dockerfile::Inside(keep) = dockerfile else {
            unreachable!()
        };
        let mut bytes = Vec::new();
        {
            let mut writer = Writer {
                builder: tar::Builder::new(&mut bytes),
                ignore,
                keep,
            };
            writer.directory(root, "", 0).unwrap();
            writer.builder.into_inner().unwrap();
        }
        let mut archive = tar::Archive::new(bytes.as_slice());
        archive
            .entries()
            .unwrap()
            .map(|entry| {
                entry
                    .unwrap()
                    .path()
                    .unwrap()
                    .to_string_lossy()
                    .into_owned()
            })
            .collect()
    }

    #[test]
    fn ignored_files_are_not_sent_and_ignored_directories_not_read() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        for path in ["skip", "keep", "skip2"] {
            host_files::create_directories(&root.join(path)).unwrap();
        }
        for path in [
            "Dockerfile",
            "skip/a",
            "keep/b",
            "skip2/c",
            "skip2/d",
            "x.log",
        ] {
            host_files::write(&root.join(path), b"x").unwrap();
        }
        host_files::write(
            &root.join(".dockerignore"),
            b"skip\nskip2\n!skip2/d\n*.log\nDockerfile\n",
        )
        .unwrap();
        assert_eq!(
            names(root, "Dockerfile"),
            [".dockerignore", "Dockerfile", "keep", "keep/b", "skip2/d"]
        );
        host_files::write(&root.join("Dockerfile.dockerignore"), b"*\n!keep\n").unwrap();
        assert_eq!(
            names(root, "Dockerfile"),
            [".dockerignore", "Dockerfile", "keep", "keep/b"]
        );
    }
}
