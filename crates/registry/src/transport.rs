//! Requests: authorised, retried, redirected; and what failures mean.

use crate::auth::Wish;
use crate::client::{Client, ClientOptions};
use crate::credentials::Credentials;
use crate::endpoint::{Endpoint, host_of, without_query};
use crate::error::{RegistryError, connect_error, shown};
use crate::scope::Scopes;
use bytes::{Bytes, BytesMut};
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue, LOCATION, RETRY_AFTER};
use reqwest::{Method, Response, StatusCode};
use serde::Deserialize;
use std::time::Duration;
use url::Url;

/// Most redirects followed for one request.
const MAX_REDIRECTS: usize = 10;
/// Longest wait a registry may ask for before its failure is reported instead.
const MAX_RETRY_WAIT: Duration = Duration::from_secs(60);
/// Most bytes read of a failure's body.
const MAX_FAILURE_BYTES: u64 = 64 * 1024;

/// Describes a request that can be made again.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) method: Method,
    pub(crate) url: Url,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Option<Bytes>,
    pub(crate) wish: Wish,
    /// Whether the address may see the credentials.
    pub(crate) sends_credentials: bool,
}

impl Call {
    pub(crate) fn new(
        method: Method,
        endpoint: &Endpoint,
        url: Url,
        scopes: Scopes,
        credentials: &Credentials,
    ) -> Self {
        let wish = Wish {
            registry: endpoint.registry.clone(),
            scopes,
            credentials: credentials.clone(),
        };
        Self {
            method,
            url,
            headers: HeaderMap::new(),
            body: None,
            wish,
            sends_credentials: true,
        }
    }

    pub(crate) fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.append(name, value);
        self
    }

    pub(crate) fn body(mut self, bytes: Bytes) -> Self {
        self.body = Some(bytes);
        self
    }

    /// Tells whether making the request twice does no harm. POST opens a session each time.
    fn is_repeatable(&self) -> bool {
        self.method != Method::POST
    }
}

impl Client {
    /// Makes a request and returns the response, whatever its status, after answering challenges,
    /// following redirects of reads, and waiting out overload and lost connections. A registry that
    /// cannot be connected to at all is reported at once.
    pub(crate) async fn send(&self, call: &Call) -> Result<Response, RegistryError> {
        let inner = self.inner();
        let options = &inner.options;
        let mut attempt = 1;
        loop {
            let outcome = self.send_authorized(call).await;
            let may_repeat = attempt < options.attempts;
            let wait = match &outcome {
                Ok(response) if is_overload(response.status()) => {
                    match retry_after(response.headers()) {
                        Some(wait) if wait > MAX_RETRY_WAIT => None,
                        wait => wait.or(Some(backoff(options, attempt))),
                    }
                }
                Err(RegistryError::Connect {
                    was_connected: true,
                    ..
                }) if call.is_repeatable() => Some(backoff(options, attempt)),
                _ => None,
            };
            match wait.filter(|_| may_repeat) {
                Some(wait) => tokio::time::sleep(wait).await,
                None => return outcome,
            }
            attempt += 1;
        }
    }

    /// Makes a request; when challenged, once more with an answer.
    async fn send_authorized(&self, call: &Call) -> Result<Response, RegistryError> {
        let inner = self.inner();
        let (endpoints, authorizer) = (&inner.endpoints, &inner.authorizer);
        if !call.sends_credentials {
            return self.send_following(call, None).await;
        }
        let header = authorizer.header(endpoints, &call.wish).await?;
        let response = self.send_following(call, header.as_deref()).await?;
        if response.status() != StatusCode::UNAUTHORIZED
            || !authorizer
                .challenged(&call.wish, response.headers(), header.as_deref())
                .await
        {
            return Ok(response);
        }
        let header = authorizer.header(endpoints, &call.wish).await?;
        self.send_following(call, header.as_deref()).await
    }

