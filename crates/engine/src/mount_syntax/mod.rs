//! The grammar of mounts in a create request: binds, the long form, tmpfs options, volumes of other
//! containers (spec runtime §4).
//!
//! Pure but for one question, whether a bind's source exists, which the caller answers. Each function
//! gives docker's own words for what is wrong.

mod checks;
pub mod tmpfs;

use crate::error::{EngineError, Result};
use crate::model::host_config::{BindOptions, MountRequest, VolumeOptions};
use crate::mount_syntax::checks::check;

/// What mounts of the host that are not shared propagate like.
pub const DEFAULT_PROPAGATION: &str = "rprivate";

const PROPAGATIONS: [&str; 6] = [
    "private", "rprivate", "slave", "rslave", "shared", "rshared",
];

/// A mount that was understood.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ParsedMount {
    /// `bind`, `volume`, `tmpfs` or `image`.
    pub kind: String,
    /// Host path of a bind, image of an image mount; else empty.
    pub source: String,
    /// Clean absolute path in the container.
    pub destination: String,
    /// True when writable.
    pub read_write: bool,
    /// The mode of the short form, as given.
    pub mode: String,
    /// Volume driver; empty means the default one.
    pub driver: String,
    /// Volume name; empty for an anonymous volume.
    pub name: String,
    /// An empty volume takes over the image's files.
    pub copy_data: bool,
    /// Mount propagation, of binds and images.
    pub propagation: String,
}

/// Parses the short form `source:target[:mode]`, `name:target[:mode]` or `target`; returns the long form
/// it stands for, too.
///
/// # Errors
/// Docker's text. Its own status for these is 500, and so is the kind.
pub fn parse_bind(raw: &str, volume_driver: &str) -> Result<(ParsedMount, MountRequest)> {
    let invalid = || EngineError::internal(format!("invalid volume specification: '{raw}'"));
    let parts: Vec<&str> = raw.splitn(4, ':').collect();
    let (source, target, mode) = match parts.as_slice() {
        ["", ..] => return Err(invalid()),
        [target] => ("", *target, ""),
        // A target with a mode alone: a volume without a name has none.
        [_, word] if Mode::parse(word).is_some() => return Err(invalid()),
        [source, target] => (*source, *target, ""),
        [source, target, mode] => (*source, *target, *mode),
        _ => return Err(invalid()),
    };
    let Some(words) = Mode::parse(mode) else {
        return Err(EngineError::internal(format!("invalid mode: {mode}")));
    };
    let is_bind = source.starts_with('/');
    let wants_volume_options = (!volume_driver.is_empty() && !is_bind) || words.no_copy;
    let request = MountRequest {
        kind: if is_bind { "bind" } else { "volume" }.to_owned(),
        source: source.to_owned(),
        target: target.to_owned(),
        read_only: words.read_only,
        bind: words.propagation.map(|word| BindOptions {
            propagation: word.to_owned(),
            ..BindOptions::default()
        }),
        volume: wants_volume_options.then(|| VolumeOptions {
            no_copy: words.no_copy,
            driver: if is_bind { "" } else { volume_driver }.to_owned(),
            ..VolumeOptions::default()
        }),
        ..MountRequest::default()
    };
    let parsed = check(&request, None)
        .and_then(|()| resolve(&request))
        .map_err(|error| {
            EngineError::internal(format!("{}: {}", invalid().message(), error.message()))
        })?;
    let parsed = ParsedMount {
        mode: mode.to_owned(),
        ..parsed
    };
    Ok((parsed, request))
}

/// Parses the long form; `exists` says whether a path exists on the host.
///
/// # Errors
/// Docker's text.
pub fn parse_mount(request: &MountRequest, exists: &dyn Fn(&str) -> bool) -> Result<ParsedMount> {
    check(request, Some(exists))?;
    resolve(request)
}

/// Checks the long form without making anything of it.
///
/// # Errors
/// Docker's text.
pub fn check_mount(request: &MountRequest, exists: &dyn Fn(&str) -> bool) -> Result<()> {
    check(request, Some(exists))
}

/// Splits `container[:mode]` into the container and its mode, `rw` where there is none.
///
/// # Errors
/// Docker's text for an empty text and for modes that cannot be given here.
pub fn parse_volumes_from(text: &str) -> Result<(&str, &str)> {
    if text.is_empty() {
        return Err(EngineError::invalid(
            "volumes-from specification cannot be an empty string",
        ));
    }
    let (container, mode) = text.split_once(':').unwrap_or((text, ""));
    if mode.is_empty() {
        return Ok((container, "rw"));
    }
    match Mode::parse(mode) {
        Some(words) if words.propagation.is_none() && !words.no_copy => Ok((container, mode)),
        _ => Err(EngineError::invalid(format!("invalid mode: {mode}"))),
    }
}

/// Says whether a mode that was accepted leaves a mount writable.
#[must_use]
pub fn is_writable(mode: &str) -> bool {
    Mode::parse(mode).is_some_and(|words| !words.read_only)
}

/// Makes something of a request that was checked.
fn resolve(request: &MountRequest) -> Result<ParsedMount> {
    let mut parsed = ParsedMount {
        kind: request.kind.clone(),
        destination: clean(&request.target),
        read_write: !request.read_only,
        ..ParsedMount::default()
    };
    match request.kind.as_str() {
        "volume" => {
            let options = request.volume.clone().unwrap_or_default();
            parsed.name.clone_from(&request.source);
            parsed.driver = options.driver;
            parsed.copy_data = !options.no_copy;
        }
        "bind" => {
            let own = request.bind.as_ref().map(|options| &options.propagation);
            let own = own.filter(|own| !own.is_empty());
            parsed.source = clean(&request.source);
            parsed.propagation = own.map_or(DEFAULT_PROPAGATION, String::as_str).to_owned();
        }
        "image" => {
            parsed.source.clone_from(&request.source);
            parsed.propagation = DEFAULT_PROPAGATION.to_owned();
        }
        _ => {}
    }
    Ok(parsed)
}

/// The words of a mode in the short form.
#[derive(Debug, Default, PartialEq, Eq)]
struct Mode<'a> {
    read_only: bool,
    no_copy: bool,
    propagation: Option<&'a str>,
}

impl<'a> Mode<'a> {
    /// Parses a comma list with at most one word of each class; an empty one is valid.
    fn parse(text: &'a str) -> Option<Self> {
        let mut mode = Self::default();
        if text.is_empty() {
            return Some(mode);
        }
        let (mut access, mut label, mut propagation, mut copy, mut consistency) = (0, 0, 0, 0, 0);
        for word in text.split(',') {
            match word {
                "ro" | "rw" => {
                    access += 1;
                    mode.read_only |= word == "ro";
                }
                "z" | "Z" => label += 1,
                "nocopy" => {
                    copy += 1;
                    mode.no_copy = true;
                }
                "consistent" | "cached" | "delegated" => consistency += 1,
                _ if PROPAGATIONS.contains(&word) => {
                    propagation += 1;
                    mode.propagation = Some(word);
                }
                _ => return None,
            }
        }
        let counts = [access, label, propagation, copy, consistency];
        counts.iter().all(|count| *count <= 1).then_some(mode)
    }
}

/// Cleans an absolute path by its text, as Go's `path.Clean` does.
pub(crate) fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            other => parts.push(other),
        }
    }
    format!("/{}", parts.join("/"))
}
