//! Lines on their way to a log daemon, over a socket that never blocks the shim.

use std::collections::VecDeque;
use std::net::TcpStream;
use std::net::UdpSocket;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::Path;
use std::time::{Duration, Instant};

use super::journald::JournalEntries;
use super::secure::SecureStream;
use super::{Line, syslog};
use crate::error::{Result, RuntimeError, errno_text};
use crate::request::{LogAddress, RemoteLog, SyslogConfig};
use crate::shim::connection::send_now;
use crate::shim::process::set_nonblocking;
use crate::sys::SysResult;

/// Bytes that wait for a daemon before the container waits too.
const MAX_QUEUED_BYTES: u64 = 64 << 10;

/// Where systemd's journal listens.
const JOURNAL_SOCKET: &str = "/run/systemd/journal/socket";

/// How long a TCP connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a daemon that is gone is left alone before it is tried again.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// How long the last lines of an ended container may wait.
const FINISH_TIMEOUT: Duration = Duration::from_secs(1);

enum Format {
    Syslog(SyslogConfig),
    Journal(JournalEntries),
}

/// A connection to a log daemon, which never blocks.
enum Connection {
    Plain(OwnedFd),
    Secure(SecureStream),
}

impl Connection {
    fn as_raw_fd(&self) -> RawFd {
        match self {
            Self::Plain(socket) => socket.as_raw_fd(),
            Self::Secure(stream) => stream.as_raw_fd(),
        }
    }

    /// Says whether something that was taken over waits to be sent.
    fn is_waiting(&self) -> bool {
        matches!(self, Self::Secure(stream) if stream.is_waiting())
    }

    fn send(&mut self, bytes: &[u8]) -> SysResult<usize> {
        match self {
            Self::Plain(socket) => send_now(socket.as_raw_fd(), &[bytes]),
            Self::Secure(stream) => stream.send(bytes),
        }
    }

    fn push(&mut self) -> SysResult<()> {
        match self {
            Self::Plain(_) => Ok(()),
            Self::Secure(stream) => stream.push(),
        }
    }
}

/// A log daemon and what waits for it.
///
/// A daemon that is slow holds the container up, or loses it its oldest lines if the log does not
/// block. Lines for a daemon that is gone are lost, as docker loses them.
pub(super) struct Remote {
    address: LogAddress,
    format: Format,
    socket: Option<Connection>,
    queue: VecDeque<Vec<u8>>,
    queued_bytes: u64,
    /// How much of the first message went out already.
    sent: usize,
    max_buffer_bytes: Option<u64>,
    retry_at: Instant,
}

impl Remote {
    /// Connects to the daemon.
    ///
    /// # Errors
    /// docker's text for a logging driver that cannot start.
    pub(super) fn open(config: &RemoteLog, max_buffer_bytes: Option<u64>) -> Result<Self> {
        let failed = |text: String| RuntimeError::Start {
            message: format!("failed to initialize logging driver: {text}"),
        };
        let (address, format) = match config {
            RemoteLog::Journald(fields) => (
                LogAddress::Unix(JOURNAL_SOCKET.into()),
                Format::Journal(JournalEntries::new(fields)),
            ),
            RemoteLog::Syslog { address, config } => {
                (address.clone(), Format::Syslog(config.clone()))
            }
        };
        let socket = match connect(&address) {
            Ok(socket) => socket,
            Err(_) if matches!(format, Format::Journal(_)) => {
                return Err(failed("journald is not enabled on this host".to_owned()));
            }
            // Connected, and then something was wrong with a certificate.
            Err(error) if error.raw_os_error().is_none() => {
                return Err(failed(error.to_string()));
            }
            Err(error) => {
                let text = error.raw_os_error().map_or(error.to_string(), errno_text);
                return Err(failed(format!("dial {}: {text}", display(&address))));
            }
        };
        Ok(Self {
            address,
            format,
            socket: Some(socket),
            queue: VecDeque::new(),
            queued_bytes: 0,
            sent: 0,
            max_buffer_bytes,
            retry_at: Instant::now(),
        })
    }

