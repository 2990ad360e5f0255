//! Words of the shell form.

use serde_json::{Value, json};
use wharf_dockerfile::expand::Expander;

use super::verdict;
use crate::areas::{strings, text};
use crate::{Document, Vector, Verdict};

/// Checks how words are expanded.
pub(in crate::areas) fn shell_words(vector: &Vector, _: &Document) -> Verdict {
    verdict(&shell_words_answer(&vector.input), &vector.expected)
}

fn shell_words_answer(input: &Value) -> Value {
    let flag = |key: &str| input[key].as_bool().unwrap_or(false);
    let expander = Expander {
        escape: text(input, "escape").chars().next().unwrap_or('\\'),
        raw_quotes: flag("raw_quotes"),
        raw_escapes: flag("raw_escapes"),
        skip_unset_env: flag("skip_unset_env"),
        skip_process_quotes: flag("skip_process_quotes"),
    };
    let env: Vec<(String, String)> = strings(&input["env"])
        .iter()
        .filter_map(|pair| pair.split_once('='))
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect();
    match expander.expand(text(input, "word"), &env) {
        Err(error) => json!({"error": error.to_string()}),
        Ok(expansion) if text(input, "mode") == "words" => json!({"words": expansion.words}),
        Ok(expansion) => json!({
            "result": expansion.result,
            "matched": expansion.matched,
            "unmatched": expansion.unmatched,
        }),
    }
}
