//! What a log driver says about a container beside its output: the tag, and chosen labels and variables
//! (spec runtime §7).

use std::collections::BTreeMap;
use std::sync::Arc;

use regex::Regex;
use wharf_template::{Missing, Template, Value};

use crate::error::{EngineError, Result};
use crate::model::container::Container;

/// The tag of drivers that always have one.
pub const DEFAULT_TAG: &str = "{{.ID}}";
/// Digits of a short ID.
const SHORT_ID_LENGTH: usize = 12;
/// Options that choose attributes.
pub(crate) const ATTRIBUTE_OPTIONS: [&str; 5] =
    ["labels", "labels-regex", "env", "env-regex", "tag"];

/// What a tag can tell of a container.
#[derive(Debug, Clone, Default)]
pub struct LogFacts {
    /// The full ID.
    pub id: String,
    /// The name without the leading slash.
    pub name: String,
    /// The program.
    pub entrypoint: String,
    /// Its arguments.
    pub args: Vec<String>,
    /// The image's ID with its algorithm.
    pub image_id: String,
    /// The image's name as it was asked for.
    pub image_name: String,
    /// Creation in nanoseconds since 1970.
    pub created_at_ns: i64,
    /// Variables, `NAME=VALUE`.
    pub env: Vec<String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// How the daemon calls itself.
    pub daemon_name: String,
}

impl From<&Container> for LogFacts {
    fn from(container: &Container) -> Self {
        Self {
            id: container.id.clone(),
            name: container.name.clone(),
            entrypoint: container.path.clone(),
            args: container.args.clone(),
            image_id: container
                .image_id
                .map(|id| id.to_string())
                .unwrap_or_default(),
            image_name: container.config.image.clone(),
            created_at_ns: container.created_at_ns,
            env: container.config.env.clone(),
            labels: container.config.labels.clone(),
            daemon_name: "docker".to_owned(),
        }
    }
}

/// Returns a tag template filled in.
///
/// # Errors
/// A mistake in the template.
pub fn tag(template: &str, facts: &LogFacts) -> Result<String> {
    let invalid = |error: wharf_template::FormatError| EngineError::invalid(error.to_string());
    let template = Template::parse(template).map_err(invalid)?;
    template
        .execute(&value(facts), "*logger.Info", Missing::IsAnError)
        .map_err(invalid)
}

/// Returns the attributes that a driver's options choose: `labels`, `labels-regex`, `env`, `env-regex`.
///
/// # Errors
/// What is no regular expression.
pub fn chosen_attributes(
    options: &BTreeMap<String, String>,
    facts: &LogFacts,
) -> Result<BTreeMap<String, String>> {
    let pairs = |list: &[String]| -> Vec<(String, String)> {
        let pairs = list.iter().filter_map(|pair| pair.split_once('='));
        pairs
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect()
    };
    let labels: Vec<(String, String)> = facts.labels.clone().into_iter().collect();
    let mut chosen = BTreeMap::new();
    for (names, pattern, all) in [
        ("labels", "labels-regex", labels),
        ("env", "env-regex", pairs(&facts.env)),
    ] {
        let names: Vec<&str> = options
            .get(names)
            .map(|list| list.split(',').collect())
            .unwrap_or_default();
        let pattern = options.get(pattern).filter(|pattern| !pattern.is_empty());
        let pattern = pattern.map(|pattern| expression(pattern)).transpose()?;
        chosen.extend(all.into_iter().filter(|(key, _)| {
            names.contains(&key.as_str())
                || pattern
                    .as_ref()
                    .is_some_and(|pattern| pattern.is_match(key))
        }));
    }
    Ok(chosen)
}

/// Returns all that the json-file driver writes beside each line: the chosen attributes, and the tag if one is asked for.
///
/// # Errors
/// See [`chosen_attributes`] and [`tag`].
pub fn attributes(
    options: &BTreeMap<String, String>,
    facts: &LogFacts,
) -> Result<BTreeMap<String, String>> {
    let mut attributes = chosen_attributes(options, facts)?;
    if let Some(template) = options.get("tag").filter(|template| !template.is_empty()) {
        attributes.insert("tag".to_owned(), tag(template, facts)?);
    }
    Ok(attributes)
}

fn expression(pattern: &str) -> Result<Regex> {
    Regex::new(pattern).map_err(|error| {
        // The error's text spans lines: its last one says what is wrong.
        let text = error.to_string();
        let reason = text.lines().last().unwrap_or_default().trim();
        EngineError::invalid(format!("error parsing regexp {pattern:?}: {reason}"))
    })
}

/// Returns the facts under the names that docker's templates use.
fn value(facts: &LogFacts) -> Value {
    let text = |text: &str| Value::String(text.into());
    let list = |items: &[String]| Value::List(items.iter().map(|item| text(item)).collect());
    let map = |pairs: Vec<(&str, Value)>| {
        let pairs = pairs
            .into_iter()
            .map(|(key, value)| (Arc::from(key), value));
        Value::Map(Arc::new(pairs.collect()))
    };
    let labels = facts
        .labels
        .iter()
        .map(|(key, value)| (key.as_str(), text(value)))
        .collect();
    let words = [std::slice::from_ref(&facts.entrypoint), &facts.args].concat();
    let digits = facts
        .image_id
        .split_once(':')
        .map_or(facts.image_id.as_str(), |(_, hex)| hex);
    let short = |id: &str| text(id.get(..SHORT_ID_LENGTH).unwrap_or(id));
    let seconds = facts.created_at_ns.div_euclid(1_000_000_000);
    map(vec![
        ("ID", short(&facts.id)),
        ("FullID", text(&facts.id)),
        ("Name", text(&facts.name)),
        ("ImageID", short(digits)),
        ("ImageFullID", text(&facts.image_id)),
        ("ImageName", text(&facts.image_name)),
        ("Command", text(&words.join(" "))),
        ("ContainerID", text(&facts.id)),
        ("ContainerName", text(&format!("/{}", facts.name))),
        ("ContainerEntrypoint", text(&facts.entrypoint)),
        ("ContainerArgs", list(&facts.args)),
        ("ContainerImageID", text(&facts.image_id)),
        ("ContainerImageName", text(&facts.image_name)),
        ("ContainerCreated", map(vec![("Unix", Value::Int(seconds))])),
        ("ContainerEnv", list(&facts.env)),
        ("ContainerLabels", map(labels)),
        ("DaemonName", text(&facts.daemon_name)),
        // A tag is made before any attributes are chosen.
        (
            "ExtraAttributes",
            Value::Function(Arc::new(|_| Ok(Value::Map(Arc::default())))),
        ),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_an_attribute_only_when_asked_for() {
        let facts = LogFacts {
            id: "0123456789abcdef".into(),
            env: vec!["A=1".into(), "B".into()],
            ..LogFacts::default()
        };
        let options = |pairs: &[(&str, &str)]| {
            pairs
                .iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect()
        };
        assert!(attributes(&options(&[]), &facts).unwrap().is_empty());
        let found = attributes(
            &options(&[("tag", DEFAULT_TAG), ("env-regex", "^A")]),
            &facts,
        );
        assert_eq!(
            found.unwrap(),
            options(&[("A", "1"), ("tag", "0123456789ab")])
        );
        assert!(attributes(&options(&[("labels-regex", "(")]), &facts).is_err());
    }
}
