//! The scripts that make shells ask `__complete`.

use clap_complete::Shell;

const BASH: &str = include_str!("scripts/bash");
const ZSH: &str = include_str!("scripts/zsh");
const FISH: &str = include_str!("scripts/fish");
/// What the scripts call the program.
const PLACEHOLDER: &str = "wharf";

/// Returns the script of a shell for the program of this name.
///
/// Shells without a script of ours get one that knows commands and flags only.
#[must_use]
pub fn script(shell: Shell, program: &str) -> Vec<u8> {
    let own = match shell {
        Shell::Bash => BASH,
        Shell::Zsh => ZSH,
        Shell::Fish => FISH,
        other => {
            let mut script = Vec::new();
            clap_complete::generate(other, &mut crate::command(), program, &mut script);
            return script;
        }
    };
    own.replace(PLACEHOLDER, program).into_bytes()
}
