//! Executing file changes (spec llb §2.3).

mod actions;
mod owner;

use std::sync::Arc;

use wharf_llb::{CopyAction, FileAction, FileActionKind, FileInput, FileOp, VertexId};
use wharf_safefs::{Root, trusted};
use wharf_store::Staging;

use super::Solver;
use super::exec::{WORK, input_of};
use super::run::{Inputs, Made, MadeOutput, StepOutput};
use super::snapshot::Snapshot;
use super::source::empty_context;
use crate::BuildError;
use crate::chmod::ModeChange;
use crate::content::{Reading, Taken};
use crate::context::Context;
use crate::copy::{self, Attributes, Target};
use crate::select::{SelectOptions, Tree};

use actions::{mkdir, mkfile, rm, symlink, timestamp};
use owner::{find_owner, owner_of};

pub(super) use owner::warn_of_owner;

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

    /// Turns the trees that are outputs into layers, in the order of the outputs.
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

    /// Applies one action to its tree.
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

/// Where a copy reads.
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

/// Returns the error of actions that are out of order.
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
