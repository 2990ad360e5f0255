//! Attaching to a container's streams, also before it starts (spec engine-api §2.2).

use super::detach_keys::{self, Scanner};
use crate::engine::Engine;
use crate::error::{EngineError, Result};
use crate::model::container::Status;
use crate::model::request::{AttachRequest, LogRequest};
use crate::model::view::{AttachedStream, LogLine};
use std::future::Future;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream};
use tokio::sync::mpsc;
use wharf_runtime::Shim;

/// Bytes that may wait between a client and a container.
const PIPE_BYTES: usize = 64 * 1024;

/// Lines of a log.
type Backlog = mpsc::Receiver<Result<LogLine>>;

/// An attach call that waits for its container to start.
pub(crate) struct EarlyAttach {
    request: AttachRequest,
    keys: Option<Vec<u8>>,
    backlog: Option<Backlog>,
    io: DuplexStream,
}

impl Engine {
    /// Attaches to a container; one that does not run is waited for.
    ///
    /// # Errors
    /// Docker's conflict texts for paused and restarting containers; malformed detach keys.
    pub async fn attach_container(
        self: &Arc<Self>,
        name: &str,
        request: AttachRequest,
    ) -> Result<AttachedStream> {
        let entry = self.containers.find(name)?;
        let container = entry.snapshot();
        match container.state.status {
            Status::Paused => {
                return Err(EngineError::conflict(format!(
                    "container {name} is paused, unpause the container before attach"
                )));
            }
            Status::Restarting => {
                return Err(EngineError::conflict(format!(
                    "container {name} is restarting, wait until the container is running"
                )));
            }
            _ => {}
        }
        let tty = container.config.tty;
        let keys = detach_keys::parse(request.detach_keys.as_deref())?;
        let keys = (tty && request.stdin).then_some(keys);
        let mut request = request;
        request.stdin = request.stdin && container.config.open_stdin;
        let (ours, theirs) = tokio::io::duplex(PIPE_BYTES);
        self.events.container(&container, "attach", []);
        if !request.stream {
            let backlog = self.log_backlog(name, &request).await?;
            tokio::spawn(async move {
                let mut ours = ours;
                let _client_gone = write_backlog(&mut ours, backlog, tty).await;
            });
            return Ok(AttachedStream {
                io: Box::new(theirs),
                tty,
            });
        }
        match entry.shim().filter(|_| container.is_running()) {
            Some(shim) => {
                let engine = Arc::clone(self);
                let stream = shim
                    .attach(shim_request(&request))
                    .await
                    .map_err(super::runtime_error("cannot attach"))?;
                // Read after the stream began, up to this moment: nothing falls between the two.
                let backlog = self.log_backlog(name, &request).await?;
                tokio::spawn(async move {
                    let mut ours = ours;
                    if write_backlog(&mut ours, backlog, tty).await.is_err() {
                        return;
                    }
                    if pump(ours, stream, keys).await {
                        engine.events.container(&container, "detach", []);
                    }
                });
            }
            None => {
                let early = EarlyAttach {
                    backlog: self.log_backlog(name, &request).await?,
                    request,
                    keys,
                    io: ours,
                };
                entry
                    .early_attaches
                    .lock()
                    .unwrap_or_else(std::sync::PoisonError::into_inner)
                    .push(early);
            }
        }
        Ok(AttachedStream {
            io: Box::new(theirs),
            tty,
        })
    }

    /// Connects the attach calls that came before the start.
    pub(crate) async fn connect_early(
        self: &Arc<Self>,
        entry: &super::registry::Entry,
        shim: &Shim,
    ) -> Result<()> {
        let early = std::mem::take(
            &mut *entry
                .early_attaches
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner),
        );
        for attach in early {
            let stream = shim
                .attach(shim_request(&attach.request))
                .await
                .map_err(super::runtime_error("cannot attach"))?;
            let (engine, container) = (Arc::clone(self), entry.snapshot());
            tokio::spawn(async move {
                let mut io = attach.io;
                let tty = container.config.tty;
                if write_backlog(&mut io, attach.backlog, tty).await.is_err() {
                    return;
                }
                if pump(io, stream, attach.keys).await {
                    engine.events.container(&container, "detach", []);
                }
            });
        }
        Ok(())
    }

    /// Returns the lines written so far, if they are asked for.
    async fn log_backlog(
        self: &Arc<Self>,
        name: &str,
        request: &AttachRequest,
    ) -> Result<Option<Backlog>> {
        if !request.logs {
            return Ok(None);
        }
        let log = LogRequest {
            stdout: request.stdout,
            stderr: request.stderr,
            until_ns: crate::clock::now_ns(),
            ..LogRequest::default()
        };
        self.container_logs(name, log).await.map(Some)
    }
}

fn shim_request(request: &AttachRequest) -> wharf_runtime::AttachRequest {
    wharf_runtime::AttachRequest {
        stdin: request.stdin,
        stdout: request.stdout,
        stderr: request.stderr,
    }
}

async fn write_backlog(
    io: &mut DuplexStream,
    backlog: Option<Backlog>,
    tty: bool,
) -> std::io::Result<()> {
    let Some(mut backlog) = backlog else {
        return Ok(());
    };
    // A log that breaks off is shown as far as it goes.
    while let Some(Ok(LogLine { stderr, bytes, .. })) = backlog.recv().await {
        if !tty {
            let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes();
            let header = [
                1 + u8::from(stderr),
                0,
                0,
                0,
                length[0],
                length[1],
                length[2],
                length[3],
            ];
            io.write_all(&header).await?;
        }
        io.write_all(&bytes).await?;
    }
    Ok(())
}

/// Copies both ways until the output ends; true when the detach keys ended it.
///
/// The end of the client's input closes the process's input and nothing else.
pub(crate) async fn pump<S>(client: DuplexStream, process: S, keys: Option<Vec<u8>>) -> bool
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    pump_until(client, process, keys, async {}).await
}

/// Like [`pump`], but after the output ended waits for `settled` before the client sees the end.
pub(crate) async fn pump_until<S, F>(
    client: DuplexStream,
    process: S,
    keys: Option<Vec<u8>>,
    settled: F,
) -> bool
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    F: Future<Output = ()> + Send,
{
    let (mut client_in, mut client_out) = tokio::io::split(client);
    let (mut process_out, mut process_in) = tokio::io::split(process);
    let input = async move {
        let mut scanner = keys.map(Scanner::new);
        let mut buffer = vec![0u8; 16 * 1024];
        loop {
            let Ok(count @ 1..) = client_in.read(&mut buffer).await else {
                let _already_gone = process_in.shutdown().await;
                return std::future::pending::<()>().await;
            };
            let bytes = buffer.get(..count).unwrap_or_default();
            let (forward, detached) = match &mut scanner {
                Some(scanner) => scanner.feed(bytes),
                None => (bytes.to_vec(), false),
            };
            if process_in.write_all(&forward).await.is_err() {
                return std::future::pending::<()>().await;
            }
            if detached {
                return;
            }
        }
    };
    let output = async {
        let _either_side_gone = tokio::io::copy(&mut process_out, &mut client_out).await;
    };
    let detached = tokio::select! {
        () = input => true,
        () = output => false,
    };
    if !detached {
        settled.await;
    }
    let _already_gone = client_out.shutdown().await;
    detached
}
