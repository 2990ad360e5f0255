//! What can go wrong between this client and a registry.

use std::time::Duration;
use wharf_image::{Digest, DocumentError};

/// Tells what failed, where, and what was expected and found.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// The reference has no registry that could be asked.
    #[error("invalid reference {reference:?}: {domain:?} is not a registry address")]
    Address {
        /// The reference.
        reference: String,
        /// What stands where the registry should.
        domain: String,
    },
    /// The client could not be set up.
    #[error("cannot set up the registry client: {detail}")]
    Setup {
        /// What is wrong with the options or this host.
        detail: String,
    },
    /// No answer came: connection refused, name not found, TLS failure, broken connection, timeout.
    #[error("cannot reach registry {registry}: {detail}")]
    Connect {
        /// Host that was asked.
        registry: String,
        /// Innermost cause.
        detail: String,
        /// Whether there was a connection, which then broke: trying again has a point.
        was_connected: bool,
    },
    /// The registry wants other or any credentials (HTTP 401).
    #[error("{detail}: log in to {registry} with an account that may do this")]
    Unauthorized {
        /// Host that was asked.
        registry: String,
        /// The registry's words, such as `unauthorized: authentication required`.
        detail: String,
    },
    /// The account may not read this repository, or it does not exist.
    #[error(
        "pull access denied for {repository}, repository does not exist or may require 'docker login': {detail}"
    )]
    PullDenied {
        /// Repository as docker shows it.
        repository: String,
        /// The registry's words.
        detail: String,
    },
    /// The account may not do this (HTTP 403).
    #[error("{detail} ({registry}/{path})")]
    Denied {
        /// Host that was asked.
        registry: String,
        /// Repository below the host.
        path: String,
        /// The registry's words, such as `denied: requested access to the resource is denied`.
        detail: String,
    },
    /// There is no such tag or digest.
    #[error("manifest for {reference} not found: {detail}")]
    ManifestUnknown {
        /// Reference as docker shows it.
        reference: String,
        /// The registry's words, such as `manifest unknown: manifest unknown`.
        detail: String,
    },
    /// There is no such blob.
    #[error("blob {digest} not found in {registry}/{path}: {detail}")]
    BlobUnknown {
        /// Host that was asked.
        registry: String,
        /// Repository below the host.
        path: String,
        /// The blob.
        digest: Digest,
        /// The registry's words.
        detail: String,
    },
    /// The index has no manifest for the platform.
    #[error("no matching manifest for {platform} in the manifest list entries")]
    NoMatchingManifest {
        /// The platform that was asked for.
        platform: String,
        /// The platforms the index has.
        available: Vec<String>,
    },
    /// Content has another digest than it was asked for by.
    #[error("{what} from {registry} is corrupt: expected {expected}, found {found}")]
    DigestMismatch {
        /// What was read or written, such as `layer` or `manifest`.
        what: String,
        /// Host that was asked.
        registry: String,
        /// Digest asked for.
        expected: Digest,
        /// Digest of the bytes that came.
        found: Digest,
    },
    /// Content has another size than its descriptor says.
    #[error("{what} from {registry} has the wrong size: expected {expected} bytes, found {found}")]
    SizeMismatch {
        /// What was read or written.
        what: String,
        /// Host that was asked.
        registry: String,
        /// Size in the descriptor.
        expected: u64,
        /// Bytes that came; when too many came, at least this many.
        found: u64,
    },
    /// A document is larger than any real one.
    #[error("{what} from {registry} is too large: more than {limit_bytes} bytes")]
    TooLarge {
        /// What was read.
        what: String,
        /// Host that was asked.
        registry: String,
        /// Most bytes taken.
        limit_bytes: u64,
    },
    /// The document is not a usable manifest or index.
    #[error("cannot use {what} from {registry}: {source}")]
    Document {
        /// Reference or digest of the document.
        what: String,
        /// Host that was asked.
        registry: String,
        /// What is wrong with it.
        source: DocumentError,
    },
    /// Too many requests were made (HTTP 429), and waiting did not help.
    #[error("{detail}: {registry} limits the rate of requests{}", retry_hint(.retry_after))]
    RateLimited {
        /// Host that was asked.
        registry: String,
        /// The registry's words.
        detail: String,
        /// How long the registry asks to wait.
        retry_after: Option<Duration>,
    },
    /// The registry answered with a status that means failure.
    #[error("{registry} failed to {what}: status {status}{}", with_colon(.detail))]
    Status {
        /// What was asked for, such as `start an upload`.
        what: String,
        /// Host that was asked.
        registry: String,
        /// HTTP status code.
        status: u16,
        /// The registry's words, may be empty.
        detail: String,
    },
    /// The answer does not follow the protocol.
    #[error("{registry} does not follow the registry protocol: expected {expected}, found {found}")]
    Protocol {
        /// Host that was asked.
        registry: String,
        /// What the protocol wants.
        expected: String,
        /// What came.
        found: String,
    },
    /// The answer leads to a place this client does not go to.
    #[error("{registry} leads to {target}: {reason}")]
    Redirect {
        /// Host that was asked.
        registry: String,
        /// Address it leads to, without query.
        target: String,
        /// Why it is refused.
        reason: &'static str,
    },
    /// The content to upload could not be read.
    #[error("cannot read the content to upload to {registry}: {detail}")]
    UploadSource {
        /// Host the upload goes to.
        registry: String,
        /// What failed.
        detail: String,
    },
}

/// Most characters kept of a text that a server wrote.
const MAX_DETAIL_CHARS: usize = 1000;

/// Makes a server's text fit to be shown: one line, no control characters, a bounded length.
pub(crate) fn shown(text: &str) -> String {
    let words = text.split(|character: char| character.is_control() || character.is_whitespace());
    let line = words
        .filter(|word| !word.is_empty())
        .collect::<Vec<_>>()
        .join(" ");
    line.chars().take(MAX_DETAIL_CHARS).collect()
}

/// Says why a request got no answer.
pub(crate) fn connect_error(registry: &str, error: reqwest::Error) -> RegistryError {
    let was_connected = !error.is_connect();
    let detail = if error.is_timeout() {
        "timed out waiting for an answer".to_owned()
    } else {
        innermost_cause(error)
    };
    // rustls says this when the first bytes are no TLS record.
    let detail = if detail.contains("InvalidContentType") {
        format!(
            "server gave HTTP response to HTTPS client; to use it without TLS, list {registry} in insecure-registries"
        )
    } else {
        detail
    };
    RegistryError::Connect {
        registry: registry.to_owned(),
        detail,
        was_connected,
    }
}

/// Finds the innermost cause and says it without the URL, whose query may hold secrets.
pub(crate) fn innermost_cause(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut cause: &dyn std::error::Error = &error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    shown(&cause.to_string())
}

fn with_colon(detail: &str) -> String {
    if detail.is_empty() {
        String::new()
    } else {
        format!(": {detail}")
    }
}

fn retry_hint(retry_after: &Option<Duration>) -> String {
    retry_after
        .map(|wait| format!(", try again in {} s", wait.as_secs()))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::{MAX_DETAIL_CHARS, shown};

    #[test]
    fn server_texts_are_made_harmless() {
        assert_eq!(shown("a\x1b[31m\nb\t c\0"), "a [31m b c");
        assert_eq!(shown(&"x".repeat(5000)).len(), MAX_DETAIL_CHARS);
    }
}
