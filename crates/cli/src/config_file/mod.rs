//! docker's client configuration: `$DOCKER_CONFIG/config.json`.

mod credentials;
mod helper;

use std::path::PathBuf;

use serde_json::{Value as Json, json};

use crate::error::{CliError, Result};
use crate::host_files;

pub use credentials::{Credentials, DEFAULT_REGISTRY_KEY, registry_of};

/// Largest accepted configuration file, in bytes.
pub const CONFIG_LIMIT_BYTES: u64 = 4 * 1024 * 1024;

/// The client's configuration file.
pub struct ConfigFile {
    path: PathBuf,
    content: Json,
    /// Credentials of the environment, which count before the file's: the text of `DOCKER_AUTH_CONFIG`.
    given: Option<String>,
}

impl ConfigFile {
    /// Returns the directory of the configuration: `$DOCKER_CONFIG`, or `.docker` in the home directory.
    #[must_use]
    pub fn usual_directory() -> PathBuf {
        match std::env::var_os("DOCKER_CONFIG") {
            Some(directory) if !directory.is_empty() => PathBuf::from(directory),
            _ => PathBuf::from(std::env::var_os("HOME").unwrap_or_else(|| "/root".into()))
                .join(".docker"),
        }
    }

    /// Reads a configuration from the given path.
    pub fn load_from(path: PathBuf) -> Result<Self> {
        let content = match host_files::read_if_present(&path, CONFIG_LIMIT_BYTES) {
            // Another user's configuration (sudo, su) is none: docker goes on without it, too.
            Err(_) if !host_files::is_readable(&path) => None,
            read => read?,
        };
        let content = match content {
            None => json!({}),
            Some(bytes) if bytes.trim_ascii().is_empty() => json!({}),
            Some(bytes) => serde_json::from_slice(&bytes).map_err(|error| {
                CliError::usage(format!(
                    "{} is not a valid configuration: {error}",
                    path.display()
                ))
            })?,
        };
        let given = std::env::var(credentials::VARIABLE).ok();
        Ok(Self {
            path,
            content,
            given,
        })
    }

    /// Returns a text setting of the file's top level.
    #[must_use]
    pub fn text(&self, key: &str) -> Option<&str> {
        self.content[key].as_str().filter(|text| !text.is_empty())
    }

    /// Sets a text setting of the file's top level, or removes it when it is empty.
    pub fn set_text(&mut self, key: &str, value: &str) -> Result<()> {
        if !self.content.is_object() {
            self.content = json!({});
        }
        if let Some(settings) = self.content.as_object_mut() {
            if value.is_empty() {
                settings.shift_remove(key);
            } else {
                settings.insert(key.to_owned(), value.into());
            }
        }
        self.save()
    }

    /// Returns the plugin that a command's name stands for, by the setting `aliases`.
    #[must_use]
    pub fn alias(&self, command: &str) -> Option<&str> {
        self.content["aliases"][command].as_str()
    }

    /// Returns the directories of plugins beside the usual ones.
    #[must_use]
    pub fn plugin_directories(&self) -> Vec<PathBuf> {
        let directories = self.content["cliPluginsExtraDirs"].as_array();
        directories
            .into_iter()
            .flatten()
            .filter_map(Json::as_str)
            .map(PathBuf::from)
            .collect()
    }

    /// Returns the headers that the setting `HttpHeaders` adds to every request.
    #[must_use]
    pub fn http_headers(&self) -> Vec<(String, String)> {
        let headers = self.content["HttpHeaders"].as_object();
        headers
            .into_iter()
            .flatten()
            .filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())))
            .collect()
    }

    /// Returns the proxy variables configured for containers, by their upper-case names.
    #[must_use]
    pub fn proxies(&self, host: &str) -> Vec<(String, String)> {
        let proxies = &self.content["proxies"];
        let chosen = proxies.get(host).unwrap_or(&proxies["default"]);
        let names = [
            ("httpProxy", "HTTP_PROXY"),
            ("httpsProxy", "HTTPS_PROXY"),
            ("noProxy", "NO_PROXY"),
            ("ftpProxy", "FTP_PROXY"),
            ("allProxy", "ALL_PROXY"),
        ];
        names
            .iter()
            .filter_map(|(key, name)| {
                chosen[*key]
                    .as_str()
                    .map(|value| ((*name).to_owned(), value.to_owned()))
            })
            .filter(|(_, value)| !value.is_empty())
            .collect()
    }

    fn save(&self) -> Result<()> {
        host_files::replace_private(&self.path, &self.written(&self.content)?)
    }

    /// Returns a document in docker's own form: each writes what the other wrote.
    fn written(&self, content: &Json) -> Result<Vec<u8>> {
        let formatter = serde_json::ser::PrettyFormatter::with_indent(b"\t");
        let mut text = Vec::new();
        let mut writer = serde_json::Serializer::with_formatter(&mut text, formatter);
        serde::Serialize::serialize(content, &mut writer).map_err(|source| CliError::Decode {
            request: self.path.display().to_string(),
            source,
        })?;
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_file_is_an_error_that_names_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config.json");
        host_files::write(&path, b"{").unwrap();
        let error = ConfigFile::load_from(path).err().unwrap().to_string();
        assert!(error.contains("config.json"), "{error}");
    }
}
