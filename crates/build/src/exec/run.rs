//! Executing RUN.

use std::sync::atomic::{AtomicU64, Ordering};

use wharf_image::Digest;
use wharf_safefs::trusted;
use wharf_store::Staging;

use super::{Execution, Solved};
use crate::cache::Key;
use crate::graph::Exec;
use crate::{BuildError, BuildEvent, RunStep};

/// Tells steps of one moment apart.
static NEXT_STEP: AtomicU64 = AtomicU64::new(0);

/// Names of the directories beside the step's changes.
pub(super) const WORK: &str = "work";
pub(super) const EMPTY: &str = "empty";

impl Execution<'_> {
    /// Runs a step; its changes go to the staging directory.
    pub(super) fn run(
        &mut self,
        exec: &Exec,
        parent: &Solved,
        key: &Key,
        staging: &Staging,
    ) -> Result<(), BuildError> {
        let mut lower_dirs = self.store.layer_dirs(&parent.diff_ids)?;
        if lower_dirs.is_empty() {
            // Overlayfs needs something below.
            let empty = staging.path().join(EMPTY);
            trusted::create_dir(&empty, 0o755)?;
            lower_dirs.push(empty);
        }
        let work = staging.path().join(WORK);
        trusted::create_dir(&work, 0o700)?;
        let mut env = exec.env.clone();
        env.extend(exec.proxy_env.iter().cloned());
        let step = RunStep {
            id: step_id(key),
            lower_dirs,
            upper: staging.files(),
            work,
            args: exec.args.clone(),
            env,
            cwd: exec.cwd.clone(),
            user: exec.user.clone(),
            network: self.network(exec.network),
            text: exec.args.join(" "),
        };
        self.run_step(&step)
    }

    fn run_step(&mut self, step: &RunStep) -> Result<(), BuildError> {
        let events = &mut *self.events;
        events(BuildEvent::Running {
            id: step.id.clone(),
        });
        let outcome = self.host.run(step, &mut |stream, bytes| {
            events(BuildEvent::Output {
                stream,
                bytes: bytes.to_vec(),
            });
        });
        events(BuildEvent::IntermediateRemoved {
            id: step.id.clone(),
        });
        self.check_cancelled()?;
        let outcome = outcome.map_err(BuildError::Host)?;
        if outcome.exit_code == 0 {
            return Ok(());
        }
        Err(BuildError::Run {
            command: step.text.clone(),
            exit_code: outcome.exit_code,
            oom_killed: outcome.oom_killed,
        })
    }

    /// Returns the network of a step: its own flag counts before the request's.
    fn network(&self, asked: &str) -> String {
        match (asked, self.request.network_mode.as_str()) {
            ("default", "") => "default".to_owned(),
            ("default", mode) => mode.to_owned(),
            (asked, _) => asked.to_owned(),
        }
    }
}

/// Returns a name that no other execution has.
fn step_id(key: &Key) -> String {
    let number = NEXT_STEP.fetch_add(1, Ordering::Relaxed);
    let now = jiff::Timestamp::now().as_nanosecond();
    Digest::of(format!(
        "{} {now} {number} {}",
        key.digest,
        std::process::id()
    ))
    .hex()
}
