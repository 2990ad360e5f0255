//! The files of contexts: `contexts/meta/<sha256 of the name>/meta.json` and `contexts/tls/<…>/docker/*.pem`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};
use wharf_image::Digest;

use crate::context::DEFAULT_CONTEXT;
use crate::error::{CliError, Result};
use crate::host_files;
use crate::tls::TlsMaterial;

/// Largest accepted `meta.json`, in bytes.
const META_LIMIT_BYTES: u64 = 1 << 20;
/// Largest accepted certificate or key, in bytes.
pub const PEM_LIMIT_BYTES: u64 = 1 << 20;
/// Name of the endpoint that is a docker daemon.
const DOCKER: &str = "docker";

/// A context as `meta.json` has it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Stored {
    /// Name.
    pub name: String,
    /// Description and what other tools keep.
    pub metadata: Map<String, Json>,
    /// Endpoints by kind; what is not docker's is kept as it is.
    pub endpoints: BTreeMap<String, Json>,
}

/// A daemon's address.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Endpoint {
    /// URL.
    pub host: String,
    /// Takes whatever certificate the daemon has.
    pub skips_verification: bool,
}

impl Stored {
    /// Returns the description; empty when there is none.
    pub fn description(&self) -> &str {
        self.metadata
            .get("Description")
            .and_then(Json::as_str)
            .unwrap_or_default()
    }

    /// Sets the description.
    pub fn set_description(&mut self, text: &str) {
        self.metadata.insert("Description".into(), text.into());
    }

    /// Returns the docker daemon's address.
    pub fn endpoint(&self) -> Endpoint {
        let endpoint = self.endpoints.get(DOCKER);
        let field = |key: &str| endpoint.and_then(|endpoint| endpoint.get(key));
        Endpoint {
            host: field("Host")
                .and_then(Json::as_str)
                .unwrap_or_default()
                .to_owned(),
            skips_verification: field("SkipTLSVerify")
                .and_then(Json::as_bool)
                .unwrap_or(false),
        }
    }

    /// Sets the docker daemon's address.
    pub fn set_endpoint(&mut self, endpoint: &Endpoint) {
        let mut document = Map::new();
        if !endpoint.host.is_empty() {
            document.insert("Host".into(), endpoint.host.as_str().into());
        }
        document.insert("SkipTLSVerify".into(), endpoint.skips_verification.into());
        self.endpoints.insert(DOCKER.to_owned(), document.into());
    }
}

/// The directory of contexts.
#[derive(Debug, Clone)]
pub struct ContextStore {
    root: PathBuf,
}

impl ContextStore {
    /// Returns the store below a configuration directory.
    pub fn below(config_directory: &Path) -> Self {
        Self {
            root: config_directory.join("contexts"),
        }
    }

    /// Returns the directory of a context's `meta.json`.
    pub fn meta_directory(&self, name: &str) -> PathBuf {
        self.root.join("meta").join(directory_name(name))
    }

    /// Returns the directory of a context's certificates.
    pub fn tls_directory(&self, name: &str) -> PathBuf {
        self.root.join("tls").join(directory_name(name))
    }

    /// Reads a context.
    pub fn load(&self, name: &str) -> Result<Stored> {
        let path = self.meta_directory(name).join("meta.json");
        match host_files::read_if_present(&path, META_LIMIT_BYTES)? {
            Some(bytes) => parse(&bytes, &path),
            None => Err(CliError::Plain(format!(
                "context {name:?}: context not found: open {}: no such file or directory",
                path.display()
            ))),
        }
    }

    /// Tells whether there is a context of that name.
    pub fn exists(&self, name: &str) -> bool {
        host_files::metadata(&self.meta_directory(name).join("meta.json")).is_ok()
    }

    /// Reads all contexts, by name.
    pub fn list(&self) -> Result<Vec<Stored>> {
        let mut found = Vec::new();
        for directory in host_files::names_in(&self.root.join("meta"))? {
            let path = self.root.join("meta").join(directory).join("meta.json");
            if let Some(bytes) = host_files::read_if_present(&path, META_LIMIT_BYTES)? {
                found.push(parse(&bytes, &path)?);
            }
        }
        found.sort_by(|left, right| left.name.cmp(&right.name));
        Ok(found)
    }

    /// Writes a context.
    pub fn save(&self, context: &Stored) -> Result<()> {
        let path = self.meta_directory(&context.name).join("meta.json");
        let text = serde_json::to_vec(context).map_err(|source| CliError::Decode {
            request: path.display().to_string(),
            source,
        })?;
        host_files::replace_private(&path, &text)
    }

