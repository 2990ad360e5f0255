//! Request bodies: small ones read whole, large ones passed on as a stream.

use crate::go_json;
use crate::limits::{
    MAX_JSON_BODY_BYTES, MAX_UNREAD_BODY_BYTES, STREAM_CHUNKS, UNREAD_BODY_TIMEOUT,
};
use crate::respond::Failure;
use bytes::{Bytes, BytesMut};
use http::StatusCode;
use http::header::HeaderValue;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::sync::mpsc;

/// A request's body.
///
/// What is left of it when nobody wants more is read in the background, up to a limit: a client that still sends
/// when the connection ends would tell of that, and not of the answer.
#[derive(Debug)]
pub(crate) struct RequestBody(Option<Incoming>);

impl From<Incoming> for RequestBody {
    fn from(body: Incoming) -> Self {
        Self(Some(body))
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match &mut self.get_mut().0 {
            Some(body) => Pin::new(body).poll_frame(context),
            None => Poll::Ready(None),
        }
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        let Some(body) = self.0.take().filter(|body| !body.is_end_stream()) else {
            return;
        };
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(tokio::time::timeout(UNREAD_BODY_TIMEOUT, drain(body)));
        }
    }
}

/// Reads a body that nobody wants to its end, or to the limit.
async fn drain(mut body: Incoming) {
    let mut left = MAX_UNREAD_BODY_BYTES;
    while let Some(Ok(frame)) = body.frame().await {
        let length = frame.data_ref().map_or(0, Bytes::len);
        match left.checked_sub(length) {
            Some(rest) => left = rest,
            None => return,
        }
    }
}

/// Reads a whole body of at most [`MAX_JSON_BODY_BYTES`]; none at all is an empty one.
///
/// # Errors
/// 413 past the limit, 400 when the connection breaks.
pub(crate) async fn collect(body: Option<RequestBody>) -> Result<Bytes, Failure> {
    match body {
        Some(body) => collect_up_to(body, MAX_JSON_BODY_BYTES).await,
        None => Ok(Bytes::new()),
    }
}

async fn collect_up_to<B>(mut body: B, limit_bytes: usize) -> Result<Bytes, Failure>
where
    B: hyper::body::Body<Data = Bytes, Error: std::fmt::Display> + Unpin,
{
    let mut collected = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame
            .map_err(|error| Failure::bad_request(format!("reading the request body: {error}")))?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        if collected.len() + data.len() > limit_bytes {
            return Err(Failure::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                format!("request body is larger than the limit of {limit_bytes} bytes"),
            ));
        }
        collected.extend_from_slice(&data);
    }
    Ok(collected.freeze())
}

/// Passes a body on chunk by chunk, as fast as it is taken.
pub(crate) fn into_stream(body: Option<RequestBody>) -> mpsc::Receiver<io::Result<Bytes>> {
    let (sender, receiver) = mpsc::channel(STREAM_CHUNKS);
    let Some(mut body) = body else {
        return receiver;
    };
    tokio::spawn(async move {
        while let Some(frame) = body.frame().await {
            let chunk = match frame {
                Ok(frame) => frame.into_data().ok().map(Ok),
                Err(error) => Some(Err(io::Error::other(error))),
            };
            let Some(chunk) = chunk else { continue };
            if sender.send(chunk).await.is_err() {
                return;
            }
        }
    });
    receiver
}

/// Checks that a body calls itself JSON (spec engine-api §1).
pub(crate) fn check_json_content_type(value: Option<&HeaderValue>) -> Result<(), Failure> {
    let text = value
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let media_type = text.split(';').next().unwrap_or_default().trim();
    if media_type.is_empty() {
        return Err(Failure::bad_request(format!(
            "malformed Content-Type header ({text}): mime: no media type"
        )));
    }
    if media_type.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    Err(Failure::bad_request(format!(
        "unsupported Content-Type header ({text}): must be 'application/json'"
    )))
}

/// Parses exactly one JSON document.
pub(crate) fn parse_json(bytes: &[u8]) -> Result<Value, Failure> {
    let mut documents = serde_json::Deserializer::from_slice(bytes).into_iter::<Value>();
    let value = match documents.next() {
        None => return Err(empty_document()),
        Some(Err(error)) if error.is_eof() => {
            return Err(Failure::bad_request("invalid JSON: unexpected EOF"));
        }
        Some(Err(error)) => return Err(Failure::bad_request(format!("invalid JSON: {error}"))),
        Some(Ok(value)) => value,
    };
    let rest = bytes.get(documents.byte_offset()..).unwrap_or_default();
    if rest.iter().all(u8::is_ascii_whitespace) {
        return Ok(value);
    }
    Err(Failure::bad_request("unexpected content after JSON"))
}

/// Reads a parsed document into its type, as Go would (see [`go_json`]).
pub(crate) fn read_document<T: DeserializeOwned>(value: Value) -> Result<T, Failure> {
    go_json::from_value(value)
        .map_err(|error| Failure::bad_request(format!("invalid JSON: {error}")))
}

/// Returns docker's answer to a missing document.
pub(crate) fn empty_document() -> Failure {
    Failure::bad_request("invalid JSON: EOF")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_types() {
        let check =
            |text: &'static str| check_json_content_type(Some(&HeaderValue::from_static(text)));
        assert!(check("application/json").is_ok());
        assert!(check("Application/JSON; charset=utf-8").is_ok());
        assert_eq!(
            check("text/plain").expect_err("no JSON").message(),
            "unsupported Content-Type header (text/plain): must be 'application/json'"
        );
        assert_eq!(
            check_json_content_type(None).expect_err("absent").message(),
            "malformed Content-Type header (): mime: no media type"
        );
    }

    #[test]
    fn exactly_one_document() {
        assert!(parse_json(b" {\"a\":1} \n").is_ok());
        for (text, message) in [
            ("{", "invalid JSON: unexpected EOF"),
            (" ", "invalid JSON: EOF"),
            ("{} x", "unexpected content after JSON"),
        ] {
            assert_eq!(
                parse_json(text.as_bytes()).expect_err(text).message(),
                message
            );
        }
    }

    #[tokio::test]
    async fn bodies_have_a_limit() {
        let body = |length: usize| http_body_util::Full::new(Bytes::from(vec![b' '; length]));
        let limit = MAX_JSON_BODY_BYTES;
        assert!(collect_up_to(body(limit), limit).await.is_ok());
        let failure = collect_up_to(body(limit + 1), limit)
            .await
            .expect_err("too large");
        assert_eq!(failure.status(), StatusCode::PAYLOAD_TOO_LARGE);
    }

    #[test]
    fn deep_nesting_is_an_error() {
        let deep = "[".repeat(100_000);
        assert!(parse_json(deep.as_bytes()).is_err());
    }
}
