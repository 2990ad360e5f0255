//! The handlers: from a call's parameters to the engine, and from its answer to docker's shape.

pub(crate) mod archive;
pub(crate) mod attach;
pub(crate) mod build;
pub(crate) mod build_answer;
pub(crate) mod container;
pub(crate) mod event;
pub(crate) mod exec;
pub(crate) mod image;
pub(crate) mod image_transfer;
pub(crate) mod logs;
pub(crate) mod network;
pub(crate) mod own_build;
pub(crate) mod search;
pub(crate) mod stats;
pub(crate) mod system;
pub(crate) mod volume;

use crate::call::Call;
use crate::query::Query;
use crate::respond::Failure;
use wharf_image::{DescriptorPlatform, Platform};

/// Reads a platform given as `linux/amd64`; None when absent.
fn platform_text(query: &Query) -> Result<Option<Platform>, Failure> {
    match query.text("platform") {
        "" => Ok(None),
        text => Platform::parse(text)
            .map(Some)
            .map_err(|error| match text.split('/').count() {
                1..=3 => Failure::bad_request(error.to_string()),
                _ => Failure::bad_request(format!(
                    "{text:?}: cannot parse platform specifier: invalid argument"
                )),
            }),
    }
}

/// Reads the platforms that a call about an image chooses: a JSON document for each (spec engine-api §1).
fn chosen_platforms(query: &Query, key: &str) -> Result<Vec<Platform>, Failure> {
    let texts = query.all(key).into_iter().filter(|text| !text.is_empty());
    texts.map(|text| platform_document(&text)).collect()
}

fn platform_document(text: &str) -> Result<Platform, Failure> {
    let document: DescriptorPlatform = serde_json::from_str(text)
        .map_err(|error| Failure::bad_request(format!("failed to parse platform: {error}")))?;
    if document.os.is_empty() || document.architecture.is_empty() {
        return Err(Failure::bad_request(
            "both OS and Architecture must be provided",
        ));
    }
    Ok(Platform::from(&document))
}

/// Makes sure that an image is of the platforms that a call chooses.
async fn require_platforms(call: &Call, name: &str, key: &str) -> Result<(), Failure> {
    for platform in chosen_platforms(&call.query, key)? {
        call.engine.require_image_platform(name, &platform).await?;
    }
    Ok(())
}

/// Reads the size of a terminal.
fn terminal_size(query: &Query) -> Result<(u16, u16), Failure> {
    let read = |key: &str, what: &str| {
        let text = query.text(key);
        text.parse::<u16>().map_err(|_| {
            Failure::bad_request(format!("invalid resize {what} {text:?}: invalid syntax"))
        })
    };
    Ok((read("h", "height")?, read("w", "width")?))
}
