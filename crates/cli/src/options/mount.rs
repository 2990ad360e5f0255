//! `--mount type=…,source=…,target=…`.

use std::path::Path;

use serde_json::{Map, Value as Json, json};

use crate::error::{CliError, Result};
use crate::options::csv;
use crate::units;

/// Returns the `HostConfig.Mounts` entry of one `--mount` value (engine-api.md §7.1).
///
/// A source that starts with a dot is taken relative to `working_directory`.
pub fn parse(value: &str, working_directory: &Path) -> Result<Json> {
    if value.is_empty() {
        return Err(CliError::usage("value is empty"));
    }
    let mut mount = Mount {
        kind: "volume".to_owned(),
        ..Mount::default()
    };
    for field in csv::fields(value)? {
        mount.set(&field, working_directory)?;
    }
    mount.check()?;
    Ok(mount.into_json())
}

#[derive(Default)]
struct Mount {
    kind: String,
    source: String,
    target: String,
    read_only: bool,
    consistency: String,
    bind: Map<String, Json>,
    volume: Map<String, Json>,
    image: Map<String, Json>,
    tmpfs: Map<String, Json>,
    /// The `bind-recursive=readonly` option was given.
    recursive_read_only: bool,
    /// Options that say nothing but forbid another mount type, such as `bind-recursive=enabled`.
    mentions_bind: bool,
}

impl Mount {
    fn set(&mut self, field: &str, working_directory: &Path) -> Result<()> {
        let (key, value) = match field.split_once('=') {
            Some((key, value)) => (key.to_lowercase(), Some(value)),
            None => (field.to_lowercase(), None),
        };
        if key == "bind-nonrecursive" {
            return Err(CliError::usage(
                "bind-nonrecursive is deprecated, use bind-recursive=disabled instead",
            ));
        }
        if matches!(key.as_str(), "readonly" | "ro" | "volume-nocopy") {
            let on = boolean(&key, value)?;
            if key != "volume-nocopy" {
                self.read_only = on;
            } else {
                self.volume.insert("NoCopy".into(), on.into());
            }
            return Ok(());
        }
        let value = value.ok_or_else(|| {
            CliError::usage(format!("invalid field '{field}' must be a key=value pair"))
        })?;
        if value.is_empty() && !key.is_empty() && KEYS.contains(&key.as_str()) {
            return Err(CliError::usage(format!(
                "invalid value for '{key}': value is empty"
            )));
        }
        self.set_pair(&key, value, field, working_directory)
    }

    fn set_pair(
        &mut self,
        key: &str,
        value: &str,
        field: &str,
        working_directory: &Path,
    ) -> Result<()> {
        match key {
            "type" => self.kind = value.to_lowercase(),
            "source" | "src" => self.source = absolute(value, working_directory),
            "target" | "dst" | "destination" => self.target = value.to_owned(),
            "consistency" => self.consistency = value.to_lowercase(),
            "bind-propagation" => {
                self.bind
                    .insert("Propagation".into(), value.to_lowercase().into());
            }
            "bind-recursive" => self.set_recursive(value)?,
            "bind-create-src" => {
                let on = boolean(key, Some(value))?;
                self.bind.insert("CreateMountpoint".into(), on.into());
            }
            "volume-subpath" => {
                self.volume.insert("Subpath".into(), value.into());
            }
            "volume-label" => insert_pair(&mut self.volume, "Labels", value),
            "volume-driver" => {
                driver(&mut self.volume).insert("Name".into(), value.into());
            }
            "volume-opt" => insert_pair(driver(&mut self.volume), "Options", value),
            "image-subpath" => {
                self.image.insert("Subpath".into(), value.into());
            }
            "tmpfs-size" => {
                let size = units::ram_in_bytes(value)
                    .map_err(|_| CliError::usage(format!("invalid value for {key}: {value}")))?;
                self.tmpfs.insert("SizeBytes".into(), size.into());
            }
            "tmpfs-mode" => {
                let mode = u32::from_str_radix(value, 8)
                    .map_err(|_| CliError::usage(format!("invalid value for {key}: {value}")))?;
                self.tmpfs.insert("Mode".into(), mode.into());
            }
            _ => {
                return Err(CliError::usage(format!(
                    "unknown option '{key}' in '{field}'"
                )));
            }
        }
        Ok(())
    }

