//! Opening the sockets: own ones, and those the service manager passes (sd_listen_fds(3)).

use super::configuration::{Address, Configuration, Group, SocketSetting};
use rustix::net::{AddressFamily, SocketAddrAny};
use std::net::TcpListener as StdTcpListener;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixListener as StdUnixListener;
use std::path::{Path, PathBuf};
use tokio::net::{TcpListener, UnixListener};
use wharf_api::{ApiError, Listener, PolicyHandle, Tls};

/// Number of the first passed descriptor.
const FIRST_PASSED: RawFd = 3;
/// Most descriptors that are taken over.
const MAX_PASSED: i32 = 256;

/// Tells why a socket could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    #[error("{0}")]
    Api(#[from] ApiError),
    #[error("group {0:?} does not exist: make it, or name another one with --group")]
    NoGroup(String),
    #[error(
        "tcp://{0} without TLS gives everybody who reaches it root on this machine: use --tlsverify, or say --tls=false to have it so"
    )]
    PlainTcp(String),
    #[error("fd://{0}: the service manager passed no such socket")]
    NotPassed(String),
    #[error("descriptor {number} that the service manager passed cannot be used: {detail}")]
    Unusable { number: RawFd, detail: String },
}

/// The opened sockets.
pub struct Opened {
    pub listeners: Vec<Listener>,
    /// One handle for each configured socket, in the configuration's order.
    pub policies: Vec<PolicyHandle>,
    /// Unix sockets of our own, to be removed at the end.
    pub paths: Vec<PathBuf>,
}

/// Opens all sockets of a configuration.
pub async fn open(configuration: &Configuration) -> Result<Opened, SocketError> {
    let mut passed = take_passed()?;
    let tls = match &configuration.tls {
        Some(files) => Some(Tls::load(files)?),
        None => None,
    };
    let mut opened = Opened {
        listeners: Vec::new(),
        policies: Vec::new(),
        paths: Vec::new(),
    };
    for socket in &configuration.sockets {
        let policy = PolicyHandle::new(socket.policy.clone());
        let listeners = match &socket.address {
            Address::Unix(path) => {
                let listener = wharf_api::bind_unix(path, group(socket)?)?;
                opened.paths.push(path.clone());
                vec![Listener::unix(listener)]
            }
            Address::Tcp(address) => {
                if tls.is_none() {
                    refuse_plain(address, configuration.allows_plain_tcp)?;
                }
                vec![Listener::tcp(
                    wharf_api::bind_tcp(address).await?,
                    tls.clone(),
                )]
            }
            Address::Passed(name) => adopt(&mut passed, name, tls.as_ref())?,
        };
        let with_policy = |listener: Listener| listener.with_policy(policy.clone());
        opened
            .listeners
            .extend(listeners.into_iter().map(with_policy));
        opened.policies.push(policy);
        tracing::info!(address = %shown(&socket.address), "listening");
    }
    Ok(opened)
}

fn group(socket: &SocketSetting) -> Result<Option<&str>, SocketError> {
    match &socket.group {
        Group::Named(name) if !wharf_api::group_exists(name) => {
            Err(SocketError::NoGroup(name.clone()))
        }
        Group::Named(name) => Ok(Some(name)),
        Group::Usual(name) => Ok(Some(name)),
    }
}

fn shown(address: &Address) -> String {
    match address {
        Address::Unix(path) => format!("unix://{}", path.display()),
        Address::Tcp(address) => format!("tcp://{address}"),
        Address::Passed(name) => format!("fd://{name}"),
    }
}

/// Lets TCP without TLS pass on loopback only, with a warning, unless it was asked for in so many words.
fn refuse_plain(address: &str, is_asked_for: bool) -> Result<(), SocketError> {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let is_loopback = host == "localhost"
        || host
            .trim_matches(['[', ']'])
            .parse::<std::net::IpAddr>()
            .is_ok_and(|ip| ip.is_loopback());
    if !is_loopback && !is_asked_for {
        return Err(SocketError::PlainTcp(address.to_owned()));
    }
    tracing::warn!(
        "the API is open on tcp://{address} without TLS: every user who reaches it has root on this machine"
    );
    Ok(())
}

/// A socket that the service manager passed.
struct Passed {
    number: RawFd,
    name: String,
    socket: OwnedFd,
}

/// Tells whether the service manager passed sockets to this very process.
pub fn has_passed() -> bool {
    passed_count() > 0
}

fn passed_count() -> i32 {
    let number = |name: &str| std::env::var(name).ok()?.parse::<i64>().ok();
    if number("LISTEN_PID") != Some(i64::from(std::process::id())) {
        return 0;
    }
    let count = number("LISTEN_FDS").unwrap_or(0);
    i32::try_from(count).unwrap_or(0).clamp(0, MAX_PASSED)
}

fn take_passed() -> Result<Vec<Passed>, SocketError> {
    let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
    let mut names = names.split(':');
    (0..passed_count())
        .map(|index| {
            let number = FIRST_PASSED + index;
            let unusable = |error: rustix::io::Errno| SocketError::Unusable {
                number,
                detail: error.to_string(),
            };
            // SAFETY: the service manager opened this descriptor for us (sd_listen_fds(3)); it is taken
            // over once, before anything else of this process opened or closed one of this number.
            let socket = unsafe { OwnedFd::from_raw_fd(number) };
            rustix::io::fcntl_setfd(&socket, rustix::io::FdFlags::CLOEXEC).map_err(unusable)?;
            Ok(Passed {
                number,
                name: names.next().unwrap_or_default().to_owned(),
                socket,
            })
        })
        .collect()
}

/// Makes listeners of the passed sockets of a name or number; an empty name means all.
fn adopt(
    passed: &mut Vec<Passed>,
    name: &str,
    tls: Option<&Tls>,
) -> Result<Vec<Listener>, SocketError> {
    let is_meant =
        |one: &Passed| name.is_empty() || one.name == name || one.number.to_string() == name;
    let (meant, others): (Vec<_>, Vec<_>) = passed.drain(..).partition(is_meant);
    *passed = others;
    if meant.is_empty() {
        return Err(SocketError::NotPassed(name.to_owned()));
    }
    meant.into_iter().map(|one| listener(one, tls)).collect()
}

fn listener(passed: Passed, tls: Option<&Tls>) -> Result<Listener, SocketError> {
    let number = passed.number;
    let unusable = |detail: String| SocketError::Unusable { number, detail };
    let address: SocketAddrAny =
        rustix::net::getsockname(&passed.socket).map_err(|error| unusable(error.to_string()))?;
    let family = address.address_family();
    let io = |error: std::io::Error| unusable(error.to_string());
    if family == AddressFamily::UNIX {
        let listener = StdUnixListener::from(passed.socket);
        listener.set_nonblocking(true).map_err(io)?;
        return Ok(Listener::unix(
            UnixListener::from_std(listener).map_err(io)?,
        ));
    }
    if family == AddressFamily::INET || family == AddressFamily::INET6 {
        let listener = StdTcpListener::from(passed.socket);
        listener.set_nonblocking(true).map_err(io)?;
        let listener = TcpListener::from_std(listener).map_err(io)?;
        return Ok(Listener::tcp(listener, tls.cloned()));
    }
    Err(unusable("neither a unix nor a TCP socket".to_owned()))
}

/// Removes the sockets' files.
pub fn remove(paths: &[impl AsRef<Path>]) {
    for path in paths {
        // A socket that is gone already is removed.
        let _ = wharf_safefs::trusted::remove_file(path);
    }
}