    /// Says whether the container has to wait.
    pub(super) fn is_full(&self) -> bool {
        self.max_buffer_bytes.is_none() && self.queued_bytes >= MAX_QUEUED_BYTES
    }

    /// Returns where messages wait to be sent.
    pub(super) fn waiting(&self) -> Option<RawFd> {
        let socket = self.socket.as_ref()?;
        (!self.queue.is_empty() || socket.is_waiting()).then(|| socket.as_raw_fd())
    }

    /// Sends a line, or lets it wait.
    pub(super) fn send(&mut self, line: &Line<'_>) {
        let message = match &mut self.format {
            Format::Syslog(config) => syslog::encode(config, line),
            Format::Journal(entries) => entries.encode(line),
        };
        self.queued_bytes += message.len() as u64;
        self.queue.push_back(message);
        self.flush();
        let most = self.max_buffer_bytes.unwrap_or(u64::MAX);
        while self.queued_bytes > most && self.queue.len() > 1 {
            // The first may have gone out in part and stays whole then.
            let oldest = usize::from(self.sent > 0);
            if let Some(dropped) = self.queue.remove(oldest) {
                self.queued_bytes -= dropped.len() as u64;
            }
        }
    }

    /// Sends what waits, as far as the daemon takes it.
    pub(super) fn flush(&mut self) {
        while !self.queue.is_empty() {
            if self.socket.is_none() && !self.reconnect() {
                self.forget_all();
                return;
            }
            let (Some(socket), Some(message)) = (&mut self.socket, self.queue.front()) else {
                return;
            };
            let rest = message.get(self.sent..).unwrap_or_default();
            match socket.send(rest) {
                Ok(count) if count < rest.len() => self.sent += count,
                // A message too long for a datagram cannot be sent at all.
                Ok(_) | Err(libc::EMSGSIZE) => self.forget_first(),
                Err(libc::EAGAIN | libc::EINTR | libc::ENOBUFS) => return,
                Err(_) => {
                    self.socket = None;
                    self.sent = 0;
                }
            }
        }
        let pushed = self.socket.as_mut().map_or(Ok(()), Connection::push);
        if !matches!(pushed, Ok(()) | Err(libc::EAGAIN | libc::EINTR)) {
            self.socket = None;
        }
        self.queue.shrink_to(0);
    }

    /// Gives the last messages a moment.
    pub(super) fn finish(&mut self) {
        let until = Instant::now() + FINISH_TIMEOUT;
        while let Some(fd) = self.waiting() {
            let left = until.saturating_duration_since(Instant::now());
            let mut entry = libc::pollfd {
                fd,
                events: libc::POLLOUT,
                revents: 0,
            };
            let timeout_ms = i32::try_from(left.as_millis()).unwrap_or(0);
            // SAFETY: one valid entry.
            if unsafe { libc::poll(&raw mut entry, 1, timeout_ms) } <= 0 {
                return;
            }
            self.flush();
        }
        if let Some(Connection::Secure(stream)) = &mut self.socket {
            stream.close();
        }
    }

    fn reconnect(&mut self) -> bool {
        // Making a TCP connection may take long, and the container would wait for it each time.
        if Instant::now() < self.retry_at {
            return false;
        }
        self.retry_at = Instant::now() + RETRY_AFTER;
        self.socket = connect(&self.address).ok();
        self.socket.is_some()
    }

    fn forget_first(&mut self) {
        self.sent = 0;
        if let Some(message) = self.queue.pop_front() {
            self.queued_bytes -= message.len() as u64;
        }
    }

    fn forget_all(&mut self) {
        self.queue = VecDeque::new();
        self.queued_bytes = 0;
        self.sent = 0;
    }
}

