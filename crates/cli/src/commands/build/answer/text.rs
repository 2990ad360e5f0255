//! What `--call` prints, as docker's buildx does.

use std::fmt::Write as _;

use crate::commands::build::answer::{
    BuildError, CheckAnswer, Location, Need, OutlineAnswer, TargetsAnswer,
};

/// Source lines around a finding of one line, and around one of several.
const LINES_AROUND: [usize; 2] = [4, 2];
const RULER: &str = "--------------------";
/// Blanks between the columns of tables, and of lists.
const TABLE_GAP: usize = 3;
const LIST_GAP: usize = 1;
/// Stands for a stage without a name.
const DEFAULT_STAGE: &str = "(default)";

impl CheckAnswer {
    /// Returns the text for standard output.
    pub fn text(&self, file: &str) -> String {
        let warnings = self.warnings.as_deref().unwrap_or_default();
        let mut text = match warnings.len() {
            0 if self.error.is_some() => String::new(),
            0 => "Check complete, no warnings found.\n".to_owned(),
            1 => "Check complete, 1 warning has been found!\n".to_owned(),
            count => format!("Check complete, {count} warnings have been found!\n"),
        };
        let source = self.source();
        for warning in warnings {
            // A string takes everything.
            let _ = write!(text, "\nWARNING: {}", warning.rule_name);
            if !warning.url.is_empty() {
                let _ = write!(text, " - {}", warning.url);
            }
            let _ = writeln!(text, "\n{}", warning.detail);
            text.push_str(&excerpt(file, &source, &warning.location));
        }
        text
    }

    /// Returns why the Dockerfile cannot be built: every mistake of the language, or the one that was found later.
    pub fn mistake(&self, file: &str) -> Option<String> {
        let error = self.error.as_ref()?;
        let source = self.source();
        let (_, read) = wharf_dockerfile::load(&source);
        let all = match self.mistakes.as_slice() {
            [] => std::slice::from_ref(error),
            all => all,
        };
        // What the text alone shows has its exact place; of what was found later the lines are known.
        let tell = |error: &BuildError| {
            let known = read.iter().find(|known| error.tells(known));
            match known {
                Some(known) => wharf_dockerfile::render(file, &source, std::slice::from_ref(known)),
                None => {
                    let lines = excerpt(file, &source, &error.location);
                    format!("{}\n{lines}", error.message)
                }
            }
        };
        let text: String = all.iter().map(tell).collect();
        Some(text.trim_end().to_owned())
    }
}

/// Returns the lines of a place with some around them; nothing where there is no place.
fn excerpt(file: &str, source: &str, location: &Location) -> String {
    let lines: Vec<&str> = source.split('\n').collect();
    let first = location.ranges.iter().map(|range| range.start.line).min();
    let last = location.ranges.iter().map(|range| range.end.line).max();
    let (Some(first), Some(last)) = (first, last) else {
        return String::new();
    };
    if first == 0 || first > lines.len() {
        return String::new();
    }
    let last = last.max(first).min(lines.len());
    let [one, several] = LINES_AROUND;
    let around = if first == last { one } else { several };
    let (mut from, mut to, mut added) = (first, last, 0);
    while added < around {
        if from > 1 {
            from -= 1;
            added += 1;
        }
        if to < lines.len() {
            to += 1;
            added += 1;
        }
        added += 1;
    }
    let mut text = format!("{file}:{first}\n{RULER}\n");
    for (number, line) in lines.iter().enumerate().take(to).skip(from - 1) {
        let number = number + 1;
        let mark = if (first..=last).contains(&number) {
            ">>>"
        } else {
            "   "
        };
        // A string takes everything.
        let _ = writeln!(text, " {number:>3} | {mark} {line}");
    }
    text + RULER + "\n"
}

impl OutlineAnswer {
    /// Returns the text for standard output.
    pub fn text(&self) -> String {
        let mut text = String::new();
        if !self.name.is_empty() || !self.description.is_empty() {
            let name = if self.name.is_empty() {
                DEFAULT_STAGE
            } else {
                &self.name
            };
            let mut rows = vec![vec!["TARGET:", name]];
            if !self.description.is_empty() {
                rows.push(vec!["DESCRIPTION:", &self.description]);
            }
            text.push_str(&columns(&rows, LIST_GAP));
            text.push('\n');
        }
        if !self.args.is_empty() {
            let mut rows = vec![vec!["BUILD ARG", "VALUE", "DESCRIPTION"]];
            rows.extend(
                self.args
                    .iter()
                    .map(|arg| vec![arg.name.as_str(), &arg.value, &arg.description]),
            );
            text.push_str(&columns(&rows, TABLE_GAP));
            text.push('\n');
        }
        for (title, needs) in [("SECRET", &self.secrets), ("SSH", &self.ssh)] {
            if needs.is_empty() {
                continue;
            }
            let mut rows = vec![vec![title, "REQUIRED"]];
            let required = |need: &Need| if need.required { "true" } else { "" };
            rows.extend(
                needs
                    .iter()
                    .map(|need| vec![need.name.as_str(), required(need)]),
            );
            text.push_str(&columns(&rows, TABLE_GAP));
            text.push('\n');
        }
        text
    }
}

impl TargetsAnswer {
    /// Returns the text for standard output.
    pub fn text(&self) -> String {
        let names: Vec<String> = self
            .targets
            .iter()
            .map(|stage| match (stage.name.as_str(), stage.is_default) {
                ("", true) => DEFAULT_STAGE.to_owned(),
                (name, true) => format!("{name} {DEFAULT_STAGE}"),
                (name, false) => name.to_owned(),
            })
            .collect();
        let mut rows = vec![vec!["TARGET", "DESCRIPTION"]];
        for (name, stage) in names.iter().zip(&self.targets) {
            rows.push(vec![name, &stage.description]);
        }
        columns(&rows, LIST_GAP)
    }
}

