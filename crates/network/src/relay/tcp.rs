//! Passing TCP connections on.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::copy_bidirectional;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// Connections of one published port at one time.
const MAX_CONNECTIONS: usize = 1024;
/// How long a container may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Pause after a connection that could not be accepted, as when no descriptor is free.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Passes connections on to `target` until the listening socket is shut down.
pub(crate) async fn relay_connections(listener: TcpListener, target: SocketAddr) {
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else {
        return;
    };
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    // Dropped with this task, and everything in it with it.
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    // Past the limit the connection is closed at once.
                    if let Ok(permit) = Arc::clone(&permits).try_acquire_owned() {
                        connections.spawn(async move {
                            pass(stream, target).await;
                            drop(permit);
                        });
                    }
                }
                // The port is withdrawn: its holder has shut the socket down.
                Err(error) if error.raw_os_error() == Some(libc::EINVAL) => return,
                Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
            },
            Some(_ended) = connections.join_next(), if !connections.is_empty() => {}
        }
    }
}

async fn pass(mut from: TcpStream, target: SocketAddr) {
    if let Ok(Ok(mut to)) = timeout(CONNECT_TIMEOUT, TcpStream::connect(target)).await {
        // Either side may end the connection as it likes.
        let _ended = copy_bidirectional(&mut from, &mut to).await;
    }
}
