//! The archives of `cp`: which name the copy gets, writing one, unpacking one.

use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::path::{Component, Path, PathBuf};

use bytes::{Buf, Bytes};
use tokio::sync::mpsc;
use wharf_safefs::{Root, Timestamp};

use crate::archive;
use crate::commands::container::copy::PathStat;
use crate::error::{CliError, Result};
use crate::host_files;

/// Deepest directory that is copied.
pub const DEPTH_LIMIT: usize = 1000;
const CHUNKS_WAITING: usize = 8;
/// Permission, setuid, setgid and sticky bits.
const MODE_BITS: u32 = 0o7777;

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

/// Unpacks an archive that came from a container; no entry leaves the destination's directory.
pub fn unpack(reader: impl Read, destination: &Destination) -> Result<()> {
    let fail = |error: io::Error| CliError::io("cannot unpack the copy", error);
    let root = Root::open(&destination.directory).map_err(|error| fail(error.into()))?;
    let mut archive = tar::Archive::new(reader);
    for entry in archive.entries().map_err(fail)? {
        let mut entry = entry.map_err(fail)?;
        let name = entry.path().map_err(fail)?.into_owned();
        let renamed = rename(&name, destination.rename.as_ref());
        if renamed.as_os_str().is_empty() || renamed == Path::new(".") {
            continue;
        }
        if !is_inside(&renamed) {
            return Err(CliError::usage(format!(
                "refusing the archive's entry {}: it leaves its directory",
                name.display()
            )));
        }
        unpack_entry(&mut entry, &renamed, &root, destination).map_err(|error| {
            CliError::io(
                format!(
                    "cannot write {}",
                    destination.directory.join(&renamed).display()
                ),
                error,
            )
        })?;
    }
    Ok(())
}

fn is_inside(name: &Path) -> bool {
    name.components()
        .all(|part| matches!(part, Component::Normal(_) | Component::CurDir))
}

fn unpack_entry(
    entry: &mut tar::Entry<'_, impl Read>,
    name: &Path,
    root: &Root,
    destination: &Destination,
) -> io::Result<()> {
    let Some(last) = name.file_name() else {
        return Ok(());
    };
    let parent = enter(root, name.parent().unwrap_or(Path::new("")))?;
    let kind = entry.header().entry_type();
    let mode = entry.header().mode()? & MODE_BITS;
    if kind == tar::EntryType::Directory {
        match parent.mkdir(last, mode) {
            Err(error) if error.is_already_exists() && parent.lstat(last)?.is_dir() => {}
            made => made?,
        }
        return finish(entry, &parent, last, destination);
    }
    if parent.lstat_optional(last)?.is_some() {
        parent.remove_file(last)?;
    }
    match kind {
        tar::EntryType::Link => {
            let link = entry
                .link_name()?
                .map(|link| rename(&link, destination.rename.as_ref()))
                .filter(|link| is_inside(link));
            let (Some(link), Some(existing)) = (&link, link.as_ref().and_then(|l| l.file_name()))
            else {
                return Err(io::Error::other("its hard link leaves the directory"));
            };
            let other = enter(root, link.parent().unwrap_or(Path::new("")))?;
            // The file's attributes came with its first name.
            return Ok(other.hard_link_to(existing, &parent, last)?);
        }
        tar::EntryType::Symlink => {
            let target = entry.link_name()?.unwrap_or_default();
            parent.symlink(target, last)?;
        }
        tar::EntryType::Fifo => parent.fifo(last, mode)?,
        kind if kind.is_file() || kind.is_contiguous() || kind.is_gnu_sparse() => {
            let mut file = parent.create_new_raw(last, mode)?;
            io::copy(entry, &mut file)?;
        }
        kind => {
            return Err(io::Error::other(format!(
                "it is of a kind that cannot be copied: {kind:?}"
            )));
        }
    }
    finish(entry, &parent, last, destination)
}

/// Enters a directory step by step: a symbolic link on the way could lead elsewhere.
fn enter(root: &Root, path: &Path) -> io::Result<Root> {
    let mut directory = root.try_clone()?;
    for part in path.components() {
        if let Component::Normal(part) = part {
            if directory.lstat(part)?.is_symlink() {
                let name = Path::new(part).display();
                return Err(io::Error::other(format!("{name} is a symbolic link")));
            }
            directory = directory.open_dir_nofollow(part)?;
        }
    }
    Ok(directory)
}

/// Gives a new file the owner, mode and time of its entry.
fn finish(
    entry: &tar::Entry<'_, impl Read>,
    parent: &Root,
    name: &OsStr,
    destination: &Destination,
) -> io::Result<()> {
    let header = entry.header();
    if destination.keep_owner {
        let id = |id: u64| u32::try_from(id).map_err(io::Error::other);
        parent.chown(name, id(header.uid()?)?, id(header.gid()?)?)?;
    }
    if header.entry_type() != tar::EntryType::Symlink {
        parent.chmod(name, header.mode()? & MODE_BITS)?;
    }
    let time = Timestamp::from_seconds(i64::try_from(header.mtime()?).unwrap_or(i64::MAX));
    Ok(parent.set_times(name, time, time)?)
}

