//! Completion of command lines: what may stand where the cursor is.
//!
//! The scripts of the shells ask the hidden command `__complete`, in the form that docker's own scripts ask docker: the
//! words up to the cursor, answered by a candidate a line, with what it means behind a tab, and a last line `:BITS` that
//! tells the shell what to do with them. All of it comes from the definition of the command line: what a value is called
//! in the help says what completes it.

mod line;
mod names;
mod scripts;
mod stages;
mod values;

use std::ffi::OsString;
use std::process::{Command, Stdio};

use clap::builder::PossibleValue;

use crate::completion::line::{Line, Place};
use crate::completion::names::Surroundings;
use crate::completion::values::Values;
use crate::error::Result;
use crate::output::Output;

pub use scripts::script;

/// What completes a word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// The word.
    pub text: String,
    /// What it means, in one line; may be empty.
    pub meaning: String,
}

impl Candidate {
    fn new(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            meaning: String::new(),
        }
    }

    fn meaning(text: impl Into<String>, meaning: Option<String>) -> Self {
        let meaning = meaning.unwrap_or_default();
        Self {
            text: text.into(),
            meaning: meaning.lines().next().unwrap_or_default().to_owned(),
        }
    }
}

/// What to do with the candidates (the bits of docker's protocol).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Directive {
    /// Names of files may stand here, too.
    Files = 0,
    /// No space follows; files may stand here, too.
    FilesNoSpace = 2,
    /// Nothing but the candidates.
    Only = 4,
    /// Nothing but the candidates, and no space follows.
    OnlyNoSpace = 6,
    /// Directories.
    Directories = 16,
}

/// Prints what may stand where the last word is; silent about everything that is wrong.
pub fn complete(output: &mut Output, words: &[OsString], with_meanings: bool) -> Result<()> {
    let words: Vec<String> = words
        .iter()
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    let (last, before) = match words.split_last() {
        Some((last, before)) => (last.as_str(), before),
        None => ("", &[][..]),
    };
    let definition = crate::command();
    let line = Line::read(&definition, before, last);
    if let Place::Plugin { name, arguments } = &line.place {
        return ask_plugin(output, &line, name, arguments, with_meanings);
    }
    let (candidates, directive) = candidates(&line);
    let mut text = String::new();
    for candidate in candidates {
        text.push_str(&candidate.text);
        if with_meanings && !candidate.meaning.is_empty() {
            text.push('\t');
            text.push_str(&candidate.meaning);
        }
        text.push('\n');
    }
    output.text(&format!("{text}:{}\n", directive as u8))
}

fn candidates(line: &Line<'_>) -> (Vec<Candidate>, Directive) {
    let (mut candidates, directive) = match &line.place {
        Place::Command => (commands(line), Directive::Only),
        Place::Flag => (flags(line), Directive::Only),
        Place::Value(argument) => values_of(line, argument),
        Place::Free => (Vec::new(), Directive::Files),
        Place::Nothing | Place::Plugin { .. } => (Vec::new(), Directive::Only),
    };
    // Nothing is named twice, except what the cursor stands behind.
    candidates.retain(|candidate| {
        candidate.text.starts_with(line.typed) && !line.given.contains(&candidate.text.as_str())
    });
    (candidates, directive)
}

fn commands(line: &Line<'_>) -> Vec<Candidate> {
    let known = line.command.get_subcommands();
    let mut candidates: Vec<Candidate> = known
        .filter(|command| !command.is_hide_set())
        .map(|command| {
            let about = command.get_about().map(ToString::to_string);
            Candidate::meaning(command.get_name(), about)
        })
        .collect();
    if line.path.is_empty() {
        let plugins = Surroundings::of(line).plugins();
        candidates.extend(plugins.into_iter().map(Candidate::new));
    }
    candidates.sort_by(|left, right| left.text.cmp(&right.text));
    candidates.dedup_by(|left, right| left.text == right.text);
    candidates
}

