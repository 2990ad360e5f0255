//! docker's client configuration: `$DOCKER_CONFIG/config.json`, credentials and credential helpers.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE, Engine};
use serde_json::{Map, Value as Json, json};
use wharf_image::Reference;

use crate::error::{CliError, Result};
use crate::host_files;

/// Largest accepted configuration file, in bytes.
pub const CONFIG_LIMIT_BYTES: u64 = 4 * 1024 * 1024;
/// Key under which docker keeps the credentials of its default registry.
pub const DEFAULT_REGISTRY_KEY: &str = "https://index.docker.io/v1/";
/// User name by which a credential helper marks an identity token.
const TOKEN_USER: &str = "<token>";

/// The client's configuration file.
pub struct ConfigFile {
    path: PathBuf,
    content: Json,
}

/// Credentials of one registry.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Credentials {
    /// User name; empty when only a token is known.
    pub username: String,
    /// Password or access token.
    pub password: String,
    /// Token of an identity service, instead of the two.
    pub identity_token: String,
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
        Ok(Self { path, content })
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

    /// Returns a registry's credentials, from its helper or from the file.
    pub fn credentials(&self, registry: &str) -> Result<Option<Credentials>> {
        match self.helper(registry) {
            Some(helper) => ask_helper(&helper, registry),
            None => Ok(self.stored(registry)),
        }
    }

    /// Keeps a registry's credentials, with its helper or in the file.
    pub fn store(&mut self, registry: &str, credentials: &Credentials) -> Result<()> {
        if let Some(helper) = self.helper(registry) {
            let (user, secret) = if credentials.identity_token.is_empty() {
                (credentials.username.as_str(), credentials.password.as_str())
            } else {
                (TOKEN_USER, credentials.identity_token.as_str())
            };
            let input =
                json!({"ServerURL": registry, "Username": user, "Secret": secret}).to_string();
            run_helper(&helper, "store", &input)?;
            self.auths().insert(registry.to_owned(), json!({}));
            return self.save();
        }
        let pair = format!("{}:{}", credentials.username, credentials.password);
        let mut entry = json!({"auth": BASE64_STANDARD.encode(pair)});
        if !credentials.identity_token.is_empty() {
            entry = json!({
                "auth": BASE64_STANDARD.encode(format!("{}:", credentials.username)),
                "identitytoken": credentials.identity_token,
            });
        }
        self.auths().insert(registry.to_owned(), entry);
        self.save()
    }

    /// Forgets a registry's credentials; returns whether there were any.
    pub fn erase(&mut self, registry: &str) -> Result<bool> {
        if let Some(helper) = self.helper(registry) {
            run_helper(&helper, "erase", registry)?;
        }
        let removed = self.auths().shift_remove(registry).is_some();
        self.save()?;
        Ok(removed)
    }

    /// Returns the names of registries that have an entry.
    #[must_use]
    pub fn registries(&self) -> Vec<String> {
        let object_keys = |value: &Json| {
            value
                .as_object()
                .map(|map| map.keys().cloned().collect::<Vec<_>>())
                .unwrap_or_default()
        };
        let mut names = object_keys(&self.content["auths"]);
        for name in object_keys(&self.content["credHelpers"]) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        names
    }

    /// Returns the `X-Registry-Auth` value for a registry (engine-api.md §3).
    pub fn auth_header(&self, registry: &str) -> Result<String> {
        let body = match self.credentials(registry)? {
            Some(credentials) => credentials.to_json(registry),
            None => json!({}),
        };
        Ok(BASE64_URL_SAFE.encode(body.to_string()))
    }

    /// Returns the `X-Registry-Config` value: the credentials of every known registry. A broken helper is left out.
    #[must_use]
    pub fn all_auth_header(&self) -> String {
        let all: Map<String, Json> = self
            .registries()
            .into_iter()
            .filter_map(|name| {
                let credentials = self.credentials(&name).ok().flatten()?;
                let body = credentials.to_json(&name);
                Some((name, body))
            })
            .collect();
        BASE64_URL_SAFE.encode(Json::Object(all).to_string())
    }

    fn helper(&self, registry: &str) -> Option<String> {
        let own = self.content["credHelpers"][registry].as_str();
        own.or(self.content["credsStore"].as_str())
            .filter(|name| !name.is_empty())
            .map(str::to_owned)
    }

    fn stored(&self, registry: &str) -> Option<Credentials> {
        let auths = self.content["auths"].as_object()?;
        let entry = auths.get(registry).or_else(|| {
            auths
                .iter()
                .find(|(key, _)| bare_host(key) == bare_host(registry))
                .map(|(_, entry)| entry)
        })?;
        let text = |key: &str| entry[key].as_str().unwrap_or_default().to_owned();
        let mut credentials = Credentials {
            username: text("username"),
            password: text("password"),
            identity_token: text("identitytoken"),
        };
        if let Some((user, password)) = BASE64_STANDARD
            .decode(text("auth"))
            .ok()
            .and_then(|bytes| String::from_utf8(bytes).ok())
            .and_then(|pair| {
                pair.split_once(':')
                    .map(|(user, password)| (user.to_owned(), password.to_owned()))
            })
        {
            credentials.username = user;
            credentials.password = password.trim_end_matches('\0').to_owned();
        }
        (credentials != Credentials::default()).then_some(credentials)
    }

    fn auths(&mut self) -> &mut Map<String, Json> {
        if !self.content.is_object() {
            self.content = json!({});
        }
        let entry = &mut self.content["auths"];
        if !entry.is_object() {
            *entry = json!({});
        }
        entry
            .as_object_mut()
            .expect("the entry was made an object above")
    }

    fn save(&self) -> Result<()> {
        // Docker's own form: each writes what the other wrote.
        let formatter = serde_json::ser::PrettyFormatter::with_indent(b"\t");
        let mut text = Vec::new();
        let mut writer = serde_json::Serializer::with_formatter(&mut text, formatter);
        serde::Serialize::serialize(&self.content, &mut writer).map_err(|source| {
            CliError::Decode {
                request: self.path.display().to_string(),
                source,
            }
        })?;
        host_files::replace_private(&self.path, &text)
    }
}

