//! What only the steps of a build get to see: secrets and SSH agents.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use base64::prelude::{BASE64_STANDARD, Engine};

use crate::error::{CliError, Result};
use crate::host_files;
use crate::options::csv;

/// Most bytes of a secret (BuildKit's own limit).
pub const SECRET_LIMIT_BYTES: u64 = 500 * 1024;

/// Reads `--secret id=ID[,src=FILE|,env=NAME]` values; returns them by ID, base64.
///
/// Without `src` and `env` a variable called as the secret is taken, or else a file of that name.
pub fn secrets(
    values: &[String],
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<BTreeMap<String, String>> {
    let mut secrets = BTreeMap::new();
    for value in values {
        let (id, content) = secret(value, variable)?;
        secrets.insert(id, BASE64_STANDARD.encode(content));
    }
    Ok(secrets)
}

/// Reads one `--secret`.
pub fn secret(value: &str, variable: &dyn Fn(&str) -> Option<String>) -> Result<(String, Vec<u8>)> {
    let (mut id, mut source, mut name, mut kind) = ("", None, None, None);
    let fields = csv::fields(value)?;
    for field in &fields {
        match field.split_once('=') {
            Some(("id", text)) => id = text,
            Some(("src" | "source", text)) => source = Some(text),
            Some(("env", text)) => name = Some(text),
            Some(("type", text @ ("file" | "env"))) => kind = Some(text),
            _ => {
                return Err(CliError::usage(format!(
                    "invalid --secret {value:?}: {field:?} is none of id=, src=, env=, type=file|env"
                )));
            }
        }
    }
    if id.is_empty() {
        return Err(CliError::usage(format!(
            "invalid --secret {value:?}: it needs an id"
        )));
    }
    if kind == Some("env") && name.is_none() {
        name = Some(source.take().unwrap_or(id));
    }
    if name.is_none() && source.is_none() && variable(id).is_some() {
        name = Some(id);
    }
    let content = match name {
        Some(name) => variable(name)
            .ok_or_else(|| CliError::usage(format!("secret {id}: the variable {name} is not set")))?
            .into_bytes(),
        None => {
            let path = Path::new(source.unwrap_or(id));
            host_files::read_if_present(path, SECRET_LIMIT_BYTES)?.ok_or_else(|| {
                CliError::usage(format!("secret {id}: there is no file {}", path.display()))
            })?
        }
    };
    Ok((id.to_owned(), content))
}

/// Reads `--ssh ID[=SOCKET|=KEYFILE[,KEYFILE…]]` values; returns the paths by ID.
pub fn agents(
    values: &[String],
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<BTreeMap<String, Vec<PathBuf>>> {
    let mut agents = BTreeMap::new();
    for value in values {
        let (id, paths) = match value.split_once('=') {
            Some((id, paths)) => (id, paths.to_owned()),
            None => {
                let socket = variable("SSH_AUTH_SOCK").ok_or_else(|| {
                    CliError::usage(
                        "--ssh: no agent runs (SSH_AUTH_SOCK is not set): start one, or give a socket or a key's file",
                    )
                })?;
                (value.as_str(), socket)
            }
        };
        let paths = paths
            .split(',')
            .map(|path| host_files::canonical(Path::new(path)));
        agents.insert(id.to_owned(), paths.collect::<Result<Vec<_>>>()?);
    }
    Ok(agents)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_come_from_files_and_variables() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("f");
        host_files::write(&file, b"from file").unwrap();
        let variable = |name: &str| (name == "TOKEN").then(|| "from variable".to_owned());
        let read = |text: &str| {
            secret(text, &variable)
                .map(|(id, content)| format!("{id} {}", String::from_utf8(content).unwrap()))
                .map_err(|error| error.to_string())
        };
        assert_eq!(
            read(&format!("id=a,src={}", file.display())).unwrap(),
            "a from file"
        );
        assert_eq!(read("id=a,env=TOKEN").unwrap(), "a from variable");
        assert_eq!(read("type=env,id=TOKEN").unwrap(), "TOKEN from variable");
        assert_eq!(read("id=TOKEN").unwrap(), "TOKEN from variable");
        for (text, part) in [
            ("src=x", "it needs an id"),
            ("id=a,bad=1", "none of id="),
            ("id=a,env=NONE", "is not set"),
            ("id=nowhere", "there is no file"),
        ] {
            assert!(read(text).unwrap_err().contains(part), "{text}");
        }
    }
}
