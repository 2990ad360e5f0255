//! Which AppArmor profile a container runs under on this host.

use crate::container::security::Security;
use crate::error::{EngineError, Result};
use crate::model::container::Container;
use std::sync::{Mutex, PoisonError};
use wharf_runtime::apparmor::{
    DEFAULT_APPARMOR_PROFILE, DefaultProfile, UNCONFINED, ensure_default_profile,
};

/// Gives containers their profile, and remembers why the default one could not be had.
#[derive(Default)]
pub(crate) struct AppArmor {
    complaint: Mutex<Option<String>>,
}

impl AppArmor {
    /// Returns the profile that a container is started under; none where the kernel has no AppArmor, whatever was asked
    /// for, as in docker. Loads the default profile when it counts and is not there. May wait for the parser.
    ///
    /// # Errors
    /// A default profile that the parser refuses.
    pub(crate) fn profile_to_start(&self, security: &Security) -> Result<Option<String>> {
        self.profile(security, crate::host::host().info.apparmor)
    }

    fn profile(&self, security: &Security, is_on: bool) -> Result<Option<String>> {
        if !is_on {
            return Ok(None);
        }
        if let Some(name) = security.apparmor.as_deref().filter(|name| !name.is_empty()) {
            if name == DEFAULT_APPARMOR_PROFILE {
                self.ensure_default()?;
            }
            return Ok(Some(name.to_owned()));
        }
        if security.is_privileged {
            return Ok(Some(UNCONFINED.to_owned()));
        }
        let is_loaded = self.ensure_default()? == DefaultProfile::Loaded;
        Ok(is_loaded.then(|| DEFAULT_APPARMOR_PROFILE.to_owned()))
    }

    /// Returns the profile of one more process of a container, also of a privileged one: the container's.
    ///
    /// # Errors
    /// See [`AppArmor::profile_to_start`].
    pub(crate) fn profile_to_exec(
        &self,
        container: &Container,
        security: &Security,
    ) -> Result<Option<String>> {
        match &container.apparmor_profile {
            // An engine that did not note it started the container.
            None => self.profile_to_start(security),
            Some(name) => {
                if name == DEFAULT_APPARMOR_PROFILE {
                    self.ensure_default()?;
                }
                Ok(Some(name.clone()).filter(|name| !name.is_empty()))
            }
        }
    }

    /// Loads the default profile unless it is loaded or there is no AppArmor.
    ///
    /// # Errors
    /// A profile that the parser refuses.
    pub(crate) fn ensure_default(&self) -> Result<DefaultProfile> {
        let ensured = ensure_default_profile();
        let complaint = match &ensured {
            Ok(DefaultProfile::Off | DefaultProfile::Loaded) => None,
            Ok(DefaultProfile::Missing { reason }) => Some(format!(
                "AppArmor is on, but {reason}: containers run without the profile {DEFAULT_APPARMOR_PROFILE}"
            )),
            Err(error) => Some(error.to_string()),
        };
        *self
            .complaint
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = complaint;
        ensured.map_err(|error| EngineError::internal(error.to_string()))
    }

    /// Says why containers do not get the default profile, if so when it was last wanted.
    pub(crate) fn complaint(&self) -> Option<String> {
        self.complaint
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::host_config::HostConfig;

    /// The default profile, which must be loaded, is tested in the virtual machine.
    #[test]
    fn what_is_asked_for_counts_where_there_is_apparmor() {
        for (options, privileged, expected) in [
            (vec!["apparmor=mine"], false, "mine"),
            (vec!["apparmor=mine"], true, "mine"),
            (vec!["apparmor=unconfined"], false, "unconfined"),
            (vec![], true, "unconfined"),
            (vec!["apparmor="], true, "unconfined"),
        ] {
            let security = Security::parse(&HostConfig {
                security_opt: options.into_iter().map(str::to_owned).collect(),
                privileged,
                ..HostConfig::default()
            })
            .unwrap();
            let apparmor = AppArmor::default();
            let profile = apparmor.profile(&security, true).unwrap();
            assert_eq!(profile.as_deref(), Some(expected));
            assert_eq!(apparmor.profile(&security, false).unwrap(), None);
        }
        let security = Security::parse(&HostConfig::default()).unwrap();
        let profile = AppArmor::default().profile(&security, false);
        assert_eq!(profile.unwrap(), None);
    }

    #[test]
    fn the_profile_a_container_was_started_under_is_the_one_of_its_processes() {
        let security = Security::parse(&HostConfig::default()).unwrap();
        for (noted, expected) in [("mine", Some("mine")), ("", None)] {
            let container = Container {
                apparmor_profile: Some(noted.to_owned()),
                ..Container::default()
            };
            let profile = AppArmor::default().profile_to_exec(&container, &security);
            assert_eq!(profile.unwrap().as_deref(), expected);
        }
    }
}
