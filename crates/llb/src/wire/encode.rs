//! From operations to their bytes.

use std::collections::BTreeMap;

use prost::Message as _;
use wharf_image::{Digest, Platform};

use super::message::{self, FileActionKind as ActionMessage, OpKind, UserKind};
use crate::exec::{
    CacheSharing, ContentCache, ExecMeta, ExecOp, Mount, MountKind, NetworkMode, SecurityMode,
};
use crate::file::{Account, Chown, CopyAction, FileAction, FileActionKind, FileInput};
use crate::op::{BuildOp, DiffOp, Op};

/// Input or output number that means none.
pub(super) const NONE: i64 = -1;

/// Returns an operation's bytes; `inputs` are digests and numbers of outputs.
pub(crate) fn encode_op(op: &Op, inputs: &[(Digest, u32)], platform: Option<&Platform>) -> Vec<u8> {
    let kind = match op {
        Op::Exec(exec) => OpKind::Exec(exec_message(exec)),
        Op::Source(source) => OpKind::Source(message::SourceOp {
            identifier: source.identifier.clone(),
            attrs: pairs(&source.attributes),
        }),
        Op::File(file) => OpKind::File(message::FileOp {
            actions: file
                .actions
                .iter()
                .map(|action| action_message(action, inputs.len()))
                .collect(),
        }),
        Op::Merge(merge) => OpKind::Merge(message::MergeOp {
            inputs: merge.inputs.iter().copied().map(op_input).collect(),
        }),
        Op::Diff(diff) => OpKind::Diff(diff_message(diff)),
        Op::Build(build) => OpKind::Build(build_message(build)),
    };
    let around = message::Op {
        inputs: input_messages(inputs),
        op: None,
        platform: platform.map(platform_message),
        constraints: Some(message::WorkerConstraints::default()),
    };
    let inside = message::Op {
        op: Some(kind),
        ..message::Op::default()
    };
    // Go writes the alternatives behind all other fields, whatever their numbers.
    [around.encode_to_vec(), inside.encode_to_vec()].concat()
}

/// Returns the bytes of the last operation, which names the result.
pub(crate) fn encode_result(result: (Digest, u32)) -> Vec<u8> {
    let message = message::Op {
        inputs: input_messages(&[result]),
        ..message::Op::default()
    };
    message.encode_to_vec()
}

/// Returns a map's entries in the order of the keys.
pub(super) fn pairs(map: &BTreeMap<String, String>) -> Vec<message::Pair> {
    map.iter()
        .map(|(key, value)| message::Pair {
            key: Some(key.clone()),
            value: Some(value.clone()),
        })
        .collect()
}

fn input_messages(inputs: &[(Digest, u32)]) -> Vec<message::Input> {
    inputs
        .iter()
        .map(|(digest, index)| message::Input {
            digest: digest.to_string(),
            index: i64::from(*index),
        })
        .collect()
}

fn platform_message(platform: &Platform) -> message::Platform {
    message::Platform {
        architecture: platform.architecture.clone(),
        os: platform.os.clone(),
        variant: platform.variant.clone(),
        os_version: platform.os_version.clone(),
        os_features: platform.os_features.clone(),
    }
}

fn number(index: usize) -> i64 {
    // Vectors have fewer entries than this.
    i64::try_from(index).unwrap_or(i64::MAX)
}

fn op_input(index: usize) -> message::OpInput {
    message::OpInput {
        input: number(index),
    }
}

fn input_number(input: Option<usize>) -> i64 {
    input.map_or(NONE, number)
}

fn diff_message(diff: &DiffOp) -> message::DiffOp {
    let side = |input: Option<usize>| {
        Some(message::OpInput {
            input: input_number(input),
        })
    };
    message::DiffOp {
        lower: side(diff.lower),
        upper: side(diff.upper),
    }
}

