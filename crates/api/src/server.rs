//! Accepting connections and feeding their requests to the router.

use crate::call::Peer;
use crate::error::ApiError;
use crate::hijack::PlainHijack;
use crate::limits::{MAX_CONNECTIONS, MAX_HEAD_BYTES, MAX_HEADERS, STOP_GRACE};
use crate::metrics::Metrics;
use crate::respond::{Body, Failure};
use crate::router;
use crate::transport::{Listener, Raw};
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use wharf_engine::Engine;

/// Pause after the kernel had no descriptor or memory left for a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How [`serve`] runs.
pub struct ServeOptions {
    /// Ends the server: no connection is accepted any more, open answers get a moment to end.
    pub stop: Pin<Box<dyn Future<Output = ()> + Send>>,
    /// Where requests are counted.
    pub metrics: Arc<Metrics>,
}

impl ServeOptions {
    /// Makes options that stop the server when `stop` ends.
    pub fn until(stop: impl Future<Output = ()> + Send + 'static) -> Self {
        Self {
            stop: Box::pin(stop),
            metrics: Arc::new(Metrics::new()),
        }
    }
}

/// Serves the Engine API on all listeners until the options say stop.
///
/// # Errors
/// Fails when a listener cannot accept any more.
pub async fn serve(
    engine: Arc<Engine>,
    listeners: Vec<Listener>,
    options: ServeOptions,
) -> Result<(), ApiError> {
    let (stop, stopping) = watch::channel(false);
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut accepting = JoinSet::new();
    for listener in listeners {
        let server = Server {
            engine: engine.clone(),
            metrics: options.metrics.clone(),
            slots: slots.clone(),
        };
        accepting.spawn(accept(listener, server, stopping.clone()));
    }
    let mut failure = None;
    tokio::select! {
        () = options.stop => {}
        () = async {
            while let Some(ended) = accepting.join_next().await {
                if let Ok(Err(error)) = ended {
                    failure = Some(error);
                    return;
                }
            }
        } => {}
    }
    // Nobody listening any more is fine: then there is nothing to stop.
    let _ = stop.send(true);
    while accepting.join_next().await.is_some() {}
    failure.map_or(Ok(()), Err)
}

/// What every connection needs.
#[derive(Clone)]
struct Server {
    engine: Arc<Engine>,
    metrics: Arc<Metrics>,
    slots: Arc<Semaphore>,
}

/// Accepts connections of one listener; returns once those that were open have ended.
async fn accept(
    listener: Listener,
    server: Server,
    mut stopping: watch::Receiver<bool>,
) -> Result<(), ApiError> {
    let mut connections = JoinSet::new();
    let outcome = loop {
        let slot = tokio::select! {
            slot = server.slots.clone().acquire_owned() => slot,
            _ = stopping.wait_for(|stop| *stop) => break Ok(()),
        };
        let Ok(slot) = slot else { break Ok(()) };
        let accepted = tokio::select! {
            accepted = listener.socket.accept() => accepted,
            _ = stopping.wait_for(|stop| *stop) => break Ok(()),
            // Reaps what has ended, so that the set does not grow.
            Some(_) = connections.join_next() => continue,
        };
        match accepted {
            Ok(raw) => {
                let peer = Peer {
                    caller: raw.caller(),
                    permit: Arc::new(slot),
                    policy: listener.policy.clone(),
                    refuses_browsers: raw.is_reachable_by_browsers(),
                };
                connections.spawn(converse(raw, server.clone(), peer, stopping.clone()));
            }
            Err(error) if is_passing(&error) => tokio::time::sleep(ACCEPT_PAUSE).await,
            Err(source) => break Err(ApiError::Accept { source }),
        }
    };
    drop(listener);
    let ended = async { while connections.join_next().await.is_some() {} };
    // What has not ended by then is cut when the set is dropped.
    let _ = tokio::time::timeout(STOP_GRACE, ended).await;
    outcome
}

/// Tells whether accepting may work again in a moment.
fn is_passing(error: &io::Error) -> bool {
    use rustix::io::Errno;
    [
        Errno::MFILE,
        Errno::NFILE,
        Errno::NOBUFS,
        Errno::NOMEM,
        Errno::CONNABORTED,
        Errno::INTR,
    ]
    .iter()
    .any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

/// Serves one connection until it ends, is hijacked, or its client is gone.
async fn converse(raw: Raw, server: Server, peer: Peer, mut stopping: watch::Receiver<bool>) {
    let _counted = server.metrics.connected();
    let stream = tokio::select! {
        stream = raw.open() => stream,
        _ = stopping.wait_for(|stop| *stop) => return,
    };
    // A failed handshake concerns nobody but its client.
    let Ok(stream) = stream else { return };
    let hang_up = stream.hang_up();
    let half_close = stream.allows_half_close();
    let service = service_fn(move |request| answer(server.clone(), peer.clone(), request));
    let connection = http1::Builder::new()
        .half_close(half_close)
        .title_case_headers(true)
        .max_buf_size(MAX_HEAD_BYTES)
        .max_headers(MAX_HEADERS)
        .timer(TokioTimer::new())
        .serve_connection(TokioIo::new(PlainHijack::new(stream)), service)
        .with_upgrades();
    tokio::pin!(connection, hang_up);
    let mut is_stopping = false;
    loop {
        tokio::select! {
            // A broken connection concerns nobody but its client.
            _ = &mut connection => return,
            () = &mut hang_up => return,
            _ = stopping.wait_for(|stop| *stop), if !is_stopping => {
                is_stopping = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}

/// Answers one request. The work runs as a task of its own: a client that leaves must not leave a
/// stop or a removal half done.
async fn answer(
    server: Server,
    peer: Peer,
    request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    let work = tokio::spawn(router::dispatch(
        server.engine,
        server.metrics,
        peer,
        request,
    ));
    Ok(work.await.unwrap_or_else(|_| {
        let text = "the request ended unexpectedly: this is a bug, please report it";
        Failure::new(StatusCode::INTERNAL_SERVER_ERROR, text).into_response()
    }))
}
