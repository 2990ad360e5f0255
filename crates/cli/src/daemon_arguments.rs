//! The daemon's flags: docker's names where docker has them.

use clap::Args;
use std::path::PathBuf;

/// Run the daemon
#[derive(Debug, Clone, Default, Args)]
pub struct DaemonArgs {
    /// Address to listen on: unix://PATH, tcp://HOST:PORT or fd:// (may be given several times)
    ///
    /// `?policy=NAME` behind an address limits what its clients may do.
    #[arg(short = 'H', long = "host", value_name = "URL")]
    pub hosts: Vec<String>,
    /// Unix socket to listen on (may be given several times)
    #[arg(long = "socket", value_name = "PATH")]
    pub sockets: Vec<PathBuf>,
    /// Space that builds may keep for later ones (default: a tenth of the disk, at most 100GiB)
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub cache_limit: Option<u64>,
    /// Listen where docker's clients look, too
    #[arg(long)]
    pub docker_socket: bool,
    /// Group that may use the unix sockets
    #[arg(short = 'G', long, value_name = "GROUP")]
    pub group: Option<String>,
    /// Configuration file, .toml or docker's .json (may be given several times)
    #[arg(long = "config-file", value_name = "FILE")]
    pub config_files: Vec<PathBuf>,
    /// Check the configuration and end
    #[arg(long)]
    pub validate: bool,
    /// Directory for images, containers and volumes
    #[arg(long, alias = "data-root", value_name = "DIRECTORY")]
    pub root: Option<PathBuf>,
    /// Directory for what is gone with the boot
    #[arg(long, alias = "exec-root", value_name = "DIRECTORY")]
    pub run_dir: Option<PathBuf>,
    /// File to write the process ID to
    #[arg(short = 'p', long, value_name = "FILE")]
    pub pidfile: Option<PathBuf>,
    /// Log at level debug
    #[arg(short = 'D', long)]
    pub debug: bool,
    /// Least level to log: debug, info, warn or error
    #[arg(short = 'l', long, value_name = "LEVEL")]
    pub log_level: Option<String>,
    /// Form of the log: text or json
    #[arg(long, value_name = "FORMAT")]
    pub log_format: Option<String>,
    /// Address of Prometheus metrics, HOST:PORT
    #[arg(long = "metrics-addr", value_name = "ADDRESS")]
    pub metrics_address: Option<String>,
    /// Use TLS on tcp:// addresses; --tls=false allows them without
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    pub tls: Option<bool>,
    /// Use TLS, and let in only clients with a certificate
    #[arg(long = "tlsverify")]
    pub tls_verify: bool,
    /// Authority of the clients' certificates
    #[arg(long = "tlscacert", value_name = "FILE")]
    pub tls_ca: Option<PathBuf>,
    /// The daemon's certificate
    #[arg(long = "tlscert", value_name = "FILE")]
    pub tls_certificate: Option<PathBuf>,
    /// The daemon's key
    #[arg(long = "tlskey", value_name = "FILE")]
    pub tls_key: Option<PathBuf>,
    /// Label of the daemon, KEY=VALUE (may be given several times)
    #[arg(long = "label", value_name = "LABEL")]
    pub labels: Vec<String>,
    /// Log driver of containers that ask for none
    #[arg(long, value_name = "DRIVER")]
    pub log_driver: Option<String>,
    /// Log driver option, KEY=VALUE (may be given several times)
    #[arg(long = "log-opt", value_name = "OPTION")]
    pub log_options: Vec<String>,
    /// Registry that may be spoken to without checked TLS (may be given several times)
    #[arg(long = "insecure-registry", value_name = "REGISTRY")]
    pub insecure_registries: Vec<String>,
    /// URL to ask before docker.io (may be given several times)
    #[arg(long = "registry-mirror", value_name = "URL")]
    pub registry_mirrors: Vec<String>,
    /// Name server of containers (may be given several times)
    #[arg(long, value_name = "ADDRESS")]
    pub dns: Vec<String>,
    /// Resolver option of containers (may be given several times)
    #[arg(long = "dns-opt", value_name = "OPTION")]
    pub dns_options: Vec<String>,
    /// Search domain of containers (may be given several times)
    #[arg(long, value_name = "DOMAIN")]
    pub dns_search: Vec<String>,
    /// Resource limit of containers, NAME=SOFT[:HARD] (may be given several times)
    #[arg(long = "default-ulimit", value_name = "LIMIT")]
    pub ulimits: Vec<String>,
    /// Size of /dev/shm of containers
    #[arg(long = "default-shm-size", value_name = "SIZE")]
    pub shm_size: Option<String>,
    /// Control group namespace of containers: private or host
    #[arg(long = "default-cgroupns-mode", value_name = "MODE")]
    pub cgroupns_mode: Option<String>,
    /// Control group parent of containers
    #[arg(long, value_name = "PATH")]
    pub cgroup_parent: Option<String>,
    /// Run a small init in containers
    #[arg(long)]
    pub init: bool,
    /// Forbid processes in containers to gain privileges
    #[arg(long)]
    pub no_new_privileges: bool,
    /// Host address of published ports
    #[arg(long = "ip", value_name = "ADDRESS")]
    pub publish_address: Option<String>,
    /// Print the API as an OpenAPI document and end
    #[arg(long)]
    pub print_openapi: bool,
}

fn parse_size(text: &str) -> Result<u64, String> {
    let bytes = crate::options::limits::memory("cache-limit", text);
    let bytes = bytes.map_err(|error| error.to_string())?;
    u64::try_from(bytes).map_err(|_| format!("{text:?} is no size"))
}
