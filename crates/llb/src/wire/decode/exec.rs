//! Operations that run a program, with their mounts.

use super::{Fault, input, invalid, output};
use crate::exec::{
    CacheSharing, ContentCache, Device, ExecMeta, ExecOp, HostIp, Mount, MountKind, NetworkMode,
    ProxyEnv, SecretEnv, SecretMount, SecurityMode, SshMount, Ulimit,
};
use crate::wire::message;

/// Reads an operation that runs a program; `count` is the number of its inputs.
pub(super) fn exec_op(message: message::Exec, count: usize) -> Result<ExecOp, Fault> {
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
