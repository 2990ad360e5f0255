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
        if !crate::host::host().info.apparmor {
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

    /// On kernels with AppArmor the tests of the virtual machine say more.
    #[test]
    fn a_kernel_without_apparmor_refuses_nothing() {
        if crate::host::host().info.apparmor {
            println!("SKIP: this kernel has AppArmor");
            return;
        }
        let apparmor = AppArmor::default();
        for (options, privileged) in [
            (vec![], false),
            (vec![], true),
            (vec!["apparmor=mine".to_owned()], false),
            (vec!["apparmor=docker-default".to_owned()], false),
        ] {
            let security = Security::parse(&HostConfig {
                security_opt: options,
                privileged,
                ..HostConfig::default()
            })
            .unwrap();
            let started = Container {
                apparmor_profile: Some(String::new()),
                ..Container::default()
            };
            assert_eq!(apparmor.profile_to_start(&security).unwrap(), None);
            for container in [&Container::default(), &started] {
                let profile = apparmor.profile_to_exec(container, &security);
                assert_eq!(profile.unwrap(), None);
            }
        }
        assert_eq!(apparmor.ensure_default().unwrap(), DefaultProfile::Off);
        assert_eq!(apparmor.complaint(), None);
    }

    #[test]
    fn the_profile_a_container_was_started_under_is_the_one_of_its_processes() {
        let container = Container {
            apparmor_profile: Some("mine".to_owned()),
            ..Container::default()
        };
        let security = Security::parse(&HostConfig::default()).unwrap();
        let profile = AppArmor::default().profile_to_exec(&container, &security);
        assert_eq!(profile.unwrap().as_deref(), Some("mine"));
    }
}
