//! The engine's one error type: a kind that callers can act on and a text for the user.

use std::fmt;

/// Classifies an [`EngineError`]; the API room maps each kind to one HTTP status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The request itself is wrong.
    Invalid,
    /// The named thing does not exist.
    NotFound,
    /// The thing is in a state that forbids the request.
    Conflict,
    /// Nothing had to be done (already started, already stopped).
    NotModified,
    /// Credentials are missing or wrong.
    Unauthorized,
    /// The request is understood and refused.
    Forbidden,
    /// The feature does not exist here.
    NotImplemented,
    /// The feature exists but is switched off.
    Unavailable,
    /// Everything else: disk, kernel, network.
    Internal,
}

/// Reports why a use case failed: kind, text for the user, and the causes below it.
#[derive(Debug)]
pub struct EngineError {
    kind: ErrorKind,
    message: String,
    exit_code: Option<i32>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl EngineError {
    /// Makes an error of `kind` with the text a user sees.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            exit_code: None,
            source: None,
        }
    }

    /// Makes an [`ErrorKind::Invalid`] error.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Invalid, message)
    }

    /// Makes an [`ErrorKind::NotFound`] error.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::NotFound, message)
    }

    /// Makes an [`ErrorKind::Conflict`] error.
    pub fn conflict(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Conflict, message)
    }

    /// Makes an [`ErrorKind::Internal`] error.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Internal, message)
    }

    /// Makes an [`ErrorKind::NotImplemented`] error.
    pub fn not_implemented(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::NotImplemented, message)
    }

    /// Makes the [`ErrorKind::NotModified`] answer.
    pub fn not_modified() -> Self {
        Self::new(ErrorKind::NotModified, "not modified")
    }

    /// Adds what was being done and keeps the cause; the shown text is `context: cause`.
    pub fn wrap<E>(kind: ErrorKind, context: impl fmt::Display, source: E) -> Self
    where
        E: std::error::Error + Send + Sync + 'static,
    {
        Self {
            kind,
            message: format!("{context}: {}", with_causes(&source)),
            exit_code: None,
            source: Some(Box::new(source)),
        }
    }

    /// Adds the exit code of the build step that failed.
    #[must_use]
    pub fn with_exit_code(self, exit_code: Option<i32>) -> Self {
        Self { exit_code, ..self }
    }

    /// Returns the exit code of the build step that failed, if one did.
    pub fn exit_code(&self) -> Option<i32> {
        self.exit_code
    }

    /// Returns the kind.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Returns the text a user sees.
    pub fn message(&self) -> &str {
        &self.message
    }
}

/// Joins an error's text with those of its causes that it does not already contain.
fn with_causes(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let next_text = next.to_string();
        if !text.contains(&next_text) {
            text.push_str(": ");
            text.push_str(&next_text);
        }
        cause = next.source();
    }
    text
}

impl fmt::Display for EngineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for EngineError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

/// The result of a use case.
pub type Result<T, E = EngineError> = std::result::Result<T, E>;
