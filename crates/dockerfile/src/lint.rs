//! Checks of style and of likely mistakes (spec/llb.md §8).

use crate::ast::{Ast, Node, Word};
use crate::diagnostic::Diagnostic;

/// Runs the checks that need nothing but the tree; warnings in source order.
pub fn check_tree(ast: &Ast) -> Vec<Diagnostic> {
    let mut warnings = Vec::new();
    for node in &ast.nodes {
        match node.keyword.text.to_lowercase().as_str() {
            "from" => check_from(node, &mut warnings),
            "maintainer" => warnings.push(warn(
                node,
                &node.keyword,
                "MaintainerDeprecated",
                "Maintainer instruction is deprecated in favor of using label",
            )),
            _ => {}
        }
    }
    warnings
}

fn check_from(node: &Node, warnings: &mut Vec<Diagnostic>) {
    let [_, word, name] = node.arguments.as_slice() else {
        return;
    };
    if name.text.chars().any(char::is_uppercase) {
        let message = format!("Stage name '{}' should be lowercase", name.text);
        warnings.push(warn(node, name, "StageNameCasing", message));
    }
    let keyword = &node.keyword.text;
    // A keyword in mixed case is another check's concern.
    let is_upper = *keyword == keyword.to_uppercase();
    if (is_upper || is_lower(keyword)) && is_lower(keyword) != is_lower(&word.text) {
        let message = format!(
            "'{}' and '{keyword}' keywords' casing do not match",
            word.text
        );
        warnings.push(warn(node, word, "FromAsCasing", message));
    }
}

fn is_lower(word: &str) -> bool {
    word == word.to_lowercase()
}

fn warn(node: &Node, word: &Word, rule: &'static str, message: impl Into<String>) -> Diagnostic {
    let lines = node.location.start_line..=node.location.end_line;
    Diagnostic::warning(rule, message, word.span.clone(), lines)
}
