//! Dockerfiles as build graphs: the image's config, and what is done in which order.

use std::sync::Arc;

use serde_json::{Map, Value, json};
use wharf_build::{BaseImage, BuildError, Frontend, lower_dockerfile};
use wharf_image::{Digest, ImageConfig, Platform, Reference};
use wharf_llb::{
    Account, CacheSharing, Chown, Definition, Edge, ExecOp, FileActionKind, Graph, Mount,
    MountKind, NetworkMode, Op, SecurityMode,
};

use super::text;
use crate::{Document, Vector, Verdict};

/// How the reference ends where an image is not there.
pub(super) const MISSING: &str = ": not found";

/// Compares the image and the operations, or the text of the mistake.
pub(super) fn check(vector: &Vector, document: &Document) -> Verdict {
    let expected = &vector.expected;
    let found = answer(&vector.input, document);
    match (found, expected["error"].as_str()) {
        (Err(found), Some(wanted)) if same_mistake(&found, wanted) => Ok(()),
        (Err(found), _) => Err(format!("refused: {found}")),
        (Ok((image, _)), Some(_)) => Err(format!("found {image}")),
        (Ok((image, ops)), None) => {
            let image = normal(image);
            if image != normal(expected["image"].clone()) {
                return Err(format!("found the image {image}"));
            }
            same_operations(&expected["ops"], &ops)
        }
    }
}

/// Compares what is told first; the source snippet behind it is our own.
fn same_mistake(found: &str, wanted: &str) -> bool {
    let headline = found.lines().next().unwrap_or_default();
    let told = match headline.strip_prefix("dockerfile parse error on line") {
        Some(rest) => rest.split_once(": ").map_or(rest, |(_, told)| told),
        None => headline,
    };
    if told == wanted || headline == wanted || found.trim_end() == wanted {
        return true;
    }
    // Images are asked for at once there, so that any of those that are missing may be told first.
    wanted.ends_with(MISSING) && is_missing(found)
}

/// Returns whether a mistake is that an image is not there; the line that asks for it follows.
pub(super) fn is_missing(found: &str) -> bool {
    found
        .lines()
        .next()
        .is_some_and(|line| line.ends_with(MISSING))
}

/// Compares operations in the order in which they are written.
fn same_operations(wanted: &Value, found: &Value) -> Verdict {
    // A result of nothing is recorded as null.
    let empty = Vec::new();
    let wanted = wanted.as_array().unwrap_or(&empty);
    let found = found.as_array().unwrap_or(&empty);
    if wanted == found {
        return Ok(());
    }
    let number = (0..)
        .zip(wanted)
        .find(|(number, op)| found.get(*number) != Some(*op))
        .map_or(wanted.len(), |(number, _)| number);
    let shown = |ops: &[Value]| ops.get(number).cloned().unwrap_or_default();
    Err(format!(
        "operation {number}: found {} instead of {}",
        shown(found),
        shown(wanted)
    ))
}

/// Takes away what differs between writers and means the same.
fn normal(mut value: Value) -> Value {
    if value["rootfs"]["diff_ids"].is_null() {
        value["rootfs"]["diff_ids"] = Value::Array(Vec::new());
    }
    if let Some(object) = value.as_object_mut() {
        object.remove("created");
        let is_empty = |config: &Value| config.as_object().is_some_and(Map::is_empty);
        if object.get("config").is_some_and(is_empty) {
            object.remove("config");
        }
    }
    value
}

fn answer(input: &Value, document: &Document) -> Result<(Value, Value), String> {
    let options = frontend(input)?;
    let mut find = bases(input, document);
    let lowered = lower_dockerfile(text(input, "dockerfile"), &options, &mut find)
        .map_err(|error| error.to_string())?;
    let image: Value =
        serde_json::from_slice(&lowered.image.to_bytes()).map_err(|error| error.to_string())?;
    Ok((image, operations(&lowered.graph, lowered.result)?))
}

