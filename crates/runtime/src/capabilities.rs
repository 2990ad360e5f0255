//! Capability names, numbers and the rules of `--cap-add` and `--cap-drop` (spec runtime §2.4).

use std::sync::OnceLock;

use oci_spec::runtime::{Capabilities, Capability};

use crate::error::{Result, RuntimeError};
use crate::init::privileges;

/// Every capability in the kernel's order (`linux/capability.h`), without `CAP_`.
const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// The capabilities of a container that asks for nothing, in docker's order.
const DEFAULT: [&str; 14] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
];

/// The word for every capability.
const ALL: &str = "ALL";

/// The most names one request may add or drop.
const MAX_NAMES: usize = 1024;

/// `CAP_SYS_RESOURCE` as a mask.
pub(crate) const SYS_RESOURCE: u64 = 1 << 24;

/// Returns the default capabilities, with `CAP_`, in docker's order.
pub fn default_names() -> Vec<String> {
    DEFAULT.iter().map(|name| (*name).to_owned()).collect()
}

/// Returns every capability this kernel lets us hand out, sorted by name.
pub fn all_names() -> Vec<String> {
    let known = known_mask();
    let mut names: Vec<String> = (0..)
        .zip(NAMES)
        .filter(|(number, _)| known >> number & 1 == 1)
        .map(|(_, name)| format!("CAP_{name}"))
        .collect();
    names.sort_unstable();
    names
}

/// Normalises names: upper case, `CAP_` in front; `ALL` stays.
///
/// # Errors
/// [`RuntimeError::UnknownCapability`] for a name the kernel does not know.
pub fn normalize(names: &[String]) -> Result<Vec<String>> {
    if names.len() > MAX_NAMES {
        let reason = format!("{} names, at most {MAX_NAMES}", names.len());
        return Err(RuntimeError::invalid("capabilities", reason));
    }
    names.iter().map(|name| normalize_one(name)).collect()
}

fn normalize_one(name: &str) -> Result<String> {
    let upper = name.to_uppercase();
    if upper == ALL {
        return Ok(upper);
    }
    let full = if upper.starts_with("CAP_") {
        upper
    } else {
        format!("CAP_{upper}")
    };
    match number(&full) {
        Some(_) => Ok(full),
        None => Err(RuntimeError::UnknownCapability { name: full }),
    }
}

/// Returns a container's capabilities: `privileged` gives all; `add` with `ALL` gives all less the
/// drops; `drop` with `ALL` leaves exactly the adds; else the defaults less the drops plus the adds.
pub fn tweak(add: &[String], drop: &[String], privileged: bool) -> Result<Vec<String>> {
    if privileged {
        return Ok(all_names());
    }
    // Drops are looked at first: where both hold a mistake, that one is told.
    let drops = normalize(drop)?;
    let adds = normalize(add)?;
    let has_all = |names: &[String]| names.iter().any(|name| name == ALL);
    if adds.is_empty() && drops.is_empty() {
        return Ok(default_names());
    }
    let without_drops = |names: Vec<String>| -> Vec<String> {
        names
            .into_iter()
            .filter(|name| !drops.contains(name))
            .collect()
    };
    if has_all(&adds) {
        return Ok(without_drops(all_names()));
    }
    if has_all(&drops) {
        return Ok(adds);
    }
    let mut names = without_drops(default_names());
    names.extend(adds);
    Ok(names)
}

/// Turns names into the OCI form; names it does not know are left out.
pub fn to_set(names: &[String]) -> Capabilities {
    names
        .iter()
        .filter_map(|name| {
            let short = name.strip_prefix("CAP_").unwrap_or(name);
            short.parse::<Capability>().ok()
        })
        .collect()
}

/// Returns a set as a bit mask.
pub(crate) fn mask(set: &Capabilities) -> u64 {
    set.iter()
        .filter_map(|capability| number(&format!("CAP_{capability}")))
        .fold(0, |mask, number| mask | 1 << number)
}

/// Returns a capability's number.
pub(crate) fn number(name: &str) -> Option<u32> {
    let short = name.strip_prefix("CAP_")?;
    (0..)
        .zip(NAMES)
        .find(|(_, known)| *known == short)
        .map(|(number, _)| number)
}

/// Returns the capabilities in this process's bounding set: what can be handed out at all.
pub(crate) fn known_mask() -> u64 {
    static MASK: OnceLock<u64> = OnceLock::new();
    *MASK.get_or_init(|| {
        (0..NAMES.len() as u64)
            .filter(|number| crate::sys::prctl(libc::PR_CAPBSET_READ, *number, 0) == Ok(1))
            .fold(0, |mask, number| mask | 1 << number)
    })
}

/// Returns this process's effective capabilities.
pub(crate) fn effective_mask() -> u64 {
    privileges::current_sets().map_or(0, |(effective, _)| effective)
}
