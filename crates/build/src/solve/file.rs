//! Executing file changes (spec llb §2.3).

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use wharf_image::Glob;
use wharf_llb::{
    Account, Chown, CopyAction, FileAction, FileActionKind, FileInput, FileOp, MkdirAction,
    MkfileAction, RmAction, SymlinkAction, VertexId,
};
use wharf_safefs::{FsError, Root, Timestamp, trusted};
use wharf_store::Staging;

use super::Solver;
use super::exec::{WORK, input_of};
use super::run::{Inputs, Made, MadeOutput, StepOutput};
use super::snapshot::Snapshot;
use super::source::empty_context;
use crate::chmod::ModeChange;
use crate::content::{Reading, Taken};
use crate::context::Context;
use crate::copy::{self, Attributes, Target};
use crate::owner::{self, Owner};
use crate::select::{SelectOptions, Tree};
use crate::{BuildError, OutputStream};

const NANOSECONDS: i64 = 1_000_000_000;
/// Mode bits that a file's own mode may have here.
const MODE_BITS: u32 = 0o7777;

/// A tree being changed.
struct Work {
    below: Snapshot,
    staging: Staging,
    root: Root,
    /// Which output it is, in the end.
    output: Option<u32>,
}

/// How a copy's source is understood.
pub(super) fn select_options(copy: &CopyAction) -> SelectOptions {
    SelectOptions {
        is_pattern: copy.allow_wildcard,
        may_be_nothing: copy.allow_empty_wildcard,
        follows_symlink: copy.follow_symlink,
        include: copy.include_patterns.clone(),
        exclude: copy.exclude_patterns.clone(),
        required: copy.required_paths.clone(),
    }
}

