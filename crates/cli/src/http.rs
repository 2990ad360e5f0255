//! The Engine API over HTTP/1.1 on a unix socket: requests, answers, errors (engine-api.md §1).

use std::pin::Pin;
use std::sync::{Arc, Mutex};

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::{Frame, Incoming};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use serde_json::Value as Json;

use crate::connection::{self, Host, Stream as Connection};
use crate::error::{CliError, Result};

/// Newest version of the Engine API the client speaks.
pub const API_VERSION: &str = "1.51";
/// Largest JSON answer that is read as a whole, in bytes.
pub const ANSWER_LIMIT_BYTES: usize = 256 * 1024 * 1024;
/// Largest error answer, in bytes; the rest is cut.
pub const ERROR_LIMIT_BYTES: usize = 1024 * 1024;

type BoxError = Box<dyn std::error::Error + Send + Sync>;
type RequestBody = UnsyncBoxBody<Bytes, BoxError>;
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

    fn describe(&self) -> String {
        format!("{} {}", self.method, self.path)
    }

    fn into_http(self, version: &str) -> Result<http::Request<RequestBody>> {
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

    fn try_clone(&self) -> Option<Self> {
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

/// A client of one daemon. Clones share what was learned about it.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
}

struct Shared {
    host: Host,
    may_start_daemon: bool,
    version: Mutex<String>,
    /// The caller chose the version: it stays.
    is_version_fixed: bool,
    /// Headers of every request.
    headers: HeaderMap,
    trace: Trace,
    talk: Talk,
}

/// Tells the user something.
pub type Talk = Arc<dyn Fn(&str) + Send + Sync>;

/// Tells about each request, where the user wants to know.
pub type Trace = Option<Talk>;

/// How a client speaks, beside to whom.
#[derive(Default)]
pub struct ClientOptions {
    /// Version of the API to speak, whatever the daemon's is.
    pub version: Option<String>,
    /// Headers to add to every request; what no header can carry is left out.
    pub headers: Vec<(String, String)>,
    /// Told about each request.
    pub trace: Trace,
}

impl Client {
    /// Returns a client; nothing is connected yet. `talk` is told when a daemon is started.
    #[must_use]
    pub fn new(host: Host, options: ClientOptions, talk: Talk) -> Self {
        // Only root can run a daemon; for everyone else the plain refusal says more.
        let may_start_daemon = !host.is_explicit && rustix::process::geteuid().is_root();
        let is_version_fixed = options.version.is_some();
        let version = Mutex::new(options.version.unwrap_or_else(|| API_VERSION.to_owned()));
        let headers = options.headers.iter().filter_map(|(name, value)| {
            let name: HeaderName = name.parse().ok()?;
            Some((name, HeaderValue::from_str(value).ok()?))
        });
        let headers = headers.collect();
        Self {
            shared: Arc::new(Shared {
                host,
                may_start_daemon,
                version,
                is_version_fixed,
                headers,
                trace: options.trace,
                talk,
            }),
        }
    }

    /// Returns the daemon's address.
    #[must_use]
    pub fn host(&self) -> &Host {
        &self.shared.host
    }

    /// Returns the version of the API in use, without its `v`.
    #[must_use]
    pub fn version(&self) -> String {
        self.shared
            .version
            .lock()
            .map(|version| version.clone())
            .unwrap_or_default()
    }

    /// Sends a request and returns the answer, of a status below 400.
    ///
    /// A daemon that is too old for [`API_VERSION`] names its newest version in its refusal; the request is then
    /// sent again in that version, so that no round trip is spent on asking first.
    pub async fn send(&self, request: Request) -> Result<Response> {
        let again = request.try_clone();
        match (self.send_once(request).await, again) {
            (
                Err(CliError::Daemon {
                    status: 400,
                    message,
                }),
                Some(again),
            ) => match older_version(&message).filter(|_| !self.shared.is_version_fixed) {
                Some(version) => {
                    self.set_version(&version);
                    self.send_once(again).await
                }
                None => Err(CliError::Daemon {
                    status: 400,
                    message,
                }),
            },
            (result, _) => result,
        }
    }

    /// Asks for `/_ping`, adopts the daemon's version if it is older, and returns the answer's headers.
    pub async fn ping(&self) -> Result<HeaderMap> {
        let response = self.exchange(Request::get("/_ping"), "").await?;
        let headers = response.headers().clone();
        if let Some(version) = headers
            .get("api-version")
            .and_then(|value| value.to_str().ok())
            && version_number(version) < version_number(API_VERSION)
            && !self.shared.is_version_fixed
        {
            self.set_version(version);
        }
        Ok(headers)
    }

    /// Sends a request whose answer turns the connection into a raw stream (engine-api.md §2.2).
    pub async fn upgrade(&self, request: Request) -> Result<TokioIo<Upgraded>> {
        let describe = request.describe();
        let request = request
            .header("connection", "Upgrade")
            .header("upgrade", "tcp");
        let response = self.exchange(request, &self.version()).await?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            let response = checked(response, &describe).await?;
            return Err(CliError::transport(
                describe,
                format!(
                    "the daemon answered {} where a stream was expected",
                    response.status
                ),
            ));
        }
        let upgraded = hyper::upgrade::on(response).await.map_err(|error| {
            CliError::transport(format!("taking over the stream of {describe}"), error)
        })?;
        Ok(TokioIo::new(upgraded))
    }

    /// Sends a GET request and reads its JSON answer.
    pub async fn get_json<T: DeserializeOwned>(&self, path: impl Into<String>) -> Result<T> {
        self.send(Request::get(path)).await?.json().await
    }

    async fn send_once(&self, request: Request) -> Result<Response> {
        let describe = request.describe();
        let response = self.exchange(request, &self.version()).await?;
        checked(response, &describe).await
    }

    async fn exchange(&self, request: Request, version: &str) -> Result<http::Response<Incoming>> {
        let describe = request.describe();
        let mut request = request.into_http(version)?;
        let own = self.shared.headers.iter();
        request
            .headers_mut()
            .extend(own.map(|(name, value)| (name.clone(), value.clone())));
        if let Some(trace) = &self.shared.trace {
            trace(&format!("debug: {} {}", request.method(), request.uri()));
        }
        let stream = self.open().await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| CliError::transport(describe.clone(), error))?;
        tokio::spawn(connection.with_upgrades());
        sender
            .send_request(request)
            .await
            .map_err(|error| CliError::transport(describe, error))
    }

    async fn open(&self) -> Result<Connection> {
        match self.shared.host.connect().await {
            Err(CliError::NoDaemon { .. }) if self.shared.may_start_daemon => {
                (self.shared.talk)("no daemon is running: starting one in the background");
                connection::start_daemon(&self.shared.host).await
            }
            other => other,
        }
    }

    /// Opens a bare connection to the daemon, starting one if need be.
    pub async fn connect(&self) -> Result<Connection> {
        self.open().await
    }

    /// Returns a client of the same daemon that never starts it.
    #[must_use]
    pub fn without_start(&self) -> Self {
        Self {
            shared: Arc::new(Shared {
                host: self.shared.host.clone(),
                may_start_daemon: false,
                version: Mutex::new(self.version()),
                is_version_fixed: self.shared.is_version_fixed,
                headers: self.shared.headers.clone(),
                trace: self.shared.trace.clone(),
                talk: Arc::new(|_| {}),
            }),
        }
    }

    fn set_version(&self, version: &str) {
        if let Ok(mut current) = self.shared.version.lock() {
            version.clone_into(&mut current);
        }
    }
}

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

