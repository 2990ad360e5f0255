//! The Dockerfile language against the language room.

use wharf_dockerfile::{Diagnostic, load};

use crate::notes::Notes;
use crate::{DOCKERFILE, Entry};

/// Returns how the language room and the builder stand to each instruction and flag.
pub(crate) fn entries(notes: &Notes) -> Result<Vec<Entry>, String> {
    let lines = DOCKERFILE.lines().filter(|line| !line.starts_with('%'));
    lines
        .filter_map(|line| line.split_once(" | "))
        .map(|(name, example)| {
            let (status, note) = notes.judge(name, is_accepted(example))?;
            Ok(Entry {
                name: name.to_owned(),
                status,
                note,
            })
        })
        .collect()
}

fn is_accepted(example: &str) -> bool {
    let example = example.replace("\\n", "\n");
    let text = if example.contains("FROM") {
        example
    } else {
        format!("FROM scratch\n{example}")
    };
    let (_, diagnostics) = load(&(text + "\n"));
    !diagnostics.iter().any(Diagnostic::is_error)
}
