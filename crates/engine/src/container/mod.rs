//! The use cases of containers.

pub(crate) mod archive;
pub(crate) mod attach;
pub(crate) mod check;
mod commit;
pub(crate) mod create;
pub(crate) mod defaults;
pub(crate) mod detach_keys;
pub(crate) mod devices;
pub(crate) mod files;
pub(crate) mod health;
pub(crate) mod list;
pub(crate) mod log_decode;
pub(crate) mod log_files;
pub(crate) mod log_options;
pub(crate) mod log_plan;
pub(crate) mod logs;
pub(crate) mod merge;
pub(crate) mod monitor;
pub(crate) mod mounts;
pub(crate) mod registry;
pub(crate) mod remove;
pub(crate) mod rootfs;
pub(crate) mod runtimes;
pub(crate) mod seccomp;
pub(crate) mod security;
pub(crate) mod spec;
pub(crate) mod start;
pub(crate) mod stats;
pub(crate) mod stop;
mod update;
pub(crate) mod wait;

use crate::error::{EngineError, ErrorKind};

/// Says what was being done when the runtime failed.
pub(crate) fn runtime_error(
    context: &str,
) -> impl Fn(wharf_runtime::RuntimeError) -> EngineError + use<> {
    let context = context.to_owned();
    move |e| EngineError::wrap(ErrorKind::Internal, &context, e)
}
