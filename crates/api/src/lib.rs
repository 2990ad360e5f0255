//! The Engine API: routes, JSON shapes and stream framing of docker's HTTP interface.
//!
//! Docker's wire types live only here. [`serve`] answers on unix sockets that [`bind_unix`] makes;
//! everything else is a translation between requests and [`wharf_engine::Engine`]. The version
//! spoken is [`API_VERSION`]; what is answered and how far it agrees with docker is told by
//! [`compatibility_table`].

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::disallowed_methods))]

mod body;
mod call;
mod credentials;
mod error;
mod filters;
mod go_json;
mod handlers;
mod hijack;
mod human;
#[doc(hidden)]
pub mod internals;
mod json_lines;
mod json_message;
pub mod limits;
mod listen_url;
mod metrics;
mod openapi;
mod policy;
mod query;
mod respond;
mod router;
mod routes;
mod server;
mod socket;
mod spool;
pub mod stdcopy;
mod timestamp;
mod tls;
mod transport;
mod version;
mod wire;

pub use error::ApiError;
pub use listen_url::normalize_listen_url;
pub use metrics::{Metrics, serve_metrics};
pub use openapi::openapi;
pub use policy::{Policy, PolicyError, PolicyHandle, PolicyOptions};
pub use routes::{Endpoint, compatibility_table};
pub use server::{ServeOptions, serve};
pub use socket::{bind_tcp, bind_unix, group_exists};
pub use tls::{Tls, TlsFiles};
pub use transport::Listener;
pub use version::{API_VERSION, ENGINE_VERSION, MIN_API_VERSION};
