//! A container between its making and its start.

use std::os::fd::OwnedFd;

use crate::error::{Result, RuntimeError};
use crate::init::Spawned;
use crate::init::streams::Streams;
use crate::shim::external::{External, Made};

/// A container that was set up, and waits for its start.
pub struct NewContainer {
    /// Its first process's number on the host.
    pub pid: i32,
    /// A descriptor of it.
    pub pidfd: OwnedFd,
    /// The shim's ends of its standard streams.
    pub streams: Streams,
    /// How it is started.
    pub waiting: Waiting,
    /// The program that made it, if it was not made here.
    pub external: Option<External>,
}

/// How a container that is set up is started.
pub enum Waiting {
    /// Its first process waits for a word.
    Own(Box<Spawned>),
    /// The program that made it starts it.
    External,
}

impl NewContainer {
    /// Takes over a container that was set up here.
    pub fn own(mut spawned: Spawned) -> Result<Self> {
        let pidfd = spawned
            .pidfd
            .try_clone()
            .map_err(|error| RuntimeError::io("duplicate a descriptor", error))?;
        Ok(Self {
            pid: spawned.pid,
            pidfd,
            streams: std::mem::take(&mut spawned.streams),
            waiting: Waiting::Own(Box::new(spawned)),
            external: None,
        })
    }

    /// Takes over a container that a program set up.
    pub fn external(external: External, made: Made) -> Self {
        let Made {
            pid,
            pidfd,
            streams,
        } = made;
        Self {
            pid,
            pidfd,
            streams,
            waiting: Waiting::External,
            external: Some(external),
        }
    }
}
