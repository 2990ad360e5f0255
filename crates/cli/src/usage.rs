//! Telling what is wrong with a command line, in docker's words and with docker's exit statuses.

use std::ffi::OsString;
use std::num::ParseIntError;

use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::error::EXIT_ENGINE_FAILURE;

/// Most letters by which a suggestion may differ from what was typed.
const SUGGESTION_DISTANCE: usize = 2;

/// Prints clap's answer and returns the exit status: help is no failure, an unknown flag has docker's status 125.
pub fn answer(error: &clap::Error, program: &str, args: &[OsString]) -> i32 {
    match words(error, program, args) {
        Some((text, status)) => {
            talk(&text);
            status
        }
        None => {
            // Nothing can be done about a closed terminal.
            let _ = error.print();
            i32::from(error.use_stderr() && error.kind() != HELP_INSTEAD)
        }
    }
}

/// What a command without the words it needs answers: its help.
const HELP_INSTEAD: ErrorKind = ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand;

/// Returns docker's words about a wrong command line with the exit status, or nothing where clap's own are told.
fn words(error: &clap::Error, program: &str, args: &[OsString]) -> Option<(String, i32)> {
    let (path, command) = command_path(program, args);
    let (first_line, status) = match error.kind() {
        ErrorKind::InvalidSubcommand => {
            let name = text_of(error, ContextKind::InvalidSubcommand);
            (format!("{program}: unknown command: {path} {name}"), 1)
        }
        ErrorKind::UnknownArgument => unknown_argument(error, program, &path, &command)?,
        ErrorKind::InvalidValue | ErrorKind::ValueValidation | ErrorKind::TooManyValues => {
            (invalid_value(error, &command, args), EXIT_ENGINE_FAILURE)
        }
        ErrorKind::MissingRequiredArgument
        | ErrorKind::TooFewValues
        | ErrorKind::WrongNumberOfValues => (wrong_count(program, &path, &command)?, 1),
        _ => return None,
    };
    let usage = match error.kind() {
        ErrorKind::InvalidSubcommand => path.clone(),
        _ => usage_line(&command, &path),
    };
    let help = format!("Run '{path} --help' for more information");
    Some((format!("{first_line}\n\nUsage:  {usage}\n\n{help}"), status))
}

/// Returns the command line definition with docker's way to write a usage: `run [OPTIONS] IMAGE [COMMAND] [ARG...]`.
pub fn with_usages(command: clap::Command, path: &str) -> clap::Command {
    let usage = usage_line(&command, path);
    command.override_usage(usage).mut_subcommands(|below| {
        let path = format!("{path} {}", below.get_name());
        with_usages(below, &path)
    })
}

/// Returns what a command is given, behind the command's own words.
fn usage_line(command: &clap::Command, path: &str) -> String {
    let mut line = path.to_owned();
    let has_options = command
        .get_arguments()
        .any(|it| !it.is_positional() && it.get_id() != "help" && !it.is_hide_set());
    if has_options {
        line.push_str(" [OPTIONS]");
    }
    if command.has_subcommands() {
        line.push_str(" COMMAND");
        if !path.contains(' ') {
            line.push_str(" [ARG...]");
        }
    }
    for positional in command.get_positionals() {
        let names: Vec<&str> = positional
            .get_value_names()
            .unwrap_or_default()
            .iter()
            .map(|name| name.as_str())
            .collect();
        let name = names.join(" ");
        let is_required = positional.is_required_set();
        let repeats = most_values(positional).is_none_or(|most| most > 1);
        line.push(' ');
        line.push_str(&match name.strip_suffix(']') {
            // Several words in one argument: what may follow the first is the last word again.
            Some(words) if repeats && name.contains(" [") => format!("{words}...]"),
            _ if is_required && repeats => format!("{name} [{name}...]"),
            _ if is_required => name,
            _ if repeats => format!("[{name}...]"),
            _ => format!("[{name}]"),
        });
    }
    line
}

/// Returns docker's text about a command that was given too few or too many arguments, if it is about their number.
fn wrong_count(program: &str, path: &str, command: &clap::Command) -> Option<String> {
    let mut least = 0;
    let mut most = Some(0);
    for positional in command.get_positionals() {
        let values = positional.get_num_args().unwrap_or_else(|| 1.into());
        if positional.is_required_set() {
            least += values.min_values().max(1);
        }
        most = most
            .zip(most_values(positional))
            .map(|(sum, more)| sum + more);
    }
    let arguments = |count: usize| if count == 1 { "argument" } else { "arguments" };
    let rule = match most {
        Some(0) => "accepts no arguments".to_owned(),
        Some(most) if most == least => format!("requires {most} {}", arguments(most)),
        Some(most) if least == 0 => format!("requires at most {most} {}", arguments(most)),
        Some(most) => format!(
            "requires at least {least} and at most {most} {}",
            arguments(most)
        ),
        None if least > 0 => format!("requires at least {least} {}", arguments(least)),
        None => return None,
    };
    Some(format!("{program}: '{path}' {rule}"))
}

