//! `State` of a container's inspect answer.

use crate::timestamp::{ZERO_TIME, rfc3339_nano};
use serde::Serialize;
use wharf_engine::model::container::{Health, State, Status};

/// What a container is doing, and how it ended.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct StateView {
    status: &'static str,
    running: bool,
    paused: bool,
    restarting: bool,
    #[serde(rename = "OOMKilled")]
    oom_killed: bool,
    dead: bool,
    pid: u32,
    exit_code: i32,
    error: String,
    started_at: String,
    finished_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    health: Option<HealthView>,
}

/// The outcome of the health checks.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct HealthView {
    status: String,
    failing_streak: i64,
    log: Vec<HealthResultView>,
}

/// One health check.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct HealthResultView {
    start: String,
    end: String,
    exit_code: i32,
    output: String,
}

impl StateView {
    /// Makes the view of a state.
    pub(super) fn new(state: &State) -> Self {
        let is = |status: Status| state.status == status;
        let time = |time_ns: i64| {
            if time_ns == 0 {
                ZERO_TIME.to_owned()
            } else {
                rfc3339_nano(time_ns)
            }
        };
        Self {
            status: state.status.as_str(),
            running: is(Status::Running) || is(Status::Paused) || is(Status::Restarting),
            paused: is(Status::Paused),
            restarting: is(Status::Restarting),
            oom_killed: state.oom_killed,
            dead: is(Status::Dead),
            pid: state.pid,
            exit_code: state.exit_code,
            error: state.error.clone(),
            started_at: time(state.started_at_ns),
            finished_at: time(state.finished_at_ns),
            health: state.health.as_ref().map(HealthView::new),
        }
    }
}

impl HealthView {
    fn new(health: &Health) -> Self {
        let results = health.log.iter().map(|result| HealthResultView {
            start: rfc3339_nano(result.start_ns),
            end: rfc3339_nano(result.end_ns),
            exit_code: result.exit_code,
            output: result.output.clone(),
        });
        Self {
            status: health.status.clone(),
            failing_streak: health.failing_streak,
            log: results.collect(),
        }
    }
}
