//! The configuration files: wharf's own `daemon.toml` and docker's `daemon.json`.

mod docker;
pub(super) mod layer;

use std::path::Path;
use wharf_safefs::trusted;

pub use layer::{Addresses, Layer, Limit, Listen, PolicyTable, Size};

use docker::from_json;

/// wharf's own file.
pub const TOML_PATH: &str = "/etc/wharf/daemon.toml";
/// docker's file.
pub const JSON_PATH: &str = "/etc/docker/daemon.json";
/// Bytes of a configuration file.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// A file's settings and what the user should know about them.
#[derive(Debug, Default, PartialEq)]
pub struct Read {
    pub layer: Layer,
    pub warnings: Vec<String>,
}

/// Reads a file; None when it is not there.
///
/// `is_asked_for` says that the user named the file: then it must exist, and all of it counts.
pub fn read(path: &Path, is_asked_for: bool) -> Result<Option<Read>, String> {
    if !is_asked_for && !trusted::exists(path).unwrap_or(false) {
        return Ok(None);
    }
    let text = trusted::read_to_string(path, MAX_FILE_BYTES).map_err(|error| error.to_string())?;
    let read = if path
        .extension()
        .is_some_and(|extension| extension == "json")
    {
        from_json(&text, is_asked_for)
    } else {
        from_toml(&text)
    };
    match read {
        Ok(mut read) => {
            for warning in &mut read.warnings {
                warning.insert_str(0, &format!("{}: ", path.display()));
            }
            Ok(Some(read))
        }
        Err(error) => Err(format!("{}: {error}", path.display())),
    }
}

/// Reads the text of wharf's own file.
fn from_toml(text: &str) -> Result<Read, String> {
    let layer = toml::from_str(text).map_err(|error| error.to_string().trim_end().to_owned())?;
    Ok(Read {
        layer,
        warnings: Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistakes_name_the_key() {
        let error = from_json(r#"{"debgu": true}"#, true).expect_err("a mistake");
        assert!(error.contains("debgu"), "{error}");
        let error = from_toml("lisen = []").expect_err("a mistake");
        assert!(error.contains("lisen"), "{error}");
        assert_eq!(from_json("", true), Ok(Read::default()));
    }
}