fn flags(line: &Line<'_>) -> Vec<Candidate> {
    let is_repeatable =
        |argument: &&clap::Arg| matches!(argument.get_action(), clap::ArgAction::Append);
    let mut candidates = Vec::new();
    let help = [("--help".to_owned(), Some("Print help".to_owned()))];
    let known = line.command.get_arguments();
    let known = known
        .filter(|argument| !argument.is_hide_set())
        .filter(|argument| is_repeatable(argument) || !line.has_flag(argument))
        .flat_map(|argument| {
            let meaning = argument.get_help().map(ToString::to_string);
            let long = argument.get_long().map(|long| format!("--{long}"));
            let short = argument.get_short().map(|short| format!("-{short}"));
            // Short forms only where one was begun: there are too many.
            let short = short.filter(|_| line.typed == "-");
            [long, short]
                .into_iter()
                .flatten()
                .map(move |text| (text, meaning.clone()))
        });
    for (text, meaning) in known.chain(help) {
        let candidate = Candidate::meaning(text, meaning);
        if !candidates
            .iter()
            .any(|known: &Candidate| known.text == candidate.text)
        {
            candidates.push(candidate);
        }
    }
    candidates.sort_by(|left, right| left.text.cmp(&right.text));
    candidates
}

fn values_of(line: &Line<'_>, argument: &clap::Arg) -> (Vec<Candidate>, Directive) {
    let possible = argument.get_possible_values();
    if !possible.is_empty() {
        let of = |value: &PossibleValue| {
            Candidate::meaning(value.get_name(), value.get_help().map(ToString::to_string))
        };
        return (possible.iter().map(of).collect(), Directive::Only);
    }
    match values::of(&line.path, argument) {
        Values::Nothing => (Vec::new(), Directive::Only),
        Values::Files => (Vec::new(), Directive::Files),
        Values::Directories => (Vec::new(), Directive::Directories),
        Values::Words(words) => {
            let candidates: Vec<Candidate> =
                words.iter().map(|word| Candidate::new(*word)).collect();
            let goes_on = |candidate: &Candidate| candidate.text.ends_with(['=', ':']);
            let typed = candidates
                .iter()
                .filter(|candidate| candidate.text.starts_with(line.typed));
            let directive = match typed.clone().next().is_some() && typed.clone().all(goes_on) {
                true => Directive::OnlyNoSpace,
                false => Directive::Only,
            };
            (candidates, directive)
        }
        Values::Variables => {
            let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
            let mut names: Vec<String> = names.collect();
            names.sort();
            (
                names.into_iter().map(Candidate::new).collect(),
                Directive::Only,
            )
        }
        Values::Stages => (stages::of(line), Directive::Only),
        Values::Contexts => {
            let names = Surroundings::of(line).contexts();
            (
                names.into_iter().map(Candidate::new).collect(),
                Directive::Only,
            )
        }
        Values::PathInContainer => {
            let names = names::ask(line, &Values::Containers(values::State::Any));
            let candidates = names.into_iter().map(|name| Candidate::new(name + ":"));
            (candidates.collect(), Directive::FilesNoSpace)
        }
        asked => {
            let names = names::ask(line, &asked);
            (
                names.into_iter().map(Candidate::new).collect(),
                Directive::Only,
            )
        }
    }
}

/// Lets a plugin complete its own command.
fn ask_plugin(
    output: &mut Output,
    line: &Line<'_>,
    name: &str,
    arguments: &[&str],
    with_meanings: bool,
) -> Result<()> {
    let answer = Surroundings::of(line).plugin(name).and_then(|program| {
        let verb = match with_meanings {
            true => "__complete",
            false => "__completeNoDesc",
        };
        let mut command = Command::new(program);
        command.arg(verb).arg(name).args(arguments).arg(line.typed);
        if let Some(host) = Surroundings::of(line).own_host() {
            command.env("DOCKER_HOST", host);
        }
        let command = command.stdin(Stdio::null()).stderr(Stdio::null());
        command.output().ok()
    });
    match answer {
        Some(answer) if answer.status.success() => output.bytes(&answer.stdout),
        _ => output.text(&format!(":{}\n", Directive::Only as u8)),
    }
}
