//! A client of image registries: pull and push by the OCI distribution specification 1.1.
//!
//! Knows nothing of the image store: it hands out verified bytes and takes bytes to upload.
//! Everything a registry says is checked before it is believed: digests and sizes of all content,
//! the size of every document, where redirects lead and where credentials go.

mod auth;
mod blob;
mod challenge;
mod check;
mod client;
mod credentials;
mod documents;
mod endpoint;
mod error;
mod host;
mod push;
mod resolve;
mod scope;
mod search;
mod tags;
mod transport;
mod upload;

pub use blob::BlobStream;
pub use client::{Client, ClientOptions};
pub use credentials::Credentials;
pub use documents::MAX_DOCUMENT_BYTES;
pub use error::RegistryError;
pub use resolve::Resolved;
pub use search::{Found, MAX_RESULTS};
