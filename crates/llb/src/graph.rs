//! The graph: vertices, each named by the digest of its operation's bytes (spec llb §1).

use std::collections::HashMap;
use std::sync::Arc;

use wharf_image::{Digest, Platform};

use crate::caps;
use crate::metadata::Metadata;
use crate::op::Op;
use crate::wire;

/// A vertex of one graph; producers come before those that use them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VertexId(usize);

/// One output of a vertex.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Edge {
    /// The vertex.
    pub vertex: VertexId,
    /// The output's number, from 0.
    pub output: u32,
}

/// An operation with what it stands on.
#[derive(Debug, Clone, PartialEq)]
pub struct Vertex {
    /// What it does.
    pub op: Op,
    /// What it stands on.
    pub inputs: Vec<Edge>,
    /// The platform, where it matters.
    pub platform: Option<Platform>,
    /// What a worker has to be to run it, as containerd's filters.
    pub worker_filter: Vec<String>,
    /// SHA-256 of its bytes.
    pub digest: Digest,
    /// What is known of it besides.
    pub metadata: Metadata,
    bytes: Arc<[u8]>,
}

impl Vertex {
    /// Returns the operation's protobuf message: as it came, or as this crate writes it.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// A graph. Equal operations are one vertex.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Graph {
    vertices: Vec<Vertex>,
    by_digest: HashMap<Digest, VertexId>,
}

impl Graph {
    /// Adds a vertex, or finds the equal one. What it needs of a builder is added to its metadata.
    pub fn add(
        &mut self,
        op: Op,
        inputs: Vec<Edge>,
        platform: Option<Platform>,
        mut metadata: Metadata,
    ) -> VertexId {
        let needed = caps::of_op(&op).into_iter();
        metadata.caps.extend(needed.map(str::to_owned));
        let named: Vec<(Digest, u32)> = inputs
            .iter()
            .map(|edge| (self.vertex(edge.vertex).digest, edge.output))
            .collect();
        let bytes = wire::encode_op(&op, &named, platform.as_ref());
        let vertex = Vertex {
            op,
            inputs,
            platform,
            worker_filter: Vec::new(),
            digest: Digest::of(&bytes),
            metadata,
            bytes: bytes.into(),
        };
        self.insert(vertex)
    }

    /// Adds a vertex whose bytes came from outside.
    pub(crate) fn add_received(
        &mut self,
        op: wire::DecodedOp,
        inputs: Vec<Edge>,
        (digest, bytes): (Digest, &[u8]),
        metadata: Metadata,
    ) -> VertexId {
        self.insert(Vertex {
            op: op.op,
            inputs,
            platform: op.platform,
            worker_filter: op.worker_filter,
            digest,
            metadata,
            bytes: bytes.into(),
        })
    }

    fn insert(&mut self, vertex: Vertex) -> VertexId {
        if let Some(id) = self.by_digest.get(&vertex.digest).copied() {
            if let Some(known) = self.vertices.get_mut(id.0) {
                known.metadata.merge(vertex.metadata);
            }
            return id;
        }
        let id = VertexId(self.vertices.len());
        self.by_digest.insert(vertex.digest, id);
        self.vertices.push(vertex);
        id
    }

    /// Gives a vertex another name.
    pub fn rename(&mut self, id: VertexId, name: String) {
        if let Some(vertex) = self.vertices.get_mut(id.0) {
            vertex.metadata.custom_name = name;
        }
    }

    /// Returns a vertex of this graph.
    pub fn vertex(&self, id: VertexId) -> &Vertex {
        &self.vertices[id.0]
    }

    /// Returns the vertex of a digest.
    pub fn find(&self, digest: &Digest) -> Option<VertexId> {
        self.by_digest.get(digest).copied()
    }

    /// Returns all vertices, producers before those that use them.
    pub fn iter(&self) -> impl Iterator<Item = (VertexId, &Vertex)> {
        self.vertices
            .iter()
            .enumerate()
            .map(|(i, v)| (VertexId(i), v))
    }
}