fn build_message(build: &BuildOp) -> message::BuildOp {
    let entry = |(name, input): (&String, &usize)| message::BuildInputEntry {
        key: Some(name.clone()),
        value: Some(op_input(*input)),
    };
    message::BuildOp {
        builder: input_number(build.builder),
        inputs: build.inputs.iter().map(entry).collect(),
        def: build
            .definition
            .as_deref()
            .map(super::metadata::definition_message),
        attrs: pairs(&build.attributes),
    }
}

fn exec_message(exec: &ExecOp) -> message::Exec {
    message::Exec {
        meta: Some(meta_message(&exec.meta)),
        mounts: exec.mounts.iter().map(mount_message).collect(),
        network: match exec.network {
            NetworkMode::Sandbox => 0,
            NetworkMode::Host => 1,
            NetworkMode::None => 2,
        },
        security: match exec.security {
            SecurityMode::Sandbox => 0,
            SecurityMode::Insecure => 1,
        },
        secretenv: exec
            .secret_env
            .iter()
            .map(|secret| message::SecretEnv {
                id: secret.id.clone(),
                name: secret.name.clone(),
                optional: secret.optional,
            })
            .collect(),
        cdi_devices: exec
            .devices
            .iter()
            .map(|device| message::CdiDevice {
                name: device.name.clone(),
                optional: device.optional,
            })
            .collect(),
    }
}

fn meta_message(meta: &ExecMeta) -> message::Meta {
    message::Meta {
        args: meta.args.clone(),
        env: meta.env.clone(),
        cwd: meta.cwd.clone(),
        user: meta.user.clone(),
        proxy_env: meta.proxy_env.as_ref().map(|proxy| message::ProxyEnv {
            http_proxy: proxy.http.clone(),
            https_proxy: proxy.https.clone(),
            ftp_proxy: proxy.ftp.clone(),
            no_proxy: proxy.no.clone(),
            all_proxy: proxy.all.clone(),
        }),
        extra_hosts: meta
            .extra_hosts
            .iter()
            .map(|extra| message::HostIp {
                host: extra.host.clone(),
                ip: extra.ip.clone(),
            })
            .collect(),
        hostname: meta.hostname.clone(),
        ulimit: meta
            .ulimits
            .iter()
            .map(|limit| message::Ulimit {
                name: limit.name.clone(),
                soft: limit.soft,
                hard: limit.hard,
            })
            .collect(),
        cgroup_parent: meta.cgroup_parent.clone(),
        remove_mount_stubs_recursive: meta.remove_mount_stubs_recursive,
        valid_exit_codes: meta.valid_exit_codes.clone(),
    }
}

fn mount_message(mount: &Mount) -> message::Mount {
    let mut message = message::Mount {
        input: input_number(mount.input),
        selector: mount.selector.clone(),
        dest: mount.destination.clone(),
        output: mount.output.map_or(NONE, i64::from),
        readonly: mount.read_only,
        content_cache: match mount.content_cache {
            ContentCache::Default => 0,
            ContentCache::On => 1,
            ContentCache::Off => 2,
        },
        ..message::Mount::default()
    };
    let file = |id: &str, uid, gid, mode, optional| {
        Some(message::FileOpt {
            id: id.to_owned(),
            uid,
            gid,
            mode,
            optional,
        })
    };
    match &mount.kind {
        MountKind::Bind => {}
        MountKind::Secret(one) => {
            message.mount_type = 1;
            message.secret_opt = file(&one.id, one.uid, one.gid, one.mode, one.optional);
            // What is no tree has no output; the format leaves the number at its default.
            message.output = 0;
        }
        MountKind::Ssh(one) => {
            message.mount_type = 2;
            message.ssh_opt = file(&one.id, one.uid, one.gid, one.mode, one.optional);
            message.output = 0;
        }
        MountKind::Cache { id, sharing } => {
            message.mount_type = 3;
            message.cache_opt = Some(message::CacheOpt {
                id: id.clone(),
                sharing: match sharing {
                    CacheSharing::Shared => 0,
                    CacheSharing::Private => 1,
                    CacheSharing::Locked => 2,
                },
            });
        }
        MountKind::Tmpfs { size_bytes } => {
            message.mount_type = 4;
            message.tmpfs_opt = Some(message::TmpfsOpt { size: *size_bytes });
        }
    }
    message
}

