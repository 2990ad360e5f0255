//! What containers' own files and volumes take on disk, measured so rarely that it costs next to nothing.
//!
//! A directory is measured by a walk. What a walk found holds for a time that grows with what the walk
//! took, so that asking over and over walks at most a tenth of the time; it is given up at once when a
//! container that writes there starts or ends, and when files are copied into it.

use crate::container::create::fs_error;
use crate::error::Result;
use crate::model::container::Container;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use wharf_safefs::DiskUsage;
use wharf_safefs::trusted;

/// How many times as long as its walk took a measurement holds while a container may write there.
const FACTOR_IN_USE: u32 = 10;
/// The same for what no container writes to.
const FACTOR_IDLE: u32 = 300;
/// The longest that a measurement holds, in use and idle.
const MAX_AGE_IN_USE: Duration = Duration::from_secs(30);
const MAX_AGE_IDLE: Duration = Duration::from_secs(600);

/// Measurements by directory.
#[derive(Default)]
pub(crate) struct Sizes(Mutex<HashMap<PathBuf, Arc<Mutex<Option<Measured>>>>>);

#[derive(Debug, Clone, Copy)]
struct Measured {
    usage: DiskUsage,
    at: Instant,
    took: Duration,
}

impl Measured {
    fn holds(&self, is_in_use: bool) -> bool {
        let (factor, longest) = if is_in_use {
            (FACTOR_IN_USE, MAX_AGE_IN_USE)
        } else {
            (FACTOR_IDLE, MAX_AGE_IDLE)
        };
        self.at.elapsed() < self.took.saturating_mul(factor).min(longest)
    }
}

impl Sizes {
    /// Returns what a directory takes. Several that ask at once share one walk.
    ///
    /// # Errors
    /// A directory that cannot be read.
    pub(crate) fn of(&self, directory: &Path, is_in_use: bool) -> Result<DiskUsage> {
        let place = {
            let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(known.entry(directory.to_owned()).or_default())
        };
        let mut measured = place.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(measured) = measured.filter(|measured| measured.holds(is_in_use)) {
            return Ok(measured.usage);
        }
        let began = Instant::now();
        let usage = trusted::disk_usage(directory).map_err(fs_error("cannot measure the disk"))?;
        *measured = Some(Measured {
            usage,
            at: began,
            took: began.elapsed(),
        });
        Ok(usage)
    }

    /// Gives up what is known of a directory.
    pub(crate) fn forget(&self, directory: &Path) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.remove(directory);
    }

    /// Gives up what is known of all that a container writes to.
    pub(crate) fn forget_container(&self, container: &Container) {
        self.forget(&upper_of(container));
        for mount in container.mounts.iter().filter(|m| m.kind == "volume") {
            self.forget(Path::new(&mount.source));
        }
    }
}

/// Returns the directory of a container's own files.
pub(crate) fn upper_of(container: &Container) -> PathBuf {
    Path::new(&container.directory).join("upper")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn measurements_hold_for_a_multiple_of_what_they_took() {
        let measured = |age: Duration, took: Duration| Measured {
            usage: DiskUsage::default(),
            at: Instant::now().checked_sub(age).unwrap(),
            took,
        };
        let second = Duration::from_secs(1);
        for (age, took, is_in_use, holds) in [
            (second * 5, second, true, true),
            (second * 11, second, true, false),
            (second * 11, second, false, true),
            (second * 31, second * 60, true, false),
            (second * 599, second * 60, false, true),
            (second * 601, second * 60, false, false),
        ] {
            assert_eq!(
                measured(age, took).holds(is_in_use),
                holds,
                "{age:?} {took:?} {is_in_use}"
            );
        }
    }

    #[test]
    fn what_is_forgotten_is_measured_anew() {
        let directory = tempfile::tempdir().unwrap();
        let sizes = Sizes::default();
        let before = sizes.of(directory.path(), false).unwrap();
        // However long the walk took, it is taken to have been a long one.
        for place in sizes.0.lock().unwrap().values() {
            place.lock().unwrap().as_mut().unwrap().took = MAX_AGE_IDLE;
        }
        std::fs::write(directory.path().join("x"), vec![1; 1 << 20]).unwrap();
        assert_eq!(sizes.of(directory.path(), false).unwrap(), before);
        sizes.forget(directory.path());
        let after = sizes.of(directory.path(), false).unwrap();
        assert!(after.disk_bytes >= before.disk_bytes + (1 << 20));
    }
}
