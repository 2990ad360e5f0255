//! From a request to its handler: version prefix, route, common headers (spec engine-api §1).

use crate::body::{self, RequestBody};
use crate::call::{Call, Peer};
use crate::metrics::Metrics;
use crate::query::{self, Query};
use crate::respond::{self, Answer, Body, Failure};
use crate::routes::{ROUTES, Route};
use crate::version::ApiVersion;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderValue, LOCATION, ORIGIN, UPGRADE};
use http::request::Parts;
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use std::sync::Arc;
use std::time::Instant;
use wharf_engine::Engine;

/// The oldest version whose clients read errors as JSON.
const FIRST_JSON_ERRORS: &str = "1.24";

/// What requests to unknown paths are counted under.
const NO_ROUTE: &str = "none";
/// Answer to a web page that speaks to an unprotected TCP socket.
const FROM_A_BROWSER: &str = "requests from web pages are refused: protect the socket with TLS";

/// Answers one request.
pub(crate) async fn dispatch(
    engine: Arc<Engine>,
    metrics: Arc<Metrics>,
    peer: Peer,
    request: Request<Incoming>,
) -> Response<Body> {
    let began = Instant::now();
    let (parts, body) = request.into_parts();
    let (method, uri) = (parts.method.clone(), parts.uri.clone());
    let mut pattern = NO_ROUTE;
    let outcome = route(engine, peer, parts, body, &mut pattern).await;
    let mut response = match outcome {
        Ok(response) => response,
        Err(Refusal::Json(failure)) => failure.into_response(),
        Err(Refusal::Plain(failure)) => failure.into_plain_response(),
    };
    respond::add_common_headers(&mut response);
    let took = began.elapsed();
    metrics.answered(&method, pattern, response.status(), took);
    tracing::debug!(
        %method,
        path = uri.path(),
        status = response.status().as_u16(),
        took_ms = took.as_millis(),
        "request"
    );
    response
}

/// A failure, in the form its client reads.
enum Refusal {
    Json(Failure),
    Plain(Failure),
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        Self::Json(failure)
    }
}

async fn route(
    engine: Arc<Engine>,
    peer: Peer,
    mut parts: Parts,
    body: Incoming,
    pattern: &mut &'static str,
) -> Result<Response<Body>, Refusal> {
    if peer.refuses_browsers && parts.headers.contains_key(ORIGIN) {
        return Err(Failure::new(StatusCode::FORBIDDEN, FROM_A_BROWSER).into());
    }
    if parts.method == Method::OPTIONS {
        return Ok(respond::status(StatusCode::OK));
    }
    let body = RequestBody::from(body);
    let path = query::percent_decode(parts.uri.path())?;
    let (version, path) = split_version(&path);
    let (route, name) = match find(&parts.method, path) {
        Found::Route(route, name) => (route, name.to_owned()),
        Found::Elsewhere(clean) => return Ok(redirect(version, &clean, parts.uri.query())?),
        Found::Nothing => return Err(Failure::page_not_found().into()),
    };
    *pattern = route.pattern;
    let version = check_version(version)?;
    let mut query = Query::parse(parts.uri.query().unwrap_or_default())?;
    let upgrade = parts
        .headers
        .contains_key(UPGRADE)
        .then(|| parts.extensions.remove::<hyper::upgrade::OnUpgrade>())
        .flatten();
    let mut body = Some(body);
    if is_form(&parts.headers) {
        query.extend(&body::collect(body.take()).await?)?;
    }
    let policy = peer.policy.get();
    let method = parts.method;
    let mut call = Call {
        engine,
        version,
        name,
        query,
        headers: parts.headers,
        body,
        peer,
        upgrade,
    };
    policy.admit(&method, route, &mut call)?;
    Ok((route.handler)(call).await?)
}

/// Splits `/v1.43/path` into version and path; paths without a version stay as they are.
fn split_version(path: &str) -> (Option<&str>, &str) {
    let Some(rest) = path.strip_prefix("/v") else {
        return (None, path);
    };
    let end = rest.find('/').unwrap_or(rest.len());
    let (version, path_behind) = rest.split_at(end);
    let is_version = !version.is_empty()
        && version
            .bytes()
            .all(|byte| byte.is_ascii_digit() || byte == b'.');
    if is_version {
        (Some(version), path_behind)
    } else {
        (None, path)
    }
}

fn check_version(version: Option<&str>) -> Result<ApiVersion, Refusal> {
    let Some(text) = version else {
        return Ok(ApiVersion::newest());
    };
    ApiVersion::from_path(text).map_err(|failure| {
        let is_ancient = crate::version::compare(text, FIRST_JSON_ERRORS).is_lt();
        if is_ancient {
            Refusal::Plain(failure)
        } else {
            Refusal::Json(failure)
        }
    })
}

/// What a path leads to.
#[derive(Debug)]
enum Found<'a> {
    /// A handler, and the pattern's parameter.
    Route(&'static Route, &'a str),
    /// The path in its clean form, which is somewhere else.
    Elsewhere(String),
    Nothing,
}

