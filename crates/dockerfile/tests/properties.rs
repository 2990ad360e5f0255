//! Properties that hold for any input.

use proptest::prelude::*;
use wharf_dockerfile::expand::Expander;
use wharf_dockerfile::instruction::InstructionKind;
use wharf_dockerfile::lint::{self, LintConfig, LintInput, Rule};
use wharf_dockerfile::{
    Diagnostic, IgnoreFile, Node, Parsed, interpret, load, outline, parse, parse_commands, render,
    render_colored, targets,
};

/// Pieces that Dockerfiles are made of, so that random texts reach deep.
const PIECES: &[&str] = &[
    "FROM ",
    "RUN ",
    "run ",
    "COPY ",
    "ADD ",
    "ENV ",
    "ARG ",
    "LABEL ",
    "ONBUILD ",
    "SHELL ",
    "HEALTHCHECK ",
    "CMD ",
    "VOLUME ",
    "EXPOSE ",
    "RUNN ",
    "# escape=`\n",
    "# syntax=x\n",
    "#",
    "\n",
    "\r\n",
    "\\\n",
    "`\n",
    "\\",
    " ",
    "\t",
    "<<EOF",
    "<<-'E'",
    "EOF\n",
    "E\n",
    "--mount=",
    "--from=",
    "type=cache,",
    "--",
    "=",
    "[",
    "]",
    "\"",
    "'",
    "$",
    "${",
    "}",
    ":-",
    "#p",
    "//",
    "/",
    "a",
    "b",
    "é",
    "\u{feff}",
    "\u{a0}",
    "{",
    ",",
    "1",
    "*",
    "?",
    "!",
    "**",
    "[a-",
    "AS ",
    "\u{0}",
];

fn text() -> impl Strategy<Value = String> {
    let pieces = prop::collection::vec(prop::sample::select(PIECES), 0..40);
    prop_oneof![4 => pieces.prop_map(|pieces| pieces.concat()), 1 => ".{0,80}"]
}

/// What a node says, without its places.
fn meaning(node: &Node) -> String {
    let words = |words: &[wharf_dockerfile::Word]| -> Vec<String> {
        words.iter().map(|word| word.text.clone()).collect()
    };
    let heredocs: Vec<_> = node
        .heredocs
        .iter()
        .map(|heredoc| (&heredoc.name, &heredoc.content))
        .collect();
    format!(
        "{:?} {:?} {:?} {} {heredocs:?} {:?}",
        node.keyword.text,
        words(&node.flags),
        words(&node.arguments),
        node.is_json,
        node.child.as_deref().map(meaning)
    )
}

