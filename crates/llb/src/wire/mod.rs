//! The protobuf form: messages, and the way from and to the types of this crate.
//!
//! What this writes is what BuildKit's client writes, byte for byte: fields in the order of their numbers and alternatives
//! behind them, maps in the order of their keys, defaults left away but for the values of maps and alternatives.

mod decode;
mod encode;
pub(crate) mod message;
pub(crate) mod metadata;

pub(crate) use decode::{Decoded, DecodedOp, Fault, decode_op};
pub(crate) use encode::{encode_op, encode_result};
