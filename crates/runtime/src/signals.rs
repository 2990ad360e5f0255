//! Signal names (spec engine-api §7.6).

use crate::error::{Result, RuntimeError};

/// Names of x86-64 and Arm Linux; the order of numbers does not matter.
const NAMES: [(&str, i32); 36] = [
    ("ABRT", libc::SIGABRT),
    ("ALRM", libc::SIGALRM),
    ("BUS", libc::SIGBUS),
    ("CHLD", libc::SIGCHLD),
    ("CLD", libc::SIGCHLD),
    ("CONT", libc::SIGCONT),
    ("FPE", libc::SIGFPE),
    ("HUP", libc::SIGHUP),
    ("ILL", libc::SIGILL),
    ("INT", libc::SIGINT),
    ("IO", libc::SIGIO),
    ("IOT", libc::SIGIOT),
    ("KILL", libc::SIGKILL),
    ("PIPE", libc::SIGPIPE),
    ("POLL", libc::SIGPOLL),
    ("PROF", libc::SIGPROF),
    ("PWR", libc::SIGPWR),
    ("QUIT", libc::SIGQUIT),
    ("SEGV", libc::SIGSEGV),
    ("STKFLT", libc::SIGSTKFLT),
    ("STOP", libc::SIGSTOP),
    ("SYS", libc::SIGSYS),
    ("TERM", libc::SIGTERM),
    ("TRAP", libc::SIGTRAP),
    ("TSTP", libc::SIGTSTP),
    ("TTIN", libc::SIGTTIN),
    ("TTOU", libc::SIGTTOU),
    ("URG", libc::SIGURG),
    ("USR1", libc::SIGUSR1),
    ("USR2", libc::SIGUSR2),
    ("VTALRM", libc::SIGVTALRM),
    ("WINCH", libc::SIGWINCH),
    ("XCPU", libc::SIGXCPU),
    ("XFSZ", libc::SIGXFSZ),
    ("RTMIN", FIRST_REAL_TIME),
    ("RTMAX", LAST_REAL_TIME),
];

/// The first real-time signal after those the C library keeps for itself.
const FIRST_REAL_TIME: i32 = 34;
const LAST_REAL_TIME: i32 = 64;

/// Parses a signal: a number, or a name with or without `SIG`, upper or lower case, also
/// `RTMIN+n` and `RTMAX-n`.
///
/// # Errors
/// [`RuntimeError::InvalidSignal`] for anything else, zero included.
pub fn parse(text: &str) -> Result<i32> {
    let invalid = || RuntimeError::InvalidSignal {
        name: text.to_owned(),
    };
    if let Ok(number) = text.parse::<i32>() {
        // Numbers are taken as they are; whether one exists is another question.
        return if number != 0 {
            Ok(number)
        } else {
            Err(invalid())
        };
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some((_, number)) = NAMES.iter().find(|(known, _)| *known == name) {
        return Ok(*number);
    }
    let offset = |prefix: &str| -> Option<i32> {
        let digits = name.strip_prefix(prefix)?;
        let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        digits.parse().ok().filter(|_| plain)
    };
    let number = match (offset("RTMIN+"), offset("RTMAX-")) {
        (Some(offset @ 0..=15), _) => Some(FIRST_REAL_TIME + offset),
        (_, Some(offset @ 0..=14)) => Some(LAST_REAL_TIME - offset),
        _ => None,
    };
    number.ok_or_else(invalid)
}

/// Says whether Linux has a signal of this number that programs can be sent.
pub fn is_valid(number: i32) -> bool {
    (1..=31).contains(&number) || (FIRST_REAL_TIME..=LAST_REAL_TIME).contains(&number)
}