fn rename(name: &Path, rename: Option<&(String, String)>) -> PathBuf {
    let Some((from, to)) = rename else {
        return name.to_owned();
    };
    let mut parts = name.components();
    match parts.next() {
        Some(Component::Normal(first)) if first == from.as_str() => {
            let rest = parts.as_path();
            if rest.as_os_str().is_empty() {
                PathBuf::from(to)
            } else {
                Path::new(to).join(rest)
            }
        }
        _ => name.to_owned(),
    }
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

/// Returns the two ends of a pipe of chunks: one for the network, one that a thread reads.
pub fn pipe() -> (mpsc::Sender<Bytes>, ChunkReader) {
    let (sender, receiver) = mpsc::channel(CHUNKS_WAITING);
    (
        sender,
        ChunkReader {
            receiver,
            current: Bytes::new(),
        },
    )
}

/// Reads what was sent into a pipe of chunks.
pub struct ChunkReader {
    receiver: mpsc::Receiver<Bytes>,
    current: Bytes,
}

impl Read for ChunkReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() {
            match self.receiver.blocking_recv() {
                Some(chunk) => self.current = chunk,
                None => return Ok(0),
            }
        }
        let length = self.current.len().min(buffer.len());
        self.current.copy_to_slice(&mut buffer[..length]);
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(entries: &[(&str, &[u8])]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, content) in entries {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mode(0o644);
            if name.ends_with('/') {
                header.set_entry_type(tar::EntryType::Directory);
                header.set_mode(0o755);
            }
            // Names that the safe interface refuses are what the test is about.
            header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
            header.set_cksum();
            builder.append(&header, *content).unwrap();
        }
        builder.into_inner().unwrap()
    }

    #[test]
    fn a_copy_gets_the_name_that_was_asked_for() {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("new");
        let destination = Destination::on_host(&target, "/etc/hosts", false, None).unwrap();
        unpack(archive(&[("hosts", b"x")]).as_slice(), &destination).unwrap();
        assert_eq!(host_files::read(&target, 10).unwrap(), b"x");
        let destination =
            Destination::on_host(directory.path(), "/etc/hosts", false, None).unwrap();
        unpack(archive(&[("hosts", b"y")]).as_slice(), &destination).unwrap();
        assert_eq!(
            host_files::read(&directory.path().join("hosts"), 10).unwrap(),
            b"y"
        );
    }

    #[test]
    fn no_entry_leaves_the_directory() {
        let directory = tempfile::tempdir().unwrap();
        let inside = directory.path().join("in");
        host_files::create_directories(&inside).unwrap();
        let destination = Destination::on_host(&inside, "/x", true, None).unwrap();
        for name in ["../out", "/out", "x/../../out"] {
            let result = unpack(archive(&[(name, b"x")]).as_slice(), &destination);
            let leaked = host_files::metadata(&directory.path().join("out")).is_ok();
            assert!(!leaked, "{name}");
            assert!(result.is_err() || name.starts_with('/'), "{name}");
        }
    }

    #[test]
    fn no_entry_goes_through_a_symbolic_link() {
        let directory = tempfile::tempdir().unwrap();
        let inside = directory.path().join("in");
        host_files::create_directories(&inside).unwrap();
        std::os::unix::fs::symlink(directory.path(), inside.join("x")).unwrap();
        let destination = Destination::on_host(&inside, "/x", true, None).unwrap();
        assert!(unpack(archive(&[("x/out", b"x")]).as_slice(), &destination).is_err());
        assert!(host_files::metadata(&directory.path().join("out")).is_err());
    }

    #[test]
    fn kinds_modes_and_times_are_kept() {
        use std::os::unix::fs::{FileTypeExt, MetadataExt};
        let directory = tempfile::tempdir().unwrap();
        let mut builder = tar::Builder::new(Vec::new());
        let mut add = |name: &str, kind: tar::EntryType, link: Option<&str>, content: &[u8]| {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(kind);
            header.set_size(content.len() as u64);
            header.set_mode(0o4751);
            header.set_mtime(1_700_000_000);
            match link {
                Some(link) => builder.append_link(&mut header, name, link).unwrap(),
                None => builder.append_data(&mut header, name, content).unwrap(),
            }
        };
        add("d", tar::EntryType::Directory, None, b"");
        add("d/file", tar::EntryType::Regular, None, b"content");
        add("d/link", tar::EntryType::Symlink, Some("/etc/passwd"), b"");
        add("d/hard", tar::EntryType::Link, Some("d/file"), b"");
        add("d/pipe", tar::EntryType::Fifo, None, b"");
        let bytes = builder.into_inner().unwrap();
        let destination = Destination::on_host(directory.path(), "/d", true, None).unwrap();
        // Twice: what is there is replaced.
        for _ in 0..2 {
            unpack(bytes.as_slice(), &destination).unwrap();
        }
        let found = |name: &str| host_files::link_metadata(&directory.path().join(name)).unwrap();
        let file = found("d/file");
        assert_eq!(
            (file.mode() & 0o7777, file.mtime()),
            (0o4751, 1_700_000_000)
        );
        assert_eq!(file.ino(), found("d/hard").ino());
        assert!(found("d/link").is_symlink() && found("d/pipe").file_type().is_fifo());
    }

    #[test]
    fn names() {
        assert_eq!(base_name("/etc/hosts"), "hosts");
        assert_eq!(base_name("/etc/."), "etc");
        assert_eq!(base_name("/"), "/");
        assert_eq!(keep_trailing("/a/.", "/b"), "/b/.");
    }
}
