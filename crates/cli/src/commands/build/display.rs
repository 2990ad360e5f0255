//! How a build's text looks: as the daemon sent it, or with its steps set off on a terminal.

use crate::error::{CliError, Result};

const BOLD: &str = "\x1b[1m";
const DIM: &str = "\x1b[2m";
const GREEN: &str = "\x1b[32m";
const RESET: &str = "\x1b[0m";

/// How a build is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// As lines, step by step in the order of the Dockerfile.
    Lines {
        /// With the builder's own lines coloured.
        colour: bool,
    },
    /// As a picture of what runs.
    Live {
        /// In colours.
        colour: bool,
    },
    /// As the events themselves, one JSON object a line.
    RawJson,
}

/// Returns how `--progress` and the surroundings want a build to be shown.
///
/// Nothing means that only a failure is shown. `plain` is lines, `tty` always a picture, `auto` a picture on a
/// terminal; `NO_COLOR` takes the colours away (no-color.org).
pub fn look(progress: &str, is_terminal: bool, no_color: bool) -> Result<Option<Look>> {
    let colour = !no_color;
    let look = match progress {
        "" | "auto" if is_terminal => Look::Live { colour },
        "" | "auto" | "plain" => Look::Lines { colour: false },
        "tty" => Look::Live { colour },
        "rawjson" => Look::RawJson,
        "none" | "quiet" => return Ok(None),
        other => {
            return Err(CliError::usage(format!(
                "invalid --progress {other:?}: expected auto, plain, tty, rawjson, quiet or none"
            )));
        }
    };
    Ok(Some(look))
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
    fn pictures_are_for_terminals() {
        let cases = [
            ("auto", true, false, Look::Live { colour: true }),
            ("auto", true, true, Look::Live { colour: false }),
            ("auto", false, false, Look::Lines { colour: false }),
            ("plain", true, false, Look::Lines { colour: false }),
            ("tty", false, false, Look::Live { colour: true }),
            ("rawjson", true, false, Look::RawJson),
        ];
        for (progress, is_terminal, no_color, expected) in cases {
            let found = look(progress, is_terminal, no_color).unwrap();
            assert_eq!(found, Some(expected), "{progress}");
        }
        assert_eq!(look("none", true, false).unwrap(), None);
        assert!(look("loud", true, false).is_err());
    }
}
