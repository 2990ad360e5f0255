//! Just enough of the shell's grammar to see which commands a RUN consists of.

use crate::instruction::{CommandLine, Run};

/// A command with its arguments, quotes taken away.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct SimpleCommand {
    /// Its words; variables and substitutions stay as they are.
    pub words: Vec<String>,
    /// Whether another command's output is its input.
    pub reads_pipe: bool,
}

/// Words that stand before a command and are none.
const KEYWORDS: [&str; 10] = [
    "if", "then", "else", "elif", "do", "while", "until", "!", "{", "time",
];
/// Programs that run the program behind them.
const WRAPPERS: [&str; 7] = [
    "sudo",
    "env",
    "exec",
    "command",
    "nice",
    "eatmydata",
    "doas",
];
/// Shells, by the last part of their path.
const SHELLS: [&str; 10] = [
    "sh",
    "bash",
    "ash",
    "dash",
    "zsh",
    "ksh",
    "busybox",
    "cmd",
    "powershell",
    "pwsh",
];

impl SimpleCommand {
    /// Returns the program's name without its directory, and its arguments; nothing for an empty command.
    pub fn program(&self) -> Option<(&str, &[String])> {
        let mut words = self.words.as_slice();
        let mut is_wrapped = false;
        while let [first, rest @ ..] = words {
            let is_option = is_wrapped && first.starts_with('-');
            let is_wrapper = WRAPPERS.contains(&base_name(first));
            if !(is_option
                || is_wrapper
                || is_assignment(first)
                || KEYWORDS.contains(&first.as_str()))
            {
                return Some((base_name(first), rest));
            }
            is_wrapped |= is_wrapper;
            words = rest;
        }
        None
    }
}

/// Returns the commands of a RUN: those of its script, or the one of exec form.
pub(super) fn commands_of(run: &Run) -> Vec<SimpleCommand> {
    match script(&run.command) {
        Some(script) => commands(&script),
        None => vec![SimpleCommand {
            words: run.command.arguments.clone(),
            reads_pipe: false,
        }],
    }
}

/// Returns the text that a shell gets; nothing for exec form without a shell.
pub(super) fn script(command: &CommandLine) -> Option<String> {
    if command.is_shell {
        let line = command.arguments.first().map_or("", String::as_str);
        let first = line.split_whitespace().next().unwrap_or_default();
        let mut script = format!("{line}\n");
        // Another program's here-documents are its data.
        if first.starts_with("<<") || is_shell(first) {
            let bodies = command.heredocs.iter().map(|heredoc| heredoc.text());
            script.extend(bodies.filter(|body| is_shell_script(body)));
        }
        return Some(script);
    }
    let [program, rest @ ..] = command.arguments.as_slice() else {
        return None;
    };
    let at = rest
        .iter()
        .position(|word| word.ends_with('c') && word.starts_with(['-', '/']))?;
    is_shell(program).then(|| rest.get(at + 1).cloned().unwrap_or_default())
}

/// Returns whether a script is for a shell: it has no first line that names another program.
fn is_shell_script(body: &str) -> bool {
    let first = body.lines().next().unwrap_or_default();
    first
        .strip_prefix("#!")
        .is_none_or(|program| program.split_whitespace().any(is_shell))
}

/// Returns whether a program is a shell.
pub(super) fn is_shell(program: &str) -> bool {
    let name = base_name(program);
    SHELLS.contains(&name.strip_suffix(".exe").unwrap_or(name))
}

fn base_name(word: &str) -> &str {
    word.rsplit(['/', '\\']).next().unwrap_or(word)
}

fn is_assignment(word: &str) -> bool {
    let Some((name, _)) = word.split_once('=') else {
        return false;
    };
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    !name.is_empty()
        && !name.starts_with(|first: char| first.is_ascii_digit())
        && name.bytes().all(is_name)
}

