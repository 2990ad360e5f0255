//! Fetching what a user named by URL.

use crate::byte_stream::ByteStream;
use crate::error::{EngineError, ErrorKind, Result};
use std::sync::OnceLock;
use std::time::Duration;

/// Redirects that are followed.
const MAX_REDIRECTS: usize = 10;
/// How long a server may stay silent.
const READ_TIMEOUT: Duration = Duration::from_secs(60);
/// Chunks that wait for the disk.
const CHUNKS: usize = 8;

/// Fetches an `http` or `https` URL as a stream of bytes.
///
/// # Errors
/// Other schemes, a server that cannot be reached or does not answer with success.
pub(crate) async fn fetch(url: &str) -> Result<ByteStream> {
    let scheme = url.split_once("://").map_or("", |(scheme, _)| scheme);
    if scheme != "http" && scheme != "https" {
        return Err(EngineError::invalid(format!(
            "cannot fetch {url:?}: expected an http:// or https:// URL"
        )));
    }
    let failed =
        |e: reqwest::Error| EngineError::wrap(ErrorKind::Invalid, format!("cannot fetch {url}"), e);
    let response = client()?
        .get(url)
        .send()
        .await
        .map_err(failed)?
        .error_for_status()
        .map_err(failed)?;
    Ok(chunks(response))
}

/// Streams the body of an answer.
pub(crate) fn chunks(mut response: reqwest::Response) -> ByteStream {
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
    receiver
}

/// Returns the client of all fetches.
pub(crate) fn client() -> Result<&'static reqwest::Client> {
    static CLIENT: OnceLock<reqwest::Client> = OnceLock::new();
    if let Some(client) = CLIENT.get() {
        return Ok(client);
    }
    let client = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::limited(MAX_REDIRECTS))
        .read_timeout(READ_TIMEOUT)
        .user_agent(concat!("wharf/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(|e| EngineError::wrap(ErrorKind::Internal, "cannot make an http client", e))?;
    Ok(CLIENT.get_or_init(|| client))
}
