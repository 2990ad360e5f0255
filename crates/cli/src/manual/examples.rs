//! Examples of commands.

const EXAMPLES: &str = include_str!("examples.txt");
/// What the lines that say something begin with.
const WHAT: &str = "  ";
/// What command lines begin with.
const HOW: &str = "    ";

/// One example.
#[derive(Debug, PartialEq, Eq)]
pub struct Example {
    /// What is done.
    pub what: &'static str,
    /// The command lines.
    pub lines: Vec<&'static str>,
}

/// Returns the examples of the command with these words.
pub fn of(command: &str) -> Vec<Example> {
    let mut examples: Vec<Example> = Vec::new();
    let mut is_meant = false;
    for line in EXAMPLES.lines().filter(|line| !line.starts_with('#')) {
        if let Some(how) = line.strip_prefix(HOW) {
            if let Some(example) = examples.last_mut().filter(|_| is_meant) {
                example.lines.push(how);
            }
        } else if let Some(what) = line.strip_prefix(WHAT) {
            if is_meant {
                examples.push(Example {
                    what,
                    lines: Vec::new(),
                });
            }
        } else {
            is_meant = line.split(", ").any(|name| name == command);
        }
    }
    examples
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Commands whose whole use is their one argument; docker's pages have no example of them either.
    const WITHOUT: [&str; 8] = [
        "builder cache export",
        "builder cache import",
        "builder cache inspect",
        "builder cache rm",
        "manifest annotate",
        "manifest inspect",
        "manifest rm",
        "volume update",
    ];

    fn leaves(command: &clap::Command, path: &str, found: &mut Vec<String>) {
        for below in command.get_subcommands().filter(|it| !it.is_hide_set()) {
            let path = format!("{path} {}", below.get_name()).trim().to_owned();
            if below.has_subcommands() {
                leaves(below, &path, found);
            } else {
                found.push(path);
            }
        }
    }

    #[test]
    fn every_command_has_an_example() {
        let mut commands = Vec::new();
        leaves(&crate::command(), "", &mut commands);
        for command in &commands {
            let examples = of(command);
            assert_ne!(
                examples.is_empty(),
                !WITHOUT.contains(&command.as_str()),
                "{command}"
            );
            assert!(examples.iter().all(|it| !it.lines.is_empty()), "{command}");
        }
        let named = EXAMPLES
            .lines()
            .filter(|line| !line.starts_with(['#', ' ']));
        for name in named
            .flat_map(|line| line.split(", "))
            .filter(|it| !it.is_empty())
        {
            assert!(
                commands.iter().any(|known| known == name),
                "no command {name:?}"
            );
        }
    }

    /// Takes a command line apart as a shell does, up to where a file is redirected.
    fn words(line: &str) -> Vec<String> {
        let line = line.trim_start_matches("source <(").trim_end_matches(')');
        let line = line.split(" < ").next().unwrap();
        let line = line.split(" > ").next().unwrap();
        let (mut words, mut word, mut is_quoted) = (Vec::new(), String::new(), false);
        let mut letters = line.chars();
        while let Some(letter) = letters.next() {
            match letter {
                '"' => is_quoted = !is_quoted,
                '\\' => word.extend(letters.next()),
                ' ' if !is_quoted => words.push(std::mem::take(&mut word)),
                letter => word.push(letter),
            }
        }
        words.push(word);
        words
    }

    #[test]
    fn examples_are_command_lines() {
        for line in EXAMPLES.lines().filter_map(|line| line.strip_prefix(HOW)) {
            let words = words(line);
            let arguments: Vec<std::ffi::OsString> = words.iter().map(Into::into).collect();
            let parsed = crate::arguments::command_for(&arguments).try_get_matches_from(&arguments);
            assert!(parsed.is_ok(), "{line}: {}", parsed.unwrap_err());
        }
    }
}
