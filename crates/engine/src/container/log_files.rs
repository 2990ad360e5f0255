//! The files of one log, opened together while the container's shim may be rotating them (spec runtime §7).

use super::log_decode::{LogFile, LogFormat};
use crate::error::Result;
use std::collections::VecDeque;
use std::path::Path;
use wharf_safefs::trusted;

/// Most rotated files that are looked for.
const MAX_ROTATED_FILES: u32 = 1000;
/// Numbers without a file, one after the other, that end the search. A rotation leaves one out for a moment, and the
/// next rotation may leave out the next one.
const MAX_MISSING: u32 = 3;
/// How often files are looked for that are renamed faster than they are found.
const MAX_ATTEMPTS: u32 = 100;

/// What was found, oldest file first; the last one is being written.
pub(crate) struct LogFiles {
    /// The files.
    pub(crate) files: VecDeque<LogFile>,
    /// Whether the file that was asked for is the one before the first.
    pub(crate) reaches_known: bool,
}

/// Opens all files of a log that are newer than the one with the inode `known`, or all there are.
///
/// Rotations rename one file after the other, the oldest first, so that files only move to higher numbers: looking from
/// the lowest number up meets every file, some of them twice. What was begun meanwhile can turn up among older ones
/// then, so that a look during which a file was begun is taken again.
///
/// # Errors
/// A file that cannot be opened or is not what its name says.
pub(crate) fn open_newer_than(
    path: &Path,
    format: LogFormat,
    known: Option<u64>,
) -> Result<LogFiles> {
    let mut found = open_once(path, format, known)?;
    for _ in 1..MAX_ATTEMPTS {
        let newest = found.files.back().map(|file| file.inode);
        let current = trusted::metadata(path).ok().map(|metadata| metadata.ino);
        if newest == current || found.reaches_known && current == known {
            break;
        }
        // Between two renames there is no current file.
        std::thread::yield_now();
        found = open_once(path, format, known)?;
    }
    Ok(found)
}

fn open_once(path: &Path, format: LogFormat, known: Option<u64>) -> Result<LogFiles> {
    let mut found = LogFiles {
        files: VecDeque::new(),
        reaches_known: false,
    };
    let mut missing = 0;
    for number in 0..MAX_ROTATED_FILES {
        let file = match number {
            0 => LogFile::open(path, format)?,
            _ => LogFile::open_rotated(path, number, format)?,
        };
        missing = if file.is_some() { 0 } else { missing + 1 };
        if missing == MAX_MISSING {
            break;
        }
        let Some(file) = file else { continue };
        if known == Some(file.inode) {
            found.reaches_known = true;
            break;
        }
        if found.files.iter().all(|other| other.inode != file.inode) {
            found.files.push_front(file);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::{LogFormat, open_newer_than};
    use std::path::Path;
    use std::sync::atomic::{AtomicBool, Ordering};

    /// Renames and begins anew, as the shim does.
    fn rotate(path: &Path, max_files: u32, content: &str) {
        let numbered = |number: u32| path.with_extension(number.to_string());
        for number in (1..max_files).rev() {
            let _not_there_yet = std::fs::rename(numbered(number), numbered(number + 1));
        }
        let _not_there_yet = std::fs::rename(path, numbered(1));
        std::fs::write(path, content).unwrap();
    }

    #[test]
    fn files_are_those_newer_than_the_known_one() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let none = open_newer_than(&path, LogFormat::Local, None).unwrap();
        assert!(none.files.is_empty());
        for content in ["a", "bb", "ccc"] {
            rotate(&path, 9, content);
        }
        let all = open_newer_than(&path, LogFormat::Local, None)
            .unwrap()
            .files;
        let lengths: Vec<u64> = all.iter().map(|file| file.length).collect();
        assert_eq!(lengths, [1, 2, 3]);
        for (index, expected) in [(0, 2), (1, 1), (2, 0)] {
            let newer = open_newer_than(&path, LogFormat::Local, Some(all[index].inode)).unwrap();
            assert_eq!((newer.files.len(), newer.reaches_known), (expected, true));
        }
        let unknown = open_newer_than(&path, LogFormat::Local, Some(1)).unwrap();
        assert_eq!((unknown.files.len(), unknown.reaches_known), (3, false));
    }

    #[test]
    fn rotations_meanwhile_lose_and_double_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        std::fs::write(&path, "0").unwrap();
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                // Each file is longer than the one before it, so that its length is its number.
                for number in 1..100 {
                    rotate(&path, 200, &"x".repeat(number + 1));
                    std::thread::sleep(std::time::Duration::from_millis(3));
                }
                is_over.store(true, Ordering::Release);
            });
            while !is_over.load(Ordering::Acquire) {
                let found = open_newer_than(&path, LogFormat::Local, None)
                    .unwrap()
                    .files;
                // The newest may be opened before it has its content.
                let expected = 1..=found.len() as u64;
                let lengths = found.iter().map(|file| file.length);
                let wrong = lengths
                    .zip(expected)
                    .find(|(found, expected)| found != expected);
                assert!(
                    wrong
                        .is_none_or(|(length, number)| length == 0 && number == found.len() as u64),
                    "{wrong:?} of {}",
                    found.len()
                );
            }
        });
    }
}
