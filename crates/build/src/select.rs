//! Which files a source of COPY or ADD means (spec llb §2.3, §7.4).

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use wharf_dockerfile::IgnoreFile;
use wharf_image::Glob;
use wharf_safefs::{DirectoryEntry, Metadata, Root};

use crate::BuildError;
use crate::content::Reading;
use crate::context::Context;

/// Most files that one source may stand for.
const MAX_ENTRIES: usize = 16_000_000;

/// A tree that files are taken from.
#[derive(Clone, Copy)]
pub(crate) struct Tree<'a> {
    /// The files.
    pub reading: Reading<'a>,
    /// The context that it is; what its ignore file names is not there.
    pub context: Option<&'a Context>,
}

/// How a source is understood.
#[derive(Debug, Clone, Default)]
pub(crate) struct SelectOptions {
    /// Whether it may be a pattern.
    pub is_pattern: bool,
    /// Whether a pattern may mean nothing.
    pub may_be_nothing: bool,
    /// Whether a symlink stands for what it leads to.
    pub follows_symlink: bool,
    /// Patterns of what counts, relative to the source; all where there are none.
    pub include: Vec<String>,
    /// Patterns of what does not count.
    pub exclude: Vec<String>,
    /// Paths relative to the source that must be there.
    pub required: Vec<String>,
}

/// A file or directory that a source means, with all below it.
#[derive(Debug, Clone)]
pub(crate) struct Selected {
    /// Its path in the tree, without symlinks.
    pub path: PathBuf,
    /// Its name as the source has it.
    pub name: OsString,
    /// The files, parents first; the first is itself.
    pub entries: Vec<Entry>,
}

/// One file.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    /// Path below the selected one; empty for itself.
    pub path: PathBuf,
    /// Its attributes.
    pub metadata: Metadata,
}

impl Selected {
    /// Says whether it is a directory.
    pub fn is_dir(&self) -> bool {
        self.entries
            .first()
            .is_some_and(|entry| entry.metadata.is_dir())
    }
}

impl<'a> Tree<'a> {
    fn ignore(&self) -> Option<(&'a str, &'a IgnoreFile)> {
        self.context.and_then(Context::ignore)
    }

