//! What to build, and how.

use std::collections::BTreeMap;
use std::path::PathBuf;

use wharf_image::Platform;
use wharf_safefs::Caller;

use crate::Secret;
use crate::imported::CacheDirectory;
use crate::lower::NamedContext;

/// Where COPY and ADD take files from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum ContextSource {
    /// A directory of this machine, read in place.
    Directory(PathBuf),
    /// A tar of any compression, unpacked once and removed after the build.
    Tar(PathBuf),
    /// A repository, by an address as ADD takes it: checked out once and removed after the build. No ignore file
    /// applies to it.
    Git(String),
    /// Nothing.
    #[default]
    Empty,
}

/// What `--build-context` makes a name stand for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NamedSource {
    /// Files that the request brings.
    Files(ContextSource),
    /// Something to be found: `docker-image://NAME`, `oci-layout://…`, an address, a repository, or `target:STAGE`.
    Reference(String),
}

/// What to build; docker's build options (spec engine-api §10).
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BuildRequest {
    /// The files.
    pub context: ContextSource,
    /// Path of the Dockerfile in the context; empty means `Dockerfile`.
    pub dockerfile_name: String,
    /// A Dockerfile that does not lie in the context.
    pub dockerfile: Option<Vec<u8>>,
    /// What messages call the Dockerfile; its path in the context where this is empty.
    pub dockerfile_shown: String,
    /// The ignore file beside such a Dockerfile, which counts before the context's own.
    pub ignore_file: Option<Vec<u8>>,
    /// `--build-arg`; `None` for one named without a value.
    pub build_args: BTreeMap<String, Option<String>>,
    /// `--label`.
    pub labels: BTreeMap<String, String>,
    /// The stage to build, by name or number; empty means the last.
    pub target: String,
    /// Executes every step; what it leads to is still recorded.
    pub no_cache: bool,
    /// Executes every step of the stages of these names, whatever the case of their letters.
    pub no_cache_stages: Vec<String>,
    /// Asks the registry for base images that are here.
    pub pull: bool,
    /// Platform to build for; `None` means this machine's.
    pub platform: Option<Platform>,
    /// Joins the new layers into one.
    pub squash: bool,
    /// Images whose steps may be taken over, where they hold a cache.
    pub cache_from: Vec<String>,
    /// Directories with caches of other machines.
    pub cache_directories: Vec<CacheDirectory>,
    /// Whether the image holds what its steps led to, for other machines.
    pub inline_cache: bool,
    /// Network of RUN: empty, `default`, `none`, `host` or another that the host knows.
    pub network_mode: String,
    /// Names the build, for its logs and explanations; empty for a name of its own.
    pub id: String,
    /// Tells the builds of one project from others', for explaining misses: such as the context's path.
    pub project: String,
    /// Names that the image gets, for the list of builds.
    pub names: Vec<String>,
    /// Steps that run at once; 0 for a number that suits the processors.
    pub parallel: usize,
    /// `--secret`: values by ID.
    pub secrets: BTreeMap<String, Secret>,
    /// `--ssh`: the socket of an agent, or files of keys, by ID.
    pub ssh: BTreeMap<String, Vec<PathBuf>>,
    /// Who asks, where that is known: files of this machine are read with their rights.
    pub caller: Option<Caller>,
    /// Sets the times of all new files that are later than `SOURCE_DATE_EPOCH` to that.
    pub rewrite_timestamp: bool,
    /// `--build-context`: what names stand for, instead of stages and images.
    pub contexts: BTreeMap<String, NamedSource>,
    /// Whether RUN may ask to be confined by nothing.
    pub allow_insecure: bool,
    /// Whether RUN may ask for the host's network; a request that has that network itself allows it, too.
    pub allow_host_network: bool,
}

/// How a graph is solved.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SolveOptions {
    /// Names the build.
    pub build: String,
    /// Executes every step.
    pub no_cache: bool,
    /// Steps that run at once.
    pub parallel: usize,
    /// Network of steps that ask for none.
    pub network: String,
    /// Secrets by ID.
    pub secrets: BTreeMap<String, Secret>,
    /// The socket of an agent, or files of keys, by ID.
    pub ssh: BTreeMap<String, Vec<PathBuf>>,
    /// Who asks.
    pub caller: Option<Caller>,
    /// Time of all that is made, instead of now, as RFC 3339.
    pub epoch: Option<String>,
    /// What programs may ask for besides the usual.
    pub entitlements: Entitlements,
}

/// What the programs of a graph may ask for besides the usual; nothing by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Entitlements {
    /// `network.host`: the host's network.
    pub host_network: bool,
    /// `security.insecure`: to be confined by nothing.
    pub insecure: bool,
}

/// The host's own network, as requests name it.
const HOST_NETWORK: &str = "host";
/// Steps that run at once for each processor where nobody says: many wait for a network or a disk, and a few too many
/// cost less than a processor that waits. Memory that runs short holds further ones back.
const STEPS_PER_PROCESSOR: usize = 4;
/// Fewest of them.
const MIN_PARALLEL: usize = 8;

impl BuildRequest {
    /// Returns what names stand for, as lowering sees it.
    pub(crate) fn named_contexts(&self) -> BTreeMap<String, NamedContext> {
        let named = |source: &NamedSource| match source {
            NamedSource::Files(_) => NamedContext::Local,
            NamedSource::Reference(text) => NamedContext::parse(text),
        };
        let contexts = self.contexts.iter();
        contexts
            .map(|(name, source)| (name.clone(), named(source)))
            .collect()
    }

    /// Returns how the build's graph is solved.
    pub(crate) fn solve_options(&self, build: &str, epoch: Option<String>) -> SolveOptions {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        SolveOptions {
            build: build.to_owned(),
            no_cache: self.no_cache,
            parallel: match self.parallel {
                0 => (processors * STEPS_PER_PROCESSOR).max(MIN_PARALLEL),
                wanted => wanted,
            },
            network: self.network_mode.clone(),
            secrets: self.secrets.clone(),
            ssh: self.ssh.clone(),
            caller: self.caller.clone(),
            epoch,
            entitlements: Entitlements {
                host_network: self.allow_host_network || self.network_mode == HOST_NETWORK,
                insecure: self.allow_insecure,
            },
        }
    }
}
