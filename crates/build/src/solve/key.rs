//! Structured keys: all of an operation that its result depends on, as JSON that also explains a later miss
//! (spec llb §4.1, §4.2).

use serde_json::{Value, json};
use wharf_llb::{
    Account, CacheSharing, Chown, ContentCache, CopyAction, ExecOp, FileAction, FileActionKind,
    FileInput, FileOp, Mount, MountKind, NetworkMode, Op, SecurityMode, Vertex,
};

/// What an operation takes in and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Taking {
    /// The whole tree, by the way it was made or by its layers.
    Tree,
    /// Files of it, by their content; one number for each copy or mount of this input.
    Content(Vec<usize>),
}

/// Returns the kind and the parts of an operation that count, inputs not included.
pub(crate) fn parts(vertex: &Vertex) -> (&'static str, Value) {
    let platform = vertex.platform.as_ref().map(ToString::to_string);
    let (kind, op) = match &vertex.op {
        Op::Exec(exec) => ("exec", exec_parts(exec)),
        Op::File(file) => ("file", file_parts(file)),
        Op::Source(source) => (
            "source",
            json!({ "identifier": source.identifier, "attributes": source.attributes }),
        ),
        Op::Merge(merge) => ("merge", json!({ "inputs": merge.inputs })),
        Op::Diff(diff) => ("diff", json!({ "lower": diff.lower, "upper": diff.upper })),
        Op::Build(build) => (
            "build",
            json!({
                "attributes": build.attributes,
                "inputs": build.inputs,
                "definition": build.definition.as_ref().map(|held| wharf_image::Digest::of(held.encode())),
            }),
        ),
    };
    (kind, json!({ "op": op, "platform": platform }))
}

/// Returns how each input of a vertex counts.
pub(crate) fn takings(vertex: &Vertex) -> Vec<Taking> {
    let mut takings = vec![Taking::Content(Vec::new()); vertex.inputs.len()];
    let mut take = |input: usize, how: Option<usize>| {
        if let Some(slot) = takings.get_mut(input) {
            match (slot, how) {
                (Taking::Content(list), Some(number)) => list.push(number),
                (slot, None) => *slot = Taking::Tree,
                (Taking::Tree, Some(_)) => {}
            }
        }
    };
    match &vertex.op {
        Op::Exec(exec) => {
            for (number, mount) in exec.mounts.iter().enumerate() {
                let Some(input) = mount.input else { continue };
                let by_content = is_counted_by_content(mount);
                match mount.kind {
                    MountKind::Bind => take(input, by_content.then_some(number)),
                    // What a cache mount begins with does not change what comes out.
                    MountKind::Cache { .. } => {}
                    _ => take(input, None),
                }
            }
        }
        Op::File(file) => {
            for (number, action) in file.actions.iter().enumerate() {
                if let FileInput::Input(input) = action.input {
                    take(input, None);
                }
                if let FileInput::Input(input) = action.secondary {
                    let is_copy = matches!(action.kind, FileActionKind::Copy(_));
                    take(input, is_copy.then_some(number));
                }
            }
        }
        Op::Source(_) | Op::Merge(_) | Op::Diff(_) | Op::Build(_) => {
            for input in 0..vertex.inputs.len() {
                take(input, None);
            }
        }
    }
    takings
}

/// Returns the input whose files the vertex changes: what it leads to stands on those.
pub(crate) fn state_input(vertex: &Vertex) -> Option<usize> {
    match &vertex.op {
        Op::Exec(exec) => {
            let root = exec.mounts.iter().find(|mount| mount.destination == "/")?;
            root.input
        }
        Op::File(file) => file.actions.iter().find_map(|action| match action.input {
            FileInput::Input(input) => Some(input),
            _ => None,
        }),
        Op::Merge(merge) => merge.inputs.first().copied(),
        Op::Source(_) | Op::Diff(_) | Op::Build(_) => None,
    }
}

/// Returns which parts of an input are counted by content.
pub(crate) fn selectors(vertex: &Vertex, input: usize) -> Vec<&str> {
    match &vertex.op {
        Op::Exec(exec) => {
            let mounts = exec.mounts.iter();
            let taken = mounts.filter(|mount| mount.input == Some(input));
            taken
                .filter(|mount| is_counted_by_content(mount))
                .map(|mount| mount.selector.as_str())
                .collect()
        }
        Op::File(file) => file
            .actions
            .iter()
            .filter(|action| action.secondary == FileInput::Input(input))
            .filter_map(|action| match &action.kind {
                FileActionKind::Copy(copy) => Some(copy.source.as_str()),
                _ => None,
            })
            .collect(),
        _ => Vec::new(),
    }
}

/// A bind mount counts by what is in it unless its changes are kept, it is the root, or whoever made the graph wants it
/// otherwise.
fn is_counted_by_content(mount: &Mount) -> bool {
    let by_default = mount.output.is_none() || mount.read_only;
    mount.destination != "/"
        && match mount.content_cache {
            ContentCache::Default => by_default,
            ContentCache::On => true,
            ContentCache::Off => false,
        }
}

