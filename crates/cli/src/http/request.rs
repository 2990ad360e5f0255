//! What is asked of a daemon.

use std::pin::Pin;

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::Frame;
use serde_json::Value as Json;

use crate::error::{CliError, Result};

type BoxError = Box<dyn std::error::Error + Send + Sync>;
pub(super) type RequestBody = UnsyncBoxBody<Bytes, BoxError>;
/// A stream of bytes to upload.
pub type Upload = Pin<Box<dyn Stream<Item = std::io::Result<Bytes>> + Send>>;

/// A request to be sent.
pub struct Request {
    method: Method,
    path: String,
    query: String,
    headers: HeaderMap,
    body: Body,
}

enum Body {
    Bytes(Bytes),
    Upload(Upload),
}

impl Request {
    /// Returns a request for a path without its version, such as `/containers/json`.
    #[must_use]
    pub fn new(method: Method, path: impl Into<String>) -> Self {
        Self {
            method,
            path: path.into(),
            query: String::new(),
            headers: HeaderMap::new(),
            body: Body::Bytes(Bytes::new()),
        }
    }

    /// Returns a GET request.
    #[must_use]
    pub fn get(path: impl Into<String>) -> Self {
        Self::new(Method::GET, path)
    }

    /// Returns a POST request without a body.
    #[must_use]
    pub fn post(path: impl Into<String>) -> Self {
        Self::new(Method::POST, path)
    }

    /// Returns a PUT request.
    #[must_use]
    pub fn put(path: impl Into<String>) -> Self {
        Self::new(Method::PUT, path)
    }

    /// Returns a DELETE request.
    #[must_use]
    pub fn delete(path: impl Into<String>) -> Self {
        Self::new(Method::DELETE, path)
    }

    /// Adds a query parameter; keys may repeat.
    #[must_use]
    pub fn query(mut self, key: &str, value: impl AsRef<str>) -> Self {
        let mut serializer = url::form_urlencoded::Serializer::new(std::mem::take(&mut self.query));
        serializer.append_pair(key, value.as_ref());
        self.query = serializer.finish();
        self
    }

    /// Adds a query parameter when there is a value.
    #[must_use]
    pub fn query_if(self, key: &str, value: Option<impl AsRef<str>>) -> Self {
        match value {
            Some(value) => self.query(key, value),
            None => self,
        }
    }

    /// Adds `key=1` when a flag is set.
    #[must_use]
    pub fn query_flag(self, key: &str, on: bool) -> Self {
        if on { self.query(key, "1") } else { self }
    }

    /// Adds a header; a value that no header can carry is left out.
    #[must_use]
    pub fn header(mut self, name: &'static str, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.insert(HeaderName::from_static(name), value);
        }
        self
    }

    /// Sets a JSON body.
    #[must_use]
    pub fn json(mut self, body: &Json) -> Self {
        self.body = Body::Bytes(Bytes::from(body.to_string()));
        self.header("content-type", "application/json")
    }

    /// Sets a streamed body of the given media type.
    #[must_use]
    pub fn upload(mut self, media_type: &str, upload: Upload) -> Self {
        self.body = Body::Upload(upload);
        self.header("content-type", media_type)
    }

    /// Sends what the request has in its query as a document before the body: its length (four bytes, big-endian), the
    /// document, the body as it was.
    #[must_use]
    pub fn framed(mut self, path: &str, document: impl FnOnce(String) -> Json) -> Self {
        let document = document(std::mem::take(&mut self.query)).to_string();
        let length = u32::try_from(document.len()).unwrap_or(u32::MAX);
        let mut beginning = length.to_be_bytes().to_vec();
        beginning.extend_from_slice(document.as_bytes());
        self.path = path.to_owned();
        self.body = match self.body {
            Body::Bytes(bytes) => {
                beginning.extend_from_slice(&bytes);
                Body::Bytes(Bytes::from(beginning))
            }
            Body::Upload(upload) => {
                let first = futures_util::stream::iter([Ok(Bytes::from(beginning))]);
                Body::Upload(Box::pin(first.chain(upload)))
            }
        };
        self
    }

    /// Returns how the request is named in messages.
    pub(super) fn describe(&self) -> String {
        format!("{} {}", self.method, self.path)
    }

    /// Returns the request in a version of the API; in none where that is empty.
    pub(super) fn into_http(self, version: &str) -> Result<http::Request<RequestBody>> {
        let describe = self.describe();
        let separator = if self.query.is_empty() { "" } else { "?" };
        let prefix = if version.is_empty() {
            String::new()
        } else {
            format!("/v{version}")
        };
        let body: RequestBody = match self.body {
            Body::Bytes(bytes) => Full::new(bytes)
                .map_err(|never| match never {})
                .boxed_unsync(),
            Body::Upload(upload) => {
                let frames = upload.map(|chunk| chunk.map(Frame::data).map_err(BoxError::from));
                BodyExt::boxed_unsync(StreamBody::new(frames))
            }
        };
        let mut request = http::Request::builder()
            .method(self.method)
            .uri(format!("{prefix}{}{separator}{}", self.path, self.query))
            .header(header::HOST, "docker")
            .header(
                header::USER_AGENT,
                concat!("wharf/", env!("CARGO_PKG_VERSION")),
            )
            .body(body)
            .map_err(|error| {
                CliError::transport(format!("making the request {describe}"), error)
            })?;
        request.headers_mut().extend(self.headers);
        Ok(request)
    }

    /// Returns the request once more, if its body is no stream.
    pub(super) fn try_clone(&self) -> Option<Self> {
        let Body::Bytes(bytes) = &self.body else {
            return None;
        };
        Some(Self {
            method: self.method.clone(),
            path: self.path.clone(),
            query: self.query.clone(),
            headers: self.headers.clone(),
            body: Body::Bytes(bytes.clone()),
        })
    }
}

/// Percent-encodes a name or id that becomes one part of a path; slashes of image names are kept.
#[must_use]
pub fn path_part(name: &str) -> String {
    let mut encoded = String::with_capacity(name.len());
    for byte in name.bytes() {
        match byte {
            b'a'..=b'z'
            | b'A'..=b'Z'
            | b'0'..=b'9'
            | b'-'
            | b'_'
            | b'.'
            | b'~'
            | b'/'
            | b':'
            | b'@' => {
                encoded.push(char::from(byte));
            }
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_encoded_for_paths() {
        assert_eq!(path_part("a/b:c@sha256:0"), "a/b:c@sha256:0");
        assert_eq!(path_part("a b?#%"), "a%20b%3F%23%25");
    }
}
