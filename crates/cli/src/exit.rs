//! Exit statuses of commands that run a process (engine-api.md §7.4).

use crate::error::{CliError, EXIT_ENGINE_FAILURE, EXIT_NOT_EXECUTABLE, EXIT_NOT_FOUND, Result};

/// Returns the status of a failed start, from the text the daemon gives.
#[must_use]
pub fn start_failure_status(message: &str) -> i32 {
    let message = message.to_lowercase();
    let says = |phrases: &[&str]| phrases.iter().any(|phrase| message.contains(phrase));
    if says(&[
        "executable file not found",
        "no such file or directory",
        "system cannot find the file",
    ]) {
        EXIT_NOT_FOUND
    } else if says(&["permission denied", "is a directory"]) {
        EXIT_NOT_EXECUTABLE
    } else {
        EXIT_ENGINE_FAILURE
    }
}

/// Returns the status of a process that a signal ended.
#[must_use]
pub fn signal_status(signal: i32) -> i32 {
    128 + signal
}

/// Turns a process's exit status into the command's result.
pub fn result_of(status: i32) -> Result<()> {
    if status == 0 {
        Ok(())
    } else {
        Err(CliError::Exit(status))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_follow_the_text() {
        let cases = [
            ("exec: \"nope\": executable file not found in $PATH", 127),
            ("stat /x: no such file or directory", 127),
            ("exec: \"/etc\": permission denied", 126),
            ("exec: \"/etc\": is a directory", 126),
            ("port is already allocated", 125),
        ];
        for (message, status) in cases {
            assert_eq!(start_failure_status(message), status, "{message}");
        }
    }
}
