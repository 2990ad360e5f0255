//! The resolver that containers of user-defined networks ask at 127.0.0.11 (spec runtime §8.4).
//!
//! Sockets are opened inside each container's namespace; one thread of the daemon answers them all:
//! names of containers from a directory in memory, everything else by asking the servers that the
//! host asks, from the host's namespace.

mod answer;
mod directory;
mod forward;
mod redirect;
mod server;

pub use server::{ResolverPorts, ResolverRequest, Upstream};

pub(crate) use server::Resolver;