    fn root(&self) -> &'a Root {
        self.reading.root
    }

    /// Returns what a source means, sorted by path.
    ///
    /// # Errors
    /// A path that does not exist, is ignored, or leads out of the context; a pattern that means nothing and must not.
    pub fn select(
        &self,
        source: &str,
        options: &SelectOptions,
    ) -> Result<Vec<Selected>, BuildError> {
        let _assumed = self
            .reading
            .caller
            .map(wharf_safefs::Caller::assume)
            .transpose()?;
        let mut found = self.find(source, options)?;
        let filter = Filter::new(&options.include, &options.exclude)?;
        for one in &mut found {
            filter.apply(one)?;
            let is_there = |path: &String| {
                let path = Path::new(path.trim_start_matches('/'));
                one.entries.iter().any(|entry| entry.path == path)
            };
            if let Some(missing) = options.required.iter().find(|path| !is_there(path)) {
                return Err(self.missing(missing, missing));
            }
        }
        found.retain(|one| !one.entries.is_empty());
        Ok(found)
    }

    fn find(&self, source: &str, options: &SelectOptions) -> Result<Vec<Selected>, BuildError> {
        let path = self.inside(source)?;
        if options.is_pattern && Glob::is_pattern(&path) {
            let mut found = Vec::new();
            for path in self.glob(source, &path)? {
                match self.take(&path, options.follows_symlink)? {
                    Some(selected) => found.push(selected),
                    None if self.dangles(&path)? => {
                        return Err(self.missing(&path.to_string_lossy(), &path.to_string_lossy()));
                    }
                    None => {}
                }
            }
            if found.is_empty() && !options.may_be_nothing {
                return Err(self.missing(source, &path));
            }
            return Ok(found);
        }
        match self.take(Path::new(&path), options.follows_symlink)? {
            Some(selected) => Ok(vec![selected]),
            None => Err(self.missing(source, &path)),
        }
    }

    /// Returns a source relative to the tree's root, without `.` and `..`.
    fn inside(&self, source: &str) -> Result<String, BuildError> {
        let mut parts: Vec<&str> = Vec::new();
        for part in source.split('/') {
            match part {
                "" | "." => {}
                ".." => {
                    if parts.pop().is_none() && self.context.is_some() {
                        return Err(BuildError::Source {
                            message: format!(
                                "forbidden path outside the build context: {source} ()"
                            ),
                        });
                    }
                }
                part => parts.push(part),
            }
        }
        Ok(parts.join("/"))
    }

    /// Returns the paths that match a pattern, component by component, sorted. What stands before the first component
    /// that is a pattern has to be there.
    fn glob(&self, source: &str, pattern: &str) -> Result<Vec<PathBuf>, BuildError> {
        let mut paths = vec![PathBuf::new()];
        let mut is_literal = true;
        for component in pattern.split('/') {
            let compiled = Glob::parse(component).ok_or_else(|| BuildError::Source {
                message: format!("syntax error in pattern {pattern:?}"),
            })?;
            let was_literal = is_literal;
            is_literal &= !Glob::is_pattern(component);
            let mut next = Vec::new();
            for path in paths {
                if is_literal {
                    let path = path.join(component);
                    if self.root().lstat_optional(&path)?.is_none() {
                        return Err(self.missing(source, &path.to_string_lossy()));
                    }
                    next.push(path);
                    continue;
                }
                // Behind a pattern no symlink is followed.
                let metadata = if was_literal {
                    self.root().stat(&path).ok()
                } else {
                    self.root().lstat_optional(&path)?
                };
                let is_dir = metadata.is_some_and(|metadata| metadata.is_dir());
                if !is_dir || self.can_skip(&path)? {
                    continue;
                }
                if !Glob::is_pattern(component) {
                    let path = path.join(component);
                    if self.root().lstat_optional(&path)?.is_some() {
                        next.push(path);
                    }
                    continue;
                }
                let entries = self.root().read_dir(&path)?;
                let matching = entries
                    .into_iter()
                    .filter(|entry| compiled.matches(&entry.name.to_string_lossy()));
                next.extend(matching.map(|entry| path.join(entry.name)));
                if next.len() > MAX_ENTRIES {
                    return Err(too_many(pattern));
                }
            }
            paths = next;
        }
        Ok(paths)
    }

    /// Says whether a path is a symlink that leads nowhere, and not one that is ignored.
    fn dangles(&self, path: &Path) -> Result<bool, BuildError> {
        if self.can_skip(path)? || self.is_ignored(path)? {
            return Ok(false);
        }
        let is_link = self
            .root()
            .lstat_optional(path)?
            .is_some_and(|metadata| metadata.is_symlink());
        Ok(is_link
            && self
                .root()
                .lstat_optional(&self.root().resolve(path)?)?
                .is_none())
    }

    /// Returns a path with all below it that is not ignored; nothing where that is nothing.
    fn take(&self, path: &Path, follows: bool) -> Result<Option<Selected>, BuildError> {
        if self.can_skip(path)? {
            return Ok(None);
        }
        let resolved = match (path.parent(), path.file_name()) {
            (Some(parent), Some(name)) if !follows => self.root().resolve(parent)?.join(name),
            _ => self.root().resolve(path)?,
        };
        if resolved != path && self.can_skip(&resolved)? {
            return Ok(None);
        }
        let Some(metadata) = self.root().lstat_optional(&resolved)? else {
            return Ok(None);
        };
        let top = Entry {
            path: PathBuf::new(),
            metadata,
        };
        let is_ignored = self.is_ignored(path)? || self.is_ignored(&resolved)?;
        let entries = if metadata.is_dir() {
            self.walk(&resolved, top, is_ignored)?
        } else if is_ignored {
            Vec::new()
        } else {
            vec![top]
        };
        let name = path.file_name().unwrap_or_default().to_owned();
        Ok((!entries.is_empty()).then_some(Selected {
            path: resolved,
            name,
            entries,
        }))
    }

    /// Lists a directory's tree, parents first. An ignored directory is there if something in it is.
    fn walk(&self, base: &Path, top: Entry, is_ignored: bool) -> Result<Vec<Entry>, BuildError> {
        let (directory, entries) = self.root().open_and_list(base)?;
        let mut walk = Walk {
            found: Vec::new(),
            pending: Vec::new(),
        };
        walk.meet(top, is_ignored);
        let mut stack = vec![Frame {
            path: PathBuf::new(),
            directory,
            entries: entries.into_iter(),
        }];
        while let Some(frame) = stack.last_mut() {
            let Some(entry) = frame.entries.next() else {
                walk.leave(&frame.path);
                stack.pop();
                continue;
            };
            let metadata = match frame.directory.lstat(&entry.name) {
                // Someone removes files while we look.
                Err(error) if error.is_not_found() => continue,
                result => result?,
            };
            let path = frame.path.join(&entry.name);
            let full = base.join(&path);
            if self.can_skip(&full)? {
                continue;
            }
            let is_ignored = self.is_ignored(&full)?;
            if metadata.is_dir() {
                let (directory, entries) = frame.directory.open_and_list(&entry.name)?;
                walk.meet(
                    Entry {
                        path: path.clone(),
                        metadata,
                    },
                    is_ignored,
                );
                stack.push(Frame {
                    path,
                    directory,
                    entries: entries.into_iter(),
                });
            } else if !is_ignored {
                walk.meet(Entry { path, metadata }, false);
            }
            if walk.found.len() > MAX_ENTRIES {
                return Err(too_many(&base.display().to_string()));
            }
        }
        Ok(walk.found)
    }

    fn is_ignored(&self, path: &Path) -> Result<bool, BuildError> {
        let Some((name, file)) = self.ignore() else {
            return Ok(false);
        };
        let decision = file
            .decide(&path.to_string_lossy())
            .map_err(|error| unreadable(name, &error))?;
        Ok(decision.is_ignored && !path.as_os_str().is_empty())
    }

    /// Says whether nothing at or below a path is there.
    fn can_skip(&self, path: &Path) -> Result<bool, BuildError> {
        let Some((name, file)) = self.ignore() else {
            return Ok(false);
        };
        if path.as_os_str().is_empty() {
            return Ok(false);
        }
        file.can_skip_directory(&path.to_string_lossy())
            .map_err(|error| unreadable(name, &error))
    }

    fn missing(&self, source: &str, path: &str) -> BuildError {
        let Some(context) = self.context else {
            return BuildError::Source {
                message: format!("stat {source}: file does not exist"),
            };
        };
        let rule = context.hiding_rule(path);
        let excluded = rule
            .as_ref()
            .map_or_else(String::new, |rule| format!("; excluded by {rule}"));
        let similar = if rule.is_none() {
            context.similar(path)
        } else {
            None
        };
        let similar = similar.map_or_else(String::new, |name| format!("; did you mean {name}?"));
        BuildError::Source {
            message: format!(
                "file not found in build context or excluded by .dockerignore: stat {source}: file does not exist (in {}{excluded}{similar})",
                context.shown()
            ),
        }
    }
}

