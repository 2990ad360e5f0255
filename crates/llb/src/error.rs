//! What can be wrong with a definition.

use wharf_image::Digest;

use crate::limits::{MAX_DEFINITION_BYTES, MAX_DEPTH, MAX_INPUTS, MAX_OP_BYTES, MAX_OPS};

/// Why a definition is no graph.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LlbError {
    /// The bytes are no protobuf message.
    #[error("{what} cannot be read: {reason}")]
    Malformed {
        /// What was read.
        what: String,
        /// What the decoder says.
        reason: String,
    },
    /// It is too large.
    #[error("the definition has {found} bytes, at most {MAX_DEFINITION_BYTES} are taken")]
    TooLarge {
        /// How many bytes there are.
        found: usize,
    },
    /// It has too many operations.
    #[error("the definition has {found} operations, at most {MAX_OPS} are taken")]
    TooManyOps {
        /// How many there are.
        found: usize,
    },
    /// One operation is too large.
    #[error("operation {number} has {found} bytes, at most {MAX_OP_BYTES} are taken")]
    OpTooLarge {
        /// Its place in the definition, from 0.
        number: usize,
        /// How many bytes it has.
        found: usize,
    },
    /// One operation has too many inputs.
    #[error("operation {digest} has {found} inputs, at most {MAX_INPUTS} are taken")]
    TooManyInputs {
        /// The operation.
        digest: Digest,
        /// How many there are.
        found: usize,
    },
    /// Too many operations stand on one another.
    #[error("more than {MAX_DEPTH} operations stand on one another")]
    TooDeep,
    /// An operation says nothing about what it does.
    #[error(
        "operation {digest} does nothing that is known here: expected exec, source, file, build, merge or diff"
    )]
    UnknownOp {
        /// The operation.
        digest: Digest,
    },
    /// A field has a value that makes no sense.
    #[error("operation {digest}: {message}")]
    Invalid {
        /// The operation.
        digest: Digest,
        /// What is wrong with it.
        message: String,
    },
    /// An operation stands on one that is not there.
    #[error("{user} needs {input}, which the definition does not have")]
    MissingInput {
        /// What needs it.
        user: String,
        /// The missing one, as it is written.
        input: String,
    },
    /// Operations stand on each other.
    #[error("operation {digest} stands on itself")]
    Cycle {
        /// One of them.
        digest: Digest,
    },
    /// The last operation does not name one result.
    #[error("the last operation is to name the result and nothing else: {message}")]
    NoResult {
        /// What it does instead.
        message: String,
    },
}
