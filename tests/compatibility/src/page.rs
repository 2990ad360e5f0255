//! The page.

use std::fmt::Write;

use crate::commands::{self, CommandEntry};
use crate::notes::Notes;
use crate::{Entry, Status, endpoints, instructions};

const HEAD: &str = "# Compatibility with docker

How wharf stands to every command and flag of docker's client 28.5, every endpoint of the Engine API 1.51 and every
instruction of the Dockerfile language: **works** as docker, **differs** (the note says how), **missing** (refused with
a clear error). What wharf has beyond docker closes each part.

This page is written by `cargo xtask compatibility`, from the code and from `tests/compatibility/data`; a test fails
while it is stale. What differs or is refused is told in `tests/compatibility/data/notes.txt` and beside the routes in
`crates/api/src/routes.rs`.
";

/// Returns the whole page.
pub(crate) fn render(notes: &Notes) -> Result<String, String> {
    let commands = commands::entries(notes)?;
    let endpoints = endpoints::entries();
    let instructions = instructions::entries(notes)?;
    let flags: Vec<&Entry> = commands.iter().flat_map(|command| &command.flags).collect();
    let mut text = HEAD.to_owned();
    text.push_str("\n| | works | differs | missing |\n|---|---|---|---|\n");
    let names: Vec<&Entry> = commands.iter().map(|command| &command.command).collect();
    for (name, entries) in [
        ("commands", names),
        ("flags of commands that are there", flags),
        ("endpoints", endpoints.iter().collect()),
        (
            "instructions and their flags",
            instructions.iter().collect(),
        ),
    ] {
        let count = |status: Status| {
            entries
                .iter()
                .filter(|entry| entry.status == status)
                .count()
        };
        line(
            &mut text,
            format_args!(
                "| {name} | {} | {} | {} |",
                count(Status::Works),
                count(Status::Differs),
                count(Status::Missing)
            ),
        );
    }
    render_commands(&mut text, &commands);
    render_endpoints(&mut text, &endpoints);
    text.push_str("\n## Dockerfile\n\n| instruction | status | note |\n|---|---|---|\n");
    for entry in &instructions {
        row(&mut text, entry);
    }
    Ok(text)
}

fn render_commands(text: &mut String, commands: &[CommandEntry]) {
    text.push_str("\n## Commands\n");
    let (missing, there): (Vec<_>, Vec<_>) = commands
        .iter()
        .partition(|command| command.command.status == Status::Missing);
    for command in there {
        render_command(text, command);
    }
    text.push_str("\n### Missing commands\n\n");
    for command in missing {
        line(
            text,
            format_args!(
                "- `{}`{}",
                command.command.name,
                because(&command.command.note)
            ),
        );
    }
    text.push_str("\n### Beyond docker\n\n");
    let own = commands::own_commands();
    line(
        text,
        format_args!("{}", code_list(own.iter().map(String::as_str))),
    );
}

fn render_command(text: &mut String, command: &CommandEntry) {
    let entry = &command.command;
    let title = if entry.name.is_empty() {
        "(every command)"
    } else {
        &entry.name
    };
    let others = if command.others.is_empty() {
        String::new()
    } else {
        format!(", {}", code_list(command.others.iter().map(String::as_str)))
    };
    line(text, format_args!("\n### `{title}`{others}\n"));
    line(
        text,
        format_args!("{}{}", entry.status.as_str(), because(&entry.note)),
    );
    let works = command
        .flags
        .iter()
        .filter(|flag| flag.status == Status::Works);
    let works = code_list(works.map(|flag| flag.name.as_str()));
    if !works.is_empty() {
        line(text, format_args!("- works: {works}"));
    }
    for status in [Status::Differs, Status::Missing] {
        let flags: Vec<&Entry> = command
            .flags
            .iter()
            .filter(|flag| flag.status == status)
            .collect();
        let (told, bare): (Vec<&Entry>, Vec<&Entry>) =
            flags.into_iter().partition(|flag| !flag.note.is_empty());
        let bare = code_list(bare.iter().map(|flag| flag.name.as_str()));
        if !bare.is_empty() {
            line(text, format_args!("- {}: {bare}", status.as_str()));
        }
        for flag in told {
            line(
                text,
                format_args!(
                    "- {}: `{}`{}",
                    status.as_str(),
                    flag.name,
                    because(&flag.note)
                ),
            );
        }
    }
    if !command.own_flags.is_empty() {
        let own = code_list(command.own_flags.iter().map(String::as_str));
        line(text, format_args!("- beyond docker: {own}"));
    }
}

fn render_endpoints(text: &mut String, endpoints: &[Entry]) {
    text.push_str("\n## Engine API\n\n| endpoint | status | note |\n|---|---|---|\n");
    for entry in endpoints {
        row(text, entry);
    }
    text.push_str(
        "\n### Beyond docker's documentation\n\n| route | status | note |\n|---|---|---|\n",
    );
    for entry in endpoints::own_routes() {
        row(text, &entry);
    }
}

fn row(text: &mut String, entry: &Entry) {
    let name = entry.name.replace('|', "\\|");
    line(
        text,
        format_args!("| `{name}` | {} | {} |", entry.status.as_str(), entry.note),
    );
}

fn because(note: &str) -> String {
    if note.is_empty() {
        String::new()
    } else {
        format!(" — {note}")
    }
}

fn code_list<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names
        .map(|name| format!("`{name}`"))
        .collect::<Vec<_>>()
        .join(" ")
}

fn line(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    // A string takes everything.
    let _ = writeln!(text, "{arguments}");
}