    /// Makes a request and follows redirects of GET and HEAD; `Authorization` goes to the first
    /// address's host only (attack case 24).
    async fn send_following(
        &self,
        call: &Call,
        authorization: Option<&str>,
    ) -> Result<Response, RegistryError> {
        let inner = self.inner();
        let registry = call.wish.registry.as_str();
        let mut url = call.url.clone();
        for _ in 0..=MAX_REDIRECTS {
            let client = inner.endpoints.client(registry, &url)?;
            let mut request = client
                .request(call.method.clone(), url.clone())
                .headers(call.headers.clone());
            if let Some(body) = &call.body {
                request = request.body(body.clone());
            }
            if let Some(value) = authorization.filter(|_| url.origin() == call.url.origin()) {
                request = request.header(AUTHORIZATION, secret_value(registry, value)?);
            }
            let response = request
                .send()
                .await
                .map_err(|error| connect_error(&host_of(&url), error))?;
            let is_read = matches!(call.method, Method::GET | Method::HEAD);
            if !is_read || !is_redirect(response.status()) {
                return Ok(response);
            }
            url = location(registry, &url, response.headers())?;
        }
        let reason = "too many redirects";
        Err(RegistryError::Redirect {
            registry: registry.to_owned(),
            target: without_query(&url),
            reason,
        })
    }

    /// Makes a request whose body can be read only once, with the header the session began with.
    pub(crate) async fn send_stream(
        &self,
        call: &Call,
        body: reqwest::Body,
    ) -> Result<Response, RegistryError> {
        let registry = call.wish.registry.as_str();
        let inner = self.inner();
        let endpoints = &inner.endpoints;
        let client = endpoints.client(registry, &call.url)?;
        let mut request = client
            .request(call.method.clone(), call.url.clone())
            .headers(call.headers.clone())
            .body(body);
        if call.sends_credentials
            && let Some(value) = inner.authorizer.header(endpoints, &call.wish).await?
        {
            request = request.header(AUTHORIZATION, secret_value(registry, &value)?);
        }
        request
            .send()
            .await
            .map_err(|error| connect_error(&host_of(&call.url), error))
    }
}

fn secret_value(registry: &str, text: &str) -> Result<HeaderValue, RegistryError> {
    let mut value = HeaderValue::from_str(text).map_err(|_| RegistryError::Unauthorized {
        registry: registry.to_owned(),
        detail: "the credentials have characters that cannot be sent".to_owned(),
    })?;
    value.set_sensitive(true);
    Ok(value)
}

/// Reads the `Location` of a response to `from`. A registry behind a TLS proxy may not know its own
/// scheme: its own host is never left for plain HTTP.
pub(crate) fn location(
    registry: &str,
    from: &Url,
    headers: &HeaderMap,
) -> Result<Url, RegistryError> {
    let text = headers.get(LOCATION).and_then(|value| value.to_str().ok());
    let mut target =
        text.and_then(|text| from.join(text).ok())
            .ok_or_else(|| RegistryError::Protocol {
                registry: registry.to_owned(),
                expected: "a Location header".to_owned(),
                found: text.map_or_else(|| "none".to_owned(), shown),
            })?;
    if from.scheme() == "https" && target.scheme() == "http" {
        if target.host() != from.host()
            || target.port().is_some_and(|port| Some(port) != from.port())
        {
            let reason = "the way leads from https to http";
            return Err(RegistryError::Redirect {
                registry: registry.to_owned(),
                target: without_query(&target),
                reason,
            });
        }
        // Both schemes are special ones, between which a URL can change.
        let _ = target.set_scheme("https");
        let _ = target.set_port(from.port());
    }
    if !target.username().is_empty() || target.password().is_some() {
        let reason = "the address holds credentials";
        return Err(RegistryError::Redirect {
            registry: registry.to_owned(),
            target: without_query(&target),
            reason,
        });
    }
    Ok(target)
}

fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

fn is_overload(status: StatusCode) -> bool {
    matches!(status.as_u16(), 429 | 500 | 502 | 503 | 504)
}

pub(crate) fn backoff(options: &ClientOptions, attempt: u32) -> Duration {
    options
        .first_retry_delay
        .saturating_mul(1 << attempt.saturating_sub(1).min(6))
        .min(MAX_RETRY_WAIT)
}

/// Reads `Retry-After` in seconds; dates are left to the usual backoff.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    headers
        .get(RETRY_AFTER)?
        .to_str()
        .ok()?
        .trim()
        .parse()
        .ok()
        .map(Duration::from_secs)
}

