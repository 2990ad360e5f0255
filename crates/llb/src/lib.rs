//! LLB, the build graph (spec llb §1, §2): operations and what they stand on, typed.
//!
//! Field names are the format's own in our spelling; what each means is told in the spec.

#![allow(
    missing_docs,
    reason = "the fields are the format's, described in its specification"
)]

use std::collections::{BTreeMap, BTreeSet, HashMap};
use wharf_image::{Digest, Platform};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VertexId(usize);
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Edge {
    pub vertex: VertexId,
    pub output: u32,
}
#[derive(Debug, Clone, PartialEq)]
pub struct Vertex {
    pub op: Op,
    pub inputs: Vec<Edge>,
    pub platform: Option<Platform>,
    pub digest: Digest,
    pub metadata: Metadata,
}
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Metadata {
    pub ignore_cache: bool,
    pub custom_name: String,
    pub description: BTreeMap<String, String>,
    pub caps: BTreeSet<String>,
}
impl Metadata {
    /// Takes over what is known of an equal vertex: the later name counts, capabilities add up.
    fn merge(&mut self, other: Metadata) {
        self.ignore_cache |= other.ignore_cache;
        if !other.custom_name.is_empty() {
            self.custom_name = other.custom_name;
        }
        self.description.extend(other.description);
        self.caps.extend(other.caps);
    }
}
#[derive(Debug, Clone, PartialEq)]
#[allow(
    clippy::large_enum_variant,
    reason = "graphs are small beside what they build"
)]
pub enum Op {
    Exec(ExecOp),
    Source(SourceOp),
    File(FileOp),
    Merge(MergeOp),
    Diff(DiffOp),
    Build(BuildOp),
}
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ExecOp {
    pub meta: ExecMeta,
    pub mounts: Vec<Mount>,
    pub network: NetworkMode,
    pub security: SecurityMode,
    pub secret_env: Vec<SecretEnv>,
}
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ExecMeta {
    pub args: Vec<String>,
    pub env: Vec<String>,
    pub cwd: String,
    pub user: String,
    pub proxy_env: Option<ProxyEnv>,
    pub extra_hosts: Vec<HostIp>,
    pub hostname: String,
    pub ulimits: Vec<Ulimit>,
    pub cgroup_parent: String,
    pub valid_exit_codes: Vec<i32>,
}
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ProxyEnv {
    pub http: String,
    pub https: String,
    pub ftp: String,
    pub no: String,
    pub all: String,
}
#[derive(Debug, Clone, PartialEq, Default)]
pub struct HostIp {
    pub host: String,
    pub ip: String,
}
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Ulimit {
    pub name: String,
    pub soft: i64,
    pub hard: i64,
}
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum NetworkMode {
    #[default]
    Sandbox,
    Host,
    None,
}
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SecurityMode {
    #[default]
    Sandbox,
    Insecure,
}
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SecretEnv {
    pub id: String,
    pub name: String,
    pub optional: bool,
}
#[derive(Debug, Clone, PartialEq)]
pub struct Mount {
    pub input: Option<usize>,
    pub selector: String,
    pub destination: String,
    pub output: Option<u32>,
    pub read_only: bool,
    pub kind: MountKind,
}
#[derive(Debug, Clone, PartialEq)]
pub enum MountKind {
    Bind,
    Secret(SecretMount),
    Ssh(SshMount),
    Cache { id: String, sharing: CacheSharing },
    Tmpfs { size_bytes: i64 },
}
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SecretMount {
    pub id: String,
    pub uid: u32,
    pub gid: u32,
    pub mode: u32,
    pub optional: bool,
}
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SshMount {
    pub id: String,
    pub uid: u32,
    pub gid: u32,
    pub mode: u32,
    pub optional: bool,
}
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CacheSharing {
    Shared,
    Private,
    Locked,
}
#[derive(Debug, Clone, PartialEq)]
pub struct SourceOp {
    pub identifier: String,
    pub attributes: BTreeMap<String, String>,
}
#[derive(Debug, Clone, PartialEq)]
pub struct FileOp {
    pub actions: Vec<FileAction>,
}
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileInput {
    Scratch,
    Input(usize),
    Action(usize),
}
#[derive(Debug, Clone, PartialEq)]
pub struct FileAction {
    pub input: FileInput,
    pub secondary: FileInput,
    pub output: Option<u32>,
    pub kind: FileActionKind,
}
#[derive(Debug, Clone, PartialEq)]
pub enum FileActionKind {
    Copy(CopyAction),
    Mkfile(MkfileAction),
    Mkdir(MkdirAction),
    Rm(RmAction),
    Symlink(SymlinkAction),
}
#[derive(Debug, Clone, PartialEq, Default)]
pub struct CopyAction {
    pub source: String,
    pub destination: String,
    pub owner: Option<Chown>,
    pub mode: Option<u32>,
    pub mode_text: String,
    pub follow_symlink: bool,
    pub dir_copy_contents: bool,
    pub attempt_unpack: bool,
    pub create_dest_path: bool,
    pub allow_wildcard: bool,
    pub allow_empty_wildcard: bool,
    pub timestamp_ns: Option<i64>,
    pub include_patterns: Vec<String>,
    pub exclude_patterns: Vec<String>,
    pub always_replace: bool,
    pub required_paths: Vec<String>,
}
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Chown {
    pub user: Option<Account>,
    pub group: Option<Account>,
}
#[derive(Debug, Clone, PartialEq)]
pub enum Account {
    Name { name: String, input: FileInput },
    Id(u32),
}
#[derive(Debug, Clone, PartialEq, Default)]
pub struct MkfileAction {
    pub path: String,
    pub mode: u32,
    pub data: Vec<u8>,
    pub owner: Option<Chown>,
    pub timestamp_ns: Option<i64>,
}
#[derive(Debug, Clone, PartialEq, Default)]
pub struct MkdirAction {
    pub path: String,
    pub mode: u32,
    pub make_parents: bool,
    pub owner: Option<Chown>,
    pub timestamp_ns: Option<i64>,
}
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RmAction {
    pub path: String,
    pub allow_not_found: bool,
    pub allow_wildcard: bool,
}
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SymlinkAction {
    pub target: String,
    pub path: String,
    pub owner: Option<Chown>,
    pub timestamp_ns: Option<i64>,
}
#[derive(Debug, Clone, PartialEq)]
pub struct MergeOp {
    pub inputs: Vec<usize>,
}
#[derive(Debug, Clone, PartialEq)]
pub struct DiffOp {
    pub lower: Option<usize>,
    pub upper: Option<usize>,
}
#[derive(Debug, Clone, PartialEq)]
pub struct BuildOp {
    pub attributes: BTreeMap<String, String>,
    pub inputs: BTreeMap<String, usize>,
}

