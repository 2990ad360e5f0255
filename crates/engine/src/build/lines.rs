//! Docker's classic build lines (spec engine-api §10).

use crate::model::view::{Progress, ProgressSender};
use wharf_build::{BuildEvent, OutputStream, SolveEvent};

/// Turns build events into lines; a quiet build keeps them until it fails.
pub(super) struct Lines {
    progress: ProgressSender,
    quiet: bool,
    say_removed: bool,
    trace: bool,
    kept: Vec<Progress>,
}

/// The check that repeats what is said at the step itself.
const MAINTAINER_RULE: &str = "MaintainerDeprecated";
/// Messages a quiet build keeps for the case that it fails.
const MAX_KEPT: usize = 100_000;

impl Lines {
    pub(super) fn new(
        progress: ProgressSender,
        quiet: bool,
        say_removed: bool,
        trace: bool,
    ) -> Self {
        Self {
            progress,
            quiet,
            say_removed,
            trace,
            kept: Vec::new(),
        }
    }

    pub(super) fn event(&mut self, event: BuildEvent) {
        match event {
            BuildEvent::StepStarted { index, total, text } => {
                self.say(format!("Step {index}/{total} : {text}\n"))
            }
            BuildEvent::Warning { text } => self.say(format!(" ---> [Warning] {text}\n")),
            BuildEvent::GlobalWarning { text } => self.say(format!("[Warning] {text}\n")),
            BuildEvent::Finding(finding) if self.trace => {
                let _client_gone = self
                    .progress
                    .send(Progress::Solve(SolveEvent::Finding(finding)));
            }
            // It was told at its step, as docker does.
            BuildEvent::Finding(finding) if finding.rule == MAINTAINER_RULE => {}
            BuildEvent::Finding(finding) => self.say(format!("[Warning] {}\n", finding.text())),
            BuildEvent::Triggers { count: 1 } => {
                self.say("# Executing 1 build trigger\n".to_owned())
            }
            BuildEvent::Triggers { count } => {
                self.say(format!("# Executing {count} build triggers\n"))
            }
            BuildEvent::Solve(event) => {
                if self.trace {
                    let _client_gone = self.progress.send(Progress::Solve(event));
                }
            }
            BuildEvent::NotNeeded => self.say(" ---> Not needed\n".to_owned()),
            BuildEvent::CacheHit => self.say(" ---> Using cache\n".to_owned()),
            BuildEvent::Running { id } => self.say(format!(" ---> Running in {}\n", short(&id))),
            BuildEvent::Output {
                stream: OutputStream::Stdout,
                bytes,
            } => self.say(String::from_utf8_lossy(&bytes).into_owned()),
            BuildEvent::Output {
                stream: OutputStream::Stderr,
                bytes,
            } => {
                self.say(format!(
                    "\u{1b}[91m{}\u{1b}[0m",
                    String::from_utf8_lossy(&bytes)
                ));
            }
            BuildEvent::IntermediateRemoved { id } if self.say_removed => {
                self.say(format!(
                    " ---> Removed intermediate container {}\n",
                    short(&id)
                ));
            }
            BuildEvent::IntermediateRemoved { .. } => {}
            BuildEvent::StepDone { id } => self.say(format!(" ---> {}\n", id.short())),
            BuildEvent::StageDone { id } => self.send(Progress::ImageId(id)),
        }
    }

    /// Ends the build: what a quiet one kept is said when it failed.
    pub(super) fn finish(&mut self, succeeded: bool) {
        if !succeeded {
            for message in std::mem::take(&mut self.kept) {
                let _client_gone = self.progress.send(message);
            }
        }
    }

    fn say(&mut self, text: String) {
        self.send(Progress::Stream(text));
    }

    fn send(&mut self, message: Progress) {
        if self.quiet && !matches!(message, Progress::ImageId(_)) {
            if self.kept.len() < MAX_KEPT {
                self.kept.push(message);
            }
            return;
        }
        let _client_gone = self.progress.send(message);
    }
}

fn short(id: &str) -> &str {
    id.get(..12).unwrap_or(id)
}