/// Reads a body of at most `limit_bytes`.
pub(crate) async fn read_capped(
    mut response: Response,
    limit_bytes: u64,
    what: &str,
    registry: &str,
) -> Result<Bytes, RegistryError> {
    let mut bytes = BytesMut::new();
    let too_large = || RegistryError::TooLarge {
        what: what.to_owned(),
        registry: registry.to_owned(),
        limit_bytes,
    };
    if response
        .content_length()
        .is_some_and(|length| length > limit_bytes)
    {
        return Err(too_large());
    }
    while let Some(chunk) = response
        .chunk()
        .await
        .map_err(|error| connect_error(registry, error))?
    {
        bytes.extend_from_slice(&chunk);
        if bytes.len() as u64 > limit_bytes {
            return Err(too_large());
        }
    }
    Ok(bytes.freeze())
}

#[derive(Deserialize)]
struct FailureBody {
    #[serde(default)]
    errors: Vec<FailureEntry>,
    /// What token servers say.
    #[serde(default)]
    details: Option<String>,
}

#[derive(Deserialize)]
struct FailureEntry {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

/// Reads the registry's own words about a failure: `code: message` in docker's spelling (OCI
/// distribution specification, error codes). `None` when there are none.
pub(crate) async fn failure_detail(response: Response) -> Option<String> {
    let bytes = read_capped(response, MAX_FAILURE_BYTES, "failure", "")
        .await
        .ok()?;
    let body: FailureBody = serde_json::from_slice(&bytes).ok()?;
    let entries = body.errors.iter().map(|entry| {
        let code = shown(&entry.code.to_lowercase().replace('_', " "));
        let message = shown(&entry.message);
        match (code.is_empty(), message.is_empty()) {
            (true, _) => message,
            (false, true) => code,
            (false, false) => format!("{code}: {message}"),
        }
    });
    let text = entries
        .filter(|text| !text.is_empty())
        .collect::<Vec<_>>()
        .join("; ");
    Some(if text.is_empty() {
        shown(&body.details?)
    } else {
        text
    })
}

/// Says what a failed response means when it has no special meaning for the request.
pub(crate) async fn failure(endpoint: &Endpoint, what: &str, response: Response) -> RegistryError {
    let (status, retry_after) = (response.status().as_u16(), retry_after(response.headers()));
    let detail = failure_detail(response).await.unwrap_or_default();
    let or = |fallback: &str| {
        if detail.is_empty() {
            fallback.to_owned()
        } else {
            detail.clone()
        }
    };
    let (registry, path) = (endpoint.registry.clone(), endpoint.path.clone());
    match status {
        401 => RegistryError::Unauthorized {
            registry,
            detail: or("unauthorized: authentication required"),
        },
        403 => RegistryError::Denied {
            registry,
            path,
            detail: or("denied: requested access to the resource is denied"),
        },
        429 => RegistryError::RateLimited {
            registry,
            detail: or("toomanyrequests"),
            retry_after,
        },
        status => RegistryError::Status {
            what: what.to_owned(),
            registry,
            status,
            detail,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::location;
    use reqwest::header::{HeaderMap, HeaderValue, LOCATION};
    use url::Url;

    #[test]
    fn locations_are_judged() {
        let cases = [
            ("https://r/v2/a/", "/x?y=1", Some("https://r/x?y=1")),
            ("https://r/v2/a/", "b", Some("https://r/v2/a/b")),
            (
                "https://r/v2/a/",
                "https://other/x",
                Some("https://other/x"),
            ),
            ("https://r/v2/a/", "http://r/x", Some("https://r/x")),
            (
                "https://r:5000/v2/a/",
                "http://r:5000/x",
                Some("https://r:5000/x"),
            ),
            ("https://r/v2/a/", "http://other/x", None),
            ("https://r/v2/a/", "http://r:81/x", None),
            ("https://r/v2/a/", "https://u:p@other/x", None),
            ("http://r/v2/a/", "http://other/x", Some("http://other/x")),
            ("https://r/v2/a/", "https://", None),
        ];
        for (from, text, expected) in cases {
            let from = Url::parse(from).expect("address");
            let mut headers = HeaderMap::new();
            headers.insert(LOCATION, HeaderValue::from_static(text));
            let found = location("r", &from, &headers).ok();
            assert_eq!(found.as_ref().map(Url::as_str), expected, "{from} {text}");
        }
        let from = Url::parse("https://r/").expect("address");
        assert!(location("r", &from, &HeaderMap::new()).is_err());
    }
}
