//! The grammar of mounts in a create request: binds, the long form, tmpfs options, volumes of other
//! containers (spec runtime §4).
//!
//! Pure but for one question, whether a bind's source exists, which the caller answers. Each function
//! gives docker's own words for what is wrong.

use crate::error::{EngineError, Result};
use crate::model::host_config::{
    BindOptions, MountRequest, TmpfsOptions as TmpfsRequest, VolumeOptions,
};

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

/// Checks where a tmpfs of the short form is mounted.
///
/// # Errors
/// Docker's text for the root and for a relative path.
pub fn check_tmpfs_target(target: &str) -> Result<()> {
    check_target(target).map_err(EngineError::invalid)
}

/// Writes the options of a tmpfs in the long form as mount options.
///
/// # Errors
/// Docker's text for an option that is not one of the two allowed.
pub fn tmpfs_options(options: Option<&TmpfsRequest>, read_only: bool) -> Result<String> {
    let mut words = Vec::new();
    if read_only {
        words.push("ro".to_owned());
    }
    if let Some(options) = options {
        if options.mode != 0 {
            words.push(format!("mode={:o}", options.mode));
        }
        if options.size_bytes != 0 {
            words.push(format!("size={}", short_size(options.size_bytes)));
        }
        for option in &options.options {
            let (name, text) = match option.as_slice() {
                [name] => (name, name.clone()),
                [name, value] => (name, format!("{name}={value}")),
                _ => return Err(EngineError::invalid("invalid option array length")),
            };
            if !matches!(name.as_str(), "exec" | "noexec") {
                return Err(EngineError::invalid(format!("invalid option: {name}")));
            }
            words.push(text);
        }
    }
    Ok(words.join(","))
}

/// Returns a size with the largest unit that divides it.
fn short_size(size_bytes: i64) -> String {
    let units = [("g", 1_i64 << 30), ("m", 1 << 20), ("k", 1 << 10)];
    match units.iter().find(|(_, unit)| size_bytes % unit == 0) {
        Some((suffix, unit)) => format!("{}{suffix}", size_bytes / unit),
        None => size_bytes.to_string(),
    }
}

/// The kinds of mount flags of which only the last counts (`mount(8)`).
const TMPFS_FLAGS: [&[&str]; 17] = [
    &["ro", "rw"],
    &["suid", "nosuid"],
    &["dev", "nodev"],
    &["exec", "noexec"],
    &["sync", "async"],
    &["dirsync"],
    &["remount"],
    &["mand", "nomand"],
    &["atime", "noatime"],
    &["diratime", "nodiratime"],
    &["relatime", "norelatime"],
    &["strictatime", "nostrictatime"],
    &["private"],
    &["rprivate"],
    &["shared", "rshared"],
    &["slave", "rslave"],
    &["unbindable", "runbindable"],
];
const TMPFS_PARAMETERS: [&str; 7] = [
    "size",
    "mode",
    "uid",
    "gid",
    "nr_inodes",
    "nr_blocks",
    "mpol",
];

/// Adds a user's tmpfs options to docker's own: the last of a kind wins and keeps its place.
///
/// # Errors
/// Docker's text for what a tmpfs does not take.
pub fn merge_tmpfs_options(own: &str) -> Result<Vec<String>> {
    let defaults = ["noexec", "nosuid", "nodev", DEFAULT_PROPAGATION];
    let asked = own.split(',').filter(|_| !own.is_empty());
    let words: Vec<&str> = defaults.into_iter().chain(asked).collect();
    let mut seen = Vec::new();
    let mut merged = Vec::new();
    for word in words.into_iter().rev() {
        let kind = TMPFS_FLAGS.iter().position(|kind| kind.contains(&word));
        let parameter = word
            .split_once('=')
            .and_then(|(name, _)| TMPFS_PARAMETERS.iter().position(|known| *known == name));
        let key = match (kind, parameter) {
            _ if word == "defaults" => continue,
            (Some(kind), _) => kind,
            (None, Some(parameter)) => TMPFS_FLAGS.len() + parameter,
            (None, None) => {
                return Err(EngineError::internal(format!(
                    "invalid tmpfs option {word:?}"
                )));
            }
        };
        if !seen.contains(&key) {
            seen.push(key);
            merged.push(word.to_owned());
        }
    }
    merged.reverse();
    Ok(merged)
}

fn check(request: &MountRequest, exists: Option<&dyn Fn(&str) -> bool>) -> Result<()> {
    check_parts(request, exists).map_err(|text| {
        EngineError::invalid(format!(
            "invalid mount config for type \"{}\": {text}",
            request.kind
        ))
    })
}

