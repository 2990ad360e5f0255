//! Unpacking an archive that came from a container; nothing leaves its directory.

use std::ffi::OsStr;
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};

use wharf_safefs::{Root, Timestamp};

use crate::commands::container::copy_archive::Destination;
use crate::error::{CliError, Result};

/// Permission, setuid, setgid and sticky bits.
const MODE_BITS: u32 = 0o7777;

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

fn is_inside(name: &Path) -> bool {
    name.components()
        .all(|part| matches!(part, Component::Normal(_) | Component::CurDir))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host_files;

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
}
