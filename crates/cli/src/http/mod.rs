//! The Engine API over HTTP/1.1 on a unix socket: requests, answers, errors (engine-api.md §1).

mod request;
mod response;

use std::sync::{Arc, Mutex};

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use hyper::body::Incoming;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;

use crate::connection::{self, Host, Stream as Connection};
use crate::error::{CliError, Result};

pub use request::{Request, Upload, path_part};
pub use response::Response;

use response::checked;

/// Newest version of the Engine API the client speaks.
pub const API_VERSION: &str = "1.51";

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
}
