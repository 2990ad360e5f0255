//! The archives of `cp`: which name the copy gets, writing one, unpacking one.

pub(crate) mod pipe;
pub(crate) mod unpack;

use std::io::Write;
use std::path::{Path, PathBuf};

use crate::archive;
use crate::commands::container::copy::PathStat;
use crate::error::{CliError, Result};
use crate::host_files;

/// Deepest directory that is copied.
pub const DEPTH_LIMIT: usize = 1000;

/// Where a copy from a container goes on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destination {
    /// Directory to unpack into.
    directory: PathBuf,
    /// First name of the archive's entries and what to call it instead; `None` keeps the names.
    rename: Option<(String, String)>,
    /// Whether users and groups are kept.
    pub keep_owner: bool,
}

impl Destination {
    /// Decides where a copy goes (the rules of `cp -a`, as docker documents them).
    pub fn on_host(
        path: &Path,
        source: &str,
        source_is_directory: bool,
        rebase: Option<(String, String)>,
    ) -> Result<Self> {
        let name = base_name(source);
        let wants_directory = ends_like_directory(&path.to_string_lossy());
        let contents_only = source.ends_with("/.");
        let archive_name = rebase
            .as_ref()
            .map_or(name.clone(), |(from, _)| from.clone());
        let into = |directory: PathBuf, new_name: String| Self {
            directory,
            rename: (new_name != archive_name).then_some((archive_name.clone(), new_name)),
            keep_owner: false,
        };
        match host_files::metadata(path) {
            Ok(metadata) if metadata.is_dir() => {
                if contents_only {
                    return Ok(Self {
                        directory: path.to_owned(),
                        rename: None,
                        keep_owner: false,
                    });
                }
                Ok(into(
                    path.to_owned(),
                    rebase.map_or(name, |(_, wanted)| wanted),
                ))
            }
            Ok(_) if source_is_directory => Err(CliError::usage(format!(
                "cannot copy a directory over the file {}",
                path.display()
            ))),
            Err(_) if wants_directory && !source_is_directory => Err(CliError::usage(format!(
                "no such directory: {}",
                path.display()
            ))),
            found => {
                let parent = path
                    .parent()
                    .filter(|parent| !parent.as_os_str().is_empty());
                let parent = parent.unwrap_or(Path::new(".")).to_owned();
                if !host_files::metadata(&parent).is_ok_and(|metadata| metadata.is_dir()) {
                    return Err(CliError::usage(format!(
                        "no such directory: {}",
                        parent.display()
                    )));
                }
                if contents_only && found.is_err() {
                    host_files::create_directories(path)?;
                    return Ok(Self {
                        directory: path.to_owned(),
                        rename: None,
                        keep_owner: false,
                    });
                }
                Ok(into(parent, base_name(&path.to_string_lossy())))
            }
        }
    }
}

/// What a copy into a container sends.
pub struct Plan {
    /// Directory inside the container that the archive is unpacked in.
    pub directory: String,
    source: PathBuf,
    /// Name of the copy, `None` for only the contents of a directory.
    name: Option<String>,
}

impl Plan {
    /// Decides where a copy goes; `found` is what the target is now.
    pub fn into_container(
        source: &Path,
        typed: &str,
        target: &str,
        found: Option<&PathStat>,
    ) -> Result<Self> {
        let is_directory = host_files::metadata(source).is_ok_and(|metadata| metadata.is_dir());
        let contents_only = typed.ends_with("/.") || typed == ".";
        let source = source.to_owned();
        match found {
            Some(found) if found.is_directory() => Ok(Self {
                directory: target.to_owned(),
                name: (!contents_only).then(|| base_name(&host_name(&source))),
                source,
            }),
            Some(_) if is_directory => Err(CliError::usage(format!(
                "cannot copy a directory over the file {target}"
            ))),
            None if ends_like_directory(target) && !is_directory => {
                Err(CliError::usage(format!("no such directory: {target}")))
            }
            _ => {
                let trimmed = target.trim_end_matches("/.").trim_end_matches('/');
                let (parent, name) = trimmed.rsplit_once('/').unwrap_or(("", trimmed));
                Ok(Self {
                    directory: format!("{parent}/"),
                    name: Some(name.to_owned()),
                    source,
                })
            }
        }
    }

    /// Writes the archive.
    pub fn write(&self, sink: &mut dyn Write) -> Result<()> {
        let mut builder = tar::Builder::new(sink);
        let name = self.name.as_deref().map(PathBuf::from);
        append_tree(
            &mut builder,
            &self.source,
            name.as_deref().unwrap_or(Path::new(".")),
            0,
        )?;
        builder
            .into_inner()
            .map(drop)
            .map_err(|error| CliError::io("writing the archive", error))
    }
}

fn append_tree(
    builder: &mut tar::Builder<&mut dyn Write>,
    path: &Path,
    name: &Path,
    depth: usize,
) -> Result<()> {
    if depth > DEPTH_LIMIT {
        return Err(CliError::usage(format!(
            "{} is more than {DEPTH_LIMIT} directories deep",
            path.display()
        )));
    }
    archive::append(builder, path, name)
        .map_err(|error| CliError::io(format!("cannot copy {}", path.display()), error))?;
    let is_directory = host_files::link_metadata(path).is_ok_and(|metadata| metadata.is_dir());
    if is_directory {
        for entry in host_files::entries(path)? {
            append_tree(
                builder,
                &entry.path(),
                &name.join(entry.file_name()),
                depth + 1,
            )?;
        }
    }
    Ok(())
}

/// Returns the last name of a path; the root's is `/`.
#[must_use]
pub fn base_name(path: &str) -> String {
    let trimmed = path.trim_end_matches("/.").trim_end_matches('/');
    let name = trimmed.rsplit('/').next().unwrap_or_default();
    if name.is_empty() {
        "/".to_owned()
    } else {
        name.to_owned()
    }
}

/// Returns `target` with the ending of `typed` that says "a directory" or "its contents".
#[must_use]
pub fn keep_trailing(typed: &str, target: &str) -> String {
    for ending in ["/.", "/"] {
        if typed.ends_with(ending) && !target.ends_with(ending) {
            return format!("{target}{ending}");
        }
    }
    target.to_owned()
}

fn ends_like_directory(path: &str) -> bool {
    path.ends_with('/') || path.ends_with("/.") || path == "."
}

/// The name of a path of this machine; `..` and `.` have one only once they are resolved.
fn host_name(path: &Path) -> String {
    match path.file_name() {
        Some(name) => name.to_string_lossy().into_owned(),
        None => host_files::canonical(path)
            .map(|full| full.to_string_lossy().into_owned())
            .unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        assert_eq!(base_name("/etc/hosts"), "hosts");
        assert_eq!(base_name("/etc/."), "etc");
        assert_eq!(base_name("/"), "/");
        assert_eq!(keep_trailing("/a/.", "/b"), "/b/.");
    }
}
