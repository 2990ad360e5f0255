//! `--security-opt`, masked and read-only paths (spec runtime §2.2, §2.5, §2.7).

use super::seccomp;
use crate::error::{EngineError, ErrorKind, Result};
use crate::model::host_config::HostConfig;
use serde_json::Value;
use wharf_runtime::defaults;

/// What the security options of a container lead to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Security {
    /// Exec never gains privileges.
    pub no_new_privileges: bool,
    /// The control groups may be written inside; None means as privileged says.
    pub writable_cgroups: Option<bool>,
    /// Name of the AppArmor profile that is asked for; None or empty means the default one.
    pub apparmor: Option<String>,
    /// The container is privileged: without a profile asked for it runs under none.
    pub is_privileged: bool,
    /// Paths to hide.
    pub masked_paths: Vec<String>,
    /// Paths to make read-only.
    pub readonly_paths: Vec<String>,
    seccomp: Seccomp,
}

#[derive(Debug, PartialEq, Eq)]
enum Seccomp {
    Default,
    Unconfined,
    Profile(String),
}

impl Security {
    /// Reads a container's options.
    ///
    /// # Errors
    /// Docker's texts for what is no option; docker's status for them is 500, and so is the kind.
    pub(crate) fn parse(host: &HostConfig) -> Result<Self> {
        let paths = |own: &Option<Vec<String>>, default: fn() -> Vec<String>| match own {
            _ if host.privileged => Vec::new(),
            Some(own) => own.clone(),
            None => default(),
        };
        let mut security = Self {
            no_new_privileges: false,
            writable_cgroups: None,
            apparmor: None,
            is_privileged: host.privileged,
            seccomp: if host.privileged {
                Seccomp::Unconfined
            } else {
                Seccomp::Default
            },
            masked_paths: paths(&host.masked_paths, defaults::masked_paths),
            readonly_paths: paths(&host.readonly_paths, defaults::readonly_paths),
        };
        for option in &host.security_opt {
            security.add(option)?;
        }
        Ok(security)
    }

    fn add(&mut self, option: &str) -> Result<()> {
        match option {
            "no-new-privileges" => {
                self.no_new_privileges = true;
                return Ok(());
            }
            "writable-cgroups" => {
                self.writable_cgroups = Some(true);
                return Ok(());
            }
            "disable" => return Ok(()),
            _ => {}
        }
        let invalid = |stage: u8| {
            EngineError::new(
                ErrorKind::Internal,
                format!("invalid --security-opt {stage}: {option:?}"),
            )
        };
        let separator = if option.contains('=') { '=' } else { ':' };
        let (key, value) = option.split_once(separator).ok_or_else(|| invalid(1))?;
        match key {
            "no-new-privileges" => {
                self.no_new_privileges = go_bool(value).ok_or_else(|| invalid(2))?;
            }
            "writable-cgroups" => {
                self.writable_cgroups = Some(go_bool(value).ok_or_else(|| invalid(2))?);
            }
            // Without SELinux labels mean nothing, as in docker; the host of this engine has none.
            "label" => {}
            "apparmor" => self.apparmor = Some(value.to_owned()),
            "seccomp" => {
                self.seccomp = match value {
                    "unconfined" => Seccomp::Unconfined,
                    "builtin" => Seccomp::Default,
                    profile => Seccomp::Profile(profile.to_owned()),
                };
            }
            _ => return Err(invalid(2)),
        }
        Ok(())
    }

    /// Returns the filter of system calls, if there is one.
    ///
    /// # Errors
    /// A profile that cannot be read.
    pub(crate) fn seccomp_profile(&self, capabilities: &[String]) -> Result<Option<Value>> {
        match &self.seccomp {
            Seccomp::Unconfined => Ok(None),
            Seccomp::Default => serde_json::to_value(defaults::seccomp_profile(capabilities))
                .map(Some)
                .map_err(super::spec::json_error),
            Seccomp::Profile(text) => seccomp::parse_profile(text, capabilities),
        }
    }
}

/// Reads a boolean as Go's `strconv.ParseBool` does.
fn go_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(options: &[&str]) -> Result<Security> {
        Security::parse(&HostConfig {
            security_opt: options.iter().map(|option| (*option).to_owned()).collect(),
            ..HostConfig::default()
        })
    }

    #[test]
    fn the_last_profile_asked_for_counts() {
        for (options, expected) in [
            (&[][..], None),
            (&["apparmor=mine"], Some("mine")),
            (&["apparmor:mine"], Some("mine")),
            (&["apparmor=one", "apparmor=two"], Some("two")),
            (&["apparmor="], Some("")),
        ] {
            assert_eq!(parse(options).unwrap().apparmor.as_deref(), expected);
        }
    }

    #[test]
    fn options_in_both_spellings() {
        assert!(parse(&["no-new-privileges"]).unwrap().no_new_privileges);
        assert!(
            parse(&["no-new-privileges=true"])
                .unwrap()
                .no_new_privileges
        );
        assert!(
            !parse(&["no-new-privileges:false"])
                .unwrap()
                .no_new_privileges
        );
        assert_eq!(
            parse(&["writable-cgroups=false"]).unwrap().writable_cgroups,
            Some(false)
        );
        assert_eq!(
            parse(&["seccomp=unconfined"]).unwrap().seccomp,
            Seccomp::Unconfined
        );
        for (option, text) in [
            ("foo=bar", "invalid --security-opt 2: \"foo=bar\""),
            ("foo", "invalid --security-opt 1: \"foo\""),
            (
                "systempaths=unconfined",
                "invalid --security-opt 2: \"systempaths=unconfined\"",
            ),
        ] {
            assert_eq!(parse(&[option]).unwrap_err().message(), text);
        }
    }
}
