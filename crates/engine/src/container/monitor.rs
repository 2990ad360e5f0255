//! What happens when a container's process ends: clean up, tell, restart or remove (spec runtime §6).

use super::registry::Entry;
use crate::clock::now_ns;
use crate::engine::{Engine, blocking};
use crate::model::container::{Container, Status};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use wharf_runtime::{ExitStatus, Shim};

/// First wait before a restart; doubled each time.
const FIRST_BACKOFF: Duration = Duration::from_millis(100);
/// Longest wait before a restart.
const LONGEST_BACKOFF: Duration = Duration::from_secs(60);
/// A run this long resets the wait.
const GOOD_RUN_NS: i64 = 10_000_000_000;

impl Engine {
    /// Waits in the background for the process to end.
    pub(crate) fn monitor(self: &Arc<Self>, entry: &Arc<Entry>, shim: Shim) {
        let (engine, entry) = (Arc::clone(self), Arc::clone(entry));
        engine.watch_health(&entry);
        tokio::spawn(async move {
            let status = shim.wait().await.unwrap_or_else(|_shim_lost| ExitStatus {
                code: 255,
                oom_killed: false,
                finished_at_ns: u64::try_from(now_ns()).unwrap_or(0),
            });
            engine.ended(&entry, &shim, status).await;
        });
    }

    async fn ended(self: &Arc<Self>, entry: &Arc<Entry>, shim: &Shim, status: ExitStatus) {
        entry.set_shim(None);
        // What cannot be cleaned now is swept at the next start.
        let _swept_later = shim.release().await;
        let (engine, leaving) = (Arc::clone(self), Arc::clone(entry));
        let _worker = blocking(move || {
            engine.leave_network(&leaving);
            Ok(())
        })
        .await;
        let finished_at_ns = i64::try_from(status.finished_at_ns).unwrap_or(i64::MAX);
        let before = entry.snapshot();
        let restart = self.restart_wait(&before, status.code);
        let container = entry.change(|container| {
            container.state.status = if restart.is_some() {
                Status::Restarting
            } else {
                Status::Exited
            };
            container.state.pid = 0;
            container.state.exit_code = status.code;
            container.state.oom_killed = status.oom_killed;
            container.state.finished_at_ns = finished_at_ns;
            container.exec_ids.clear();
        });
        self.persist_soon(&container);
        self.execs.container_ended(&container.id);
        if status.oom_killed {
            self.events.container(&container, "oom", []);
        }
        let seconds = (finished_at_ns - container.state.started_at_ns).max(0) / 1_000_000_000;
        self.events.container(
            &container,
            "die",
            [
                ("exitCode", status.code.to_string()),
                ("execDuration", seconds.to_string()),
            ],
        );
        if container.networks.contains_key("bridge") {
            self.network_event("disconnect", &container);
        }
        let (engine, ended) = (Arc::clone(self), Arc::clone(&container));
        let _worker = blocking(move || {
            engine.release_mounts(&ended);
            Ok(())
        })
        .await;
        entry.life.send_modify(|life| {
            life.running = false;
            life.exits += 1;
            life.exit_code = status.code;
        });
        if let Some(wait) = restart {
            self.restart_later(entry, wait);
        } else if container.host_config.auto_remove {
            self.remove_entry_soon(entry);
        }
    }

    /// Returns how long to wait before the policy starts the container again; None when it does not.
    fn restart_wait(&self, container: &Container, exit_code: i32) -> Option<Duration> {
        if container.manually_stopped {
            return None;
        }
        let policy = &container.host_config.restart_policy;
        let wanted = match policy.name.as_str() {
            "always" | "unless-stopped" => true,
            "on-failure" => {
                exit_code != 0
                    && (policy.maximum_retry_count == 0
                        || container.restart_count < policy.maximum_retry_count)
            }
            _ => false,
        };
        let long_run = now_ns() - container.state.started_at_ns >= GOOD_RUN_NS;
        let doublings = if long_run {
            0
        } else {
            u32::try_from(container.restart_count)
                .unwrap_or(u32::MAX)
                .min(16)
        };
        wanted.then(|| {
            FIRST_BACKOFF
                .saturating_mul(1 << doublings)
                .min(LONGEST_BACKOFF)
        })
    }

    fn restart_later(self: &Arc<Self>, entry: &Arc<Entry>, wait: Duration) {
        let (engine, entry) = (Arc::clone(self), Arc::clone(entry));
        let epoch = entry.restart_epoch.load(Ordering::SeqCst);
        tokio::spawn(async move {
            tokio::time::sleep(wait).await;
            let _operation = entry.operation.lock().await;
            let still_wanted = entry.restart_epoch.load(Ordering::SeqCst) == epoch
                && entry.snapshot().state.status == Status::Restarting;
            if !still_wanted {
                return;
            }
            entry.change(|container| container.restart_count += 1);
            // A failing start leaves its reason in the container's state, where inspect shows it.
            let _kept_in_state = engine.start_entry(&entry).await;
        });
    }
}
