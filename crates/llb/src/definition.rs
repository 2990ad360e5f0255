//! Definitions: graphs as they travel (spec llb §1).

use std::collections::{BTreeMap, BTreeSet};

use prost::Message as _;
use wharf_image::Digest;

use crate::caps;
use crate::error::LlbError;
use crate::file::FileInput;
use crate::graph::{Edge, Graph, Vertex, VertexId};
use crate::limits::{MAX_DEFINITION_BYTES, MAX_INPUTS, MAX_OP_BYTES, MAX_OPS};
use crate::metadata::Metadata;
use crate::op::Op;
use crate::order::{Node, order};
use crate::wire;
use crate::wire::{Decoded, DecodedOp, Fault};

/// A graph as it travels: the bytes of its operations and what is said of them.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Definition {
    /// The operations' messages; the last names the result. Empty means a result without files.
    pub ops: Vec<Vec<u8>>,
    /// What is known of operations, by the digest of their bytes.
    pub metadata: BTreeMap<Digest, Metadata>,
    /// What they were made from.
    pub source: Option<SourceMap>,
}

/// Where operations come from: files and places in them.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SourceMap {
    /// Places by the digest of the operation.
    pub locations: BTreeMap<Digest, Vec<Location>>,
    /// The files.
    pub infos: Vec<SourceInfo>,
}

/// A place in a file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Location {
    /// Number of the file.
    pub source: i32,
    /// From where to where.
    pub ranges: Vec<(Position, Position)>,
}

/// A point in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Position {
    /// The line, from 1.
    pub line: i32,
    /// The character in it, from 0.
    pub character: i32,
}

/// A file that operations were made from.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SourceInfo {
    /// Its name.
    pub filename: String,
    /// Its content.
    pub data: Vec<u8>,
    /// The graph that it came from.
    pub definition: Option<Definition>,
    /// Its language.
    pub language: String,
}

impl Definition {
    /// Writes down what a result stands on; without one the definition is empty.
    pub fn of(graph: &Graph, result: Option<Edge>) -> Self {
        let mut definition = Self::default();
        let Some(result) = result else {
            return definition;
        };
        for id in reachable(graph, result.vertex) {
            let vertex = graph.vertex(id);
            definition.ops.push(vertex.bytes().to_vec());
            definition
                .metadata
                .insert(vertex.digest, vertex.metadata.clone());
        }
        let digest = graph.vertex(result.vertex).digest;
        let last = wire::encode_result((digest, result.output));
        let caps = caps::of_definition(definition.metadata.values());
        let metadata = Metadata {
            caps: caps.map(str::to_owned).collect(),
            ..Metadata::default()
        };
        definition.metadata.insert(Digest::of(&last), metadata);
        definition.ops.push(last);
        definition
    }

    /// Returns the protobuf message.
    pub fn encode(&self) -> Vec<u8> {
        wire::metadata::definition_message(self).encode_to_vec()
    }

    /// Reads a protobuf message; the operations in it are not looked at yet.
    ///
    /// # Errors
    /// Too many bytes, bytes that are no definition.
    pub fn decode(bytes: &[u8]) -> Result<Self, LlbError> {
        if bytes.len() > MAX_DEFINITION_BYTES {
            return Err(LlbError::TooLarge { found: bytes.len() });
        }
        let message =
            wire::message::Definition::decode(bytes).map_err(|error| LlbError::Malformed {
                what: "the definition".to_owned(),
                reason: error.to_string(),
            })?;
        wire::metadata::definition(message)
    }

    /// Reads the operations. The bytes are kept: what names a vertex is their digest.
    ///
    /// Operations may come in any order but for the last, which names the result; nothing is returned as the result of an
    /// empty definition.
    ///
    /// # Errors
    /// See [`LlbError`].
    pub fn graph(&self) -> Result<(Graph, Option<Edge>), LlbError> {
        let mut graph = Graph::default();
        let Some((last, ops)) = self.ops.split_last() else {
            return Ok((graph, None));
        };
        self.check_size()?;
        let result = read_result(last)?;
        let read = read_all(ops)?;
        let nodes: Vec<Node<'_>> = read
            .iter()
            .map(|(digest, _, op)| Node {
                digest: *digest,
                inputs: &op.inputs,
            })
            .collect();
        for place in order(&nodes)? {
            let Some((digest, bytes, op)) = read.get(place) else {
                continue;
            };
            let inputs = op
                .inputs
                .iter()
                .map(|input| find(&graph, &format!("operation {digest}"), input))
                .collect::<Result<Vec<_>, _>>()?;
            let metadata = self.metadata.get(digest).cloned().unwrap_or_default();
            graph.add_received(op.clone(), inputs, (*digest, bytes), metadata);
        }
        let result = find(&graph, "the last operation", &result)?;
        Ok((graph, Some(result)))
    }

