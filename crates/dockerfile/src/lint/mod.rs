//! Checks of style and of likely mistakes (spec/llb.md §8), as `docker build --check` does them.
//!
//! What a check needs from outside (build arguments, facts about base images)
//! comes in with [`LintInput`]; without it the checks that need it stay silent. [`check`] says what the reference says;
//! [`check_own`] has more. [`RULES`] lists both.

mod capture;
mod catalog;
mod checker;
mod config;
mod from;
mod globals;
mod own;
mod reach;
mod rules;
mod stages;

use crate::ast::{Ast, Word};
use crate::diagnostic::{Diagnostic, RULE_NO_EMPTY_CONTINUATION};
use crate::ignore::IgnoreFile;
use crate::instruction::Dockerfile;
use crate::parser::Parsed;
pub use catalog::{RULES, Rule};
pub use config::LintConfig;
pub(crate) use reach::target_index;
pub(crate) use stages::{WalkedStage, walk};

/// What is known about the build that a Dockerfile is checked for.
#[derive(Clone, Copy)]
pub struct LintInput<'a> {
    /// Build arguments, name and value.
    pub build_args: &'a [(String, String)],
    /// The stage that is built, by name or number; the last one if not given.
    pub target: Option<&'a str>,
    /// The platform that is built for, such as `linux/amd64`.
    pub target_platform: &'a str,
    /// The platform that builds.
    pub build_platform: &'a str,
    /// Gives what is known about an image by its name as written (after expansion) and platform.
    pub base_image: &'a dyn Fn(&str, &str) -> Option<BaseImage>,
    /// The context's ignore file.
    pub ignore: Option<&'a IgnoreFile>,
}

/// The part of an image's config that checks look at.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BaseImage {
    /// The image's own platform, such as `linux/amd64`.
    pub platform: String,
    /// Its variables, name and value.
    pub env: Vec<(String, String)>,
    /// Whether its config has a shell.
    pub has_shell: bool,
    /// Its ONBUILD triggers.
    pub on_build: Vec<String>,
    /// Whether nothing of this is known, so that nothing can be said about it.
    pub is_unknown: bool,
}

/// Runs the reference's checks; warnings in the order they were found.
///
/// Rules that `config`, or a comment above an instruction, skips are left out.
pub fn check(
    parsed: &Parsed,
    dockerfile: &Dockerfile,
    input: &LintInput<'_>,
    config: &LintConfig,
) -> Vec<Diagnostic> {
    let mut warnings: Vec<Diagnostic> = parsed
        .diagnostics
        .iter()
        .filter(|warning| warning.rule == Some(RULE_NO_EMPTY_CONTINUATION))
        .map(|warning| Diagnostic {
            message: "Empty continuation line".to_owned(),
            ..warning.clone()
        })
        .collect();
    warnings.extend(check_tree(&parsed.ast));
    rules::check_casing(dockerfile, &mut warnings);
    rules::check_stage_names(dockerfile, &mut warnings);
    rules::check_descriptions(dockerfile, &mut warnings);
    stages::check_stages(dockerfile, input, &mut warnings);
    keep_wanted(&parsed.ast, config, &mut warnings);
    warnings
}

/// Runs the checks that the reference does not have; warnings in the order they were found.
///
/// Rules that `config`, or a comment above an instruction, skips are left out.
pub fn check_own(
    parsed: &Parsed,
    dockerfile: &Dockerfile,
    input: &LintInput<'_>,
    config: &LintConfig,
) -> Vec<Diagnostic> {
    let mut warnings = own::check(&parsed.ast.source, dockerfile, input);
    keep_wanted(&parsed.ast, config, &mut warnings);
    warnings
}

fn keep_wanted(ast: &Ast, config: &LintConfig, warnings: &mut Vec<Diagnostic>) {
    warnings.retain(|warning| {
        let rule = warning.rule.and_then(Rule::by_name);
        rule.is_none_or(|rule| config.wants(rule, &config_above(ast, warning.line())))
    });
}

/// Returns what the comments above the instruction on a line say.
fn config_above(ast: &Ast, line: usize) -> LintConfig {
    let behind = ast
        .nodes
        .partition_point(|node| node.location.start_line <= line);
    let node = behind.checked_sub(1).and_then(|index| ast.nodes.get(index));
    node.map(|node| LintConfig::from_comments(&node.comments))
        .unwrap_or_default()
}

/// Runs the checks that need nothing but the tree; warnings in source order.
pub fn check_tree(ast: &Ast) -> Vec<Diagnostic> {
    let mut warnings = Vec::new();
    for node in &ast.nodes {
        rules::check_node(node, &mut warnings);
    }
    warnings
}

/// Returns a warning about a word.
fn warn(
    location: &crate::ast::Location,
    word: &Word,
    rule: &'static str,
    message: impl Into<String>,
) -> Diagnostic {
    let lines = location.start_line..=location.end_line;
    Diagnostic::warning(rule, message, word.span.clone(), lines)
}

/// Returns a warning about a whole instruction.
fn warn_at(
    location: &crate::ast::Location,
    rule: &'static str,
    message: impl Into<String>,
) -> Diagnostic {
    let lines = location.start_line..=location.end_line;
    Diagnostic::warning(rule, message, location.span.clone(), lines)
}

#[cfg(test)]
mod tests {
    use super::{LintConfig, LintInput, check};
    use crate::diagnostic::Diagnostic;
    use crate::ignore::IgnoreFile;
    use crate::instruction::interpret;
    use crate::parser::parse;

    fn headlines(source: &str, ignore: Option<&IgnoreFile>) -> Vec<String> {
        let parsed = parse(source);
        let (dockerfile, _) = interpret(&parsed.ast);
        let input = LintInput {
            build_args: &[],
            target: None,
            target_platform: "linux/amd64",
            build_platform: "linux/amd64",
            base_image: &|_, _| None,
            ignore,
        };
        check(&parsed, &dockerfile, &input, &LintConfig::default())
            .iter()
            .map(Diagnostic::headline)
            .collect()
    }

    #[test]
    fn comments_skip_rules_for_one_instruction() {
        let source = "FROM scratch\n# check=skip=LegacyKeyValueFormat\nENV a b\nENV c d\n";
        let expected =
            "\"ENV key=value\" should be used instead of legacy \"ENV key value\" format";
        assert_eq!(headlines(source, None), [expected]);
    }

    #[test]
    fn ignored_sources() {
        let source = "FROM scratch\nCOPY a b /x/\nADD a /y\n";
        let ignore = IgnoreFile::parse("a\n").expect("patterns");
        let expected = [
            "Attempting to Copy file \"a\" that is excluded by .dockerignore",
            "Attempting to Add file \"a\" that is excluded by .dockerignore",
        ];
        assert_eq!(headlines(source, Some(&ignore)), expected);
        let ignore = IgnoreFile::parse("a\n!c\n").expect("patterns");
        assert_eq!(headlines(source, Some(&ignore)), [""; 0]);
    }
}
