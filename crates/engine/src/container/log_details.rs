//! Labels and variables that go with a container's log lines (spec runtime §7).

use super::log_options::LogOptions;
use crate::error::{EngineError, Result};
use crate::model::container::Container;
use regex::Regex;
use std::collections::BTreeMap;

/// Largest program a user's expression may become, in bytes.
const MAX_EXPRESSION_BYTES: usize = 1 << 20;

/// Refuses expressions that cannot be read.
pub(crate) fn check(options: &LogOptions) -> Result<()> {
    compile(options.labels_regex.as_deref())?;
    compile(options.env_regex.as_deref()).map(drop)
}

/// Returns the labels and variables that a container's log options choose.
///
/// # Errors
/// Options that cannot be read.
pub fn of_container(container: &Container) -> Result<BTreeMap<String, String>> {
    details(
        container,
        &LogOptions::parse(&container.host_config.log_config)?,
    )
}

/// Returns the labels and variables that the options choose.
///
/// # Errors
/// An expression that cannot be read.
pub(crate) fn details(
    container: &Container,
    options: &LogOptions,
) -> Result<BTreeMap<String, String>> {
    let labels = compile(options.labels_regex.as_deref())?;
    let variables = compile(options.env_regex.as_deref())?;
    let chosen = |names: &[String], expression: &Option<Regex>, key: &str| {
        names.iter().any(|name| name == key)
            || expression
                .as_ref()
                .is_some_and(|expression| expression.is_match(key))
    };
    let mut details = BTreeMap::new();
    for (key, value) in &container.config.labels {
        if chosen(&options.labels, &labels, key) {
            details.insert(key.clone(), value.clone());
        }
    }
    for (key, value) in container
        .config
        .env
        .iter()
        .filter_map(|entry| entry.split_once('='))
    {
        if chosen(&options.env, &variables, key) {
            details.insert(key.to_owned(), value.to_owned());
        }
    }
    Ok(details)
}

fn compile(expression: Option<&str>) -> Result<Option<Regex>> {
    let Some(expression) = expression else {
        return Ok(None);
    };
    let compiled = regex::RegexBuilder::new(expression)
        .size_limit(MAX_EXPRESSION_BYTES)
        .build();
    compiled.map(Some).map_err(|error| {
        let missing_end = error.to_string().contains("unclosed group");
        let reason = if missing_end {
            "missing closing )"
        } else {
            "invalid expression"
        };
        EngineError::invalid(format!("error parsing regexp: {reason}: `{expression}`"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::host_config::LogConfig;

    #[test]
    fn names_and_expressions_choose() {
        let mut container = Container::default();
        container.config.labels = [("a", "1"), ("ab", "2"), ("c", "3")]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into();
        container.config.env = vec!["E=a=b".into(), "OTHER=x".into()];
        let config = LogConfig {
            driver: "json-file".into(),
            options: [("labels", "c,none"), ("labels-regex", "^ab"), ("env", "E")]
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .into(),
        };
        let options = LogOptions::parse(&config).unwrap();
        let found: Vec<_> = details(&container, &options).unwrap().into_iter().collect();
        let expected = [("E", "a=b"), ("ab", "2"), ("c", "3")];
        assert_eq!(found, expected.map(|(k, v)| (k.to_owned(), v.to_owned())));
    }
}
