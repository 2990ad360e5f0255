//! The use cases of images.

mod archive_contents;
pub(crate) mod archive_format;
pub(crate) mod archive_writer;
pub(crate) mod find;
pub(crate) mod gate;
pub(crate) mod import;
pub(crate) mod layout;
pub(crate) mod list;
pub(crate) mod load;
pub(crate) mod naming;
pub(crate) mod ownership;
pub(crate) mod platform;
mod prune;
pub(crate) mod pull;
pub(crate) mod push;
pub(crate) mod remove;
pub(crate) mod save;
