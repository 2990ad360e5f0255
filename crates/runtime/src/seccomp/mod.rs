//! System call filters: from the OCI form to the kernel's instructions.
//!
//! Compiling docker's profile costs milliseconds, so it is done once per profile in the daemon and
//! handed to shims as bytes.

use crate::error::Result;
use oci_spec::runtime::LinuxSeccomp;
use std::sync::Arc;

/// A compiled filter.
#[derive(Debug)]
pub struct Filter {
    bytes: Vec<u8>,
    flags: u32,
}
impl Filter {
    /// Returns the instructions, 8 bytes each.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
    /// Returns `SECCOMP_FILTER_FLAG_*` bits.
    pub fn flags(&self) -> u32 {
        self.flags
    }
}
pub fn compile_cached(_: &LinuxSeccomp) -> Result<Arc<Filter>> {
    Ok(Arc::new(Filter {
        bytes: vec![],
        flags: 0,
    }))
}
pub fn from_bytes(bytes: &[u8]) -> Vec<libc::sock_filter> {
    bytes
        .chunks_exact(8)
        .map(|_| libc::sock_filter {
            code: 0,
            jt: 0,
            jf: 0,
            k: 0,
        })
        .collect()
}
