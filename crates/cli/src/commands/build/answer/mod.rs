//! The documents of `--call`.

mod text;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

/// What the checks say.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct CheckAnswer {
    warnings: Option<Vec<Warning>>,
    sources: Vec<SourceFile>,
    #[serde(
        rename = "buildError",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    error: Option<BuildError>,
    /// All mistakes, where there are several.
    #[serde(default, skip_serializing)]
    mistakes: Vec<BuildError>,
    /// Base images that nothing is known of; no part of docker's document.
    #[serde(default, skip_serializing)]
    notes: Vec<String>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Warning {
    rule_name: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    description: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    url: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    detail: String,
    location: Location,
}

#[derive(Debug, Serialize, Deserialize)]
struct BuildError {
    message: String,
    location: Location,
}

impl BuildError {
    /// Says whether this is a mistake that reading the Dockerfile gave.
    fn tells(&self, known: &wharf_dockerfile::Diagnostic) -> bool {
        let line = self.location.ranges.first().map(|range| range.start.line);
        known.is_error() && line == Some(known.line()) && known.headline() == self.message
    }
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct SourceFile {
    filename: String,
    data: String,
    language: String,
}

/// What the target can be given.
#[derive(Debug, Serialize, Deserialize)]
pub struct OutlineAnswer {
    #[serde(default, skip_serializing_if = "String::is_empty")]
    name: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    description: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    args: Vec<Arg>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    secrets: Vec<Need>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    ssh: Vec<Need>,
    sources: Vec<String>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Arg {
    name: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    description: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    value: String,
    location: Location,
}

#[derive(Debug, Serialize, Deserialize)]
struct Need {
    name: String,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    required: bool,
    location: Location,
}

/// The stages.
#[derive(Debug, Serialize, Deserialize)]
pub struct TargetsAnswer {
    targets: Vec<Stage>,
    sources: Vec<String>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Stage {
    #[serde(default, skip_serializing_if = "String::is_empty")]
    name: String,
    #[serde(
        default,
        rename = "default",
        skip_serializing_if = "std::ops::Not::not"
    )]
    is_default: bool,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    description: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    base: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    platform: String,
    location: Location,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Location {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    ranges: Vec<LineRange>,
}

#[derive(Debug, Serialize, Deserialize)]
struct LineRange {
    start: Position,
    end: Position,
}

#[derive(Debug, Serialize, Deserialize)]
struct Position {
    line: usize,
}

impl CheckAnswer {
    /// Returns whether the checks found something.
    pub fn has_findings(&self) -> bool {
        self.warnings
            .as_ref()
            .is_some_and(|found| !found.is_empty())
    }

    /// Returns the Dockerfile's path in the context.
    pub fn file(&self) -> &str {
        self.sources
            .first()
            .map(|source| source.filename.as_str())
            .unwrap_or_default()
    }

    /// Returns what the user should know besides, a line each.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    fn source(&self) -> String {
        let data = self.sources.first().map(|source| source.data.as_str());
        let bytes = STANDARD
            .decode(data.unwrap_or_default())
            .unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}
