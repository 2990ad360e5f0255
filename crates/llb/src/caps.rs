//! Capabilities: what a builder has to be able to do to solve a graph (spec llb §1, §2.4).

use crate::exec::{ContentCache, ExecOp, MountKind, NetworkMode, SecurityMode};
use crate::file::{CopyAction, FileActionKind, FileOp};
use crate::metadata::Metadata;
use crate::op::{Op, SourceOp};

/// Attributes of sources with the capability that each needs.
const SOURCE_CAPS: [(&str, &str); 19] = [
    ("image.resolvemode", "source.image.resolvemode"),
    ("image.layerlimit", "source.image.layerlimit"),
    ("image.checksum", "source.image.checksum"),
    ("local.session", "source.local.sessionid"),
    ("local.unique", "source.local.unique"),
    ("local.includepattern", "source.local.includepatterns"),
    ("local.followpaths", "source.local.followpaths"),
    ("local.excludepatterns", "source.local.excludepatterns"),
    ("local.sharedkeyhint", "source.local.sharedkeyhint"),
    ("git.keepgitdir", "source.git.keepgitdir"),
    ("git.fullurl", "source.git.fullurl"),
    ("git.authheadersecret", "source.git.httpauth"),
    ("git.mountsshsock", "source.git.mountsshsock"),
    ("git.checksum", "source.git.checksum"),
    ("git.skipsubmodules", "source.git.skipsubmodules"),
    ("git.mtime", "source.git.mtime"),
    ("git.fetchbycommit", "source.git.fetchbycommit"),
    ("http.checksum", "source.http.checksum"),
    ("http.perm", "source.http.perm"),
];

/// Returns what an operation needs.
pub(crate) fn of_op(op: &Op) -> Vec<&'static str> {
    match op {
        Op::Exec(exec) => of_exec(exec),
        Op::Source(source) => of_source(source),
        Op::File(file) => of_file(file),
        Op::Merge(_) => vec!["mergeop"],
        Op::Diff(_) => vec!["diffop"],
        Op::Build(build) if build.attributes.is_empty() => Vec::new(),
        Op::Build(_) => vec!["source.buildop.llbfilename"],
    }
}

/// Returns what a definition needs as a whole.
pub(crate) fn of_definition<'m>(
    metadata: impl Iterator<Item = &'m Metadata> + Clone,
) -> impl Iterator<Item = &'static str> {
    let any = |test: fn(&Metadata) -> bool| metadata.clone().any(test);
    [
        ("constraints", true),
        ("platform", true),
        ("meta.ignorecache", any(|one| one.ignore_cache)),
        (
            "meta.description",
            any(|one| !one.description.is_empty() || !one.custom_name.is_empty()),
        ),
        ("meta.exportcache", any(|one| one.export_cache.is_some())),
    ]
    .into_iter()
    .filter_map(|(cap, is_needed)| is_needed.then_some(cap))
}

fn of_source(source: &SourceOp) -> Vec<&'static str> {
    let scheme = source.identifier.split("://").next().unwrap_or_default();
    let mut caps: Vec<&str> = match scheme {
        "docker-image" => vec!["source.image"],
        "local" => vec!["source.local"],
        "git" => vec!["source.git"],
        "http" | "https" => vec!["source.http"],
        "oci-layout" => vec!["source.ocilayout"],
        _ => Vec::new(),
    };
    let needed = SOURCE_CAPS
        .iter()
        .filter(|(attribute, _)| source.attributes.contains_key(*attribute));
    caps.extend(needed.map(|(_, cap)| *cap));
    caps
}

fn of_exec(exec: &ExecOp) -> Vec<&'static str> {
    let meta = &exec.meta;
    let has = |test: fn(&MountKind) -> bool| exec.mounts.iter().any(|mount| test(&mount.kind));
    let has_selector = exec.mounts.iter().any(|mount| !mount.selector.is_empty());
    let has_bind = exec
        .mounts
        .iter()
        .any(|mount| mount.input.is_some() && mount.kind == MountKind::Bind);
    let counts_content = exec
        .mounts
        .iter()
        .any(|mount| mount.content_cache != ContentCache::Default);
    let has_cache = has(|kind| matches!(kind, MountKind::Cache { .. }));
    [
        ("exec.meta.base", true),
        ("exec.meta.setsdefaultpath", true),
        ("exec.meta.network", exec.network != NetworkMode::Sandbox),
        ("exec.meta.security", exec.security != SecurityMode::Sandbox),
        ("exec.meta.proxyenv", meta.proxy_env.is_some()),
        ("exec.meta.ulimit", !meta.ulimits.is_empty()),
        ("exec.meta.cdi", !exec.devices.is_empty()),
        ("exec.validexitcode", !meta.valid_exit_codes.is_empty()),
        ("exec.mount.bind", has_bind),
        ("exec.mount.selector", has_selector),
        ("exec.mount.cache", has_cache),
        ("exec.mount.cache.sharing", has_cache),
        ("exec.mount.cache.content", counts_content),
        (
            "exec.mount.tmpfs",
            has(|kind| matches!(kind, MountKind::Tmpfs { .. })),
        ),
        (
            "exec.mount.tmpfs.size",
            has(|kind| matches!(kind, MountKind::Tmpfs { size_bytes } if *size_bytes > 0)),
        ),
        (
            "exec.mount.secret",
            !exec.secret_env.is_empty() || has(|kind| matches!(kind, MountKind::Secret(_))),
        ),
        ("exec.secretenv", !exec.secret_env.is_empty()),
        (
            "exec.mount.ssh",
            has(|kind| matches!(kind, MountKind::Ssh(_))),
        ),
    ]
    .into_iter()
    .filter_map(|(cap, is_needed)| is_needed.then_some(cap))
    .collect()
}

fn of_file(file: &FileOp) -> Vec<&'static str> {
    let copies = |test: fn(&CopyAction) -> bool| {
        file.actions.iter().any(|action| match &action.kind {
            FileActionKind::Copy(copy) => test(copy),
            _ => false,
        })
    };
    let links = file
        .actions
        .iter()
        .any(|action| matches!(action.kind, FileActionKind::Symlink(_)));
    let has_patterns =
        |copy: &CopyAction| !copy.include_patterns.is_empty() || !copy.exclude_patterns.is_empty();
    [
        ("file.base", true),
        ("file.symlink.create", links),
        ("file.copy.includeexcludepatterns", copies(has_patterns)),
        (
            "file.copy.requiredpaths",
            copies(|copy| !copy.required_paths.is_empty()),
        ),
        (
            "file.copy.alwaysreplaceexistingdestpaths",
            copies(|copy| copy.always_replace),
        ),
        (
            "file.copy.modestring",
            copies(|copy| !copy.mode_text.is_empty()),
        ),
    ]
    .into_iter()
    .filter_map(|(cap, is_needed)| is_needed.then_some(cap))
    .collect()
}
