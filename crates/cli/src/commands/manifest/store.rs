//! Manifest lists on their way to a registry: kept as docker's client keeps them, so that each goes on with what
//! the other began. One directory a list below `manifests` of the client's configuration, one file a manifest.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use wharf_image::{Descriptor, Digest, Document, Manifest, MediaType, Reference, media_type};

use crate::error::{CliError, Result};
use crate::host_files;

/// Bytes of one file.
const MAX_FILE_BYTES: u64 = 16 << 20;
/// Manifests of one list.
const MAX_MANIFESTS: usize = 1000;

/// A manifest with where it came from and what is said of its platform.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Entry {
    #[serde(rename = "Ref")]
    pub(super) reference: String,
    pub(super) descriptor: Descriptor,
    /// The manifest's bytes as they came, in base64; files of older clients have none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    raw: String,
    #[serde(
        rename = "SchemaV2Manifest",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    docker: Option<Json>,
    #[serde(
        rename = "OCIManifest",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    oci: Option<Json>,
}

impl Entry {
    /// Makes the entry of a manifest's bytes.
    ///
    /// # Errors
    /// A document that is no manifest.
    pub(super) fn new(reference: &Reference, descriptor: Descriptor, bytes: &[u8]) -> Result<Self> {
        let document: Json = serde_json::from_slice(bytes).map_err(|source| CliError::Decode {
            request: reference.to_string(),
            source,
        })?;
        let is_docker = descriptor.media_type == media_type::DOCKER_MANIFEST;
        Ok(Self {
            reference: reference.to_string(),
            descriptor,
            raw: STANDARD.encode(bytes),
            docker: is_docker.then(|| document.clone()),
            oci: (!is_docker).then_some(document),
        })
    }

    /// Returns the manifest as JSON, its keys in their order.
    pub(super) fn document(&self) -> Json {
        let document = self.docker.as_ref().or(self.oci.as_ref());
        document.cloned().unwrap_or_default()
    }

    /// Returns the manifest's own bytes: those that its digest names.
    ///
    /// # Errors
    /// A file whose manifest was changed.
    pub(super) fn bytes(&self) -> Result<Vec<u8>> {
        let as_it_came = STANDARD.decode(&self.raw).unwrap_or_default();
        // Files without the bytes have them in one of the forms that registries' tools write.
        let forms = [None, Some(&b"   "[..]), Some(&b"  "[..])];
        std::iter::once(as_it_came)
            .chain(
                forms
                    .into_iter()
                    .map(|indent| written(&self.document(), indent)),
            )
            .find(|bytes| Digest::of(bytes) == self.descriptor.digest)
            .ok_or_else(|| {
                CliError::usage(format!(
                    "manifest {} does not have the digest {} any more: create the list again",
                    self.reference, self.descriptor.digest
                ))
            })
    }

    /// Returns the manifest, parsed.
    pub(super) fn parsed(&self) -> Result<Manifest> {
        match Document::parse(&self.descriptor.media_type, &self.bytes()?) {
            Ok(Document::Manifest(manifest)) => Ok(manifest),
            _ => Err(CliError::usage(format!(
                "{} is no manifest",
                self.reference
            ))),
        }
    }
}

/// Writes JSON with an indent, or in one line.
pub(super) fn written(value: &Json, indent: Option<&[u8]>) -> Vec<u8> {
    let mut text = Vec::new();
    let result = match indent {
        None => serde_json::to_writer(&mut text, value),
        Some(indent) => {
            let formatter = serde_json::ser::PrettyFormatter::with_indent(indent);
            let mut writer = serde_json::Serializer::with_formatter(&mut text, formatter);
            value.serialize(&mut writer)
        }
    };
    // A value is always written to memory.
    result.map(|()| text).unwrap_or_default()
}

/// Says whether a document is a manifest of one image.
pub(super) fn is_manifest(media_type: &str) -> bool {
    MediaType::parse(media_type) == MediaType::Manifest
}

/// The lists of a client.
pub(super) struct Lists(PathBuf);

impl Lists {
    pub(super) fn new(config_directory: &Path) -> Self {
        Self(config_directory.join("manifests"))
    }

