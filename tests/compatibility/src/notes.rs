//! What differs from docker, told once.

use std::cell::Cell;

use crate::Status;

/// One line of the file.
#[derive(Debug)]
struct Note {
    pattern: String,
    status: Option<Status>,
    text: String,
    used: Cell<bool>,
}

/// The notes of `data/notes.txt`.
///
/// A line is `SUBJECT: differs|missing: TEXT` or, for what is missing anyway, `SUBJECT: because: TEXT`. A subject is
/// a command, a command and a flag (`container run --gpus`) or an instruction (`RUN --device`); words may hold
/// alternatives (`run|create`), and the last may end with `*`.
#[derive(Debug)]
pub(crate) struct Notes(Vec<Note>);

impl Notes {
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let lines = text.lines().enumerate();
        let lines = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
        let notes: Result<Vec<Vec<Note>>, String> = lines
            .map(|(number, line)| {
                parse_line(line).ok_or_else(|| {
                    format!(
                        "notes.txt:{}: expected SUBJECT: differs|missing|because: TEXT",
                        number + 1
                    )
                })
            })
            .collect();
        Ok(Self(notes?.into_iter().flatten().collect()))
    }

    /// Returns how something stands that exists (or not) by what the code says.
    ///
    /// # Errors
    /// A note that contradicts the code.
    pub(crate) fn judge(&self, subject: &str, exists: bool) -> Result<(Status, String), String> {
        let Some(note) = self.find(subject) else {
            let status = if exists {
                Status::Works
            } else {
                Status::Missing
            };
            return Ok((status, String::new()));
        };
        note.used.set(true);
        match (exists, note.status) {
            (true, Some(status)) => Ok((status, note.text.clone())),
            (false, None | Some(Status::Missing)) => Ok((Status::Missing, note.text.clone())),
            (true, None) => Err(format!(
                "notes.txt: {subject} exists now: take its line away, or say what differs"
            )),
            (false, Some(_)) => Err(format!("notes.txt: {subject} does not exist")),
        }
    }

    /// Fails on notes about nothing.
    pub(crate) fn check_all_used(&self) -> Result<(), String> {
        let unused: Vec<String> = self
            .0
            .iter()
            .filter(|note| !note.used.get())
            .map(|note| format!("notes.txt: nothing of docker's is named {}", note.pattern))
            .collect();
        if unused.is_empty() {
            Ok(())
        } else {
            Err(unused.join("\n"))
        }
    }

    /// The exact subject wins over a pattern.
    fn find(&self, subject: &str) -> Option<&Note> {
        let exact = self.0.iter().find(|note| note.pattern == subject);
        exact.or_else(|| {
            self.0.iter().find(|note| {
                note.pattern
                    .strip_suffix('*')
                    .is_some_and(|start| subject.starts_with(start))
            })
        })
    }
}

fn parse_line(line: &str) -> Option<Vec<Note>> {
    let (subject, rest) = line.split_once(": ")?;
    let (status, text) = rest.split_once(": ")?;
    let status = match status {
        "differs" => Some(Status::Differs),
        "missing" => Some(Status::Missing),
        "because" => None,
        _ => return None,
    };
    let note = |pattern| Note {
        pattern,
        status,
        text: text.trim().to_owned(),
        used: Cell::new(false),
    };
    Some(alternatives(subject).into_iter().map(note).collect())
}

/// Writes out `run|create --cpu-count|cpu-percent`: a word's parts stand for one word each.
fn alternatives(subject: &str) -> Vec<String> {
    let mut found = vec![String::new()];
    for word in subject.split(' ') {
        let (dashes, names) = word
            .strip_prefix("--")
            .map_or(("", word), |names| ("--", names));
        let grown = found.iter().flat_map(|start| {
            names
                .split('|')
                .map(move |name| format!("{start} {dashes}{name}"))
        });
        found = grown.collect();
    }
    found
        .into_iter()
        .map(|text| text.trim_start().to_owned())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTES: &str =
        "container run|create --a|b: because: x\nswarm*: because: y\nRUN --m*: missing: z\n";

    #[test]
    fn a_note_decides_and_contradictions_are_told() {
        let notes = Notes::parse(NOTES).expect("notes");
        for subject in ["container run --a", "container create --b", "swarm init"] {
            assert_eq!(
                notes.judge(subject, false).expect("a status").0,
                Status::Missing
            );
        }
        assert!(notes.check_all_used().is_err());
        let run = notes
            .judge("RUN --mount=type=bind", true)
            .expect("a status");
        assert_eq!(run, (Status::Missing, "z".to_owned()));
        assert!(notes.judge("container run --a", true).is_err());
        assert_eq!(
            notes.judge("ps", true).expect("a status"),
            (Status::Works, String::new())
        );
        assert!(Notes::parse("ps: wrong\n").is_err());
    }
}
