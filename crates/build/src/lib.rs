//! Building images: Dockerfile → graph → cache keys → steps → image.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod change;
mod chmod;
mod config;
mod error;
mod event;
mod graph;
mod history;
mod host;
mod lower;
mod plan;
mod ports;
mod request;
mod suggest;

pub use change::apply_change;
pub use error::BuildError;
pub use event::BuildEvent;
pub use host::{BaseImage, Fetched, Host, HostError, OutputStream, RunOutcome, RunStep};
pub use request::{BuildRequest, ContextSource};

use wharf_image::ImageId;
use wharf_store::Store;

/// What a build led to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Built {
    /// The image, stored.
    pub image: ImageId,
}

/// Builds an image.
///
/// # Errors
/// See [`BuildError`].
pub fn build(
    _store: &Store,
    host: &dyn Host,
    _request: &BuildRequest,
    _events: &mut dyn FnMut(BuildEvent),
) -> Result<Built, BuildError> {
    if host.is_cancelled() {
        return Err(BuildError::Cancelled);
    }
    Err(BuildError::Unsupported { what: "building" })
}
