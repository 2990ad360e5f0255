//! Which kernel parameters are a container's own (`namespaces(7)`): all others are the whole machine's.

use oci_spec::runtime::{LinuxNamespace, LinuxNamespaceType, Spec};

use crate::error::{Result, RuntimeError};

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

/// Refuses a parameter that is not in a namespace of the container's own.
///
/// # Errors
/// [`RuntimeError::Start`] with the text clients know.
pub fn check(name: &str, spec: &Spec) -> Result<()> {
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
