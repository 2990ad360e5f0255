//! Docker's commands and flags against the command line's definition.

use clap::{Arg, ArgAction, Command};

use crate::notes::Notes;
use crate::{BUILDX_BUILD, DOCKER_COMMANDS, Entry, Status};

/// The command of buildx that has a record of its own.
const BUILDX: &str = "buildx build";
/// What stands for it here.
const OWN_BUILD: &str = "image build";

/// A recorded command.
#[derive(Debug)]
pub(crate) struct Recorded<'a> {
    /// Its first name, such as `container ls`; empty for docker itself.
    pub(crate) name: &'a str,
    /// Its other names.
    pub(crate) others: Vec<&'a str>,
    /// Its flags: `-a --all TYPE`.
    flags: Vec<RecordedFlag<'a>>,
}

#[derive(Debug)]
struct RecordedFlag<'a> {
    short: Option<char>,
    long: &'a str,
    takes_value: bool,
}

/// A command as the page shows it.
#[derive(Debug)]
pub(crate) struct CommandEntry {
    pub(crate) command: Entry,
    pub(crate) others: Vec<String>,
    pub(crate) flags: Vec<Entry>,
    /// Flags that docker does not have.
    pub(crate) own_flags: Vec<String>,
}

/// Returns the recorded commands in their order.
pub(crate) fn recorded() -> Vec<Recorded<'static>> {
    parse(DOCKER_COMMANDS)
}

fn parse(text: &'static str) -> Vec<Recorded<'static>> {
    let mut commands: Vec<Recorded<'static>> = Vec::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        if let Some(flag) = line.strip_prefix("  ") {
            if let Some(command) = commands.last_mut() {
                command.flags.push(parse_flag(flag));
            }
            continue;
        }
        let (name, others) = line.split_once(" = ").unwrap_or((line, ""));
        commands.push(Recorded {
            name: if name == "docker" { "" } else { name },
            others: others
                .split(", ")
                .filter(|other| !other.is_empty())
                .collect(),
            flags: Vec::new(),
        });
    }
    commands
}

