//! What callers ask of the engine.

use super::host_config::HostConfig;
use std::collections::BTreeMap;
use std::path::PathBuf;
use wharf_image::{ContainerConfig, Platform};
use wharf_registry::Credentials;

/// Filters of list and prune calls: key to its values, in docker's words (spec engine-api §3).
pub type Filters = BTreeMap<String, Vec<String>>;

/// Asks for a container.
#[derive(Debug, Clone, Default)]
pub struct CreateContainer {
    /// Name without a leading slash; None makes one up.
    pub name: Option<String>,
    /// What the container runs; `config.image` names its image.
    pub config: ContainerConfig,
    /// What it may use of the host.
    pub host_config: HostConfig,
    /// Endpoint settings by network name.
    pub networks: BTreeMap<String, EndpointRequest>,
    /// MAC address on the network that the mode names, when its endpoint says none.
    pub mac_address: String,
    /// Platform the image must have.
    pub platform: Option<Platform>,
    /// Read-only mounts leave what is mounted below them writable (clients before API 1.44 expect that).
    pub read_only_top_only: bool,
}

/// Settings of a container's place on one network; persisted with the container.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct EndpointRequest {
    /// Fixed IPv4 address.
    pub ipv4_address: String,
    /// Fixed IPv6 address.
    pub ipv6_address: String,
    /// Further names on that network.
    pub aliases: Vec<String>,
    /// Links, `container:alias`.
    pub links: Vec<String>,
    /// Fixed MAC address.
    pub mac_address: String,
    /// Further link-local addresses.
    pub link_local_addresses: Vec<String>,
    /// Driver options, by docker's names.
    pub driver_options: BTreeMap<String, String>,
    /// Which network becomes the default gateway: the highest wins.
    pub gateway_priority: i64,
    /// What of the above was said, be it empty.
    pub given: GivenFields,
}

/// Fields of an endpoint's settings that were there: inspect shows those empty, and the others as null.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct GivenFields {
    /// The addresses.
    pub addresses: bool,
    /// The further names.
    pub aliases: bool,
    /// The links.
    pub links: bool,
    /// The driver options.
    pub driver_options: bool,
}

/// Answers a create call.
#[derive(Debug, Clone)]
pub struct Created {
    /// ID of the new container.
    pub id: String,
    /// Things the user should know.
    pub warnings: Vec<String>,
}

/// Chooses containers to list.
#[derive(Debug, Clone, Default)]
pub struct ListContainers {
    /// Also those that do not run.
    pub all: bool,
    /// At most so many of the newest; 0 means no limit.
    pub limit: usize,
    /// See spec engine-api §6.3.
    pub filters: Filters,
}

/// Chooses images to list.
#[derive(Debug, Clone, Default)]
pub struct ListImages {
    /// Also untagged images that have children.
    pub all: bool,
    /// See spec image-store §8.
    pub filters: Filters,
    /// Computes what images share.
    pub shared_size: bool,
}

/// What a prune leaves of the build cache; 0 is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CacheLimits {
    /// Bytes that always stay.
    pub reserved_bytes: u64,
    /// Bytes that stay at most.
    pub max_used_bytes: u64,
    /// Bytes of the disk that shall be free afterwards.
    pub min_free_bytes: u64,
}

impl CacheLimits {
    /// Returns how many bytes may stay where the cache has `kept_bytes` and the disk has `free_bytes` free, by
    /// BuildKit's rule: the reserve stays, whatever else is asked for.
    #[must_use]
    pub fn most_bytes(&self, kept_bytes: u64, free_bytes: u64) -> u64 {
        let used = match (self.max_used_bytes, self.min_free_bytes) {
            (0, 0) => self.reserved_bytes,
            (0, _) => kept_bytes,
            (most, _) => most,
        };
        let missing = self.min_free_bytes.saturating_sub(free_bytes);
        let left = match missing {
            0 => used,
            missing => used.min(kept_bytes.saturating_sub(missing)),
        };
        left.max(self.reserved_bytes)
    }
}

/// When a wait ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WaitCondition {
    /// As soon as the container does not run.
    #[default]
    NotRunning,
    /// At the next exit.
    NextExit,
    /// When the container is gone.
    Removed,
}

