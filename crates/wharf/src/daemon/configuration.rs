//! The settings in force: flags over `daemon.toml` over `daemon.json`.

use super::defaults;
use super::file::{self, Addresses, Layer, Limit, Listen, PolicyTable, Size};
use super::logging::{self, Format};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tracing::level_filters::LevelFilter;
use wharf_api::{Policy, PolicyOptions, TlsFiles};
use wharf_cli::{DEFAULT_SOCKET, DaemonArgs};
use wharf_engine::model::host_config::{LogConfig, Ulimit};
use wharf_engine::model::network::Prefix;
use wharf_engine::{DEFAULT_ROOT, ExternalRuntime, NetworkSettings, Settings, instance_name};

/// State directory of the default root.
const DEFAULT_RUN_DIR: &str = "/run/wharf";
/// Where docker's own clients look.
const DOCKER_SOCKET: &str = "/var/run/docker.sock";
/// Group that may use the sockets when none is named, as with docker.
const DEFAULT_GROUP: &str = "docker";

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

/// A socket to listen on.
#[derive(Debug, Clone, PartialEq)]
pub struct SocketSetting {
    pub address: Address,
    pub policy: Policy,
    pub group: Group,
}

/// The group of a unix socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Group {
    /// Named by the user: must exist.
    Named(String),
    /// The usual one, if it exists.
    Usual(&'static str),
}

/// Where to listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    Unix(PathBuf),
    Tcp(String),
    /// Sockets passed by the service manager: all, or those of one name or number.
    Passed(String),
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

fn from_flags(args: &DaemonArgs) -> Result<Layer, String> {
    let list = |values: &[String]| (!values.is_empty()).then(|| values.to_vec());
    let unix = args
        .sockets
        .iter()
        .map(|path| format!("unix://{}", path.display()));
    let hosts: Vec<String> = unix.chain(args.hosts.iter().cloned()).collect();
    let mut log_opts = BTreeMap::new();
    for option in &args.log_options {
        let (key, value) = option
            .split_once('=')
            .ok_or_else(|| format!("--log-opt: {option:?} is not of the form key=value"))?;
        log_opts.insert(key.to_owned(), value.to_owned());
    }
    let mut limits = BTreeMap::new();
    for text in &args.ulimits {
        let parsed =
            wharf_cli::parse_ulimit(text).map_err(|error| format!("--default-ulimit: {error}"))?;
        let limit = Limit {
            name: parsed.name.clone(),
            hard: parsed.hard,
            soft: parsed.soft,
        };
        limits.insert(parsed.name, limit);
    }
    Ok(Layer {
        root: args.root.clone(),
        run_dir: args.run_dir.clone(),
        pidfile: args.pidfile.clone(),
        hosts: list(&hosts),
        listen: None,
        docker_socket: args.docker_socket.then_some(true),
        policy: None,
        group: args.group.clone(),
        debug: args.debug.then_some(true),
        log_level: args.log_level.clone(),
        log_format: args.log_format.clone(),
        metrics_addr: args.metrics_address.clone(),
        tls: args.tls,
        tlsverify: args.tls_verify.then_some(true),
        tlscacert: args.tls_ca.clone(),
        tlscert: args.tls_certificate.clone(),
        tlskey: args.tls_key.clone(),
        labels: list(&args.labels),
        log_driver: args.log_driver.clone(),
        log_opts: (!log_opts.is_empty()).then_some(log_opts),
        insecure_registries: list(&args.insecure_registries),
        registry_mirrors: list(&args.registry_mirrors),
        dns: list(&args.dns),
        dns_opts: list(&args.dns_options),
        dns_search: list(&args.dns_search),
        default_ulimits: (!limits.is_empty()).then_some(limits),
        default_shm_size: args.shm_size.clone().map(Size::Text),
        default_cgroupns_mode: args.cgroupns_mode.clone(),
        cgroup_parent: args.cgroup_parent.clone(),
        init: args.init.then_some(true),
        no_new_privileges: args.no_new_privileges.then_some(true),
        ip: args.publish_address.clone(),
        ..Layer::default()
    })
}

