//! Executing file changes: COPY, ADD and WORKDIR.

use std::io::{Read, Write};
use std::path::Path;

use serde_json::{Value, json};
use wharf_safefs::{FsError, Root, trusted};
use wharf_store::Staging;

use super::run::WORK;
use super::{Execution, Solved};
use crate::BuildError;
use crate::cache::Key;
use crate::chmod::ModeChange;
use crate::content::content_digest;
use crate::context::Context;
use crate::copy::{self, Attributes};
use crate::graph::{
    CopyAction, CopySource, FileAction, FileOp, Input, Op, Owner, Source, Vertex, VertexId,
};
use crate::owner;
use crate::select::{Selected, Tree};

/// Most bytes that ADD takes from one address.
const MAX_DOWNLOAD_BYTES: u64 = 64 << 30;
/// Mode of files from addresses and of their temporary copy.
const DOWNLOAD_MODE: u32 = 0o600;
/// Mode of files whose content the Dockerfile holds.
const INLINE_MODE: u32 = 0o644;
const COPY_BUFFER_BYTES: usize = 128 << 10;

/// What an input offers to copy from.
enum Files<'a> {
    Context(&'a Context, &'a Root),
    Root(Root),
}

impl<'a> Execution<'a> {
    /// Returns the key of a vertex: its operation on the parent's key, with the content of what is copied.
    pub(super) fn key(&mut self, vertex: &Vertex, parent: &Solved) -> Result<Key, BuildError> {
        let platform = self.plan.platform.to_string();
        let op: Value = serde_json::to_value(&vertex.op).unwrap_or_default();
        let Op::File(file) = &vertex.op else {
            let parts = json!({ "op": op, "platform": platform });
            return Ok(Key::new("exec", parent.key.as_ref(), parts, &[]));
        };
        let (mut contents, mut files) = (Vec::new(), Vec::new());
        for action in &file.actions {
            let FileAction::Copy(copy) = action else {
                continue;
            };
            let CopySource::Input { input, path } = &copy.source else {
                continue;
            };
            let keeps_owner = copy.keep_owner && copy.owner.is_none();
            let input = vertex.inputs.get(*input).copied().unwrap_or(Input::Scratch);
            let offered = self.files(input)?;
            let selected = offered.tree().select(path)?;
            let found = content_digest(offered.root(), &selected, keeps_owner)?;
            contents.push(found.digest);
            files.extend(found.files);
        }
        let parts = json!({ "op": op, "platform": platform, "contents": contents });
        Ok(Key::new("file", parent.key.as_ref(), parts, &files))
    }

    /// Applies file changes; they go to the staging directory.
    pub(super) fn change_files(
        &mut self,
        file: &FileOp,
        vertex: &Vertex,
        parent: &Solved,
        staging: &Staging,
    ) -> Result<(), BuildError> {
        let tree = self.writable(parent, staging)?;
        for action in &file.actions {
            self.check_cancelled()?;
            match action {
                FileAction::Mkdir { path, mode, owner } => {
                    let attributes = Attributes {
                        owner: find_owner(&tree, owner.as_ref())?,
                        mode: Some(ModeChange::Octal(*mode)),
                        ..Attributes::default()
                    };
                    copy::make_directory(&tree, Path::new(path), &attributes)?;
                }
                FileAction::Copy(action) => self.copy(action, vertex, &tree)?,
            }
        }
        Ok(())
    }

    /// Returns the parent's files, to be written to.
    fn writable(&self, parent: &Solved, staging: &Staging) -> Result<Root, BuildError> {
        let lower_dirs = self.store.layer_dirs(&parent.diff_ids)?;
        if lower_dirs.is_empty() {
            return Ok(staging.root().try_clone()?);
        }
        let work = staging.path().join(WORK);
        trusted::create_dir(&work, 0o700)?;
        self.host
            .writable_view(&lower_dirs, &staging.files(), &work)
            .map_err(BuildError::Host)
    }