/// Returns the number of what an action takes: inputs come first, then the results of actions.
fn file_input(input: FileInput, inputs: usize) -> i64 {
    match input {
        FileInput::Scratch => NONE,
        FileInput::Input(index) => number(index),
        FileInput::Action(index) => number(inputs + index),
    }
}

fn action_message(action: &FileAction, inputs: usize) -> message::FileAction {
    let owner = |owner: &Option<Chown>| owner.as_ref().map(|owner| chown(owner, inputs));
    let time = |time: Option<i64>| time.unwrap_or(NONE);
    let kind = match &action.kind {
        FileActionKind::Copy(copy) => ActionMessage::Copy(copy_message(copy, inputs)),
        FileActionKind::Mkfile(file) => ActionMessage::Mkfile(message::FileActionMkFile {
            path: file.path.clone(),
            mode: mode(file.mode),
            data: file.data.clone(),
            owner: owner(&file.owner),
            timestamp: time(file.timestamp_ns),
        }),
        FileActionKind::Mkdir(directory) => ActionMessage::Mkdir(message::FileActionMkDir {
            path: directory.path.clone(),
            mode: mode(directory.mode),
            make_parents: directory.make_parents,
            owner: owner(&directory.owner),
            timestamp: time(directory.timestamp_ns),
        }),
        FileActionKind::Rm(remove) => ActionMessage::Rm(message::FileActionRm {
            path: remove.path.clone(),
            allow_not_found: remove.allow_not_found,
            allow_wildcard: remove.allow_wildcard,
        }),
        FileActionKind::Symlink(link) => ActionMessage::Symlink(message::FileActionSymlink {
            oldpath: link.target.clone(),
            newpath: link.path.clone(),
            owner: owner(&link.owner),
            timestamp: time(link.timestamp_ns),
        }),
    };
    message::FileAction {
        input: file_input(action.input, inputs),
        secondary_input: file_input(action.secondary, inputs),
        output: action.output.map_or(NONE, i64::from),
        action: Some(kind),
    }
}

fn copy_message(copy: &CopyAction, inputs: usize) -> message::FileActionCopy {
    let number = match copy.mode {
        Some(number) => mode(number),
        None if copy.mode_text.is_empty() => -1,
        None => 0,
    };
    message::FileActionCopy {
        src: copy.source.clone(),
        dest: copy.destination.clone(),
        owner: copy.owner.as_ref().map(|owner| chown(owner, inputs)),
        mode: number,
        follow_symlink: copy.follow_symlink,
        dir_copy_contents: copy.dir_copy_contents,
        attempt_unpack: copy.attempt_unpack,
        create_dest_path: copy.create_dest_path,
        allow_wildcard: copy.allow_wildcard,
        allow_empty_wildcard: copy.allow_empty_wildcard,
        timestamp: copy.timestamp_ns.unwrap_or(NONE),
        include_patterns: copy.include_patterns.clone(),
        exclude_patterns: copy.exclude_patterns.clone(),
        always_replace: copy.always_replace,
        mode_str: copy.mode_text.clone(),
        required_paths: copy.required_paths.clone(),
    }
}

fn mode(mode: u32) -> i32 {
    i32::try_from(mode).unwrap_or(i32::MAX)
}

fn chown(owner: &Chown, inputs: usize) -> message::ChownOpt {
    let account = |account: &Option<Account>| {
        let account = account.as_ref()?;
        let user = match account {
            Account::Name { name, input } => UserKind::ByName(message::NamedUserOpt {
                name: name.clone(),
                input: file_input(*input, inputs),
            }),
            Account::Id(id) => UserKind::ById(*id),
        };
        Some(message::UserOpt { user: Some(user) })
    };
    message::ChownOpt {
        user: account(&owner.user),
        group: account(&owner.group),
    }
}
