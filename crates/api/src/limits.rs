//! What the API accepts from outside, as named limits (DESIGN invariant 9).

use std::time::Duration;

/// Bytes of a request line with its headers; Go's servers stop at the same size.
pub const MAX_HEAD_BYTES: usize = 1 << 20;
/// Headers of one request.
pub const MAX_HEADERS: usize = 100;
/// Bytes of a JSON or form request body.
pub const MAX_JSON_BODY_BYTES: usize = 4 << 20;
/// Bytes of a body that nobody wants which are still read, as Go's servers do.
pub(crate) const MAX_UNREAD_BODY_BYTES: usize = 256 << 10;
/// Time that such a body may take.
pub(crate) const UNREAD_BODY_TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes of a build context sent as a tar.
pub const MAX_CONTEXT_BYTES: u64 = 64 << 30;
/// Bytes of a Dockerfile sent beside its context.
pub const MAX_INLINE_DOCKERFILE_BYTES: usize = 1 << 20;
/// Parameters of one query.
pub const MAX_QUERY_PAIRS: usize = 10_000;
/// Values of one filter document.
pub const MAX_FILTER_VALUES: usize = 10_000;
/// Names of one save call.
pub const MAX_SAVE_NAMES: usize = 1_000;
/// Connections that are open at once; further ones wait in the listener's queue.
pub const MAX_CONNECTIONS: usize = 4_096;
/// Chunks a streaming answer may run ahead of its reader.
pub(crate) const STREAM_CHUNKS: usize = 16;
/// Bytes read at once from a stream that is passed on.
pub(crate) const COPY_BUFFER_BYTES: usize = 32 * 1024;
/// Time that open answers get to end once the server is told to stop.
pub(crate) const STOP_GRACE: Duration = Duration::from_secs(2);
/// Time between two updates of one progress bar.
pub(crate) const PROGRESS_INTERVAL: Duration = Duration::from_millis(100);
/// Time between two readings of a stats stream.
pub(crate) const STATS_INTERVAL: Duration = Duration::from_secs(1);
