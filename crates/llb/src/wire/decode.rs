//! From bytes to operations, every number checked.

use std::collections::BTreeMap;

use prost::Message as _;
use wharf_image::Platform;

use super::encode::NONE;
use super::message::{self, FileActionKind as ActionMessage, OpKind, UserKind};
use crate::exec::{
    CacheSharing, ContentCache, Device, ExecMeta, ExecOp, HostIp, Mount, MountKind, NetworkMode,
    ProxyEnv, SecretEnv, SecretMount, SecurityMode, SshMount, Ulimit,
};
use crate::file::{
    Account, Chown, CopyAction, FileAction, FileActionKind, FileInput, FileOp, MkdirAction,
    MkfileAction, RmAction, SymlinkAction,
};
use crate::op::{BuildOp, DiffOp, MergeOp, Op, SourceOp};

/// An operation as it was read; none of its inputs is known to exist.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct DecodedOp {
    pub op: Op,
    /// Digests of the inputs, as written, with the numbers of their outputs.
    pub inputs: Vec<(String, i64)>,
    pub platform: Option<Platform>,
    pub worker_filter: Vec<String>,
}

/// What bytes turned out to be.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Decoded {
    /// An operation.
    Op(DecodedOp),
    /// Inputs and nothing that is done with them.
    Inputs(Vec<(String, i64)>),
}

/// Why bytes are no operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fault {
    /// They are no such message.
    Malformed(String),
    /// It is an operation of another kind.
    Unknown,
    /// A field has a value that makes no sense.
    Invalid(String),
}

/// Reads an operation.
pub(crate) fn decode_op(bytes: &[u8]) -> Result<Decoded, Fault> {
    let message =
        message::Op::decode(bytes).map_err(|error| Fault::Malformed(error.to_string()))?;
    let count = message.inputs.len();
    let inputs = message
        .inputs
        .into_iter()
        .map(|input| (input.digest, input.index))
        .collect();
    let Some(kind) = message.op else {
        return Ok(Decoded::Inputs(inputs));
    };
    let op = match kind {
        OpKind::Exec(exec) => Op::Exec(exec_op(exec, count)?),
        OpKind::Source(source) => Op::Source(source_op(source)?),
        OpKind::File(file) => Op::File(file_op(file, count)?),
        OpKind::Merge(merge) => Op::Merge(merge_op(&merge, count)?),
        OpKind::Diff(diff) => Op::Diff(diff_op(&diff, count)?),
        OpKind::Build(build) => Op::Build(build_op(build, count)?),
        OpKind::Passthrough(_) => return Err(Fault::Unknown),
    };
    Ok(Decoded::Op(DecodedOp {
        op,
        inputs,
        platform: message.platform.map(platform),
        worker_filter: message.constraints.unwrap_or_default().filter,
    }))
}

/// Returns a map's entries; of equal keys the last counts.
pub(super) fn map(pairs: Vec<message::Pair>) -> BTreeMap<String, String> {
    pairs
        .into_iter()
        .map(|pair| (pair.key.unwrap_or_default(), pair.value.unwrap_or_default()))
        .collect()
}

fn invalid<T>(message: impl Into<String>) -> Result<T, Fault> {
    Err(Fault::Invalid(message.into()))
}

fn platform(message: message::Platform) -> Platform {
    Platform {
        os: message.os,
        architecture: message.architecture,
        variant: message.variant,
        os_version: message.os_version,
        os_features: message.os_features,
    }
}

/// Reads the number of an input; -1 is none.
fn input(number: i64, count: usize) -> Result<Option<usize>, Fault> {
    if number == NONE {
        return Ok(None);
    }
    match usize::try_from(number) {
        Ok(index) if index < count => Ok(Some(index)),
        _ => invalid(format!("there is no input {number}: it has {count}")),
    }
}

fn real_input(number: i64, count: usize) -> Result<usize, Fault> {
    match input(number, count)? {
        Some(index) => Ok(index),
        None => invalid("an input is missing"),
    }
}

fn output(number: i64) -> Result<Option<u32>, Fault> {
    if number == NONE {
        return Ok(None);
    }
    match u32::try_from(number) {
        Ok(number) => Ok(Some(number)),
        Err(_) => invalid(format!("{number} is no number of an output")),
    }
}

fn source_op(message: message::SourceOp) -> Result<SourceOp, Fault> {
    if message.identifier.is_empty() {
        return invalid("a source without an identifier");
    }
    Ok(SourceOp {
        identifier: message.identifier,
        attributes: map(message.attrs),
    })
}

fn merge_op(message: &message::MergeOp, count: usize) -> Result<MergeOp, Fault> {
    let mut inputs = Vec::with_capacity(message.inputs.len());
    for one in &message.inputs {
        inputs.extend(input(one.input, count)?);
    }
    Ok(MergeOp { inputs })
}

