//! Hiding version 1's slow first attach.

use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::cgroup::{Layout, layout, read_text, write_file};
use crate::error::Result;

/// How long the kernel stays quick after a write at the least; asking more often is pointless.
const STAYS_WARM: Duration = Duration::from_millis(5);

/// Makes the next attach to a control group quick, in the background; returns at once.
///
/// On version 1 the first write to any `cgroup.procs` after an idle moment waits 8 to 18 ms for an
/// RCU grace period, later ones take microseconds. Called when a start is in sight (a container or
/// an exec is created), the wait passes while the request is still on its way. It moves the calling
/// process to the group it is in already. On version 2 it does nothing.
pub fn warm_cgroups() {
    static LAST: Mutex<Option<Instant>> = Mutex::new(None);
    let Ok(Layout::V1 { .. }) = layout() else {
        return;
    };
    let Ok(mut last) = LAST.try_lock() else {
        return;
    };
    if last.is_some_and(|last| last.elapsed() < STAYS_WARM) {
        return;
    }
    *last = Some(Instant::now());
    // Without it a start is slower and nothing else, so an error has nobody to go to.
    let _ = std::thread::Builder::new()
        .stack_size(64 << 10)
        .spawn(|| warm().is_ok());
}

fn warm() -> Result<()> {
    let Layout::V1 { hierarchies, .. } = layout()? else {
        return Ok(());
    };
    let own = read_text(Path::new("/proc/self/cgroup"))?;
    for line in own.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else {
            continue;
        };
        let hierarchy = hierarchies
            .iter()
            .find(|known| known.controllers.join(",") == controllers);
        if let Some(hierarchy) = hierarchy {
            return write_file(&hierarchy.directory(path).join("cgroup.procs"), "0");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn warming_moves_nobody() {
        let before = std::fs::read_to_string("/proc/self/cgroup").unwrap();
        // SAFETY: plain system call.
        if unsafe { libc::geteuid() } == 0 {
            super::warm().unwrap();
        } else {
            eprintln!("SKIP: needs root");
        }
        super::warm_cgroups();
        assert_eq!(
            std::fs::read_to_string("/proc/self/cgroup").unwrap(),
            before
        );
    }
}