impl Solver<'_> {
    /// Applies file changes.
    pub(super) fn change_files(
        &self,
        id: VertexId,
        file: &FileOp,
        inputs: &Inputs,
        output: &StepOutput<'_, '_>,
    ) -> Result<Made, BuildError> {
        if let Some(made) = self.copy_directly(id, file, inputs, output)? {
            return Ok(made);
        }
        let mut works: Vec<Work> = Vec::new();
        // Which tree the result of each action is.
        let mut of_action: Vec<usize> = Vec::new();
        for (number, action) in file.actions.iter().enumerate() {
            self.check_stopped()?;
            let index = match action.input {
                FileInput::Action(earlier) => *of_action.get(earlier).ok_or_else(bad_action)?,
                FileInput::Input(input) => {
                    works.push(self.open(input_of(inputs, Some(input)))?);
                    works.len() - 1
                }
                FileInput::Scratch => {
                    works.push(self.open(Snapshot::default())?);
                    works.len() - 1
                }
            };
            let is_used_twice = matches!(action.input, FileInput::Action(earlier)
                if file.actions.iter().take(number).any(|other| other.input == FileInput::Action(earlier)));
            if is_used_twice {
                return Err(BuildError::Unsupported {
                    what: "a file operation that goes on from one of its actions in two ways",
                });
            }
            if let Some(work) = works.get(index) {
                warn_of_owner(&work.root, owner_of(&action.kind), output)?;
            }
            self.act(id, (number, action), index, &mut works, &of_action, inputs)?;
            if let Some(work) = works.get_mut(index) {
                work.output = action.output.or(work.output);
            }
            of_action.push(index);
        }
        self.collect_works(works)
    }

    fn collect_works(&self, works: Vec<Work>) -> Result<Made, BuildError> {
        let mut made: Vec<(u32, MadeOutput)> = Vec::new();
        for work in works {
            let Some(number) = work.output else { continue };
            // The mount has to be gone before its directory is moved.
            drop(work.root);
            let layer = self.place(work.staging, &work.below, &[])?;
            let below = work.below;
            made.push((number, MadeOutput { below, layer }));
        }
        made.sort_by_key(|(number, _)| *number);
        Ok(made.into_iter().map(|(_, output)| output).collect())
    }

    /// Opens files to be changed.
    fn open(&self, below: Snapshot) -> Result<Work, BuildError> {
        let staging = self.store.stage()?;
        let lower_dirs = below.dirs(self.store)?;
        let root = if lower_dirs.is_empty() {
            staging.root().try_clone()?
        } else {
            let work = staging.path().join(WORK);
            trusted::create_dir(&work, 0o700)?;
            self.host
                .writable_view(&lower_dirs, &staging.files(), &work)
                .map_err(BuildError::Host)?
        };
        Ok(Work {
            below,
            staging,
            root,
            output: None,
        })
    }

    fn act(
        &self,
        id: VertexId,
        (number, action): (usize, &FileAction),
        index: usize,
        works: &mut [Work],
        of_action: &[usize],
        inputs: &Inputs,
    ) -> Result<(), BuildError> {
        let tree = match works.get(index) {
            Some(work) => work.root.try_clone()?,
            None => return Err(bad_action()),
        };
        match &action.kind {
            FileActionKind::Mkdir(directory) => mkdir(&tree, directory),
            FileActionKind::Mkfile(file) => mkfile(&tree, file),
            FileActionKind::Rm(remove) => rm(&tree, remove),
            FileActionKind::Symlink(link) => symlink(&tree, link),
            FileActionKind::Copy(copy) => match action.secondary {
                FileInput::Scratch => Err(BuildError::Source {
                    message: "scratch holds no files".to_owned(),
                }),
                FileInput::Action(earlier) => {
                    let from = of_action.get(earlier).and_then(|index| works.get(*index));
                    let from = from.ok_or_else(bad_action)?.root.try_clone()?;
                    let source = Tree {
                        reading: Reading::own(&from),
                        context: None,
                    };
                    let selected = source.select(&copy.source, &select_options(copy))?;
                    let taken = Taken::unhashed(selected);
                    let attributes = attributes(copy, true, &tree)?;
                    let into = Target::from(&tree);
                    copy::copy(source.reading, &taken, into, &copy.destination, &attributes)?;
                    Ok(())
                }
                FileInput::Input(input) => {
                    let opened = self.open_input(id, (input, number), copy, inputs)?;
                    let attributes = attributes(copy, opened.keeps_owner(), &tree)?;
                    let into = Target::from(&tree);
                    let copied = copy::copy(
                        opened.reading(),
                        &opened.taken,
                        into,
                        &copy.destination,
                        &attributes,
                    )?;
                    self.note_change(id, copied.changed);
                    Ok(())
                }
            },
        }
    }

    /// Finds what a copy takes of an input: as it was when the step's key was made.
    pub(super) fn open_input(
        &self,
        id: VertexId,
        (input, number): (usize, usize),
        copy: &CopyAction,
        inputs: &Inputs,
    ) -> Result<OpenedInput<'_>, BuildError> {
        let edge = self.input.graph.vertex(id).inputs.get(input);
        let from = match edge.and_then(|edge| self.context_of(edge.vertex)) {
            Some(context) => Opened::Context(context.reading().ok_or_else(empty_context)?, context),
            None => {
                let snapshot = input_of(inputs, Some(input));
                if snapshot.is_empty() {
                    return Err(BuildError::Source {
                        message: "the stage that is copied from holds no files".to_owned(),
                    });
                }
                Opened::Layers(self.view(&snapshot)?)
            }
        };
        let known = self.with_node(id, |node| {
            let mut contents = node.contents.iter();
            let known = contents.find(|(at, _)| *at == (input, number));
            known.map(|(_, content)| Arc::clone(&content.taken))
        });
        let taken = match known.flatten() {
            Some(taken) => taken,
            None => {
                let selected = from.tree().select(&copy.source, &select_options(copy))?;
                Arc::new(Taken::unhashed(selected))
            }
        };
        Ok(OpenedInput { from, taken })
    }
}

/// What a copy reads.
pub(super) struct OpenedInput<'a> {
    from: Opened<'a>,
    /// The files.
    pub taken: Arc<Taken>,
}

enum Opened<'a> {
    Context(Reading<'a>, &'a Context),
    Layers(Root),
}

impl Opened<'_> {
    fn tree(&self) -> Tree<'_> {
        Tree {
            reading: self.reading(),
            context: match self {
                Self::Context(_, context) => Some(context),
                Self::Layers(_) => None,
            },
        }
    }

    fn reading(&self) -> Reading<'_> {
        match self {
            Self::Context(reading, _) => *reading,
            Self::Layers(root) => Reading::own(root),
        }
    }
}