/// A directory being listed.
struct Frame {
    path: PathBuf,
    directory: Root,
    entries: std::vec::IntoIter<DirectoryEntry>,
}

/// What a walk found; `pending` are ignored directories on the way to where it is.
struct Walk {
    found: Vec<Entry>,
    pending: Vec<Entry>,
}

impl Walk {
    fn meet(&mut self, entry: Entry, is_ignored: bool) {
        if is_ignored {
            self.pending.push(entry);
        } else {
            self.found.append(&mut self.pending);
            self.found.push(entry);
        }
    }

    fn leave(&mut self, path: &Path) {
        self.pending.pop_if(|entry| entry.path == path);
    }
}

fn too_many(what: &str) -> BuildError {
    BuildError::Source {
        message: format!("{what} stands for more than {MAX_ENTRIES} files"),
    }
}

fn unreadable(name: &str, error: &wharf_dockerfile::Error) -> BuildError {
    BuildError::Unreadable {
        name: name.to_owned(),
        reason: error.to_string(),
    }
}

/// Which files below a source count.
struct Filter {
    include: Option<IgnoreFile>,
    exclude: Option<IgnoreFile>,
}

impl Filter {
    fn new(include: &[String], exclude: &[String]) -> Result<Self, BuildError> {
        let parse = |patterns: &[String]| -> Result<Option<IgnoreFile>, BuildError> {
            if patterns.is_empty() {
                return Ok(None);
            }
            // Unlike those of an ignore file: a pattern that begins with a slash finds nothing.
            let file = IgnoreFile::from_patterns(patterns);
            let file = file.map_err(|error| BuildError::Source {
                message: format!("malformed pattern: {error}"),
            })?;
            Ok(Some(file))
        };
        Ok(Self {
            include: parse(include)?,
            exclude: parse(exclude)?,
        })
    }

    /// Drops what does not count; directories on the way to what counts stay.
    fn apply(&self, selected: &mut Selected) -> Result<(), BuildError> {
        if self.include.is_none() && self.exclude.is_none() {
            return Ok(());
        }
        let is_dir = selected.is_dir();
        let mut walk = Walk {
            found: Vec::new(),
            pending: Vec::new(),
        };
        for entry in std::mem::take(&mut selected.entries) {
            walk.pending
                .retain(|pending: &Entry| entry.path.starts_with(&pending.path));
            let is_top = entry.path.as_os_str().is_empty();
            if is_top && is_dir {
                walk.meet(entry, false);
                continue;
            }
            let name = if is_top {
                PathBuf::from(&selected.name)
            } else {
                entry.path.clone()
            };
            let counts = self.counts(&name)?;
            if counts || entry.metadata.is_dir() {
                walk.meet(entry, !counts);
            }
        }
        selected.entries = walk.found;
        Ok(())
    }

    fn counts(&self, path: &Path) -> Result<bool, BuildError> {
        let matches = |patterns: &Option<IgnoreFile>, without: bool| match patterns {
            None => Ok(without),
            Some(patterns) => patterns
                .decide(&path.to_string_lossy())
                .map(|decision| decision.is_ignored)
                .map_err(|error| unreadable("a pattern", &error)),
        };
        Ok(matches(&self.include, true)? && !matches(&self.exclude, false)?)
    }
}