    /// Replaces a context's certificates by the given ones, by file name.
    pub fn save_tls(&self, name: &str, files: &BTreeMap<String, Vec<u8>>) -> Result<()> {
        let directory = self.tls_directory(name);
        host_files::remove_directory(&directory)?;
        for (file, content) in files {
            host_files::replace_private(&directory.join(DOCKER).join(file), content)?;
        }
        Ok(())
    }

    /// Reads a context's certificates, by file name.
    pub fn tls_files(&self, name: &str) -> Result<BTreeMap<String, Vec<u8>>> {
        let directory = self.tls_directory(name).join(DOCKER);
        let mut files = BTreeMap::new();
        for file in host_files::names_in(&directory)? {
            files.insert(
                file.clone(),
                host_files::read(&directory.join(&file), PEM_LIMIT_BYTES)?,
            );
        }
        Ok(files)
    }

    /// Returns what a context's daemon is spoken to with; None when it has neither certificates nor wants TLS.
    pub fn tls(&self, name: &str, endpoint: &Endpoint) -> Option<TlsMaterial> {
        let directory = self.tls_directory(name).join(DOCKER);
        let file = |name: &str| {
            let path = directory.join(name);
            host_files::metadata(&path).is_ok().then_some(path)
        };
        let material = TlsMaterial {
            ca: file("ca.pem"),
            certificate: file("cert.pem"),
            key: file("key.pem"),
            skips_verification: endpoint.skips_verification,
        };
        (material != TlsMaterial::default()).then_some(material)
    }

    /// Removes a context.
    pub fn remove(&self, name: &str) -> Result<()> {
        host_files::remove_directory(&self.meta_directory(name))?;
        host_files::remove_directory(&self.tls_directory(name))
    }
}

/// Refuses names that docker refuses.
pub fn check_name(name: &str) -> Result<()> {
    if name == DEFAULT_CONTEXT {
        return Err(CliError::Plain(
            "\"default\" is a reserved context name".to_owned(),
        ));
    }
    let mut bytes = name.bytes();
    let first = bytes
        .next()
        .is_some_and(|byte| byte.is_ascii_alphanumeric());
    let is_valid = first
        && name.len() > 1
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || b"_.+-".contains(&byte));
    if is_valid {
        return Ok(());
    }
    Err(CliError::Plain(format!(
        "context name {name:?} is invalid, names are validated against regexp \"^[a-zA-Z0-9][a-zA-Z0-9_.+-]+$\""
    )))
}

fn directory_name(name: &str) -> String {
    Digest::of(name.as_bytes()).hex()
}

fn parse(bytes: &[u8], path: &Path) -> Result<Stored> {
    serde_json::from_slice(bytes).map_err(|error| {
        CliError::usage(format!(
            "{} is not a valid context: {error}",
            path.display()
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_saved_is_found_again() {
        let directory = tempfile::tempdir().unwrap();
        let store = ContextStore::below(directory.path());
        assert!(store.list().unwrap().is_empty());
        let mut context = Stored {
            name: "far".into(),
            ..Stored::default()
        };
        context.set_description("over there");
        context.set_endpoint(&Endpoint {
            host: "tcp://h:1".into(),
            skips_verification: false,
        });
        store.save(&context).unwrap();
        // The name is docker's for this context.
        assert!(
            store
                .meta_directory("far")
                .ends_with(Digest::of(b"far").hex())
        );
        assert_eq!(store.load("far").unwrap(), context);
        assert_eq!(store.list().unwrap(), [context.clone()]);
        assert_eq!(context.endpoint().host, "tcp://h:1");
        assert_eq!(store.tls("far", &context.endpoint()), None);
        let files = BTreeMap::from([("ca.pem".to_owned(), b"x".to_vec())]);
        store.save_tls("far", &files).unwrap();
        assert!(store.tls("far", &context.endpoint()).unwrap().ca.is_some());
        store.remove("far").unwrap();
        let error = store.load("far").unwrap_err().to_string();
        assert!(
            error.starts_with("context \"far\": context not found: open "),
            "{error}"
        );
    }

    #[test]
    fn names_are_checked() {
        for name in ["a", "", "-a", "a b", "default", "a/b"] {
            assert!(check_name(name).is_err(), "{name}");
        }
        assert!(check_name("a1.b_c+d-e").is_ok());
    }
}