fn check_spans(source: &str, parsed: &Parsed) {
    let mut end = 0;
    for node in &parsed.ast.nodes {
        assert!(node.location.span.start >= end, "nodes do not overlap");
        end = node.location.span.end;
        assert!(
            source.get(node.location.span.clone()).is_some(),
            "node on character borders"
        );
        let words = node
            .flags
            .iter()
            .chain(&node.arguments)
            .chain([&node.keyword]);
        for word in words {
            let text = source.get(word.span.clone());
            assert!(text.is_some(), "word {word:?} on character borders");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn parsing_never_panics_and_prints_back(source in text()) {
        let parsed = parse(&source);
        prop_assert_eq!(parsed.ast.to_string(), source.clone());
        check_spans(&source, &parsed);
        prop_assert_eq!(&parse(&parsed.ast.to_string()), &parsed);
        let (_, diagnostics) = load(&source);
        render("Dockerfile", &source, &diagnostics);
        render_colored("Dockerfile", &source, &diagnostics);
    }

    #[test]
    fn each_instruction_prints_back(source in text()) {
        let parsed = parse(&source);
        let escape = parsed.ast.directives.escape;
        let errors = parsed.diagnostics.iter().any(Diagnostic::is_error);
        for node in parsed.ast.nodes.iter().filter(|_| !errors && escape == '\\') {
            // Text of a continuation may start with blanks or `#` once it stands alone.
            let text = &node.original;
            if text.trim_start() != text || text.is_empty() || text.starts_with(['#', '\u{feff}']) {
                continue;
            }
            let again = parse(&node.to_source());
            let found: Vec<String> = again.ast.nodes.iter().map(meaning).collect();
            prop_assert_eq!(found, vec![meaning(node)], "{:?}", node.to_source());
        }
    }

    #[test]
    fn checks_and_outlines_never_panic(source in text(), args in prop::collection::vec("[ab]{1,2}", 0..3)) {
        let source = format!("ARG a\nFROM ${{a:-b}} AS x\n{source}\nFROM x\nRUN --mount=type=secret,id=$b {source}");
        let parsed = parse(&source);
        let (dockerfile, _) = interpret(&parsed.ast);
        let build_args: Vec<(String, String)> = args.iter().map(|name| (name.clone(), source.clone())).collect();
        let input = LintInput {
            build_args: &build_args,
            target: None,
            target_platform: "linux/amd64",
            build_platform: "linux/arm64",
            base_image: &|_, _| None,
            ignore: None,
        };
        let mut findings = lint::check(&parsed, &dockerfile, &input, &LintConfig::default());
        findings.extend(lint::check_own(&parsed, &dockerfile, &input, &LintConfig::default()));
        for finding in &findings {
            prop_assert!(source.get(finding.span.clone()).is_some(), "{finding:?}");
            prop_assert!(finding.rule.is_some_and(|rule| Rule::by_name(rule).is_some()), "{finding:?}");
        }
        render("Dockerfile", &source, &findings);
        prop_assert_eq!(targets(&dockerfile).len(), dockerfile.stages.len());
        let told = outline(&dockerfile, &input);
        prop_assert!(told.args.windows(2).all(|pair| pair[0].location.start_line <= pair[1].location.start_line));
    }

    #[test]
    fn triggers_never_panic(source in text()) {
        for instruction in parse_commands(&source).unwrap_or_default() {
            if let InstructionKind::Onbuild(trigger) = instruction.kind {
                let _ = parse_commands(&trigger);
            }
        }
    }

    #[test]
    fn expansion_never_panics(word in text(), value in text(), flags in any::<[bool; 4]>()) {
        let [raw_quotes, raw_escapes, skip_unset_env, skip_process_quotes] = flags;
        let expander = Expander {
            raw_quotes, raw_escapes, skip_unset_env, skip_process_quotes, ..Expander::new('\\')
        };
        let env = vec![("a".to_owned(), value.clone())];
        let _ = expander.expand(&word, &env);
        let _ = expander.expand(&format!("${{a#{word}}} ${{a//{word}/x}}"), &env);
    }

    #[test]
    fn skipped_directories_hold_nothing(
        patterns in prop::collection::vec("!?(\\*\\*/)?[ab*?]{1,2}(/[ab*?]{1,2}){0,2}(/\\*\\*)?", 1..6),
        directory in "[ab]{1,2}(/[ab]{1,2}){0,1}",
        below in "[ab]{1,2}(/[ab]{1,2}){0,1}",
    ) {
        let Ok(file) = IgnoreFile::parse(&patterns.join("\n")) else { return Ok(()) };
        if file.can_skip_directory(&directory) == Ok(true) {
            let path = format!("{directory}/{below}");
            let decision = file.decide(&path).expect("well-formed patterns");
            prop_assert!(decision.is_ignored, "{path} {patterns:?}");
        }
    }

    #[test]
    fn walking_decides_the_same(
        patterns in prop::collection::vec("!?(\\*\\*/)?[ab*?]{1,2}(/[ab*?]{1,2}){0,2}(/\\*\\*)?", 1..6),
        names in prop::collection::vec("[ab]{1,2}", 1..5),
    ) {
        let Ok(file) = IgnoreFile::parse(&patterns.join("\n")) else { return Ok(()) };
        let mut known = file.root();
        let mut path = String::new();
        for name in names {
            path = if path.is_empty() { name } else { format!("{path}/{name}") };
            let walked = file.decide_in(&known, &path).expect("well-formed patterns");
            let direct = file.decide(&path).expect("well-formed patterns");
            prop_assert_eq!(walked.is_ignored, direct.is_ignored, "{} {:?}", path, patterns);
            known = file.enter(&known, &path);
        }
    }

    #[test]
    fn ignore_files_never_panic(patterns in text(), path in text()) {
        if let Ok(file) = IgnoreFile::parse(&patterns) {
            let _ = file.decide(&path);
            let _ = file.can_skip_directory(&path);
        }
    }
}
