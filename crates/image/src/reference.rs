//! Image references (spec image-store §2).

use crate::digest::Digest;
use crate::glob::Glob;
use crate::reference_grammar::{self as grammar, MAX_REFERENCE_LENGTH};
use std::fmt;
use std::str::FromStr;

pub use crate::reference_grammar::ReferenceParts;

/// Domain assumed when a reference names none.
pub const DEFAULT_DOMAIN: &str = "docker.io";
const LEGACY_DEFAULT_DOMAIN: &str = "index.docker.io";
const OFFICIAL_PREFIX: &str = "library/";
const DEFAULT_TAG: &str = "latest";

/// Tells why a text is not a reference.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// The text does not follow the grammar.
    #[error("invalid reference format")]
    Format,
    /// The text is empty.
    #[error("repository name must have at least one component")]
    Empty,
    /// The repository has upper-case letters.
    #[error("invalid reference format: repository name ({0}) must be lowercase")]
    UpperCase(String),
    /// The path is longer than 255 characters.
    #[error("repository name must not be more than 255 characters")]
    TooLong,
    /// 64 hexadecimal characters name an ID, never a repository.
    #[error("invalid repository name ({0}), cannot specify 64-byte hexadecimal strings")]
    LooksLikeId(String),
    /// The digest has characters its algorithm does not allow.
    #[error("invalid checksum digest format")]
    DigestFormat,
    /// The digest is too short or too long for its algorithm.
    #[error("invalid checksum digest length")]
    DigestLength,
    /// No engine knows the digest's algorithm.
    #[error("unsupported digest algorithm")]
    DigestAlgorithm,
    /// The digest is well formed but of an algorithm this engine does not have.
    #[error("invalid reference format: unsupported digest {0:?}")]
    Digest(String),
    /// A filter pattern is malformed.
    #[error("syntax error in pattern")]
    Pattern,
}

/// Names an image in a repository: always normalised (`docker.io/library/` filled in).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reference {
    domain: String,
    path: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

impl Reference {
    /// Parses and normalises what a user typed (`ParseNormalizedNamed`).
    ///
    /// # Errors
    /// See [`ReferenceError`].
    pub fn parse(text: &str) -> Result<Self, ReferenceError> {
        if text.len() > MAX_REFERENCE_LENGTH {
            return Err(ReferenceError::Format);
        }
        if grammar::is_identifier(text) {
            return Err(ReferenceError::LooksLikeId(text.to_owned()));
        }
        let (domain, remainder) = split_domain(text);
        let repository = remainder.split(':').next().unwrap_or_default();
        if repository.to_lowercase() != repository {
            return Err(ReferenceError::UpperCase(repository.to_owned()));
        }
        let parts = ReferenceParts::parse(&format!("{domain}/{remainder}"))?;
        // `foo_bar.com/x` looks like it has a domain but `_` may not be in one: it is all path.
        let domain = parts.domain.unwrap_or_default();
        Ok(Self {
            domain,
            path: parts.path,
            tag: parts.tag,
            digest: parts.digest,
        })
    }

    /// Returns the registry's domain with port, such as `docker.io`. Empty when the first component
    /// looks like a domain without being one (`foo_bar.com/x`): no registry can be asked for it.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// Returns the path below the domain, such as `library/alpine`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Returns the tag if one was given.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// Returns the digest if one was given.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// Tells whether neither tag nor digest was given.
    pub fn is_name_only(&self) -> bool {
        self.tag.is_none() && self.digest.is_none()
    }

    /// Returns this reference with `:latest` when neither tag nor digest is given.
    #[must_use]
    pub fn with_default_tag(self) -> Self {
        if self.is_name_only() {
            Self {
                tag: Some(DEFAULT_TAG.to_owned()),
                ..self
            }
        } else {
            self
        }
    }

