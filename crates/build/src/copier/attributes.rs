//! Owners, modes, times and extended attributes of what is copied.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::{Gid, Mode, Timespec, Timestamps, Uid};
use wharf_safefs::{FsError, Metadata, Timestamp};

use super::Copier;
use crate::BuildError;
use crate::select::Entry;

impl Copier<'_> {
    /// Sets owner and mode by path.
    pub(super) fn set_attributes(
        &self,
        path: &Path,
        metadata: &Metadata,
    ) -> Result<(), BuildError> {
        let (uid, gid) = self.attributes.owner_of(metadata);
        self.into.tree.chown(path, uid, gid)?;
        let mode = self.attributes.mode_of(metadata);
        Ok(self.into.tree.chmod(path, mode)?)
    }

    /// Copies extended attributes by path.
    pub(super) fn copy_attributes(&self, from: &Path, to: &Path) -> Result<(), BuildError> {
        let attributes = self.source.with_rights(|root| {
            let mut found = Vec::new();
            for name in self.source.attributes(root, from)? {
                let value = root.xattr(from, &name)?.unwrap_or_default();
                found.push((name, value));
            }
            Ok(found)
        })?;
        for (name, value) in attributes {
            self.into.tree.set_xattr(to, &name, &value)?;
        }
        Ok(())
    }

    /// Gives an open file its owner.
    pub(super) fn set_owner(
        &self,
        entry: &Entry,
        to: &File,
        target: &Path,
    ) -> Result<(), BuildError> {
        let (uid, gid) = self.attributes.owner_of(&entry.metadata);
        if (uid, gid) == (0, 0) {
            return Ok(());
        }
        let failed = |errno| FsError::io("set attributes of", target, errno);
        rustix::fs::fchown(to, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
            .map_err(failed)?;
        Ok(())
    }

    /// Gives a file its mode and times.
    pub(super) fn finish_file(
        &self,
        entry: &Entry,
        to: &File,
        target: &Path,
    ) -> Result<(), BuildError> {
        let failed = |errno| FsError::io("set attributes of", target, errno);
        let mode = self.attributes.mode_of(&entry.metadata);
        rustix::fs::fchmod(to, Mode::from_raw_mode(mode)).map_err(failed)?;
        let (atime, mtime) = self.attributes.times_of(&entry.metadata);
        let times = Timestamps {
            last_access: timespec(atime),
            last_modification: timespec(mtime),
        };
        Ok(rustix::fs::futimens(to.as_fd(), &times).map_err(failed)?)
    }
}

fn timespec(time: Timestamp) -> Timespec {
    Timespec {
        tv_sec: time.seconds,
        tv_nsec: time.nanoseconds.into(),
    }
}
