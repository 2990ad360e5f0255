//! How much of a graph is taken from outside.

/// Most bytes of a definition.
pub const MAX_DEFINITION_BYTES: usize = 64 << 20;
/// Most operations of a definition, its end included.
pub const MAX_OPS: usize = 65_536;
/// Most bytes of one operation.
pub const MAX_OP_BYTES: usize = 16 << 20;
/// Most operations that stand on one another.
pub const MAX_DEPTH: usize = 8_192;
/// Most inputs of one operation.
pub const MAX_INPUTS: usize = 16_384;
