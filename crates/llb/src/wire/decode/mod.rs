//! From bytes to operations, every number checked.

mod exec;
mod file;

use std::collections::BTreeMap;

use prost::Message as _;
use wharf_image::Platform;

use super::encode::NONE;
use super::message::{self, OpKind};
use crate::op::{BuildOp, DiffOp, MergeOp, Op, SourceOp};

use exec::exec_op;
use file::file_op;

/// An operation as it was read; none of its inputs is known to exist.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct DecodedOp {
    pub op: Op,
    /// Digests of the inputs, as written, with the numbers of their outputs.
    pub inputs: Vec<(String, i64)>,
    pub platform: Option<Platform>,
    pub worker_filter: Vec<String>,
}

/// What bytes turned out to be.
#[derive(Debug, Clone, PartialEq)]
#[allow(
    clippy::large_enum_variant,
    reason = "one at a time is alive, and not for long"
)]
pub(crate) enum Decoded {
    /// An operation.
    Op(DecodedOp),
    /// Inputs and nothing that is done with them.
    Inputs(Vec<(String, i64)>),
}

/// Why bytes are no operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fault {
    /// They are no such message.
    Malformed(String),
    /// It is an operation of another kind.
    Unknown,
    /// A field has a value that makes no sense.
    Invalid(String),
}

/// Reads an operation.
pub(crate) fn decode_op(bytes: &[u8]) -> Result<Decoded, Fault> {
    let message =
        message::Op::decode(bytes).map_err(|error| Fault::Malformed(error.to_string()))?;
    let count = message.inputs.len();
    let inputs = message
        .inputs
        .into_iter()
        .map(|input| (input.digest, input.index))
        .collect();
    let Some(kind) = message.op else {
        return Ok(Decoded::Inputs(inputs));
    };
    let op = match kind {
        OpKind::Exec(exec) => Op::Exec(exec_op(exec, count)?),
        OpKind::Source(source) => Op::Source(source_op(source)?),
        OpKind::File(file) => Op::File(file_op(file, count)?),
        OpKind::Merge(merge) => Op::Merge(merge_op(&merge, count)?),
        OpKind::Diff(diff) => Op::Diff(diff_op(&diff, count)?),
        OpKind::Build(build) => Op::Build(build_op(build, count)?),
        OpKind::Passthrough(_) => return Err(Fault::Unknown),
    };
    Ok(Decoded::Op(DecodedOp {
        op,
        inputs,
        platform: message.platform.map(platform),
        worker_filter: message.constraints.unwrap_or_default().filter,
    }))
}

/// Returns a map's entries; of equal keys the last counts.
pub(super) fn map(pairs: Vec<message::Pair>) -> BTreeMap<String, String> {
    pairs
        .into_iter()
        .map(|pair| (pair.key.unwrap_or_default(), pair.value.unwrap_or_default()))
        .collect()
}

fn invalid<T>(message: impl Into<String>) -> Result<T, Fault> {
    Err(Fault::Invalid(message.into()))
}

fn platform(message: message::Platform) -> Platform {
    Platform {
        os: message.os,
        architecture: message.architecture,
        variant: message.variant,
        os_version: message.os_version,
        os_features: message.os_features,
    }
}

/// Reads the number of an input; -1 is none.
fn input(number: i64, count: usize) -> Result<Option<usize>, Fault> {
    if number == NONE {
        return Ok(None);
    }
    match usize::try_from(number) {
        Ok(index) if index < count => Ok(Some(index)),
        _ => invalid(format!("there is no input {number}: it has {count}")),
    }
}

/// Reads the number of an input that there has to be.
fn real_input(number: i64, count: usize) -> Result<usize, Fault> {
    match input(number, count)? {
        Some(index) => Ok(index),
        None => invalid("an input is missing"),
    }
}

/// Reads the number of an output; -1 is none.
fn output(number: i64) -> Result<Option<u32>, Fault> {
    if number == NONE {
        return Ok(None);
    }
    match u32::try_from(number) {
        Ok(number) => Ok(Some(number)),
        Err(_) => invalid(format!("{number} is no number of an output")),
    }
}

fn source_op(message: message::SourceOp) -> Result<SourceOp, Fault> {
    if message.identifier.is_empty() {
        return invalid("a source without an identifier");
    }
    Ok(SourceOp {
        identifier: message.identifier,
        attributes: map(message.attrs),
    })
}

fn merge_op(message: &message::MergeOp, count: usize) -> Result<MergeOp, Fault> {
    let mut inputs = Vec::with_capacity(message.inputs.len());
    for one in &message.inputs {
        inputs.extend(input(one.input, count)?);
    }
    Ok(MergeOp { inputs })
}

fn diff_op(message: &message::DiffOp, count: usize) -> Result<DiffOp, Fault> {
    let side = |one: &Option<message::OpInput>, name: &str| match one {
        Some(one) => input(one.input, count),
        None => invalid(format!("a difference without its {name} side")),
    };
    Ok(DiffOp {
        lower: side(&message.lower, "lower")?,
        upper: side(&message.upper, "upper")?,
    })
}

fn build_op(message: message::BuildOp, count: usize) -> Result<BuildOp, Fault> {
    let mut inputs = BTreeMap::new();
    for entry in message.inputs {
        let number = entry.value.unwrap_or_default().input;
        inputs.insert(entry.key.unwrap_or_default(), real_input(number, count)?);
    }
    let definition = message.def.map(super::metadata::definition).transpose();
    Ok(BuildOp {
        builder: input(message.builder, count)?,
        inputs,
        definition: definition
            .map_err(|error| Fault::Invalid(error.to_string()))?
            .map(Box::new),
        attributes: map(message.attrs),
    })
}
