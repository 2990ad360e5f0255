//! System call filters: from the OCI form to the kernel's instructions (`seccomp(2)`).
//!
//! Compiling docker's profile costs milliseconds elsewhere and is done at every start there; here
//! it is done once per profile, in the daemon, and handed to shims as bytes.

mod comparison;
mod compiler;
mod instruction;
mod profile;
mod table;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use oci_spec::runtime::{LinuxSeccomp, LinuxSeccompFilterFlag};
use sha2::{Digest, Sha256};

use crate::error::{Result, RuntimeError};

pub use profile::default_profile;

/// Bytes of an instruction (`struct sock_filter`).
const INSTRUCTION_BYTES: usize = 8;

/// How many compiled filters are kept.
const MAX_CACHED: usize = 128;

/// The longest filter the kernel takes, in instructions (`BPF_MAXINSNS`).
const MAX_INSTRUCTIONS: usize = 4096;

/// A compiled filter.
#[derive(Debug)]
pub struct Filter {
    bytes: Vec<u8>,
    flags: u32,
}

impl Filter {
    /// Returns the instructions, 8 bytes each in the machine's byte order.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Returns `SECCOMP_FILTER_FLAG_*` bits.
    pub fn flags(&self) -> u32 {
        self.flags
    }
}

/// Returns a profile's filter, compiled at its first use.
///
/// # Errors
/// [`RuntimeError::Unsupported`] for notifications to another process, [`RuntimeError::Invalid`]
/// for a filter too long for the kernel.
pub fn compile_cached(profile: &LinuxSeccomp) -> Result<Arc<Filter>> {
    static CACHE: Mutex<Option<HashMap<[u8; 32], Arc<Filter>>>> = Mutex::new(None);
    let text = serde_json::to_vec(profile)
        .map_err(|error| RuntimeError::invalid("seccomp profile", error.to_string()))?;
    let key: [u8; 32] = Sha256::digest(&text).into();
    let mut cache = CACHE.lock().unwrap_or_else(PoisonError::into_inner);
    let cache = cache.get_or_insert_default();
    if let Some(filter) = cache.get(&key) {
        return Ok(Arc::clone(filter));
    }
    let filter = Arc::new(compile(profile)?);
    if cache.len() >= MAX_CACHED {
        cache.clear();
    }
    cache.insert(key, Arc::clone(&filter));
    Ok(filter)
}

fn compile(profile: &LinuxSeccomp) -> Result<Filter> {
    if profile.listener_path().is_some() {
        return Err(RuntimeError::Unsupported {
            what: "a seccomp listener".to_owned(),
        });
    }
    let program = compiler::compile(profile)?;
    if program.len() > MAX_INSTRUCTIONS {
        let reason = format!(
            "it takes {} instructions, at most {MAX_INSTRUCTIONS}",
            program.len()
        );
        return Err(RuntimeError::invalid("seccomp profile", reason));
    }
    let mut flags = 0;
    for flag in profile.flags().iter().flatten() {
        flags |= match flag {
            LinuxSeccompFilterFlag::SeccompFilterFlagTsync => 1,
            LinuxSeccompFilterFlag::SeccompFilterFlagLog => 2,
            LinuxSeccompFilterFlag::SeccompFilterFlagSpecAllow => 4,
            LinuxSeccompFilterFlag::SeccompFilterFlagWaitKillableRecv => {
                return Err(RuntimeError::Unsupported {
                    what: "a seccomp listener's flag".to_owned(),
                });
            }
        };
    }
    Ok(Filter {
        bytes: to_bytes(&program),
        flags,
    })
}

fn to_bytes(program: &[libc::sock_filter]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(program.len() * INSTRUCTION_BYTES);
    for instruction in program {
        bytes.extend_from_slice(&instruction.code.to_ne_bytes());
        bytes.extend_from_slice(&[instruction.jt, instruction.jf]);
        bytes.extend_from_slice(&instruction.k.to_ne_bytes());
    }
    bytes
}

/// Turns bytes back into instructions.
pub(crate) fn from_bytes(bytes: &[u8]) -> Vec<libc::sock_filter> {
    let mut program = Vec::with_capacity(bytes.len() / INSTRUCTION_BYTES);
    for chunk in bytes.chunks_exact(INSTRUCTION_BYTES) {
        if let [c0, c1, jt, jf, k0, k1, k2, k3] = *chunk {
            program.push(libc::sock_filter {
                code: u16::from_ne_bytes([c0, c1]),
                jt,
                jf,
                k: u32::from_ne_bytes([k0, k1, k2, k3]),
            });
        }
    }
    program
}
