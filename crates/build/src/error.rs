//! What can go wrong in a build.

use std::sync::Arc;

use wharf_dockerfile::{Diagnostic, render};
use wharf_image::Digest;
use wharf_layer::LayerError;
use wharf_llb::VertexId;
use wharf_safefs::FsError;
use wharf_store::StoreError;

use crate::HostError;

/// A build that failed. Nothing of the failed step is left behind.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// The Dockerfile has mistakes; the text starts with docker's line and shows the source.
    #[error("{}", .rendered.trim_end())]
    Dockerfile {
        /// Headline and source lines.
        rendered: String,
        /// The mistakes themselves.
        diagnostics: Vec<Diagnostic>,
    },
    /// An image that the Dockerfile asks for is not to be had; the text goes on with the line that asks for it.
    #[error("{}", .rendered.trim_end())]
    BaseImage {
        /// What the engine says, and the source line.
        rendered: String,
        /// What the engine says.
        reason: HostError,
    },
    /// The checks found what the Dockerfile does not allow (`# check=error=true`).
    #[error("lint violation found for rules: {}", .rules.join(", "))]
    Checks {
        /// Names of the rules.
        rules: Vec<&'static str>,
    },
    /// There is no such Dockerfile in the context.
    #[error("Cannot locate specified Dockerfile: {name}{}", hint_text(.hint))]
    NoDockerfile {
        /// Its path as asked for.
        name: String,
        /// What was found instead.
        hint: Option<String>,
    },
    /// The Dockerfile holds nothing.
    #[error("the Dockerfile ({name}) cannot be empty")]
    EmptyDockerfile {
        /// Its path.
        name: String,
    },
    /// The Dockerfile or ignore file cannot be read.
    #[error("cannot read {name}: {reason}")]
    Unreadable {
        /// Its path.
        name: String,
        /// Why.
        reason: String,
    },
    /// There is no such stage.
    #[error("target stage \"{name}\" could not be found{}", hint_text(.hint))]
    NoTarget {
        /// The stage asked for.
        name: String,
        /// Which stages there are.
        hint: Option<String>,
    },
    /// An instruction asks for something that cannot be.
    #[error("{message}")]
    Instruction {
        /// What is wrong.
        message: String,
    },
    /// The request asks for something that is not there yet.
    #[error("{what} is not supported yet")]
    Unsupported {
        /// The option.
        what: &'static str,
    },
    /// A source of COPY or ADD is not in the context.
    #[error("COPY failed: {message}")]
    Source {
        /// What is missing and why.
        message: String,
    },
    /// A step ended with another status than 0.
    #[error("The command '{command}' returned a non-zero code: {exit_code}{}{}", memory_text(*.oom_killed, *.peak_memory_bytes, *.memory_limit_bytes), processes_text(*.peak_processes, *.processes_limit))]
    Run {
        /// Program and arguments, joined by blanks.
        command: String,
        /// The exit status.
        exit_code: i32,
        /// Whether the kernel killed something in it for lack of memory.
        oom_killed: bool,
        /// The most memory it used, in bytes; 0 where that is not known.
        peak_memory_bytes: u64,
        /// How much memory it may use, in bytes; 0 without a limit.
        memory_limit_bytes: u64,
        /// The most processes that it had at once; 0 where that is not known.
        peak_processes: u64,
        /// How many processes it may have; 0 without a limit.
        processes_limit: u64,
    },
    /// A graph of operations that makes no sense.
    #[error("invalid build graph: {message}")]
    Graph {
        /// What is wrong.
        message: String,
    },
    /// A step that cannot be begun.
    #[error("{error}{shown}")]
    Step {
        /// The step.
        vertex: VertexId,
        /// Why.
        error: Box<BuildError>,
        /// The line of the Dockerfile, where it is known.
        shown: String,
    },
    /// A failure that several builds or steps share.
    #[error(transparent)]
    Shared(Arc<BuildError>),
    /// Not one of the instructions `commit --change` and `import --change` take.
    #[error("{instruction} is not a valid change command")]
    InvalidChange {
        /// The instruction.
        instruction: String,
    },
    /// Nobody waits for the build any more.
    #[error("build cancelled")]
    Cancelled,
    /// The engine could not do what a step needs.
    #[error("{0}")]
    Host(HostError),
    /// The store refused something.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A layer or archive could not be made or read.
    #[error(transparent)]
    Layer(#[from] LayerError),
    /// A file operation failed.
    #[error(transparent)]
    File(#[from] FsError),
    /// An image needs a layer that is not in the store.
    #[error("layer {diff_id} of {image} is missing; pull the image again")]
    LayerMissing {
        /// The layer.
        diff_id: Digest,
        /// The image.
        image: String,
    },
}

impl BuildError {
    /// Returns the exit status of the step that failed, if one did.
    pub fn exit_code(&self) -> Option<i32> {
        match self {
            Self::Run { exit_code, .. } => Some(*exit_code),
            Self::Shared(error) => error.exit_code(),
            Self::Step { error, .. } => error.exit_code(),
            _ => None,
        }
    }

    /// Says whether the request, its Dockerfile or its context is to blame, and not the engine.
    pub fn is_users_fault(&self) -> bool {
        if let Self::Shared(error) = self {
            return error.is_users_fault();
        }
        if let Self::Step { error, .. } = self {
            return error.is_users_fault();
        }
        !matches!(
            self,
            Self::Cancelled
                | Self::Host(_)
                | Self::BaseImage { .. }
                | Self::Store(_)
                | Self::Layer(_)
                | Self::File(_)
                | Self::LayerMissing { .. }
        )
    }

    /// Returns an error that shows mistakes with their source lines: first the one that comes first, which is the one that
    /// BuildKit tells, then the others by their places.
    pub(crate) fn dockerfile(name: &str, source: &str, mut diagnostics: Vec<Diagnostic>) -> Self {
        if let Some((_, others)) = diagnostics.split_first_mut() {
            others.sort_by_key(|other| other.span.start);
        }
        Self::Dockerfile {
            rendered: render(name, source, &diagnostics),
            diagnostics,
        }
    }

    pub(crate) fn instruction(message: impl Into<String>) -> Self {
        Self::Instruction {
            message: message.into(),
        }
    }
}

/// Says how a step ran out of memory.
fn memory_text(oom_killed: bool, peak_bytes: u64, limit_bytes: u64) -> String {
    if !oom_killed {
        return String::new();
    }
    let mebibytes = |bytes: u64| format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20));
    let limit = if limit_bytes > 0 {
        format!(": its limit is {}", mebibytes(limit_bytes))
    } else {
        String::new()
    };
    let peak = if peak_bytes > 0 {
        let joint = if limit_bytes > 0 { "," } else { ":" };
        format!("{joint} its peak was {}", mebibytes(peak_bytes))
    } else {
        String::new()
    };
    format!(" (a process in it was killed for lack of memory{limit}{peak})")
}

/// Says that a step had as many processes as it may have: further ones were refused.
fn processes_text(peak: u64, limit: u64) -> String {
    if limit == 0 || peak < limit {
        return String::new();
    }
    format!(" (it had {peak} processes at once, its limit is {limit}: more were refused)")
}

fn hint_text(hint: &Option<String>) -> String {
    hint.as_ref()
        .map(|hint| format!(" ({hint})"))
        .unwrap_or_default()
}
