//! The grammar below references: `[domain/]path[:tag][@digest]` (spec image-store §2).

use crate::digest::Digest;
use crate::reference::ReferenceError;

/// Longest text taken for a reference; the parts of a valid one stay far below it.
pub(crate) const MAX_REFERENCE_LENGTH: usize = 4096;
/// Longest path of a repository.
const MAX_PATH_LENGTH: usize = 255;
/// Longest tag.
const MAX_TAG_LENGTH: usize = 128;
/// Fewest hexadecimal characters of a digest, whatever its algorithm.
const MIN_DIGEST_HEX_LENGTH: usize = 32;

/// Holds the parts of a reference as they were written, nothing filled in (`reference.Parse`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReferenceParts {
    /// First component when it can be a domain and a path follows.
    pub domain: Option<String>,
    /// Path below the domain.
    pub path: String,
    /// Tag if given.
    pub tag: Option<String>,
    /// Digest if given.
    pub digest: Option<Digest>,
}

impl ReferenceParts {
    /// Parses without normalising: `alpine` keeps no domain and no `library/`.
    ///
    /// # Errors
    /// See [`ReferenceError`].
    pub fn parse(text: &str) -> Result<Self, ReferenceError> {
        if text.is_empty() {
            return Err(ReferenceError::Empty);
        }
        if text.len() > MAX_REFERENCE_LENGTH {
            return Err(ReferenceError::Format);
        }
        let Some(raw) = split(text) else {
            // A name with upper-case letters gets the clearer message, if only the case is wrong.
            return Err(match split(&text.to_lowercase()) {
                Some(lower) => ReferenceError::UpperCase(
                    text.get(..lower.name_length()).unwrap_or(text).to_owned(),
                ),
                None => ReferenceError::Format,
            });
        };
        if raw.path.len() > MAX_PATH_LENGTH {
            return Err(ReferenceError::TooLong);
        }
        let digest = raw.digest.map(parse_digest).transpose()?;
        Ok(Self {
            domain: raw.domain.map(str::to_owned),
            path: raw.path.to_owned(),
            tag: raw.tag.map(str::to_owned),
            digest,
        })
    }

    /// Returns domain and path as written.
    pub fn name(&self) -> String {
        match &self.domain {
            Some(domain) => format!("{domain}/{}", self.path),
            None => self.path.clone(),
        }
    }
}

/// Tells whether the text is a full ID: 64 lower-case hexadecimal characters.
pub(crate) fn is_identifier(text: &str) -> bool {
    text.len() == 64
        && text
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Tells whether the text is a tag: `\w[\w.-]{0,127}`.
pub(crate) fn is_tag(text: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    text.len() <= MAX_TAG_LENGTH
        && text.bytes().next().is_some_and(is_word)
        && text
            .bytes()
            .all(|byte| is_word(byte) || matches!(byte, b'.' | b'-'))
}

struct RawParts<'a> {
    domain: Option<&'a str>,
    path: &'a str,
    tag: Option<&'a str>,
    digest: Option<&'a str>,
}

impl RawParts<'_> {
    fn name_length(&self) -> usize {
        self.domain.map_or(0, |domain| domain.len() + 1) + self.path.len()
    }
}

/// Splits by the grammar; `None` when the text does not follow it.
fn split(text: &str) -> Option<RawParts<'_>> {
    // Neither name nor tag may hold `@`; a tag may not hold `/` and a port is followed by one.
    let (rest, digest) = match text.split_once('@') {
        Some((rest, digest)) => (rest, Some(digest)),
        None => (text, None),
    };
    let (name, tag) = match rest.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
        _ => (rest, None),
    };
    if tag.is_some_and(|tag| !is_tag(tag)) || digest.is_some_and(|digest| !is_digest_shape(digest))
    {
        return None;
    }
    if let Some((domain, path)) = name.split_once('/')
        && is_domain(domain)
        && is_path(path)
    {
        return Some(RawParts {
            domain: Some(domain),
            path,
            tag,
            digest,
        });
    }
    is_path(name).then_some(RawParts {
        domain: None,
        path: name,
        tag,
        digest,
    })
}

fn is_domain(text: &str) -> bool {
    let (host, port) = if let Some(after) = text.strip_prefix('[') {
        let Some((address, port)) = after.split_once(']') else {
            return false;
        };
        if address.is_empty()
            || !address
                .bytes()
                .all(|byte| byte.is_ascii_hexdigit() || byte == b':')
        {
            return false;
        }
        match port.strip_prefix(':') {
            Some(port) => (None, Some(port)),
            None if port.is_empty() => (None, None),
            None => return false,
        }
    } else {
        match text.split_once(':') {
            Some((host, port)) => (Some(host), Some(port)),
            None => (Some(text), None),
        }
    };
    host.is_none_or(|host| host.split('.').all(is_domain_component))
        && port
            .is_none_or(|port| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()))
}

fn is_domain_component(text: &str) -> bool {
    !text.is_empty()
        && !text.starts_with('-')
        && !text.ends_with('-')
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

fn is_path(text: &str) -> bool {
    text.split('/').all(is_path_component)
}

/// Matches `[a-z0-9]+` joined by `.`, `_`, `__` or any run of `-`.
fn is_path_component(text: &str) -> bool {
    let is_alphanumeric = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = text.as_bytes();
    let ends_are_alphanumeric =
        bytes.first().is_some_and(is_alphanumeric) && bytes.last().is_some_and(is_alphanumeric);
    ends_are_alphanumeric
        && bytes.split(is_alphanumeric).all(|separator| {
            matches!(separator, b"" | b"." | b"_" | b"__")
                || separator.iter().all(|byte| *byte == b'-')
        })
}

/// Matches `algorithm:hex{32,}` where the algorithm is words joined by one of `-_+.`.
fn is_digest_shape(text: &str) -> bool {
    let Some((algorithm, hex)) = text.split_once(':') else {
        return false;
    };
    algorithm.split(['-', '_', '+', '.']).all(|word| {
        word.bytes()
            .next()
            .is_some_and(|byte| byte.is_ascii_alphabetic())
            && word.bytes().all(|byte| byte.is_ascii_alphanumeric())
    }) && hex.len() >= MIN_DIGEST_HEX_LENGTH
        && hex.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Judges a digest of the right shape by its algorithm (go-digest `Validate`).
fn parse_digest(text: &str) -> Result<Digest, ReferenceError> {
    let (algorithm, hex) = text.split_once(':').ok_or(ReferenceError::DigestFormat)?;
    let expected_length = match algorithm {
        "sha256" => 64,
        "sha384" => 96,
        "sha512" => 128,
        _ if algorithm.bytes().any(|byte| byte.is_ascii_uppercase()) => {
            return Err(ReferenceError::DigestFormat);
        }
        _ => return Err(ReferenceError::DigestAlgorithm),
    };
    if hex.len() != expected_length {
        return Err(ReferenceError::DigestLength);
    }
    if hex.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Err(ReferenceError::DigestFormat);
    }
    text.parse()
        .map_err(|_| ReferenceError::Digest(text.to_owned()))
}