/// Asks for a container's streams.
#[derive(Debug, Clone, Default)]
pub struct AttachRequest {
    /// Replays the log first.
    pub logs: bool,
    /// Follows from now on.
    pub stream: bool,
    /// Sends input.
    pub stdin: bool,
    /// Wants standard output.
    pub stdout: bool,
    /// Wants standard error.
    pub stderr: bool,
    /// Detach key sequence; None means `ctrl-p,ctrl-q`.
    pub detach_keys: Option<String>,
}

/// Asks for log lines.
#[derive(Debug, Clone, Default)]
pub struct LogRequest {
    /// Goes on while the container runs.
    pub follow: bool,
    /// Wants standard output.
    pub stdout: bool,
    /// Wants standard error.
    pub stderr: bool,
    /// Not older than; nanoseconds since 1970, 0 means all.
    pub since_ns: i64,
    /// Not newer than; nanoseconds since 1970, 0 means all.
    pub until_ns: i64,
    /// Only the last so many lines; None means all.
    pub tail: Option<usize>,
}

/// Asks for another process in a container.
#[derive(Debug, Clone, Default)]
pub struct CreateExec {
    /// `user[:group]`; empty means the container's.
    pub user: String,
    /// All capabilities.
    pub privileged: bool,
    /// On a terminal.
    pub tty: bool,
    /// Sends input.
    pub attach_stdin: bool,
    /// Wants standard output.
    pub attach_stdout: bool,
    /// Wants standard error.
    pub attach_stderr: bool,
    /// Detach key sequence.
    pub detach_keys: Option<String>,
    /// Further environment.
    pub env: Vec<String>,
    /// Working directory; empty means the container's.
    pub working_dir: String,
    /// Program and arguments.
    pub command: Vec<String>,
    /// First size of the terminal: height, width.
    pub console_size: Option<(u16, u16)>,
}

/// Asks for an image of a container (spec image-store §11).
#[derive(Debug, Clone, Default)]
pub struct Commit {
    /// Name or ID of the container.
    pub container: String,
    /// Repository of the new image; empty leaves it unnamed.
    pub repository: String,
    /// Tag; empty means `latest`.
    pub tag: String,
    /// Comment.
    pub comment: String,
    /// Author.
    pub author: String,
    /// Freezes the container meanwhile.
    pub pause: bool,
    /// Dockerfile instructions to apply.
    pub changes: Vec<String>,
    /// Replaces the container's config.
    pub config: Option<ContainerConfig>,
}

/// Asks for an image of a root file system (spec image-store §11).
#[derive(Debug, Clone, Default)]
pub struct Import {
    /// `-` for the body, or a URL.
    pub source: String,
    /// Repository of the new image; empty leaves it unnamed.
    pub repository: String,
    /// Tag.
    pub tag: String,
    /// History comment; empty means `Imported from <source>`.
    pub message: String,
    /// Dockerfile instructions to apply.
    pub changes: Vec<String>,
    /// Platform of the image; None means this machine's.
    pub platform: Option<Platform>,
}

/// Asks for an image from a registry.
#[derive(Debug, Clone)]
pub struct Pull {
    /// Repository, with tag or digest inside or in `tag`.
    pub from_image: String,
    /// Tag or digest; empty with no tag in `from_image` means every tag.
    pub tag: String,
    /// Platform; None means this machine's.
    pub platform: Option<Platform>,
    /// Who asks.
    pub credentials: Credentials,
}

/// Where a build's files come from.
#[derive(Debug)]
pub enum BuildContext {
    /// A tar (any compression), already on disk.
    Tar(PathBuf),
    /// A directory of this machine, read in place with the caller's rights.
    Directory(PathBuf),
    /// A Dockerfile alone.
    Dockerfile(Vec<u8>),
    /// A URL of a Dockerfile or a tar.
    Remote(String),
}

