//! The caller's terminal: raw mode, its size, and giving it back as it was.

use std::io::IsTerminal;
use std::os::fd::AsFd;
use std::sync::{Mutex, Once};

use rustix::termios::{self, OptionalActions, Termios};

use crate::error::{CliError, Result};

/// The settings to go back to when the process panics while the terminal is raw.
static ORIGINAL: Mutex<Option<Termios>> = Mutex::new(None);
static PANIC_HOOK: Once = Once::new();

/// Returns whether standard input is a terminal.
#[must_use]
pub fn stdin_is_terminal() -> bool {
    std::io::stdin().is_terminal()
}

/// Returns the terminal's height and width in characters, of standard output or else standard input.
#[must_use]
pub fn size() -> Option<(u16, u16)> {
    let of = |descriptor: std::os::fd::BorrowedFd<'_>| {
        termios::tcgetwinsize(descriptor)
            .ok()
            .map(|size| (size.ws_row, size.ws_col))
    };
    of(std::io::stdout().as_fd())
        .or_else(|| of(std::io::stdin().as_fd()))
        .filter(|size| *size != (0, 0))
}

/// Standard input in raw mode; dropping it gives the terminal back as it was.
pub struct RawMode {
    original: Termios,
}

impl RawMode {
    /// Puts the terminal of standard input into raw mode.
    pub fn enter() -> Result<Self> {
        let stdin = std::io::stdin();
        let fail =
            |error: rustix::io::Errno| CliError::io("cannot set the terminal's mode", error.into());
        let original = termios::tcgetattr(&stdin).map_err(fail)?;
        let mut raw = original.clone();
        raw.make_raw();
        restore_on_panic(original.clone());
        termios::tcsetattr(&stdin, OptionalActions::Now, &raw).map_err(fail)?;
        Ok(Self { original })
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        let _ = termios::tcsetattr(std::io::stdin(), OptionalActions::Now, &self.original);
        if let Ok(mut original) = ORIGINAL.lock() {
            *original = None;
        }
    }
}

/// A panic may end the process without running destructors.
fn restore_on_panic(settings: Termios) {
    if let Ok(mut original) = ORIGINAL.lock() {
        *original = Some(settings);
    }
    PANIC_HOOK.call_once(|| {
        let previous = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if let Ok(original) = ORIGINAL.try_lock()
                && let Some(settings) = original.as_ref()
            {
                let _ = termios::tcsetattr(std::io::stdin(), OptionalActions::Now, settings);
            }
            previous(info);
        }));
    });
}

/// Reads a line from the terminal without showing it, for passwords.
pub fn read_hidden_line() -> Result<String> {
    struct Echo(Termios);
    impl Drop for Echo {
        fn drop(&mut self) {
            let _ = termios::tcsetattr(std::io::stdin(), OptionalActions::Now, &self.0);
        }
    }
    let stdin = std::io::stdin();
    let fail =
        |error: rustix::io::Errno| CliError::io("cannot set the terminal's mode", error.into());
    let original = termios::tcgetattr(&stdin).map_err(fail)?;
    let mut silent = original.clone();
    silent.local_modes.remove(termios::LocalModes::ECHO);
    let _restore = Echo(original);
    termios::tcsetattr(&stdin, OptionalActions::Now, &silent).map_err(fail)?;
    read_line()
}

/// Reads a line from standard input, without its newline.
pub fn read_line() -> Result<String> {
    let mut line = String::new();
    std::io::stdin()
        .read_line(&mut line)
        .map_err(|error| CliError::io("reading standard input", error))?;
    Ok(line.trim_end_matches(['\n', '\r']).to_owned())
}
