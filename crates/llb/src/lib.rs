//! LLB, the build graph (spec llb §1, §2): operations and what they stand on, typed, and their protobuf form.
//!
//! A [`Graph`] is made by [`Graph::add`], or read from a [`Definition`] with [`Definition::graph`]. A vertex is named by the digest
//! of its operation's bytes as BuildKit's client writes them, so that equal graphs have equal names here and there.
//! Field names are the format's own in our spelling.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod caps;
mod definition;
mod error;
mod exec;
mod file;
mod graph;
pub mod limits;
mod metadata;
mod op;
mod order;
mod wire;

pub use definition::{Definition, Location, Position, SourceInfo, SourceMap};
pub use error::LlbError;
pub use exec::{
    CacheSharing, ContentCache, Device, ExecMeta, ExecOp, HostIp, Mount, MountKind, NetworkMode,
    ProxyEnv, SecretEnv, SecretMount, SecurityMode, SshMount, Ulimit,
};
pub use file::{
    Account, Chown, CopyAction, FileAction, FileActionKind, FileInput, FileOp, MkdirAction,
    MkfileAction, RmAction, SymlinkAction,
};
pub use graph::{Edge, Graph, Vertex, VertexId};
pub use metadata::{Metadata, ProgressGroup, Resources};
pub use op::{BuildOp, DEFINITION_INPUT, DiffOp, MergeOp, Op, SourceOp};
