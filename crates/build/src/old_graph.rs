//! The build graph, laid out as LLB (spec llb §1–§2): what is done to which inputs, and nothing about how.

use std::collections::HashMap;

use serde::Serialize;
use wharf_image::{DiffId, Digest};

/// Names a vertex of one graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub(crate) struct VertexId(usize);

/// Vertices, producers before users. Equal vertices are one.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Graph {
    vertices: Vec<Vertex>,
    by_digest: HashMap<Digest, VertexId>,
}

/// An operation on the results of others.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Vertex {
    /// What is done.
    pub op: Op,
    /// What it is done to; what an input is for is up to the operation.
    pub inputs: Vec<Input>,
    /// Digest of operation and inputs.
    pub digest: Digest,
}

/// The tree that an operation starts from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) enum Input {
    /// Nothing.
    Scratch,
    /// The result of another vertex.
    Vertex(VertexId),
}

/// What a vertex does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Op {
    /// Brings in files from elsewhere; no inputs.
    Source(Source),
    /// Runs a program on input 0.
    Exec(Exec),
    /// Changes files of input 0; further inputs are copied from.
    File(FileOp),
}

/// Where files come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Source {
    /// An image; two with the same layers are the same source.
    Image {
        /// Its layers, lowest first.
        layers: Vec<DiffId>,
    },
    /// The build context.
    Local,
    /// An address; the result is one file.
    Http {
        /// The address.
        url: String,
        /// The file's name.
        file_name: String,
    },
}

/// A program to run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Exec {
    /// Program and arguments.
    pub args: Vec<String>,
    /// `KEY=value`, in order.
    pub env: Vec<String>,
    /// Working directory.
    pub cwd: String,
    /// `user[:group]`; empty for root.
    pub user: String,
    /// `default`, `none` or `host`, as RUN asks.
    pub network: &'static str,
    /// Proxy variables: they reach the program and change no cache key (spec llb §4.1).
    #[serde(skip)]
    pub proxy_env: Vec<String>,
}

/// Changes to files, one after the other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct FileOp {
    /// The changes.
    pub actions: Vec<FileAction>,
}

/// One change to files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum FileAction {
    /// Copies files.
    Copy(CopyAction),
    /// Makes a directory and all above it.
    Mkdir {
        /// Where.
        path: String,
        /// Mode of what is made.
        mode: u32,
        /// Owner of what is made.
        owner: Option<Owner>,
    },
}

/// Files to copy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct CopyAction {
    /// What is copied.
    pub source: CopySource,
    /// Where to: absolute; a `/` at the end makes it a directory.
    pub destination: String,
    /// Owner of all that is copied or made, instead of the source's.
    pub owner: Option<Owner>,
    /// Mode of all that is copied or made, instead of the source's.
    pub mode: Option<String>,
    /// Whether files keep their owner; those of the context and of addresses belong to root.
    pub keep_owner: bool,
    /// Whether a source that is a symlink stands for what it leads to.
    pub follow_symlink: bool,
    /// Whether a regular file that is an archive is unpacked.
    pub unpack: bool,
}

/// What is copied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum CopySource {
    /// Files of an input.
    Input {
        /// Which input of the vertex.
        input: usize,
        /// Path or pattern in it, as written.
        path: String,
    },
    /// A file whose content the Dockerfile holds.
    Inline {
        /// Its name.
        name: String,
        /// Its content.
        content: String,
    },
}

/// An owner to be looked up in the tree that is changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Owner {
    /// Name or number.
    pub user: String,
    /// Name or number; the user's own group where there is none.
    pub group: Option<String>,
}

impl Owner {
    /// Reads `user[:group]`.
    pub fn parse(text: &str) -> Self {
        match text.split_once(':') {
            Some((user, group)) => Self {
                user: user.to_owned(),
                group: Some(group.to_owned()).filter(|group| !group.is_empty()),
            },
            None => Self {
                user: text.to_owned(),
                group: None,
            },
        }
    }
}

impl Graph {
    /// Adds a vertex, or returns the equal one that is there.
    pub fn add(&mut self, op: Op, inputs: Vec<Input>) -> VertexId {
        let digest = self.digest(&op, &inputs);
        if let Some(id) = self.by_digest.get(&digest) {
            return *id;
        }
        let id = VertexId(self.vertices.len());
        self.vertices.push(Vertex { op, inputs, digest });
        self.by_digest.insert(digest, id);
        id
    }

    /// Returns a vertex.
    pub fn vertex(&self, id: VertexId) -> &Vertex {
        // Identifiers are only made by `add`, and nothing is ever taken out.
        &self.vertices[id.0]
    }

    fn digest(&self, op: &Op, inputs: &[Input]) -> Digest {
        let inputs: Vec<Option<Digest>> = inputs
            .iter()
            .map(|input| match input {
                Input::Scratch => None,
                Input::Vertex(id) => Some(self.vertex(*id).digest),
            })
            .collect();
        let json = serde_json::to_vec(&(op, inputs))
            .expect("plain data with string keys serialises into memory");
        Digest::of(json)
    }
}

#[cfg(test)]
mod tests {
    use super::{Exec, Graph, Input, Op, Owner, Source};

    fn exec(text: &str) -> Op {
        Op::Exec(Exec {
            args: vec![text.to_owned()],
            env: Vec::new(),
            cwd: "/".to_owned(),
            user: String::new(),
            network: "default",
            proxy_env: Vec::new(),
        })
    }

    #[test]
    fn equal_vertices_are_one() {
        let mut graph = Graph::default();
        let base = graph.add(Op::Source(Source::Image { layers: Vec::new() }), Vec::new());
        let first = graph.add(exec("a"), vec![Input::Vertex(base)]);
        assert_eq!(first, graph.add(exec("a"), vec![Input::Vertex(base)]));
        assert_ne!(first, graph.add(exec("a"), vec![Input::Vertex(first)]));
        assert_ne!(first, graph.add(exec("b"), vec![Input::Vertex(base)]));
        assert_ne!(first, graph.add(exec("a"), vec![Input::Scratch]));
    }

    #[test]
    fn owners() {
        for (text, user, group) in [
            ("1:2", "1", Some("2")),
            ("app", "app", None),
            ("app:", "app", None),
        ] {
            let owner = Owner::parse(text);
            assert_eq!((owner.user.as_str(), owner.group.as_deref()), (user, group));
        }
    }
}
