//! What is built from: a directory, an archive, a URL, standard input.

use std::io::{Cursor, Read};
use std::path::{Path, PathBuf};

use crate::commands::build::flags::BuildArgs;
use crate::error::{CliError, Result};
use crate::host_files;

/// Largest Dockerfile that is read on its own, in bytes.
pub const DOCKERFILE_LIMIT_BYTES: u64 = 16 * 1024 * 1024;
/// Largest ignore file that is read on its own, in bytes.
const IGNORE_FILE_LIMIT_BYTES: u64 = 512 * 1024;
/// Bytes that are looked at to tell an archive from a Dockerfile: a tar header's magic ends at 265.
const MAGIC_BYTES: usize = 512;

/// A build's context.
pub enum Context {
    /// A directory of this machine.
    Directory {
        /// Its path.
        path: PathBuf,
        /// Its Dockerfile.
        dockerfile: Dockerfile,
    },
    /// A tar archive.
    Archive {
        /// Its bytes.
        reader: Box<dyn Read + Send>,
        /// Whether it is compressed already.
        is_compressed: bool,
    },
    /// A Dockerfile without a context.
    LoneDockerfile(Vec<u8>),
    /// Something the daemon fetches.
    Remote(String),
}

/// Where the Dockerfile of a directory is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Dockerfile {
    /// Inside the context, named relative to it.
    Inside(String),
    /// Outside of it, or on standard input.
    Content {
        /// Its content.
        text: Vec<u8>,
        /// The ignore file beside it, which counts before the context's own.
        ignore: Option<Vec<u8>>,
    },
}

impl Context {
    /// Finds out what the argument means.
    pub fn resolve(args: &BuildArgs) -> Result<Self> {
        let file_is_stdin = args.file.as_deref() == Some("-");
        if args.context == "-" {
            if file_is_stdin {
                return Err(CliError::usage(
                    "invalid argument: can't use stdin for both build context and dockerfile",
                ));
            }
            return Self::from_reader(std::io::stdin());
        }
        if is_remote(&args.context) {
            if file_is_stdin {
                return Err(CliError::usage(
                    "a Dockerfile from standard input cannot be used with a remote context",
                ));
            }
            return Ok(Self::Remote(args.context.clone()));
        }
        let path = PathBuf::from(&args.context);
        let metadata = host_files::metadata(&path).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => CliError::usage(format!(
                "unable to prepare context: path {:?} not found",
                args.context
            )),
            _ => CliError::io(
                format!("unable to prepare context: path {:?}", args.context),
                error,
            ),
        })?;
        if metadata.is_file() {
            return Self::from_reader(host_files::open(&path)?);
        }
        if !metadata.is_dir() {
            return Err(CliError::usage(format!(
                "unable to prepare context: {:?} is no directory",
                args.context
            )));
        }
        let dockerfile = Dockerfile::find(&path, args.file.as_deref())?;
        Ok(Self::Directory { path, dockerfile })
    }

    /// Tells an archive from a Dockerfile by its first bytes.
    fn from_reader(mut reader: impl Read + Send + 'static) -> Result<Self> {
        let mut beginning = Vec::new();
        reader
            .by_ref()
            .take(MAGIC_BYTES as u64)
            .read_to_end(&mut beginning)
            .map_err(|error| CliError::io("reading the context", error))?;
        if is_archive(&beginning) {
            let is_compressed = is_compressed(&beginning);
            return Ok(Self::Archive {
                reader: Box::new(Cursor::new(beginning).chain(reader)),
                is_compressed,
            });
        }
        read_dockerfile(Cursor::new(beginning).chain(reader)).map(Self::LoneDockerfile)
    }
}

impl Dockerfile {
    /// Returns the name given with `--file`, for contexts that only the daemon can look into.
    pub fn named(args: &BuildArgs) -> Option<&str> {
        args.file.as_deref()
    }

    /// Finds the Dockerfile of a directory; `--file` is relative to where the caller is.
    pub fn find(context: &Path, file: Option<&str>) -> Result<Self> {
        let Some(file) = file else {
            for name in ["Dockerfile", "dockerfile", "Containerfile"] {
                if host_files::link_metadata(&context.join(name)).is_ok() {
                    return Ok(Self::Inside(name.to_owned()));
                }
            }
            return Err(CliError::usage(format!(
                "unable to evaluate symlinks in Dockerfile path: {}: no such file or directory",
                context.join("Dockerfile").display()
            )));
        };
        if file == "-" {
            let text = read_dockerfile(std::io::stdin())?;
            return Ok(Self::Content { text, ignore: None });
        }
        let path = Path::new(file);
        let found = host_files::canonical(path)?;
        let root = host_files::canonical(context)?;
        // The name as typed is kept where it lies inside: a link there is the daemon's to follow.
        match (path_inside(path, &root), found.strip_prefix(&root)) {
            (Some(name), _) => Ok(Self::Inside(name)),
            (None, Ok(name)) => Ok(Self::Inside(name.to_string_lossy().into_owned())),
            (None, Err(_)) => Ok(Self::Content {
                text: read_dockerfile(host_files::open(&found)?)?,
                ignore: ignore_file_beside(path)?,
            }),
        }
    }
}

