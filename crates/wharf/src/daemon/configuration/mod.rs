//! The settings in force: flags over `daemon.toml` over `daemon.json`.

mod engine;
mod flags;
mod listen;

use super::file::{self, Layer};
use super::logging::{self, Format};
use std::path::{Path, PathBuf};
use tracing::level_filters::LevelFilter;
use wharf_api::TlsFiles;
use wharf_cli::DaemonArgs;
use wharf_engine::{DEFAULT_ROOT, Settings, instance_name};

pub use listen::{Address, Group, SocketSetting};

use engine::engine_settings;
use flags::from_flags;
use listen::{sockets, tls};

/// State directory of the default root.
const DEFAULT_RUN_DIR: &str = "/run/wharf";

/// Everything the daemon is told.
#[derive(Debug)]
pub struct Configuration {
    pub root: PathBuf,
    pub run_dir: PathBuf,
    pub pidfile: Option<PathBuf>,
    pub sockets: Vec<SocketSetting>,
    /// Certificates for TCP sockets; None listens without TLS.
    pub tls: Option<TlsFiles>,
    /// TCP without TLS was asked for in so many words.
    pub allows_plain_tcp: bool,
    pub metrics_address: Option<String>,
    pub log_level: LevelFilter,
    pub log_format: Format,
    pub engine: Settings,
    /// Bytes that builds may keep; None for a share of the disk.
    pub cache_limit_bytes: Option<u64>,
    /// What the user should know.
    pub warnings: Vec<String>,
}

impl Configuration {
    /// Reads the files that the flags name, or those that are there, and merges all.
    ///
    /// # Errors
    /// One line that names the file or flag and what is wrong with it.
    pub fn load(args: &DaemonArgs) -> Result<Self, String> {
        let (files, mut warnings) = read_files(&args.config_files)?;
        let merged = files
            .into_iter()
            .fold(from_flags(args)?, |upper, lower| upper.over(lower));
        let mut configuration = Self::from_layer(merged)?;
        warnings.append(&mut configuration.warnings);
        configuration.warnings = warnings;
        configuration.cache_limit_bytes = args.cache_limit;
        Ok(configuration)
    }

    fn from_layer(layer: Layer) -> Result<Self, String> {
        let root = layer.root.clone().unwrap_or_else(|| DEFAULT_ROOT.into());
        let run_dir = match &layer.run_dir {
            Some(directory) => directory.clone(),
            None => default_run_dir(&root),
        };
        let debug = layer.debug.unwrap_or(false);
        let log_level = match layer.log_level.as_deref() {
            _ if debug => LevelFilter::DEBUG,
            Some(text) => logging::parse_level(text)?,
            None => LevelFilter::INFO,
        };
        let log_format = match layer.log_format.as_deref() {
            Some(text) => logging::parse_format(text)?,
            None => Format::Text,
        };
        let engine = engine_settings(&layer, log_level)?;
        engine.check().map_err(|error| error.message().to_owned())?;
        let sockets = sockets(&layer)?;
        let has_tcp = sockets
            .iter()
            .any(|socket| matches!(socket.address, Address::Tcp(_)));
        Ok(Self {
            root,
            run_dir,
            pidfile: layer.pidfile.clone(),
            tls: tls(&layer, has_tcp),
            sockets,
            allows_plain_tcp: layer.tls == Some(false),
            metrics_address: layer.metrics_addr.clone(),
            log_level,
            log_format,
            engine,
            cache_limit_bytes: None,
            warnings: Vec::new(),
        })
    }

    /// Returns the names of settings that differ from `other` and count from the next start on.
    pub fn fixed_differences(&self, other: &Self) -> Vec<&'static str> {
        let addresses = |configuration: &Self| -> Vec<Address> {
            let sockets = configuration.sockets.iter();
            sockets.map(|socket| socket.address.clone()).collect()
        };
        [
            ("root", self.root != other.root),
            ("run-dir", self.run_dir != other.run_dir),
            ("pidfile", self.pidfile != other.pidfile),
            ("listening addresses", addresses(self) != addresses(other)),
            ("TLS files", self.tls != other.tls),
            (
                "metrics-addr",
                self.metrics_address != other.metrics_address,
            ),
            ("log-format", self.log_format != other.log_format),
            ("proxies", self.engine.proxies != other.engine.proxies),
            (
                "networks",
                self.engine.network.of_the_start() != other.engine.network.of_the_start(),
            ),
        ]
        .into_iter()
        .filter(|(_, differs)| *differs)
        .map(|(name, _)| name)
        .collect()
    }
}

