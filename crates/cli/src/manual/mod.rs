//! Manual pages, from the definition of the command line and a file of examples.

mod examples;

use std::path::Path;

use clap::Command;
use clap_mangen::Man;

use crate::error::{CliError, Result};
use crate::{host_files, moment};

use examples::Example;

/// Section of the manual for programs that users call.
const SECTION: &str = "1";

/// What parts of pages begin with: how an apostrophe is written.
const PREAMBLE: [&str; 2] = [r".ie \n(.g .ds Aq \(aq", ".el .ds Aq '"];

/// Writes a page for each command into a directory.
pub fn write(directory: &Path) -> Result<()> {
    host_files::create_directories(directory)?;
    for (name, page) in pages()? {
        host_files::write(
            &directory.join(format!("{name}.{SECTION}")),
            page.as_bytes(),
        )?;
    }
    Ok(())
}

/// Returns the pages by their names.
fn pages() -> Result<Vec<(String, String)>> {
    let mut definition = crate::command().disable_help_subcommand(true);
    definition.build();
    let definition = crate::usage::with_usages(definition, "wharf");
    let mut pages = Vec::new();
    collect(&definition, &[], &moment::today(), &mut pages)?;
    Ok(pages)
}

fn collect(
    command: &Command,
    path: &[&str],
    date: &str,
    pages: &mut Vec<(String, String)>,
) -> Result<()> {
    let name = ["wharf"]
        .iter()
        .chain(path)
        .copied()
        .collect::<Vec<_>>()
        .join("-");
    let page = page(command, &name, path, date)
        .map_err(|error| CliError::io(format!("cannot make the page {name}"), error))?;
    pages.push((name, page));
    for below in command.get_subcommands().filter(|it| !it.is_hide_set()) {
        collect(below, &[path, &[below.get_name()]].concat(), date, pages)?;
    }
    Ok(())
}

fn page(command: &Command, name: &str, path: &[&str], date: &str) -> std::io::Result<String> {
    let man = Man::new(command.clone())
        .title(name.to_uppercase())
        .section(SECTION)
        .date(date)
        .source(concat!("wharf ", env!("CARGO_PKG_VERSION")))
        .manual("wharf");
    let mut roff = Vec::new();
    man.render_title(&mut roff)?;
    man.render_name_section(&mut roff)?;
    man.render_synopsis_section(&mut roff)?;
    man.render_description_section(&mut roff)?;
    if command.get_arguments().any(|it| !it.is_hide_set()) {
        man.render_options_section(&mut roff)?;
    }
    if command.get_subcommands().any(|it| !it.is_hide_set()) {
        man.render_subcommands_section(&mut roff)?;
    }
    let mut text = String::from_utf8_lossy(&roff).into_owned();
    let examples = examples::of(&path.join(" "));
    if !examples.is_empty() {
        text.push_str(".SH EXAMPLES\n");
        for (number, example) in examples.iter().enumerate() {
            if number > 0 {
                text.push_str(".PP\n");
            }
            add(&mut text, example);
        }
    }
    Ok(tidied(&text))
}

fn add(text: &mut String, example: &Example) {
    text.push_str(&escaped(example.what));
    text.push_str(":\n.PP\n.RS 4\n.EX\n");
    for line in &example.lines {
        text.push_str(&escaped(line));
        text.push('\n');
    }
    text.push_str(".EE\n.RE\n");
}

/// Returns a text as roff takes it for itself.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\(rs")
        .replace('-', "\\-")
        .replace('\'', "\\(aq")
}

/// Returns a page that no reader of manual pages warns of: letters as their names, no blanks at the ends of lines.
fn tidied(page: &str) -> String {
    // Empty lines break lines by themselves.
    let page = page.replace(".br\n\n.br\n", ".sp\n");
    let page = page.replace(".br\n.sp\n", ".sp\n");
    let page = page.replace(".sp\n.br\n", ".sp\n");
    let mut text = String::with_capacity(page.len());
    for (number, line) in page.lines().enumerate() {
        // Each part begins with what the first has defined.
        if number >= PREAMBLE.len() && PREAMBLE.contains(&line) {
            continue;
        }
        for letter in line.trim_end().chars() {
            match letter {
                letter if letter.is_ascii() => text.push(letter),
                letter => text.push_str(&format!("\\[u{:04X}]", u32::from(letter))),
            }
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_has_its_parts() {
        let pages = pages().unwrap();
        let (_, page) = pages
            .iter()
            .find(|(name, _)| name == "wharf-volume-rm")
            .unwrap();
        let date = moment::today();
        let page = page.replace(&date, "DATE");
        insta::assert_snapshot!(page.replace(env!("CARGO_PKG_VERSION"), "VERSION"), @r#"
        .ie \n(.g .ds Aq \(aq
        .el .ds Aq '
        .TH WHARF-VOLUME-RM 1 DATE "wharf VERSION" wharf
        .SH NAME
        wharf\-volume\-rm \- Remove volumes
        .SH SYNOPSIS
        \fBwharf volume rm\fR [OPTIONS] VOLUME [VOLUME...]
        .SH DESCRIPTION
        Remove volumes
        .SH OPTIONS
        .TP
        \fB\-f\fR, \fB\-\-force\fR
        Do not fail for a volume that is not there
        .TP
        \fB\-h\fR, \fB\-\-help\fR
        Print help
        .TP
        <\fIVOLUME\fR>
        Volumes
        .SH EXAMPLES
        Remove a volume:
        .PP
        .RS 4
        .EX
        wharf volume rm data
        .EE
        .RE
        "#);
    }

    #[test]
    fn pages_are_plain_letters() {
        for (name, page) in pages().unwrap() {
            assert!(page.is_ascii(), "{name}");
            assert!(!page.contains(" \n"), "{name}");
        }
    }
}
