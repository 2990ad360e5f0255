//! What lowering leads to: stages of steps over one graph.

use wharf_image::{ContainerConfig, HistoryEntry, Platform};

use crate::BaseImage;
use crate::old_graph::{Graph, Input};

/// A build, ready to be executed.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// All that changes files.
    pub graph: Graph,
    /// The ARG lines before the first FROM, as written.
    pub global_args: Vec<String>,
    /// The needed stages in order; the last is the target.
    pub stages: Vec<PlannedStage>,
    /// How many steps are shown, triggers not counted.
    pub total: usize,
    /// What the user should know about the whole build.
    pub warnings: Vec<String>,
    /// Platform of the image.
    pub platform: Platform,
    /// Time of all that is made, instead of now, as RFC 3339.
    pub epoch: Option<String>,
}

/// One stage.
#[derive(Debug, Clone)]
pub(crate) struct PlannedStage {
    /// The FROM line as written.
    pub text: String,
    /// What it starts from.
    pub base: StageBase,
    /// The base's triggers among the steps: the first so many.
    pub triggers: usize,
    /// State before the first step.
    pub start: StepState,
    /// The steps.
    pub steps: Vec<Step>,
}

/// What a stage starts from.
#[derive(Debug, Clone)]
pub(crate) enum StageBase {
    /// Nothing.
    Scratch,
    /// An image.
    Image(BaseImage),
    /// The end of another stage: its place among the planned stages.
    Stage(usize),
}

/// One instruction.
#[derive(Debug, Clone)]
pub(crate) struct Step {
    /// The instruction as written.
    pub text: String,
    /// What the user should know about it.
    pub warnings: Vec<String>,
    /// Its history entry without a time; none for ONBUILD.
    pub history: Option<HistoryEntry>,
    /// State after it.
    pub state: StepState,
}

/// Config and files at one point of a stage.
#[derive(Debug, Clone)]
pub(crate) struct StepState {
    /// Defaults of containers.
    pub config: ContainerConfig,
    /// The maintainer.
    pub author: Option<String>,
    /// The files.
    pub output: Input,
}
