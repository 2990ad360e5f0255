//! Kernel settings below `/proc/sys`, as the calling thread's network namespace sees them.

use std::fs::OpenOptions;
use std::io;

use wharf_safefs::trusted;

use crate::error::NetworkError;

/// Most bytes read from a setting or a proc file of this room.
const MAX_PROC_FILE_BYTES: usize = 1 << 20;

/// Sets `/proc/sys/<name>` unless it already has `value`, so that a read-only `/proc/sys` with the
/// right value is no failure.
///
/// # Errors
/// [`NetworkError::Sysctl`].
pub(crate) fn ensure(name: &str, value: &str) -> Result<(), NetworkError> {
    let path = format!("/proc/sys/{name}");
    let wrap = |source| NetworkError::Sysctl {
        name: name.to_owned(),
        value: value.to_owned(),
        source,
    };
    if read_text(&path).map_err(wrap)?.trim_end() == value {
        return Ok(());
    }
    write(&path, value).map_err(wrap)
}

/// Sets `/proc/sys/<name>` if the kernel has it; a kernel without IPv6 has no IPv6 settings.
///
/// # Errors
/// [`NetworkError::Sysctl`].
pub(crate) fn ensure_if_present(name: &str, value: &str) -> Result<(), NetworkError> {
    match ensure(name, value) {
        Err(NetworkError::Sysctl { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            Ok(())
        }
        other => other,
    }
}

/// Reads a proc file as text, at most [`MAX_PROC_FILE_BYTES`].
pub(crate) fn read_text(path: &str) -> io::Result<String> {
    let file = trusted::open(path)?;
    let mut text = Vec::new();
    let mut chunk = [0_u8; 4096];
    loop {
        let count = rustix::io::read(&file, &mut chunk)?;
        if count == 0 || text.len() > MAX_PROC_FILE_BYTES {
            break;
        }
        text.extend_from_slice(chunk.get(..count).unwrap_or_default());
    }
    Ok(String::from_utf8_lossy(&text).into_owned())
}

fn write(path: &str, value: &str) -> io::Result<()> {
    let file = trusted::open_with(path, OpenOptions::new().write(true))?;
    rustix::io::write(&file, value.as_bytes())?;
    Ok(())
}
