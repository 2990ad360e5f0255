//! `-v [SOURCE:]TARGET[:OPTIONS]`.

use std::path::Path;

use crate::error::{CliError, Result};
use crate::options::mount::normalized;

/// A `--volume` value taken apart, as far as the client needs it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct VolumeSpec {
    /// A path of the host rather than a volume's name.
    pub is_bind: bool,
    /// Host path or volume name; empty for an anonymous volume.
    pub source: String,
    /// Path inside the container.
    pub target: String,
    /// `ro` was among the options.
    pub read_only: bool,
}

impl VolumeSpec {
    /// Takes a `--volume` value apart; the daemon checks the parts.
    ///
    /// A colon behind a single letter belongs to a Windows drive and separates nothing.
    pub fn parse(spec: &str) -> Result<Self> {
        let invalid = |what: &str| CliError::usage(format!("invalid spec: {spec}: {what}"));
        if spec.is_empty() {
            return Err(CliError::usage("invalid empty volume spec"));
        }
        if spec.chars().count() <= 2 {
            return Ok(Self {
                target: spec.to_owned(),
                ..Self::default()
            });
        }
        let sections = sections(spec);
        if sections.iter().any(|section| section.is_empty()) {
            return Err(invalid("empty section between colons"));
        }
        let (source, target, options) = match sections.as_slice() {
            [target] => ("", *target, ""),
            [source, target] => (*source, *target, ""),
            [source, target, options] => (*source, *target, *options),
            _ => return Err(invalid("too many colons")),
        };
        Ok(Self {
            is_bind: is_host_path(source),
            source: source.to_owned(),
            target: target.to_owned(),
            read_only: options.split(',').any(|option| option == "ro"),
        })
    }
}

/// Returns the `HostConfig.Binds` entry of a value whose host path may be relative to `working_directory`.
pub fn bind_entry(spec: &str, parsed: &VolumeSpec, working_directory: &Path) -> String {
    match spec.split_once(':') {
        Some((host, rest)) if parsed.is_bind && host.starts_with('.') => {
            format!("{}:{rest}", normalized(&working_directory.join(host)))
        }
        _ => spec.to_owned(),
    }
}

fn sections(spec: &str) -> Vec<&str> {
    let mut sections = Vec::new();
    let mut start = 0;
    for (position, _) in spec.match_indices(':') {
        let section = &spec[start..position];
        let is_drive = section.chars().count() == 1 && section.chars().all(char::is_alphabetic);
        if !is_drive {
            sections.push(section);
            start = position + 1;
        }
    }
    sections.push(&spec[start..]);
    sections
}

fn is_host_path(source: &str) -> bool {
    let mut characters = source.chars();
    match characters.next() {
        Some('.' | '/' | '~') => true,
        Some('\\') => source.starts_with("\\\\"),
        Some(first) => first.is_alphabetic() && characters.next() == Some(':'),
        None => false,
    }
}
