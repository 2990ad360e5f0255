//! The operations (spec llb §2).

use std::collections::BTreeMap;

use crate::definition::Definition;
use crate::exec::ExecOp;
use crate::file::FileOp;

/// The input of a Build operation that holds its definition, by name.
pub const DEFINITION_INPUT: &str = "buildkit.llb.definition";

/// What a vertex does.
#[derive(Debug, Clone, PartialEq)]
#[allow(
    clippy::large_enum_variant,
    reason = "graphs are small beside what they build"
)]
pub enum Op {
    /// Runs a program.
    Exec(ExecOp),
    /// Brings files in.
    Source(SourceOp),
    /// Changes files.
    File(FileOp),
    /// Lays trees over each other.
    Merge(MergeOp),
    /// Takes what one tree has over another.
    Diff(DiffOp),
    /// Solves another graph.
    Build(BuildOp),
}

/// Brings files in from elsewhere (spec llb §2.2).
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SourceOp {
    /// What: a scheme and a name, such as `docker-image://docker.io/library/alpine:3.20`.
    pub identifier: String,
    /// How, by the names of the scheme.
    pub attributes: BTreeMap<String, String>,
}

/// Lays trees over each other, later ones on top (spec llb §2.4).
#[derive(Debug, Clone, PartialEq, Default)]
pub struct MergeOp {
    /// The inputs, lowest first.
    pub inputs: Vec<usize>,
}

/// Takes what `upper` has over `lower` (spec llb §2.4).
#[derive(Debug, Clone, PartialEq, Default)]
pub struct DiffOp {
    /// The input below; none for nothing.
    pub lower: Option<usize>,
    /// The input above; none for nothing.
    pub upper: Option<usize>,
}

/// Solves a graph that an input holds as a file (spec llb §2.4).
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BuildOp {
    /// The input that solves it; none for the builder itself.
    pub builder: Option<usize>,
    /// Inputs by name.
    pub inputs: BTreeMap<String, usize>,
    /// The graph itself, where no input holds it.
    pub definition: Option<Box<Definition>>,
    /// How: `llbbuild.filename` names the file.
    pub attributes: BTreeMap<String, String>,
}
