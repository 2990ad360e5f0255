//! `wharf system dial-stdio`: the far end of `ssh://` hosts.

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::error::{CliError, Result};
use crate::session::Session;

/// Bytes copied at once.
const BUFFER_BYTES: usize = 64 * 1024;

/// Copies standard input to the daemon and what it answers to standard output, until it has no more to say.
pub async fn dial_command(session: &mut Session) -> Result<()> {
    let connection = session.client.connect().await?;
    let (mut from_daemon, mut to_daemon) = tokio::io::split(connection);
    let input = async {
        // When the daemon takes no more, its answer still counts.
        let _ = copy(&mut tokio::io::stdin(), &mut to_daemon).await;
        let _ = to_daemon.shutdown().await;
        std::future::pending::<()>().await;
    };
    let mut stdout = tokio::io::stdout();
    tokio::select! {
        () = input => Ok(()),
        copied = copy(&mut from_daemon, &mut stdout) => {
            copied.map_err(|error| CliError::io("passing the daemon's answer on", error))
        }
    }
}

async fn copy(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
) -> std::io::Result<()> {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let count = from.read(&mut buffer).await?;
        if count == 0 {
            return Ok(());
        }
        to.write_all(&buffer[..count]).await?;
        to.flush().await?;
    }
}
