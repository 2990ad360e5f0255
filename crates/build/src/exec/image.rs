//! Configs of steps, their records, and the image in the end (spec image-store §12).

use serde_json::Value;
use wharf_image::{HistoryEntry, ImageConfig, ImageId};
use wharf_store::NewImage;

use super::{Execution, Finished, Solved};
use crate::cache::{self, Hit, Key};
use crate::plan::Step;
use crate::{BuildError, BuildEvent};

/// Comment of the entries that stand for layers without history (spec image-store §12.2).
const PADDING_COMMENT: &str = "buildkit.exporter.image.v0";

/// Returns an image's history with exactly one entry for each layer.
pub(super) fn padded_history(image: &ImageConfig) -> Vec<HistoryEntry> {
    let mut history = image.history.clone();
    let layers = image.rootfs.diff_ids.len();
    let entries = history.iter().filter(|entry| !entry.empty_layer).count();
    for _ in entries..layers {
        history.push(HistoryEntry {
            created: image.created.clone(),
            comment: Some(PADDING_COMMENT.to_owned()),
            ..HistoryEntry::default()
        });
    }
    let surplus = entries.saturating_sub(layers);
    for entry in history
        .iter_mut()
        .rev()
        .filter(|entry| !entry.empty_layer)
        .take(surplus)
    {
        entry.empty_layer = true;
    }
    history
}

impl Execution<'_> {
    /// Ends a step that changes only the config.
    pub(super) fn config_step(
        &mut self,
        step: &Step,
        mut history: Vec<HistoryEntry>,
        entry: Option<HistoryEntry>,
        at: &mut Finished,
    ) -> Result<(), BuildError> {
        let has_entry = entry.is_some();
        history.extend(entry);
        let key = self.config_key(step, &history);
        let chain = self.chain(step.state.output);
        let hit = if self.request.no_cache {
            None
        } else {
            cache::find(self.store, &self.lease, &key.digest, &chain)?
        };
        let earlier = hit.as_ref().and_then(|hit| hit.created.clone());
        let created = earlier.unwrap_or_else(|| self.now());
        if let Some(last) = history.last_mut().filter(|_| has_entry) {
            last.created = Some(created.clone());
        }
        *at = self.finished_at(&step.state, history, Some(created.clone()))?;
        if hit.is_some() {
            (self.events)(BuildEvent::CacheHit);
        }
        if hit.and_then(|hit| hit.config) == at.config {
            return Ok(());
        }
        let result = Hit {
            diff_ids: chain,
            created: Some(created),
            config: at.config.clone(),
        };
        cache::put(self.store, &key, result, &step.text, 0)
    }

    /// Records a step that changes files, with the config after it.
    pub(super) fn record(
        &mut self,
        step: &Step,
        solved: &Solved,
        at: &Finished,
    ) -> Result<(), BuildError> {
        let result = Hit {
            diff_ids: solved.diff_ids.clone(),
            created: solved.created.clone(),
            config: at.config.clone(),
        };
        if let Some((key, size_bytes)) = &solved.pending {
            if let crate::graph::Input::Vertex(id) = step.state.output
                && let Some(solved) = self.results.get_mut(&id)
            {
                solved.pending = None;
                solved.recorded_config.clone_from(&at.config);
            }
            return cache::put(self.store, key, result, &step.text, *size_bytes);
        }
        if solved.recorded_config == at.config {
            return Ok(());
        }
        // The same files under another config: the step's ID has to lead somewhere, too.
        let key = self.config_key(step, &at.history);
        let known = cache::find(self.store, &self.lease, &key.digest, &solved.diff_ids)?;
        if known.is_some_and(|known| known.config == at.config) {
            return Ok(());
        }
        cache::put(self.store, &key, result, &step.text, 0)
    }

    /// Returns the key of a config: the files' key and all of the config but times.
    fn config_key(&self, step: &Step, history: &[HistoryEntry]) -> Key {
        let timeless = history.iter().cloned().map(|entry| HistoryEntry {
            created: None,
            ..entry
        });
        let config = self.plan.image_config(&step.state, timeless.collect());
        let config: Value = serde_json::from_slice(&config.to_bytes()).unwrap_or_default();
        let parent = match step.state.output {
            crate::graph::Input::Scratch => None,
            crate::graph::Input::Vertex(id) => self.results.get(&id).and_then(|solved| solved.key),
        };
        Key::new("config", parent.as_ref(), config, &[])
    }

    /// Stores the last stage's end as an image.
    pub(super) fn store_image(&mut self) -> Result<ImageId, BuildError> {
        let Some(finished) = self.finished.pop() else {
            return Err(BuildError::instruction("no build stage in current context"));
        };
        let Some(mut bytes) = finished.config else {
            return Ok(finished.id);
        };
        let mut config = ImageConfig::parse(&bytes)
            .map_err(|error| BuildError::instruction(error.to_string()))?;
        if config.created.is_none() {
            config.created = Some(self.now());
            bytes = config.to_bytes();
        }
        let image = NewImage {
            parent: self
                .plan
                .base_image(self.plan.stages.len().saturating_sub(1)),
            built_here: true,
            ..NewImage::of(&bytes)
        };
        Ok(self.store.put_image(&image)?.id)
    }
}
