//! What an administrator sets for the whole engine; can change while it runs.

use crate::engine::Engine;
use crate::error::{EngineError, ErrorKind, Result};
use crate::model::host_config::{HostConfig, LogConfig, Ulimit};
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};
use wharf_runtime::ExternalRuntime;

/// Log driver of containers that ask for none.
pub const DEFAULT_LOG_DRIVER: &str = "json-file";

/// Layers that are downloaded at once where nothing is set.
const LAYERS_DOWN: usize = 16;
/// Layers that are uploaded at once where nothing is set, as with docker.
const LAYERS_UP: usize = 5;

/// A filter of system calls that is not the built-in one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeccompDefault {
    /// What `info` calls it.
    pub name: String,
    /// A profile's text, or `unconfined`.
    pub profile: String,
}

/// Holds an engine's settings. Defaults apply to containers that are created from then on.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Settings {
    /// Labels of the engine, `key=value`, shown by `info`.
    pub labels: Vec<String>,
    /// True while the engine logs at level debug; shown by `info`.
    pub debug: bool,
    /// Log driver and options of containers that ask for no driver; an empty driver means
    /// [`DEFAULT_LOG_DRIVER`].
    pub log: LogConfig,
    /// Registries that may be spoken to without checked TLS: `host`, `host:port` or a network.
    pub insecure_registries: Vec<String>,
    /// URLs that are asked before docker.io when an image is pulled.
    pub registry_mirrors: Vec<String>,
    /// Name servers of containers that name none.
    pub dns: Vec<String>,
    /// Resolver options of containers that give none.
    pub dns_options: Vec<String>,
    /// Search domains of containers that give none.
    pub dns_search: Vec<String>,
    /// Resource limits by name of containers that do not set them.
    pub ulimits: Vec<Ulimit>,
    /// Bytes of `/dev/shm` where nothing is asked for; None means 64 MiB.
    pub shm_size_bytes: Option<i64>,
    /// Runs a small init as process 1 where nothing is asked for.
    pub init: bool,
    /// The small init of containers that an OCI runtime program makes; empty means one that is installed.
    pub init_program: std::path::PathBuf,
    /// Control group namespace where nothing is asked for: `private` or `host`; empty leaves the
    /// choice to the engine.
    pub cgroupns_mode: String,
    /// Control group parent where nothing is asked for.
    pub cgroup_parent: String,
    /// Forbids processes to gain privileges where nothing is asked for.
    pub no_new_privileges: bool,
    /// Host address of published ports that name none; empty means every address.
    pub publish_address: String,
    /// Inter-process namespace where nothing is asked for: `private` or `shareable`; empty means
    /// `private`.
    pub ipc_mode: String,
    /// Networks.
    pub network: crate::network::NetworkSettings,
    /// OCI runtimes by name, beside those that are looked for on the host.
    pub runtimes: BTreeMap<String, ExternalRuntime>,
    /// Runtime of containers that ask for none; empty means the built-in one.
    pub default_runtime: String,
    /// Filter of system calls of containers that ask for none; None means the built-in one.
    pub seccomp: Option<SeccompDefault>,
    /// Layers that are downloaded at once, 0 for as many as there are; None means 16.
    pub layers_down: Option<usize>,
    /// Layers that are uploaded at once, 0 for as many as there are; None means 5.
    pub layers_up: Option<usize>,
    /// How often a request to a registry is made before its failure is told; None means 5.
    pub download_attempts: Option<u32>,
    /// Proxies of the engine as `info` shows them: HTTP, HTTPS, exceptions.
    pub proxies: [String; 3],
}

impl Settings {
    /// Returns the log driver of containers that ask for none.
    pub fn log_driver(&self) -> &str {
        if self.log.driver.is_empty() {
            DEFAULT_LOG_DRIVER
        } else {
            &self.log.driver
        }
    }

