//! Cleaning up after containers nobody owns.

use std::path::Path;
use std::time::{Duration, Instant};

use wharf_safefs::trusted;

use crate::cgroup::Cgroup;
use crate::claim::{Claim, PATIENCE};
use crate::error::Result;
use crate::protocol::{STATE_NAME, ShimState};
use crate::state;

/// How long all shims together may take to end that have lost their launcher; an engine waits for it when it
/// starts. What takes longer goes with its container.
const SWEEP_PATIENCE: Duration = Duration::from_secs(3);

/// Digits of a container's id.
const ID_LENGTH: usize = 64;

/// Kills and removes what is left of containers that are not `live`: state directories below
/// `state_root` named by other ids, and control groups below `cgroup_parent`.
///
/// Returns what could not be removed, as texts; the rest is done all the same.
pub fn sweep(state_root: &Path, cgroup_parent: &str, live: &[String]) -> Vec<String> {
    let mut problems = Vec::new();
    let until = Instant::now() + SWEEP_PATIENCE;
    let is_live = |name: &str| live.iter().any(|id| id == name);
    for entry in trusted::read_dir_sorted(state_root).unwrap_or_default() {
        let name = entry.name.to_string_lossy().into_owned();
        let directory = state_root.join(&entry.name);
        // A shim whose daemon was killed may not have come as far as to write down who it is.
        let is_id = name.len() == ID_LENGTH && name.bytes().all(|byte| byte.is_ascii_hexdigit());
        let is_state = is_id || trusted::exists(directory.join(STATE_NAME)).unwrap_or(false);
        if is_state
            && !is_live(&name)
            && let Err(error) = remove_state(&directory, until)
        {
            problems.push(format!("{name}: {error}"));
        }
    }
    for name in Cgroup::list(cgroup_parent) {
        if is_live(&name) {
            continue;
        }
        let path = format!("{}/{name}", cgroup_parent.trim_end_matches('/'));
        if let Err(error) = remove_group(&path) {
            problems.push(format!("{path}: {error}"));
        }
    }
    problems
}

/// Kills and removes what is left of one container that does not run: of a start that was cut off, or of a
/// shim that was killed. A shim that has seen its launcher go is waited for; nothing left is no error.
///
/// # Errors
/// [`RuntimeError::Busy`](crate::RuntimeError::Busy) for a shim that does not end; what the kernel refuses.
pub fn remove_remains(state_dir: &Path, cgroup_path: &str) -> Result<()> {
    remove_state(state_dir, Instant::now() + PATIENCE)?;
    remove_group(cgroup_path)
}

/// Removes a state directory with the shim and the control group that it names.
pub(crate) fn remove_state(directory: &Path, until: Instant) -> Result<()> {
    if let Some(state) = state::read::<ShimState>(directory, STATE_NAME)? {
        let alive = state::start_ticks(state.shim_pid).ok() == Some(state.shim_start_ticks);
        if alive && let Ok(pid) = i32::try_from(state.shim_pid) {
            // The container dies with its shim.
            // SAFETY: plain system call; the start time says that it is the shim.
            unsafe { libc::kill(pid, libc::SIGKILL) };
        }
    }
    let patience = until.saturating_duration_since(Instant::now());
    let Some(_claim) = Claim::take(directory, patience)? else {
        return Ok(());
    };
    // Only now nobody writes it any more.
    if let Some(state) = state::read::<ShimState>(directory, STATE_NAME)? {
        remove_group(&state.cgroup_path)?;
    }
    trusted::remove_all(directory)?;
    Ok(())
}

fn remove_group(path: &str) -> Result<()> {
    let cgroup = Cgroup::new(path, false)?;
    // A frozen process does not die.
    let _ = cgroup.thaw();
    cgroup.kill_all()?;
    cgroup.remove()
}