/// Returns what an input asks of the frontend.
pub(super) fn frontend(input: &Value) -> Result<Frontend, String> {
    let host = Platform::parse("linux/amd64").map_err(|error| error.to_string())?;
    let pairs = |key: &str| {
        let entries = input[key].as_object().into_iter().flatten();
        entries
            .map(|(key, value)| (key.clone(), value.as_str().unwrap_or_default().to_owned()))
            .collect::<Vec<_>>()
    };
    let platform = match input["platform"].as_str() {
        Some(text) => Platform::parse(text).map_err(|error| error.to_string())?,
        None => host.clone(),
    };
    Ok(Frontend {
        build_args: pairs("build_args")
            .into_iter()
            .map(|(key, value)| (key, Some(value)))
            .collect(),
        labels: pairs("labels").into_iter().collect(),
        target: text(input, "target").to_owned(),
        platform: Some(platform),
        build_platform: Some(host),
        allow_insecure: true,
        ..Frontend::default()
    })
}

/// Returns what finds an input's base images.
pub(super) fn bases<'a>(
    input: &Value,
    document: &'a Document,
) -> impl FnMut(&str, &Platform) -> Result<BaseImage, BuildError> + use<'a> {
    let bases = &document.header["bases"][text(input, "bases").trim_start_matches('$')];
    move |name: &str, _: &Platform| {
        let missing = |text: String| BuildError::Host(text.into());
        let reference = Reference::parse(name).map_err(|error| missing(error.to_string()))?;
        let reference = reference.with_default_tag();
        let key = match reference.digest() {
            Some(digest) => format!("{}@{digest}", reference.name()),
            None => format!(
                "{}:{}",
                reference.name(),
                reference.tag().unwrap_or_default()
            ),
        };
        let found = bases
            .get(&key)
            .ok_or_else(|| missing(format!("{name}: {key}: not found")))?;
        let config: ImageConfig =
            serde_json::from_value(found.clone()).map_err(|error| missing(error.to_string()))?;
        // The reference's images are named by their configs with the keys in order.
        let mut sorted = found.clone();
        sorted.sort_all_objects();
        Ok(BaseImage {
            id: Digest::of(&key),
            digest: Some(Digest::of(sorted.to_string())),
            config: Arc::new(config),
        })
    }
}

/// Lists what a result needs, as it is sent and read again.
fn operations(graph: &Graph, result: Option<Edge>) -> Result<Value, String> {
    let definition = Definition::of(graph, result);
    let received = Definition::decode(&definition.encode()).map_err(|error| error.to_string())?;
    let (graph, _) = received.graph().map_err(|error| error.to_string())?;
    let vertices = graph.iter();
    Ok(vertices
        .map(|(_, vertex)| operation(&vertex.op, &vertex.metadata.custom_name))
        .collect())
}

fn operation(op: &Op, name: &str) -> Value {
    let mut value = match op {
        Op::Source(source) => json!({
            "kind": "source",
            "identifier": source.identifier,
            "attrs": source.attributes,
        }),
        Op::Exec(exec) => execution(exec),
        Op::File(file) => {
            let actions: Vec<Value> = file
                .actions
                .iter()
                .map(|action| file_action(&action.kind))
                .collect();
            json!({ "kind": "file", "actions": actions })
        }
        Op::Merge(_) => json!({ "kind": "merge" }),
        Op::Diff(_) => json!({ "kind": "diff" }),
        Op::Build(_) => json!({ "kind": "build" }),
    };
    value["vertex"] = json!(name);
    value
}

fn execution(exec: &ExecOp) -> Value {
    let meta = &exec.meta;
    let mounts: Vec<Value> = exec.mounts.iter().map(mount).collect();
    let mut value = json!({
        "kind": "exec",
        "args": meta.args,
        "env": meta.env,
        "cwd": meta.cwd,
        "mounts": mounts,
    });
    if !meta.user.is_empty() {
        value["user"] = json!(meta.user);
    }
    match exec.network {
        NetworkMode::Sandbox => {}
        NetworkMode::Host => value["network"] = json!("HOST"),
        NetworkMode::None => value["network"] = json!("NONE"),
    }
    if exec.security == SecurityMode::Insecure {
        value["security"] = json!("INSECURE");
    }
    if let Some(proxy) = &meta.proxy_env {
        let all = [
            ("http_proxy", &proxy.http),
            ("https_proxy", &proxy.https),
            ("ftp_proxy", &proxy.ftp),
            ("no_proxy", &proxy.no),
            ("all_proxy", &proxy.all),
        ];
        let set = all.into_iter().filter(|(_, value)| !value.is_empty());
        value["proxy_env"] = set
            .map(|(key, value)| (key.to_owned(), json!(value)))
            .collect::<Map<_, _>>()
            .into();
    }
    if !exec.secret_env.is_empty() {
        value["secret_env"] = exec
            .secret_env
            .iter()
            .map(|one| json!({ "id": one.id, "name": one.name, "optional": one.optional }))
            .collect();
    }
    value
}