fn check_parts(
    request: &MountRequest,
    exists: Option<&dyn Fn(&str) -> bool>,
) -> Result<(), String> {
    check_foreign_options(request)?;
    if request.target.is_empty() {
        return Err("field Target must not be empty".to_owned());
    }
    check_target(&request.target)?;
    match request.kind.as_str() {
        "bind" => check_bind(request, exists),
        "volume" => match &request.volume {
            Some(options) if !options.subpath.is_empty() && request.source.is_empty() => {
                Err("must not set Subpath when using anonymous volumes".to_owned())
            }
            Some(options) => check_subpath(&options.subpath),
            None => Ok(()),
        },
        "tmpfs" if !request.source.is_empty() => Err("field Source must not be specified".into()),
        "tmpfs" => tmpfs_options(request.tmpfs.as_ref(), request.read_only)
            .map(drop)
            .map_err(|error| error.message().to_owned()),
        "image" if request.source.is_empty() => Err("field Source must not be empty".to_owned()),
        "image" => {
            let options = request.image.as_ref();
            check_subpath(options.map_or("", |options| &options.subpath))
        }
        _ => Err("mount type unknown".to_owned()),
    }
}

/// Refuses options of another type than the mount's.
fn check_foreign_options(request: &MountRequest) -> Result<(), String> {
    let given = [
        ("bind", "BindOptions", request.bind.is_some()),
        ("volume", "VolumeOptions", request.volume.is_some()),
        ("image", "ImageOptions", request.image.is_some()),
        ("tmpfs", "TmpfsOptions", request.tmpfs.is_some()),
        ("cluster", "ClusterOptions", request.cluster_options),
    ];
    let foreign = given
        .iter()
        .find(|(kind, _, given)| *given && request.kind != *kind);
    match foreign {
        Some((_, field, _)) => Err(format!("field {field} must not be specified")),
        None => Ok(()),
    }
}

fn check_target(target: &str) -> Result<(), String> {
    if clean(&target.replace('\\', "/")) == "/" && target.starts_with(['/', '\\']) {
        return Err("invalid specification: destination can't be '/'".to_owned());
    }
    check_absolute(target)
}

fn check_absolute(path: &str) -> Result<(), String> {
    if path.starts_with('/') {
        return Ok(());
    }
    Err(format!(
        "invalid mount path: '{path}' mount path must be absolute"
    ))
}

fn check_bind(request: &MountRequest, exists: Option<&dyn Fn(&str) -> bool>) -> Result<(), String> {
    if request.source.is_empty() {
        return Err("field Source must not be empty".to_owned());
    }
    let options = request.bind.clone().unwrap_or_default();
    if !options.propagation.is_empty() && !PROPAGATIONS.contains(&options.propagation.as_str()) {
        return Err(format!("invalid propagation mode: {}", options.propagation));
    }
    check_absolute(&request.source)?;
    match exists {
        Some(exists) if !options.create_mountpoint && !exists(&request.source) => Err(format!(
            "bind source path does not exist: {}",
            request.source
        )),
        _ => Ok(()),
    }
}

/// Checks a path inside a volume: relative, and not leading out of it by its text.
fn check_subpath(subpath: &str) -> Result<(), String> {
    let mut depth = 0_i32;
    let stays_inside = subpath.split('/').all(|part| {
        match part {
            "" | "." => {}
            ".." => depth -= 1,
            _ => depth += 1,
        }
        depth >= 0
    });
    if stays_inside && !subpath.starts_with('/') {
        return Ok(());
    }
    Err("subpath must be a relative path within the volume".to_owned())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tmpfs_options_are_merged_as_mount_does() {
        for (own, expected) in [
            ("", Ok("noexec,nosuid,nodev,rprivate")),
            (
                "size=1m,mode=700,noexec",
                Ok("nosuid,nodev,rprivate,size=1m,mode=700,noexec"),
            ),
            (
                "exec,size=1k,size=2k",
                Ok("nosuid,nodev,rprivate,exec,size=2k"),
            ),
            ("defaults", Ok("noexec,nosuid,nodev,rprivate")),
            ("bogus", Err("invalid tmpfs option \"bogus\"")),
            ("foo=1", Err("invalid tmpfs option \"foo=1\"")),
        ] {
            let merged = merge_tmpfs_options(own);
            let merged = merged.map(|words| words.join(","));
            let merged = merged.map_err(|error| error.message().to_owned());
            assert_eq!(merged.as_deref().map_err(String::as_str), expected, "{own}");
        }
    }

    #[test]
    fn paths_inside_volumes_stay_inside() {
        for (path, inside) in [
            ("a/b", true),
            ("a/../b", true),
            ("../a", false),
            ("a/../../b", false),
            ("/a", false),
            ("", true),
        ] {
            assert_eq!(check_subpath(path).is_ok(), inside, "{path}");
        }
    }
}
