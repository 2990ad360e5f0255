//! Fetching what ADD names, asking the server first whether it changed.

use crate::byte_stream::ChunkReader;
use crate::error::{EngineError, ErrorKind, Result};
use jiff::fmt::rfc2822;
use wharf_build::{FetchRequest, Fetched};
use wharf_safefs::Timestamp;

/// Status of what has not changed.
const NOT_MODIFIED: u16 = 304;

/// Fetches an address.
///
/// # Errors
/// A server that cannot be reached or does not answer with success.
pub(super) async fn fetch(request: &FetchRequest) -> Result<Fetched> {
    let url = &request.url;
    let failed =
        |e: reqwest::Error| EngineError::wrap(ErrorKind::Invalid, format!("cannot fetch {url}"), e);
    let client = crate::fetch::client()?;
    let mut call = client.get(url);
    for (name, value) in &request.headers {
        call = call.header(name, value);
    }
    if let Some(etag) = &request.etag {
        call = call.header("If-None-Match", etag);
    }
    let response = call
        .send()
        .await
        .map_err(failed)?
        .error_for_status()
        .map_err(failed)?;
    let header = |name: &str| {
        let value = response.headers().get(name)?.to_str().ok()?;
        Some(value.to_owned())
    };
    let etag = header("etag");
    let last_modified = header("last-modified")
        .and_then(|text| rfc2822::parse(&text.replace("GMT", "+0000")).ok())
        .map(|time| Timestamp::from_seconds(time.timestamp().as_second()));
    let path = url.split(['?', '#']).next().unwrap_or_default();
    let file_name = path.rsplit('/').next().unwrap_or_default().to_owned();
    let is_unchanged = request.etag.is_some() && response.status().as_u16() == NOT_MODIFIED;
    Ok(Fetched {
        body: Box::new(ChunkReader::new(crate::fetch::chunks(response))),
        file_name,
        last_modified,
        etag,
        is_unchanged,
    })
}