    /// Returns the same repository with another tag and no digest.
    ///
    /// # Errors
    /// Fails when the tag does not match `\w[\w.-]{0,127}`.
    pub fn with_tag(&self, tag: &str) -> Result<Self, ReferenceError> {
        if !grammar::is_tag(tag) {
            return Err(ReferenceError::Format);
        }
        Ok(Self {
            tag: Some(tag.to_owned()),
            digest: None,
            ..self.clone()
        })
    }

    /// Returns the same repository with a digest and no tag.
    #[must_use]
    pub fn with_digest(&self, digest: Digest) -> Self {
        Self {
            tag: None,
            digest: Some(digest),
            ..self.clone()
        }
    }

    /// Returns the repository without tag and digest.
    #[must_use]
    pub fn repository(&self) -> Self {
        Self {
            tag: None,
            digest: None,
            ..self.clone()
        }
    }

    /// Returns the canonical name without tag and digest: `docker.io/library/alpine`.
    pub fn name(&self) -> String {
        if self.domain.is_empty() {
            return self.path.clone();
        }
        format!("{}/{}", self.domain, self.path)
    }

    /// Returns the name as docker shows it, without tag and digest: `alpine`.
    pub fn familiar_name(&self) -> String {
        if self.domain != DEFAULT_DOMAIN {
            return self.name();
        }
        match self.path.strip_prefix(OFFICIAL_PREFIX) {
            Some(official) if !official.contains('/') => official.to_owned(),
            _ => self.path.clone(),
        }
    }

    /// Returns name, tag and digest as docker shows them: `alpine:3.20`.
    pub fn familiar(&self) -> String {
        self.with_suffix(self.familiar_name())
    }

    /// Tells whether docker's `reference` filter pattern (Go `path.Match` against familiar name:tag
    /// and familiar name) matches.
    ///
    /// # Errors
    /// Fails when the pattern is malformed.
    pub fn familiar_match(&self, pattern: &str) -> Result<bool, ReferenceError> {
        let glob = Glob::parse(pattern).ok_or(ReferenceError::Pattern)?;
        Ok(glob.matches(&self.familiar()) || glob.matches(&self.familiar_name()))
    }

    fn with_suffix(&self, mut name: String) -> String {
        if let Some(tag) = &self.tag {
            name.push(':');
            name.push_str(tag);
        }
        if let Some(digest) = &self.digest {
            name.push('@');
            name.push_str(&digest.to_string());
        }
        name
    }
}

/// Shows the canonical form with tag and digest: `docker.io/library/alpine:3.20`.
impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.with_suffix(self.name()))
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        Self::parse(text)
    }
}

/// Holds what a user meant by a name-or-ID text (`ParseAnyReference`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AnyReference {
    /// A full ID: 64 hexadecimal characters, with or without `sha256:`.
    Digest(Digest),
    /// A name in a repository.
    Named(Reference),
}

impl AnyReference {
    /// Parses a full ID or else a reference.
    ///
    /// # Errors
    /// See [`ReferenceError`].
    pub fn parse(text: &str) -> Result<Self, ReferenceError> {
        if grammar::is_identifier(text)
            && let Ok(digest) = format!("sha256:{text}").parse()
        {
            return Ok(Self::Digest(digest));
        }
        match text.parse() {
            Ok(digest) => Ok(Self::Digest(digest)),
            Err(_) => Reference::parse(text).map(Self::Named),
        }
    }
}

/// Splits off the domain; fills in `docker.io` and `library/`.
fn split_domain(text: &str) -> (&str, String) {
    let Some((first, rest)) = text.split_once('/') else {
        return (DEFAULT_DOMAIN, format!("{OFFICIAL_PREFIX}{text}"));
    };
    let (domain, path) = if first == LEGACY_DEFAULT_DOMAIN {
        (DEFAULT_DOMAIN, rest)
    } else if first == "localhost" || first.contains(['.', ':']) || first.to_lowercase() != first {
        (first, rest)
    } else {
        (DEFAULT_DOMAIN, text)
    };
    if domain == DEFAULT_DOMAIN && !path.contains('/') {
        return (domain, format!("{OFFICIAL_PREFIX}{path}"));
    }
    (domain, path.to_owned())
}
