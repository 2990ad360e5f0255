//! `wharf image …` and its short forms.

pub(crate) mod archive;
pub(crate) mod history;
pub(crate) mod layers;
pub mod list;
pub(crate) mod names;
pub(crate) mod transfer;
mod tree;
