//! Dockerfiles: the tree prints back byte for byte, every mistake and finding can be shown, and outlines can be made.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wharf_dockerfile::lint::{self, LintConfig, LintInput};
use wharf_dockerfile::{interpret, load, outline, parse, parse_commands, render, targets};

fuzz_target!(|source: &str| {
    let parsed = parse(source);
    if !parsed
        .diagnostics
        .iter()
        .any(wharf_dockerfile::Diagnostic::is_error)
    {
        assert_eq!(parsed.ast.to_string(), source);
    }
    let (_, diagnostics) = load(source);
    let _ = render("Dockerfile", source, &diagnostics);
    let _ = parse_commands(source);
    let (dockerfile, _) = interpret(&parsed.ast);
    let input = LintInput {
        build_args: &[],
        target: None,
        target_platform: "linux/amd64",
        build_platform: "linux/amd64",
        base_image: &|_, _| None,
        ignore: None,
    };
    let config = LintConfig::from_directives(&dockerfile.directives).unwrap_or_default();
    let mut findings = lint::check(&parsed, &dockerfile, &input, &config);
    findings.extend(lint::check_own(&parsed, &dockerfile, &input, &config));
    let _ = render("Dockerfile", source, &findings);
    let _ = (outline(&dockerfile, &input), targets(&dockerfile));
});