    /// Refuses settings that no container could be created with.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] with the setting's name.
    pub fn check(&self) -> Result<()> {
        if self.log_driver() == DEFAULT_LOG_DRIVER {
            crate::container::log_options::LogOptions::parse(&self.log)
                .map_err(|error| EngineError::invalid(format!("log-opts: {}", error.message())))?;
        }
        for label in &self.labels {
            let key = label.split('=').next().unwrap_or_default();
            if key.is_empty() || !label.contains('=') {
                return Err(EngineError::invalid(format!(
                    "labels: {label:?} is not of the form key=value"
                )));
            }
        }
        if !matches!(self.cgroupns_mode.as_str(), "" | "private" | "host") {
            return Err(EngineError::invalid(format!(
                "default-cgroupns-mode: {:?} is neither private nor host",
                self.cgroupns_mode
            )));
        }
        if !matches!(self.ipc_mode.as_str(), "" | "private" | "shareable") {
            return Err(EngineError::invalid(format!(
                "default-ipc-mode: {:?} is neither private nor shareable",
                self.ipc_mode
            )));
        }
        if let Some(seccomp) = self
            .seccomp
            .as_ref()
            .filter(|own| own.profile != "unconfined")
        {
            crate::container::seccomp::parse_profile(&seccomp.profile, &[]).map_err(|error| {
                EngineError::invalid(format!("seccomp-profile: {}", error.message()))
            })?;
        }
        self.network.check()?;
        crate::container::runtimes::find(self, "").map_err(|error| {
            EngineError::invalid(format!("default-runtime: {}", error.message()))
        })?;
        wharf_registry::Client::new(self.registry_options())
            .map(drop)
            .map_err(|error| EngineError::wrap(ErrorKind::Invalid, "registries", error))
    }

    /// Fills in what a create request leaves open.
    pub(crate) fn fill_in(&self, host: &mut HostConfig) {
        if host.log_config.driver.is_empty() {
            self.log_driver().clone_into(&mut host.log_config.driver);
            if host.log_config.options.is_empty() {
                host.log_config.options = self.log.options.clone();
            }
        }
        let shares_network =
            host.network_mode == "host" || host.network_mode.starts_with("container:");
        for (wanted, own) in [
            (&mut host.dns, &self.dns),
            (&mut host.dns_options, &self.dns_options),
            (&mut host.dns_search, &self.dns_search),
        ] {
            if wanted.is_empty() && !shares_network {
                wanted.clone_from(own);
            }
        }
        for limit in &self.ulimits {
            if host.ulimits.iter().all(|own| own.name != limit.name) {
                host.ulimits.push(limit.clone());
            }
        }
        if host.shm_size_bytes == 0 {
            host.shm_size_bytes = self.shm_size_bytes.unwrap_or_default();
        }
        if host.init.is_none() && self.init {
            host.init = Some(true);
        }
        if host.ipc_mode.is_empty() {
            host.ipc_mode.clone_from(&self.ipc_mode);
        }
        if host.cgroupns_mode.is_empty() && !host.privileged {
            host.cgroupns_mode.clone_from(&self.cgroupns_mode);
        }
        if host.resources.cgroup_parent.is_empty() {
            host.resources.cgroup_parent.clone_from(&self.cgroup_parent);
        }
        let says_privileges = |option: &String| option.starts_with("no-new-privileges");
        if self.no_new_privileges && !host.security_opt.iter().any(says_privileges) {
            host.security_opt.push("no-new-privileges".to_owned());
        }
        let says_seccomp = |option: &String| option.starts_with("seccomp");
        if let Some(seccomp) = &self.seccomp
            && !host.privileged
            && !host.security_opt.iter().any(says_seccomp)
        {
            host.security_opt
                .push(format!("seccomp={}", seccomp.profile));
        }
        for binding in host.port_bindings.values_mut().flatten() {
            if binding.host_ip.is_empty() {
                binding.host_ip.clone_from(&self.publish_address);
            }
        }
    }

    pub(crate) fn registry_options(&self) -> wharf_registry::ClientOptions {
        let defaults = wharf_registry::ClientOptions::default();
        wharf_registry::ClientOptions {
            insecure_registries: self.insecure_registries.clone(),
            mirrors: self.registry_mirrors.clone(),
            attempts: self.download_attempts.unwrap_or(defaults.attempts),
            ..defaults
        }
    }

    /// Returns how many layers may be downloaded at once; 0 is no limit.
    pub(crate) fn layers_down(&self) -> usize {
        self.layers_down.unwrap_or(LAYERS_DOWN)
    }

    /// Returns how many layers may be uploaded at once; 0 is no limit.
    pub(crate) fn layers_up(&self) -> usize {
        self.layers_up.unwrap_or(LAYERS_UP)
    }

    /// Returns what can change while the engine runs, as attributes of the event `reload`.
    fn attributes(&self) -> BTreeMap<String, String> {
        let json = |list: &[String]| serde_json::to_string(list).unwrap_or_default();
        BTreeMap::from([
            ("debug".to_owned(), self.debug.to_string()),
            ("labels".to_owned(), json(&self.labels)),
            (
                "insecure-registries".to_owned(),
                json(&self.insecure_registries),
            ),
            ("registry-mirrors".to_owned(), json(&self.registry_mirrors)),
            ("live-restore".to_owned(), "true".to_owned()),
            (
                "default-log-driver".to_owned(),
                self.log_driver().to_owned(),
            ),
        ])
    }
}

