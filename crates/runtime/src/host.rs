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
    /// Whether AppArmor is on.
    pub apparmor: bool,
    /// Processors this process may use.
    pub cpus: usize,
    /// Memory in bytes.
    pub memory_bytes: u64,
    /// Whether swap can be limited.
    pub swap_limit: bool,
    /// Which other limits this host can set.
    pub limits: SupportedLimits,
    /// Processors that control groups may use, as a kernel list such as `0-1`.
    pub cpu_list: String,
    /// Memory nodes that control groups may use, as a kernel list.
    pub memory_node_list: String,
}

/// Which limits a host's kernel and control groups can set.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SupportedLimits {
    /// A soft memory limit.
    pub memory_reservation: bool,
    /// How willingly memory is swapped out.
    pub memory_swappiness: bool,
    /// No killing for lack of memory.
    pub oom_kill_disable: bool,
    /// Relative weight of CPU time.
    pub cpu_shares: bool,
    /// CPU time per period.
    pub cpu_quota: bool,
    /// Real-time CPU time.
    pub cpu_realtime: bool,
    /// Sets of processors and memory nodes.
    pub cpuset: bool,
    /// Number of processes.
    pub pids: bool,
    /// Relative weight of block I/O.
    pub blkio_weight: bool,
    /// The same for single devices.
    pub blkio_weight_device: bool,
    /// Rates of block I/O of single devices.
    pub blkio_throttle: bool,
}

/// Looks at the host.
pub fn host() -> HostInfo {
    let (cgroup_version, controllers, swap_limit) = groups();
    HostInfo {
        cgroup_version,
        controllers,
        kernel_release: kernel_release(),
        seccomp: trusted::exists("/proc/sys/kernel/seccomp").unwrap_or(false),
        apparmor: crate::apparmor::is_on(),
        cpus: std::thread::available_parallelism().map_or(1, usize::from),
        memory_bytes: memory_bytes(),
        swap_limit,
        limits: supported_limits(),
        cpu_list: group_list("cpus"),
        memory_node_list: group_list("mems"),
    }
}

fn supported_limits() -> SupportedLimits {
    match layout() {
        Err(_) => SupportedLimits::default(),
        Ok(Layout::V1 { hierarchies, .. }) => {
            let has = |controller: &str, file: &str| {
                hierarchies.iter().any(|hierarchy| {
                    hierarchy.has(controller)
                        && trusted::exists(hierarchy.mount.join(file)).unwrap_or(false)
                })
            };
            SupportedLimits {
                memory_reservation: has("memory", "memory.soft_limit_in_bytes"),
                memory_swappiness: has("memory", "memory.swappiness"),
                oom_kill_disable: has("memory", "memory.oom_control"),
                cpu_shares: has("cpu", "cpu.shares"),
                cpu_quota: has("cpu", "cpu.cfs_quota_us"),
                cpu_realtime: has("cpu", "cpu.rt_period_us"),
                cpuset: has("cpuset", "cpuset.cpus"),
                pids: has("pids", "cgroup.procs"),
                blkio_weight: has("blkio", "blkio.weight"),
                blkio_weight_device: has("blkio", "blkio.weight_device"),
                blkio_throttle: has("blkio", "blkio.throttle.read_bps_device"),
            }
        }
        Ok(Layout::V2 { mount }) => {
            let text = read_text(&mount.join("cgroup.controllers")).unwrap_or_default();
            let has = |name: &str| text.split_whitespace().any(|known| known == name);
            // The root group has no limits to look at; what a controller offers is fixed, but for the
            // weights, which the I/O scheduler brings.
            SupportedLimits {
                memory_reservation: has("memory"),
                memory_swappiness: false,
                oom_kill_disable: false,
                cpu_shares: has("cpu"),
                cpu_quota: has("cpu"),
                cpu_realtime: false,
                cpuset: has("cpuset"),
                pids: has("pids"),
                blkio_weight: has("io"),
                blkio_weight_device: has("io"),
                blkio_throttle: has("io"),
            }
        }
    }
}

/// Returns the processors (`cpus`) or memory nodes (`mems`) of the root group.
fn group_list(what: &str) -> String {
    let path = match layout() {
        Err(_) => return String::new(),
        Ok(Layout::V1 { hierarchies, .. }) => hierarchies
            .iter()
            .find(|hierarchy| hierarchy.has("cpuset"))
            .map(|hierarchy| hierarchy.mount.join(format!("cpuset.{what}"))),
        Ok(Layout::V2 { mount }) => Some(mount.join(format!("cpuset.{what}.effective"))),
    };
    let text = path.and_then(|path| read_text(&path).ok());
    text.unwrap_or_default().trim().to_owned()
}

fn groups() -> (u8, Vec<String>, bool) {
    match layout() {
        // A host without control groups runs no containers; its limits are none.
        Err(_) => (1, Vec::new(), false),
        Ok(Layout::V1 { hierarchies, .. }) => {
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
