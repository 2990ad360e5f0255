//! Dockerfiles: the tree prints back byte for byte, and every mistake can be shown.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wharf_dockerfile::{lint, load, parse, render};

fuzz_target!(|source: &str| {
    let parsed = parse(source);
    if !parsed
        .diagnostics
        .iter()
        .any(wharf_dockerfile::Diagnostic::is_error)
    {
        assert_eq!(parsed.ast.to_string(), source);
    }
    let _ = lint::check_tree(&parsed.ast);
    let (_, diagnostics) = load(source);
    let _ = render("Dockerfile", source, &diagnostics);
    let _ = wharf_dockerfile::parse_commands(source);
});
