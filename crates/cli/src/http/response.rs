//! What a daemon answers.

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde::de::DeserializeOwned;
use serde_json::Value as Json;

use crate::error::{CliError, Result};

/// Largest JSON answer that is read as a whole, in bytes.
pub(super) const ANSWER_LIMIT_BYTES: usize = 256 * 1024 * 1024;
/// Largest error answer, in bytes; the rest is cut.
pub(super) const ERROR_LIMIT_BYTES: usize = 1024 * 1024;

/// An answer whose body is still to be read.
pub struct Response {
    /// HTTP status.
    pub status: StatusCode,
    /// HTTP headers.
    pub headers: HeaderMap,
    body: Incoming,
    describe: String,
}

impl Response {
    /// Reads the whole body as JSON.
    pub async fn json<T: DeserializeOwned>(self) -> Result<T> {
        let request = self.describe.clone();
        let bytes = self.bytes(ANSWER_LIMIT_BYTES).await?;
        // An empty answer (HEAD, 204) reads as JSON's null.
        let text: &[u8] = if bytes.is_empty() { b"null" } else { &bytes };
        serde_json::from_slice(text).map_err(|source| CliError::Decode { request, source })
    }

    /// Reads the whole body, failing when it is larger than the limit.
    pub async fn bytes(mut self, limit_bytes: usize) -> Result<Bytes> {
        let mut whole = BytesMut::new();
        while let Some(chunk) = self.chunk().await? {
            if whole.len() + chunk.len() > limit_bytes {
                return Err(CliError::transport(
                    self.describe,
                    format!("the answer is larger than {limit_bytes} bytes"),
                ));
            }
            whole.extend_from_slice(&chunk);
        }
        Ok(whole.freeze())
    }

    /// Returns the next piece of the body, or nothing at its end.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>> {
        while let Some(frame) = self.body.frame().await {
            let frame = frame.map_err(|error| CliError::transport(self.describe.clone(), error))?;
            if let Ok(data) = frame.into_data()
                && !data.is_empty()
            {
                return Ok(Some(data));
            }
        }
        Ok(None)
    }
}

/// Returns the answer, or what the daemon says is wrong.
pub(super) async fn checked(
    response: http::Response<Incoming>,
    describe: &str,
) -> Result<Response> {
    let (parts, body) = response.into_parts();
    let mut response = Response {
        status: parts.status,
        headers: parts.headers,
        body,
        describe: describe.to_owned(),
    };
    if parts.status.as_u16() < 400 {
        return Ok(response);
    }
    let mut text = Vec::new();
    while text.len() < ERROR_LIMIT_BYTES
        && let Ok(Some(chunk)) = response.chunk().await
    {
        text.extend_from_slice(&chunk[..chunk.len().min(ERROR_LIMIT_BYTES - text.len())]);
    }
    Err(CliError::Daemon {
        status: parts.status.as_u16(),
        message: error_message(&text, parts.status),
    })
}

fn error_message(body: &[u8], status: StatusCode) -> String {
    let json: Option<Json> = serde_json::from_slice(body).ok();
    let message = json
        .as_ref()
        .and_then(|json| json["message"].as_str())
        .map(str::to_owned);
    let text = message.unwrap_or_else(|| String::from_utf8_lossy(body).into_owned());
    let text = text.trim();
    if text.is_empty() {
        format!("the request failed with status {status}")
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_texts() {
        assert_eq!(
            error_message(br#"{"message":"m"}"#, StatusCode::NOT_FOUND),
            "m"
        );
        assert_eq!(error_message(b"plain\r\n", StatusCode::NOT_FOUND), "plain");
        assert!(error_message(b"", StatusCode::BAD_GATEWAY).contains("502"));
    }
}