fn engine_settings(layer: &Layer, log_level: LevelFilter) -> Result<Settings, String> {
    let list = |values: &Option<Vec<String>>| values.clone().unwrap_or_default();
    let shm_size_bytes = match &layer.default_shm_size {
        None => None,
        Some(Size::Bytes(bytes)) => Some(*bytes),
        Some(Size::Text(text)) => {
            let bytes = wharf_cli::ram_in_bytes(text)
                .map_err(|error| format!("default-shm-size: {error}"))?;
            Some(bytes)
        }
    };
    let limits = layer.default_ulimits.iter().flatten();
    let ulimits = limits.map(|(key, limit)| Ulimit {
        name: if limit.name.is_empty() {
            key
        } else {
            &limit.name
        }
        .clone(),
        hard: limit.hard,
        soft: limit.soft,
    });
    let publish_address = layer.ip.clone().unwrap_or_default();
    if !publish_address.is_empty() && publish_address.parse::<std::net::IpAddr>().is_err() {
        return Err(format!("ip: {publish_address:?} is not an address"));
    }
    let runtimes = layer.runtimes.iter().flatten();
    let runtimes = runtimes.map(|(name, table)| {
        let runtime = ExternalRuntime {
            program: table.path.clone(),
            arguments: table.arguments.clone(),
        };
        (name.clone(), runtime)
    });
    Ok(Settings {
        runtimes: runtimes.collect(),
        default_runtime: layer.default_runtime.clone().unwrap_or_default(),
        ipc_mode: layer.default_ipc_mode.clone().unwrap_or_default(),
        network: network_settings(layer)?,
        labels: list(&layer.labels),
        debug: log_level >= LevelFilter::DEBUG,
        log: LogConfig {
            driver: layer.log_driver.clone().unwrap_or_default(),
            options: layer.log_opts.clone().unwrap_or_default(),
        },
        insecure_registries: list(&layer.insecure_registries),
        registry_mirrors: list(&layer.registry_mirrors),
        dns: list(&layer.dns),
        dns_options: list(&layer.dns_opts),
        dns_search: list(&layer.dns_search),
        ulimits: ulimits.collect(),
        shm_size_bytes,
        init: layer.init.unwrap_or(false),
        init_program: layer.init_path.clone().unwrap_or_default(),
        cgroupns_mode: layer.default_cgroupns_mode.clone().unwrap_or_default(),
        cgroup_parent: layer.cgroup_parent.clone().unwrap_or_default(),
        no_new_privileges: layer.no_new_privileges.unwrap_or(false),
        publish_address,
        proxies: defaults::proxies(layer),
        seccomp: defaults::seccomp(layer)?,
        layers_down: defaults::count("max-concurrent-downloads", layer.max_concurrent_downloads)?,
        layers_up: defaults::count("max-concurrent-uploads", layer.max_concurrent_uploads)?,
        download_attempts: defaults::attempts(layer)?,
    })
}

fn network_settings(layer: &Layer) -> Result<NetworkSettings, String> {
    let prefix = |name: &str, text: &str| {
        Prefix::parse(text).ok_or_else(|| {
            format!("{name}: {text:?} is not an address with a prefix length such as 10.9.0.1/16")
        })
    };
    let optional = |name: &str, text: &Option<String>| {
        let text = text.as_deref().filter(|text| !text.is_empty());
        text.map(|text| prefix(name, text)).transpose()
    };
    let gateway = |name: &str, text: &Option<String>| {
        let text = text.as_deref().filter(|text| !text.is_empty());
        let not_one = |text: &str| format!("{name}: {text:?} is not an address");
        text.map(|text| text.parse().map_err(|_| not_one(text)))
            .transpose()
    };
    let pools = layer.default_address_pools.iter().flatten();
    let pools = pools.map(|pool| Ok((prefix("default-address-pools", &pool.base)?, pool.size)));
    let gateways = match &layer.host_gateway_ips {
        None => Vec::new(),
        Some(Addresses::One(address)) => vec![address.clone()],
        Some(Addresses::Several(addresses)) => addresses.clone(),
    };
    let gateways = gateways.iter().filter(|text| !text.is_empty());
    let gateways = gateways.map(|text| {
        let not_one = |_| format!("host-gateway-ips: {text:?} is not an address");
        text.parse::<std::net::IpAddr>().map_err(not_one)
    });
    Ok(NetworkSettings {
        address_pools: pools.collect::<Result<_, String>>()?,
        bip: optional("bip", &layer.bip)?,
        bip6: optional("bip6", &layer.bip6)?,
        fixed_cidr: optional("fixed-cidr", &layer.fixed_cidr)?,
        fixed_cidr_v6: optional("fixed-cidr-v6", &layer.fixed_cidr_v6)?,
        gateway: gateway("default-gateway", &layer.default_gateway)?,
        gateway_v6: gateway("default-gateway-v6", &layer.default_gateway_v6)?,
        ipv6: layer.ipv6.unwrap_or(false),
        mtu: layer.mtu.filter(|mtu| *mtu > 0),
        icc: layer.icc,
        masquerade: layer.ip_masq,
        default_options: layer.default_network_opts.clone().unwrap_or_default(),
        host_gateways: gateways.collect::<Result<_, String>>()?,
    })
}

fn sockets(layer: &Layer) -> Result<Vec<SocketSetting>, String> {
    let policies = layer.policy.clone().unwrap_or_default();
    let group = match &layer.group {
        Some(name) => Group::Named(name.clone()),
        None => Group::Usual(DEFAULT_GROUP),
    };
    let from_hosts = layer.hosts.iter().flatten().map(|host| {
        let (address, policy) = match host.split_once("?policy=") {
            Some((address, policy)) => (address, Some(policy.to_owned())),
            None => (host.as_str(), None),
        };
        Listen {
            address: address.to_owned(),
            policy,
            group: None,
        }
    });
    let mut listens: Vec<Listen> = from_hosts
        .chain(layer.listen.iter().flatten().cloned())
        .collect();
    if listens.is_empty() {
        let has_passed = super::sockets::has_passed();
        listens.push(Listen {
            address: if has_passed {
                "fd://".to_owned()
            } else {
                format!("unix://{DEFAULT_SOCKET}")
            },
            policy: None,
            group: None,
        });
    }
    if layer.docker_socket == Some(true) {
        listens.push(Listen {
            address: format!("unix://{DOCKER_SOCKET}"),
            policy: None,
            group: None,
        });
    }
    let has_tls = layer.tls != Some(false) && (layer.tls.is_some() || layer.tlsverify.is_some());
    listens
        .into_iter()
        .map(|listen| {
            Ok(SocketSetting {
                address: parse_address(&listen.address, has_tls)?,
                policy: find_policy(listen.policy.as_deref(), &policies)?,
                group: listen.group.map_or_else(|| group.clone(), Group::Named),
            })
        })
        .collect()
}

