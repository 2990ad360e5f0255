//! Files of an earlier layer, taken over by a second name instead of being copied again.
//!
//! A layer's directory never changes, so the same inode can stand in several of them: overlayfs copies a file up
//! before it writes to it, and a layer's tar counts second names within the layer only. What becomes visible is the
//! number of names and the time of the last change of the inode. Beside the files of a layer made by COPY lies the
//! list of what they hold; a file is taken over only where that list, and what the kernel tells, say that a copy
//! would be the same.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rustix::io::Errno;
use wharf_image::{DiffId, Digest};
use wharf_safefs::{Root, Timestamp};
use wharf_store::{Lease, Store};

use crate::BuildError;

/// Starts every list of this form.
const MAGIC: &[u8; 8] = b"wharfct1";
const DIGEST_BYTES: usize = 32;
const LENGTH_BYTES: usize = 4;
/// Layers with fewer files are copied again as fast as they are looked through.
const MIN_FILES: usize = 64;

/// What a file is to be like.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted {
    /// Digest of its content and attributes.
    pub digest: Digest,
    /// Its size.
    pub size_bytes: u64,
    /// Its mode.
    pub mode: u32,
    /// Its owner (user, group).
    pub owner: (u32, u32),
    /// When its content last changed.
    pub mtime: Timestamp,
}

/// An earlier layer whose files may be taken over.
pub(crate) struct Base {
    /// The layer.
    pub diff_id: DiffId,
    files: Root,
    contents: HashMap<Vec<u8>, Digest>,
    /// Inodes that have a name in the new layer by now: a second one there would make a hard link of two files.
    taken: Mutex<HashSet<u64>>,
}

impl Base {
    /// Opens an earlier layer; nothing where it is gone or nothing is known of its files.
    pub fn open(store: &Store, lease: &Lease, diff_id: DiffId) -> Result<Option<Self>, BuildError> {
        if lease.hold_layer(&diff_id)?.is_none() {
            return Ok(None);
        }
        let Some(bytes) = store.layer_contents(&diff_id)? else {
            return Ok(None);
        };
        let dirs = store.layer_dirs(&[diff_id])?;
        let (Some(contents), Some(path)) = (parse(&bytes), dirs.first()) else {
            return Ok(None);
        };
        Ok(Some(Self {
            diff_id,
            files: Root::open(path)?,
            contents,
            taken: Mutex::default(),
        }))
    }

    /// Opens a directory of the layer; nothing where there is none.
    pub fn directory(&self, path: &Path) -> Option<Root> {
        self.files.open_dir_nofollow(path).ok()
    }

    /// Gives a file of the layer a second name in `to` if it is what is wanted; returns what it takes on disk.
    pub fn link(
        &self,
        (from, path): (&Root, &Path),
        wanted: &Wanted,
        to: &Root,
    ) -> Result<Option<u64>, BuildError> {
        if self.contents.get(path.as_os_str().as_bytes()) != Some(&wanted.digest) {
            return Ok(None);
        }
        let name: &OsStr = path.file_name().unwrap_or_default();
        let Some(found) = from.lstat_optional(name)? else {
            return Ok(None);
        };
        let is_wanted = found.is_file()
            && found.size_bytes == wanted.size_bytes
            && found.mode == wanted.mode
            && (found.uid, found.gid) == wanted.owner
            && found.mtime == wanted.mtime;
        let is_first = || {
            let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
            taken.insert(found.ino)
        };
        if !is_wanted || !is_first() {
            return Ok(None);
        }
        match from.hard_link_to(name, to, name) {
            Ok(()) => Ok(Some(found.blocks * 512)),
            Err(error) if is_refusal(error.raw_os_error()) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

/// Says whether a file system refuses further names of a file for a reason of its own.
fn is_refusal(errno: Option<i32>) -> bool {
    [Errno::MLINK, Errno::XDEV, Errno::PERM, Errno::OPNOTSUPP]
        .map(Errno::raw_os_error)
        .iter()
        .any(|refusal| errno == Some(*refusal))
}

/// Returns the list of what files hold, to be kept beside them; nothing where it is not worth it.
pub(crate) fn list(contents: &[(PathBuf, Digest)]) -> Option<Vec<u8>> {
    if contents.len() < MIN_FILES {
        return None;
    }
    let mut bytes = MAGIC.to_vec();
    for (path, digest) in contents {
        let path = path.as_os_str().as_bytes();
        bytes.extend_from_slice(digest.as_bytes());
        bytes.extend_from_slice(&u32::try_from(path.len()).ok()?.to_le_bytes());
        bytes.extend_from_slice(path);
    }
    // A list that a power cut left half written must not pass for a whole one.
    let checksum = Digest::of(&bytes);
    bytes.extend_from_slice(checksum.as_bytes());
    Some(bytes)
}

fn parse(bytes: &[u8]) -> Option<HashMap<Vec<u8>, Digest>> {
    let (body, checksum) = bytes.split_at_checked(bytes.len().checked_sub(DIGEST_BYTES)?)?;
    if Digest::of(body).as_bytes() != checksum {
        return None;
    }
    let mut rest = body.strip_prefix(MAGIC)?;
    let mut contents = HashMap::new();
    while !rest.is_empty() {
        let (digest, after) = rest.split_first_chunk::<DIGEST_BYTES>()?;
        let (length, after) = after.split_first_chunk::<LENGTH_BYTES>()?;
        let (path, after) =
            after.split_at_checked(usize::try_from(u32::from_le_bytes(*length)).ok()?)?;
        contents.insert(path.to_vec(), Digest::from_bytes(*digest));
        rest = after;
    }
    Some(contents)
}

#[cfg(test)]
mod tests {
    use super::{MIN_FILES, list, parse};
    use std::path::PathBuf;
    use wharf_image::Digest;

    #[test]
    fn lists_are_read_back_whole_or_not_at_all() {
        let file = |number: usize| {
            let name = format!("d/{number}");
            (PathBuf::from(&name), Digest::of(name))
        };
        let files: Vec<_> = (0..MIN_FILES).map(file).collect();
        assert_eq!(list(&files[1..]), None);
        let bytes = list(&files).unwrap();
        let read = parse(&bytes).unwrap();
        assert_eq!(read.len(), MIN_FILES);
        assert_eq!(read.get(&b"d/7"[..]), Some(&Digest::of("d/7")));
        for damaged in [
            &bytes[..bytes.len() - 1],
            &bytes[..bytes.len() / 2],
            &bytes[1..],
            b"",
        ] {
            assert!(parse(damaged).is_none());
        }
    }
}