    fn check_size(&self) -> Result<(), LlbError> {
        if self.ops.len() > MAX_OPS {
            return Err(LlbError::TooManyOps {
                found: self.ops.len(),
            });
        }
        let total: usize = self.ops.iter().map(Vec::len).sum();
        if total > MAX_DEFINITION_BYTES {
            return Err(LlbError::TooLarge { found: total });
        }
        match self.ops.iter().position(|op| op.len() > MAX_OP_BYTES) {
            Some(number) => Err(LlbError::OpTooLarge {
                number,
                found: self.ops.get(number).map_or(0, Vec::len),
            }),
            None => Ok(()),
        }
    }
}

/// Returns what a vertex stands on and itself, producers first, in the order in which BuildKit's client writes them.
fn reachable(graph: &Graph, result: VertexId) -> Vec<VertexId> {
    let mut found = Vec::new();
    let mut seen = BTreeSet::from([result]);
    let mut path = vec![(result, producers(graph.vertex(result)))];
    while let Some((id, open)) = path.last_mut() {
        match open.pop() {
            Some(next) => {
                if seen.insert(next) {
                    path.push((next, producers(graph.vertex(next))));
                }
            }
            None => {
                found.push(*id);
                path.pop();
            }
        }
    }
    found
}

/// Returns what a vertex stands on, the first to be written last: its inputs in their order, but of several copies the
/// source of the last one comes first.
fn producers(vertex: &Vertex) -> Vec<VertexId> {
    let mut producers: Vec<VertexId> = vertex.inputs.iter().map(|edge| edge.vertex).collect();
    if let Op::File(file) = &vertex.op {
        let base = file.actions.first().map(|action| action.input);
        let sources = file.actions.iter().rev().map(|action| action.secondary);
        let order = base.into_iter().chain(sources);
        let mut ordered: Vec<VertexId> = order
            .filter_map(|input| match input {
                FileInput::Input(index) => producers.get(index).copied(),
                FileInput::Scratch | FileInput::Action(_) => None,
            })
            .collect();
        ordered.append(&mut producers);
        producers = ordered;
    }
    producers.reverse();
    producers
}

type ReadOp<'a> = (Digest, &'a [u8], DecodedOp);

fn read_all(ops: &[Vec<u8>]) -> Result<Vec<ReadOp<'_>>, LlbError> {
    let mut read = Vec::with_capacity(ops.len());
    for (number, bytes) in ops.iter().enumerate() {
        let digest = Digest::of(bytes);
        let op = match wire::decode_op(bytes) {
            Ok(Decoded::Op(op)) => op,
            Ok(Decoded::Inputs(_)) | Err(Fault::Unknown) => {
                return Err(LlbError::UnknownOp { digest });
            }
            Err(Fault::Invalid(message)) => return Err(LlbError::Invalid { digest, message }),
            Err(Fault::Malformed(reason)) => {
                return Err(LlbError::Malformed {
                    what: format!("operation {number}"),
                    reason,
                });
            }
        };
        if op.inputs.len() > MAX_INPUTS {
            return Err(LlbError::TooManyInputs {
                digest,
                found: op.inputs.len(),
            });
        }
        read.push((digest, bytes.as_slice(), op));
    }
    Ok(read)
}

fn read_result(bytes: &[u8]) -> Result<(String, i64), LlbError> {
    let wrong = |message: String| LlbError::NoResult { message };
    match wire::decode_op(bytes) {
        Ok(Decoded::Inputs(mut inputs)) if inputs.len() == 1 => {
            inputs.pop().ok_or_else(|| wrong("it is empty".to_owned()))
        }
        Ok(Decoded::Inputs(inputs)) => Err(wrong(format!("it names {} inputs", inputs.len()))),
        Ok(Decoded::Op(_)) | Err(Fault::Unknown | Fault::Invalid(_)) => {
            Err(wrong("it is an operation itself".to_owned()))
        }
        Err(Fault::Malformed(reason)) => Err(LlbError::Malformed {
            what: "the last operation".to_owned(),
            reason,
        }),
    }
}

/// Finds an input among the vertices that are there.
fn find(graph: &Graph, user: &str, (input, index): &(String, i64)) -> Result<Edge, LlbError> {
    let missing = |input: String| LlbError::MissingInput {
        user: user.to_owned(),
        input,
    };
    let digest: Option<Digest> = input.parse().ok();
    let vertex = digest.and_then(|digest| graph.find(&digest));
    let vertex = vertex.ok_or_else(|| missing(input.clone()))?;
    let outputs = graph.vertex(vertex).op.outputs();
    match u32::try_from(*index) {
        Ok(output) if output < outputs => Ok(Edge { vertex, output }),
        _ => Err(missing(format!("output {index} of {input}"))),
    }
}

impl Op {
    /// Returns how many outputs the operation has.
    pub fn outputs(&self) -> u32 {
        let highest = match self {
            Self::Exec(exec) => exec.mounts.iter().filter_map(|mount| mount.output).max(),
            Self::File(file) => file.actions.iter().filter_map(|action| action.output).max(),
            Self::Source(_) | Self::Merge(_) | Self::Diff(_) | Self::Build(_) => Some(0),
        };
        highest.map_or(0, |highest| highest.saturating_add(1))
    }
}
