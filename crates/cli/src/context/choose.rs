//! Which daemon a command is for: flags over environment over the configured context.

use std::path::{Path, PathBuf};

use crate::config_file::ConfigFile;
use crate::connection::{Address, Host};
use crate::context::{ContextStore, DEFAULT_CONTEXT};
use crate::error::{CliError, Result};
use crate::tls::TlsMaterial;

/// The flags that say which daemon is meant.
#[derive(Debug, Clone, Default)]
pub struct GlobalFlags {
    /// `--host`.
    pub host: Option<String>,
    /// `--context`.
    pub context: Option<String>,
    /// `--tls`.
    pub tls: bool,
    /// `--tlsverify`.
    pub tls_verify: bool,
    /// `--tlscacert`.
    pub tls_ca: Option<PathBuf>,
    /// `--tlscert`.
    pub tls_certificate: Option<PathBuf>,
    /// `--tlskey`.
    pub tls_key: Option<PathBuf>,
}

/// What was chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chosen {
    /// Name of the context; `default` where flags and environment decide.
    pub context: String,
    /// URL of the default context's daemon, where one was given.
    host: Option<String>,
}

/// Chooses the context, without looking at whether it exists.
///
/// # Errors
/// Docker's text when `--host` and `--context` are both given.
pub fn choose(
    flags: &GlobalFlags,
    variable: &dyn Fn(&str) -> Option<String>,
    config: &mut dyn FnMut() -> Result<Option<String>>,
) -> Result<Chosen> {
    let given = |name: &str| variable(name).filter(|value| !value.is_empty());
    if flags.host.is_some() && flags.context.is_some() {
        return Err(CliError::Plain(
            "conflicting options: cannot specify both --host and --context".to_owned(),
        ));
    }
    let by_url = |host: Option<String>| Chosen {
        context: DEFAULT_CONTEXT.to_owned(),
        host,
    };
    let host = || given("WHARF_HOST").or_else(|| given("DOCKER_HOST"));
    let by_name = |context: String| Chosen {
        host: if context == DEFAULT_CONTEXT {
            host()
        } else {
            None
        },
        context,
    };
    if let Some(context) = &flags.context {
        return Ok(by_name(context.clone()));
    }
    if let Some(host) = flags
        .host
        .clone()
        .filter(|host| !host.is_empty())
        .or_else(host)
    {
        return Ok(by_url(Some(host)));
    }
    if let Some(context) = given("DOCKER_CONTEXT") {
        return Ok(by_name(context));
    }
    Ok(by_name(
        config()?.unwrap_or_else(|| DEFAULT_CONTEXT.to_owned()),
    ))
}

impl Chosen {
    /// Returns the daemon's address.
    ///
    /// # Errors
    /// Docker's text for a context that does not exist or a URL that makes no sense.
    pub fn resolve(
        &self,
        flags: &GlobalFlags,
        config_directory: &Path,
        variable: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Host> {
        let failed = |error: CliError| {
            CliError::Plain(format!(
                "Failed to initialize: unable to resolve docker endpoint: {error}"
            ))
        };
        if self.context == DEFAULT_CONTEXT {
            return match &self.host {
                None => Ok(Host::usual()),
                Some(url) => {
                    Host::parse(url, flags.tls_material(config_directory, variable)).map_err(failed)
                }
            };
        }
        let store = ContextStore::below(config_directory);
        let stored = store.load(&self.context).map_err(failed)?;
        let endpoint = stored.endpoint();
        let mut host = if endpoint.host.is_empty() {
            Host::usual()
        } else {
            let tls = store.tls(&self.context, &endpoint);
            Host {
                address: Address::parse(&endpoint.host, tls).map_err(failed)?,
                is_explicit: true,
                context: String::new(),
            }
        };
        host.context.clone_from(&self.context);
        Ok(host)
    }

    /// Returns the URL of the default context's daemon.
    pub fn default_url(variable: &dyn Fn(&str) -> Option<String>) -> String {
        let given = |name: &str| variable(name).filter(|value| !value.is_empty());
        given("WHARF_HOST")
            .or_else(|| given("DOCKER_HOST"))
            .unwrap_or_else(|| Host::usual().url())
    }
}

impl GlobalFlags {
    /// Returns what to speak TLS with; None speaks in the clear.
    fn tls_material(
        &self,
        config_directory: &Path,
        variable: &dyn Fn(&str) -> Option<String>,
    ) -> Option<TlsMaterial> {
        let given = |name: &str| variable(name).filter(|value| !value.is_empty());
        let verifies = self.tls_verify || given("DOCKER_TLS_VERIFY").is_some();
        if !verifies && !self.tls && given("DOCKER_TLS").is_none() {
            return None;
        }
        let directory =
            given("DOCKER_CERT_PATH").map_or_else(|| config_directory.to_owned(), PathBuf::from);
        let usual = |flag: &Option<PathBuf>, name: &str| match flag {
            Some(path) => Some(path.clone()),
            None => {
                let path = directory.join(name);
                crate::host_files::metadata(&path).is_ok().then_some(path)
            }
        };
        Some(TlsMaterial {
            ca: usual(&self.tls_ca, "ca.pem"),
            certificate: usual(&self.tls_certificate, "cert.pem"),
            key: usual(&self.tls_key, "key.pem"),
            skips_verification: !verifies,
        })
    }
}

/// Returns the configured context.
pub fn configured(config: &ConfigFile) -> Option<String> {
    config.text("currentContext").map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(flags: &GlobalFlags, variables: &[(&str, &str)], configured: Option<&str>) -> String {
        let variable = |name: &str| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        match choose(flags, &variable, &mut || Ok(configured.map(str::to_owned))) {
            Ok(chosen) => format!("{} {}", chosen.context, chosen.host.unwrap_or_default()),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn flags_win_over_the_environment_and_that_over_the_configuration() {
        let flags = |host: Option<&str>, context: Option<&str>| GlobalFlags {
            host: host.map(str::to_owned),
            context: context.map(str::to_owned),
            ..GlobalFlags::default()
        };
        let none = flags(None, None);
        let both = [
            ("DOCKER_HOST", "d"),
            ("WHARF_HOST", "w"),
            ("DOCKER_CONTEXT", "c"),
        ];
        assert_eq!(chosen(&none, &[], None), "default ");
        assert_eq!(chosen(&none, &[], Some("x")), "x ");
        assert_eq!(chosen(&none, &[("DOCKER_CONTEXT", "c")], Some("x")), "c ");
        assert_eq!(chosen(&none, &both, Some("x")), "default w");
        assert_eq!(
            chosen(&none, &[("DOCKER_HOST", "d")], Some("x")),
            "default d"
        );
        assert_eq!(chosen(&flags(Some("f"), None), &both, None), "default f");
        assert_eq!(chosen(&flags(None, Some("x")), &both, None), "x ");
        assert_eq!(
            chosen(&flags(None, Some("default")), &both, None),
            "default w"
        );
        assert!(chosen(&flags(Some("f"), Some("x")), &[], None).starts_with("conflicting options"));
    }
}