/// Asks for a build (spec engine-api §10).
#[derive(Debug)]
pub struct Build {
    /// Files.
    pub context: BuildContext,
    /// Path of the Dockerfile in the context; empty means `Dockerfile`.
    pub dockerfile: String,
    /// A Dockerfile that lies outside the context.
    pub dockerfile_inline: Option<Vec<u8>>,
    /// What messages call the Dockerfile; its path in the context where this is empty.
    pub dockerfile_shown: String,
    /// The ignore file beside such a Dockerfile.
    pub ignore_file_inline: Option<Vec<u8>>,
    /// Names for the image.
    pub tags: Vec<String>,
    /// `--build-arg`; None means named without a value.
    pub build_args: BTreeMap<String, Option<String>>,
    /// Labels to add.
    pub labels: BTreeMap<String, String>,
    /// Stage to build; empty means the last.
    pub target: String,
    /// Runs every step.
    pub no_cache: bool,
    /// Pulls base images that are present.
    pub pull: bool,
    /// Says only the ID.
    pub quiet: bool,
    /// Removes step containers (always done; changes only what is said).
    pub remove: bool,
    /// Network of RUN: `default`, `bridge`, `none`, `host`.
    pub network_mode: String,
    /// Further lines for `/etc/hosts`.
    pub extra_hosts: Vec<String>,
    /// Bytes of `/dev/shm`; 0 means 64 MiB.
    pub shm_size_bytes: i64,
    /// Limits of each step.
    pub resources: super::host_config::Resources,
    /// Ulimits of each step.
    pub ulimits: Vec<super::host_config::Ulimit>,
    /// Images whose steps may be reused.
    pub cache_from: Vec<String>,
    /// Platform; None means this machine's.
    pub platform: Option<Platform>,
    /// Joins the new layers into one.
    pub squash: bool,
    /// Credentials by registry host.
    pub credentials: BTreeMap<String, Credentials>,
    /// What docker's builds do not have.
    pub options: BuildOptions,
}

/// What a build can be asked for by wharf's own client.
#[derive(Debug, Clone, Default)]
pub struct BuildOptions {
    /// Tells the builds of one project from others', for explaining misses.
    pub project: String,
    /// Steps that run at once; 0 for a number that suits the processors.
    pub parallel: usize,
    /// Secrets by ID.
    pub secrets: BTreeMap<String, wharf_build::Secret>,
    /// The socket of an SSH agent, or files of keys, by ID.
    pub ssh: BTreeMap<String, Vec<PathBuf>>,
    /// Who asks, when that is known (peer of the socket); files of this machine are read with their rights.
    pub caller: Option<wharf_safefs::Caller>,
    /// Sets the times of new files that are later than `SOURCE_DATE_EPOCH` to that.
    pub rewrite_timestamp: bool,
    /// Runs every step of the stages of these names again.
    pub no_cache_stages: Vec<String>,
    /// What names stand for, instead of stages and images.
    pub contexts: BTreeMap<String, wharf_build::NamedSource>,
    /// Whether RUN may ask to be confined by nothing.
    pub allow_insecure: bool,
    /// Whether RUN may ask for the host's network.
    pub allow_host_network: bool,
    /// Directories with caches of other machines.
    pub cache_directories: Vec<wharf_build::CacheDirectory>,
    /// Whether the image holds what its steps led to.
    pub inline_cache: bool,
    /// Whether the client takes the result out and says when it is done with it.
    pub takes_out: bool,
    /// Whether the image is not to stay then, unless it has a name or was there before.
    pub drops_image: bool,
    /// Sends what the solver does, too.
    pub trace: bool,
}

#[cfg(test)]
mod tests {
    use super::CacheLimits;

    #[test]
    fn the_cache_shrinks_to_what_is_asked_for() {
        for (reserved, max_used, min_free, most) in [
            (10, 0, 0, 10),
            (0, 40, 0, 40),
            (50, 40, 0, 50),
            (0, 0, 30, 100),
            (0, 0, 60, 90),
            (0, 0, 900, 0),
            (20, 0, 900, 20),
            (0, 95, 60, 90),
            (0, 40, 60, 40),
        ] {
            let limits = CacheLimits {
                reserved_bytes: reserved,
                max_used_bytes: max_used,
                min_free_bytes: min_free,
            };
            assert_eq!(limits.most_bytes(100, 50), most, "{limits:?}");
        }
    }
}
