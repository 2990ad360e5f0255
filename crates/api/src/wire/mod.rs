//! Docker's JSON shapes (spec engine-api §6–§9) and how they map to the engine's own types.

mod address;
pub(crate) mod container;
pub(crate) mod container_list;
pub(crate) mod create;
pub(crate) mod create_compat;
pub(crate) mod event;
pub(crate) mod host_config;
pub(crate) mod image;
pub(crate) mod mount;
pub(crate) mod network;
pub(crate) mod network_request;
pub(crate) mod resources;
pub(crate) mod stats;
pub(crate) mod system;
pub(crate) mod volume;

use serde::Serialize;

/// Returns None for an empty list: where nothing was given, docker writes null.
pub(crate) fn none_if_empty<T>(list: Vec<T>) -> Option<Vec<T>> {
    (!list.is_empty()).then_some(list)
}

/// Tells whether a value is its type's default, for keys that are left out then.
pub(crate) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Writes `{}`.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(crate) struct EmptyObject {}
