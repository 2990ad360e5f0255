//! What happens during a build.

use serde::{Deserialize, Serialize};
use wharf_image::{Digest, ImageId};

use crate::OutputStream;

/// Something that happened. All but [`BuildEvent::Solve`] tell the build in the order of its Dockerfile, as docker's
/// classic builder does; `Solve` tells what the solver does, as it does it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BuildEvent {
    /// A step begins.
    StepStarted {
        /// Its number, from 1.
        index: usize,
        /// How many steps there are, triggers not counted.
        total: usize,
        /// The instruction as written.
        text: String,
    },
    /// Something about the current step that the user should know.
    Warning {
        /// The message.
        text: String,
    },
    /// Something about the whole build that the user should know.
    GlobalWarning {
        /// The message.
        text: String,
    },
    /// A check found something; told once all steps are done, or before any where it fails the build.
    Finding(Finding),
    /// The base image's ONBUILD triggers are executed next.
    Triggers {
        /// How many.
        count: usize,
    },
    /// The current step's result was taken from the cache.
    CacheHit,
    /// The current step was not needed: what stands on it came from the cache.
    NotNeeded,
    /// The current step runs in a container.
    Running {
        /// The container's ID, 64 hexadecimal characters.
        id: String,
    },
    /// The running step wrote something.
    Output {
        /// Where to.
        stream: OutputStream,
        /// What, cut anywhere.
        bytes: Vec<u8>,
    },
    /// The step's container is gone.
    IntermediateRemoved {
        /// The container's ID.
        id: String,
    },
    /// A step is done.
    StepDone {
        /// Digest of the image config after it.
        id: Digest,
    },
    /// A stage is done.
    StageDone {
        /// Digest of its config; for the last stage the image.
        id: ImageId,
    },
    /// The solver did something.
    Solve(SolveEvent),
}

/// Something that a check found in the Dockerfile.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// Name of the check.
    pub rule: String,
    /// What is wrong.
    pub message: String,
    /// The line, from 1.
    pub line: usize,
    /// The line itself, marked.
    pub snippet: String,
}

impl Finding {
    /// Returns it in one line, as the reference prints it (spec llb §8).
    pub fn text(&self) -> String {
        format!("{}: {} (line {})", self.rule, self.message, self.line)
    }
}

/// What the solver does, vertex by vertex; as JSON this is the stream of `--progress=rawjson`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum SolveEvent {
    /// The build got its name, by which its logs and explanations are found.
    Build {
        /// The name.
        id: String,
    },
    /// A check found something.
    Finding(Finding),
    /// There is a vertex.
    Vertex {
        /// Its digest.
        digest: Digest,
        /// What to call it.
        name: String,
        /// Vertices that it stands on.
        inputs: Vec<Digest>,
    },
    /// Work on a vertex begins.
    Started {
        /// The vertex.
        digest: Digest,
        /// Milliseconds since the build began.
        at_ms: u64,
    },
    /// The vertex's container runs.
    Running {
        /// The vertex.
        digest: Digest,
        /// The container's ID.
        container: String,
    },
    /// A vertex wrote something.
    Log {
        /// The vertex.
        digest: Digest,
        /// Where to.
        stream: OutputStream,
        /// What, cut anywhere; bytes that are no UTF-8 are replaced.
        text: String,
    },
    /// A vertex is done.
    Completed {
        /// The vertex.
        digest: Digest,
        /// Whether its result was taken from the cache.
        cached: bool,
        /// What went wrong, if anything.
        error: Option<String>,
        /// Milliseconds since the build began.
        at_ms: u64,
    },
}
