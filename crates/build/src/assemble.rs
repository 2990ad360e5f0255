//! From solved steps to image configs: history, records of configs, and the image in the end (spec image-store §12).

use std::cell::RefCell;

use serde_json::Value;
use wharf_image::{DiffId, Digest, HistoryEntry, ImageConfig, ImageId};
use wharf_store::{Lease, NewImage, Store};

use crate::cache::{self, Entry};
use crate::cache_config::{ExportedCache, INLINE_KEY};
use crate::imported::Imported;
use crate::plan::{Plan, Step, StepState};
use crate::solve::Snapshot;
use crate::{BuildError, Host};

/// Comment of the entries that stand for layers without history (spec image-store §12.2).
const PADDING_COMMENT: &str = "buildkit.exporter.image.v0";

/// Where a stage stands after a step.
#[derive(Debug, Clone)]
pub(crate) struct Finished {
    /// Digest of the config.
    pub id: ImageId,
    /// The layers.
    pub diff_ids: Vec<DiffId>,
    /// Their history.
    pub history: Vec<HistoryEntry>,
    /// The config's bytes; none where the stage is its base image.
    pub config: Option<Vec<u8>>,
}

/// Makes configs of one build.
pub(crate) struct Assembler<'a> {
    store: &'a Store,
    plan: &'a Plan,
    lease: Lease,
    no_cache: bool,
    imported: &'a Imported,
    used: RefCell<Vec<Digest>>,
}

