//! Groups as directories: making, listing, removing them.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use wharf_safefs::trusted;

use crate::cgroup::layout::Hierarchy;
use crate::cgroup::{MAX_FILE_BYTES, read_text, write_file};
use crate::error::Result;

/// How deep groups that a container made are followed.
const MAX_DEPTH: u32 = 64;

/// Makes a group and those above it in one hierarchy of version 1.
pub(super) fn create_v1(hierarchy: &Hierarchy, path: &str) -> Result<()> {
    let mut directory = hierarchy.mount.clone();
    for part in path.split('/').filter(|part| !part.is_empty()) {
        let parent = directory.clone();
        directory.push(part);
        make_directory(&directory)?;
        if !hierarchy.has("cpuset") {
            continue;
        }
        // A new cpuset is empty and takes no process until it has its parent's sets. Who finds a group that
        // another has just made may come before it has them.
        for file in ["cpuset.cpus", "cpuset.mems"] {
            if read_text(&directory.join(file))?.trim().is_empty() {
                let inherited = read_text(&parent.join(file))?;
                write_file(&directory.join(file), inherited.trim())?;
            }
        }
    }
    Ok(())
}

/// Makes a group and those above it on version 2; all controllers are passed on to it that can be.
pub(super) fn create_v2(mount: &Path, path: &str) -> Result<()> {
    let mut directory = mount.to_path_buf();
    for part in path.split('/').filter(|part| !part.is_empty()) {
        let available = read_text(&directory.join("cgroup.controllers"))?;
        let passed_on = read_text(&directory.join("cgroup.subtree_control"))?;
        for controller in available.split_whitespace() {
            if passed_on
                .split_whitespace()
                .any(|known| known == controller)
            {
                continue;
            }
            // Not every controller can be passed on (threaded ones, busy groups); limits that
            // need one that is missing fail by themselves.
            let _ = write_file(
                &directory.join("cgroup.subtree_control"),
                &format!("+{controller}"),
            );
        }
        directory.push(part);
        make_directory(&directory)?;
    }
    Ok(())
}

/// Makes a directory that may be there.
fn make_directory(path: &Path) -> Result<()> {
    match trusted::create_dir(path, 0o755) {
        Ok(()) => Ok(()),
        Err(error) if error.is_already_exists() => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Adds the processes of a group and of those below it.
pub(super) fn collect_processes(
    directory: &Path,
    processes: &mut Vec<u32>,
    depth: u32,
) -> Result<()> {
    let text = match trusted::read_limited(directory.join("cgroup.procs"), MAX_FILE_BYTES) {
        Err(error) if error.is_not_found() => return Ok(()),
        text => text?,
    };
    let text = String::from_utf8_lossy(&text);
    processes.extend(text.lines().filter_map(|line| line.parse::<u32>().ok()));
    if depth < MAX_DEPTH {
        for child in children(directory) {
            collect_processes(&child, processes, depth + 1)?;
        }
    }
    Ok(())
}

/// Returns the groups right below one.
pub(super) fn children(directory: &Path) -> Vec<PathBuf> {
    // A group that is gone by now has no children either.
    let entries = trusted::read_dir_sorted(directory).unwrap_or_default();
    entries
        .into_iter()
        .filter(|entry| entry.file_type == wharf_safefs::FileType::Directory)
        .map(|entry| directory.join(entry.name))
        .collect()
}

/// Removes a group and those below it, trying until the deadline while processes in it end.
pub(super) fn remove(directory: &Path, deadline: Instant, depth: u32) -> Result<()> {
    loop {
        match trusted::remove_dir(directory) {
            Ok(()) => return Ok(()),
            Err(error) if error.is_not_found() => return Ok(()),
            Err(error) => {
                if depth < MAX_DEPTH {
                    for child in children(directory) {
                        remove(&child, deadline, depth + 1)?;
                    }
                }
                if Instant::now() >= deadline {
                    return Err(error.into());
                }
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }
}
