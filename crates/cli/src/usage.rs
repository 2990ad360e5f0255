//! Telling what is wrong with a command line, in docker's words and with docker's exit statuses.

use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::error::EXIT_ENGINE_FAILURE;

/// Most letters by which a suggestion may differ from what was typed.
const SUGGESTION_DISTANCE: usize = 2;

/// Prints clap's answer and returns the exit status: help is no failure, an unknown flag has docker's status 125.
pub fn answer(error: &clap::Error, program: &str, args: &[OsString]) -> i32 {
    match error.kind() {
        ErrorKind::DisplayHelp
        | ErrorKind::DisplayVersion
        | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            // Nothing can be done about a closed terminal.
            let _ = error.print();
            0
        }
        ErrorKind::UnknownArgument | ErrorKind::InvalidValue | ErrorKind::ValueValidation => {
            talk(&unknown_flag(error, program, args));
            EXIT_ENGINE_FAILURE
        }
        ErrorKind::InvalidSubcommand => {
            talk(&unknown_subcommand(error, program, args));
            1
        }
        _ => {
            let _ = error.print();
            1
        }
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

fn unknown_flag(error: &clap::Error, program: &str, args: &[OsString]) -> String {
    let command = command_path(program, args);
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => text.clone(),
        _ => String::new(),
    };
    let argument = text(ContextKind::InvalidArg);
    let first_line = match error.kind() {
        ErrorKind::UnknownArgument if argument.starts_with("--") => {
            format!("unknown flag: {argument}")
        }
        ErrorKind::UnknownArgument if argument.starts_with('-') => {
            let letter = argument.chars().nth(1).unwrap_or('-');
            format!("unknown shorthand flag: '{letter}' in {argument}")
        }
        ErrorKind::UnknownArgument => {
            return format!(
                "{program}: '{command}' accepts fewer arguments: {argument:?} is one too many\n\n{}\n\nRun '{command} --help' for more information",
                usage_line(error)
            );
        }
        _ => {
            let flag = argument.split_whitespace().next().unwrap_or_default();
            let value = text(ContextKind::InvalidValue);
            let why = std::error::Error::source(error)
                .map(|cause| format!(": {cause}"))
                .unwrap_or_default();
            format!("invalid argument {value:?} for {flag:?} flag{why}")
        }
    };
    format!(
        "{first_line}\n\n{}\n\nRun '{command} --help' for more information",
        usage_line(error)
    )
}

fn unknown_subcommand(error: &clap::Error, program: &str, args: &[OsString]) -> String {
    let name = match error.get(ContextKind::InvalidSubcommand) {
        Some(ContextValue::String(name)) => name.clone(),
        _ => String::new(),
    };
    let path = command_path(program, args);
    let parent = path.strip_suffix(&format!(" {name}")).unwrap_or(&path);
    format!(
        "{program}: unknown command: {parent} {name}\n\nUsage:  {parent}\n\nRun '{parent} --help' for more information"
    )
}

/// Returns the program with the words up to the first flag or argument that is no command.
fn command_path(program: &str, args: &[OsString]) -> String {
    let mut path = program.to_owned();
    let mut command = crate::command();
    for argument in args.iter().skip(1).filter_map(|argument| argument.to_str()) {
        if argument.starts_with('-') {
            continue;
        }
        let next = command.find_subcommand(argument).cloned();
        match next {
            Some(next) => {
                path.push_str(&format!(" {argument}"));
                command = next;
            }
            None => break,
        }
    }
    path
}

fn usage_line(error: &clap::Error) -> String {
    match error.get(ContextKind::Usage) {
        Some(ContextValue::StyledStr(usage)) => {
            usage.to_string().replacen("Usage: ", "Usage:  ", 1)
        }
        _ => String::new(),
    }
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
}