fn connect(address: &LogAddress) -> std::io::Result<Connection> {
    let socket: OwnedFd = match address {
        LogAddress::Unix(path) => connect_unix(path)?,
        LogAddress::Udp(address) => {
            let any = if address.is_ipv4() {
                "0.0.0.0:0"
            } else {
                "[::]:0"
            };
            let socket = UdpSocket::bind(any)?;
            socket.connect(address)?;
            socket.into()
        }
        LogAddress::Tcp(address) => TcpStream::connect_timeout(address, CONNECT_TIMEOUT)?.into(),
        LogAddress::Tls(address, tls) => {
            let stream = SecureStream::connect(address, tls, CONNECT_TIMEOUT)?;
            return Ok(Connection::Secure(stream));
        }
    };
    set_nonblocking(socket.as_raw_fd());
    Ok(Connection::Plain(socket))
}

fn connect_unix(path: &Path) -> std::io::Result<OwnedFd> {
    let datagrams = UnixDatagram::unbound()?;
    match datagrams.connect(path) {
        Ok(()) => Ok(datagrams.into()),
        // Listens for a stream instead.
        Err(error) if error.raw_os_error() == Some(libc::EPROTOTYPE) => {
            Ok(UnixStream::connect(path)?.into())
        }
        Err(error) => Err(error),
    }
}

fn display(address: &LogAddress) -> String {
    match address {
        LogAddress::Unix(path) => format!("unix {}", path.display()),
        LogAddress::Udp(address) => format!("udp {address}"),
        LogAddress::Tcp(address) | LogAddress::Tls(address, _) => format!("tcp {address}"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::LogStream;
    use super::*;
    use crate::request::SyslogFormat;

    fn remote(path: &Path, max_buffer_bytes: Option<u64>) -> Result<Remote> {
        let config = RemoteLog::Syslog {
            address: LogAddress::Unix(path.into()),
            config: SyslogConfig {
                facility: 3,
                format: SyslogFormat::Unix,
                tag: "t".into(),
                hostname: "h".into(),
                counts_octets: false,
            },
        };
        Remote::open(&config, max_buffer_bytes)
    }

    fn send(remote: &mut Remote, number: usize) {
        let bytes = format!("{number} {}\n", "x".repeat(1000));
        remote.send(&Line {
            stream: LogStream::Stdout,
            bytes: bytes.as_bytes(),
            time_ns: 0,
            part: None,
        });
    }

    #[test]
    fn a_slow_daemon_holds_up_or_loses_the_oldest() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let daemon = UnixDatagram::bind(&path).unwrap();
        let mut blocking = remote(&path, None).unwrap();
        let mut count = 0;
        while !blocking.is_full() {
            send(&mut blocking, count);
            count += 1;
            assert!(count < 10_000, "it never fills up");
        }
        let mut buffer = [0; 2000];
        for expected in 0..count {
            let length = daemon.recv(&mut buffer).unwrap();
            let text = String::from_utf8_lossy(&buffer[..length]);
            assert!(text.contains(&format!("]: {expected} x")), "{text}");
            blocking.flush();
        }
        assert!(blocking.waiting().is_none());

        let mut dropping = remote(&path, Some(10_000)).unwrap();
        for number in 0..1000 {
            send(&mut dropping, number);
            assert!(!dropping.is_full() && dropping.queued_bytes <= 10_000);
        }
        daemon.set_nonblocking(true).unwrap();
        let mut last = String::new();
        while let Ok(length) = daemon.recv(&mut buffer) {
            last = String::from_utf8_lossy(&buffer[..length]).into_owned();
            dropping.flush();
        }
        assert!(last.contains("]: 999 x"), "the newest is kept: {last}");
    }

    #[test]
    fn a_daemon_that_is_gone_is_told_at_the_start_and_lost_later() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let error = remote(&path, None).err().unwrap().to_string();
        assert!(
            error.starts_with("failed to initialize logging driver: dial unix "),
            "{error}"
        );
        let daemon = UnixDatagram::bind(&path).unwrap();
        let mut remote = remote(&path, None).unwrap();
        drop(daemon);
        for number in 0..1000 {
            send(&mut remote, number);
            assert!(!remote.is_full());
        }
    }
}
