//! Which daemon to talk to, and starting one where none is.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::Instant;

use crate::context::DEFAULT_CONTEXT;
use crate::error::{CliError, Result};
use crate::host_files;
use crate::ssh::SshTarget;
use crate::tls::TlsMaterial;

/// Socket used when nothing else is asked for.
pub const DEFAULT_SOCKET: &str = "/run/wharf.sock";
/// Port of daemons that speak in the clear.
const PLAIN_PORT: u16 = 2375;
/// Port of daemons that speak TLS.
const TLS_PORT: u16 = 2376;
/// How long a daemon started in the background may take until it listens.
pub const DAEMON_START_LIMIT: Duration = Duration::from_secs(10);
/// How long to go on trying after the started process ended: another one may have been faster.
const GRACE_AFTER_EXIT: Duration = Duration::from_secs(1);
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// A connection to a daemon, whatever carries it.
pub type Stream = Box<dyn Duplex>;

/// Reads and writes.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// Address of a daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// How it is reached.
    pub address: Address,
    /// Whether the caller chose it: then no daemon is started.
    pub is_explicit: bool,
    /// Name of the context it comes from.
    pub context: String,
}

/// How a daemon is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// A unix socket on this machine.
    Unix(PathBuf),
    /// A host and port, with TLS or in the clear.
    Tcp {
        /// Host name or address, without brackets.
        host: String,
        /// Port.
        port: u16,
        /// Certificates; None speaks in the clear.
        tls: Option<TlsMaterial>,
    },
    /// Another machine's client, started by ssh.
    Ssh(SshTarget),
}

impl Host {
    /// Returns the default daemon's address.
    #[must_use]
    pub fn usual() -> Self {
        Self {
            address: Address::Unix(DEFAULT_SOCKET.into()),
            is_explicit: false,
            context: DEFAULT_CONTEXT.to_owned(),
        }
    }

    /// Returns the address a URL names; `tls` counts for TCP only.
    pub fn parse(url: &str, tls: Option<TlsMaterial>) -> Result<Self> {
        Ok(Self {
            address: Address::parse(url, tls)?,
            is_explicit: true,
            context: DEFAULT_CONTEXT.to_owned(),
        })
    }

    /// Tells whether the daemon sees the same files as this process.
    #[must_use]
    pub fn is_local(&self) -> bool {
        matches!(self.address, Address::Unix(_))
    }

    /// Returns the address as a URL.
    #[must_use]
    pub fn url(&self) -> String {
        match &self.address {
            Address::Unix(socket) => format!("unix://{}", socket.display()),
            Address::Tcp { host, port, .. } if host.contains(':') => {
                format!("tcp://[{host}]:{port}")
            }
            Address::Tcp { host, port, .. } => format!("tcp://{host}:{port}"),
            Address::Ssh(target) => target.url(),
        }
    }

    /// Connects, without starting a daemon.
    pub async fn connect(&self) -> Result<Stream> {
        match &self.address {
            Address::Unix(socket) => match UnixStream::connect(socket).await {
                Ok(stream) => Ok(Box::new(stream)),
                Err(error) => Err(self.failure(error)),
            },
            Address::Tcp { host, port, tls } => {
                let stream = TcpStream::connect((host.as_str(), *port))
                    .await
                    .map_err(|error| self.failure(error))?;
                // Only makes things faster: a socket that refuses it still works.
                let _ = stream.set_nodelay(true);
                match tls {
                    None => Ok(Box::new(stream)),
                    Some(material) => {
                        let stream = material.handshake(host, stream).await;
                        Ok(Box::new(stream.map_err(|error| {
                            CliError::transport(format!("connecting to {}", self.url()), error)
                        })?))
                    }
                }
            }
            Address::Ssh(target) => target.connect(),
        }
    }

    fn failure(&self, error: std::io::Error) -> CliError {
        let host = self.url();
        match error.kind() {
            std::io::ErrorKind::PermissionDenied => CliError::SocketPermission { host },
            std::io::ErrorKind::NotFound | std::io::ErrorKind::ConnectionRefused => {
                CliError::NoDaemon { host }
            }
            _ => CliError::transport(format!("connecting to {host}"), error),
        }
    }
}

impl Address {
    /// Parses `unix://`, `tcp://` and `ssh://` URLs, and paths.
    pub fn parse(url: &str, tls: Option<TlsMaterial>) -> Result<Self> {
        if let Some(rest) = url
            .strip_prefix("tcp://")
            .or_else(|| url.strip_prefix("http://"))
        {
            return tcp_address(url, rest, tls);
        }
        if url.starts_with("ssh://") {
            return SshTarget::parse(url).map(Self::Ssh);
        }
        let path = match url.strip_prefix("unix://") {
            Some("") => DEFAULT_SOCKET,
            Some(path) => path,
            None => url,
        };
        if path.starts_with('/') {
            return Ok(Self::Unix(path.into()));
        }
        Err(invalid_address(url))
    }
}

fn tcp_address(url: &str, rest: &str, tls: Option<TlsMaterial>) -> Result<Address> {
    let wrong = || invalid_address(url);
    let authority = rest.split('/').next().unwrap_or_default();
    let default_port = if tls.is_some() { TLS_PORT } else { PLAIN_PORT };
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (host, behind) = rest.split_once(']').ok_or_else(wrong)?;
            (host, behind.strip_prefix(':'))
        }
        None => match authority.rsplit_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    let port = match port {
        Some(port) => port.parse().map_err(|_| wrong())?,
        None => default_port,
    };
    let host = if host.is_empty() { "127.0.0.1" } else { host };
    Ok(Address::Tcp {
        host: host.to_owned(),
        port,
        tls,
    })
}

fn invalid_address(url: &str) -> CliError {
    CliError::UnsupportedHost(format!("invalid bind address format: {url}"))
}

/// Starts a daemon in the background and returns a connection to it.
pub async fn start_daemon(host: &Host) -> Result<Stream> {
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
    fn urls_and_back() {
        for (url, expected) in [
            ("unix:///x", "unix:///x"),
            ("/x", "unix:///x"),
            ("unix://", "unix:///run/wharf.sock"),
            ("tcp://h", "tcp://h:2375"),
            ("tcp://h:1/", "tcp://h:1"),
            ("http://h:1", "tcp://h:1"),
            ("tcp://:1", "tcp://127.0.0.1:1"),
            ("tcp://[::1]:1", "tcp://[::1]:1"),
            ("tcp://[::1]", "tcp://[::1]:2375"),
            ("ssh://me@h:22", "ssh://me@h:22"),
            ("ssh://h", "ssh://h"),
        ] {
            assert_eq!(Host::parse(url, None).unwrap().url(), expected, "{url}");
        }
        let tls = Some(TlsMaterial::default());
        assert_eq!(Host::parse("tcp://h", tls).unwrap().url(), "tcp://h:2376");
    }

    #[test]
    fn other_addresses_are_refused() {
        for url in [
            "npipe:////./pipe/docker",
            "relative",
            "tcp://h:x",
            "tcp://[::1",
        ] {
            let error = Host::parse(url, None).unwrap_err();
            assert!(
                error.to_string().contains("invalid bind address"),
                "{url}: {error}"
            );
        }
        assert!(Host::parse("ssh://", None).is_err());
        assert!(Host::parse("ssh://-oProxyCommand=x", None).is_err());
    }
}