fn find_policy(
    name: Option<&str>,
    tables: &BTreeMap<String, PolicyTable>,
) -> Result<Policy, String> {
    let Some(name) = name else {
        return Ok(Policy::full());
    };
    if let Some(table) = tables.get(name) {
        let options = PolicyOptions {
            allow: table.allow.clone(),
            label: table.label.clone(),
            host_access: table.host_access,
        };
        return Policy::new(&options).map_err(|error| format!("policy {name}: {error}"));
    }
    Policy::preset(name).ok_or_else(|| {
        format!(
            "policy {name:?} is neither defined nor one of full, read-only, traefik, watchtower, ci"
        )
    })
}

fn parse_address(url: &str, has_tls: bool) -> Result<Address, String> {
    if let Some(rest) = url.strip_prefix("tcp://") {
        let rest = rest.trim_end_matches('/');
        let port = if has_tls { 2376 } else { 2375 };
        let has_port = rest.rsplit_once(':').is_some_and(|(host, port)| {
            port.parse::<u16>().is_ok() && (!host.contains(':') || host.ends_with(']'))
        });
        let address = match rest {
            "" => format!("127.0.0.1:{port}"),
            _ if has_port && rest.starts_with(':') => format!("127.0.0.1{rest}"),
            _ if has_port => rest.to_owned(),
            host => format!("{host}:{port}"),
        };
        return Ok(Address::Tcp(address));
    }
    if let Some(name) = url.strip_prefix("fd://") {
        let name = if name == "*" { "" } else { name };
        return Ok(Address::Passed(name.to_owned()));
    }
    let path = match url.strip_prefix("unix://") {
        Some("") => DEFAULT_SOCKET,
        Some(path) => path,
        None => url,
    };
    if path.starts_with('/') {
        return Ok(Address::Unix(path.into()));
    }
    Err(format!(
        "cannot listen on {url:?}: expected unix:///PATH, tcp://HOST:PORT or fd://"
    ))
}

fn tls(layer: &Layer, has_tcp: bool) -> Option<TlsFiles> {
    let verifies = layer.tlsverify == Some(true);
    let wants = verifies || layer.tls == Some(true) || layer.tlscacert.is_some();
    if layer.tls == Some(false) || !wants || !has_tcp {
        return None;
    }
    let directory = std::env::var_os("DOCKER_CERT_PATH").map_or_else(
        || {
            let home = std::env::var_os("HOME").unwrap_or_else(|| "/root".into());
            PathBuf::from(home).join(".docker")
        },
        PathBuf::from,
    );
    let or_usual =
        |given: &Option<PathBuf>, name: &str| given.clone().unwrap_or_else(|| directory.join(name));
    Some(TlsFiles {
        client_ca: verifies.then(|| or_usual(&layer.tlscacert, "ca.pem")),
        certificate: or_usual(&layer.tlscert, "cert.pem"),
        key: or_usual(&layer.tlskey, "key.pem"),
    })
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

    fn configuration(toml: &str) -> Result<Configuration, String> {
        let layer: Layer = toml::from_str(toml).map_err(|error| error.to_string())?;
        Configuration::from_layer(layer)
    }

    #[test]
    fn addresses() {
        for (url, expected) in [
            ("unix:///a", Address::Unix("/a".into())),
            ("/a", Address::Unix("/a".into())),
            ("unix://", Address::Unix(DEFAULT_SOCKET.into())),
            ("tcp://", Address::Tcp("127.0.0.1:2375".into())),
            ("tcp://:99", Address::Tcp("127.0.0.1:99".into())),
            ("tcp://h", Address::Tcp("h:2375".into())),
            ("tcp://h:1/", Address::Tcp("h:1".into())),
            ("tcp://[::1]:1", Address::Tcp("[::1]:1".into())),
            ("tcp://[::1]", Address::Tcp("[::1]:2375".into())),
            ("fd://", Address::Passed(String::new())),
            ("fd://web", Address::Passed("web".into())),
        ] {
            assert_eq!(parse_address(url, false), Ok(expected), "{url}");
        }
        assert_eq!(
            parse_address("tcp://h", true),
            Ok(Address::Tcp("h:2376".into()))
        );
        assert!(parse_address("npipe://x", false).is_err());
        assert!(parse_address("relative", false).is_err());
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