fn diff_op(message: &message::DiffOp, count: usize) -> Result<DiffOp, Fault> {
    let side = |one: &Option<message::OpInput>, name: &str| match one {
        Some(one) => input(one.input, count),
        None => invalid(format!("a difference without its {name} side")),
    };
    Ok(DiffOp {
        lower: side(&message.lower, "lower")?,
        upper: side(&message.upper, "upper")?,
    })
}

fn build_op(message: message::BuildOp, count: usize) -> Result<BuildOp, Fault> {
    let mut inputs = BTreeMap::new();
    for entry in message.inputs {
        let number = entry.value.unwrap_or_default().input;
        inputs.insert(entry.key.unwrap_or_default(), real_input(number, count)?);
    }
    let definition = message.def.map(super::metadata::definition).transpose();
    Ok(BuildOp {
        builder: input(message.builder, count)?,
        inputs,
        definition: definition
            .map_err(|error| Fault::Invalid(error.to_string()))?
            .map(Box::new),
        attributes: map(message.attrs),
    })
}

fn exec_op(message: message::Exec, count: usize) -> Result<ExecOp, Fault> {
    let Some(meta) = message.meta else {
        return invalid("invalid exec op with no meta");
    };
    if meta.args.is_empty() {
        return invalid("invalid exec op with no args");
    }
    let mounts = message
        .mounts
        .into_iter()
        .map(|one| mount(one, count))
        .collect::<Result<Vec<_>, _>>()?;
    if !mounts.iter().any(|mount| mount.destination == "/") {
        return invalid("invalid exec op with no rootfs");
    }
    Ok(ExecOp {
        meta: exec_meta(meta),
        mounts,
        network: match message.network {
            0 => NetworkMode::Sandbox,
            1 => NetworkMode::Host,
            2 => NetworkMode::None,
            other => return invalid(format!("unknown network mode {other}")),
        },
        security: match message.security {
            0 => SecurityMode::Sandbox,
            1 => SecurityMode::Insecure,
            other => return invalid(format!("unknown security mode {other}")),
        },
        secret_env: message
            .secretenv
            .into_iter()
            .map(|secret| SecretEnv {
                id: secret.id,
                name: secret.name,
                optional: secret.optional,
            })
            .collect(),
        devices: message
            .cdi_devices
            .into_iter()
            .map(|device| Device {
                name: device.name,
                optional: device.optional,
            })
            .collect(),
    })
}

fn exec_meta(meta: message::Meta) -> ExecMeta {
    ExecMeta {
        args: meta.args,
        env: meta.env,
        cwd: meta.cwd,
        user: meta.user,
        proxy_env: meta.proxy_env.map(|proxy| ProxyEnv {
            http: proxy.http_proxy,
            https: proxy.https_proxy,
            ftp: proxy.ftp_proxy,
            no: proxy.no_proxy,
            all: proxy.all_proxy,
        }),
        extra_hosts: meta
            .extra_hosts
            .into_iter()
            .map(|extra| HostIp {
                host: extra.host,
                ip: extra.ip,
            })
            .collect(),
        hostname: meta.hostname,
        ulimits: meta
            .ulimit
            .into_iter()
            .map(|limit| Ulimit {
                name: limit.name,
                soft: limit.soft,
                hard: limit.hard,
            })
            .collect(),
        cgroup_parent: meta.cgroup_parent,
        remove_mount_stubs_recursive: meta.remove_mount_stubs_recursive,
        valid_exit_codes: meta.valid_exit_codes,
    }
}

fn mount(message: message::Mount, count: usize) -> Result<Mount, Fault> {
    let kind = match message.mount_type {
        0 => MountKind::Bind,
        1 => match message.secret_opt {
            Some(one) => MountKind::Secret(SecretMount {
                id: one.id,
                uid: one.uid,
                gid: one.gid,
                mode: one.mode,
                optional: one.optional,
            }),
            None => return invalid("a secret mount without options"),
        },
        2 => match message.ssh_opt {
            Some(one) => MountKind::Ssh(SshMount {
                id: one.id,
                uid: one.uid,
                gid: one.gid,
                mode: one.mode,
                optional: one.optional,
            }),
            None => return invalid("an ssh mount without options"),
        },
        3 => cache_kind(message.cache_opt)?,
        4 => MountKind::Tmpfs {
            size_bytes: message.tmpfs_opt.unwrap_or_default().size,
        },
        other => return invalid(format!("unknown kind of mount {other}")),
    };
    // Older clients leave both numbers of what is no tree at 0.
    let is_tree = !matches!(kind, MountKind::Secret(_) | MountKind::Ssh(_));
    Ok(Mount {
        input: if is_tree {
            input(message.input, count)?
        } else {
            None
        },
        selector: message.selector,
        destination: message.dest,
        output: if is_tree {
            output(message.output)?
        } else {
            None
        },
        read_only: message.readonly,
        kind,
        content_cache: match message.content_cache {
            0 => ContentCache::Default,
            1 => ContentCache::On,
            2 => ContentCache::Off,
            other => return invalid(format!("unknown content cache mode {other}")),
        },
    })
}

