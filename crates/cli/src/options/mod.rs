//! The values of docker's flags: how they are written and what they become in the API.

pub(crate) mod csv;
pub(crate) mod device;
pub(crate) mod env;
pub(crate) mod filter;
pub(crate) mod gpus;
pub(crate) mod limits;
pub(crate) mod misc;
pub(crate) mod mount;
pub(crate) mod network;
pub(crate) mod port;
pub(crate) mod security;
pub(crate) mod volume;