fn mount(mount: &Mount) -> Value {
    let mut value = json!({ "dest": mount.destination });
    if !mount.selector.is_empty() {
        value["selector"] = json!(mount.selector);
    }
    if mount.read_only {
        value["readonly"] = json!(true);
    }
    let file = |id: &str, uid: u32, gid: u32, mode: u32, optional: bool| json!({ "id": id, "uid": uid, "gid": gid, "mode": mode, "optional": optional });
    value["type"] = match &mount.kind {
        MountKind::Bind => json!("BIND"),
        MountKind::Cache { id, sharing } => {
            value["cache_id"] = json!(id);
            value["cache_sharing"] = json!(match sharing {
                CacheSharing::Shared => "SHARED",
                CacheSharing::Private => "PRIVATE",
                CacheSharing::Locked => "LOCKED",
            });
            json!("CACHE")
        }
        MountKind::Tmpfs { size_bytes } => {
            value["tmpfs_size"] = json!(size_bytes);
            json!("TMPFS")
        }
        MountKind::Secret(one) => {
            value["secret"] = file(&one.id, one.uid, one.gid, one.mode, one.optional);
            json!("SECRET")
        }
        MountKind::Ssh(one) => {
            value["ssh"] = file(&one.id, one.uid, one.gid, one.mode, one.optional);
            json!("SSH")
        }
    };
    value
}

fn owner(owner: Option<&Chown>) -> Option<Value> {
    let account = |account: &Account| match account {
        Account::Id(id) => json!({ "id": id }),
        Account::Name { name, .. } => json!({ "name": name }),
    };
    let owner = owner?;
    let mut value = json!({});
    if let Some(user) = &owner.user {
        value["user"] = account(user);
    }
    if let Some(group) = &owner.group {
        value["group"] = account(group);
    }
    Some(value)
}

fn file_action(kind: &FileActionKind) -> Value {
    let mut value = match kind {
        FileActionKind::Copy(copy) => {
            let mode = match copy.mode {
                Some(mode) => i64::from(mode),
                None if copy.mode_text.is_empty() => -1,
                None => 0,
            };
            let mut value = json!({
                "action": "copy",
                "src": copy.source,
                "dest": copy.destination,
                "mode": mode,
                "follow_symlink": copy.follow_symlink,
                "dir_copy_contents": copy.dir_copy_contents,
                "unpack": copy.attempt_unpack,
                "create_dest_path": copy.create_dest_path,
                "wildcard": copy.allow_wildcard,
                "empty_wildcard": copy.allow_empty_wildcard,
            });
            if !copy.mode_text.is_empty() {
                value["mode_str"] = json!(copy.mode_text);
            }
            if !copy.include_patterns.is_empty() {
                value["include"] = json!(copy.include_patterns);
            }
            if !copy.exclude_patterns.is_empty() {
                value["exclude"] = json!(copy.exclude_patterns);
            }
            value
        }
        FileActionKind::Mkfile(file) => json!({
            "action": "mkfile",
            "path": file.path,
            "mode": file.mode,
            "data": String::from_utf8_lossy(&file.data),
        }),
        FileActionKind::Mkdir(directory) => json!({
            "action": "mkdir",
            "path": directory.path,
            "mode": directory.mode,
            "make_parents": directory.make_parents,
        }),
        FileActionKind::Rm(_) => json!({ "action": "rm" }),
        FileActionKind::Symlink(_) => json!({ "action": "symlink" }),
    };
    let wanted = match kind {
        FileActionKind::Copy(copy) => owner(copy.owner.as_ref()),
        FileActionKind::Mkfile(file) => owner(file.owner.as_ref()),
        FileActionKind::Mkdir(directory) => owner(directory.owner.as_ref()),
        FileActionKind::Rm(_) | FileActionKind::Symlink(_) => None,
    };
    if let Some(owner) = wanted {
        value["owner"] = owner;
    }
    value
}