/// Puts cells below each other; the last column is not filled up.
fn columns(rows: &[Vec<&str>], gap: usize) -> String {
    let mut widths: Vec<usize> = Vec::new();
    for row in rows {
        for (column, cell) in row.iter().enumerate() {
            let width = cell.chars().count();
            match widths.get_mut(column) {
                Some(known) => *known = width.max(*known),
                None => widths.push(width),
            }
        }
    }
    let mut text = String::new();
    for row in rows {
        for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
            text.push_str(cell);
            if column + 1 < row.len() {
                let missing = width - cell.chars().count() + gap;
                text.push_str(&" ".repeat(missing));
            }
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{CheckAnswer, OutlineAnswer, TargetsAnswer};
    use base64::Engine as _;
    use serde_json::{Value, json};

    fn place(line: usize) -> Value {
        json!({"ranges": [{"start": {"line": line}, "end": {"line": line}}]})
    }

    fn check(source: &str, warnings: Value, error: Option<Value>) -> CheckAnswer {
        let data = base64::engine::general_purpose::STANDARD.encode(source);
        let mut answer = json!({
            "warnings": warnings,
            "sources": [{"filename": "Dockerfile", "data": data, "language": "Dockerfile"}],
        });
        if let Some(error) = error {
            answer["buildError"] = error;
        }
        serde_json::from_value(answer).unwrap()
    }

    #[test]
    fn findings_as_buildx_prints_them() {
        let source = "# check=error=true\nFROM busybox\nCMD echo x\nMAINTAINER me";
        let warnings = json!([
            {"ruleName": "A", "url": "https://a/", "detail": "a is wrong", "location": place(3)},
            {"ruleName": "B", "detail": "b is wrong", "location": place(4)},
        ]);
        let error = json!({"message": "lint violation found for rules: A", "location": {}});
        let answer = check(source, warnings, Some(error));
        insta::assert_snapshot!(answer.text("c4/Dockerfile"), @"
        Check complete, 2 warnings have been found!

        WARNING: A - https://a/
        a is wrong
        c4/Dockerfile:3
        --------------------
           1 |     # check=error=true
           2 |     FROM busybox
           3 | >>> CMD echo x
           4 |     MAINTAINER me
        --------------------

        WARNING: B
        b is wrong
        c4/Dockerfile:4
        --------------------
           2 |     FROM busybox
           3 |     CMD echo x
           4 | >>> MAINTAINER me
        --------------------
        ");
        assert_eq!(
            answer.mistake("c4/Dockerfile").unwrap(),
            "lint violation found for rules: A"
        );
        let none = check(source, Value::Null, None);
        assert_eq!(none.text("x"), "Check complete, no warnings found.\n");
        assert_eq!(none.mistake("x"), None);
    }

    #[test]
    fn every_mistake_is_shown() {
        let source = "FROM busybox\nRUNN x\nCOPY a\n";
        let mistakes = json!([
            {
                "message": "dockerfile parse error on line 2: unknown instruction: RUNN (did you mean RUN?)",
                "location": place(2),
            },
            {
                "message": "dockerfile parse error on line 3: COPY requires at least two arguments, but only one was provided. Destination could not be determined",
                "location": place(3),
            },
            {"message": "base name (${NONE}) should not be blank", "location": place(1)},
        ]);
        let mut answer = check(source, Value::Null, Some(mistakes[0].clone()));
        answer.mistakes = serde_json::from_value(mistakes).unwrap();
        assert_eq!(answer.text("Dockerfile"), "");
        insta::assert_snapshot!(answer.mistake("Dockerfile").unwrap(), @"
        dockerfile parse error on line 2: unknown instruction: RUNN (did you mean RUN?)
         --> Dockerfile:2:1
          |
        2 | RUNN x
          | ^^^^ did you mean `RUN`?
        dockerfile parse error on line 3: COPY requires at least two arguments, but only one was provided. Destination could not be determined
         --> Dockerfile:3:1
          |
        3 | COPY a
          | ^^^^
        base name (${NONE}) should not be blank
        Dockerfile:1
        --------------------
           1 | >>> FROM busybox
           2 |     RUNN x
           3 |     COPY a
        --------------------
        ");
    }

    #[test]
    fn outlines_and_targets_as_buildx_prints_them() {
        let outline: OutlineAnswer = serde_json::from_value(json!({
            "name": "two",
            "args": [
                {"name": "VERSION", "value": "latest", "location": place(2)},
                {"name": "MODE", "value": "x", "description": "how it goes", "location": place(6)},
            ],
            "secrets": [{"name": "s", "required": true, "location": place(9)}],
            "ssh": [{"name": "default", "location": place(15)}],
            "sources": [""],
        }))
        .unwrap();
        let expected = "TARGET: two\n\nBUILD ARG   VALUE    DESCRIPTION\nVERSION     latest   \nMODE        x        how it goes\n\n\
                        SECRET   REQUIRED\ns        true\n\nSSH       REQUIRED\ndefault   \n\n";
        assert_eq!(outline.text(), expected);
        let targets: TargetsAnswer = serde_json::from_value(json!({
            "targets": [
                {"name": "first", "base": "busybox", "location": place(3)},
                {"name": "two", "default": true, "location": place(13)},
            ],
            "sources": [""],
        }))
        .unwrap();
        assert_eq!(
            targets.text(),
            "TARGET        DESCRIPTION\nfirst         \ntwo (default) \n"
        );
    }
}