fn cache_kind(message: Option<message::CacheOpt>) -> Result<MountKind, Fault> {
    let Some(cache) = message else {
        return invalid("a cache mount without options");
    };
    let sharing = match cache.sharing {
        0 => CacheSharing::Shared,
        1 => CacheSharing::Private,
        2 => CacheSharing::Locked,
        other => return invalid(format!("unknown sharing of a cache mount {other}")),
    };
    Ok(MountKind::Cache {
        id: cache.id,
        sharing,
    })
}

fn file_op(message: message::FileOp, count: usize) -> Result<FileOp, Fault> {
    if message.actions.is_empty() {
        return invalid("invalid file op with no actions");
    }
    let actions = message.actions.into_iter().enumerate();
    let actions = actions.map(|(number, action)| file_action(action, &Place { count, number }));
    Ok(FileOp {
        actions: actions.collect::<Result<_, _>>()?,
    })
}

/// Where an action stands.
struct Place {
    /// Inputs of the operation.
    count: usize,
    /// The action's own number.
    number: usize,
}

impl Place {
    fn input(&self, number: i64) -> Result<FileInput, Fault> {
        if number == NONE {
            return Ok(FileInput::Scratch);
        }
        match usize::try_from(number) {
            Ok(index) if index < self.count => Ok(FileInput::Input(index)),
            Ok(index) if index < self.count + self.number => {
                Ok(FileInput::Action(index - self.count))
            }
            _ => invalid(format!(
                "action {} takes {number}: there are {} inputs and {} actions above",
                self.number, self.count, self.number
            )),
        }
    }

    fn account(&self, message: Option<message::UserOpt>) -> Result<Option<Account>, Fault> {
        Ok(match message.and_then(|message| message.user) {
            None => None,
            Some(UserKind::ById(id)) => Some(Account::Id(id)),
            Some(UserKind::ByName(named)) => Some(Account::Name {
                name: named.name,
                input: self.input(named.input)?,
            }),
        })
    }

    fn owner(&self, message: Option<message::ChownOpt>) -> Result<Option<Chown>, Fault> {
        let Some(message) = message else {
            return Ok(None);
        };
        Ok(Some(Chown {
            user: self.account(message.user)?,
            group: self.account(message.group)?,
        }))
    }
}

fn mode(number: i32) -> Result<u32, Fault> {
    u32::try_from(number).or_else(|_| invalid(format!("{number} are no permissions")))
}

fn time(nanoseconds: i64) -> Option<i64> {
    (nanoseconds != NONE).then_some(nanoseconds)
}

fn file_action(message: message::FileAction, place: &Place) -> Result<FileAction, Fault> {
    let Some(kind) = message.action else {
        return invalid(format!(
            "action {} does nothing that is known here",
            place.number
        ));
    };
    let kind = match kind {
        ActionMessage::Copy(copy) => FileActionKind::Copy(copy_action(copy, place)?),
        ActionMessage::Mkfile(file) => FileActionKind::Mkfile(MkfileAction {
            path: file.path,
            mode: mode(file.mode)?,
            data: file.data,
            owner: place.owner(file.owner)?,
            timestamp_ns: time(file.timestamp),
        }),
        ActionMessage::Mkdir(directory) => FileActionKind::Mkdir(MkdirAction {
            path: directory.path,
            mode: mode(directory.mode)?,
            make_parents: directory.make_parents,
            owner: place.owner(directory.owner)?,
            timestamp_ns: time(directory.timestamp),
        }),
        ActionMessage::Rm(remove) => FileActionKind::Rm(RmAction {
            path: remove.path,
            allow_not_found: remove.allow_not_found,
            allow_wildcard: remove.allow_wildcard,
        }),
        ActionMessage::Symlink(link) => FileActionKind::Symlink(SymlinkAction {
            target: link.oldpath,
            path: link.newpath,
            owner: place.owner(link.owner)?,
            timestamp_ns: time(link.timestamp),
        }),
    };
    Ok(FileAction {
        input: place.input(message.input)?,
        secondary: place.input(message.secondary_input)?,
        output: output(message.output)?,
        kind,
    })
}

fn copy_action(copy: message::FileActionCopy, place: &Place) -> Result<CopyAction, Fault> {
    let is_unset = copy.mode == -1 || (copy.mode == 0 && !copy.mode_str.is_empty());
    Ok(CopyAction {
        source: copy.src,
        destination: copy.dest,
        owner: place.owner(copy.owner)?,
        mode: if is_unset {
            None
        } else {
            Some(mode(copy.mode)?)
        },
        mode_text: copy.mode_str,
        follow_symlink: copy.follow_symlink,
        dir_copy_contents: copy.dir_copy_contents,
        attempt_unpack: copy.attempt_unpack,
        create_dest_path: copy.create_dest_path,
        allow_wildcard: copy.allow_wildcard,
        allow_empty_wildcard: copy.allow_empty_wildcard,
        timestamp_ns: time(copy.timestamp),
        include_patterns: copy.include_patterns,
        exclude_patterns: copy.exclude_patterns,
        always_replace: copy.always_replace,
        required_paths: copy.required_paths,
    })
}