async fn checked(response: http::Response<Incoming>, describe: &str) -> Result<Response> {
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

/// Returns the daemon's newest version from its refusal of a newer one (engine-api.md §1).
fn older_version(message: &str) -> Option<String> {
    let (_, version) = message.split_once("is too new. Maximum supported API version is ")?;
    let version: String = version
        .chars()
        .take_while(|c| c.is_ascii_digit() || *c == '.')
        .collect();
    let version = version.trim_end_matches('.').to_owned();
    (version_number(&version) < version_number(API_VERSION)).then_some(version)
}

fn version_number(version: &str) -> (u32, u32) {
    let (major, minor) = version.split_once('.').unwrap_or((version, "0"));
    (major.parse().unwrap_or(0), minor.parse().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_encoded_for_paths() {
        assert_eq!(path_part("a/b:c@sha256:0"), "a/b:c@sha256:0");
        assert_eq!(path_part("a b?#%"), "a%20b%3F%23%25");
    }

    #[test]
    fn the_refusal_of_an_older_daemon_names_its_version() {
        let text = "client version 1.51 is too new. Maximum supported API version is 1.41";
        assert_eq!(older_version(text).as_deref(), Some("1.41"));
        assert_eq!(
            older_version("is too new. Maximum supported API version is 1.99"),
            None
        );
        assert_eq!(older_version("no"), None);
        assert!(version_number("1.9") < version_number("1.10"));
    }

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
