//! What the engine needs to know of its host, read once.

use std::sync::OnceLock;
use wharf_runtime::HostInfo;

/// The host, and which limits its kernel supports.
pub(crate) struct Host {
    pub(crate) info: HostInfo,
    pub(crate) name: String,
}

impl Host {
    /// Tells whether a control group controller can be used.
    pub(crate) fn has_controller(&self, name: &str) -> bool {
        self.info
            .controllers
            .iter()
            .any(|controller| controller == name)
    }

    pub(crate) fn is_cgroup_v2(&self) -> bool {
        self.info.cgroup_version == 2
    }
}

/// Returns the host as it was when first asked for.
pub(crate) fn host() -> &'static Host {
    static HOST: OnceLock<Host> = OnceLock::new();
    HOST.get_or_init(|| Host {
        info: wharf_runtime::host(),
        name: rustix::system::uname()
            .nodename()
            .to_string_lossy()
            .into_owned(),
    })
}
