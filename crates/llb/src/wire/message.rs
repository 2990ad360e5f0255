//! The messages (spec llb §1, §2), field for field.
//!
//! Maps are lists of entries here: the format's own map type of the library leaves empty values away, which changes digests.

use prost::{Message, Oneof};

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Definition {
    #[prost(bytes = "vec", repeated, tag = "1")]
    pub def: Vec<Vec<u8>>,
    #[prost(message, repeated, tag = "2")]
    pub metadata: Vec<MetadataEntry>,
    #[prost(message, optional, tag = "3")]
    pub source: Option<Source>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct MetadataEntry {
    #[prost(string, optional, tag = "1")]
    pub key: Option<String>,
    #[prost(message, optional, tag = "2")]
    pub value: Option<OpMetadata>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct OpMetadata {
    #[prost(bool, tag = "1")]
    pub ignore_cache: bool,
    #[prost(message, repeated, tag = "2")]
    pub description: Vec<Pair>,
    #[prost(message, optional, tag = "4")]
    pub export_cache: Option<ExportCache>,
    #[prost(message, repeated, tag = "5")]
    pub caps: Vec<Flag>,
    #[prost(message, optional, tag = "6")]
    pub progress_group: Option<ProgressGroup>,
    #[prost(message, optional, tag = "7")]
    pub linux_resources: Option<LinuxResources>,
}

/// An entry of a map from text to text.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct Pair {
    #[prost(string, optional, tag = "1")]
    pub key: Option<String>,
    #[prost(string, optional, tag = "2")]
    pub value: Option<String>,
}

/// An entry of a map from text to truth.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct Flag {
    #[prost(string, optional, tag = "1")]
    pub key: Option<String>,
    #[prost(bool, optional, tag = "2")]
    pub value: Option<bool>,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct ExportCache {
    #[prost(bool, tag = "1")]
    pub value: bool,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct ProgressGroup {
    #[prost(string, tag = "1")]
    pub id: String,
    #[prost(string, tag = "2")]
    pub name: String,
    #[prost(bool, tag = "3")]
    pub weak: bool,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct LinuxResources {
    #[prost(int64, tag = "1")]
    pub memory: i64,
    #[prost(int64, tag = "2")]
    pub memory_swap: i64,
    #[prost(uint64, tag = "3")]
    pub cpu_shares: u64,
    #[prost(uint64, tag = "4")]
    pub cpu_period: u64,
    #[prost(int64, tag = "5")]
    pub cpu_quota: i64,
    #[prost(string, tag = "6")]
    pub cpuset_cpus: String,
    #[prost(string, tag = "7")]
    pub cpuset_mems: String,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Source {
    #[prost(message, repeated, tag = "1")]
    pub locations: Vec<LocationsEntry>,
    #[prost(message, repeated, tag = "2")]
    pub infos: Vec<SourceInfo>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct LocationsEntry {
    #[prost(string, optional, tag = "1")]
    pub key: Option<String>,
    #[prost(message, optional, tag = "2")]
    pub value: Option<Locations>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Locations {
    #[prost(message, repeated, tag = "1")]
    pub locations: Vec<Location>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Location {
    #[prost(int32, tag = "1")]
    pub source_index: i32,
    #[prost(message, repeated, tag = "2")]
    pub ranges: Vec<Range>,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct Range {
    #[prost(message, optional, tag = "1")]
    pub start: Option<Position>,
    #[prost(message, optional, tag = "2")]
    pub end: Option<Position>,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct Position {
    #[prost(int32, tag = "1")]
    pub line: i32,
    #[prost(int32, tag = "2")]
    pub character: i32,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct SourceInfo {
    #[prost(string, tag = "1")]
    pub filename: String,
    #[prost(bytes = "vec", tag = "2")]
    pub data: Vec<u8>,
    #[prost(message, optional, tag = "3")]
    pub definition: Option<Definition>,
    #[prost(string, tag = "4")]
    pub language: String,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Op {
    #[prost(message, repeated, tag = "1")]
    pub inputs: Vec<Input>,
    #[prost(oneof = "OpKind", tags = "2, 3, 4, 5, 6, 7, 8")]
    pub op: Option<OpKind>,
    #[prost(message, optional, tag = "10")]
    pub platform: Option<Platform>,
    #[prost(message, optional, tag = "11")]
    pub constraints: Option<WorkerConstraints>,
}

#[derive(Clone, PartialEq, Oneof)]
#[allow(clippy::large_enum_variant, reason = "short-lived")]
pub(crate) enum OpKind {
    #[prost(message, tag = "2")]
    Exec(Exec),
    #[prost(message, tag = "3")]
    Source(SourceOp),
    #[prost(message, tag = "4")]
    File(FileOp),
    #[prost(message, tag = "5")]
    Build(BuildOp),
    #[prost(message, tag = "6")]
    Merge(MergeOp),
    #[prost(message, tag = "7")]
    Diff(DiffOp),
    #[prost(message, tag = "8")]
    Passthrough(PassthroughOp),
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct Input {
    #[prost(string, tag = "1")]
    pub digest: String,
    #[prost(int64, tag = "2")]
    pub index: i64,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct Platform {
    #[prost(string, tag = "1")]
    pub architecture: String,
    #[prost(string, tag = "2")]
    pub os: String,
    #[prost(string, tag = "3")]
    pub variant: String,
    #[prost(string, tag = "4")]
    pub os_version: String,
    #[prost(string, repeated, tag = "5")]
    pub os_features: Vec<String>,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct WorkerConstraints {
    #[prost(string, repeated, tag = "1")]
    pub filter: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Exec {
    #[prost(message, optional, tag = "1")]
    pub meta: Option<Meta>,
    #[prost(message, repeated, tag = "2")]
    pub mounts: Vec<Mount>,
    #[prost(int32, tag = "3")]
    pub network: i32,
    #[prost(int32, tag = "4")]
    pub security: i32,
    #[prost(message, repeated, tag = "5")]
    pub secretenv: Vec<SecretEnv>,
    #[prost(message, repeated, tag = "6")]
    pub cdi_devices: Vec<CdiDevice>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Meta {
    #[prost(string, repeated, tag = "1")]
    pub args: Vec<String>,
    #[prost(string, repeated, tag = "2")]
    pub env: Vec<String>,
    #[prost(string, tag = "3")]
    pub cwd: String,
    #[prost(string, tag = "4")]
    pub user: String,
    #[prost(message, optional, tag = "5")]
    pub proxy_env: Option<ProxyEnv>,
    #[prost(message, repeated, tag = "6")]
    pub extra_hosts: Vec<HostIp>,
    #[prost(string, tag = "7")]
    pub hostname: String,
    #[prost(message, repeated, tag = "9")]
    pub ulimit: Vec<Ulimit>,
    #[prost(string, tag = "10")]
    pub cgroup_parent: String,
    #[prost(bool, tag = "11")]
    pub remove_mount_stubs_recursive: bool,
    #[prost(int32, repeated, tag = "12")]
    pub valid_exit_codes: Vec<i32>,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct ProxyEnv {
    #[prost(string, tag = "1")]
    pub http_proxy: String,
    #[prost(string, tag = "2")]
    pub https_proxy: String,
    #[prost(string, tag = "3")]
    pub ftp_proxy: String,
    #[prost(string, tag = "4")]
    pub no_proxy: String,
    #[prost(string, tag = "5")]
    pub all_proxy: String,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct HostIp {
    #[prost(string, tag = "1")]
    pub host: String,
    #[prost(string, tag = "2")]
    pub ip: String,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct Ulimit {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(int64, tag = "2")]
    pub soft: i64,
    #[prost(int64, tag = "3")]
    pub hard: i64,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct SecretEnv {
    #[prost(string, tag = "1")]
    pub id: String,
    #[prost(string, tag = "2")]
    pub name: String,
    #[prost(bool, tag = "3")]
    pub optional: bool,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct CdiDevice {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(bool, tag = "2")]
    pub optional: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Mount {
    #[prost(int64, tag = "1")]
    pub input: i64,
    #[prost(string, tag = "2")]
    pub selector: String,
    #[prost(string, tag = "3")]
    pub dest: String,
    #[prost(int64, tag = "4")]
    pub output: i64,
    #[prost(bool, tag = "5")]
    pub readonly: bool,
    #[prost(int32, tag = "6")]
    pub mount_type: i32,
    #[prost(message, optional, tag = "19")]
    pub tmpfs_opt: Option<TmpfsOpt>,
    #[prost(message, optional, tag = "20")]
    pub cache_opt: Option<CacheOpt>,
    #[prost(message, optional, tag = "21")]
    pub secret_opt: Option<FileOpt>,
    #[prost(message, optional, tag = "22")]
    pub ssh_opt: Option<FileOpt>,
    #[prost(string, tag = "23")]
    pub result_id: String,
    #[prost(int32, tag = "24")]
    pub content_cache: i32,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct TmpfsOpt {
    #[prost(int64, tag = "1")]
    pub size: i64,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct CacheOpt {
    #[prost(string, tag = "1")]
    pub id: String,
    #[prost(int32, tag = "2")]
    pub sharing: i32,
}

/// Options of secrets and of agents' sockets.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct FileOpt {
    #[prost(string, tag = "1")]
    pub id: String,
    #[prost(uint32, tag = "2")]
    pub uid: u32,
    #[prost(uint32, tag = "3")]
    pub gid: u32,
    #[prost(uint32, tag = "4")]
    pub mode: u32,
    #[prost(bool, tag = "5")]
    pub optional: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct SourceOp {
    #[prost(string, tag = "1")]
    pub identifier: String,
    #[prost(message, repeated, tag = "2")]
    pub attrs: Vec<Pair>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct BuildOp {
    #[prost(int64, tag = "1")]
    pub builder: i64,
    #[prost(message, repeated, tag = "2")]
    pub inputs: Vec<BuildInputEntry>,
    #[prost(message, optional, tag = "3")]
    pub def: Option<Definition>,
    #[prost(message, repeated, tag = "4")]
    pub attrs: Vec<Pair>,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct BuildInputEntry {
    #[prost(string, optional, tag = "1")]
    pub key: Option<String>,
    #[prost(message, optional, tag = "2")]
    pub value: Option<OpInput>,
}

/// The number of an input, wherever the format has a message for one.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct OpInput {
    #[prost(int64, tag = "1")]
    pub input: i64,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct MergeOp {
    #[prost(message, repeated, tag = "1")]
    pub inputs: Vec<OpInput>,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct DiffOp {
    #[prost(message, optional, tag = "1")]
    pub lower: Option<OpInput>,
    #[prost(message, optional, tag = "2")]
    pub upper: Option<OpInput>,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct PassthroughOp {
    #[prost(string, tag = "1")]
    pub id: String,
    #[prost(int64, repeated, tag = "2")]
    pub outputs: Vec<i64>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct FileOp {
    #[prost(message, repeated, tag = "2")]
    pub actions: Vec<FileAction>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct FileAction {
    #[prost(int64, tag = "1")]
    pub input: i64,
    #[prost(int64, tag = "2")]
    pub secondary_input: i64,
    #[prost(int64, tag = "3")]
    pub output: i64,
    #[prost(oneof = "FileActionKind", tags = "4, 5, 6, 7, 8")]
    pub action: Option<FileActionKind>,
}

#[derive(Clone, PartialEq, Oneof)]
#[allow(clippy::large_enum_variant, reason = "short-lived")]
pub(crate) enum FileActionKind {
    #[prost(message, tag = "4")]
    Copy(FileActionCopy),
    #[prost(message, tag = "5")]
    Mkfile(FileActionMkFile),
    #[prost(message, tag = "6")]
    Mkdir(FileActionMkDir),
    #[prost(message, tag = "7")]
    Rm(FileActionRm),
    #[prost(message, tag = "8")]
    Symlink(FileActionSymlink),
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct FileActionCopy {
    #[prost(string, tag = "1")]
    pub src: String,
    #[prost(string, tag = "2")]
    pub dest: String,
    #[prost(message, optional, tag = "3")]
    pub owner: Option<ChownOpt>,
    #[prost(int32, tag = "4")]
    pub mode: i32,
    #[prost(bool, tag = "5")]
    pub follow_symlink: bool,
    #[prost(bool, tag = "6")]
    pub dir_copy_contents: bool,
    #[prost(bool, tag = "7")]
    pub attempt_unpack: bool,
    #[prost(bool, tag = "8")]
    pub create_dest_path: bool,
    #[prost(bool, tag = "9")]
    pub allow_wildcard: bool,
    #[prost(bool, tag = "10")]
    pub allow_empty_wildcard: bool,
    #[prost(int64, tag = "11")]
    pub timestamp: i64,
    #[prost(string, repeated, tag = "12")]
    pub include_patterns: Vec<String>,
    #[prost(string, repeated, tag = "13")]
    pub exclude_patterns: Vec<String>,
    #[prost(bool, tag = "14")]
    pub always_replace: bool,
    #[prost(string, tag = "15")]
    pub mode_str: String,
    #[prost(string, repeated, tag = "16")]
    pub required_paths: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct FileActionMkFile {
    #[prost(string, tag = "1")]
    pub path: String,
    #[prost(int32, tag = "2")]
    pub mode: i32,
    #[prost(bytes = "vec", tag = "3")]
    pub data: Vec<u8>,
    #[prost(message, optional, tag = "4")]
    pub owner: Option<ChownOpt>,
    #[prost(int64, tag = "5")]
    pub timestamp: i64,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct FileActionMkDir {
    #[prost(string, tag = "1")]
    pub path: String,
    #[prost(int32, tag = "2")]
    pub mode: i32,
    #[prost(bool, tag = "3")]
    pub make_parents: bool,
    #[prost(message, optional, tag = "4")]
    pub owner: Option<ChownOpt>,
    #[prost(int64, tag = "5")]
    pub timestamp: i64,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct FileActionRm {
    #[prost(string, tag = "1")]
    pub path: String,
    #[prost(bool, tag = "2")]
    pub allow_not_found: bool,
    #[prost(bool, tag = "3")]
    pub allow_wildcard: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct FileActionSymlink {
    #[prost(string, tag = "1")]
    pub oldpath: String,
    #[prost(string, tag = "2")]
    pub newpath: String,
    #[prost(message, optional, tag = "3")]
    pub owner: Option<ChownOpt>,
    #[prost(int64, tag = "4")]
    pub timestamp: i64,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ChownOpt {
    #[prost(message, optional, tag = "1")]
    pub user: Option<UserOpt>,
    #[prost(message, optional, tag = "2")]
    pub group: Option<UserOpt>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct UserOpt {
    #[prost(oneof = "UserKind", tags = "1, 2")]
    pub user: Option<UserKind>,
}

#[derive(Clone, PartialEq, Eq, Oneof)]
pub(crate) enum UserKind {
    #[prost(message, tag = "1")]
    ByName(NamedUserOpt),
    #[prost(uint32, tag = "2")]
    ById(u32),
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct NamedUserOpt {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(int64, tag = "2")]
    pub input: i64,
}
