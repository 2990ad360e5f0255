//! Names that stand for something: `--build-context`, and what RUN is allowed: `--allow`.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value as Json, json};

use crate::error::{CliError, Result};
use crate::host_files;

/// Prefix of an image in a directory.
const OCI_LAYOUT: &str = "oci-layout://";
/// What RUN may be allowed.
const ENTITLEMENTS: [&str; 2] = ["network.host", "security.insecure"];

/// Reads `--build-context NAME=VALUE` values; directories are told by their whole path.
pub fn contexts(values: &[String]) -> Result<BTreeMap<String, Json>> {
    let mut contexts = BTreeMap::new();
    for value in values {
        let (name, source) = value
            .split_once('=')
            .filter(|(name, source)| !name.is_empty() && !source.is_empty())
            .ok_or_else(|| {
                CliError::usage(format!(
                    "invalid context value: {value}, expected key=value"
                ))
            })?;
        contexts.insert(name.to_owned(), context(source)?);
    }
    Ok(contexts)
}

fn context(source: &str) -> Result<Json> {
    if let Some(layout) = source.strip_prefix(OCI_LAYOUT) {
        return layout_context(layout);
    }
    if source.contains("://") || source.starts_with("target:") || source.starts_with("git@") {
        return Ok(json!({ "reference": source }));
    }
    let path = host_files::canonical(Path::new(source))?;
    if !wharf_safefs::trusted::metadata(&path).is_ok_and(|found| found.is_dir()) {
        return Err(CliError::usage(format!(
            "build context {source}: it is no directory"
        )));
    }
    Ok(json!({ "directory": path.to_string_lossy() }))
}

/// Makes the directory of `oci-layout://DIRECTORY[@sha256:…|:TAG]` absolute.
fn layout_context(layout: &str) -> Result<Json> {
    let at = layout
        .find('@')
        .or_else(|| layout.rfind(':').filter(|at| !layout[*at..].contains('/')))
        .unwrap_or(layout.len());
    let (directory, image) = layout.split_at(at);
    let directory = host_files::canonical(Path::new(directory))?;
    let directory = directory.to_string_lossy();
    Ok(json!({ "reference": format!("{OCI_LAYOUT}{directory}{image}") }))
}

/// Reads `--allow` values.
pub fn allowed(values: &[String]) -> Result<Vec<String>> {
    for value in values {
        if !ENTITLEMENTS.contains(&value.as_str()) {
            return Err(CliError::usage(format!(
                "invalid entitlement: {value} (expected {})",
                ENTITLEMENTS.join(" or ")
            )));
        }
    }
    Ok(values.to_vec())
}

#[cfg(test)]
mod tests {
    use super::{allowed, contexts};

    #[test]
    fn values() {
        let values = [
            "a=docker-image://alpine".to_owned(),
            "b=target:x".to_owned(),
        ];
        let read = contexts(&values).unwrap();
        assert_eq!(read["a"]["reference"], "docker-image://alpine");
        assert_eq!(read["b"]["reference"], "target:x");
        let here = contexts(&["c=.".to_owned()]).unwrap();
        assert!(here["c"]["directory"].as_str().unwrap().starts_with('/'));
        assert!(contexts(&["a".to_owned()]).is_err());
        assert!(allowed(&["all".to_owned()]).is_err());
    }
}
