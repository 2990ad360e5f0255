//! The documents of one repository: fetched, verified, and the right one of an index chosen.

use crate::client::Client;
use crate::credentials::Credentials;
use crate::endpoint::Endpoint;
use crate::error::{RegistryError, shown};
use crate::scope::Scopes;
use crate::transport::{Call, failure, failure_detail, read_capped};
use bytes::Bytes;
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, Response};
use std::collections::BTreeMap;
use tokio::io::AsyncReadExt as _;
use wharf_image::{
    Descriptor, DescriptorPlatform, Digest, Document, ImageConfig, Index, Manifest, MediaType,
    Platform, Reference, media_type,
};

/// Largest manifest, index or config taken (attack case 22).
pub const MAX_DOCUMENT_BYTES: u64 = 4 * 1024 * 1024;
/// How deep indexes may lie in indexes.
pub(crate) const MAX_INDEX_DEPTH: usize = 4;
/// Most entries without a platform whose configs are read to find theirs.
const MAX_UNLABELLED_ENTRIES: usize = 8;
/// Header with the digest of the content that a response carries.
const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

const DOCUMENT_TYPES: [&str; 4] = [
    media_type::OCI_INDEX,
    media_type::DOCKER_INDEX,
    media_type::OCI_MANIFEST,
    media_type::DOCKER_MANIFEST,
];

/// The documents of one repository as one wish sees them.
pub(crate) struct Documents<'a> {
    pub(crate) client: &'a Client,
    pub(crate) endpoint: &'a Endpoint,
    pub(crate) reference: &'a Reference,
    pub(crate) platform: &'a Platform,
    pub(crate) credentials: &'a Credentials,
}

