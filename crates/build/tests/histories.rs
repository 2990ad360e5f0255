//! Random histories of a context: a cached build gives what one without a cache gives, nothing runs again that sees
//! nothing new, and what is told to have changed has changed.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::print_stdout)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use support::{Bench, can_mount};
use wharf_build::{BuildRequest, ContextSource, StepStatus, builds};
use wharf_safefs::{Root, Timestamp};

/// Each step that sees files of the context, and what it sees of them.
const TEXT: &str = "FROM base
COPY src /src
RUN write /made 1
COPY --exclude=**/*.md docs /docs
COPY one* /one/
RUN --mount=type=bind,source=lib,target=/m get /m/key /key
";
/// Patterns of the ignore file.
const IGNORED: &str = "**/log\nskip\n";
/// Which of the steps see files of the context.
const SEEING: [usize; 4] = [0, 2, 3, 4];
/// Begins of the random numbers; a failure names its own, and `WHARF_TEST_SEED` takes another.
const SEEDS: [u64; 2] = [1, 20];
const ROUNDS: usize = 20;
/// Most changes between two builds.
const MOST_EDITS: u64 = 3;
/// Largest file of a context that is read.
const MAX_BYTES: u64 = 1 << 16;

/// What a step sees: each path with its kind, mode and content.
type Seen = BTreeMap<String, String>;

struct History {
    bench: Bench,
    /// Builds all anew.
    anew: Bench,
    state: u64,
}

impl History {
    fn new(seed: u64) -> Self {
        let history = Self {
            bench: Bench::new(),
            anew: Bench::new(),
            state: seed,
        };
        for path in [
            "src/a",
            "src/b",
            "src/deep/c",
            "src/deep/log",
            "docs/a.md",
            "docs/text",
            "docs/x/y.md",
            "one",
            "one-more",
            "other",
            "lib/key",
            "lib/log",
            "skip/a",
        ] {
            history.bench.file(path, path);
        }
        history.bench.file(".dockerignore", IGNORED);
        history
    }

    fn below(&mut self, limit: usize) -> usize {
        self.state = self
            .state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        ((self.state >> 33) % limit as u64) as usize
    }

    fn root(&self) -> Root {
        Root::open(self.bench.context()).unwrap()
    }

    /// Lists the context: what is there, directories first.
    fn paths(&self) -> Vec<PathBuf> {
        let root = self.root();
        let (mut found, mut open) = (Vec::new(), vec![PathBuf::new()]);
        while let Some(directory) = open.pop() {
            let mut entries = root.read_dir(&directory).unwrap();
            entries.sort_by(|left, right| left.name.cmp(&right.name));
            for entry in entries {
                let path = directory.join(entry.name);
                if root.lstat(&path).unwrap().is_dir() {
                    open.push(path.clone());
                }
                found.push(path);
            }
        }
        found.retain(|path| path != Path::new(".dockerignore"));
        found
    }

    /// Changes something; returns what.
    fn edit(&mut self) -> String {
        let root = self.root();
        let paths = self.paths();
        let path = paths[self.below(paths.len())].clone();
        let number = self.below(4);
        let metadata = root.lstat(&path).unwrap();
        let stays = ["src", "docs", "lib", "lib/key"];
        let may_go = !stays.iter().any(|name| path == Path::new(name));
        let beside = path.with_file_name(format!("new-{number}"));
        let kind = self.below(10);
        let shown = path.display();
        match kind {
            0 | 1 if !metadata.is_dir() && !metadata.is_symlink() => {
                // Of the same length, and with its old time: only the content tells.
                let length = usize::try_from(metadata.size_bytes).unwrap();
                let content = number.to_string().repeat(length);
                self.bench.file(path.to_str().unwrap(), content);
                root.set_times(&path, metadata.atime, metadata.mtime)
                    .unwrap();
                format!("content of {shown}")
            }
            2 if !metadata.is_symlink() => {
                let mode = [0o755, 0o700, 0o711, 0o775][number];
                root.chmod(&path, mode).unwrap();
                format!("mode of {shown}")
            }
            3 => {
                let time = Timestamp::from_seconds(1_000_000_000 + number as i64);
                root.set_times(&path, time, time).unwrap();
                format!("time of {shown}")
            }
            4 if may_go && root.lstat_optional(&beside).unwrap().is_none() => {
                root.rename(&path, &beside).unwrap();
                format!("{shown} to {}", beside.display())
            }
            5 if may_go => {
                root.remove_all(&path).unwrap();
                format!("without {shown}")
            }
            6 if root.lstat_optional(&beside).unwrap().is_none() => {
                root.symlink(["a", "../src", "nowhere", "/"][number], &beside)
                    .unwrap();
                format!("link {}", beside.display())
            }
            7 if metadata.is_symlink() => {
                root.remove_file(&path).unwrap();
                root.symlink(["b", "../docs", "nothing", "."][number], &path)
                    .unwrap();
                format!("target of {shown}")
            }
            8 => {
                let name = ["log", "note.md", "file", "deep/file"][number];
                let directory = ["src", "docs", "lib", "skip"][self.below(4)];
                let path = PathBuf::from(directory).join(name);
                let found = |path: &Path| root.lstat_optional(path).unwrap();
                let parent = found(path.parent().unwrap());
                if found(&path).is_some_and(|found| !found.is_file())
                    || parent.is_some_and(|found| !found.is_dir())
                {
                    return format!("nothing at {}", path.display());
                }
                let path = path.display().to_string();
                self.bench.file(&path, format!("{number}"));
                format!("file {path}")
            }
            _ => {
                self.bench
                    .file(["other", "one-more"][number % 2], format!("{number}"));
                "a file at the top".to_owned()
            }
        }
    }