fn ignore_file_beside(dockerfile: &Path) -> Result<Option<Vec<u8>>> {
    let mut name = dockerfile.as_os_str().to_owned();
    name.push(".dockerignore");
    host_files::read_if_present(Path::new(&name), IGNORE_FILE_LIMIT_BYTES)
}

fn path_inside(path: &Path, root: &Path) -> Option<String> {
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let parent = host_files::canonical(parent).ok()?;
    let name = parent.join(path.file_name()?);
    name.strip_prefix(root)
        .ok()
        .map(|inside| inside.to_string_lossy().into_owned())
}

fn read_dockerfile(reader: impl Read) -> Result<Vec<u8>> {
    let mut content = Vec::new();
    reader
        .take(DOCKERFILE_LIMIT_BYTES + 1)
        .read_to_end(&mut content)
        .map_err(|error| CliError::io("reading the Dockerfile", error))?;
    if content.len() as u64 > DOCKERFILE_LIMIT_BYTES {
        return Err(CliError::usage(format!(
            "the Dockerfile is larger than {DOCKERFILE_LIMIT_BYTES} bytes"
        )));
    }
    Ok(content)
}

/// Returns whether bytes begin a tar archive, compressed or not.
fn is_archive(beginning: &[u8]) -> bool {
    is_compressed(beginning) || beginning.get(257..262) == Some(b"ustar") || is_old_tar(beginning)
}

fn is_compressed(beginning: &[u8]) -> bool {
    const COMPRESSED: [&[u8]; 4] = [
        &[0x1f, 0x8b, 0x08],
        b"BZh",
        &[0xfd, b'7', b'z', b'X', b'Z', 0],
        &[0x28, 0xb5, 0x2f, 0xfd],
    ];
    COMPRESSED.iter().any(|magic| beginning.starts_with(magic))
}

/// A tar header from before the magic: its checksum is right.
fn is_old_tar(beginning: &[u8]) -> bool {
    let Some(header) = beginning.get(..512) else {
        return false;
    };
    let stored = std::str::from_utf8(&header[148..156])
        .ok()
        .and_then(|digits| {
            u32::from_str_radix(digits.trim_matches(|c: char| c == ' ' || c == '\0'), 8).ok()
        });
    let sum: u32 = header
        .iter()
        .enumerate()
        .map(|(index, byte)| {
            if (148..156).contains(&index) {
                u32::from(b' ')
            } else {
                u32::from(*byte)
            }
        })
        .sum();
    stored == Some(sum)
}

fn is_remote(context: &str) -> bool {
    [
        "http://",
        "https://",
        "git://",
        "git@",
        "ssh://",
        "github.com/",
    ]
    .iter()
    .any(|start| context.starts_with(start))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn archives_are_told_from_dockerfiles() {
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_old();
        header.set_path("f").unwrap();
        header.set_size(0);
        header.set_cksum();
        builder.append(&header, std::io::empty()).unwrap();
        assert!(is_archive(&builder.into_inner().unwrap()));
        assert!(is_archive(&[0x1f, 0x8b, 0x08, 0]));
        assert!(!is_archive(b"FROM busybox\n"));
        assert!(!is_archive(&[b'#'; 512]));
        assert!(!is_archive(b""));
    }

    #[test]
    fn the_dockerfile_is_found_inside_or_read_from_outside() {
        let directory = tempfile::tempdir().unwrap();
        let context = directory.path().join("c");
        host_files::create_directories(&context.join("sub")).unwrap();
        assert!(Dockerfile::find(&context, None).is_err());
        host_files::write(&context.join("Dockerfile"), b"FROM a").unwrap();
        host_files::write(&context.join("sub/D"), b"FROM b").unwrap();
        host_files::write(&directory.path().join("out"), b"FROM c").unwrap();
        assert_eq!(
            Dockerfile::find(&context, None).unwrap(),
            Dockerfile::Inside("Dockerfile".into())
        );
        let named =
            |path: PathBuf| Dockerfile::find(&context, Some(path.to_str().unwrap())).unwrap();
        assert_eq!(
            named(context.join("sub/D")),
            Dockerfile::Inside("sub/D".into())
        );
        assert_eq!(
            named(directory.path().join("out")),
            Dockerfile::Content {
                text: b"FROM c".to_vec(),
                ignore: None
            }
        );
        host_files::write(&directory.path().join("out.dockerignore"), b"*").unwrap();
        assert_eq!(
            named(directory.path().join("out")),
            Dockerfile::Content {
                text: b"FROM c".to_vec(),
                ignore: Some(b"*".to_vec())
            }
        );
    }

    #[test]
    fn remote_contexts() {
        for url in [
            "https://x/y.git",
            "git@github.com:a/b.git",
            "github.com/a/b",
        ] {
            assert!(is_remote(url), "{url}");
        }
        assert!(!is_remote("./dir"));
    }
}
