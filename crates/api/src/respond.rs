//! Answers: the body type, JSON and error documents, the headers every answer carries.

use crate::version::{API_VERSION, ENGINE_VERSION};
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Response, StatusCode};
use hyper::body::{Frame, SizeHint};
use serde::Serialize;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::sync::mpsc;
use wharf_engine::{EngineError, ErrorKind};

/// The exact value: Go's client compares this header by equality (spec engine-api §1).
pub(crate) const JSON: &str = "application/json";
/// Content type of tars.
pub(crate) const TAR: &str = "application/x-tar";

/// What a handler gives back.
pub(crate) type Answer = Result<Response<Body>, Failure>;

/// The body of an answer.
pub(crate) enum Body {
    /// All there is.
    Whole(Bytes),
    /// Chunks as they come; an error cuts the connection, so that a client never takes a part for
    /// the whole.
    Stream(mpsc::Receiver<io::Result<Bytes>>),
}

impl Body {
    /// Returns a body without bytes.
    pub(crate) fn empty() -> Self {
        Self::Whole(Bytes::new())
    }
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match &mut *self {
            Self::Whole(bytes) if bytes.is_empty() => Poll::Ready(None),
            Self::Whole(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Self::Stream(receiver) => receiver
                .poll_recv(context)
                .map(|chunk| chunk.map(|chunk| chunk.map(Frame::data))),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(bytes) if bytes.is_empty())
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Stream(_) => SizeHint::default(),
        }
    }
}

/// An answer that says what went wrong: status and docker's error text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    status: StatusCode,
    message: String,
}

impl Failure {
    /// Makes a failure with any status.
    pub(crate) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
        }
    }

    /// Makes a 400.
    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    /// Makes the 404 of a path or method that does not exist.
    pub(crate) fn page_not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "page not found")
    }

    /// Makes a 501.
    pub(crate) fn not_implemented(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_IMPLEMENTED, message)
    }

    /// Puts `prefix: ` before the text.
    pub(crate) fn context(mut self, prefix: &str) -> Self {
        self.message = format!("{prefix}: {}", self.message);
        self
    }

    /// Returns the text.
    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    /// Returns the status.
    pub(crate) fn status(&self) -> StatusCode {
        self.status
    }

    /// Turns the failure into `{"message": …}` and a line end (spec engine-api §1.2).
    pub(crate) fn into_response(self) -> Response<Body> {
        if self.status == StatusCode::NOT_MODIFIED {
            return status(self.status);
        }
        #[derive(Serialize)]
        struct Document {
            message: String,
        }
        let status = self.status;
        json_with_status(
            status,
            &Document {
                message: self.message,
            },
        )
        .unwrap_or_else(|failure| {
            let mut response = Response::new(Body::Whole(Bytes::from(failure.message)));
            *response.status_mut() = status;
            response
        })
    }

    /// Turns the failure into plain text, which clients before 1.24 read (spec engine-api §1.2).
    pub(crate) fn into_plain_response(self) -> Response<Body> {
        let mut response = Response::new(Body::Whole(Bytes::from(format!("{}\n", self.message))));
        *response.status_mut() = self.status;
        set_content_type(&mut response, "text/plain; charset=utf-8");
        response
    }
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Self {
        Self::new(status_of(error.kind()), error.message())
    }
}

/// Maps an engine error's kind to its HTTP status (spec engine-api §1.2): the one place that does.
pub(crate) fn status_of(kind: ErrorKind) -> StatusCode {
    match kind {
        ErrorKind::Invalid => StatusCode::BAD_REQUEST,
        ErrorKind::NotFound => StatusCode::NOT_FOUND,
        ErrorKind::Conflict => StatusCode::CONFLICT,
        ErrorKind::NotModified => StatusCode::NOT_MODIFIED,
        ErrorKind::Unauthorized => StatusCode::UNAUTHORIZED,
        ErrorKind::Forbidden => StatusCode::FORBIDDEN,
        ErrorKind::NotImplemented => StatusCode::NOT_IMPLEMENTED,
        ErrorKind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        ErrorKind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// Answers 200 with a JSON document and a line end.
pub(crate) fn json<T: Serialize>(document: &T) -> Answer {
    json_with_status(StatusCode::OK, document)
}

/// Answers with a JSON document and a line end.
pub(crate) fn json_with_status<T: Serialize>(status: StatusCode, document: &T) -> Answer {
    let mut bytes = serde_json::to_vec(document).map_err(|error| {
        Failure::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("encoding the answer: {error}"),
        )
    })?;
    bytes.push(b'\n');
    let mut response = Response::new(Body::Whole(Bytes::from(bytes)));
    *response.status_mut() = status;
    set_content_type(&mut response, JSON);
    Ok(response)
}

/// Answers with a status and no body.
pub(crate) fn status(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

/// Answers 204.
pub(crate) fn no_content() -> Answer {
    Ok(status(StatusCode::NO_CONTENT))
}

/// Answers 200 with chunks as they come.
pub(crate) fn stream(
    content_type: &'static str,
    chunks: mpsc::Receiver<io::Result<Bytes>>,
) -> Response<Body> {
    let mut response = Response::new(Body::Stream(chunks));
    set_content_type(&mut response, content_type);
    response
}

/// Sets the content type.
pub(crate) fn set_content_type(response: &mut Response<Body>, content_type: &'static str) {
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
}

/// Adds the headers that every answer carries (spec engine-api §1); `Date` comes from hyper.
pub(crate) fn add_common_headers(response: &mut Response<Body>) {
    let headers = response.headers_mut();
    headers.insert("api-version", HeaderValue::from_static(API_VERSION));
    headers.insert("docker-experimental", HeaderValue::from_static("false"));
    headers.insert("ostype", HeaderValue::from_static("linux"));
    if let Ok(server) = HeaderValue::from_str(&format!("Docker/{ENGINE_VERSION} (linux)")) {
        headers.insert("server", server);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body_text(response: Response<Body>) -> String {
        match response.into_body() {
            Body::Whole(bytes) => String::from_utf8(bytes.to_vec()).expect("text"),
            Body::Stream(_) => panic!("a whole body was expected"),
        }
    }

    #[test]
    fn errors_are_json_with_the_exact_content_type() {
        let response =
            Failure::from(EngineError::not_found("No such container: x")).into_response();
        assert_eq!(response.status(), StatusCode::NOT_FOUND);
        assert_eq!(
            response.headers().get(CONTENT_TYPE),
            Some(&HeaderValue::from_static(JSON))
        );
        assert_eq!(
            body_text(response),
            "{\"message\":\"No such container: x\"}\n"
        );
    }

    #[test]
    fn not_modified_has_no_body() {
        let response = Failure::from(EngineError::not_modified()).into_response();
        assert_eq!(response.status(), StatusCode::NOT_MODIFIED);
        assert_eq!(body_text(response), "");
    }

    #[test]
    fn text_is_not_escaped_for_html() {
        let response = Failure::bad_request("a<b>&c").into_response();
        assert_eq!(body_text(response), "{\"message\":\"a<b>&c\"}\n");
    }
}
