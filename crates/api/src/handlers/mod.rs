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

use crate::query::Query;
use crate::respond::Failure;
use wharf_image::Platform;

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

/// Refuses a choice of platforms where the engine keeps one platform of an image.
fn refuse_platform_choice(query: &Query) -> Result<(), Failure> {
    let is_asked = ["platform", "platforms"]
        .iter()
        .any(|key| !query.text(key).is_empty());
    if is_asked {
        return Err(Failure::not_implemented(
            "choosing a platform is not supported by this call yet",
        ));
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
