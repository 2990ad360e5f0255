//! Health checks (spec runtime §6).

use super::registry::Entry;
use crate::clock::now_ns;
use crate::engine::Engine;
use crate::error::ErrorKind;
use crate::model::container::{Container, Health, HealthResult, Status};
use crate::model::request::CreateExec;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use wharf_image::Healthcheck;

const DEFAULT_INTERVAL: Duration = Duration::from_secs(30);
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);
const DEFAULT_START_INTERVAL: Duration = Duration::from_secs(5);
const DEFAULT_RETRIES: i64 = 3;
/// Bytes of a check's output that are kept.
const MAX_OUTPUT_BYTES: usize = 4096;
/// Results that are kept.
const MAX_RESULTS: usize = 5;

/// Returns the health of a container that starts now.
pub(crate) fn initial(container: &Container) -> Option<Health> {
    container.healthcheck().map(|_| Health {
        status: "starting".to_owned(),
        ..Health::default()
    })
}

impl Engine {
    /// Checks a container's health in the background while this run lasts.
    pub(crate) fn watch_health(self: &Arc<Self>, entry: &Arc<Entry>) {
        let container = entry.snapshot();
        let Some(check) = container.healthcheck().cloned() else {
            return;
        };
        let (engine, entry) = (Arc::clone(self), Arc::clone(entry));
        let started_at_ns = container.state.started_at_ns;
        tokio::spawn(async move {
            loop {
                let snapshot = entry.snapshot();
                tokio::time::sleep(next_wait(&check, &snapshot)).await;
                let snapshot = entry.snapshot();
                if !snapshot.is_running() || snapshot.state.started_at_ns != started_at_ns {
                    return;
                }
                if snapshot.state.status == Status::Paused {
                    continue;
                }
                if let Some(result) = engine.probe(&snapshot, &check).await {
                    engine.record_health(&entry, &check, result);
                }
            }
        });
    }

    /// Checks once; none when the container ended or was paused in the meantime, which says nothing of its health.
    async fn probe(
        self: &Arc<Self>,
        container: &Container,
        check: &Healthcheck,
    ) -> Option<HealthResult> {
        let start_ns = now_ns();
        let (exit_code, output) = match self.run_probe(container, check).await {
            Ok(result) => result,
            Err(error) if error.kind() == ErrorKind::Conflict => return None,
            Err(error) => (-1, error.message().to_owned()),
        };
        Some(HealthResult {
            start_ns,
            end_ns: now_ns(),
            exit_code,
            output,
        })
    }

    /// Runs one check; one that takes too long is killed.
    async fn run_probe(
        self: &Arc<Self>,
        container: &Container,
        check: &Healthcheck,
    ) -> crate::error::Result<(i32, String)> {
        let request = CreateExec {
            attach_stdout: true,
            attach_stderr: true,
            command: probe_command(container, check),
            ..CreateExec::default()
        };
        let id = self.create_exec(&container.id, request).await?;
        let exec = self.claim_exec(&id, false, None)?;
        let kill = exec.killer();
        let mut output = Output::default();
        let timeout = duration(check.timeout, DEFAULT_TIMEOUT);
        let checked = tokio::time::timeout(timeout, async {
            let mut stream = exec.attached().await;
            read_frames(&mut stream.io, &mut output).await;
        });
        if checked.await.is_err() {
            kill.await;
            let said = output.text();
            let limit = go_duration(timeout);
            let text = match said.is_empty() {
                true => format!("Health check exceeded timeout ({limit})"),
                false => format!("Health check exceeded timeout ({limit}): {said}"),
            };
            return Ok((-1, text));
        }
        let said = output.text();
        let ended = self.exec(&id)?;
        if ended.pid == 0 {
            // There never was a process: what was said is why, in the form that terminals get.
            return Ok((-1, said.trim_end().to_owned()));
        }
        Ok((ended.exit_code.unwrap_or(-1), said))
    }

    fn record_health(&self, entry: &Entry, check: &Healthcheck, result: HealthResult) {
        let before = entry.snapshot();
        let in_start_period = now_ns() - before.state.started_at_ns < check.start_period;
        let retries = if check.retries > 0 {
            check.retries
        } else {
            DEFAULT_RETRIES
        };
        let container = entry.change(|container| {
            let same_run = container.is_running()
                && container.state.started_at_ns == before.state.started_at_ns;
            let Some(health) = container.state.health.as_mut().filter(|_| same_run) else {
                return;
            };
            if result.exit_code == 0 {
                health.failing_streak = 0;
                health.status = "healthy".to_owned();
            } else if !(health.status == "starting" && in_start_period) {
                health.failing_streak += 1;
                if health.failing_streak >= retries {
                    health.status = "unhealthy".to_owned();
                }
            }
            health.log.push(result);
            if health.log.len() > MAX_RESULTS {
                health.log.remove(0);
            }
        });
        let status = |container: &Container| {
            container
                .state
                .health
                .as_ref()
                .map(|health| health.status.clone())
                .unwrap_or_default()
        };
        if status(&before) != status(&container) {
            self.events.container(
                &container,
                &format!("health_status: {}", status(&container)),
                [],
            );
        }
        self.persist_soon(&container);
    }
}

