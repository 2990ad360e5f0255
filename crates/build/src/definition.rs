//! Graphs that other programs made: read, checked against what the solver can do, and solved.

use std::collections::BTreeMap;

use wharf_image::{Digest, Platform};
use wharf_llb::{Definition, Edge, Graph, Op, SecurityMode, Vertex};
use wharf_store::Store;

use crate::{BuildError, ContextSource, Host, SolveEvent, SolveOptions, solve};

/// What the solver can do, by BuildKit's names (spec llb §2.4).
pub const CAPS: [&str; 58] = [
    "constraints",
    "diffop",
    "exec.meta.base",
    "exec.meta.network",
    "exec.meta.proxyenv",
    "exec.meta.removemountstubs.recursive",
    "exec.meta.security",
    "exec.meta.setsdefaultpath",
    "exec.meta.ulimit",
    "exec.mount.bind",
    "exec.mount.bind.readwrite-nooutput",
    "exec.mount.cache",
    "exec.mount.cache.content",
    "exec.mount.cache.sharing",
    "exec.mount.secret",
    "exec.mount.selector",
    "exec.mount.ssh",
    "exec.mount.tmpfs",
    "exec.mount.tmpfs.size",
    "exec.secretenv",
    "exec.validexitcode",
    "file.base",
    "file.copy.alwaysreplaceexistingdestpaths",
    "file.copy.includeexcludepatterns",
    "file.copy.modestring",
    "file.copy.requiredpaths",
    "file.rm.nofollowsymlink",
    "file.rm.wildcard",
    "file.symlink.create",
    "mergeop",
    "meta.description",
    "meta.exportcache",
    "meta.ignorecache",
    "platform",
    "soruce.http.uidgid",
    "source.buildop.llbfilename",
    "source.git",
    "source.git.checksum",
    "source.git.fetchbycommit",
    "source.git.fullurl",
    "source.git.httpauth",
    "source.git.keepgitdir",
    "source.git.knownsshhosts",
    "source.git.mountsshsock",
    "source.git.mtime",
    "source.git.skipsubmodules",
    "source.git.subdir",
    "source.http",
    "source.http.auth",
    "source.http.checksum",
    "source.http.header",
    "source.http.perm",
    "source.image",
    "source.image.resolvemode",
    "source.local",
    "source.local.followpaths",
    "source.local.sessionid",
    "source.local.sharedkeyhint",
];
/// What the solver takes without doing anything about it: it only concerns how files are sent.
const TRANSFER_CAPS: [&str; 2] = ["source.local.differ", "source.local.unique"];

/// Attributes of sources that change what comes in, and that the solver does not know.
const UNKNOWN_ATTRIBUTES: [&str; 8] = [
    "git.bundle",
    "git.checkoutbundle",
    "git.sig.",
    "http.sig.",
    "image.checksum",
    "image.layerlimit",
    "local.excludepatterns",
    "local.includepattern",
];

/// Solves a graph that another program made; returns the layers of its result, lowest first.
///
/// The layers stay as long as a record of the cache, an image or a lease keeps them. An empty definition has no layers.
///
/// # Errors
/// See [`BuildError`]: definitions that make no sense, that ask for what the solver cannot do, and all that a build can
/// end with. Nothing runs before the whole graph is known to make sense.
pub fn solve_definition(
    store: &Store,
    host: &dyn Host,
    definition: &Definition,
    contexts: &BTreeMap<String, ContextSource>,
    options: &SolveOptions,
    events: &mut dyn FnMut(SolveEvent),
) -> Result<Vec<Digest>, BuildError> {
    let (graph, result) = read(definition, host, options)?;
    let Some(result) = result else {
        return Ok(Vec::new());
    };
    let wanted = [result];
    let solved = solve(store, host, (&graph, &wanted), contexts, options, events)?;
    Ok(solved.into_iter().next().unwrap_or_default())
}

/// Reads a definition and refuses what the solver cannot do.
pub(crate) fn read(
    definition: &Definition,
    host: &dyn Host,
    options: &SolveOptions,
) -> Result<(Graph, Option<Edge>), BuildError> {
    let wrong = |message: String| BuildError::Graph { message };
    let caps = definition.metadata.values().flat_map(|known| &known.caps);
    for cap in caps {
        if !CAPS.contains(&cap.as_str()) && !TRANSFER_CAPS.contains(&cap.as_str()) {
            return Err(wrong(format!("requested feature {cap} is not supported")));
        }
    }
    let (graph, result) = definition
        .graph()
        .map_err(|error| wrong(error.to_string()))?;
    for (_, vertex) in graph.iter() {
        check(vertex, options)
            .map_err(|message| wrong(format!("operation {}: {message}", vertex.digest)))?;
    }
    check_platforms(host, &graph)?;
    Ok((graph, result))
}

fn check(vertex: &Vertex, options: &SolveOptions) -> Result<(), String> {
    if let Some(filter) = vertex.worker_filter.first() {
        return Err(format!(
            "it asks for a worker with {filter:?}: there is one worker without any properties"
        ));
    }
    if vertex.metadata.resources.is_some() {
        return Err("limits of single operations are not supported".to_owned());
    }
    match &vertex.op {
        Op::Exec(exec) => {
            if exec.security == SecurityMode::Insecure && !options.entitlements.insecure {
                return Err("security.insecure is not allowed".to_owned());
            }
            if let Some(device) = exec.devices.iter().find(|device| !device.optional) {
                return Err(format!(
                    "device {}: build steps get no devices",
                    device.name
                ));
            }
            if !exec.meta.cgroup_parent.is_empty() {
                return Err("a control group of its own is not supported".to_owned());
            }
            Ok(())
        }
        Op::Source(source) => {
            let is_unknown = |name: &&String| {
                let mut unknown = UNKNOWN_ATTRIBUTES.iter();
                unknown.any(|start| name.starts_with(start))
            };
            match source.attributes.keys().find(is_unknown) {
                Some(name) => Err(format!("attribute {name} of a source is not supported")),
                None => Ok(()),
            }
        }
        _ => Ok(()),
    }
}

/// Refuses programs that cannot be run here before anything is.
pub(crate) fn check_platforms(host: &dyn Host, graph: &Graph) -> Result<(), BuildError> {
    for (_, vertex) in graph.iter() {
        let Some(platform) = &vertex.platform else {
            continue;
        };
        if matches!(vertex.op, Op::Exec(_)) && !host.can_run(platform) {
            return Err(BuildError::instruction(format!(
                "programs of {platform} cannot be run on this {} machine: register an emulator for it with the kernel \
                 (binfmt_misc; Debian's package qemu-user-binfmt does so), or build without RUN",
                Platform::host()
            )));
        }
    }
    Ok(())
}
