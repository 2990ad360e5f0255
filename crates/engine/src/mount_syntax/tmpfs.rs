//! Options and places of a tmpfs.

use crate::error::{EngineError, Result};
use crate::model::host_config::TmpfsOptions as TmpfsRequest;
use crate::mount_syntax::DEFAULT_PROPAGATION;
use crate::mount_syntax::checks::check_target;

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

/// Returns a size with the largest unit that divides it.
fn short_size(size_bytes: i64) -> String {
    let units = [("g", 1_i64 << 30), ("m", 1 << 20), ("k", 1 << 10)];
    match units.iter().find(|(_, unit)| size_bytes % unit == 0) {
        Some((suffix, unit)) => format!("{}{suffix}", size_bytes / unit),
        None => size_bytes.to_string(),
    }
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
}
