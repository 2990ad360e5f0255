//! Reading a command line that is not finished.

use clap::{Arg, ArgAction, Command};

/// What a command line says up to the cursor.
#[derive(Debug)]
pub struct Line<'a> {
    /// The command that was named so far.
    pub command: &'a Command,
    /// Its words, without the program.
    pub path: Vec<&'a str>,
    /// What the cursor stands in.
    pub place: Place<'a>,
    /// What of the word at the cursor is there already; for `--flag=VALUE` only the value.
    pub typed: &'a str,
    /// Positional arguments that were given to the command.
    pub given: Vec<&'a str>,
    /// Flags that were given, each with its value; empty for switches.
    flags: Vec<(&'a Arg, &'a str)>,
}

/// What is to be completed.
#[derive(Debug)]
pub enum Place<'a> {
    /// A command.
    Command,
    /// A flag.
    Flag,
    /// A value of an argument.
    Value(&'a Arg),
    /// A word of a program that runs in a container.
    Free,
    /// Something that a plugin knows.
    Plugin {
        /// The plugin's name.
        name: &'a str,
        /// What it was given before the cursor.
        arguments: Vec<&'a str>,
    },
    /// Nothing can stand here.
    Nothing,
}

impl<'a> Line<'a> {
    /// Reads the words before the one at the cursor, and that.
    pub fn read(root: &'a Command, before: &'a [String], last: &'a str) -> Self {
        let mut line = Self {
            command: root,
            path: Vec::new(),
            place: Place::Nothing,
            typed: last,
            given: Vec::new(),
            flags: Vec::new(),
        };
        let mut awaited = None;
        let mut is_over = false;
        for (index, word) in before.iter().enumerate() {
            let word = word.as_str();
            if let Some(flag) = awaited.take() {
                line.flags.push((flag, word));
            } else if is_over || !word.starts_with('-') || word == "-" {
                let is_command = line.given.is_empty() && line.command.has_subcommands();
                match line.command.find_subcommand(word).filter(|_| is_command) {
                    Some(next) => {
                        line.command = next;
                        line.path.push(next.get_name());
                    }
                    None if is_command && line.path.is_empty() => {
                        let arguments = before[index + 1..].iter().map(String::as_str).collect();
                        line.place = Place::Plugin {
                            name: word,
                            arguments,
                        };
                        return line;
                    }
                    None => {
                        line.given.push(word);
                        is_over |= line
                            .positional(0)
                            .is_some_and(|(first, _)| first.is_trailing_var_arg_set());
                    }
                }
            } else if word == "--" {
                is_over = true;
            } else {
                awaited = line.flag(word);
            }
        }
        line.place = match awaited {
            Some(flag) => Place::Value(flag),
            None => line.place_of(last, is_over),
        };
        line
    }

