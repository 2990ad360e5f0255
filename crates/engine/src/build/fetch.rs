//! Fetching what ADD names, asking the server first whether it changed.

use crate::byte_stream::ChunkReader;
use crate::error::{EngineError, ErrorKind, Result};
use jiff::fmt::rfc2822;
use std::time::Duration;
use wharf_build::{FetchRequest, Fetched};
use wharf_safefs::Timestamp;

const MAX_REDIRECTS: usize = 10;
/// How long a server may stay silent.
const READ_TIMEOUT: Duration = Duration::from_secs(60);
const NOT_MODIFIED: u16 = 304;
/// Chunks that wait for the disk.
const CHUNKS: usize = 8;

/// Fetches an address.
///
/// # Errors
/// A server that cannot be reached or does not answer with success.
pub(super) async fn fetch(request: &FetchRequest) -> Result<Fetched> {
    let url = &request.url;
    let failed =
        |e: reqwest::Error| EngineError::wrap(ErrorKind::Invalid, format!("cannot fetch {url}"), e);
    let client = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::limited(MAX_REDIRECTS))
        .read_timeout(READ_TIMEOUT)
        .user_agent(concat!("wharf/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(failed)?;
    let mut call = client.get(url);
    for (name, value) in &request.headers {
        call = call.header(name, value);
    }
    if let Some(etag) = &request.etag {
        call = call.header("If-None-Match", etag);
    }
    let mut response = call
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
    let (sender, receiver) = tokio::sync::mpsc::channel(CHUNKS);
    tokio::spawn(async move {
        loop {
            let chunk = match response.chunk().await {
                Ok(Some(chunk)) => Ok(chunk),
                Ok(None) => return,
                Err(e) => Err(std::io::Error::other(e)),
            };
            let has_failed = chunk.is_err();
            if sender.send(chunk).await.is_err() || has_failed {
                return;
            }
        }
    });
    Ok(Fetched {
        body: Box::new(ChunkReader::new(receiver)),
        file_name,
        last_modified,
        etag,
        is_unchanged,
    })
}
