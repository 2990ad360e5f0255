//! What is known of a vertex beside what it does (spec llb §1): no part of its digest.

use std::collections::{BTreeMap, BTreeSet};

/// The key of a description under which the shown name stands.
pub(crate) const CUSTOM_NAME: &str = "llb.customname";

/// What is known of a vertex beside what it does.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Metadata {
    /// Whether earlier results are not looked for.
    pub ignore_cache: bool,
    /// How it is shown; empty for the builder's choice.
    pub custom_name: String,
    /// Further things that whoever made the graph says of it.
    pub description: BTreeMap<String, String>,
    /// What the builder has to be able to do.
    pub caps: BTreeSet<String>,
    /// Whether its result is exported with the cache; none for the builder's choice.
    pub export_cache: Option<bool>,
    /// The group that it is shown in.
    pub progress_group: Option<ProgressGroup>,
    /// What it may use.
    pub resources: Option<Resources>,
}

/// A group of vertices that are shown as one.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ProgressGroup {
    /// Tells groups apart.
    pub id: String,
    /// How it is shown.
    pub name: String,
    /// Whether it gives way to another group of the same vertex.
    pub weak: bool,
}

/// Limits of a program; 0 and empty mean none.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Resources {
    /// Memory in bytes.
    pub memory_bytes: i64,
    /// Memory and swap space in bytes.
    pub memory_swap_bytes: i64,
    /// Weight among others.
    pub cpu_shares: u64,
    /// Period of the quota in microseconds.
    pub cpu_period_us: u64,
    /// Processor time in a period, in microseconds.
    pub cpu_quota_us: i64,
    /// Processors that may be used, such as `0-3`.
    pub cpuset_cpus: String,
    /// Memory nodes that may be used.
    pub cpuset_mems: String,
}

impl Metadata {
    /// Takes over what is known of an equal vertex: the later name counts, capabilities add up, the wider limit holds.
    pub(crate) fn merge(&mut self, other: Self) {
        self.ignore_cache |= other.ignore_cache;
        if !other.custom_name.is_empty() {
            self.custom_name = other.custom_name;
        }
        self.description.extend(other.description);
        self.caps.extend(other.caps);
        self.export_cache = other.export_cache.or(self.export_cache);
        self.progress_group = other.progress_group.or(self.progress_group.take());
        self.resources = match (self.resources.take(), other.resources) {
            (Some(own), Some(other)) => Some(own.widest(other)),
            // One of them has no limit at all.
            _ => None,
        };
    }
}

impl Resources {
    /// Returns the wider of each limit.
    fn widest(self, other: Self) -> Self {
        fn wider<T: Ord + Default>(own: T, other: T) -> T {
            if own == T::default() || other == T::default() {
                T::default()
            } else {
                own.max(other)
            }
        }
        // Sets of processors have no order: where they differ, all may be used.
        let same = |own: String, other: String| if own == other { own } else { String::new() };
        let quota = |own: &Self| match own.cpu_quota_us {
            quota if quota <= 0 => None,
            quota => Some(quota),
        };
        let share = |of: &Self| {
            let period = if of.cpu_period_us == 0 {
                100_000
            } else {
                of.cpu_period_us
            };
            quota(of).map(|quota| quota as f64 / period as f64)
        };
        let is_own_wider = match (share(&self), share(&other)) {
            (None, _) => true,
            (_, None) => false,
            (Some(own), Some(other)) => own >= other,
        };
        let (cpu_period_us, cpu_quota_us) = if is_own_wider {
            (self.cpu_period_us, self.cpu_quota_us)
        } else {
            (other.cpu_period_us, other.cpu_quota_us)
        };
        Self {
            memory_bytes: wider(self.memory_bytes, other.memory_bytes),
            memory_swap_bytes: wider(self.memory_swap_bytes, other.memory_swap_bytes),
            cpu_shares: wider(self.cpu_shares, other.cpu_shares),
            cpu_period_us,
            cpu_quota_us,
            cpuset_cpus: same(self.cpuset_cpus, other.cpuset_cpus),
            cpuset_mems: same(self.cpuset_mems, other.cpuset_mems),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Metadata, Resources};

    #[test]
    fn equal_vertices_share_what_is_known_of_them() {
        let known = |name: &str, cap: &str, memory_bytes: i64| Metadata {
            custom_name: name.to_owned(),
            caps: [cap.to_owned()].into(),
            resources: Some(Resources {
                memory_bytes,
                ..Resources::default()
            }),
            ..Metadata::default()
        };
        let mut metadata = known("first", "a", 10);
        metadata.merge(known("second", "b", 20));
        assert_eq!(metadata.custom_name, "second");
        assert_eq!(metadata.caps.len(), 2);
        assert_eq!(metadata.resources.as_ref().unwrap().memory_bytes, 20);
        metadata.merge(known("", "b", 0));
        assert_eq!(metadata.custom_name, "second");
        assert_eq!(metadata.resources.as_ref().unwrap().memory_bytes, 0);
        metadata.merge(Metadata::default());
        assert_eq!(metadata.resources, None);
    }
}
