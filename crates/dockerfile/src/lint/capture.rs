//! What a stage can be given, noted while its instructions are gone through (for [`crate::outline`]).

use std::collections::{BTreeMap, BTreeSet};

use crate::ast::Location;

/// A build argument that was declared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ArgInfo {
    /// Its value; empty where it has none.
    pub value: String,
    /// The comment above it.
    pub description: String,
    /// Where it is declared.
    pub location: Location,
    /// Its place among the names of one instruction.
    pub place: usize,
    /// Global arguments that its default uses.
    pub uses: BTreeSet<String>,
}

/// A secret or an SSH agent that a step asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NeedInfo {
    /// Whether the step fails without it.
    pub is_required: bool,
    /// The first instruction that asks for it.
    pub location: Location,
    /// Its place among the mounts of that instruction.
    pub place: usize,
}

/// What one stage can be given.
#[derive(Debug, Clone, Default)]
pub(crate) struct Capture {
    /// Declared arguments by name.
    pub args: BTreeMap<String, ArgInfo>,
    /// Names of arguments that the stage uses or declares.
    pub used: BTreeSet<String>,
    /// Secrets by ID.
    pub secrets: BTreeMap<String, NeedInfo>,
    /// SSH agents by ID.
    pub ssh: BTreeMap<String, NeedInfo>,
}

impl Capture {
    /// Returns the names of all arguments that count: those used, and those that their defaults use.
    pub fn used_at_last(&self) -> BTreeSet<&str> {
        let mut seen = BTreeSet::new();
        let mut open: Vec<&str> = self.used.iter().map(String::as_str).collect();
        while let Some(name) = open.pop() {
            if seen.insert(name)
                && let Some(info) = self.args.get(name)
            {
                open.extend(info.uses.iter().map(String::as_str));
            }
        }
        seen
    }
}
