//! The two directions of an attached container: standard input to it, its output to the caller.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};

use crate::detach::DetachKeys;
use crate::error::{CliError, Result};
use crate::output::Output;
use crate::stdcopy::{Channel, Demultiplexer};

/// Bytes moved at once.
const CHUNK_BYTES: usize = 64 * 1024;

/// A raw stream to the daemon.
pub type Connection = TokioIo<Upgraded>;

/// Which parts of an attached container the caller wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// Send standard input.
    pub stdin: bool,
    /// Show the container's output; without it the stream is only watched for its end.
    pub output: bool,
    /// The container has a terminal, so its output is one unframed stream.
    pub tty: bool,
}

/// Moves bytes both ways until the container's output ends; returns whether that was by the detach keys.
///
/// The end of standard input half-closes the connection; the output goes on.
pub async fn copy(
    connection: Connection,
    wanted: Wanted,
    keys: Option<DetachKeys>,
    output: &mut Output,
) -> Result<bool> {
    let (reader, writer) = tokio::io::split(connection);
    if !wanted.stdin {
        // The half is kept: dropping nothing tells the daemon nothing, closing it would.
        let result = copy_output(reader, wanted, output).await;
        drop(writer);
        return result.map(|()| false);
    }
    let detached = Arc::new(AtomicBool::new(false));
    let input = tokio::spawn(copy_input(writer, keys, Arc::clone(&detached)));
    let result = copy_output(reader, wanted, output).await;
    input.abort();
    result.map(|()| detached.load(Ordering::Relaxed))
}

async fn copy_input(
    mut writer: WriteHalf<Connection>,
    mut keys: Option<DetachKeys>,
    detached: Arc<AtomicBool>,
) {
    let mut stdin = tokio::io::stdin();
    let mut buffer = vec![0; CHUNK_BYTES];
    loop {
        match stdin.read(&mut buffer).await {
            Ok(0) | Err(_) => break,
            Ok(length) => {
                if keys
                    .as_mut()
                    .is_some_and(|keys| keys.saw(&buffer[..length]))
                {
                    detached.store(true, Ordering::Relaxed);
                }
                // The daemon closed its side: the container is gone, and its output says so.
                if writer.write_all(&buffer[..length]).await.is_err()
                    || writer.flush().await.is_err()
                {
                    return;
                }
            }
        }
    }
    let _ = writer.shutdown().await;
    // Dropping the half while the other one reads would be fine; keeping it until aborted is simpler to reason about.
    std::future::pending::<()>().await;
}

async fn copy_output(
    mut reader: ReadHalf<Connection>,
    wanted: Wanted,
    output: &mut Output,
) -> Result<()> {
    let mut demultiplexer = Demultiplexer::default();
    let mut buffer = vec![0; CHUNK_BYTES];
    loop {
        let length = match reader.read(&mut buffer).await {
            Ok(0) => return Ok(()),
            Ok(length) => length,
            // A daemon that was stopped resets its connections; the container lives on.
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return Ok(()),
            Err(error) => return Err(CliError::transport("reading the container's output", error)),
        };
        if !wanted.output {
            continue;
        }
        show(&buffer[..length], wanted.tty, &mut demultiplexer, output)?;
    }
}

/// Writes a piece of a container's stream where it belongs.
pub fn show(
    bytes: &[u8],
    tty: bool,
    demultiplexer: &mut Demultiplexer,
    output: &mut Output,
) -> Result<()> {
    if tty {
        return output.bytes(bytes);
    }
    demultiplexer.push(bytes, |channel, payload| match channel {
        Channel::Stdout => output.bytes(payload),
        Channel::Stderr => output.talk_bytes(payload),
    })
}
