//! The engine's own nouns. No wire format: the API room has twins of what it must spell otherwise.

pub mod container;
pub mod host_config;
pub mod network;
pub mod request;
pub mod view;