/// Returns an image's history with exactly one entry for each layer.
pub(crate) fn padded_history(image: &ImageConfig) -> Vec<HistoryEntry> {
    let mut history = image.history.clone();
    let layers = image.rootfs.diff_ids.len();
    let entries = history.iter().filter(|entry| !entry.empty_layer).count();
    for _ in entries..layers {
        history.push(padding(image.created.clone()));
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

fn padding(created: Option<String>) -> HistoryEntry {
    HistoryEntry {
        created,
        comment: Some(PADDING_COMMENT.to_owned()),
        ..HistoryEntry::default()
    }
}

impl<'a> Assembler<'a> {
    /// Prepares the configs of a plan.
    pub fn new(
        store: &'a Store,
        plan: &'a Plan,
        no_cache: bool,
        imported: &'a Imported,
    ) -> Result<Self, BuildError> {
        Ok(Self {
            store,
            plan,
            lease: store.lease("build")?,
            no_cache,
            imported,
            used: RefCell::default(),
        })
    }

    /// Returns the keys of the configs that were used or made.
    pub fn used_keys(&self) -> Vec<Digest> {
        self.used.borrow().clone()
    }

    /// Returns the config of a state that nothing was done to reach.
    pub fn start(
        &self,
        state: &StepState,
        snapshot: &Snapshot,
        history: Vec<HistoryEntry>,
        created: Option<String>,
    ) -> Result<Finished, BuildError> {
        self.finished_at(state, snapshot.diff_ids()?, history, created)
    }

    /// Returns the config of a stage that starts from files which are no image's: of a named context. `text` says whose.
    pub fn start_from_files(
        &self,
        state: &StepState,
        snapshot: &Snapshot,
        text: Option<&str>,
    ) -> Result<Finished, BuildError> {
        let created = self.time_of(snapshot.created.clone());
        let entry = HistoryEntry {
            created_by: text.map(str::to_owned),
            ..padding(created.clone())
        };
        let diff_ids = snapshot.diff_ids()?;
        let history = vec![entry; diff_ids.len()];
        self.finished_at(state, diff_ids, history, created)
    }

    /// Returns the config after a step; says whether a step that changes only the config was known.
    pub fn step(
        &self,
        step: &Step,
        snapshot: &Snapshot,
        changes_files: bool,
        before: &Finished,
    ) -> Result<(Finished, bool), BuildError> {
        let diff_ids = snapshot.diff_ids()?;
        let mut history = before.history.clone();
        let Some(entry) = &step.history else {
            return self.config_step(step, snapshot, history, false, &diff_ids);
        };
        if !changes_files {
            history.push(entry.clone());
            return self.config_step(step, snapshot, history, true, &diff_ids);
        }
        let added = diff_ids.len().saturating_sub(before.diff_ids.len());
        let created = self.time_of(snapshot.created.clone());
        history.push(HistoryEntry {
            created: created.clone(),
            empty_layer: added == 0,
            ..entry.clone()
        });
        for _ in 1..added {
            history.push(padding(created.clone()));
        }
        let finished = self.finished_at(&step.state, diff_ids, history, created)?;
        self.record(step, snapshot, &finished, None)?;
        Ok((finished, false))
    }

    /// Ends a step that changes only the config.
    fn config_step(
        &self,
        step: &Step,
        snapshot: &Snapshot,
        mut history: Vec<HistoryEntry>,
        has_entry: bool,
        diff_ids: &[DiffId],
    ) -> Result<(Finished, bool), BuildError> {
        let key = self.config_key(step, snapshot, &history);
        self.used.borrow_mut().push(key);
        let hit = if self.no_cache {
            None
        } else {
            cache::find_anywhere(self.store, &self.lease, self.imported, &key, Some(diff_ids))?
        };
        let earlier = self.time_of(hit.as_ref().and_then(|hit| hit.created.clone()));
        let created = earlier.unwrap_or_else(|| self.now());
        if let Some(last) = history.last_mut().filter(|_| has_entry) {
            last.created = Some(created.clone());
        }
        let finished = self.finished_at(
            &step.state,
            diff_ids.to_vec(),
            history,
            Some(created.clone()),
        )?;
        let is_known = hit.is_some();
        if hit.and_then(|hit| hit.config) != finished.config {
            self.put(step, key, &finished, Some(created))?;
        }
        Ok((finished, is_known))
    }

    /// Records the config after a step: its ID has to lead somewhere.
    fn record(
        &self,
        step: &Step,
        snapshot: &Snapshot,
        finished: &Finished,
        created: Option<String>,
    ) -> Result<(), BuildError> {
        let key = self.config_key(step, snapshot, &finished.history);
        let known = cache::find(self.store, &self.lease, &key, Some(&finished.diff_ids))?;
        if known.is_some_and(|known| known.config == finished.config) {
            return Ok(());
        }
        self.put(step, key, finished, created)
    }

    fn put(
        &self,
        step: &Step,
        key: Digest,
        finished: &Finished,
        created: Option<String>,
    ) -> Result<(), BuildError> {
        let entry = Entry {
            key,
            by_result: None,
            diff_ids: finished.diff_ids.clone(),
            created,
            config: finished.config.clone(),
            explain: serde_json::json!({ "kind": "config", "step": step.text }),
            description: &step.text,
            size_bytes: 0,
            is_unchanged: false,
        };
        cache::put(self.store, entry)
    }

    /// Returns the key of a config: the files' key and all of the config but times.
    fn config_key(&self, step: &Step, snapshot: &Snapshot, history: &[HistoryEntry]) -> Digest {
        let timeless = history.iter().cloned().map(|entry| HistoryEntry {
            created: None,
            ..entry
        });
        let config = self.plan.image_config(&step.state, timeless.collect());
        let config: Value = serde_json::from_slice(&config.to_bytes()).unwrap_or_default();
        cache::key_of(
            "config",
            &serde_json::json!([snapshot.result_key(), config]),
        )
    }

    /// Returns the time of what is made now.
    pub fn now(&self) -> String {
        self.plan
            .epoch
            .clone()
            .unwrap_or_else(|| jiff::Timestamp::now().to_string())
    }

    /// Returns the time that a step is shown with: the one that was asked for, else when it was done.
    fn time_of(&self, done: Option<String>) -> Option<String> {
        self.plan.epoch.clone().or(done)
    }

    fn finished_at(
        &self,
        state: &StepState,
        diff_ids: Vec<DiffId>,
        history: Vec<HistoryEntry>,
        created: Option<String>,
    ) -> Result<Finished, BuildError> {
        let mut config = self.plan.image_config(state, history);
        config.rootfs.diff_ids.clone_from(&diff_ids);
        config.created = config
            .history
            .last()
            .and_then(|entry| entry.created.clone())
            .or(created);
        let bytes = config.to_bytes();
        Ok(Finished {
            id: Digest::of(&bytes),
            diff_ids,
            history: config.history,
            config: Some(bytes),
        })
    }

    /// Stores the last stage's end as an image, with a cache in its config where there is one.
    pub fn store_image(
        &self,
        finished: &Finished,
        cache: Option<&ExportedCache>,
        host: &dyn Host,
    ) -> Result<ImageId, BuildError> {
        let claim = |id: &ImageId| host.claim_image(id).map_err(BuildError::Host);
        let Some(bytes) = &finished.config else {
            claim(&finished.id)?;
            return Ok(finished.id);
        };
        let mut config = ImageConfig::parse(bytes)
            .map_err(|error| BuildError::instruction(error.to_string()))?;
        let mut bytes = bytes.clone();
        if config.created.is_none() {
            config.created = Some(self.now());
            bytes = config.to_bytes();
        }
        if let Some(cache) = cache {
            let document = cache.inline(&finished.diff_ids);
            config
                .extra
                .insert(INLINE_KEY.to_owned(), Value::String(document));
            bytes = config.to_bytes();
        }
        let image = NewImage {
            parent: self
                .plan
                .base_image(self.plan.stages.len().saturating_sub(1)),
            built_here: true,
            ..NewImage::of(&bytes)
        };
        claim(&Digest::of(&bytes))?;
        Ok(self.store.put_image(&image)?.id)
    }
}