    /// Returns the value of a flag, the last one that was given.
    pub fn value(&self, long: &str) -> Option<&'a str> {
        let mut flags = self.flags.iter().rev();
        flags
            .find(|(flag, _)| flag.get_long() == Some(long))
            .map(|(_, value)| *value)
    }

    /// Says whether a flag was given.
    pub fn has_flag(&self, argument: &Arg) -> bool {
        self.flags
            .iter()
            .any(|(flag, _)| flag.get_id() == argument.get_id())
    }

    /// Notes a word of flags and returns the one whose value is the next word.
    fn flag(&mut self, word: &'a str) -> Option<&'a Arg> {
        if let Some(long) = word.strip_prefix("--") {
            let (name, value) = match long.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (long, None),
            };
            let flag = self.long(name)?;
            return self.note(flag, value);
        }
        let mut rest = word[1..].chars();
        while let Some(letter) = rest.next() {
            let flag = self.short(letter)?;
            let value = rest.as_str();
            if takes_next(flag) && !value.is_empty() {
                return self.note(flag, Some(value.trim_start_matches('=')));
            }
            if let Some(flag) = self.note(flag, None) {
                return Some(flag);
            }
        }
        None
    }

    fn note(&mut self, flag: &'a Arg, value: Option<&'a str>) -> Option<&'a Arg> {
        if value.is_none() && takes_next(flag) {
            return Some(flag);
        }
        self.flags.push((flag, value.unwrap_or_default()));
        None
    }

    fn long(&self, name: &str) -> Option<&'a Arg> {
        self.command.get_arguments().find(|flag| {
            flag.get_long() == Some(name)
                || flag
                    .get_all_aliases()
                    .is_some_and(|aliases| aliases.contains(&name))
        })
    }

    fn short(&self, letter: char) -> Option<&'a Arg> {
        let mut flags = self.command.get_arguments();
        flags.find(|flag| flag.get_short() == Some(letter))
    }

    fn place_of(&mut self, last: &'a str, is_over: bool) -> Place<'a> {
        if !is_over && last.starts_with('-') {
            let Some((name, value)) = last.strip_prefix("--").and_then(|it| it.split_once('='))
            else {
                return Place::Flag;
            };
            self.typed = value;
            return match self.long(name) {
                Some(flag) => Place::Value(flag),
                None => Place::Nothing,
            };
        }
        if self.given.is_empty() && self.command.has_subcommands() {
            return Place::Command;
        }
        match self.positional(self.given.len()) {
            Some((argument, index)) if index > 0 && argument.is_trailing_var_arg_set() => {
                Place::Free
            }
            Some((argument, _)) => Place::Value(argument),
            None => Place::Nothing,
        }
    }

    /// Returns the argument that the n-th positional word belongs to, and which of its values the word is.
    fn positional(&self, place: usize) -> Option<(&'a Arg, usize)> {
        let mut before = 0;
        for argument in self.command.get_positionals() {
            let most = match argument.get_num_args() {
                Some(range) => range.max_values(),
                None if matches!(argument.get_action(), ArgAction::Append) => usize::MAX,
                None => 1,
            };
            let most = match argument.get_action() {
                ArgAction::Append => usize::MAX,
                _ => most,
            };
            if place - before < most {
                return Some((argument, place - before));
            }
            before += most;
        }
        None
    }
}

fn takes_next(flag: &Arg) -> bool {
    flag.get_action().takes_values() && !flag.is_require_equals_set()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns what is completed, and what was typed of it.
    fn place(text: &str) -> String {
        let root = crate::command();
        let words: Vec<String> = text.split(' ').map(str::to_owned).collect();
        let (last, before) = words.split_last().unwrap();
        let line = Line::read(&root, before, last);
        let place = match &line.place {
            Place::Command => "command".to_owned(),
            Place::Flag => "flag".to_owned(),
            Place::Value(argument) => argument.get_id().to_string(),
            Place::Free => "free".to_owned(),
            Place::Plugin { name, arguments } => format!("plugin {name} {arguments:?}"),
            Place::Nothing => "nothing".to_owned(),
        };
        format!("{} | {place} | {}", line.path.join(" "), line.typed)
    }

    #[test]
    fn places_are_found() {
        for (text, expected) in [
            ("", " | command | "),
            ("st", " | command | st"),
            ("-H unix:///x st", " | command | st"),
            ("-", " | flag | -"),
            ("-c ", " | context | "),
            ("--context=a", " | context | a"),
            ("container ls --f", "container ls | flag | --f"),
            ("container st", "container | command | st"),
            ("stop a b", "stop | containers | b"),
            ("stop -t 3 a", "stop | containers | a"),
            ("stop -- -a", "stop | containers | -a"),
            ("rename a b", "rename | new_name | b"),
            ("rename a b c", "rename | nothing | c"),
            ("run -it --rm --network ", "run | network | "),
            ("run -it --rm b", "run | image_and_command | b"),
            ("run -eA b", "run | image_and_command | b"),
            ("run -e A b", "run | image_and_command | b"),
            ("run -ite ", "run | env | "),
            ("run busybox -", "run | free | -"),
            ("exec -u root web s", "exec | free | s"),
            ("exec -u root w", "exec | container_and_command | w"),
            ("build -t a --target ", "build | target | "),
            ("run --rm=false --pull=m", "run | pull | m"),
            ("ps --no-trunc x", "ps | nothing | x"),
            (
                "compose -f x up ",
                " | plugin compose [\"-f\", \"x\", \"up\"] | ",
            ),
        ] {
            assert_eq!(place(text), expected, "{text:?}");
        }
    }
}
