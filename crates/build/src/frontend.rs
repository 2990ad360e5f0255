//! A Dockerfile as a build graph and an image config, without building anything.

use std::cell::RefCell;
use std::collections::BTreeMap;

use wharf_dockerfile::{Diagnostic, Outline};
use wharf_image::{HistoryEntry, ImageConfig, Platform};
use wharf_llb::{Edge, Graph};

use crate::assemble::padded_history;
use crate::checks::{Facts, given, image_facts, shown};
use crate::lower::{FindBase, LowerInput, NamedContext, lower, other_mistakes};
use crate::plan::{Plan, StageBase};
use crate::{BaseImage, BuildError};

/// What a Dockerfile is lowered with.
#[derive(Debug, Clone, Default)]
pub struct Frontend {
    /// `--build-arg`.
    pub build_args: BTreeMap<String, Option<String>>,
    /// `--label`.
    pub labels: BTreeMap<String, String>,
    /// The stage to build, by name or number; empty means the last.
    pub target: String,
    /// Platform to build for; `None` means this machine's.
    pub platform: Option<Platform>,
    /// Platform that steps run on; `None` means this machine's.
    pub build_platform: Option<Platform>,
    /// `--build-context NAME=VALUE`; directories are told by any other value.
    pub contexts: BTreeMap<String, String>,
    /// `--no-cache-filter`: the stages whose steps are executed again, by name.
    pub no_cache_stages: Vec<String>,
    /// Whether RUN may ask to be confined by nothing.
    pub allow_insecure: bool,
}

/// A Dockerfile, lowered.
#[derive(Debug, Clone)]
pub struct Lowered {
    /// All that has to be done.
    pub graph: Graph,
    /// Files of the image; none where it has no layers.
    pub result: Option<Edge>,
    /// Config of the image, as it is if every step that can change files makes a layer. Times are missing, and so are
    /// the layers that are made.
    pub image: ImageConfig,
    /// What the user should know.
    pub warnings: Vec<String>,
}

/// Lowers a Dockerfile; `find_base` finds the config of an image by name and platform.
///
/// # Errors
/// Mistakes in the Dockerfile, unknown targets, and what `find_base` says.
pub fn lower_dockerfile(
    text: &str,
    options: &Frontend,
    find_base: &mut dyn FnMut(&str, &Platform) -> Result<BaseImage, BuildError>,
) -> Result<Lowered, BuildError> {
    const NAME: &str = "Dockerfile";
    let (dockerfile, mut errors) = wharf_dockerfile::load(text);
    errors.retain(Diagnostic::is_error);
    let host = options
        .build_platform
        .clone()
        .unwrap_or_else(Platform::host);
    let contexts = options
        .contexts
        .iter()
        .map(|(name, value)| (name.clone(), NamedContext::parse(value)))
        .collect();
    let input = LowerInput {
        dockerfile: &dockerfile,
        file_name: NAME,
        source: text,
        build_args: &options.build_args,
        labels: &options.labels,
        target: &options.target,
        platform: options.platform.clone().unwrap_or_else(|| host.clone()),
        build_platform: host,
        contexts: &contexts,
        no_cache_stages: &options.no_cache_stages,
        allow_insecure: options.allow_insecure,
        network_mode: "",
        // Nothing is asked: a name that makes sense has no time here.
        find_time: &|_| Ok(None),
        is_partial: !errors.is_empty(),
    };
    let find: &mut FindBase<'_> = find_base;
    if input.is_partial {
        errors.extend(other_mistakes(&input, find));
        return Err(BuildError::dockerfile(NAME, text, errors));
    }
    let plan = lower(&input, find)?;
    let image = image(&plan);
    let last = plan.stages.last();
    let state = last.map(|stage| stage.steps.last().map_or(&stage.start, |step| &step.state));
    Ok(Lowered {
        result: state.and_then(|state| state.output),
        image,
        warnings: plan.warnings,
        graph: plan.graph,
    })
}

/// Returns what a Dockerfile's target can be given; `find_base` finds the config of an image by name and platform.
///
/// # Errors
/// As [`lower_dockerfile`].
pub fn outline_dockerfile(
    text: &str,
    options: &Frontend,
    find_base: &mut dyn FnMut(&str, &Platform) -> Result<BaseImage, BuildError>,
) -> Result<Outline, BuildError> {
    lower_dockerfile(text, options, find_base)?;
    let (dockerfile, _) = wharf_dockerfile::load(text);
    let find = RefCell::new(find_base);
    let base_image = |name: &str, platform: &str| {
        let platform = Platform::parse(platform).ok()?;
        let image = (find.borrow_mut())(name, &platform).ok()?;
        Some(image_facts(&image))
    };
    let facts = Facts {
        build_args: given(&options.build_args),
        target: options.target.clone(),
        target_platform: shown(options.platform.as_ref()),
        build_platform: shown(options.build_platform.as_ref()),
    };
    let input = facts.input(&base_image, None);
    Ok(wharf_dockerfile::outline(&dockerfile, &input))
}

/// Returns the config that a plan leads to if every step makes a layer.
fn image(plan: &Plan) -> ImageConfig {
    let mut chain = Vec::new();
    let mut base = None;
    let mut at = plan.stages.last();
    while let Some(stage) = at {
        chain.push(stage);
        at = match &stage.base {
            StageBase::Stage(index) => plan.stages.get(*index),
            StageBase::Image(image) => {
                base = Some(image.config.clone());
                None
            }
            StageBase::Scratch => None,
        };
    }
    let mut history = base
        .as_ref()
        .map(|base| padded_history(base))
        .unwrap_or_default();
    for stage in chain.iter().rev() {
        let entries = stage.steps.iter().filter_map(|step| step.history.clone());
        history.extend(entries.map(|entry| HistoryEntry {
            created: plan.epoch.clone(),
            ..entry
        }));
    }
    let Some(last) = plan.stages.last() else {
        return ImageConfig::default();
    };
    let state = last.steps.last().map_or(&last.start, |step| &step.state);
    let mut image = plan.image_config(state, history);
    if let Some(base) = base {
        image.rootfs.diff_ids.clone_from(&base.rootfs.diff_ids);
    }
    image
}
