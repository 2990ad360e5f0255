//! A directory's changes to and from a layer tar.
//!
//! A layer lives on disk as a directory in overlay form: a deleted name is a character device 0:0, a
//! directory that hides what lies below it has `trusted.overlay.opaque=y`. [`apply`] makes such a
//! directory of a layer tar without looking at other layers, [`write_tar`] makes the one canonical tar
//! of a directory, and a [`Recipe`] makes a foreign tar again bit for bit. [`extract`] and
//! [`write_plain_tar`] are for ordinary archives. All paths go through `wharf-safefs`; all that an
//! archive from outside may ask for has a limit ([`limits`]).

#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::print_stdout)
)]

mod apply;
mod canonical;
mod changes;
mod compress;
mod decompress;
mod error;
mod extract;
pub mod limits;
mod lower;
mod place;
mod recipe;
mod sink;
mod source;
mod summarize;
mod tar;
mod tree;
mod upper;
mod whiteout;
mod write;

pub use apply::{Applied, ApplyOptions, LayerSummary, apply};
pub use changes::{Change, ChangeKind, changes};
pub use compress::{COMPRESS_BLOCK_BYTES, CompressReport, compress};
pub use decompress::{Compression, decompress};
pub use error::LayerError;
pub use extract::{ExtractOptions, ExtractReport, extract};
pub use limits::Limits;
pub use recipe::{MAX_RECIPE_BYTES, MAX_RECIPE_CONTENT_BYTES, Recipe};
pub use summarize::summarize;
pub use upper::{clean_upper, copy_upper};
pub use write::{PlainTarOptions, write_plain_tar, write_tar};
