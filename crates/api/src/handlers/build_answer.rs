//! What is said about a Dockerfile without building it, in the form of docker's builder (`docker build --call`).

use std::ops::RangeInclusive;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use wharf_engine::{
    About, Answer, Diagnostic, Mistake, Outline, OutlineArg, OutlineNeed, Rule, Target,
};

/// The language of a source, as docker's builder names it.
const LANGUAGE: &str = "Dockerfile";

/// One answer; members that are empty are left out where the reference does so.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(crate) enum Document {
    /// Findings of the checks.
    Check {
        /// Null where there are none.
        warnings: Option<Vec<Warning>>,
        /// The Dockerfile.
        sources: Vec<SourceFile>,
        /// Why it cannot be built.
        #[serde(rename = "buildError", skip_serializing_if = "Option::is_none")]
        error: Option<BuildError>,
        /// All mistakes, where there are several.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        mistakes: Vec<BuildError>,
        /// Base images that nothing is known of.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        notes: Vec<String>,
    },
    /// What the target can be given.
    Outline {
        #[serde(skip_serializing_if = "String::is_empty")]
        name: String,
        #[serde(skip_serializing_if = "String::is_empty")]
        description: String,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        args: Vec<Arg>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        secrets: Vec<Need>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        ssh: Vec<Need>,
        /// The Dockerfile, base64.
        sources: Vec<String>,
    },
    /// The stages.
    Targets {
        targets: Vec<Stage>,
        /// The Dockerfile, base64.
        sources: Vec<String>,
    },
}

/// A finding.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Warning {
    rule_name: &'static str,
    #[serde(skip_serializing_if = "str::is_empty")]
    description: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<String>,
    detail: String,
    location: Location,
}

/// Why a Dockerfile cannot be built.
#[derive(Debug, Serialize)]
pub(crate) struct BuildError {
    message: String,
    location: Location,
}

/// The Dockerfile.
#[derive(Debug, Serialize)]
pub(crate) struct SourceFile {
    filename: String,
    /// Base64.
    data: String,
    language: &'static str,
}

/// A build argument.
#[derive(Debug, Serialize)]
pub(crate) struct Arg {
    name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    description: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    value: String,
    location: Location,
}

/// A secret or an SSH agent.
#[derive(Debug, Serialize)]
pub(crate) struct Need {
    name: String,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    required: bool,
    location: Location,
}

/// A stage.
#[derive(Debug, Serialize)]
pub(crate) struct Stage {
    #[serde(skip_serializing_if = "String::is_empty")]
    name: String,
    #[serde(rename = "default", skip_serializing_if = "std::ops::Not::not")]
    is_default: bool,
    #[serde(skip_serializing_if = "String::is_empty")]
    description: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    base: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    platform: String,
    location: Location,
}

/// Lines of the Dockerfile.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Location {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    ranges: Vec<LineRange>,
}

#[derive(Debug, Serialize)]
struct LineRange {
    start: Position,
    end: Position,
}

#[derive(Debug, Serialize)]
struct Position {
    line: usize,
}

impl Document {
    /// Returns the document of an answer.
    pub(crate) fn of(answer: &Answer) -> Self {
        let data = STANDARD.encode(&answer.text);
        match &answer.about {
            About::Check {
                warnings,
                error,
                mistakes,
                notes,
            } => Self::Check {
                warnings: (!warnings.is_empty()).then(|| warnings.iter().map(warning).collect()),
                sources: vec![SourceFile {
                    filename: answer.file_name.clone(),
                    data,
                    language: LANGUAGE,
                }],
                error: error.as_ref().map(build_error),
                mistakes: mistakes.iter().map(build_error).collect(),
                notes: notes.clone(),
            },
            About::Outline(outline) => Self::outline(outline, data),
            About::Targets(targets) => Self::Targets {
                targets: targets.iter().map(stage).collect(),
                sources: vec![data],
            },
        }
    }

    fn outline(outline: &Outline, data: String) -> Self {
        Self::Outline {
            name: outline.name.clone(),
            description: outline.description.clone(),
            args: outline.args.iter().map(arg).collect(),
            secrets: outline.secrets.iter().map(need).collect(),
            ssh: outline.ssh.iter().map(need).collect(),
            sources: vec![data],
        }
    }
}

impl Location {
    /// One range a line, as BuildKit writes them.
    fn lines(lines: RangeInclusive<usize>) -> Self {
        let line = |line| LineRange {
            start: Position { line },
            end: Position { line },
        };
        Self {
            ranges: lines.map(line).collect(),
        }
    }
}

fn warning(warning: &Diagnostic) -> Warning {
    let rule = warning.rule.and_then(Rule::by_name);
    Warning {
        rule_name: warning.rule.unwrap_or_default(),
        description: rule.map(|rule| rule.description).unwrap_or_default(),
        url: rule.and_then(Rule::url),
        detail: warning.headline(),
        location: Location::lines(warning.lines.clone()),
    }
}

fn build_error(mistake: &Mistake) -> BuildError {
    BuildError {
        message: mistake.message.clone(),
        location: mistake
            .lines
            .map(|(start, end)| Location::lines(start..=end))
            .unwrap_or_default(),
    }
}

fn arg(arg: &OutlineArg) -> Arg {
    Arg {
        name: arg.name.clone(),
        description: arg.description.clone(),
        value: arg.value.clone(),
        location: Location::lines(arg.location.start_line..=arg.location.end_line),
    }
}

fn need(need: &OutlineNeed) -> Need {
    Need {
        name: need.id.clone(),
        required: need.is_required,
        location: Location::lines(need.location.start_line..=need.location.end_line),
    }
}

fn stage(target: &Target) -> Stage {
    Stage {
        name: target.name.clone(),
        is_default: target.is_default,
        description: target.description.clone(),
        base: target.base.clone(),
        platform: target.platform.clone(),
        location: Location::lines(target.location.start_line..=target.location.end_line),
    }
}