    fn set_recursive(&mut self, value: &str) -> Result<()> {
        self.mentions_bind = true;
        let option = match value {
            "enabled" => return Ok(()),
            "disabled" => "NonRecursive",
            "writable" => "ReadOnlyNonRecursive",
            "readonly" => {
                self.recursive_read_only = true;
                "ReadOnlyForceRecursive"
            }
            _ => {
                return Err(CliError::usage(format!(
                    "invalid value for bind-recursive: {value} (must be \"enabled\", \"disabled\", \"writable\", or \"readonly\")"
                )));
            }
        };
        self.bind.insert(option.into(), true.into());
        Ok(())
    }

    fn check(&self) -> Result<()> {
        let groups = [
            ("bind", !self.bind.is_empty() || self.mentions_bind),
            ("volume", !self.volume.is_empty()),
            ("image", !self.image.is_empty()),
            ("tmpfs", !self.tmpfs.is_empty()),
        ];
        for (kind, mentioned) in groups {
            if mentioned && self.kind != kind {
                return Err(CliError::usage(format!(
                    "cannot mix '{kind}-*' options with mount type '{}'",
                    self.kind
                )));
            }
        }
        if self.recursive_read_only {
            let require = |condition: &str| {
                CliError::usage(format!(
                    "option 'bind-recursive=readonly' requires '{condition}' to be specified in conjunction"
                ))
            };
            if !self.read_only {
                return Err(require("readonly"));
            }
            if self.bind.get("Propagation").and_then(Json::as_str) != Some("rprivate") {
                return Err(require("bind-propagation=rprivate"));
            }
        }
        Ok(())
    }

    fn into_json(self) -> Json {
        let mut entry = Map::new();
        entry.insert("Type".into(), self.kind.into());
        for (key, text) in [("Source", self.source), ("Target", self.target)] {
            if !text.is_empty() {
                entry.insert(key.into(), text.into());
            }
        }
        if self.read_only {
            entry.insert("ReadOnly".into(), true.into());
        }
        if !self.consistency.is_empty() {
            entry.insert("Consistency".into(), self.consistency.into());
        }
        let groups = [
            ("BindOptions", self.bind),
            ("VolumeOptions", self.volume),
            ("ImageOptions", self.image),
            ("TmpfsOptions", self.tmpfs),
        ];
        for (key, options) in groups {
            if !options.is_empty() {
                entry.insert(key.into(), Json::Object(options));
            }
        }
        Json::Object(entry)
    }
}

const KEYS: [&str; 17] = [
    "type",
    "source",
    "src",
    "target",
    "dst",
    "destination",
    "consistency",
    "bind-propagation",
    "bind-recursive",
    "bind-create-src",
    "volume-subpath",
    "volume-label",
    "volume-driver",
    "volume-opt",
    "image-subpath",
    "tmpfs-size",
    "tmpfs-mode",
];

fn boolean(key: &str, value: Option<&str>) -> Result<bool> {
    match value {
        None | Some("true" | "1") => Ok(true),
        Some("false" | "0") => Ok(false),
        Some("") => Err(CliError::usage(format!(
            "invalid value for '{key}': value is empty"
        ))),
        Some(other) => Err(CliError::usage(format!(
            "invalid value for '{key}': invalid boolean value ({other:?}): must be one of \"true\", \"1\", \"false\", or \"0\" (default \"true\")"
        ))),
    }
}

fn driver(volume: &mut Map<String, Json>) -> &mut Map<String, Json> {
    object(volume, "DriverConfig")
}

fn insert_pair(parent: &mut Map<String, Json>, member: &str, pair: &str) {
    let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
    object(parent, member).insert(key.to_owned(), value.into());
}

fn object<'a>(parent: &'a mut Map<String, Json>, member: &str) -> &'a mut Map<String, Json> {
    let entry = parent.entry(member).or_insert_with(|| json!({}));
    if !entry.is_object() {
        *entry = json!({});
    }
    entry
        .as_object_mut()
        .expect("the entry was made an object above")
}

fn absolute(source: &str, working_directory: &Path) -> String {
    if source == "." || source.starts_with("./") || source == ".." || source.starts_with("../") {
        normalized(&working_directory.join(source))
    } else {
        source.to_owned()
    }
}

/// Returns a path with `.` and `..` resolved by name only, as the shell's `pwd -L` would show it.
pub(crate) fn normalized(path: &Path) -> String {
    let mut kept: Vec<String> = Vec::new();
    for component in path.components() {
        match component {
            std::path::Component::ParentDir => {
                kept.pop();
            }
            std::path::Component::Normal(name) => kept.push(name.to_string_lossy().into_owned()),
            _ => {}
        }
    }
    format!("/{}", kept.join("/"))
}
