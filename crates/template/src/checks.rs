//! Mistakes in templates that the parser lets pass.

use gotmpl::parse::{Expr, ListNode, Node, PipeNode};

use crate::{FormatError, Result};

/// Go's own functions, and docker's.
const FUNCTIONS: [&str; 27] = [
    "and", "call", "eq", "ge", "gt", "html", "index", "join", "js", "json", "le", "len", "lower",
    "lt", "ne", "not", "or", "pad", "print", "printf", "println", "slice", "split", "title",
    "truncate", "upper", "urlquery",
];

/// Fails when blocks and their `{{end}}` do not pair up, which the parser lets pass.
pub(crate) fn check_blocks(source: &str) -> Result<()> {
    let mut depth = 0_usize;
    let mut rest = source;
    while let Some(start) = rest.find("{{") {
        let action = &rest[start + 2..];
        let end = action_length(action);
        let words = action[..end].trim_start_matches('-').trim_start();
        match words
            .split(|c: char| !c.is_ascii_alphabetic())
            .next()
            .unwrap_or_default()
        {
            "if" | "range" | "with" | "block" | "define" => depth += 1,
            "end" => {
                depth = depth
                    .checked_sub(1)
                    .ok_or_else(|| FormatError("template: :1: unexpected {{end}}".into()))?;
            }
            _ => {}
        }
        rest = action.get(end + 2..).unwrap_or_default();
    }
    if depth > 0 {
        return Err(FormatError("template: :1: unexpected EOF".into()));
    }
    Ok(())
}

/// Returns where an action's closing braces are, those inside quotes and comments not counting.
fn action_length(action: &str) -> usize {
    if let Some(comment) = action.trim_start_matches(['-', ' ']).strip_prefix("/*") {
        let offset = action.len() - comment.len();
        let end = comment
            .find("*/")
            .map_or(action.len(), |end| offset + end + 2);
        return action[end..]
            .find("}}")
            .map_or(action.len(), |braces| end + braces);
    }
    let (mut quote, mut escaped) = (None, false);
    for (position, byte) in action.bytes().enumerate() {
        match quote {
            Some(_) if escaped => escaped = false,
            Some(b'"' | b'\'') if byte == b'\\' => escaped = true,
            Some(open) if byte == open => quote = None,
            Some(_) => {}
            None if matches!(byte, b'"' | b'`' | b'\'') => quote = Some(byte),
            None if action.as_bytes()[position..].starts_with(b"}}") => return position,
            None => {}
        }
    }
    action.len()
}

/// Fails on the first function that there is not.
pub(crate) fn check_functions(list: &ListNode) -> Result<()> {
    for node in &list.nodes {
        match node {
            Node::List(inner) => check_functions(inner)?,
            Node::Action(action) => check_pipe(&action.pipe)?,
            Node::If(branch) | Node::Range(branch) | Node::With(branch) => {
                check_pipe(&branch.pipe)?;
                check_functions(&branch.body)?;
                if let Some(other) = &branch.else_body {
                    check_functions(other)?;
                }
            }
            Node::Template(template) => {
                if let Some(pipe) = &template.pipe {
                    check_pipe(pipe)?;
                }
            }
            Node::Text(_) | Node::Define(_) | Node::Break(_) | Node::Continue(_) => {}
        }
    }
    Ok(())
}

fn check_pipe(pipe: &PipeNode) -> Result<()> {
    let mut words = pipe.commands.iter().flat_map(|command| &command.args);
    words.try_for_each(check_word)
}

fn check_word(word: &Expr) -> Result<()> {
    match word {
        Expr::Identifier(position, name) if !FUNCTIONS.contains(&name.as_str()) => {
            let line = position.line;
            Err(FormatError(format!(
                "template: :{line}: function \"{name}\" not defined"
            )))
        }
        Expr::Pipe(_, inner) => check_pipe(inner),
        Expr::Chain(_, inner, _) => check_word(inner),
        _ => Ok(()),
    }
}