fn parse_flag(text: &'static str) -> RecordedFlag<'static> {
    let words: Vec<&str> = text.split(' ').collect();
    let long = words.iter().find_map(|word| word.strip_prefix("--"));
    let short = words
        .iter()
        .find(|word| !word.starts_with("--") && word.starts_with('-'));
    RecordedFlag {
        short: short.and_then(|word| word.chars().nth(1)),
        long: long.unwrap_or_default(),
        takes_value: words.last().is_some_and(|word| !word.starts_with('-')),
    }
}

/// Returns how the command line stands to each command.
pub(crate) fn entries(notes: &Notes) -> Result<Vec<CommandEntry>, String> {
    let own = wharf_cli::command();
    let commands = recorded();
    let buildx = parse(BUILDX_BUILD);
    let all = commands.iter().chain(&buildx);
    all.map(|command| entry(command, &own, notes)).collect()
}

fn entry(recorded: &Recorded<'_>, own: &Command, notes: &Notes) -> Result<CommandEntry, String> {
    let is_buildx = recorded.name == BUILDX;
    let found = find(own, if is_buildx { OWN_BUILD } else { recorded.name });
    let subject = if recorded.name.is_empty() {
        "docker"
    } else {
        recorded.name
    };
    let (mut status, mut note) = notes.judge(subject, found.is_some())?;
    let lacking: Vec<&str> = recorded
        .others
        .iter()
        .copied()
        .filter(|other| find(own, other).is_none())
        .collect();
    if status == Status::Works && !lacking.is_empty() {
        status = Status::Differs;
        note = format!("not under the name {}", lacking.join(", "));
    }
    let flags: Result<Vec<Entry>, String> = match found {
        Some(found) if status != Status::Missing => recorded
            .flags
            .iter()
            .map(|flag| flag_entry(flag, subject, recorded, (found, own), notes))
            .collect(),
        // What is said of a command that is missing need not be said of its flags again.
        _ => Ok(Vec::new()),
    };
    let known = |argument: &&Arg| {
        !recorded
            .flags
            .iter()
            .any(|flag| argument.get_long() == Some(flag.long))
    };
    // Those of the command that stands for buildx's are told of it.
    let told = found.into_iter().filter(|_| !is_buildx);
    let own_flags = told.flat_map(Command::get_arguments);
    Ok(CommandEntry {
        command: Entry {
            name: recorded.name.to_owned(),
            status,
            note,
        },
        others: recorded
            .others
            .iter()
            .map(|other| (*other).to_owned())
            .collect(),
        flags: flags?,
        own_flags: own_flags
            .filter(known)
            .filter(|argument| !argument.is_hide_set())
            .filter_map(|argument| argument.get_long())
            .filter(|long| *long != "help")
            .map(|long| format!("--{long}"))
            .collect(),
    })
}

fn flag_entry(
    flag: &RecordedFlag<'_>,
    subject: &str,
    recorded: &Recorded<'_>,
    (command, root): (&Command, &Command),
    notes: &Notes,
) -> Result<Entry, String> {
    let global = root.get_arguments();
    let found = command.get_arguments().chain(global).find(|argument| {
        argument.get_long() == Some(flag.long)
            || argument
                .get_all_aliases()
                .is_some_and(|aliases| aliases.contains(&flag.long))
    });
    let (mut status, mut note) =
        notes.judge(&format!("{subject} --{}", flag.long), found.is_some())?;
    if status == Status::Works
        && let Some(difference) = found.and_then(|found| difference(flag, found))
    {
        (status, note) = (Status::Differs, difference);
    }
    debug_assert!(!recorded.flags.is_empty(), "a flag belongs to its command");
    let short = flag
        .short
        .map(|short| format!("-{short}, "))
        .unwrap_or_default();
    Ok(Entry {
        name: format!("{short}--{}", flag.long),
        status,
        note,
    })
}

/// Tells what the definition itself shows to be different.
fn difference(flag: &RecordedFlag<'_>, found: &Arg) -> Option<String> {
    let takes_value = matches!(found.get_action(), ArgAction::Set | ArgAction::Append)
        && !found.is_require_equals_set();
    if let Some(short) = flag.short
        && found.get_short() != Some(short)
        && !found
            .get_all_short_aliases()
            .is_some_and(|aliases| aliases.contains(&short))
    {
        return Some(format!("no short form -{short}"));
    }
    match (flag.takes_value, takes_value) {
        (true, false) => Some("takes no value".to_owned()),
        (false, true) => Some("takes a value".to_owned()),
        _ => None,
    }
}

/// Finds a command by its words.
fn find<'a>(own: &'a Command, name: &str) -> Option<&'a Command> {
    name.split(' ')
        .filter(|word| !word.is_empty())
        .try_fold(own, |command, word| {
            command.get_subcommands().find(|inner| {
                inner.get_name() == word || inner.get_all_aliases().any(|alias| alias == word)
            })
        })
}

/// Returns the commands that docker does not have.
pub(crate) fn own_commands() -> Vec<String> {
    let recorded = recorded();
    let known: Vec<&str> = recorded
        .iter()
        .flat_map(|command| command.others.iter().copied().chain([command.name]))
        .collect();
    let mut found = Vec::new();
    collect_own(&wharf_cli::command(), "", &known, &mut found);
    found
}

fn collect_own(command: &Command, path: &str, known: &[&str], found: &mut Vec<String>) {
    for inner in command
        .get_subcommands()
        .filter(|inner| !inner.is_hide_set())
    {
        let name = format!("{path}{}", inner.get_name());
        if inner.get_name() == "help" {
            continue;
        }
        if known.contains(&name.as_str()) {
            collect_own(inner, &format!("{name} "), known, found);
        } else {
            found.push(name);
        }
    }
}