impl Credentials {
    /// Returns the API's AuthConfig.
    #[must_use]
    pub fn to_json(&self, registry: &str) -> Json {
        let mut body = Map::new();
        let fields = [
            ("username", &self.username),
            ("password", &self.password),
            ("identitytoken", &self.identity_token),
        ];
        for (key, value) in fields {
            if !value.is_empty() {
                body.insert(key.into(), value.as_str().into());
            }
        }
        body.insert("serveraddress".into(), registry.into());
        Json::Object(body)
    }
}

/// Returns the key of the registry that an image name belongs to.
pub fn registry_of(image: &str) -> Result<String> {
    let reference = Reference::parse(image)
        .map_err(|error| CliError::usage(format!("invalid reference {image:?}: {error}")))?;
    Ok(if reference.domain() == wharf_image::DEFAULT_DOMAIN {
        DEFAULT_REGISTRY_KEY.to_owned()
    } else {
        reference.domain().to_owned()
    })
}

fn bare_host(registry: &str) -> &str {
    let without_scheme = registry
        .split_once("://")
        .map_or(registry, |(_, rest)| rest);
    without_scheme.split('/').next().unwrap_or(without_scheme)
}

fn ask_helper(helper: &str, registry: &str) -> Result<Option<Credentials>> {
    let answer = match run_helper(helper, "get", registry) {
        Ok(answer) => answer,
        Err(CliError::Stream { message, .. }) if message.contains("credentials not found") => {
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    let json: Json = serde_json::from_str(&answer).map_err(|error| {
        CliError::usage(format!(
            "docker-credential-{helper} answered something unreadable: {error}"
        ))
    })?;
    let text = |key: &str| json[key].as_str().unwrap_or_default().to_owned();
    Ok(Some(if text("Username") == TOKEN_USER {
        Credentials {
            identity_token: text("Secret"),
            ..Credentials::default()
        }
    } else {
        Credentials {
            username: text("Username"),
            password: text("Secret"),
            ..Credentials::default()
        }
    }))
}

/// Runs `docker-credential-<helper> <verb>` (docker-credential-helpers' protocol: input and output are pipes).
fn run_helper(helper: &str, verb: &str, input: &str) -> Result<String> {
    let program = format!("docker-credential-{helper}");
    let fail = |error: std::io::Error| CliError::io(format!("cannot run {program}"), error);
    let mut child = Command::new(&program)
        .arg(verb)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .map_err(fail)?;
    if let Some(mut stdin) = child.stdin.take() {
        // A helper that does not read its input says why in its answer.
        let _ = stdin.write_all(input.as_bytes());
    }
    let finished = child.wait_with_output().map_err(fail)?;
    let text = String::from_utf8_lossy(&finished.stdout).trim().to_owned();
    if finished.status.success() {
        Ok(text)
    } else {
        Err(CliError::Stream {
            code: None,
            message: format!("error: {program} {verb}: {text}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_stored_and_found_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config.json");
        let credentials = Credentials {
            username: "u".into(),
            password: "p:w".into(),
            ..Credentials::default()
        };
        let mut config = ConfigFile::load_from(path.clone()).unwrap();
        config.store("reg.example:5000", &credentials).unwrap();
        let mut config = ConfigFile::load_from(path).unwrap();
        assert_eq!(
            config.credentials("reg.example:5000").unwrap(),
            Some(credentials.clone())
        );
        assert_eq!(
            config.credentials("https://reg.example:5000/v2/").unwrap(),
            Some(credentials)
        );
        assert_eq!(config.credentials("other").unwrap(), None);
        assert!(config.erase("reg.example:5000").unwrap());
        assert!(!config.erase("reg.example:5000").unwrap());
    }

    #[test]
    fn a_broken_file_is_an_error_that_names_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config.json");
        host_files::write(&path, b"{").unwrap();
        let error = ConfigFile::load_from(path).err().unwrap().to_string();
        assert!(error.contains("config.json"), "{error}");
    }

    #[test]
    fn registries_of_images() {
        assert_eq!(registry_of("alpine").unwrap(), DEFAULT_REGISTRY_KEY);
        assert_eq!(
            registry_of("localhost:5000/a/b:c").unwrap(),
            "localhost:5000"
        );
    }
}
