//! Being attached: streams, terminal, signals and the exit status (engine-api.md §2.2).

use serde::Deserialize;
use tokio::task::JoinHandle;

use crate::detach::DetachKeys;
use crate::error::{CliError, Result};
use crate::http::{Client, Request, path_part};
use crate::output::Output;
use crate::streams::{self, Connection, Wanted};
use crate::terminal::{self, RawMode};
use crate::{exit, signals};

/// Interrupts or terminations after which the client ends although the container goes on (docker's number).
const INSISTENCE: usize = 3;

/// What is attached to: a container's process or an exec's.
#[derive(Debug, Clone)]
pub enum Process {
    /// A container by id.
    Container(String),
    /// An exec by id.
    Exec(String),
}

/// How to be attached.
#[derive(Debug, Clone)]
pub struct Attachment {
    /// What is attached to.
    pub process: Process,
    /// Which streams.
    pub wanted: Wanted,
    /// Keys that detach, when not the usual ones.
    pub detach_keys: Option<String>,
    /// Whether signals are passed on to the process.
    pub signal_proxy: bool,
}

/// Why the streams ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// The process closed them.
    Finished,
    /// The person at the terminal detached.
    Detached,
}

impl Attachment {
    /// Moves the streams until they end, with the terminal raw and its size passed on.
    pub async fn pump(
        &self,
        client: &Client,
        connection: Connection,
        output: &mut Output,
    ) -> Result<Ending> {
        let has_terminal = self.wanted.tty && terminal::stdin_is_terminal();
        let raw = if has_terminal && self.wanted.stdin {
            Some(RawMode::enter()?)
        } else {
            None
        };
        let resizing = if self.wanted.tty {
            self.follow_size(client)?
        } else {
            None
        };
        let mut forwarding = self
            .signal_proxy
            .then(|| self.forward_signals(client))
            .transpose()?;
        let keys = has_terminal.then(|| DetachKeys::parse(self.detach_keys.as_deref()));
        let result = match raw {
            None => tokio::select! {
                result = streams::copy(connection, self.wanted, keys, output) => result,
                () = ended(&mut forwarding) => Err(CliError::Stream {
                    code: None,
                    message: format!("got {INSISTENCE} SIGTERM/SIGINTs, forcefully exiting"),
                }),
            },
            Some(raw) => {
                let mut terminating = signals::terminating()?;
                let result = tokio::select! {
                    result = streams::copy(connection, self.wanted, keys, output) => result,
                    Some(signal) = terminating.recv() => Err(CliError::Exit(exit::signal_status(signal))),
                };
                drop(raw);
                result
            }
        };
        for task in [resizing, forwarding].into_iter().flatten() {
            task.abort();
        }
        Ok(if result? {
            Ending::Detached
        } else {
            Ending::Finished
        })
    }

    /// Sends the terminal's size now and whenever it changes.
    fn follow_size(&self, client: &Client) -> Result<Option<JoinHandle<()>>> {
        if terminal::size().is_none() {
            return Ok(None);
        }
        let (client, process) = (client.clone(), self.process.clone());
        let mut changes = signals::window_changes()?;
        Ok(Some(tokio::spawn(async move {
            loop {
                if let Some((height, width)) = terminal::size() {
                    // A process that is about to end has no size any more; that is no failure.
                    let _ = client.send(process.resize(height, width)).await;
                }
                if changes.recv().await.is_none() {
                    return;
                }
            }
        })))
    }

    /// Passes signals on; the task ends when the caller insists on ending the client itself.
    fn forward_signals(&self, client: &Client) -> Result<JoinHandle<()>> {
        let mut received = signals::forwarded()?;
        let (client, process) = (client.clone(), self.process.clone());
        Ok(tokio::spawn(async move {
            let mut insisted = 0;
            while let Some(name) = received.recv().await {
                insisted += usize::from(matches!(name, "INT" | "TERM"));
                if insisted == INSISTENCE {
                    return;
                }
                if let Process::Container(id) = &process {
                    let path = format!("/containers/{}/kill", path_part(id));
                    // The container may have ended meanwhile; then there is nobody to signal.
                    let _ = client.send(Request::post(path).query("signal", name)).await;
                }
            }
            std::future::pending().await
        }))
    }
}

/// Returns when the caller insisted on ending the client; never when no signals are passed on.
async fn ended(forwarding: &mut Option<JoinHandle<()>>) {
    match forwarding {
        Some(task) => {
            let _ = task.await;
        }
        None => std::future::pending().await,
    }
}

impl Process {
    fn resize(&self, height: u16, width: u16) -> Request {
        let path = match self {
            Self::Container(id) => format!("/containers/{}/resize", path_part(id)),
            Self::Exec(id) => format!("/exec/{}/resize", path_part(id)),
        };
        Request::post(path)
            .query("h", height.to_string())
            .query("w", width.to_string())
    }
}

/// Opens the stream of a container; nothing it writes from now on is lost.
pub async fn attach(
    client: &Client,
    id: &str,
    wanted: Wanted,
    detach_keys: Option<&str>,
) -> Result<Connection> {
    attach_streams(
        client,
        id,
        wanted.stdin,
        wanted.output,
        wanted.output,
        detach_keys,
    )
    .await
}

/// Like [`attach`], with standard output and standard error chosen one by one.
pub async fn attach_streams(
    client: &Client,
    id: &str,
    stdin: bool,
    stdout: bool,
    stderr: bool,
    detach_keys: Option<&str>,
) -> Result<Connection> {
    let request = Request::post(format!("/containers/{}/attach", path_part(id)))
        .query("stream", "1")
        .query_flag("stdin", stdin)
        .query_flag("stdout", stdout)
        .query_flag("stderr", stderr)
        .query_if("detachKeys", detach_keys);
    client.upgrade(request).await
}

/// Waiting for a container to end; armed when this value exists.
pub struct ExitWait {
    answer: JoinHandle<Result<WaitAnswer>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct WaitAnswer {
    status_code: i64,
    error: Option<WaitError>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct WaitError {
    message: String,
}

impl ExitWait {
    /// Asks for the exit status; returns once the daemon has armed the wait (its headers are here).
    pub async fn arm(client: &Client, id: &str, condition: &str) -> Result<Self> {
        let request = Request::post(format!("/containers/{}/wait", path_part(id)))
            .query("condition", condition);
        let response = client.send(request).await?;
        Ok(Self {
            answer: tokio::spawn(response.json()),
        })
    }

    /// Returns the exit status once the container has ended.
    pub async fn status(self) -> Result<i32> {
        let answer = self
            .answer
            .await
            .map_err(|error| CliError::transport("waiting for the container", error))??;
        match answer.error {
            Some(error) if !error.message.is_empty() => Err(CliError::Stream {
                code: None,
                message: format!("error waiting for container: {}", error.message),
            }),
            _ => Ok(i32::try_from(answer.status_code).unwrap_or(125)),
        }
    }
}
