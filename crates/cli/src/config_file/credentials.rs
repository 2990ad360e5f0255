//! Credentials of registries: in the configuration, in `DOCKER_AUTH_CONFIG`, with credential helpers.

use std::collections::BTreeMap;

use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE, Engine};
use serde_json::{Map, Value as Json, json};
use wharf_image::Reference;

use crate::config_file::ConfigFile;
use crate::config_file::helper::{TOKEN_USER, ask_helper, list_helper, run_helper};
use crate::error::{CliError, Result};

/// Key under which docker keeps the credentials of its default registry.
pub const DEFAULT_REGISTRY_KEY: &str = "https://index.docker.io/v1/";
/// Variable that gives credentials, in the form of the configuration's `auths`.
pub(super) const VARIABLE: &str = "DOCKER_AUTH_CONFIG";

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
    /// Returns a registry's credentials, from the environment, its helper or the file.
    pub fn credentials(&self, registry: &str) -> Result<Option<Credentials>> {
        if let Some(given) = self.given()?.remove(registry) {
            return Ok(Some(given));
        }
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
        let entry = credentials.to_entry();
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

    /// Returns the names of registries that credentials are known for, or may be.
    ///
    /// # Errors
    /// Says which helper cannot list what it has.
    pub fn registries(&self) -> Result<Vec<String>> {
        let mut names: Vec<String> = self.given()?.into_keys().collect();
        names.extend(self.keys("auths"));
        if let Some(helper) = self.text("credsStore") {
            names.extend(list_helper(helper)?);
        }
        names.extend(self.keys("credHelpers"));
        names.sort();
        names.dedup();
        Ok(names)
    }

    fn keys(&self, setting: &str) -> impl Iterator<Item = String> {
        let entries = self.content[setting].as_object().into_iter().flatten();
        entries.map(|(name, _)| name.clone())
    }

    /// Returns a configuration that holds nothing but the credentials of all registries, or nothing without any.
    ///
    /// # Errors
    /// Says which helper failed.
    pub fn credentials_alone(&self) -> Result<Option<Vec<u8>>> {
        let mut auths = Map::new();
        for registry in self.registries()? {
            if let Some(credentials) = self.credentials(&registry)? {
                auths.insert(registry, credentials.to_entry());
            }
        }
        if auths.is_empty() {
            return Ok(None);
        }
        self.written(&json!({ "auths": auths })).map(Some)
    }

    /// Returns the credentials that the environment gives.
    fn given(&self) -> Result<BTreeMap<String, Credentials>> {
        let Some(text) = self.given.as_deref().filter(|text| !text.is_empty()) else {
            return Ok(BTreeMap::new());
        };
        let wrong = |what: String| CliError::usage(format!("{VARIABLE}: {what}"));
        let given: Json = serde_json::from_str(text).map_err(|error| wrong(error.to_string()))?;
        let auths = given["auths"].as_object().into_iter().flatten();
        auths
            .map(|(registry, entry)| {
                let credentials = Credentials::of_entry(entry).ok_or_else(|| {
                    wrong(format!("the key auth of {registry} is missing or wrong"))
                })?;
                Ok((registry.clone(), credentials))
            })
            .collect()
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
            .unwrap_or_else(|_| self.keys("auths").chain(self.keys("credHelpers")).collect())
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
        Credentials::of_entry(entry)
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
}

impl Credentials {
    /// Reads an entry of the configuration's `auths`; nothing when it says nothing.
    fn of_entry(entry: &Json) -> Option<Self> {
        let text = |key: &str| entry[key].as_str().unwrap_or_default().to_owned();
        let mut credentials = Self {
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
        (credentials != Self::default()).then_some(credentials)
    }

    /// Returns the entry of the configuration's `auths`.
    fn to_entry(&self) -> Json {
        let auth = |password: &str| BASE64_STANDARD.encode(format!("{}:{password}", self.username));
        if self.identity_token.is_empty() {
            return json!({ "auth": auth(&self.password) });
        }
        json!({ "auth": auth(""), "identitytoken": self.identity_token })
    }

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
    fn credentials_of_the_environment_count_first() {
        let directory = tempfile::tempdir().unwrap();
        let mut config = ConfigFile::load_from(directory.path().join("config.json")).unwrap();
        assert_eq!(config.credentials_alone().unwrap(), None);
        let stored = Credentials {
            username: "stored".into(),
            identity_token: "t".into(),
            ..Credentials::default()
        };
        config.store("a.example", &stored).unwrap();
        config.store("b.example", &stored).unwrap();
        // given:p
        config.given = Some(r#"{"auths":{"a.example":{"auth":"Z2l2ZW46cA=="}}}"#.into());
        let given = config.credentials("a.example").unwrap().unwrap();
        assert_eq!(
            (given.username.as_str(), given.password.as_str()),
            ("given", "p")
        );
        assert_eq!(config.credentials("b.example").unwrap(), Some(stored));
        let alone = config.credentials_alone().unwrap().unwrap();
        let alone: Json = serde_json::from_slice(&alone).unwrap();
        assert_eq!(
            alone,
            json!({"auths": {
                "a.example": {"auth": "Z2l2ZW46cA=="},
                "b.example": {"auth": "c3RvcmVkOg==", "identitytoken": "t"},
            }})
        );
        for wrong in ["{", r#"{"auths":{"a.example":{}}}"#] {
            config.given = Some(wrong.into());
            let error = config.credentials("x").unwrap_err().to_string();
            assert!(error.starts_with("DOCKER_AUTH_CONFIG: "), "{error}");
        }
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