impl Documents<'_> {
    fn top_name(&self) -> String {
        match (self.reference.digest(), self.reference.tag()) {
            (Some(digest), _) => digest.to_string(),
            (None, Some(tag)) => tag.to_owned(),
            (None, None) => "latest".to_owned(),
        }
    }

    /// Fetches what the reference names.
    pub(crate) async fn top(&self) -> Result<(Descriptor, Bytes), RegistryError> {
        self.fetch(&self.top_name(), self.reference.digest().copied(), None)
            .await
    }

    /// Fetches a document by tag or digest and verifies it against what is known of it.
    async fn fetch(
        &self,
        name: &str,
        expected: Option<Digest>,
        expected_size: Option<u64>,
    ) -> Result<(Descriptor, Bytes), RegistryError> {
        let registry = self.endpoint.registry.as_str();
        let response = self.request(Method::GET, name).await?;
        let headers = response.headers().clone();
        let bytes = read_capped(response, MAX_DOCUMENT_BYTES, "manifest", registry).await?;
        let found = Digest::of(&bytes);
        let claimed = content_digest(registry, &headers)?;
        if let Some(expected) = [expected, claimed]
            .into_iter()
            .flatten()
            .find(|expected| *expected != found)
        {
            let (what, registry) = (format!("manifest {name}"), registry.to_owned());
            return Err(RegistryError::DigestMismatch {
                what,
                registry,
                expected,
                found,
            });
        }
        if let Some(expected) = expected_size.filter(|expected| *expected != bytes.len() as u64) {
            let (what, registry) = (format!("manifest {name}"), registry.to_owned());
            return Err(RegistryError::SizeMismatch {
                what,
                registry,
                expected,
                found: bytes.len() as u64,
            });
        }
        let mut descriptor = descriptor(content_type(&headers), found, bytes.len() as u64);
        // Generic types such as application/json say nothing; the document may.
        if !matches!(
            MediaType::parse(&descriptor.media_type),
            MediaType::Manifest | MediaType::Index
        ) {
            descriptor.media_type = match self.parse(&(descriptor.clone(), bytes.clone()))? {
                Document::Manifest(manifest) => manifest
                    .media_type
                    .unwrap_or_else(|| media_type::OCI_MANIFEST.to_owned()),
                Document::Index(index) => index
                    .media_type
                    .unwrap_or_else(|| media_type::OCI_INDEX.to_owned()),
            };
        }
        Ok((descriptor, bytes))
    }

    /// Asks what the reference names, without fetching it where the registry tells digest and size.
    pub(crate) async fn head(&self) -> Result<Descriptor, RegistryError> {
        let response = self.request(Method::HEAD, &self.top_name()).await?;
        let digest = content_digest(&self.endpoint.registry, response.headers())?;
        let length = response
            .headers()
            .get(reqwest::header::CONTENT_LENGTH)
            .and_then(|value| value.to_str().ok()?.parse().ok());
        match (digest.or(self.reference.digest().copied()), length) {
            (Some(digest), Some(size)) => {
                Ok(descriptor(content_type(response.headers()), digest, size))
            }
            // Both headers are optional: fetch the document and see.
            _ => self.top().await.map(|(descriptor, _)| descriptor),
        }
    }

    async fn request(&self, method: Method, name: &str) -> Result<Response, RegistryError> {
        let url = self.endpoint.url(&format!("manifests/{name}"))?;
        let scopes = Scopes::pull(&self.endpoint.path);
        let mut call = Call::new(method, self.endpoint, url, scopes, self.credentials);
        for kind in DOCUMENT_TYPES {
            call = call.header(ACCEPT, HeaderValue::from_static(kind));
        }
        let response = self
            .client
            .send(&call)
            .await
            .map_err(|error| self.as_pull_error(error))?;
        match response.status().as_u16() {
            200 => Ok(response),
            404 => {
                let detail = failure_detail(response)
                    .await
                    .filter(|detail| !detail.is_empty());
                let detail =
                    detail.unwrap_or_else(|| "manifest unknown: manifest unknown".to_owned());
                Err(if detail.starts_with("name unknown") {
                    RegistryError::PullDenied {
                        repository: self.reference.familiar_name(),
                        detail,
                    }
                } else {
                    RegistryError::ManifestUnknown {
                        reference: self.reference.clone().with_default_tag().familiar(),
                        detail,
                    }
                })
            }
            _ => {
                Err(self.as_pull_error(failure(self.endpoint, "give the manifest", response).await))
            }
        }
    }

    /// Says denials the way docker does for pulls.
    fn as_pull_error(&self, error: RegistryError) -> RegistryError {
        let repository = || self.reference.familiar_name();
        match error {
            RegistryError::Denied { detail, .. } => RegistryError::PullDenied {
                repository: repository(),
                detail,
            },
            // Registries that hide what exists ask anonymous users to log in.
            RegistryError::Unauthorized { detail, .. } if self.credentials.is_anonymous() => {
                RegistryError::PullDenied {
                    repository: repository(),
                    detail,
                }
            }
            other => other,
        }
    }

    /// Reads a document, a manifest or an index.
    pub(crate) fn parse(
        &self,
        (descriptor, bytes): &(Descriptor, Bytes),
    ) -> Result<Document, RegistryError> {
        Document::parse(&descriptor.media_type, bytes).map_err(|source| RegistryError::Document {
            what: format!("manifest {}", descriptor.digest),
            registry: self.endpoint.registry.clone(),
            source,
        })
    }

    /// Fetches the entry of an index that runs best on the platform.
    pub(crate) async fn choose(&self, index: &Index) -> Result<(Descriptor, Bytes), RegistryError> {
        let is_document = |entry: &&Descriptor| match MediaType::parse(&entry.media_type) {
            MediaType::Manifest | MediaType::Index => true,
            _ => entry.media_type.is_empty(),
        };
        let entries: Vec<&Descriptor> = index.manifests.iter().filter(is_document).collect();
        let ranked = entries.iter().filter_map(|entry| {
            let platform = entry
                .platform
                .as_ref()
                .filter(|platform| !is_unknown(platform))?;
            self.platform.rank(platform).map(|rank| (rank, *entry))
        });
        if let Some((_, entry)) = ranked.min_by_key(|(rank, _)| *rank) {
            return self.fetch_entry(entry).await;
        }
        let unlabelled = entries
            .iter()
            .filter(|entry| entry.platform.is_none())
            .take(MAX_UNLABELLED_ENTRIES);
        for entry in unlabelled {
            let document = self.fetch_entry(entry).await?;
            if let Document::Manifest(manifest) = self.parse(&document)?
                && self.runs(&manifest).await?
            {
                return Ok(document);
            }
        }
        let platforms = entries
            .iter()
            .filter_map(|entry| entry.platform.as_ref())
            .filter(|platform| !is_unknown(platform));
        let available = platforms
            .map(|platform| shown(&Platform::from(platform).format_all()))
            .collect();
        Err(RegistryError::NoMatchingManifest {
            platform: self.platform.to_string(),
            available,
        })
    }

    async fn fetch_entry(&self, entry: &Descriptor) -> Result<(Descriptor, Bytes), RegistryError> {
        let (found, bytes) = self
            .fetch(
                &entry.digest.to_string(),
                Some(entry.digest),
                Some(entry.size),
            )
            .await?;
        let media_type = if entry.media_type.is_empty() {
            found.media_type
        } else {
            entry.media_type.clone()
        };
        Ok((
            Descriptor {
                media_type,
                ..entry.clone()
            },
            bytes,
        ))
    }

    /// Tells whether the config of an image names a platform whose programs run here.
    async fn runs(&self, manifest: &Manifest) -> Result<bool, RegistryError> {
        let Ok(config) = ImageConfig::parse(&self.config(manifest).await?) else {
            return Ok(false);
        };
        let platform = DescriptorPlatform {
            os: config.os,
            architecture: config.architecture,
            variant: config.variant,
            ..DescriptorPlatform::default()
        };
        Ok(self.platform.rank(&platform).is_some())
    }

    pub(crate) async fn config(&self, manifest: &Manifest) -> Result<Bytes, RegistryError> {
        let (registry, size) = (self.endpoint.registry.clone(), manifest.config.size);
        if size > MAX_DOCUMENT_BYTES {
            return Err(RegistryError::TooLarge {
                what: "image config".to_owned(),
                registry,
                limit_bytes: MAX_DOCUMENT_BYTES,
            });
        }
        let mut stream = self
            .client
            .fetch_blob(self.reference, &manifest.config, self.credentials)
            .await?;
        let mut bytes = Vec::new();
        stream
            .read_to_end(&mut bytes)
            .await
            .map_err(|error| RegistryError::from_io(error, &registry))?;
        Ok(bytes.into())
    }
}

/// Says whether an index's entry is for no platform: an attestation.
pub(crate) fn is_unknown(platform: &DescriptorPlatform) -> bool {
    platform.os == "unknown" || platform.architecture == "unknown"
}

fn descriptor(media_type: String, digest: Digest, size: u64) -> Descriptor {
    Descriptor {
        media_type,
        digest,
        size,
        urls: Vec::new(),
        annotations: BTreeMap::new(),
        platform: None,
    }
}

/// Returns the media type of a response without its parameters.
fn content_type(headers: &HeaderMap) -> String {
    let text = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    text.split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase()
}

/// Reads `Docker-Content-Digest`. Digests of other algorithms cannot be compared and count as none.
pub(crate) fn content_digest(
    registry: &str,
    headers: &HeaderMap,
) -> Result<Option<Digest>, RegistryError> {
    let Some(value) = headers.get(CONTENT_DIGEST) else {
        return Ok(None);
    };
    let text = value.to_str().unwrap_or_default().trim();
    if text.starts_with("sha384:") || text.starts_with("sha512:") {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|_| RegistryError::Protocol {
        registry: registry.to_owned(),
        expected: "a digest in Docker-Content-Digest".to_owned(),
        found: shown(text),
    })
}
