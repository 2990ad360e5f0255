//! Every recorded Dockerfile: printed back it is the same file, and each instruction by itself means the same.

#![cfg(feature = "dockerfile")]
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking and says what it skips"
)]

use std::collections::BTreeSet;

use wharf_dockerfile::{Diagnostic, Node, parse};
use wharf_vectors::{Document, find_documents, own_directory, public_directory};

/// Returns the Dockerfiles of all areas.
fn dockerfiles() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for directory in [own_directory(), public_directory()] {
        if !directory.is_dir() {
            println!("SKIP: no vectors at {}", directory.display());
            continue;
        }
        for path in find_documents(&directory).unwrap() {
            if !path
                .file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with("dockerfile-"))
            {
                continue;
            }
            let document = Document::read(&path).unwrap();
            let texts = document
                .vectors
                .iter()
                .filter_map(|vector| vector.input["dockerfile"].as_str());
            found.extend(texts.map(str::to_owned));
        }
    }
    found
}

/// What a node says, without its places.
fn meaning(node: &Node) -> String {
    let texts = |words: &[wharf_dockerfile::Word]| -> Vec<String> {
        words.iter().map(|word| word.text.clone()).collect()
    };
    let heredocs: Vec<_> = node
        .heredocs
        .iter()
        .map(|it| (&it.name, &it.content))
        .collect();
    format!(
        "{:?} {:?} {:?} {} {heredocs:?} {:?}",
        node.keyword.text,
        texts(&node.flags),
        texts(&node.arguments),
        node.is_json,
        node.child.as_deref().map(meaning)
    )
}

#[test]
fn files_and_instructions_print_back() {
    let files = dockerfiles();
    assert!(files.len() > 500, "{} files", files.len());
    let mut instructions = 0;
    for source in &files {
        let parsed = parse(source);
        assert_eq!(parsed.ast.to_string(), *source);
        assert_eq!(parse(&parsed.ast.to_string()), parsed);
        // An instruction by itself has neither the file's escape character nor its mistakes.
        if parsed.ast.directives.escape != '\\'
            || parsed.diagnostics.iter().any(Diagnostic::is_error)
        {
            continue;
        }
        for node in &parsed.ast.nodes {
            let text = node.to_source();
            if text.trim_start() != text || text.starts_with(['#', '\u{feff}']) {
                continue;
            }
            let again = parse(&text);
            let found: Vec<String> = again.ast.nodes.iter().map(meaning).collect();
            assert_eq!(found, [meaning(node)], "{text:?}");
            instructions += 1;
        }
    }
    println!("{} files, {instructions} instructions", files.len());
}
