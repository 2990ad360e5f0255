//! The tree of a Dockerfile.

use serde_json::{Value, json};
use wharf_dockerfile::{Node, instruction, parse as parse_text};

use super::verdict;
use crate::areas::text;
use crate::{Document, Vector, Verdict};

/// Checks the tree of a Dockerfile.
pub(in crate::areas) fn parse(vector: &Vector, _: &Document) -> Verdict {
    verdict(&parse_answer(&vector.input), &vector.expected)
}

fn parse_answer(input: &Value) -> Value {
    let source = text(input, "dockerfile");
    let parsed = parse_text(source);
    assert_eq!(parsed.ast.to_string(), source, "the tree prints back");
    if let Some(error) = parsed
        .diagnostics
        .iter()
        .find(|diagnostic| diagnostic.is_error())
    {
        return json!({"error": error.headline()});
    }
    let nodes: Vec<Value> = parsed
        .ast
        .nodes
        .iter()
        .map(|node| node_value(node, true))
        .collect();
    let dump: Vec<String> = parsed.ast.nodes.iter().map(dump_node).collect();
    let warnings: Vec<Value> = parsed
        .diagnostics
        .iter()
        .map(|warning| json!({"short": warning.message, "line": warning.line()}))
        .collect();
    json!({
        "escape": parsed.ast.directives.escape,
        "nodes": nodes,
        "warnings": warnings,
        "dump": dump.join("\n"),
    })
}

fn node_value(node: &Node, is_top: bool) -> Value {
    let mut arguments: Vec<Value> = node.arguments.iter().map(|word| json!(word.text)).collect();
    if is_unknown(node) {
        // The reference's tree has one empty argument for what it does not know.
        arguments.push(json!(""));
    }
    arguments.extend(
        node.child
            .iter()
            .map(|child| json!({"children": [node_value(child, false)]})),
    );
    let heredocs: Vec<Value> = node
        .heredocs
        .iter()
        .map(|heredoc| {
            json!({
                "name": heredoc.name, "fd": heredoc.file_descriptor, "expand": heredoc.expand,
                "chomp": heredoc.chomp, "content": heredoc.content,
            })
        })
        .collect();
    let flags: Vec<&str> = node.flags.iter().map(|flag| flag.text.as_str()).collect();
    let (start, end) = (node.location.start_line, node.location.end_line);
    json!({
        "value": node.keyword.text,
        "original": node.original,
        "args": arguments,
        "flags": flags,
        "heredocs": heredocs,
        "attributes": {"json": node.is_json},
        "prev_comment": node.comments,
        "start": if is_top { start } else { 0 },
        "end": if is_top { end } else { 0 },
    })
}

fn dump_node(node: &Node) -> String {
    let mut dump = format!("({}", node.keyword.text.to_lowercase());
    if !node.flags.is_empty() {
        let flags: Vec<String> = node
            .flags
            .iter()
            .map(|flag| go_quoted(&flag.text))
            .collect();
        dump.push_str(&format!(" [{}]", flags.join(" ")));
    }
    if let Some(child) = &node.child {
        dump.push_str(&format!(" {}", dump_node(child)));
    }
    if is_unknown(node) {
        dump.push_str(" \"\"");
    }
    for word in &node.arguments {
        dump.push_str(&format!(" {}", go_quoted(&word.text)));
    }
    dump + ")"
}

fn is_unknown(node: &Node) -> bool {
    !instruction::KEYWORDS.contains(&node.keyword.text.to_uppercase().as_str())
}

fn go_quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            '\t' => quoted.push_str("\\t"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            other if other.is_control() || other == '\u{feff}' => {
                quoted.push_str(&format!("\\u{:04x}", u32::from(other)));
            }
            other => quoted.push(other),
        }
    }
    quoted + "\""
}
