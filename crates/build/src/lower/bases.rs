//! What stages start from: images, other stages, named contexts, nothing (spec llb §7.2).

use wharf_dockerfile::{Location, Stage};
use wharf_image::{ContainerConfig, ImageConfig, Platform, Reference};
use wharf_llb::Edge;

use super::contexts::Resolved;
use super::froms::{self, From, SCRATCH};
use super::mistakes::UNKNOWN_DIRECTORY;
use super::names::{Numbering, named};
use super::{Lowering, StageState, Use, no_image};
use crate::config::{self, DEFAULT_PATH};
use crate::plan::StageBase;
use crate::{BaseImage, BuildError};

impl Lowering<'_, '_> {
    /// Refuses what is no image's name.
    pub(super) fn check_reference(&self, name: &str, at: &Location) -> Result<(), BuildError> {
        froms::check_reference(self.input, name, at)
    }

    /// Returns what a stage starts from, and whether it is replaced as a whole by a named context.
    pub(super) fn base(
        &mut self,
        index: usize,
        stage: &Stage,
        mut names: Numbering,
    ) -> Result<(StageBase, StageState, bool), BuildError> {
        // Only numbers of stages that exist are asked for.
        let From {
            base,
            platform,
            is_broken,
        } = self.froms[index].clone();
        if is_broken {
            let state = unknown(self.input.platform.clone(), names);
            return Ok((StageBase::Scratch, state, false));
        }
        let platform = platform.unwrap_or_else(|| self.input.platform.clone());
        let at = &stage.location;
        if let Some(name) = &stage.from.stage_name
            && let Some(found) = self.named_context(name, &platform, at)?
        {
            let (base, state) = self.resolved(found, name, names, platform, at)?;
            return Ok((base, state, true));
        }
        if let Some(base) = self.base_stage(index)
            && let Some((_, state)) = self.done.get(&base)
        {
            self.uses.push((index, Use::Stage(base)));
            let mut state = StageState {
                has_cmd: false,
                names,
                is_unsure: state.is_unsure || state.has_unknown_trigger,
                has_unknown_trigger: false,
                ..state.clone()
            };
            state.variables_of_config_last();
            return Ok((StageBase::Stage(base), state, false));
        }
        if let Some(found) = self.named_context(&base, &platform, at)? {
            let (base, state) = self.resolved(found, &base, names, platform, at)?;
            return Ok((base, state, false));
        }
        if base == SCRATCH {
            let state = start(empty_config(), None, None, platform, names);
            return Ok((StageBase::Scratch, state, false));
        }
        self.check_reference(&base, at)?;
        let found = self.find(&base, &platform);
        let found = found.map_err(|error| no_image(self.input, &base, at, error))?;
        let Some(image) = found else {
            return Ok((StageBase::Scratch, unknown(platform, names), false));
        };
        names.total += 1;
        let name = names.next(&format!("FROM {}", canonical(&base, &image)));
        let output = self.image_vertex(&base, &image, &platform, named(name.clone()));
        self.first_names.insert(index, (output.vertex, name));
        let state = image_state(&image, output, platform, names);
        Ok((StageBase::Image(image), state, false))
    }

    /// Starts a stage from what a named context stands for.
    fn resolved(
        &mut self,
        found: Resolved,
        name: &str,
        names: Numbering,
        platform: Platform,
        at: &Location,
    ) -> Result<(StageBase, StageState), BuildError> {
        Ok(match found {
            Resolved::Image(image, edge) => {
                let state = image_state(&image, edge, platform, names);
                (StageBase::Image(image), state)
            }
            Resolved::Unknown => (StageBase::Scratch, unknown(platform, names)),
            Resolved::Files(files) => {
                let state = start(empty_config(), None, files, platform, names);
                (StageBase::Scratch, state)
            }
            Resolved::Stage(index) => {
                self.stage_output(index, name, at)?;
                let state = self.done.get(&index).map(|(_, state)| state.clone());
                let state = state.ok_or_else(|| {
                    self.mistake(at, format!("circular dependency detected on stage: {name}"))
                })?;
                let state = StageState {
                    has_cmd: false,
                    names,
                    ..state
                };
                (StageBase::Stage(index), state)
            }
        })
    }
}

/// Returns the config of a stage that starts from nothing.
fn empty_config() -> ContainerConfig {
    ContainerConfig {
        working_dir: "/".to_owned(),
        ..ContainerConfig::default()
    }
}

/// Returns the state of a stage whose base is not known.
pub(super) fn unknown(platform: Platform, names: Numbering) -> StageState {
    let mut state = start(empty_config(), None, None, platform, names);
    UNKNOWN_DIRECTORY.clone_into(&mut state.config.working_dir);
    state.is_unsure = true;
    state
}

/// Returns the state of a stage that starts from an image.
fn image_state(
    image: &BaseImage,
    output: Edge,
    platform: Platform,
    names: Numbering,
) -> StageState {
    // An image without layers is nothing.
    let output = (!image.config.rootfs.diff_ids.is_empty()).then_some(output);
    let config = inherited(&image.config);
    start(config, image.config.author.clone(), output, platform, names)
}

/// Returns the state of a stage before its first instruction.
fn start(
    mut config: ContainerConfig,
    author: Option<String>,
    output: Option<Edge>,
    platform: Platform,
    names: Numbering,
) -> StageState {
    if config::env_value(&config.env, "PATH").is_none() {
        config.env.push(format!("PATH={DEFAULT_PATH}"));
    }
    let split = |entry: &String| {
        let (key, value) = entry.split_once('=').unwrap_or((entry, ""));
        (key.to_owned(), value.to_owned())
    };
    StageState {
        env: config.env.iter().map(split).collect(),
        config,
        author,
        output,
        platform,
        names,
        args: Vec::new(),
        has_cmd: false,
        is_unsure: false,
        has_unknown_trigger: false,
    }
}

/// Returns an image's whole name with the digest of what was found.
pub(super) fn canonical(name: &str, image: &BaseImage) -> String {
    match Reference::parse(name) {
        Ok(reference) => {
            let reference = reference.with_default_tag();
            let tag = reference
                .tag()
                .map_or_else(String::new, |tag| format!(":{tag}"));
            // What came from no registry has only its own name.
            let found = reference.digest().copied().or(image.digest);
            let digest = found.unwrap_or(image.id);
            format!("{}{tag}@{digest}", reference.name())
        }
        Err(_) => name.to_owned(),
    }
}

/// Returns what images inherit of their base's config (spec image-store §3).
fn inherited(image: &ImageConfig) -> ContainerConfig {
    let base = image.config.clone().unwrap_or_default();
    ContainerConfig {
        user: base.user,
        exposed_ports: base.exposed_ports,
        env: base.env,
        cmd: base.cmd,
        healthcheck: base.healthcheck,
        args_escaped: base.args_escaped,
        volumes: base.volumes,
        working_dir: base.working_dir,
        entrypoint: base.entrypoint,
        on_build: base.on_build,
        labels: base.labels,
        stop_signal: base.stop_signal,
        stop_timeout: base.stop_timeout,
        shell: base.shell,
        ..ContainerConfig::default()
    }
}