impl OpenedInput<'_> {
    /// Returns how the files are read.
    pub fn reading(&self) -> Reading<'_> {
        self.from.reading()
    }

    /// Says whether files keep their owner: those of a build context belong to root.
    pub fn keeps_owner(&self) -> bool {
        matches!(self.from, Opened::Layers(_))
    }
}

fn bad_action() -> BuildError {
    BuildError::Graph {
        message: "a file action refers to one that does not come before it".to_owned(),
    }
}

/// Returns what copied files get; names of owners are looked up in `tree`.
pub(super) fn attributes(
    copy: &CopyAction,
    keep_owner: bool,
    tree: &Root,
) -> Result<Attributes, BuildError> {
    let mode = match (copy.mode_text.as_str(), copy.mode) {
        ("", None) => None,
        ("", Some(mode)) => Some(ModeChange::Octal(mode & MODE_BITS)),
        (text, _) => Some(ModeChange::parse(text).map_err(BuildError::instruction)?),
    };
    Ok(Attributes {
        owner: find_owner(tree, copy.owner.as_ref())?,
        keep_owner,
        mode,
        unpack: copy.attempt_unpack,
        contents_only: copy.dir_copy_contents,
        replaces: copy.always_replace,
        timestamp: copy.timestamp_ns.map(timestamp),
    })
}

fn mkdir(tree: &Root, directory: &MkdirAction) -> Result<(), BuildError> {
    let path = Path::new(&directory.path);
    let owner = find_owner(tree, directory.owner.as_ref())?;
    let missing: Vec<PathBuf> = missing_directories(tree, path)?;
    if missing.len() > 1 && !directory.make_parents {
        return Err(BuildError::instruction(format!(
            "cannot make the directory {}: the one above it does not exist",
            directory.path
        )));
    }
    let attributes = Attributes {
        owner,
        mode: Some(ModeChange::Octal(directory.mode & 0o777)),
        ..Attributes::default()
    };
    copy::make_directory(tree, path, &attributes)?;
    if let Some(time) = directory.timestamp_ns.map(timestamp) {
        for path in missing {
            tree.set_times(&path, time, time)?;
        }
    }
    Ok(())
}

/// Returns which directories of a path are not there, deepest first.
fn missing_directories(tree: &Root, path: &Path) -> Result<Vec<PathBuf>, BuildError> {
    let mut missing = Vec::new();
    for part in path.ancestors() {
        let is_top = part.as_os_str().is_empty() || part == Path::new("/");
        if is_top || tree.exists(part)? {
            break;
        }
        missing.push(part.to_path_buf());
    }
    Ok(missing)
}

fn mkfile(tree: &Root, file: &MkfileAction) -> Result<(), BuildError> {
    let owner = find_owner(tree, file.owner.as_ref())?;
    let path = tree.resolve(&file.path)?;
    let mut made = tree.create_file(&path, file.mode & 0o777)?;
    made.write_all(&file.data)
        .map_err(|error| FsError::io("write", &path, error))?;
    drop(made);
    if let Some((uid, gid)) = owner {
        tree.chown(&path, uid, gid)?;
    }
    if let Some(time) = file.timestamp_ns.map(timestamp) {
        tree.set_times(&path, time, time)?;
    }
    Ok(())
}

fn symlink(tree: &Root, link: &SymlinkAction) -> Result<(), BuildError> {
    let owner = find_owner(tree, link.owner.as_ref())?;
    tree.symlink(&link.target, &link.path)?;
    if let Some((uid, gid)) = owner {
        tree.chown(&link.path, uid, gid)?;
    }
    if let Some(time) = link.timestamp_ns.map(timestamp) {
        tree.set_times(&link.path, time, time)?;
    }
    Ok(())
}

