//! Telling the service manager how it goes (sd_notify(3)).

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Tells that the daemon listens.
pub fn ready() {
    send("READY=1\nSTATUS=serving");
}

/// Tells that the configuration is being read again; [`ready`] ends it.
pub fn reloading() {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let microseconds = now.tv_sec * 1_000_000 + now.tv_nsec / 1_000;
    send(&format!("RELOADING=1\nMONOTONIC_USEC={microseconds}"));
}

/// Tells that the daemon ends.
pub fn stopping() {
    send("STOPPING=1\nSTATUS=ending; containers go on running");
}

/// Sends a message; where no manager listens, or not any more, nobody misses it.
fn send(message: &str) {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else {
        return;
    };
    let bytes = path.as_encoded_bytes();
    let address = match bytes.strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(&path),
    };
    let sent = address.and_then(|address| {
        let socket = UnixDatagram::unbound()?;
        socket.send_to_addr(message.as_bytes(), &address)
    });
    if let Err(error) = sent {
        tracing::warn!("cannot tell the service manager: {error}");
    }
}
