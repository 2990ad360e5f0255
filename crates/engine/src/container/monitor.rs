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
        let before = entry.snapshot();
        let (engine, leaving) = (Arc::clone(self), Arc::clone(entry));
        let _worker = blocking(move || {
            engine.leave_network(&leaving);
            Ok(())
        })
        .await;
        self.sizes.forget_container(&before);
        let finished_at_ns = i64::try_from(status.finished_at_ns).unwrap_or(i64::MAX);
        let restart = if entry.restart_cancelled.load(Ordering::SeqCst) {
            None
        } else {
            is_restart_wanted(&before, status.code).then(|| next_wait(entry, &before))
        };
        let set_ended = |container: &mut Container| {
            set_ended(container, status, restart.is_some());
        };
        // Written down before the shim forgets it: an engine that is killed in between finds one of them.
        let seen = entry.snapshot();
        let mut ended = Container::clone(&seen);
        set_ended(&mut ended);
        self.persist_soon(&ended);
        // What cannot be cleaned now is swept at the next start.
        let _swept_later = shim.release().await;
        let is_unchanged = Arc::ptr_eq(&seen, &entry.snapshot());
        let container = entry.change(set_ended);
        if !is_unchanged {
            self.persist_soon(&container);
        }
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
        self.tell_networks_left(&before);
        let (engine, ended) = (Arc::clone(self), Arc::clone(&container));
        let _worker = blocking(move || {
            engine.release_mounts(&ended);
            Ok(())
        })
        .await;
        entry.life.send_modify(|life| {
            life.running = false;
            life.restarting = restart.is_some();
            life.exits += 1;
            life.exit_code = status.code;
        });
        if let Some(wait) = restart {
            self.restart_later(entry, wait);
        } else if container.host_config.auto_remove {
            self.remove_entry_soon(entry);
        }
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
            // A failing start leaves its reason in the container's state, where inspect shows it.
            let _kept_in_state = engine.start_entry(&entry).await;
        });
    }
}

/// Notes that the process of a container has ended. A restart by the policy counts from here on, so
/// that an engine that is killed meanwhile neither forgets it nor counts it twice.
fn set_ended(container: &mut Container, status: ExitStatus, is_restarted: bool) {
    container.state.status = if is_restarted {
        container.restart_count += 1;
        Status::Restarting
    } else {
        Status::Exited
    };
    container.state.pid = 0;
    container.state.exit_code = status.code;
    container.state.oom_killed = status.oom_killed;
    container.state.finished_at_ns = i64::try_from(status.finished_at_ns).unwrap_or(i64::MAX);
    container.state.before_start = None;
    container.exec_ids.clear();
    if let Some(health) = &mut container.state.health {
        // As docker shows what nobody checks any more.
        "unhealthy".clone_into(&mut health.status);
    }
}

/// Tells whether the policy starts a container again after this exit (spec runtime §6).
fn is_restart_wanted(container: &Container, exit_code: i32) -> bool {
    let policy = &container.host_config.restart_policy;
    match policy.name.as_str() {
        "always" => true,
        "unless-stopped" => !container.manually_stopped,
        "on-failure" => {
            exit_code != 0
                && (policy.maximum_retry_count == 0
                    || container.restart_count < policy.maximum_retry_count)
        }
        _ => false,
    }
}

/// Returns how long to wait before the next restart: twice the last wait, from the start again after
/// a good run.
fn next_wait(entry: &Entry, container: &Container) -> Duration {
    let good_run = now_ns() - container.state.started_at_ns >= GOOD_RUN_NS;
    let mut last = entry
        .last_wait
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    let wait = match *last {
        Some(last) if !good_run => last.saturating_mul(2).min(LONGEST_BACKOFF),
        _ => FIRST_BACKOFF,
    };
    *last = Some(wait);
    wait
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container(policy: &str, most: i64) -> Container {
        let mut container = Container::default();
        container.host_config.restart_policy.name = policy.to_owned();
        container.host_config.restart_policy.maximum_retry_count = most;
        container.state.started_at_ns = now_ns();
        container
    }

    #[test]
    fn policies() {
        let mut stopped = container("unless-stopped", 0);
        stopped.manually_stopped = true;
        let mut used_up = container("on-failure", 2);
        used_up.restart_count = 2;
        for (container, code, expected) in [
            (container("no", 0), 1, false),
            (container("always", 0), 0, true),
            (container("unless-stopped", 0), 0, true),
            (stopped, 0, false),
            (container("on-failure", 0), 0, false),
            (container("on-failure", 2), 1, true),
            (used_up, 1, false),
        ] {
            let policy = container.host_config.restart_policy.name.clone();
            assert_eq!(is_restart_wanted(&container, code), expected, "{policy}");
        }
    }

    #[test]
    fn waits_double_up_to_a_minute_and_begin_anew_after_a_good_run() {
        let entry = Entry::new(container("always", 0));
        let short = entry.snapshot();
        let waits: Vec<u128> = (0..12)
            .map(|_| next_wait(&entry, &short).as_millis())
            .collect();
        assert_eq!(waits.first_chunk(), Some(&[100, 200, 400, 800]));
        assert_eq!(waits.last(), Some(&60_000));
        let mut long = Container::clone(&short);
        long.state.started_at_ns -= GOOD_RUN_NS;
        assert_eq!(next_wait(&entry, &long).as_millis(), 100);
        assert_eq!(next_wait(&entry, &short).as_millis(), 200);
    }
}