/// Splits a script into commands.
pub(super) fn commands(script: &str) -> Vec<SimpleCommand> {
    let mut splitter = Splitter::default();
    let mut characters = script.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '\\' => match characters.next() {
                Some('\n') | None => {}
                Some(escaped) => splitter.push(escaped),
            },
            '\'' => characters
                .by_ref()
                .take_while(|character| *character != '\'')
                .for_each(|character| splitter.push(character)),
            '"' => splitter.quoted(&mut characters),
            '#' if splitter.word.is_none() => {
                while characters.next_if(|character| *character != '\n').is_some() {}
            }
            '$' if characters.peek() == Some(&'(') => splitter.substitution(&mut characters),
            '>' if characters.next_if_eq(&'&').is_some() => {
                "&>".chars().for_each(|c| splitter.push(c))
            }
            '&' if characters.next_if_eq(&'>').is_some() => splitter.push('>'),
            '|' => {
                let is_or = characters.next_if_eq(&'|').is_some();
                splitter.end_command(!is_or);
            }
            '&' | ';' | '\n' | '(' | ')' => splitter.end_command(false),
            blank if blank.is_whitespace() => splitter.end_word(),
            other => splitter.push(other),
        }
    }
    splitter.end_command(false);
    splitter.commands
}

#[derive(Default)]
struct Splitter {
    commands: Vec<SimpleCommand>,
    command: SimpleCommand,
    word: Option<String>,
}

impl Splitter {
    fn push(&mut self, character: char) {
        self.word.get_or_insert_default().push(character);
    }

    fn end_word(&mut self) {
        self.command.words.extend(self.word.take());
    }

    fn end_command(&mut self, is_piped: bool) {
        self.end_word();
        let next = SimpleCommand {
            words: Vec::new(),
            reads_pipe: is_piped,
        };
        let command = std::mem::replace(&mut self.command, next);
        if !command.words.is_empty() {
            self.commands.push(command);
        }
    }

    fn quoted(&mut self, characters: &mut impl Iterator<Item = char>) {
        self.word.get_or_insert_default();
        while let Some(character) = characters.next() {
            match character {
                '"' => return,
                '\\' => characters
                    .next()
                    .into_iter()
                    .for_each(|character| self.push(character)),
                other => self.push(other),
            }
        }
    }

    /// Takes `$(…)` as it is, up to its closing parenthesis.
    fn substitution(&mut self, characters: &mut impl Iterator<Item = char>) {
        self.push('$');
        let mut depth = 0_usize;
        for character in characters {
            self.push(character);
            match character {
                '(' => depth += 1,
                ')' => depth = depth.saturating_sub(1),
                _ => {}
            }
            if depth == 0 {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{SimpleCommand, commands};

    fn split(script: &str) -> Vec<String> {
        commands(script)
            .iter()
            .filter_map(SimpleCommand::program)
            .map(|(program, arguments)| format!("{program}[{}]", arguments.join("|")))
            .collect()
    }

    #[test]
    fn scripts_are_split_into_commands() {
        for (script, expected) in [
            ("a b && c 'd e' || f", vec!["a[b]", "c[d e]", "f[]"]),
            (
                "X=1 sudo -E /usr/bin/apt-get update; b # c d",
                vec!["apt-get[update]", "b[]"],
            ),
            (
                "a \\\n  b \"c $(d && e)\"\nf",
                vec!["a[b|c $(d && e)]", "f[]"],
            ),
            ("a $(b (c) ; d) e", vec!["a[$(b (c) ; d)|e]"]),
            ("if a; then b; fi", vec!["a[]", "b[]", "fi[]"]),
            ("(a) & { b; }", vec!["a[]", "b[]", "}[]"]),
            (
                "a > /dev/null 2>&1 && b",
                vec!["a[>|/dev/null|2&>1]", "b[]"],
            ),
            ("'", vec![""; 0]),
            ("\"a", vec!["a[]"]),
        ] {
            assert_eq!(split(script), expected, "{script}");
        }
        assert!(commands("yes | a")[1].reads_pipe);
        assert!(!commands("yes || a")[1].reads_pipe);
    }
}