/// Returns the command of a check (spec runtime §6).
fn probe_command(container: &Container, check: &Healthcheck) -> Vec<String> {
    match check.test.split_first() {
        Some((kind, rest)) if kind == "CMD" => rest.to_vec(),
        Some((kind, rest)) if kind == "CMD-SHELL" => {
            let shell = if container.config.shell.is_empty() {
                vec!["/bin/sh".to_owned(), "-c".to_owned()]
            } else {
                container.config.shell.clone()
            };
            shell.into_iter().chain([rest.join(" ")]).collect()
        }
        _ => check.test.clone(),
    }
}

/// Writes a duration as Go does where it is a round number of a unit.
fn go_duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match (duration.subsec_nanos(), seconds) {
        (0, 3600..) => format!("{}h{}m{}s", seconds / 3600, seconds / 60 % 60, seconds % 60),
        (0, 60..) => format!("{}m{}s", seconds / 60, seconds % 60),
        (0, 1..) => format!("{seconds}s"),
        (_, 0) => format!("{}ms", duration.as_secs_f64() * 1e3),
        _ => format!("{}s", duration.as_secs_f64()),
    }
}

/// The first [`MAX_OUTPUT_BYTES`] of what a check says.
#[derive(Default)]
struct Output {
    kept: Vec<u8>,
    is_cut: bool,
}

impl Output {
    fn push(&mut self, bytes: &[u8]) {
        let room = MAX_OUTPUT_BYTES.saturating_sub(self.kept.len());
        let kept = bytes.get(..room).unwrap_or(bytes);
        self.kept.extend_from_slice(kept);
        self.is_cut |= kept.len() < bytes.len();
    }

    /// Returns what is kept, with docker's mark behind it if there was more.
    fn text(&self) -> String {
        let mark = if self.is_cut { "..." } else { "" };
        format!("{}{mark}", String::from_utf8_lossy(&self.kept))
    }
}

/// Reads an exec's framed output to its end.
async fn read_frames(stream: &mut (dyn crate::model::view::Duplex + '_), output: &mut Output) {
    let mut header = [0u8; 8];
    while stream.read_exact(&mut header).await.is_ok() {
        let mut left = u32::from_be_bytes([header[4], header[5], header[6], header[7]]) as usize;
        let mut buffer = [0u8; 4096];
        while left > 0 {
            let want = left.min(buffer.len());
            let Ok(count @ 1..) = stream
                .read(buffer.get_mut(..want).unwrap_or_default())
                .await
            else {
                return;
            };
            output.push(buffer.get(..count).unwrap_or_default());
            left -= count;
        }
    }
}

fn next_wait(check: &Healthcheck, container: &Container) -> Duration {
    let starting = container
        .state
        .health
        .as_ref()
        .is_some_and(|health| health.status == "starting");
    if starting && now_ns() - container.state.started_at_ns < check.start_period {
        return duration(check.start_interval, DEFAULT_START_INTERVAL);
    }
    duration(check.interval, DEFAULT_INTERVAL)
}

fn duration(ns: i64, default: Duration) -> Duration {
    u64::try_from(ns)
        .ok()
        .filter(|ns| *ns > 0)
        .map_or(default, Duration::from_nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Frames of one stream, as an exec without a terminal sends them.
    async fn read(frames: &[&[u8]]) -> String {
        let mut sent = Vec::new();
        for frame in frames {
            sent.extend_from_slice(&[1, 0, 0, 0]);
            sent.extend_from_slice(&u32::try_from(frame.len()).unwrap().to_be_bytes());
            sent.extend_from_slice(frame);
        }
        let (mut writer, mut reader) = tokio::io::duplex(64 * 1024);
        tokio::io::AsyncWriteExt::write_all(&mut writer, &sent)
            .await
            .unwrap();
        drop(writer);
        let mut output = Output::default();
        read_frames(&mut reader, &mut output).await;
        output.text()
    }

    #[tokio::test]
    async fn output_up_to_the_limit_is_whole_and_more_is_marked_as_cut() {
        let limit = [b'a'; MAX_OUTPUT_BYTES];
        assert_eq!(read(&[b"one ", b"two"]).await, "one two");
        assert_eq!(read(&[&limit, b""]).await, "a".repeat(MAX_OUTPUT_BYTES));
        let cut = format!("{}...", "a".repeat(MAX_OUTPUT_BYTES));
        assert_eq!(read(&[&limit, b"b"]).await, cut);
        assert_eq!(read(&[&[b'a'; 3 * MAX_OUTPUT_BYTES]]).await, cut);
    }

    #[test]
    fn durations_are_written_as_go_does() {
        let written = [
            500_000_000,
            3_000_000_000,
            90_000_000_000,
            3_660_000_000_000,
        ]
        .map(|ns| go_duration(Duration::from_nanos(ns)));
        assert_eq!(written, ["500ms", "3s", "1m30s", "1h1m0s"]);
    }
}