fn exec_parts(exec: &ExecOp) -> Value {
    let meta = &exec.meta;
    let hosts: Vec<&str> = meta
        .extra_hosts
        .iter()
        .map(|extra| extra.host.as_str())
        .collect();
    let ulimits: Vec<Value> = meta
        .ulimits
        .iter()
        .map(|limit| json!([limit.name, limit.soft, limit.hard]))
        .collect();
    let secrets: Vec<Value> = exec
        .secret_env
        .iter()
        .map(|secret| json!([secret.name, secret.id, secret.optional]))
        .collect();
    json!({
        "args": meta.args,
        "env": meta.env,
        "cwd": meta.cwd,
        "user": meta.user,
        "hostname": meta.hostname,
        "hosts": hosts,
        "ulimits": ulimits,
        "valid_exit_codes": meta.valid_exit_codes,
        "network": match exec.network {
            NetworkMode::Host => "host",
            NetworkMode::None => "none",
            _ => "default",
        },
        "security": if exec.security == SecurityMode::Insecure { "insecure" } else { "sandbox" },
        "secret_env": secrets,
        "mounts": exec.mounts.iter().map(mount_parts).collect::<Vec<_>>(),
    })
}

fn mount_parts(mount: &Mount) -> Value {
    let kind = match &mount.kind {
        MountKind::Bind => json!("bind"),
        MountKind::Secret(secret) => {
            json!([
                "secret",
                secret.id,
                secret.uid,
                secret.gid,
                secret.mode,
                secret.optional
            ])
        }
        MountKind::Ssh(ssh) => json!(["ssh", ssh.id, ssh.uid, ssh.gid, ssh.mode, ssh.optional]),
        MountKind::Cache { id, sharing } => {
            let is_default = id.trim_start_matches('/')
                == mount.destination.trim_start_matches('/')
                && *sharing == CacheSharing::Shared;
            if is_default {
                json!("cache")
            } else {
                json!(["cache", id, format!("{sharing:?}").to_lowercase()])
            }
        }
        MountKind::Tmpfs { size_bytes } => json!(["tmpfs", size_bytes]),
    };
    json!({
        "destination": mount.destination,
        "kind": kind,
        "input": mount.input,
        "output": mount.output,
        "read_only": mount.read_only,
        // Where the content counts, the selector counts with it.
        "selector": if is_counted_by_content(mount) { "" } else { mount.selector.as_str() },
    })
}

fn file_parts(file: &FileOp) -> Value {
    file.actions.iter().map(action_parts).collect()
}

fn action_parts(action: &FileAction) -> Value {
    let kind = match &action.kind {
        FileActionKind::Copy(copy) => {
            let mut parts = copy_parts(copy);
            parts["from_input"] = json!(matches!(action.secondary, FileInput::Input(_)));
            json!({ "copy": parts })
        }
        FileActionKind::Mkfile(file) => json!({ "mkfile": {
            "path": file.path, "mode": file.mode, "owner": owner_parts(file.owner.as_ref()),
            "data": wharf_image::Digest::of(&file.data), "timestamp": file.timestamp_ns,
        }}),
        FileActionKind::Mkdir(directory) => json!({ "mkdir": {
            "path": directory.path, "mode": directory.mode, "parents": directory.make_parents,
            "owner": owner_parts(directory.owner.as_ref()), "timestamp": directory.timestamp_ns,
        }}),
        FileActionKind::Rm(remove) => json!({ "rm": {
            "path": remove.path, "allow_not_found": remove.allow_not_found, "wildcard": remove.allow_wildcard,
        }}),
        FileActionKind::Symlink(link) => json!({ "symlink": {
            "target": link.target, "path": link.path, "owner": owner_parts(link.owner.as_ref()),
            "timestamp": link.timestamp_ns,
        }}),
    };
    json!([
        input_parts(action.input),
        input_parts(action.secondary),
        action.output,
        kind
    ])
}

fn copy_parts(copy: &CopyAction) -> Value {
    // Where the source lies does not matter: its name does, and what it holds.
    let name = copy.source.trim_end_matches('/').rsplit('/').next();
    json!({
        "source": name.unwrap_or_default(),
        "destination": copy.destination,
        "owner": owner_parts(copy.owner.as_ref()),
        "mode": if copy.mode_text.is_empty() { copy.mode.map(|mode| format!("{mode:o}")) } else { Some(copy.mode_text.clone()) },
        "follow": copy.follow_symlink,
        "contents": copy.dir_copy_contents,
        "unpack": copy.attempt_unpack,
        "create": copy.create_dest_path,
        "wildcard": copy.allow_wildcard,
        "include": copy.include_patterns,
        "exclude": copy.exclude_patterns,
        "replace": copy.always_replace,
        "timestamp": copy.timestamp_ns,
    })
}

fn owner_parts(owner: Option<&Chown>) -> Value {
    let account = |account: &Option<Account>| match account {
        None => Value::Null,
        Some(Account::Id(id)) => json!(id),
        Some(Account::Name { name, .. }) => json!(name),
    };
    owner.map_or(Value::Null, |owner| {
        json!([account(&owner.user), account(&owner.group)])
    })
}

fn input_parts(input: FileInput) -> Value {
    match input {
        FileInput::Scratch => Value::Null,
        FileInput::Input(number) => json!(number),
        FileInput::Action(number) => json!(["action", number]),
    }
}
