//! The commands, one module for each family.

pub(crate) mod absent;
pub(crate) mod build;
pub(crate) mod builder;
pub mod container;
pub(crate) mod context;
pub(crate) mod dial;
pub mod image;
pub(crate) mod inspect;
pub(crate) mod login;
pub(crate) mod manifest;
pub(crate) mod network;
pub(crate) mod network_explain;
pub(crate) mod plugin;
pub(crate) mod prune;
pub(crate) mod search;
pub(crate) mod system;
pub(crate) mod targets;
pub mod trust;
pub(crate) mod volume;
