//! The files of a state directory.

use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;
use wharf_safefs::trusted;

use crate::error::{Result, RuntimeError};

/// The longest state file that is read, in bytes.
const MAX_STATE_BYTES: u64 = 4 << 20;

/// Writes a state file in one step. The directory is gone with the boot, so nothing is synced.
pub fn write(state_dir: &Path, name: &str, value: &impl Serialize) -> Result<()> {
    let bytes = serde_json::to_vec(value).map_err(|error| RuntimeError::Protocol {
        reason: format!("cannot write {name}: {error}"),
    })?;
    trusted::write_atomic(state_dir.join(name), &bytes, 0o600, false)?;
    Ok(())
}

/// Reads a state file; none if there is none.
pub fn read<T: DeserializeOwned>(state_dir: &Path, name: &str) -> Result<Option<T>> {
    let bytes = match trusted::read_limited(state_dir.join(name), MAX_STATE_BYTES) {
        Ok(bytes) => bytes,
        Err(error) if error.is_not_found() => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let value = serde_json::from_slice(&bytes).map_err(|error| RuntimeError::Protocol {
        reason: format!("{}: {error}", state_dir.join(name).display()),
    })?;
    Ok(Some(value))
}

/// Returns a process's start time in clock ticks since boot (`proc_pid_stat(5)`, field 22).
pub fn start_ticks(pid: u32) -> Result<u64> {
    field_after_name(pid, 19)
}

/// Returns a process's parent (`proc_pid_stat(5)`, field 4).
pub fn parent(pid: u32) -> Result<u32> {
    field_after_name(pid, 1)
}

fn field_after_name<T: std::str::FromStr>(pid: u32, index: usize) -> Result<T> {
    let stat = trusted::read_limited(format!("/proc/{pid}/stat"), MAX_STATE_BYTES)?;
    let stat = String::from_utf8_lossy(&stat);
    // The name in parentheses may hold anything, also spaces and parentheses.
    let field = stat
        .rsplit_once(')')
        .and_then(|(_, rest)| rest.split_whitespace().nth(index))
        .and_then(|field| field.parse().ok());
    field.ok_or_else(|| RuntimeError::Protocol {
        reason: format!("/proc/{pid}/stat holds no number in field {}", index + 3),
    })
}

/// Returns nanoseconds since 1970.
pub fn now_ns() -> u64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| {
            u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
        })
}
