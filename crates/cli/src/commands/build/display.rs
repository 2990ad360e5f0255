//! How a build's text looks: as the daemon sent it, or with its steps set off on a terminal.

use crate::error::{CliError, Result};

const BOLD: &str = "\x1b[1m";
const DIM: &str = "\x1b[2m";
const GREEN: &str = "\x1b[32m";
const RESET: &str = "\x1b[0m";

/// Returns whether `--progress` and the surroundings ask for colours.
///
/// `plain` never does, `tty` always, `auto` on a terminal unless `NO_COLOR` is set (no-color.org).
pub fn wants_colour(progress: &str, is_terminal: bool, no_color: bool) -> Result<bool> {
    match progress {
        "auto" => Ok(is_terminal && !no_color),
        "plain" => Ok(false),
        "tty" => Ok(true),
        other => Err(CliError::usage(format!(
            "invalid --progress {other:?}: expected auto, plain or tty"
        ))),
    }
}

/// Returns a piece of a build's text with its own lines coloured; what a step printed stays as it is.
pub fn coloured(text: &str) -> String {
    let style = if text.starts_with("Step ") {
        BOLD
    } else if text.starts_with("Successfully ") {
        GREEN
    } else if text.starts_with(" ---> ") {
        DIM
    } else {
        return text.to_owned();
    };
    match text.strip_suffix('\n') {
        Some(line) => format!("{style}{line}{RESET}\n"),
        None => format!("{style}{text}{RESET}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_builders_own_lines_are_coloured() {
        assert_eq!(
            coloured("Step 1/2 : FROM x\n"),
            "\x1b[1mStep 1/2 : FROM x\x1b[0m\n"
        );
        assert_eq!(
            coloured(" ---> Using cache\n"),
            "\x1b[2m ---> Using cache\x1b[0m\n"
        );
        assert_eq!(coloured("hello\n"), "hello\n");
    }

    #[test]
    fn colours_are_for_terminals() {
        let cases = [
            ("auto", true, false, true),
            ("auto", true, true, false),
            ("auto", false, false, false),
            ("plain", true, false, false),
            ("tty", false, true, true),
        ];
        for (progress, is_terminal, no_color, expected) in cases {
            assert_eq!(
                wants_colour(progress, is_terminal, no_color).unwrap(),
                expected,
                "{progress}"
            );
        }
        assert!(wants_colour("rawjson", true, false).is_err());
    }
}