    /// Returns what each step sees, by rules of its own: nothing of the matchers that the build uses.
    fn seen(&self) -> Vec<Seen> {
        let root = self.root();
        let mut seen = vec![Seen::new(); SEEING.len()];
        for path in self.paths() {
            let text = path.to_str().unwrap();
            let parts: Vec<&str> = text.split('/').collect();
            let is_ignored = parts.contains(&"log") || parts[0] == "skip";
            if is_ignored {
                continue;
            }
            let metadata = root.lstat(&path).unwrap();
            let what = if metadata.is_dir() {
                "directory".to_owned()
            } else if metadata.is_symlink() {
                format!("-> {}", root.read_link(&path).unwrap().display())
            } else {
                format!("{:?}", root.read(&path, MAX_BYTES).unwrap())
            };
            let line = format!("{:o} {what}", metadata.mode);
            let is_note = parts.iter().any(|part| part.ends_with(".md"));
            let steps = [
                parts[0] == "src",
                parts[0] == "docs" && !is_note,
                parts[0].starts_with("one"),
                parts[0] == "lib",
            ];
            for (step, _) in steps.iter().enumerate().filter(|(_, sees)| **sees) {
                seen[step].insert(text.to_owned(), line.clone());
            }
        }
        seen
    }

    fn request(&self, no_cache: bool) -> BuildRequest {
        BuildRequest {
            context: ContextSource::Directory(self.bench.context()),
            project: "history".to_owned(),
            no_cache,
            ..self.bench.request(TEXT)
        }
    }
}

/// Returns the paths at which two states differ.
fn differing(old: &Seen, new: &Seen) -> BTreeSet<String> {
    let paths = old.keys().chain(new.keys());
    paths
        .filter(|path| old.get(*path) != new.get(*path))
        .cloned()
        .collect()
}

#[test]
fn cached_builds_of_any_history_are_what_builds_without_a_cache_are() {
    if !can_mount() {
        return;
    }
    let named = std::env::var("WHARF_TEST_SEED").ok();
    let seeds = named.map_or(SEEDS.to_vec(), |seed| vec![seed.parse().unwrap()]);
    for seed in seeds {
        let mut history = History::new(seed);
        let mut known: BTreeSet<Vec<Seen>> = BTreeSet::new();
        let mut before: Option<Vec<Seen>> = None;
        for round in 0..ROUNDS {
            let edits = 1 + history.below(MOST_EDITS as usize);
            let edits: Vec<String> = match round {
                0 => Vec::new(),
                _ => (0..edits).map(|_| history.edit()).collect(),
            };
            let at = format!("seed {seed}, round {round}: {}", edits.join(", "));
            let seen = history.seen();
            let (image, log) = history.bench.try_build(&history.request(false));
            let (anew, _) = history.anew.try_build(&history.request(true));
            let (image, anew) = match (image, anew) {
                (Ok(image), Ok(anew)) => (image, anew),
                // What cannot be copied cannot be copied either way.
                (Err(image), Err(anew)) => {
                    assert_eq!(image.to_string(), anew.to_string(), "{at}");
                    before = None;
                    continue;
                }
                (image, anew) => panic!("{at}: {image:?} and without a cache {anew:?}"),
            };
            let config = |bench: &Bench, id| bench.store.image(&id).unwrap().unwrap().config;
            let (image, anew) = (config(&history.bench, image), config(&history.anew, anew));
            assert_eq!(
                history.bench.tree(&image, ""),
                history.anew.tree(&anew, ""),
                "{at}"
            );
            assert_eq!(image.config, anew.config, "{at}");

            let record = builds(&history.bench.store).unwrap().swap_remove(0);
            let mut must_hit = true;
            for (index, step) in record.steps.iter().enumerate() {
                let inputs = SEEING.iter().filter(|number| **number <= index).count();
                must_hit &= known.contains(&seen[..inputs]);
                let was_hit = step.status == StepStatus::Cached;
                assert!(
                    was_hit || !must_hit,
                    "{at}: step {index} ran again: {log:#?}"
                );
                let Some(before) = before.as_ref().filter(|_| !was_hit) else {
                    continue;
                };
                let files: Vec<_> = step
                    .causes
                    .iter()
                    .filter_map(|cause| cause.files.as_ref())
                    .collect();
                let Some(place) = SEEING.iter().position(|number| *number == index) else {
                    assert!(files.is_empty(), "{at}: step {index} sees no files");
                    continue;
                };
                let changed = differing(&before[place], &seen[place]);
                for file in files.iter().flat_map(|change| &change.examples) {
                    let is_told = changed.iter().any(|path| path.ends_with(&file.path));
                    assert!(is_told, "{at}: step {index}: {} of {changed:?}", file.path);
                }
                assert_eq!(
                    files.is_empty(),
                    changed.is_empty(),
                    "{at}: step {index}: {:?}",
                    step.causes
                );
            }
            for inputs in 0..=SEEING.len() {
                known.insert(seen[..inputs].to_vec());
            }
            before = Some(seen);
        }
    }
}
