//! Stages that `build --target` may name: those of the Dockerfile that the line means.

use std::path::Path;

use crate::commands::build::{DOCKERFILE_LIMIT_BYTES, Dockerfile};
use crate::completion::Candidate;
use crate::completion::line::Line;
use crate::host_files;

/// Returns the named stages, in the order of the file; none where it cannot be read.
pub fn of(line: &Line<'_>) -> Vec<Candidate> {
    let context = Path::new(line.given.first().copied().unwrap_or("."));
    let text = match line.value("file") {
        // Standard input is the shell's.
        Some("-") => return Vec::new(),
        Some(file) => host_files::read(Path::new(file), DOCKERFILE_LIMIT_BYTES),
        None => match Dockerfile::find(context, None) {
            Ok(Dockerfile::Inside(name)) => {
                host_files::read(&context.join(name), DOCKERFILE_LIMIT_BYTES)
            }
            _ => return Vec::new(),
        },
    };
    let Ok(Ok(text)) = text.map(String::from_utf8) else {
        return Vec::new();
    };
    let (dockerfile, _) = wharf_dockerfile::load(&text);
    let stages = wharf_dockerfile::targets(&dockerfile);
    stages
        .into_iter()
        .filter(|stage| !stage.name.is_empty())
        .map(|stage| {
            let meaning = match stage.description.is_empty() {
                true => format!("FROM {}", stage.base),
                false => stage.description,
            };
            Candidate::meaning(stage.name, Some(meaning))
        })
        .collect()
}
