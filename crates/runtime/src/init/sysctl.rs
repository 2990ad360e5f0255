//! Which kernel parameters are a container's own (`namespaces(7)`): all others are the whole machine's.

use std::ffi::CString;

use oci_spec::runtime::{LinuxNamespace, LinuxNamespaceType, Spec};

use crate::error::{Result, RuntimeError};
use crate::init::plan::c_string;

/// The most kernel parameters of one container.
const MAX_SYSCTLS: usize = 1024;

/// Parameters of the IPC namespace.
const IPC: [&str; 8] = [
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.sem",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
    "kernel.shm_rmid_forced",
];

/// Reads the kernel parameters to set: their paths below `/proc/sys`, and values.
pub(super) fn plan_sysctls(spec: &Spec) -> Result<Vec<(CString, Vec<u8>)>> {
    let Some(sysctls) = spec
        .linux()
        .as_ref()
        .and_then(|linux| linux.sysctl().as_ref())
    else {
        return Ok(Vec::new());
    };
    if sysctls.len() > MAX_SYSCTLS {
        let reason = format!("{} of at most {MAX_SYSCTLS}", sysctls.len());
        return Err(RuntimeError::invalid("sysctl", reason));
    }
    let mut planned = Vec::with_capacity(sysctls.len());
    for (name, value) in sysctls {
        // A name with slashes keeps its dots (interface names hold dots), as sysctl(8) has it.
        let path = if name.contains('/') {
            name.clone()
        } else {
            name.replace('.', "/")
        };
        let odd = |part: &str| matches!(part, "" | "." | "..");
        if path.split('/').any(odd) {
            return Err(RuntimeError::invalid(
                "sysctl",
                format!("{name:?} is no parameter"),
            ));
        }
        check(&path.replace('/', "."), spec)?;
        planned.push((c_string("sysctl", &path)?, value.as_bytes().to_vec()));
    }
    planned.sort();
    Ok(planned)
}

/// Refuses a parameter that is not in a namespace of the container's own.
///
/// # Errors
/// [`RuntimeError::Start`] with the text clients know.
fn check(name: &str, spec: &Spec) -> Result<()> {
    let listed = spec
        .linux()
        .as_ref()
        .and_then(|linux| linux.namespaces().as_deref())
        .unwrap_or_default();
    let has = |kind: LinuxNamespaceType| {
        let is_kind = |namespace: &LinuxNamespace| namespace.typ() == kind;
        listed.iter().any(is_kind)
    };
    let refused = |text: String| Err(RuntimeError::refused(format!("sysctl {name:?} {text}")));
    if IPC.contains(&name) || name.starts_with("fs.mqueue.") {
        return match has(LinuxNamespaceType::Ipc) {
            true => Ok(()),
            false => refused("is not allowed in the hosts ipc namespace".to_owned()),
        };
    }
    if name.starts_with("net.") {
        return match has(LinuxNamespaceType::Network) {
            true => Ok(()),
            false => refused("not allowed in host network namespace".to_owned()),
        };
    }
    match name {
        "kernel.domainname" if has(LinuxNamespaceType::Uts) => Ok(()),
        "kernel.domainname" => refused("is not allowed in the hosts uts namespace".to_owned()),
        "kernel.hostname" => {
            refused("is not allowed as it conflicts with the OCI \"hostname\" field".to_owned())
        }
        _ => refused("is not in a separate kernel namespace".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(namespaces: &str) -> Spec {
        let text =
            format!(r#"{{"ociVersion": "1.2.0", "linux": {{"namespaces": [{namespaces}]}}}}"#);
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn parameters_need_their_namespace() {
        let own = spec(r#"{"type": "network"}, {"type": "ipc"}, {"type": "uts"}"#);
        let none = spec("");
        for name in ["net.ipv4.ip_forward", "kernel.msgmax", "fs.mqueue.msg_max"] {
            assert!(check(name, &own).is_ok(), "{name}");
            assert!(check(name, &none).is_err(), "{name}");
        }
        for name in ["kernel.foo", "kernel.hostname", "vm.swappiness"] {
            assert!(check(name, &own).is_err(), "{name}");
        }
    }
}
