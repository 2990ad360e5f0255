//! Giving up privileges: user, groups, capabilities, system calls (`capabilities(7)`, `seccomp(2)`).

use crate::init::plan::{CapabilitySets, ProcessPlan};
use crate::sys::{self, SysResult};

const CAPABILITY_VERSION_3: u32 = 0x2008_0522;
const CAPABILITY_BITS: u64 = 64;
const PR_CAP_AMBIENT_RAISE: u64 = 2;
const PR_CAP_AMBIENT_CLEAR_ALL: u64 = 4;
const SECCOMP_SET_MODE_FILTER: libc::c_uint = 1;

#[repr(C)]
struct CapabilityHeader {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct CapabilityData {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// Takes every capability outside `keep` from what exec may ever give.
pub fn drop_bounding(keep: u64) -> SysResult<()> {
    for capability in 0..CAPABILITY_BITS {
        if keep >> capability & 1 == 1 {
            continue;
        }
        match sys::prctl(libc::PR_CAPBSET_DROP, capability, 0) {
            // The first number the kernel does not know: there are no more.
            Err(libc::EINVAL) => return Ok(()),
            result => result.map(drop)?,
        }
    }
    Ok(())
}

/// Changes groups and user, keeping the permitted capabilities for what is left to do.
pub fn change_user(process: &ProcessPlan) -> SysResult<()> {
    sys::prctl(libc::PR_SET_KEEPCAPS, 1, 0)?;
    // Raw calls: the C library's would look for other threads, which a clone does not have.
    // SAFETY: the group list is readable for its whole length.
    unsafe {
        sys::check(libc::syscall(
            libc::SYS_setgroups,
            process.groups.len(),
            process.groups.as_ptr(),
        ))?;
        let gid = process.gid;
        sys::check(libc::syscall(libc::SYS_setresgid, gid, gid, gid))?;
        let uid = process.uid;
        sys::check(libc::syscall(libc::SYS_setresuid, uid, uid, uid))?;
    }
    sys::prctl(libc::PR_SET_KEEPCAPS, 0, 0)?;
    if process.uid != 0 {
        // Leaving root cleared the effective set; the filter still needs CAP_SYS_ADMIN.
        let (_, permitted) = current_sets()?;
        set_sets(permitted, permitted, 0)?;
    }
    // Looked into by nobody until exec; a change of user or group undid it (CVE-2016-9962).
    sys::prctl(libc::PR_SET_DUMPABLE, 0, 0).map(drop)
}

/// Sets the final capability sets.
pub fn apply_capabilities(sets: &CapabilitySets) -> SysResult<()> {
    // No privilege to clear ambient capabilities is needed, and none are left after.
    sys::prctl(libc::PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0)?;
    let (_, held) = current_sets()?;
    let permitted = sets.permitted & held;
    set_sets(
        sets.effective & permitted,
        permitted,
        sets.inheritable & held,
    )?;
    for capability in 0..CAPABILITY_BITS {
        if sets.ambient >> capability & 1 == 1 {
            sys::prctl(libc::PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, capability)?;
        }
    }
    Ok(())
}

/// Returns the calling thread's effective and permitted capabilities.
pub fn current_sets() -> SysResult<(u64, u64)> {
    let header = CapabilityHeader {
        version: CAPABILITY_VERSION_3,
        pid: 0,
    };
    let mut data = [CapabilityData {
        effective: 0,
        permitted: 0,
        inheritable: 0,
    }; 2];
    // SAFETY: version 3 writes two structures.
    sys::check(unsafe { libc::syscall(libc::SYS_capget, &raw const header, data.as_mut_ptr()) })?;
    let [low, high] = data;
    let join = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
    Ok((
        join(low.effective, high.effective),
        join(low.permitted, high.permitted),
    ))
}

fn set_sets(effective: u64, permitted: u64, inheritable: u64) -> SysResult<()> {
    let header = CapabilityHeader {
        version: CAPABILITY_VERSION_3,
        pid: 0,
    };
    let half = |shift: u32| CapabilityData {
        effective: (effective >> shift) as u32,
        permitted: (permitted >> shift) as u32,
        inheritable: (inheritable >> shift) as u32,
    };
    let data = [half(0), half(32)];
    // SAFETY: version 3 reads two structures.
    sys::check(unsafe { libc::syscall(libc::SYS_capset, &raw const header, data.as_ptr()) })
        .map(drop)
}

/// Installs the system call filter, if there is one.
pub fn install_filter(process: &ProcessPlan) -> SysResult<()> {
    let Some(filter) = &process.seccomp else {
        return Ok(());
    };
    let program = libc::sock_fprog {
        len: filter.program.len() as u16,
        filter: filter.program.as_ptr().cast_mut(),
    };
    // SAFETY: the program is readable for its whole length; the kernel copies it.
    sys::check(unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            SECCOMP_SET_MODE_FILTER,
            filter.flags,
            &raw const program,
        )
    })
    .map(drop)
}
