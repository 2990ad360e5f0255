//! Staging: where something is made before it is published by rename.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use wharf_safefs::{Root, trusted};

use crate::error::Result;
use crate::layout::{CONTENTS, FILE_MODE, FILES};
use crate::store::{Inner, Store};
use crate::worker::Job;

/// A directory under `tmp/`, on the file system of all that is published; removed when dropped.
pub struct Staging {
    store: Arc<Inner>,
    path: PathBuf,
    files: Root,
    published: bool,
}

impl Store {
    /// Makes a staging directory with an empty `fs` directory (mode 0755, owned by root) in it.
    pub fn stage(&self) -> Result<Staging> {
        let path = self.inner.temporary_path("stage");
        trusted::create_dir(&path, 0o755)?;
        let made = trusted::create_dir(path.join(FILES), 0o755)
            .and_then(|()| Root::open(path.join(FILES)));
        match made {
            Ok(files) => Ok(Staging {
                store: Arc::clone(&self.inner),
                path,
                files,
                published: false,
            }),
            Err(error) => {
                self.inner.worker.submit(Job::Remove(path));
                Err(error.into())
            }
        }
    }
}

impl Staging {
    /// Returns the staging directory; what lies in it beside `fs` is dropped at publication.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the path of the `fs` directory.
    pub fn files(&self) -> PathBuf {
        self.path.join(FILES)
    }

    /// Returns the `fs` directory, the layer's files to be.
    pub fn root(&self) -> &Root {
        &self.files
    }

    /// Keeps a list of what the files hold, in a form of the caller's own, as long as the layer;
    /// [`Store::layer_contents`] returns it.
    pub fn keep_contents(&self, list: &[u8]) -> Result<()> {
        let path = self.path.join(CONTENTS);
        Ok(trusted::write_atomic(path, list, FILE_MODE, false)?)
    }

    /// Gives the directory its place among the layers.
    pub(crate) fn publish(mut self, to: &Path) -> Result<()> {
        trusted::rename(&self.path, to)?;
        self.published = true;
        Ok(())
    }

    /// Removes all but the layer's files and the list of what they hold.
    pub(crate) fn keep_only_files(&self) -> Result<()> {
        for entry in trusted::read_dir_sorted(&self.path)? {
            if entry.name != FILES && entry.name != CONTENTS {
                trusted::remove_all(self.path.join(&entry.name))?;
            }
        }
        Ok(())
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if !self.published {
            self.store
                .worker
                .submit(Job::Remove(std::mem::take(&mut self.path)));
        }
    }
}

impl std::fmt::Debug for Staging {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Staging")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}
