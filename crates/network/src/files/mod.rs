//! Texts of a container's name files: `/etc/hosts`, `/etc/hostname`, `/etc/resolv.conf`.
//!
//! Pure: text in, text out; the caller reads the host's files and writes the container's
//! (spec runtime §5).

mod hosts;
mod resolv_conf;

pub use hosts::{HostRecord, hostname_text, hosts_text};
pub use resolv_conf::{
    ExternalServer, GENERATED_HEADER, Nameserver, ResolvConf, ResolvMode, ResolvOverrides,
    SYSTEMD_RESOLVED_STUB, is_systemd_resolved_stub, nameservers, resolv_conf,
};