fn rm(tree: &Root, remove: &RmAction) -> Result<(), BuildError> {
    let path = remove.path.trim_matches('/');
    let paths = if remove.allow_wildcard && Glob::is_pattern(path) {
        matching(tree, path)?
    } else {
        let path = Path::new(path);
        let parent = tree.resolve(path.parent().unwrap_or(Path::new("")))?;
        let place = parent.join(path.file_name().unwrap_or_default());
        tree.lstat_optional(&place)?
            .map(|_| place)
            .into_iter()
            .collect()
    };
    if paths.is_empty() && !remove.allow_not_found {
        return Err(BuildError::instruction(format!(
            "cannot remove {}: it does not exist",
            remove.path
        )));
    }
    for path in paths {
        if path.as_os_str().is_empty() {
            return Err(BuildError::instruction("cannot remove the root directory"));
        }
        tree.remove_all(&path)?;
    }
    Ok(())
}

/// Returns the paths that match a pattern, component by component.
fn matching(tree: &Root, pattern: &str) -> Result<Vec<PathBuf>, BuildError> {
    let mut paths = vec![PathBuf::new()];
    for component in pattern.split('/') {
        let compiled = Glob::parse(component).ok_or_else(|| {
            BuildError::instruction(format!("syntax error in pattern {pattern:?}"))
        })?;
        let mut next = Vec::new();
        for path in paths {
            if !tree.stat(&path).is_ok_and(|found| found.is_dir()) {
                continue;
            }
            let entries = tree.read_dir(&path)?.into_iter();
            let names = entries.filter(|entry| compiled.matches(&entry.name.to_string_lossy()));
            next.extend(names.map(|entry| path.join(entry.name)));
        }
        paths = next;
    }
    Ok(paths)
}

fn owner_of(kind: &FileActionKind) -> Option<&Chown> {
    match kind {
        FileActionKind::Copy(copy) => copy.owner.as_ref(),
        FileActionKind::Mkdir(directory) => directory.owner.as_ref(),
        FileActionKind::Mkfile(file) => file.owner.as_ref(),
        FileActionKind::Symlink(link) => link.owner.as_ref(),
        FileActionKind::Rm(_) => None,
    }
}

/// Tells which names of an owner `tree` does not have.
pub(super) fn warn_of_owner(
    tree: &Root,
    wanted: Option<&Chown>,
    output: &StepOutput<'_, '_>,
) -> Result<(), BuildError> {
    let found = resolve_owner(tree, wanted)?;
    for warning in found.map(|found| found.warnings).unwrap_or_default() {
        output.write(
            OutputStream::Stderr,
            format!("warning: {warning}\n").as_bytes(),
        );
    }
    Ok(())
}

fn find_owner(tree: &Root, wanted: Option<&Chown>) -> Result<Option<(u32, u32)>, BuildError> {
    let found = resolve_owner(tree, wanted)?;
    Ok(found.map(|found| (found.uid, found.gid)))
}

fn resolve_owner(
    tree: &Root,
    wanted: Option<&Chown>,
) -> Result<Option<owner::Resolved>, BuildError> {
    let Some(wanted) = wanted else {
        return Ok(None);
    };
    let mut is_nowhere = false;
    let mut account = |account: &Account| match account {
        Account::Id(id) => owner::Account::Id(*id),
        Account::Name { name, input } => {
            is_nowhere |= *input == FileInput::Scratch;
            owner::Account::Name(name.clone())
        }
    };
    let user = wanted.user.as_ref().map(&mut account);
    let wanted = Owner {
        group: match (&user, &wanted.group) {
            (_, Some(group)) => Some(account(group)),
            (None, None) => return Ok(None),
            (Some(_), None) => None,
        },
        user: user.unwrap_or(owner::Account::Id(0)),
    };
    if is_nowhere {
        return Err(BuildError::instruction(format!(
            "{} cannot be looked up: the step begins with no files and so with no /etc/passwd; name the owner by number",
            wanted.names().join(":")
        )));
    }
    owner::resolve(tree, &wanted).map(Some)
}

fn timestamp(nanoseconds: i64) -> Timestamp {
    Timestamp {
        seconds: nanoseconds.div_euclid(NANOSECONDS),
        nanoseconds: u32::try_from(nanoseconds.rem_euclid(NANOSECONDS)).unwrap_or(0),
    }
}