/// Returns how many values an argument takes, nothing when any number.
fn most_values(argument: &clap::Arg) -> Option<usize> {
    let repeats = matches!(argument.get_action(), clap::ArgAction::Append);
    match argument.get_num_args() {
        Some(range) if range.max_values() == usize::MAX => None,
        Some(range) if range.max_values() > 1 => Some(range.max_values()),
        _ if repeats => None,
        _ => Some(1),
    }
}

/// Returns docker's text about a command that is neither built in nor a plugin, with what may have been meant.
pub fn unknown_command(program: &str, name: &str, known: &[String]) -> String {
    let mut text = format!("{program}: unknown command: {program} {name}\n");
    let near: Vec<&String> = known
        .iter()
        .filter(|candidate| {
            let letters = strsim::levenshtein(candidate, name);
            // Of a short word little may differ, or everything would be near.
            (letters <= SUGGESTION_DISTANCE && letters * 2 < name.len())
                || (name.len() > 2 && candidate.starts_with(name))
        })
        .collect();
    if !near.is_empty() {
        text.push_str("\nDid you mean this?\n");
        for candidate in near {
            text.push_str(&format!("\t{program} {candidate}\n"));
        }
    }
    text.push_str(&format!("\nRun '{program} --help' for more information"));
    text
}

/// Returns what to say of an argument that the command does not know, with the exit status.
fn unknown_argument(
    error: &clap::Error,
    program: &str,
    path: &str,
    command: &clap::Command,
) -> Option<(String, i32)> {
    let argument = text_of(error, ContextKind::InvalidArg);
    if argument.starts_with("--") {
        return Some((format!("unknown flag: {argument}"), EXIT_ENGINE_FAILURE));
    }
    if argument.starts_with('-') {
        let letter = argument.chars().nth(1).unwrap_or('-');
        let text = format!("unknown shorthand flag: '{letter}' in {argument}");
        return Some((text, EXIT_ENGINE_FAILURE));
    }
    wrong_count(program, path, command).map(|text| (text, 1))
}

/// Returns what to say of a flag's value that is missing or makes no sense.
fn invalid_value(error: &clap::Error, command: &clap::Command, args: &[OsString]) -> String {
    let argument = text_of(error, ContextKind::InvalidArg);
    let flag = argument
        .split(|end: char| end.is_whitespace() || end == '[' || end == '=')
        .next()
        .unwrap_or_default();
    let value = text_of(error, ContextKind::InvalidValue);
    let given = args
        .last()
        .and_then(|last| last.to_str())
        .unwrap_or_default();
    // A flag takes whatever follows it, so that only the last one can lack a value.
    if value.is_empty() && given.starts_with('-') && !given.contains('=') {
        return match given.strip_prefix("--") {
            Some(_) => format!("flag needs an argument: {given}"),
            None => {
                let letter = given.chars().last().unwrap_or('-');
                format!("flag needs an argument: '{letter}' in {given}")
            }
        };
    }
    let known = command.get_arguments().find(|it| {
        it.get_long()
            .is_some_and(|long| flag == format!("--{long}"))
    });
    let short = known.and_then(clap::Arg::get_short);
    let flag = short.map_or(flag.to_owned(), |short| format!("-{short}, {flag}"));
    let why = match error.get(ContextKind::ValidValue) {
        Some(ContextValue::Strings(valid)) if !valid.is_empty() => {
            format!(": expected one of {}", valid.join(", "))
        }
        _ if error.kind() == ErrorKind::TooManyValues => {
            format!(": {value:?} is neither true nor false")
        }
        _ => match std::error::Error::source(error) {
            Some(cause) if cause.is::<ParseIntError>() => ": expected a number".to_owned(),
            Some(cause) => format!(": {cause}"),
            None => String::new(),
        },
    };
    format!("invalid argument {value:?} for \"{flag}\" flag{why}")
}

fn text_of(error: &clap::Error, kind: ContextKind) -> String {
    match error.get(kind) {
        Some(ContextValue::String(text)) => text.clone(),
        _ => String::new(),
    }
}

/// Returns the command that is meant, and its words: those up to the first that is no command, but for flags.
fn command_path(program: &str, args: &[OsString]) -> (String, clap::Command) {
    let mut path = program.to_owned();
    let mut command = crate::command();
    let mut words = args
        .iter()
        .skip(1)
        .map(|argument| argument.to_str().unwrap_or_default());
    while let Some(word) = words.next() {
        if word.starts_with('-') {
            let takes_next = !word.contains('=')
                && command.get_arguments().any(|it| {
                    it.get_action().takes_values()
                        && (it
                            .get_long()
                            .is_some_and(|long| word == format!("--{long}"))
                            || it
                                .get_short()
                                .is_some_and(|short| word == format!("-{short}")))
                });
            if takes_next {
                words.next();
            }
            continue;
        }
        match command.find_subcommand(word).cloned() {
            Some(next) => {
                path.push_str(&format!(" {word}"));
                command = next;
            }
            None => break,
        }
    }
    (path, command)
}

