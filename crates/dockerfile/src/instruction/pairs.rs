//! ENV, LABEL and ARG.

use crate::ast::Node;
use crate::error::Error;
use crate::instruction::interpret::Problem;
use crate::instruction::{Arg, KeyValue};

/// Reads the pairs of ENV and LABEL.
pub(super) fn key_values(node: &Node, keyword: &'static str) -> Result<Vec<KeyValue>, Problem> {
    if node.arguments.is_empty() {
        return Err(Error::AtLeastOneArgument { keyword }.into());
    }
    let mut pairs = Vec::with_capacity(node.arguments.len() / 3);
    for triple in node.arguments.chunks(3) {
        let [key, value, separator] = triple else {
            continue;
        };
        if key.text.is_empty() {
            let problem = Problem::from(Error::BlankName { keyword });
            return Err(problem.at(separator.span.clone()));
        }
        pairs.push(KeyValue {
            key: key.text.clone(),
            value: value.text.clone(),
            has_equals: !separator.text.is_empty(),
        });
    }
    Ok(pairs)
}

/// Reads the names of ARG.
pub(super) fn args(node: &Node) -> Result<Vec<Arg>, Problem> {
    if node.arguments.is_empty() {
        return Err(Error::AtLeastOneArgument { keyword: "ARG" }.into());
    }
    node.arguments
        .iter()
        .map(|word| {
            let (key, value) = match word.text.split_once('=') {
                Some(("", _)) => {
                    let problem = Problem::from(Error::BlankName { keyword: "ARG" });
                    return Err(problem.at(word.span.clone()));
                }
                Some((key, value)) => (key, Some(value.to_owned())),
                None => (word.text.as_str(), None),
            };
            let description = description(&node.comments, key);
            Ok(Arg {
                key: key.to_owned(),
                value,
                description,
            })
        })
        .collect()
}

/// Returns the rest of the first comment that starts with a name and a blank.
pub(super) fn description(comments: &[String], name: &str) -> String {
    if name.is_empty() {
        return String::new();
    }
    comments
        .iter()
        .find_map(|comment| comment.strip_prefix(name)?.strip_prefix(' '))
        .unwrap_or_default()
        .to_owned()
}