/// The engine's current settings: readers take what is current, and keep it as long as they like.
#[derive(Debug, Default)]
pub(crate) struct Current(RwLock<Arc<Settings>>);

impl Current {
    pub(crate) fn new(settings: Settings) -> Self {
        Self(RwLock::new(Arc::new(settings)))
    }

    pub(crate) fn get(&self) -> Arc<Settings> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn set(&self, settings: Settings) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(settings);
    }
}

impl Engine {
    /// Returns the settings in force.
    pub fn settings(&self) -> Arc<Settings> {
        self.settings.get()
    }

    /// Puts other settings in force and tells so in the event `reload`.
    ///
    /// # Errors
    /// Those of [`Settings::check`]; the old settings stay then.
    pub fn reload(&self, settings: Settings) -> Result<()> {
        settings.check()?;
        self.registry
            .reconfigure(settings.registry_options())
            .map_err(|error| EngineError::wrap(ErrorKind::Invalid, "registries", error))?;
        let mut attributes = settings.attributes();
        attributes.insert("name".to_owned(), crate::host::host().name.clone());
        self.settings.set(settings);
        self.events
            .publish("daemon", "reload", &self.id, attributes);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_fill_only_what_is_open() {
        let settings = Settings {
            log: LogConfig {
                driver: String::new(),
                options: BTreeMap::from([("max-size".to_owned(), "1m".to_owned())]),
            },
            dns: vec!["10.0.0.1".to_owned()],
            shm_size_bytes: Some(1 << 20),
            init: true,
            ..Settings::default()
        };
        let mut open = HostConfig::default();
        settings.fill_in(&mut open);
        assert_eq!(open.log_config.driver, "json-file");
        assert_eq!(open.log_config.options["max-size"], "1m");
        assert_eq!(open.dns, ["10.0.0.1"]);
        assert_eq!((open.shm_size_bytes, open.init), (1 << 20, Some(true)));
        let mut own = HostConfig {
            log_config: LogConfig {
                driver: "none".to_owned(),
                ..LogConfig::default()
            },
            init: Some(false),
            ..HostConfig::default()
        };
        settings.fill_in(&mut own);
        assert_eq!(own.log_config.driver, "none");
        assert!(own.log_config.options.is_empty());
        assert_eq!(own.init, Some(false));
    }

    #[test]
    fn the_filter_of_system_calls_is_for_those_that_ask_for_none() {
        let settings = Settings {
            seccomp: Some(SeccompDefault {
                name: "/etc/own.json".to_owned(),
                profile: "{\"defaultAction\":\"SCMP_ACT_ALLOW\"}".to_owned(),
            }),
            ..Settings::default()
        };
        assert!(settings.check().is_ok());
        let filled = |options: &[&str], privileged: bool| {
            let mut host = HostConfig {
                security_opt: options.iter().map(|&option| option.to_owned()).collect(),
                privileged,
                ..HostConfig::default()
            };
            settings.fill_in(&mut host);
            host.security_opt
        };
        assert_eq!(
            filled(&[], false),
            ["seccomp={\"defaultAction\":\"SCMP_ACT_ALLOW\"}"]
        );
        assert_eq!(filled(&["seccomp=builtin"], false), ["seccomp=builtin"]);
        assert!(filled(&[], true).is_empty());
        let broken = SeccompDefault {
            name: "x".to_owned(),
            profile: "x".to_owned(),
        };
        let settings = Settings {
            seccomp: Some(broken),
            ..Settings::default()
        };
        assert!(settings.check().is_err());
    }

    #[test]
    fn what_no_container_could_use_is_refused() {
        for settings in [
            Settings {
                labels: vec!["nokey".to_owned()],
                ..Settings::default()
            },
            Settings {
                log: LogConfig {
                    driver: String::new(),
                    options: BTreeMap::from([("nonsense".to_owned(), "1".to_owned())]),
                },
                ..Settings::default()
            },
            Settings {
                insecure_registries: vec!["not a host".to_owned()],
                ..Settings::default()
            },
        ] {
            assert!(settings.check().is_err(), "{settings:?}");
        }
        assert!(Settings::default().check().is_ok());
    }
}
