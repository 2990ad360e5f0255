//! Changing limits and the restart policy of a container that is there.

use super::check::MIN_MEMORY_BYTES;
use super::runtime_error;
use crate::engine::Engine;
use crate::error::{EngineError, Result};
use crate::model::host_config::{Resources, RestartPolicy};
use std::sync::Arc;

impl Engine {
    /// Changes limits and restart policy of a container, also while it runs. Zero keeps a limit.
    ///
    /// # Errors
    /// Values that are refused at create are refused here.
    pub async fn update_container(
        self: &Arc<Self>,
        name: &str,
        resources: Resources,
        restart_policy: Option<RestartPolicy>,
    ) -> Result<Vec<String>> {
        let entry = self.containers.find(name)?;
        let _operation = entry.operate(name).await?;
        let container = entry.snapshot();
        let refused = |reason: &str| {
            let id = &container.id;
            EngineError::conflict(format!("Cannot update container {id}: {reason}"))
        };
        let old = &container.host_config.resources;
        if let Some(reason) = conflict(old, &resources) {
            return Err(refused(reason));
        }
        super::check::check_foreign(&resources)?;
        let mut merged = merge_resources(old, resources);
        let mut warnings = Vec::new();
        super::defaults::check_resources(&mut merged, &mut warnings)?;
        if let Some(policy) = &restart_policy {
            crate::values::check_restart_policy(policy)?;
        }
        if restart_policy.is_some() && container.host_config.auto_remove {
            return Err(refused(
                "Restart policy cannot be updated because AutoRemove is enabled for the container",
            ));
        }
        if let Some(shim) = entry.shim().filter(|_| container.is_running()) {
            let updated = shim.update(&super::spec::linux_resources(&merged)?).await;
            // A container that ended meanwhile has them from its next start on.
            if let Err(error) = updated
                && !entry.ends_now().await
            {
                return Err(runtime_error("cannot update limits")(error));
            }
        }
        let container = entry.change(|container| {
            container.host_config.resources = merged;
            if let Some(policy) = restart_policy {
                container.host_config.restart_policy = policy;
            }
        });
        self.persist_soon(&container);
        self.events.container(&container, "update", []);
        Ok(warnings)
    }
}

/// Returns why new limits do not go with those that are set, in docker's words.
///
/// No limit of swap is 0 here, as it is to docker: a memory limit that comes alone is always above it. One below the
/// least is left to the check of the values.
fn conflict(old: &Resources, new: &Resources) -> Option<&'static str> {
    if new.memory_bytes > old.memory_swap_bytes
        && new.memory_swap_bytes == 0
        && new.memory_bytes >= MIN_MEMORY_BYTES
    {
        return Some(
            "Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time",
        );
    }
    let conflicts = [
        (
            new.cpu_period_us > 0 && old.nano_cpus > 0,
            "Conflicting options: CPU Period cannot be updated as NanoCPUs has already been set",
        ),
        (
            new.cpu_quota_us > 0 && old.nano_cpus > 0,
            "Conflicting options: CPU Quota cannot be updated as NanoCPUs has already been set",
        ),
        (
            new.nano_cpus > 0 && old.cpu_period_us > 0,
            "Conflicting options: Nano CPUs cannot be updated as CPU Period has already been set",
        ),
        (
            new.nano_cpus > 0 && old.cpu_quota_us > 0,
            "Conflicting options: Nano CPUs cannot be updated as CPU Quota has already been set",
        ),
    ];
    conflicts
        .iter()
        .find_map(|(conflicts, reason)| conflicts.then_some(*reason))
}

fn merge_resources(old: &Resources, new: Resources) -> Resources {
    let number = |old: i64, new: i64| if new == 0 { old } else { new };
    let text = |old: &str, new: String| if new.is_empty() { old.to_owned() } else { new };
    Resources {
        cpu_shares: number(old.cpu_shares, new.cpu_shares),
        memory_bytes: number(old.memory_bytes, new.memory_bytes),
        nano_cpus: number(old.nano_cpus, new.nano_cpus),
        blkio_weight: if new.blkio_weight == 0 {
            old.blkio_weight
        } else {
            new.blkio_weight
        },
        cpu_period_us: number(old.cpu_period_us, new.cpu_period_us),
        cpu_quota_us: number(old.cpu_quota_us, new.cpu_quota_us),
        cpu_realtime_period_us: number(old.cpu_realtime_period_us, new.cpu_realtime_period_us),
        cpu_realtime_runtime_us: number(old.cpu_realtime_runtime_us, new.cpu_realtime_runtime_us),
        cpuset_cpus: text(&old.cpuset_cpus, new.cpuset_cpus),
        cpuset_mems: text(&old.cpuset_mems, new.cpuset_mems),
        memory_reservation_bytes: number(
            old.memory_reservation_bytes,
            new.memory_reservation_bytes,
        ),
        memory_swap_bytes: number(old.memory_swap_bytes, new.memory_swap_bytes),
        pids_limit: new.pids_limit.or(old.pids_limit),
        ..old.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conflicts_are_dockers() {
        let scale = |least: i64| {
            if least > 0 {
                least * MIN_MEMORY_BYTES
            } else {
                least
            }
        };
        let limits =
            |memory_bytes, memory_swap_bytes, nano_cpus, cpu_period_us, cpu_quota_us| Resources {
                memory_bytes: scale(memory_bytes),
                memory_swap_bytes: scale(memory_swap_bytes),
                nano_cpus,
                cpu_period_us,
                cpu_quota_us,
                ..Resources::default()
            };
        let none = Resources::default();
        for (old, new, reason) in [
            (none.clone(), none.clone(), None),
            (none.clone(), limits(8, 0, 0, 0, 0), Some("Memory limit")),
            (none.clone(), limits(8, 16, 0, 0, 0), None),
            (none.clone(), limits(8, -1, 0, 0, 0), None),
            (limits(8, 16, 0, 0, 0), limits(16, 0, 0, 0, 0), None),
            (
                limits(8, 16, 0, 0, 0),
                limits(17, 0, 0, 0, 0),
                Some("Memory limit"),
            ),
            (
                limits(8, -1, 0, 0, 0),
                limits(9, 0, 0, 0, 0),
                Some("Memory limit"),
            ),
            (limits(0, 0, 5, 0, 0), limits(0, 0, 6, 0, 0), None),
            (
                limits(0, 0, 5, 0, 0),
                limits(0, 0, 0, 1, 0),
                Some("Conflicting options: CPU Period"),
            ),
            (
                limits(0, 0, 5, 0, 0),
                limits(0, 0, 0, 0, 1),
                Some("Conflicting options: CPU Quota"),
            ),
            (
                limits(0, 0, 0, 5, 0),
                limits(0, 0, 1, 0, 0),
                Some("Conflicting options: Nano CPUs cannot be updated as CPU Period"),
            ),
            (
                limits(0, 0, 0, 0, 5),
                limits(0, 0, 1, 0, 0),
                Some("Conflicting options: Nano CPUs cannot be updated as CPU Quota"),
            ),
        ] {
            let found = conflict(&old, &new);
            let same = match (found, reason) {
                (Some(found), Some(reason)) => found.starts_with(reason),
                (found, reason) => found == reason,
            };
            assert!(same, "{old:?} {new:?}: {found:?}");
        }
        let too_small = Resources {
            memory_bytes: MIN_MEMORY_BYTES - 1,
            ..Resources::default()
        };
        assert_eq!(conflict(&none, &too_small), None);
    }
}
