//! What this host can do, for the info endpoint and for warnings.

use wharf_safefs::trusted;

use crate::cgroup::{Layout, layout, read_text};

/// What this host can do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostInfo {
    /// 1 (also beside an unused version 2) or 2.
    pub cgroup_version: u8,
    /// The control group controllers that can limit containers, sorted.
    pub controllers: Vec<String>,
    /// The kernel's release, for example `6.1.0-9-amd64`.
    pub kernel_release: String,
    /// Whether system calls can be filtered.
    pub seccomp: bool,
    /// Whether AppArmor is on. Profiles are not applied yet; a request for one is refused.
    pub apparmor: bool,
    /// Processors this process may use.
    pub cpus: usize,
    /// Memory in bytes.
    pub memory_bytes: u64,
    /// Whether swap can be limited.
    pub swap_limit: bool,
}

/// Looks at the host.
pub fn host() -> HostInfo {
    let (cgroup_version, controllers, swap_limit) = groups();
    HostInfo {
        cgroup_version,
        controllers,
        kernel_release: kernel_release(),
        seccomp: trusted::exists("/proc/sys/kernel/seccomp").unwrap_or(false),
        apparmor: read_text("/sys/module/apparmor/parameters/enabled".as_ref())
            .is_ok_and(|text| text.starts_with('Y')),
        cpus: std::thread::available_parallelism().map_or(1, usize::from),
        memory_bytes: memory_bytes(),
        swap_limit,
    }
}

fn groups() -> (u8, Vec<String>, bool) {
    match layout() {
        // A host without control groups runs no containers; its limits are none.
        Err(_) => (1, Vec::new(), false),
        Ok(Layout::V1 { hierarchies }) => {
            let mut controllers: Vec<String> = hierarchies
                .iter()
                .flat_map(|hierarchy| hierarchy.controllers.clone())
                .filter(|name| !name.starts_with("name="))
                .collect();
            controllers.sort_unstable();
            let swap = hierarchies.iter().any(|hierarchy| {
                hierarchy.has("memory")
                    && trusted::exists(hierarchy.mount.join("memory.memsw.limit_in_bytes"))
                        .unwrap_or(false)
            });
            (1, controllers, swap)
        }
        Ok(Layout::V2 { mount }) => {
            let text = read_text(&mount.join("cgroup.controllers")).unwrap_or_default();
            let mut controllers: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
            controllers.sort_unstable();
            let has_memory = controllers.iter().any(|name| name == "memory");
            (2, controllers, has_memory)
        }
    }
}

fn kernel_release() -> String {
    rustix::system::uname()
        .release()
        .to_string_lossy()
        .into_owned()
}

/// Returns the kernel's version as (major, minor).
pub(crate) fn kernel_version() -> (u32, u32) {
    let release = kernel_release();
    let mut numbers = release
        .split(|letter: char| !letter.is_ascii_digit())
        .map(|number| number.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

fn memory_bytes() -> u64 {
    let text = read_text("/proc/meminfo".as_ref()).unwrap_or_default();
    let total = text.lines().find_map(|line| {
        let rest = line.strip_prefix("MemTotal:")?;
        rest.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()
    });
    total.unwrap_or(0).saturating_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_host_is_described() {
        let host = host();
        assert!(host.cpus > 0 && host.memory_bytes > 0);
        assert!(kernel_version() >= (4, 0), "{}", host.kernel_release);
    }
}
