//! The values of docker's flags: how they are written and what they become in the API.

pub(crate) mod csv;
pub(crate) mod device;
pub mod env;
pub mod filter;
pub mod gpus;
pub mod limits;
pub mod misc;
pub mod mount;
pub mod network;
pub mod port;
pub(crate) mod security;
pub mod volume;
