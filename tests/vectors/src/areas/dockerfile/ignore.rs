//! Ignore files.

use serde_json::{Map, Value, json};
use wharf_dockerfile::{IgnoreFile, ignore};

use super::verdict;
use crate::areas::strings;
use crate::{Document, Vector, Verdict};

/// Checks which paths an ignore file leaves out.
pub(in crate::areas) fn dockerignore(vector: &Vector, _: &Document) -> Verdict {
    verdict(&dockerignore_answer(&vector.input), &vector.expected)
}

fn dockerignore_answer(input: &Value) -> Value {
    let mut found = Map::new();
    let file = match input["ignorefile"].as_str() {
        Some(content) => {
            let patterns = ignore::read_patterns(content).expect("a file within limits");
            found.insert("patterns".into(), json!(patterns));
            IgnoreFile::parse(content)
        }
        None => IgnoreFile::from_patterns(strings(&input["patterns"])),
    };
    match file {
        Err(error) => {
            found.insert("error".into(), json!(without_pattern(&error.to_string())));
        }
        Ok(file) => {
            let paths = strings(&input["paths"]);
            let matched: Result<Vec<bool>, _> = paths
                .iter()
                .map(|path| Ok(file.decide(path)?.is_ignored))
                .collect();
            match matched {
                Ok(matched) => {
                    found.insert("matched".into(), json!(matched));
                    found.insert("exclusions".into(), json!(file.has_exceptions()));
                }
                Err(error) => {
                    let error: wharf_dockerfile::Error = error;
                    found.insert("error".into(), json!(without_pattern(&error.to_string())));
                }
            }
        }
    }
    Value::Object(found)
}

/// Returns a message without the pattern that it names, where the reference names none.
fn without_pattern(message: &str) -> &str {
    const UNNAMED: &str = "syntax error in pattern";
    if message.starts_with(UNNAMED) {
        UNNAMED
    } else {
        message
    }
}
