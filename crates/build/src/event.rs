//! What happens during a build, in order.

use wharf_image::{Digest, ImageId};

use crate::OutputStream;

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BuildEvent {
    /// A step begins.
    StepStarted {
        /// Its number, from 1.
        index: usize,
        /// How many steps there are, triggers not counted.
        total: usize,
        /// The instruction as written.
        text: String,
    },
    /// Something about the current step that the user should know.
    Warning {
        /// The message.
        text: String,
    },
    /// Something about the whole build that the user should know.
    GlobalWarning {
        /// The message.
        text: String,
    },
    /// The base image's ONBUILD triggers are executed next.
    Triggers {
        /// How many.
        count: usize,
    },
    /// The current step's result was taken from the cache.
    CacheHit,
    /// The current step runs in a container.
    Running {
        /// The container's ID, 64 hexadecimal characters.
        id: String,
    },
    /// The running step wrote something.
    Output {
        /// Where to.
        stream: OutputStream,
        /// What, cut anywhere.
        bytes: Vec<u8>,
    },
    /// The step's container is gone.
    IntermediateRemoved {
        /// The container's ID.
        id: String,
    },
    /// A step is done.
    StepDone {
        /// Digest of the image config after it.
        id: Digest,
    },
    /// A stage is done.
    StageDone {
        /// Digest of its config; for the last stage the image.
        id: ImageId,
    },
}
