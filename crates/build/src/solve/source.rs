//! Sources: images, build contexts, addresses, repositories (spec llb §2.2).

use std::collections::BTreeMap;

use wharf_image::{Digest, Platform};
use wharf_llb::{FileActionKind, FileInput, Op, SourceOp, Vertex, VertexId};

use super::key::Taking;
use super::node::{Node, Outcome};
use super::snapshot::Snapshot;
use super::{Solver, file};
use crate::BuildError;
use crate::cache;
use crate::content::{ContentDigest, Reading, content_digest};
use crate::context::Context;
use crate::copy::{self, Attributes};
use crate::select::{SelectOptions, Tree};

/// What kind of source an identifier names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scheme<'a> {
    /// An image by name.
    Image(&'a str),
    /// A build context by name.
    Local(&'a str),
    /// An address.
    Http(&'a str),
    /// A repository.
    Git(&'a str),
    /// An image in a directory.
    OciLayout(&'a str),
    /// Something else.
    Unknown,
}

/// Tells the kind of a source by its identifier.
pub(super) fn scheme(identifier: &str) -> Scheme<'_> {
    match identifier.split_once("://") {
        Some(("docker-image", name)) => Scheme::Image(name),
        Some(("local", name)) => Scheme::Local(name),
        Some(("git", _)) => Scheme::Git(identifier),
        Some(("http" | "https", _)) => Scheme::Http(identifier),
        Some(("oci-layout", name)) => Scheme::OciLayout(name),
        _ => Scheme::Unknown,
    }
}

/// Names an image of a platform: an index is the same for all of them.
pub(crate) fn image_key(identifier: &str, platform: Option<&Platform>) -> String {
    let platform = platform.map(ToString::to_string).unwrap_or_default();
    format!("{identifier} {platform}")
}

impl Solver<'_> {
    /// Finds out what is known of a source without any work.
    pub(super) fn look_up_source(
        &self,
        id: VertexId,
        source: &SourceOp,
        node: &mut Node,
    ) -> Result<(), BuildError> {
        match scheme(&source.identifier) {
            Scheme::Image(_) | Scheme::OciLayout(_) => {
                let snapshot = self.image(id, source)?;
                node.key = snapshot.result_key();
                node.snapshots = vec![snapshot];
                node.outcome = Outcome::Cached;
            }
            Scheme::Local(name) => {
                self.context(name)?;
            }
            Scheme::Http(_) => node.key = super::http::known_key(source),
            Scheme::Git(_) => node.key = super::git::known_key(source),
            Scheme::Unknown => {
                return Err(BuildError::Graph {
                    message: format!("unknown kind of source: {}", source.identifier),
                });
            }
        }
        Ok(())
    }

    fn image(&self, id: VertexId, source: &SourceOp) -> Result<Snapshot, BuildError> {
        let platform = self.input.graph.vertex(id).platform.as_ref();
        let key = image_key(&source.identifier, platform);
        let image = match self.input.images.get(&key) {
            Some(image) => image.clone(),
            None => {
                let mode = source.attributes.get("image.resolvemode");
                let pull = mode.map(String::as_str) == Some("pull");
                let found = match scheme(&source.identifier) {
                    Scheme::OciLayout(name) => self.host.layout_image(name, platform),
                    Scheme::Image(name) => self.host.base_image(name, pull, platform),
                    _ => Err(format!("{} is no image", source.identifier).into()),
                };
                found.map_err(BuildError::Host)?
            }
        };
        let diff_ids = &image.config.rootfs.diff_ids;
        self.hold(diff_ids, "the base image")?;
        Ok(Snapshot::named(diff_ids, diff_ids.len(), None))
    }

    pub(super) fn context(&self, name: &str) -> Result<&Context, BuildError> {
        let contexts: &BTreeMap<String, Context> = self.input.contexts;
        contexts.get(name).ok_or_else(|| BuildError::Source {
            message: format!("there is no build context named {name}"),
        })
    }

    /// Returns the build context that a vertex is, if it is one.
    pub(super) fn context_of(&self, id: VertexId) -> Option<&Context> {
        match &self.input.graph.vertex(id).op {
            Op::Source(source) => match scheme(&source.identifier) {
                Scheme::Local(name) => self.input.contexts.get(name),
                _ => None,
            },
            _ => None,
        }
    }

    /// Computes the contents that a vertex takes of build contexts.
    pub(super) fn take_contexts(&self, id: VertexId, node: &mut Node) -> Result<(), BuildError> {
        let vertex = self.input.graph.vertex(id);
        for (input, edge) in vertex.inputs.iter().enumerate() {
            let Some(context) = self.context_of(edge.vertex) else {
                continue;
            };
            let Some(Taking::Content(numbers)) = node.takings.get(input).cloned() else {
                continue;
            };
            for number in numbers {
                let reading = context.reading().ok_or_else(empty_context)?;
                let found = content(vertex, number, reading, Some(context))?;
                node.contents.push(((input, number), found));
            }
        }
        // Programs are given the files of a layer.
        if matches!(vertex.op, Op::Exec(_)) {
            node.forget_kept();
        }
        Ok(())
    }

    /// Brings in a source that needs work.
    pub(super) fn solve_source(
        &self,
        id: VertexId,
        source: &SourceOp,
    ) -> Result<(Outcome, Vec<Snapshot>), BuildError> {
        let (outcome, snapshot) = match scheme(&source.identifier) {
            Scheme::Local(name) if self.needs_layers(id) => self.local_layer(id, name)?,
            Scheme::Local(_) => return Ok((Outcome::Executed, Vec::new())),
            Scheme::Http(url) => self.fetch(id, source, url)?,
            Scheme::Git(_) => self.clone_repository(id, source)?,
            _ => {
                return Ok((
                    Outcome::Cached,
                    self.with_node(id, |node| node.snapshots.clone())
                        .unwrap_or_default(),
                ));
            }
        };
        Ok((outcome, vec![snapshot]))
    }

    /// Says whether anything takes a build context as a tree and not only copies from it, or it is what was asked for.
    fn needs_layers(&self, id: VertexId) -> bool {
        if self.input.wanted.iter().any(|edge| edge.vertex == id) {
            return true;
        }
        let state = self.lock();
        state.nodes.keys().any(|user| {
            let vertex = self.input.graph.vertex(*user);
            let takes = |input: usize| {
                vertex
                    .inputs
                    .get(input)
                    .is_some_and(|edge| edge.vertex == id)
            };
            match &vertex.op {
                Op::File(file) => file
                    .actions
                    .iter()
                    .any(|action| matches!(action.input, FileInput::Input(input) if takes(input))),
                _ => vertex.inputs.iter().any(|edge| edge.vertex == id),
            }
        })
    }

    /// Makes a layer of a build context, or finds the one of the same content.
    fn local_layer(&self, id: VertexId, name: &str) -> Result<(Outcome, Snapshot), BuildError> {
        let context = self.context(name)?;
        let Some(reading) = context.reading() else {
            return Ok((Outcome::Executed, Snapshot::default()));
        };
        let options = SelectOptions::default();
        let tree = Tree {
            reading,
            context: Some(context),
        };
        let selected = tree.select("/", &options)?;
        let content = content_digest(reading, selected, false)?;
        self.compare_users(id, reading, &content.taken);
        let key = cache::key_of("context", &serde_json::json!(content.digest));
        let made = self.find_or_make(id, key, || {
            let staging = self.store.stage()?;
            let attributes = Attributes {
                contents_only: true,
                ..Attributes::default()
            };
            let into = staging.root().into();
            let copied = copy::copy(reading, &content.taken, into, "/", &attributes)?;
            self.note_change(id, copied.changed);
            self.place(staging, &Snapshot::default(), &[])
        })?;
        self.tell_users(id);
        Ok(made)
    }
}

pub(super) fn empty_context() -> BuildError {
    BuildError::Source {
        message: "the build context is empty".to_owned(),
    }
}

/// Returns the content digest of what a numbered mount or action of a vertex takes.
pub(super) fn content(
    vertex: &Vertex,
    number: usize,
    reading: Reading<'_>,
    context: Option<&Context>,
) -> Result<ContentDigest, BuildError> {
    let tree = Tree { reading, context };
    match &vertex.op {
        Op::File(op) => match op.actions.get(number).map(|action| &action.kind) {
            Some(FileActionKind::Copy(copy)) => {
                let selected = tree.select(&copy.source, &file::select_options(copy))?;
                let keeps_owner = context.is_none() && copy.owner.is_none();
                content_digest(reading, selected, keeps_owner)
            }
            _ => Ok(nothing()),
        },
        Op::Exec(exec) => match exec.mounts.get(number) {
            Some(mount) => {
                let options = SelectOptions {
                    follows_symlink: true,
                    ..SelectOptions::default()
                };
                let selected = tree.select(&mount.selector, &options)?;
                content_digest(reading, selected, context.is_none())
            }
            None => Ok(nothing()),
        },
        _ => Ok(nothing()),
    }
}

/// Returns the content digest of nothing.
pub(super) fn nothing() -> ContentDigest {
    ContentDigest {
        digest: Digest::of(""),
        listing: crate::listing::Listing::default(),
        taken: std::sync::Arc::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::{Scheme, scheme};

    #[test]
    fn schemes() {
        for (identifier, expected) in [
            (
                "docker-image://docker.io/library/a:1",
                Scheme::Image("docker.io/library/a:1"),
            ),
            ("local://context", Scheme::Local("context")),
            ("https://a/b", Scheme::Http("https://a/b")),
            ("git://a/b.git#main", Scheme::Git("git://a/b.git#main")),
            ("oci-layout://x@sha256:1", Scheme::OciLayout("x@sha256:1")),
            ("ftp://a", Scheme::Unknown),
            ("a", Scheme::Unknown),
        ] {
            assert_eq!(scheme(identifier), expected, "{identifier}");
        }
    }
}