    fn directory(&self, list: &Reference) -> PathBuf {
        self.0.join(file_name(list))
    }

    /// Returns a manifest of a list, if it is there.
    pub(super) fn entry(&self, list: &Reference, manifest: &Reference) -> Result<Option<Entry>> {
        let path = self.directory(list).join(file_name(manifest));
        let content = host_files::read_if_present(&path, MAX_FILE_BYTES)?;
        content.map(|content| parse(&path, &content)).transpose()
    }

    /// Returns a list's manifests, if there is such a list.
    pub(super) fn list(&self, list: &Reference) -> Result<Option<Vec<Entry>>> {
        let directory = self.directory(list);
        let names = host_files::names_in(&directory)?;
        if names.is_empty() {
            return Ok(None);
        }
        if names.len() > MAX_MANIFESTS {
            return Err(CliError::usage(format!(
                "{list} has {} manifests, at most {MAX_MANIFESTS} are possible",
                names.len()
            )));
        }
        let read = |name: &String| {
            let path = directory.join(name);
            parse(&path, &host_files::read(&path, MAX_FILE_BYTES)?)
        };
        names.iter().map(read).collect::<Result<_>>().map(Some)
    }

    /// Puts a manifest into a list, which is made if need be.
    pub(super) fn save(&self, list: &Reference, manifest: &Reference, entry: &Entry) -> Result<()> {
        let directory = self.directory(list);
        host_files::create_directories(&directory)?;
        let content = serde_json::to_value(entry).unwrap_or_default();
        host_files::write(
            &directory.join(file_name(manifest)),
            &written(&content, None),
        )
    }

    /// Removes a list.
    pub(super) fn remove(&self, list: &Reference) -> Result<()> {
        host_files::remove_directory(&self.directory(list))
    }
}

fn parse(path: &Path, content: &[u8]) -> Result<Entry> {
    serde_json::from_slice(content).map_err(|source| CliError::Decode {
        request: path.display().to_string(),
        source,
    })
}

/// Returns the file's name of a reference; it has neither `/` nor `:`.
fn file_name(reference: &Reference) -> String {
    reference.to_string().replace(':', "%").replace('/', "#")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reference(text: &str) -> Reference {
        Reference::parse(text).unwrap().with_default_tag()
    }

    fn descriptor(bytes: &[u8]) -> Descriptor {
        Descriptor {
            media_type: media_type::DOCKER_MANIFEST.to_owned(),
            digest: Digest::of(bytes),
            size: bytes.len() as u64,
            urls: Vec::new(),
            annotations: std::collections::BTreeMap::new(),
            platform: None,
        }
    }

    #[test]
    fn lists_are_kept_and_read_again() {
        let directory = tempfile::tempdir().unwrap();
        let lists = Lists::new(directory.path());
        let (list, one) = (reference("host:5000/a/b:1"), reference("host:5000/a/c"));
        assert_eq!(lists.list(&list).unwrap(), None);
        let bytes = b"{\n   \"schemaVersion\": 2\n}";
        let entry = Entry::new(&one, descriptor(bytes), bytes).unwrap();
        lists.save(&list, &one, &entry).unwrap();
        let file = directory
            .path()
            .join("manifests/host%5000#a#b%1/host%5000#a#c%latest");
        assert!(host_files::metadata(&file).is_ok());
        assert_eq!(lists.entry(&list, &one).unwrap(), Some(entry.clone()));
        assert_eq!(lists.list(&list).unwrap(), Some(vec![entry.clone()]));
        assert_eq!(entry.bytes().unwrap(), bytes);
        lists.remove(&list).unwrap();
        assert_eq!(lists.list(&list).unwrap(), None);
    }

    #[test]
    fn older_files_give_the_bytes_back_and_changed_ones_do_not() {
        let one = reference("a");
        let bytes = b"{\n   \"schemaVersion\": 2\n}";
        let mut entry = Entry::new(&one, descriptor(bytes), bytes).unwrap();
        entry.raw.clear();
        assert_eq!(entry.bytes().unwrap(), bytes);
        entry.docker = Some(serde_json::json!({"schemaVersion": 3}));
        assert!(entry.bytes().is_err());
    }
}
