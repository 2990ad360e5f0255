//! Stages whose steps are executed again (`no-cache` of BuildKit's frontend).

use wharf_llb::Metadata;

use super::Lowering;
use super::names::named;

impl Lowering<'_, '_> {
    /// Returns metadata of a step of a stage, with its name.
    pub(super) fn step(&self, stage: usize, name: impl Into<String>) -> Metadata {
        Metadata {
            ignore_cache: self.ignores_cache(stage),
            ..named(name)
        }
    }

    /// Says whether the steps of a stage are to be executed again. A stage without a name has the empty one, as for BuildKit.
    fn ignores_cache(&self, stage: usize) -> bool {
        let stage = self.input.dockerfile.stages.get(stage);
        let name = stage.and_then(|stage| stage.from.stage_name.as_deref());
        is_among(self.input.no_cache_stages, name.unwrap_or_default())
    }

    /// Tells which names are those of no stage: BuildKit passes over them silently.
    pub(super) fn unknown_no_cache_stages(&self) -> Option<String> {
        let stages = &self.input.dockerfile.stages;
        let is_known = |wanted: &str| {
            let mut names = stages.iter().map(|stage| stage.from.stage_name.as_deref());
            names.any(|name| name.unwrap_or_default().eq_ignore_ascii_case(wanted))
        };
        let wanted = self.input.no_cache_stages.iter();
        let unknown: Vec<&str> = wanted
            .map(String::as_str)
            .filter(|name| !is_known(name))
            .collect();
        (!unknown.is_empty()).then(|| {
            let names = unknown.join(" ");
            format!("no stage has the name that no-cache-filter gives: [{names}]")
        })
    }
}

fn is_among(names: &[String], wanted: &str) -> bool {
    names.iter().any(|name| name.eq_ignore_ascii_case(wanted))
}
