//! `wharf container …` and its short forms.

pub(crate) mod api_socket;
pub(crate) mod attach;
pub(crate) mod attachment;
pub(crate) mod copy;
pub(crate) mod copy_archive;
pub(crate) mod create;
pub(crate) mod exec;
pub(crate) mod flags;
pub(crate) mod lifecycle;
pub mod list;
pub(crate) mod logs;
pub(crate) mod request;
pub(crate) mod run;
pub(crate) mod snapshot;
pub(crate) mod state;
pub(crate) mod stats;
pub(crate) mod update;
