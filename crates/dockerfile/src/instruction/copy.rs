//! COPY and ADD (spec/llb.md §7.4).

use crate::ast::Node;
use crate::error::Error;
use crate::instruction::flags::{FlagKind, FlagSpec, Flags};
use crate::instruction::interpret::Problem;
use crate::instruction::{Copy, InlineFile};
use crate::parser::heredoc;

const ADD_FLAGS: &[FlagSpec] = &[
    ("checksum", FlagKind::Text),
    ("chmod", FlagKind::Text),
    ("chown", FlagKind::Text),
    ("exclude", FlagKind::List),
    ("keep-git-dir", FlagKind::Bool),
    ("link", FlagKind::Bool),
    ("unpack", FlagKind::Bool),
];

const COPY_FLAGS: &[FlagSpec] = &[
    ("chmod", FlagKind::Text),
    ("chown", FlagKind::Text),
    ("exclude", FlagKind::List),
    ("from", FlagKind::Text),
    ("link", FlagKind::Bool),
    ("parents", FlagKind::Bool),
];

/// Reads COPY.
pub(super) fn copy(node: &Node) -> Result<Copy, Problem> {
    sources_and_destination(node, "COPY", COPY_FLAGS)
}

/// Reads ADD.
pub(super) fn add(node: &Node) -> Result<Copy, Problem> {
    sources_and_destination(node, "ADD", ADD_FLAGS)
}

fn sources_and_destination(
    node: &Node,
    keyword: &'static str,
    specs: &[FlagSpec],
) -> Result<Copy, Problem> {
    let (destination, sources) = match node.arguments.split_last() {
        Some((destination, sources)) if !sources.is_empty() => (destination, sources),
        _ => return Err(Error::NoDestination { keyword }.into()),
    };
    let flags = Flags::parse(&node.flags, specs)?;
    if heredoc::parse_word(&destination.text).is_some() {
        let error = Error::MisplacedHeredoc {
            keyword,
            place: "a destination",
        };
        return Err(Problem::from(error).at(destination.span.clone()));
    }
    let mut copy = Copy {
        destination: destination.text.clone(),
        from: flags.text("from"),
        chown: flags.text("chown"),
        chmod: flags.text("chmod"),
        link: flags.boolean("link").unwrap_or(false),
        parents: flags.boolean("parents").unwrap_or(false),
        exclude: flags.list("exclude"),
        keep_git_dir: flags.boolean("keep-git-dir"),
        checksum: flags.text("checksum"),
        unpack: flags.boolean("unpack"),
        ..Copy::default()
    };
    for source in sources {
        match heredoc::parse_word(&source.text) {
            Some(announced) => copy.heredocs.push(inline_file(node, announced)),
            None => copy.sources.push(source.text.clone()),
        }
    }
    Ok(copy)
}

/// Finds the content of an announced here-document; the last one of a name counts.
fn inline_file(node: &Node, mut announced: crate::ast::Heredoc) -> InlineFile {
    let read = node
        .heredocs
        .iter()
        .rev()
        .find(|heredoc| heredoc.name == announced.name);
    announced.content = read
        .map(|heredoc| heredoc.content.clone())
        .unwrap_or_default();
    InlineFile {
        content: announced.text(),
        expand: announced.expand,
        name: announced.name,
    }
}