    fn copy(
        &mut self,
        action: &CopyAction,
        vertex: &Vertex,
        tree: &Root,
    ) -> Result<(), BuildError> {
        let mode = action
            .mode
            .as_deref()
            .map(ModeChange::parse)
            .transpose()
            .map_err(BuildError::instruction)?;
        let attributes = Attributes {
            owner: find_owner(tree, action.owner.as_ref())?,
            keep_owner: action.keep_owner,
            mode,
            unpack: action.unpack,
        };
        match &action.source {
            CopySource::Inline { name, content } => {
                let staging = self.store.stage()?;
                let mut file = staging.root().create_file(name, INLINE_MODE)?;
                file.write_all(content.as_bytes())
                    .map_err(|error| FsError::io("write", name, error))?;
                let tree_of_file = Tree {
                    root: staging.root(),
                    context: None,
                };
                let selected = tree_of_file.select(name)?;
                copy::copy(
                    staging.root(),
                    &selected,
                    tree,
                    &action.destination,
                    &attributes,
                )
            }
            CopySource::Input { input, path } => {
                let input = vertex.inputs.get(*input).copied().unwrap_or(Input::Scratch);
                let offered = self.files(input)?;
                let selected: Vec<Selected> = offered.tree().select(path)?;
                copy::copy(
                    offered.root(),
                    &selected,
                    tree,
                    &action.destination,
                    &attributes,
                )
            }
        }
    }

    /// Returns what an input offers; an address is fetched, a stage built.
    fn files(&mut self, input: Input) -> Result<Files<'a>, BuildError> {
        let Input::Vertex(id) = input else {
            return Err(BuildError::Source {
                message: "scratch holds no files".to_owned(),
            });
        };
        match &self.vertex(id).op {
            Op::Source(Source::Local) => match self.context.root() {
                Some(root) => Ok(Files::Context(self.context, root)),
                None => Err(BuildError::Source {
                    message: "the build context is empty".to_owned(),
                }),
            },
            Op::Source(Source::Http { url, file_name }) => {
                let (url, file_name) = (url.clone(), file_name.clone());
                self.fetch(id, &url, &file_name)
            }
            _ => {
                let chain = self.solve(input)?.diff_ids;
                if chain.is_empty() {
                    return Err(BuildError::Source {
                        message: "the stage that is copied from holds no files".to_owned(),
                    });
                }
                let view = self
                    .host
                    .view(&self.store.layer_dirs(&chain)?)
                    .map_err(BuildError::Host)?;
                Ok(Files::Root(view))
            }
        }
    }

    /// Fetches an address once.
    fn fetch(&mut self, id: VertexId, url: &str, file_name: &str) -> Result<Files<'a>, BuildError> {
        if !self.fetched.contains_key(&id) {
            let staging = self.store.stage()?;
            self.download(url, file_name, &staging)?;
            self.fetched.insert(id, staging);
        }
        match self.fetched.get(&id) {
            Some(staging) => Ok(Files::Root(staging.root().try_clone()?)),
            None => Err(BuildError::Source {
                message: format!("{url} was not fetched"),
            }),
        }
    }

    fn download(&self, url: &str, file_name: &str, staging: &Staging) -> Result<(), BuildError> {
        let fetched = self.host.fetch(url).map_err(BuildError::Host)?;
        let mut file = staging.root().create_file(file_name, DOWNLOAD_MODE)?;
        let mut body = fetched.body.take(MAX_DOWNLOAD_BYTES + 1);
        let mut buffer = vec![0; COPY_BUFFER_BYTES];
        let mut total = 0;
        loop {
            self.check_cancelled()?;
            let count = match body.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    return Err(BuildError::Source {
                        message: format!("cannot fetch {url}: {error}"),
                    });
                }
            };
            total += count as u64;
            let bytes = buffer.get(..count).unwrap_or_default();
            file.write_all(bytes)
                .map_err(|error| FsError::io("write", file_name, error))?;
        }
        if total > MAX_DOWNLOAD_BYTES {
            return Err(BuildError::Source {
                message: format!("{url} has more than {MAX_DOWNLOAD_BYTES} bytes"),
            });
        }
        if let Some(time) = fetched.last_modified {
            staging.root().set_times(file_name, time, time)?;
        }
        Ok(())
    }
}

impl Files<'_> {
    fn root(&self) -> &Root {
        match self {
            Self::Context(_, root) => root,
            Self::Root(root) => root,
        }
    }

    fn tree(&self) -> Tree<'_> {
        match self {
            Self::Context(context, root) => Tree {
                root,
                context: Some(context),
            },
            Self::Root(root) => Tree {
                root,
                context: None,
            },
        }
    }
}

fn find_owner(tree: &Root, wanted: Option<&Owner>) -> Result<Option<(u32, u32)>, BuildError> {
    wanted
        .map(|wanted| owner::resolve(tree, wanted))
        .transpose()
}
