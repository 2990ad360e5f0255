//! Building images: Dockerfile → graph → cache keys → steps → image.

#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::print_stdout)
)]

mod cache;
mod change;
mod chmod;
mod config;
mod content;
mod context;
mod copy;
mod error;
mod event;
mod exec;
mod glob;
mod graph;
mod history;
mod host;
mod lower;
mod owner;
mod plan;
mod ports;
mod request;
mod select;
mod suggest;

pub use cache::{PruneOptions, Pruned, prune};
pub use change::apply_change;
pub use error::BuildError;
pub use event::BuildEvent;
pub use host::{BaseImage, Fetched, Host, HostError, OutputStream, RunOutcome, RunStep};
pub use request::{BuildRequest, ContextSource};

use std::collections::HashMap;

use wharf_dockerfile::{Diagnostic, Dockerfile, load, render};
use wharf_image::{ImageId, Platform};
use wharf_store::Store;

use context::{Context, DockerfileText};
use lower::{LowerInput, lower};
use plan::Plan;

/// What a build led to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Built {
    /// The image, stored.
    pub image: ImageId,
}

/// Builds an image.
///
/// Nothing is run before the whole Dockerfile is known to make sense. Steps that were executed stay in the
/// cache whatever comes after them.
///
/// # Errors
/// See [`BuildError`].
pub fn build(
    store: &Store,
    host: &dyn Host,
    request: &BuildRequest,
    events: &mut dyn FnMut(BuildEvent),
) -> Result<Built, BuildError> {
    if request.squash {
        return Err(BuildError::Unsupported { what: "squash" });
    }
    let mut context = Context::open(store, &request.context)?;
    let file = context.load(request)?;
    let dockerfile = read(&file)?;
    let plan = plan(host, request, &file, &dockerfile)?;
    if !request.cache_from.is_empty() {
        let text = "cache-from: steps are not taken over from images yet; only the local build cache is used".to_owned();
        events(BuildEvent::GlobalWarning { text });
    }
    let image = exec::execute(store, host, request, &context, &plan, events)?;
    Ok(Built { image })
}

/// Reads the Dockerfile.
fn read(file: &DockerfileText) -> Result<Dockerfile, BuildError> {
    let (dockerfile, diagnostics) = load(&file.text);
    let errors: Vec<Diagnostic> = diagnostics
        .into_iter()
        .filter(Diagnostic::is_error)
        .collect();
    if errors.is_empty() {
        return Ok(dockerfile);
    }
    Err(BuildError::Dockerfile {
        rendered: render(&file.name, &file.text, &errors),
    })
}

/// Lowers the Dockerfile with the host's images.
fn plan(
    host: &dyn Host,
    request: &BuildRequest,
    file: &DockerfileText,
    dockerfile: &Dockerfile,
) -> Result<Plan, BuildError> {
    let build_platform = Platform::host();
    let input = LowerInput {
        dockerfile,
        file_name: &file.name,
        source: &file.text,
        build_args: &request.build_args,
        labels: &request.labels,
        target: &request.target,
        platform: request
            .platform
            .clone()
            .unwrap_or_else(|| build_platform.clone()),
        build_platform,
    };
    let mut known: HashMap<(String, Platform), BaseImage> = HashMap::new();
    let mut find_base = |name: &str, platform: &Platform| {
        let asked = (name.to_owned(), platform.clone());
        if let Some(image) = known.get(&asked) {
            return Ok(image.clone());
        }
        if host.is_cancelled() {
            return Err(BuildError::Cancelled);
        }
        let image = host
            .base_image(name, request.pull, Some(platform))
            .map_err(BuildError::Host)?;
        known.insert(asked, image.clone());
        Ok(image)
    };
    lower(&input, &mut find_base)
}