/// Returns the files' layers, the strongest first, and warnings.
fn read_files(named: &[PathBuf]) -> Result<(Vec<Layer>, Vec<String>), String> {
    let (mut layers, mut warnings) = (Vec::new(), Vec::new());
    let usual = [
        PathBuf::from(file::TOML_PATH),
        PathBuf::from(file::JSON_PATH),
    ];
    let (paths, is_asked_for) = if named.is_empty() {
        (&usual[..], false)
    } else {
        (named, true)
    };
    let is_json = |path: &&PathBuf| {
        path.extension()
            .is_some_and(|extension| extension == "json")
    };
    let (json, toml): (Vec<_>, Vec<_>) = paths.iter().partition(is_json);
    for path in toml.into_iter().chain(json) {
        if let Some(read) = file::read(path, is_asked_for)? {
            layers.push(read.layer);
            warnings.extend(read.warnings);
        }
    }
    Ok((layers, warnings))
}

/// A root of one's own keeps its state beside the default one, under a name made of its path.
fn default_run_dir(root: &Path) -> PathBuf {
    if root == Path::new(DEFAULT_ROOT) {
        return PathBuf::from(DEFAULT_RUN_DIR);
    }
    Path::new("/run").join(instance_name(root))
}

#[cfg(test)]
mod tests {
    use super::*;
    use wharf_api::Policy;

    fn configuration(toml: &str) -> Result<Configuration, String> {
        let layer: Layer = toml::from_str(toml).map_err(|error| error.to_string())?;
        Configuration::from_layer(layer)
    }

    #[test]
    fn sockets_have_policies() {
        let read = configuration(
            "[[listen]]\naddress = \"unix:///a\"\n[[listen]]\naddress = \"unix:///b\"\npolicy = \"mine\"\n\
             [policy.mine]\nallow = [\"events\"]\nlabel = \"a=b\"\n",
        )
        .expect("a configuration");
        assert_eq!(read.sockets[0].policy, Policy::full());
        assert_ne!(read.sockets[1].policy, Policy::full());
        let error = configuration("hosts = [\"unix:///a?policy=nope\"]").expect_err("no policy");
        assert!(error.contains("nope"), "{error}");
    }

    #[test]
    fn mistakes_stop_the_start() {
        for (toml, part) in [
            ("log-level = \"loud\"", "log-level"),
            ("log-format = \"xml\"", "log-format"),
            ("labels = [\"x\"]", "labels"),
            ("ip = \"here\"", "ip"),
            ("bip = \"here\"", "bip"),
            ("fixed-cidr-v6 = \"10.0.0.0/8\"", "fixed-cidr-v6"),
            ("default-gateway = \"here\"", "default-gateway"),
            ("default-gateway-v6 = \"10.0.0.1\"", "default-gateway-v6"),
            ("host-gateway-ips = [\"x\"]", "host-gateway-ips"),
            ("default-runtime = \"nope\"", "default-runtime"),
            ("default-ipc-mode = \"host\"", "default-ipc-mode"),
            (
                "default-address-pools = [{ base = \"10.0.0.0/16\", size = 8 }]",
                "default-address-pools",
            ),
            ("default-shm-size = \"big\"", "default-shm-size"),
            ("log-opts = { max-size = \"x\" }", "log-opts"),
            ("registry-mirrors = [\"nourl\"]", "mirror"),
        ] {
            let error = configuration(toml).expect_err(toml);
            assert!(error.contains(part), "{toml}: {error}");
        }
    }

    #[test]
    fn differences_that_need_a_restart_are_named() {
        let one = configuration("hosts = [\"unix:///a\"]").expect("a configuration");
        let two = configuration("hosts = [\"unix:///b\"]\ndebug = true").expect("a configuration");
        assert_eq!(one.fixed_differences(&two), ["listening addresses"]);
        assert!(two.engine.debug);
    }
}
