//! `--env`, `--env-file`, `--label`, `--label-file`: pairs from the command line and from files.

use std::path::Path;

use crate::error::{CliError, Result};
use crate::host_files;

/// Largest accepted file of pairs, in bytes.
pub const PAIR_FILE_LIMIT_BYTES: u64 = 16 * 1024 * 1024;
/// Longest accepted line of such a file, in bytes (the reader of the reference stops there).
pub const PAIR_LINE_LIMIT_BYTES: usize = 64 * 1024;

/// Looks a variable up in the caller's environment.
pub type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Returns the environment list of all `--env-file` files followed by all `--env` values.
///
/// A bare name takes the caller's value; when the caller has none, it is left out of a file and kept bare on the
/// command line (the daemon then removes the image's variable of that name).
pub fn environment(files: &[String], values: &[String], lookup: Lookup<'_>) -> Result<Vec<String>> {
    let mut environment = from_files(files, Some(lookup))?;
    for value in values {
        environment.push(variable(value, lookup)?);
    }
    Ok(environment)
}

/// Returns the `key=value` labels of all files followed by those of the command line.
pub fn labels(files: &[String], values: &[String]) -> Result<Vec<String>> {
    let mut labels = from_files(files, None)?;
    if let Some(nameless) = values.iter().find(|value| value.starts_with('=')) {
        return Err(CliError::usage(format!(
            "invalid label '{nameless}': empty name"
        )));
    }
    labels.extend(values.iter().cloned());
    Ok(labels)
}

/// Returns pairs as a JSON object; a value without `=` has the empty string, a later key wins.
#[must_use]
pub fn to_map(pairs: &[String]) -> serde_json::Map<String, serde_json::Value> {
    pairs
        .iter()
        .map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (key.to_owned(), value.into())
        })
        .collect()
}

/// Returns the pairs of a file's text: one a line, `#` comments, leading blanks dropped, values kept as they are.
pub fn parse_file(content: &[u8], name: &str, lookup: Option<Lookup<'_>>) -> Result<Vec<String>> {
    let wrong = |what: String| CliError::usage(what);
    let mut pairs = Vec::new();
    for (index, line) in content.split(|byte| *byte == b'\n').enumerate() {
        if line.len() > PAIR_LINE_LIMIT_BYTES {
            return Err(wrong(format!(
                "file {name}: line {} is longer than {PAIR_LINE_LIMIT_BYTES} bytes",
                index + 1
            )));
        }
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let line = if index == 0 {
            line.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(line)
        } else {
            line
        };
        let text = std::str::from_utf8(line).map_err(|_| {
            wrong(format!(
                "invalid utf8 bytes at line {}: {:?}",
                index + 1,
                String::from_utf8_lossy(line)
            ))
        })?;
        let text = text.trim_start();
        if text.is_empty() || text.starts_with('#') {
            continue;
        }
        pairs.extend(pair(text, lookup)?);
    }
    Ok(pairs)
}

fn pair(text: &str, lookup: Option<Lookup<'_>>) -> Result<Option<String>> {
    let (key, value) = match text.split_once('=') {
        Some((key, value)) => (key, Some(value)),
        None => (text, None),
    };
    if key.contains(char::is_whitespace) {
        return Err(CliError::usage(format!(
            "variable '{key}' contains whitespaces"
        )));
    }
    if key.is_empty() {
        return Err(CliError::usage(format!(
            "no variable name on line '{text}'"
        )));
    }
    Ok(match (value, lookup) {
        (Some(value), _) => Some(format!("{key}={value}")),
        (None, Some(lookup)) => lookup(key).map(|found| format!("{key}={found}")),
        (None, None) => Some(key.to_owned()),
    })
}

fn variable(value: &str, lookup: Lookup<'_>) -> Result<String> {
    match value.split_once('=') {
        Some(("", _)) => Err(CliError::usage(format!(
            "invalid environment variable: {value}"
        ))),
        Some(_) => Ok(value.to_owned()),
        None if value.is_empty() => Err(CliError::usage("invalid environment variable: ")),
        None => {
            Ok(lookup(value).map_or_else(|| value.to_owned(), |found| format!("{value}={found}")))
        }
    }
}

fn from_files(files: &[String], lookup: Option<Lookup<'_>>) -> Result<Vec<String>> {
    let mut pairs = Vec::new();
    for file in files {
        let content = host_files::read(Path::new(file), PAIR_FILE_LIMIT_BYTES)?;
        let parsed = parse_file(&content, file, lookup)
            .map_err(|error| CliError::usage(format!("invalid env file ({file}): {error}")))?;
        pairs.extend(parsed);
    }
    Ok(pairs)
}
