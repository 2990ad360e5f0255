//! Which daemon to talk to, and starting one where none is.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::time::Instant;

use crate::error::{CliError, Result};
use crate::host_files;

/// Socket used when nothing else is asked for.
pub const DEFAULT_SOCKET: &str = "/run/wharf.sock";
/// How long a daemon started in the background may take until it listens.
pub const DAEMON_START_LIMIT: Duration = Duration::from_secs(10);
/// How long to go on trying after the started process ended: another one may have been faster.
const GRACE_AFTER_EXIT: Duration = Duration::from_secs(1);
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// Address of a daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// Path of the unix socket.
    pub socket: PathBuf,
    /// Whether the caller chose it: then no daemon is started.
    pub is_explicit: bool,
}

impl Host {
    /// Returns the address from `--host`, `WHARF_HOST`, `DOCKER_HOST`, or the default, in this order.
    pub fn resolve(flag: Option<&str>, variable: impl Fn(&str) -> Option<String>) -> Result<Self> {
        let chosen = flag
            .map(str::to_owned)
            .or_else(|| variable("WHARF_HOST"))
            .or_else(|| variable("DOCKER_HOST"))
            .filter(|host| !host.is_empty());
        match chosen {
            None => Ok(Self {
                socket: DEFAULT_SOCKET.into(),
                is_explicit: false,
            }),
            Some(url) => Ok(Self {
                socket: socket_path(&url)?,
                is_explicit: true,
            }),
        }
    }

    /// Returns the address as a URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("unix://{}", self.socket.display())
    }

    /// Connects, without starting a daemon.
    pub async fn connect(&self) -> Result<UnixStream> {
        UnixStream::connect(&self.socket)
            .await
            .map_err(|error| match error.kind() {
                std::io::ErrorKind::PermissionDenied => {
                    CliError::SocketPermission { host: self.url() }
                }
                std::io::ErrorKind::NotFound | std::io::ErrorKind::ConnectionRefused => {
                    CliError::NoDaemon { host: self.url() }
                }
                _ => CliError::transport(format!("connecting to {}", self.url()), error),
            })
    }
}

/// Returns the path in a `unix://` URL; other schemes are refused with what to do instead.
pub fn socket_path(url: &str) -> Result<PathBuf> {
    if let Some(path) = url.strip_prefix("unix://") {
        let path = if path.is_empty() {
            DEFAULT_SOCKET
        } else {
            path
        };
        return Ok(PathBuf::from(path));
    }
    if url.starts_with('/') {
        return Ok(PathBuf::from(url));
    }
    Err(CliError::UnsupportedHost(format!(
        "cannot use host {url:?}: only unix:// sockets are supported (forward one with `ssh -L {DEFAULT_SOCKET}:…`)"
    )))
}

/// Starts a daemon in the background and returns a connection to it.
pub async fn start_daemon(host: &Host) -> Result<UnixStream> {
    let (log_path, log) = open_log()?;
    let failed = |reason: String| CliError::DaemonStart {
        reason,
        log: log_path.display().to_string(),
    };
    let mut child =
        spawn(&log).map_err(|error| failed(format!("cannot start this program again: {error}")))?;
    let deadline = Instant::now() + DAEMON_START_LIMIT;
    let mut ended: Option<(Instant, std::process::ExitStatus)> = None;
    loop {
        match host.connect().await {
            Err(CliError::NoDaemon { .. }) => {}
            other => return other,
        }
        if ended.is_none() {
            ended = child
                .try_wait()
                .ok()
                .flatten()
                .map(|status| (Instant::now(), status));
        }
        match &ended {
            Some((since, status)) if since.elapsed() > GRACE_AFTER_EXIT => {
                return Err(failed(format!("it ended with {status}")));
            }
            _ if Instant::now() > deadline => {
                return Err(failed(format!(
                    "no answer within {} s",
                    DAEMON_START_LIMIT.as_secs()
                )));
            }
            _ => tokio::time::sleep(POLL_INTERVAL).await,
        }
    }
}

fn open_log() -> Result<(PathBuf, std::fs::File)> {
    let mut last = None;
    for path in ["/var/log/wharf.log", "/run/wharf.log"] {
        match host_files::append(Path::new(path)) {
            Ok(file) => return Ok((path.into(), file)),
            Err(error) => last = Some((path, error)),
        }
    }
    let (path, error) = last.expect("both paths were tried");
    Err(CliError::io(
        format!("cannot write the daemon's log {path}"),
        error,
    ))
}

fn spawn(log: &std::fs::File) -> std::io::Result<Child> {
    let mut command = Command::new("/proc/self/exe");
    command
        .arg("daemon")
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log.try_clone()?);
    // SAFETY: setsid(2) is async-signal-safe and touches no memory, as code between fork and exec must.
    unsafe {
        command.pre_exec(|| {
            rustix::process::setsid()
                .map(drop)
                .map_err(std::io::Error::from)
        });
    }
    command.spawn()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flag_wins_over_the_variables() {
        let variable = |name: &str| match name {
            "WHARF_HOST" => Some("unix:///w".to_owned()),
            "DOCKER_HOST" => Some("unix:///d".to_owned()),
            _ => None,
        };
        let host = Host::resolve(Some("unix:///f"), variable).unwrap();
        assert_eq!((host.url().as_str(), host.is_explicit), ("unix:///f", true));
        assert_eq!(Host::resolve(None, variable).unwrap().url(), "unix:///w");
        let docker = |name: &str| (name == "DOCKER_HOST").then(|| "/d".to_owned());
        assert_eq!(Host::resolve(None, docker).unwrap().url(), "unix:///d");
        let none = Host::resolve(None, |_| None).unwrap();
        assert_eq!(
            (none.url().as_str(), none.is_explicit),
            ("unix:///run/wharf.sock", false)
        );
    }

    #[test]
    fn other_schemes_are_refused() {
        for url in [
            "tcp://127.0.0.1:2375",
            "ssh://host",
            "npipe:////./pipe/docker",
            "relative",
        ] {
            let error = Host::resolve(Some(url), |_| None).unwrap_err();
            assert!(
                error.to_string().contains("only unix:// sockets"),
                "{url}: {error}"
            );
        }
    }
}