#[derive(Debug, Clone, PartialEq, Default)]
pub struct Graph {
    vertices: Vec<Vertex>,
    by_digest: HashMap<Digest, VertexId>,
}
impl Graph {
    pub fn add(
        &mut self,
        op: Op,
        inputs: Vec<Edge>,
        platform: Option<Platform>,
        metadata: Metadata,
    ) -> VertexId {
        let inputs_text: Vec<String> = inputs
            .iter()
            .map(|edge| format!("{} {}", self.vertex(edge.vertex).digest, edge.output))
            .collect();
        let digest = Digest::of(format!("{op:?} {inputs_text:?}"));
        if let Some(id) = self.by_digest.get(&digest).copied() {
            if let Some(known) = self.vertices.get_mut(id.0) {
                known.metadata.merge(metadata);
            }
            return id;
        }
        let id = VertexId(self.vertices.len());
        self.vertices.push(Vertex {
            op,
            inputs,
            platform,
            digest,
            metadata,
        });
        self.by_digest.insert(digest, id);
        id
    }
    /// Gives a vertex another name.
    pub fn rename(&mut self, id: VertexId, name: String) {
        if let Some(vertex) = self.vertices.get_mut(id.0) {
            vertex.metadata.custom_name = name;
        }
    }
    pub fn vertex(&self, id: VertexId) -> &Vertex {
        &self.vertices[id.0]
    }
    pub fn iter(&self) -> impl Iterator<Item = (VertexId, &Vertex)> {
        self.vertices
            .iter()
            .enumerate()
            .map(|(i, v)| (VertexId(i), v))
    }
}

impl Graph {
    pub fn from_definition(_: &[u8]) -> Result<(Graph, Option<Edge>), String> {
        Err("reading graphs from their binary form is not supported yet".into())
    }
}