fn talk(text: &str) {
    crate::output::Output::process().talk(text);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistyped_command_is_suggested() {
        let known = ["images".to_owned(), "volume".to_owned()];
        assert_eq!(
            unknown_command("wharf", "imags", &known),
            "wharf: unknown command: wharf imags\n\nDid you mean this?\n\twharf images\n\nRun 'wharf --help' for more information"
        );
        assert_eq!(
            unknown_command("docker", "zzzzzz", &known),
            "docker: unknown command: docker zzzzzz\n\nRun 'docker --help' for more information"
        );
    }

    /// Returns the first line about a command line, and the usage, with the exit status.
    fn told(line: &[&str]) -> (String, String, i32) {
        let args: Vec<OsString> = line.iter().map(Into::into).collect();
        let error = crate::arguments::command_for(&args)
            .try_get_matches_from(&args)
            .unwrap_err();
        let (text, status) = words(&error, "wharf", &args).unwrap();
        let mut lines = text.lines();
        let first = lines.next().unwrap().to_owned();
        let usage = lines.nth(1).unwrap().to_owned();
        assert!(text.ends_with("--help' for more information"), "{text}");
        (first, usage, status)
    }

    #[test]
    fn wrong_numbers_of_arguments_are_told_in_docker_s_words() {
        for (line, first, usage) in [
            (
                &["wharf", "ps", "a", "b"][..],
                "wharf: 'wharf ps' accepts no arguments",
                "wharf ps [OPTIONS]",
            ),
            (
                &["wharf", "images", "a", "b"],
                "wharf: 'wharf images' requires at most 1 argument",
                "wharf images [OPTIONS] [REPOSITORY[:TAG]]",
            ),
            (
                &["wharf", "run"],
                "wharf: 'wharf run' requires at least 1 argument",
                "wharf run [OPTIONS] IMAGE [COMMAND] [ARG...]",
            ),
            (
                &["wharf", "exec", "a"],
                "wharf: 'wharf exec' requires at least 2 arguments",
                "wharf exec [OPTIONS] CONTAINER COMMAND [ARG...]",
            ),
            (
                &["wharf", "-H", "unix:///x", "container", "rm", "-f"],
                "wharf: 'wharf container rm' requires at least 1 argument",
                "wharf container rm [OPTIONS] CONTAINER [CONTAINER...]",
            ),
            (
                &["wharf", "commit", "a", "b", "c"],
                "wharf: 'wharf commit' requires at least 1 and at most 2 arguments",
                "wharf commit [OPTIONS] CONTAINER [REPOSITORY[:TAG]]",
            ),
            (
                &["wharf", "rename", "a"],
                "wharf: 'wharf rename' requires 2 arguments",
                "wharf rename CONTAINER NEW_NAME",
            ),
            (
                &["wharf", "container", "nonsense"],
                "wharf: unknown command: wharf container nonsense",
                "wharf container",
            ),
        ] {
            let (told, told_usage, status) = told(line);
            assert_eq!(
                (told.as_str(), told_usage.as_str(), status),
                (first, format!("Usage:  {usage}").as_str(), 1),
                "{line:?}"
            );
        }
    }

    #[test]
    fn wrong_flags_are_told_in_docker_s_words() {
        for (line, first) in [
            (&["wharf", "ps", "--nope"][..], "unknown flag: --nope"),
            (&["wharf", "ps", "-aZ"], "unknown shorthand flag: 'Z' in -Z"),
            (
                &["wharf", "run", "--memory"],
                "flag needs an argument: --memory",
            ),
            (
                &["wharf", "stop", "-t"],
                "flag needs an argument: 't' in -t",
            ),
            (
                &["wharf", "stop", "-t", "x", "a"],
                "invalid argument \"x\" for \"-t, --timeout\" flag: expected a number",
            ),
            (
                &["wharf", "run", "--rm=maybe", "busybox"],
                "invalid argument \"maybe\" for \"--rm\" flag: \"maybe\" is neither true nor false",
            ),
            (
                &["wharf", "run", "-i=maybe", "busybox"],
                "invalid argument \"maybe\" for \"-i, --interactive\" flag: \"maybe\" is neither true nor false",
            ),
        ] {
            let (told, _, status) = told(line);
            assert_eq!((told.as_str(), status), (first, 125), "{line:?}");
        }
    }
}
