//! What lowering leads to: stages of steps over one graph.

use wharf_image::{ContainerConfig, HistoryEntry, ImageConfig, ImageId, Platform, RootFs};

use crate::BaseImage;
use std::collections::HashMap;
use wharf_llb::{Edge, Graph};

/// A build, ready to be executed.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// All that changes files.
    pub graph: Graph,
    /// Images by the identifier and platform of their source.
    pub images: HashMap<String, BaseImage>,
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
    pub output: Option<Edge>,
}

impl Plan {
    /// Returns an image config of this platform without layers and times.
    pub fn image_config(&self, state: &StepState, history: Vec<HistoryEntry>) -> ImageConfig {
        let filled = |text: &String| (!text.is_empty()).then(|| text.clone());
        let mut extra = std::collections::BTreeMap::new();
        if let Some(version) = filled(&self.platform.os_version) {
            extra.insert("os.version".to_owned(), version.into());
        }
        if !self.platform.os_features.is_empty() {
            extra.insert(
                "os.features".to_owned(),
                self.platform.os_features.clone().into(),
            );
        }
        ImageConfig {
            architecture: self.platform.architecture.clone(),
            os: self.platform.os.clone(),
            variant: filled(&self.platform.variant),
            author: state.author.clone(),
            config: Some(state.config.clone()),
            history,
            rootfs: RootFs::default(),
            extra,
            ..ImageConfig::default()
        }
    }

    /// Returns the image that a stage is built on in the end, its bases followed.
    pub fn base_image(&self, stage: usize) -> Option<ImageId> {
        let mut stage = self.stages.get(stage)?;
        loop {
            match &stage.base {
                StageBase::Scratch => return None,
                StageBase::Image(image) => return Some(image.id),
                StageBase::Stage(index) => stage = self.stages.get(*index)?,
            }
        }
    }
}