/// Finds the route of a decoded path.
///
/// A path with `//`, `.` or `..` in it is sent on to its clean form, as docker's router does. The
/// exception is a container name with its slash (`/containers//name/start`), which is served.
fn find<'a>(method: &Method, path: &'a str) -> Found<'a> {
    let matching = ROUTES
        .iter()
        .filter(|route| route.methods.contains(method))
        .find_map(|route| Some((route, match_pattern(route.pattern, path)?)));
    let clean = clean_path(path);
    let has_name_with_slash = |name: &str| {
        name.strip_prefix('/')
            .is_some_and(|name| !name.is_empty() && !name.contains("//"))
            && clean.len() + 1 == path.len()
    };
    match matching {
        Some((route, name)) if clean == path || has_name_with_slash(name) => {
            Found::Route(route, name)
        }
        _ if clean != path => Found::Elsewhere(clean),
        _ => Found::Nothing,
    }
}

/// Matches a pattern such as `/images/{name}/json`, whose parameter may contain slashes; returns
/// the parameter, empty for a pattern without one.
fn match_pattern<'a>(pattern: &str, path: &'a str) -> Option<&'a str> {
    let Some((head, rest)) = pattern.split_once('{') else {
        return (pattern == path).then_some("");
    };
    let tail = rest.split_once('}').map_or("", |(_, tail)| tail);
    path.strip_prefix(head)?.strip_suffix(tail)
}

/// Removes empty, `.` and `..` segments; a slash at the end stays.
fn clean_path(path: &str) -> String {
    let mut segments: Vec<&str> = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => {
                segments.pop();
            }
            other => segments.push(other),
        }
    }
    let mut clean = format!("/{}", segments.join("/"));
    if path.ends_with('/') && clean != "/" {
        clean.push('/');
    }
    if path.is_empty() {
        String::new()
    } else {
        clean
    }
}

fn redirect(version: Option<&str>, path: &str, query: Option<&str>) -> Answer {
    let version = version
        .map(|version| format!("/v{version}"))
        .unwrap_or_default();
    let query = query.map(|query| format!("?{query}")).unwrap_or_default();
    // Behind a version nothing is left of a path that led out of everything.
    let path = if version.is_empty() || path != "/" {
        path
    } else {
        ""
    };
    let location: String = format!("{version}{path}{query}");
    let location = HeaderValue::from_str(&location.replace(' ', "%20"))
        .map_err(|_| Failure::page_not_found())?;
    let mut response = respond::status(StatusCode::MOVED_PERMANENTLY);
    response.headers_mut().insert(LOCATION, location);
    Ok(response)
}

fn is_form(headers: &HeaderMap) -> bool {
    headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|value| value.starts_with("application/x-www-form-urlencoded"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(method: Method, path: &str) -> String {
        match find(&method, path) {
            Found::Route(route, name) => format!("{} {name}", route.pattern),
            Found::Elsewhere(clean) => format!("-> {clean}"),
            Found::Nothing => "nothing".to_owned(),
        }
    }

    #[test]
    fn image_names_may_hold_slashes() {
        for (method, path, expected) in [
            (Method::GET, "/images/json", "/images/json "),
            (
                Method::GET,
                "/images/a/b/c:1/json",
                "/images/{name}/json a/b/c:1",
            ),
            (
                Method::POST,
                "/images/host:5000/a/push",
                "/images/{name}/push host:5000/a",
            ),
            (Method::DELETE, "/images/a/b", "/images/{name} a/b"),
            (Method::GET, "/images/get", "/images/get "),
            (
                Method::DELETE,
                "/containers/json",
                "/containers/{name} json",
            ),
            (
                Method::POST,
                "/containers//web/start",
                "/containers/{name}/start /web",
            ),
            (Method::GET, "/containers//json", "-> /containers/json"),
            (Method::GET, "/containers/../json", "-> /json"),
            (Method::GET, "/nosuch", "nothing"),
            (Method::PUT, "/version", "nothing"),
            (Method::GET, "", "nothing"),
            (Method::GET, "/", "nothing"),
        ] {
            assert_eq!(found(method, path), expected, "{path}");
        }
    }

    #[test]
    fn versions_are_split_off() {
        for (path, expected) in [
            ("/v1.43/info", (Some("1.43"), "/info")),
            ("/v1.51", (Some("1.51"), "")),
            ("/info", (None, "/info")),
            ("/vx/info", (None, "/vx/info")),
            ("/volumes", (None, "/volumes")),
            ("/v/info", (None, "/v/info")),
        ] {
            assert_eq!(split_version(path), expected, "{path}");
        }
    }

    #[test]
    fn every_route_finds_itself() {
        for route in ROUTES {
            let path = route.pattern.replace("{name}", "x");
            for method in route.methods {
                assert!(
                    matches!(find(method, &path), Found::Route(found, _) if std::ptr::eq(found, route)),
                    "{method} {path}"
                );
            }
        }
    }
}
