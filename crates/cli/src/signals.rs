//! Signals: their names, and passing those the client gets on to the container.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use crate::error::{CliError, Result};

/// Signals that are passed on to the container's process, with the names the API takes.
///
/// Left out are those that cannot be caught, those about the client's own children and pipes, and job control.
const FORWARDED: [(i32, &str); 8] = [
    (libc_number::HUP, "HUP"),
    (libc_number::INT, "INT"),
    (libc_number::QUIT, "QUIT"),
    (libc_number::USR1, "USR1"),
    (libc_number::USR2, "USR2"),
    (libc_number::ALRM, "ALRM"),
    (libc_number::TERM, "TERM"),
    (libc_number::CONT, "CONT"),
];

/// Signal numbers of Linux, the same on every architecture wharf runs on (signal(7)).
mod libc_number {
    pub(super) const HUP: i32 = 1;
    pub(super) const INT: i32 = 2;
    pub(super) const QUIT: i32 = 3;
    pub(super) const USR1: i32 = 10;
    pub(super) const USR2: i32 = 12;
    pub(super) const ALRM: i32 = 14;
    pub(super) const TERM: i32 = 15;
    pub(super) const CONT: i32 = 18;
}

/// Returns a receiver of the names of signals this process gets from now on.
///
/// The process no longer dies of them.
pub fn forwarded() -> Result<mpsc::Receiver<&'static str>> {
    collect(&FORWARDED)
}

/// Returns a receiver of the numbers of signals that would end this process.
pub fn terminating() -> Result<mpsc::Receiver<i32>> {
    let (sender, receiver) = mpsc::channel(4);
    for number in [
        libc_number::HUP,
        libc_number::INT,
        libc_number::QUIT,
        libc_number::TERM,
    ] {
        let mut stream = listen(number)?;
        let sender = sender.clone();
        tokio::spawn(async move {
            while stream.recv().await.is_some() && sender.send(number).await.is_ok() {}
        });
    }
    Ok(receiver)
}

/// Returns a stream of changes of the terminal's size.
pub fn window_changes() -> Result<Signal> {
    signal(SignalKind::window_change())
        .map_err(|error| CliError::io("cannot listen for signals", error))
}

fn collect(signals: &'static [(i32, &'static str)]) -> Result<mpsc::Receiver<&'static str>> {
    let (sender, receiver) = mpsc::channel(16);
    for &(number, name) in signals {
        let mut stream = listen(number)?;
        let sender = sender.clone();
        tokio::spawn(async move {
            while stream.recv().await.is_some() && sender.send(name).await.is_ok() {}
        });
    }
    Ok(receiver)
}

fn listen(number: i32) -> Result<Signal> {
    signal(SignalKind::from_raw(number))
        .map_err(|error| CliError::io("cannot listen for signals", error))
}
