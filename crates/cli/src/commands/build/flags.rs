//! The flags of `wharf build` (docker's names).

use clap::Args;

use crate::commands::build::unsupported::UnsupportedFlags;
use crate::commands::container::flags::limits::ProcessorFlags;
use crate::commands::trust::ContentTrust;

/// Build an image from a Dockerfile
#[derive(Debug, Args)]
#[allow(missing_docs, reason = "each flag's help text is its documentation")]
pub struct BuildArgs {
    #[command(flatten)]
    pub processor: ProcessorFlags,
    #[command(flatten)]
    pub unsupported: UnsupportedFlags,
    /// Add a line to /etc/hosts of the steps (HOST:IP)
    #[arg(long, value_name = "HOST:IP")]
    pub add_host: Vec<String>,
    /// Let RUN ask for more than usual (network.host, security.insecure)
    #[arg(long, value_name = "ENTITLEMENT")]
    pub allow: Vec<String>,
    /// Let a name stand for a directory, an image (docker-image://NAME), an address, a repository or target:STAGE
    #[arg(long, value_name = "NAME=VALUE")]
    pub build_context: Vec<String>,
    /// Set a build argument (NAME=VALUE, or NAME to pass the caller's on)
    #[arg(long, value_name = "NAME=VALUE")]
    pub build_arg: Vec<String>,
    /// What to do with the Dockerfile: build, check, outline or targets (check,format=json for JSON)
    #[arg(
        long,
        value_name = "METHOD",
        alias = "print",
        default_value = "build",
        conflicts_with = "check"
    )]
    pub call: String,
    /// Check the Dockerfile without building it (short for --call=check)
    #[arg(long)]
    pub check: bool,
    /// Take cached steps from an image that holds them, or a directory (type=local,src=DIRECTORY)
    #[arg(long, value_name = "IMAGE|TYPE")]
    pub cache_from: Vec<String>,
    /// Where cached steps are written to for others (type=inline, type=local,dest=DIRECTORY[,mode=max])
    #[arg(long, value_name = "TYPE")]
    pub cache_to: Vec<String>,
    /// Compress the context on its way to the daemon
    #[arg(long)]
    pub compress: bool,
    /// Parent control group of the steps
    #[arg(long, value_name = "PATH")]
    pub cgroup_parent: Option<String>,
    /// Dockerfile ("-" for standard input)
    #[arg(short = 'f', long, value_name = "FILE")]
    pub file: Option<String>,
    #[command(flatten)]
    pub trust: ContentTrust,
    /// Say after the build why each step ran again
    #[arg(long)]
    pub explain: bool,
    /// Remove intermediate containers of a failed build, too
    #[arg(long)]
    pub force_rm: bool,
    /// Write the image's id to a file
    #[arg(long, value_name = "FILE")]
    pub iidfile: Option<String>,
    /// Isolation technology: default
    #[arg(long, value_name = "TECHNOLOGY")]
    pub isolation: Option<String>,
    /// Keep the image with the daemon (short for --output=type=docker)
    #[arg(long)]
    pub load: bool,
    /// Write what the build led to to a file, as JSON
    #[arg(long, value_name = "FILE")]
    pub metadata_file: Option<String>,
    /// Set a label (KEY=VALUE)
    #[arg(long, value_name = "KEY=VALUE")]
    pub label: Vec<String>,
    /// Network of the steps
    #[arg(long, value_name = "MODE")]
    pub network: Option<String>,
    /// Run every step again
    #[arg(long)]
    pub no_cache: bool,
    /// Run every step of some stages again (STAGE[,STAGE])
    #[arg(long, value_name = "STAGE")]
    pub no_cache_filter: Vec<String>,
    /// What to do when a step fails: shell opens one in the step's files
    #[arg(long, value_name = "ACTION")]
    pub on_error: Option<String>,
    /// Where the result goes (type=image|docker|oci|tar|local,dest=PATH, a directory, or "-")
    #[arg(short = 'o', long, value_name = "TYPE|PATH")]
    pub output: Vec<String>,
    /// Steps that run at once (default: four for each processor, at least eight)
    #[arg(long, value_name = "NUMBER")]
    pub parallel: Option<usize>,
    /// Most processes of a step, -1 for no limit
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true)]
    pub pids_limit: Option<i64>,
    /// Platform, such as linux/arm64 (one)
    #[arg(
        long,
        value_name = "PLATFORM",
        env = "DOCKER_DEFAULT_PLATFORM",
        hide_env = true
    )]
    pub platform: Vec<String>,
    /// How progress looks: auto, plain, tty, rawjson, quiet or none
    #[arg(
        long,
        value_name = "KIND",
        default_value = "auto",
        env = "BUILDKIT_PROGRESS",
        hide_env = true
    )]
    pub progress: String,
    /// Get newer base images even if they are here
    #[arg(long)]
    pub pull: bool,
    /// Push the image when it is built (short for --output=type=registry)
    #[arg(long)]
    pub push: bool,
    /// Print only the image's id
    #[arg(short = 'q', long)]
    pub quiet: bool,
    /// Remove intermediate containers
    #[arg(long, default_value_t = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", hide_default_value = true, hide_possible_values = true, value_name = "BOOL")]
    pub rm: bool,
    /// Pass a secret to RUN --mount=type=secret (id=ID[,src=FILE|,env=NAME])
    #[arg(long, value_name = "id=ID[,src=FILE]")]
    pub secret: Vec<String>,
    /// Security option of the steps
    #[arg(long, value_name = "OPTION")]
    pub security_opt: Vec<String>,
    /// Size of /dev/shm
    #[arg(long, value_name = "SIZE")]
    pub shm_size: Option<String>,
    /// Join the new layers into one
    #[arg(long)]
    pub squash: bool,
    /// Pass an SSH agent to RUN --mount=type=ssh (default, or ID=SOCKET, or ID=KEYFILE[,KEYFILE])
    #[arg(long, value_name = "ID[=SOCKET]")]
    pub ssh: Vec<String>,
    /// Name of the image
    #[arg(short = 't', long, value_name = "NAME[:TAG]")]
    pub tag: Vec<String>,
    /// Stage to build
    #[arg(long, value_name = "STAGE")]
    pub target: Option<String>,
    /// Set a resource limit of the steps (NAME=SOFT[:HARD])
    #[arg(long, value_name = "NAME=SOFT[:HARD]")]
    pub ulimit: Vec<String>,
    /// Build twice without the cache and name the first file that differs
    #[arg(long)]
    pub verify: bool,
    /// Directory, tar archive, URL, or "-" for standard input
    #[arg(value_name = "PATH|URL|-")]
    pub context: String,
}
