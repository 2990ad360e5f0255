//! The checks of a Dockerfile.

use serde_json::{Value, json};
use wharf_dockerfile::{lint as checks, parse as parse_text};

use super::verdict;
use crate::areas::{strings, text};
use crate::{Document, Vector, Verdict};

/// Checks the warnings about a Dockerfile.
pub(in crate::areas) fn lint(vector: &Vector, document: &Document) -> Verdict {
    verdict(
        &lint_answer(&vector.input, &document.header),
        &vector.expected,
    )
}

fn lint_answer(input: &Value, file: &Value) -> Value {
    let source = text(input, "dockerfile");
    let parsed = parse_text(source);
    let (dockerfile, _) = wharf_dockerfile::interpret(&parsed.ast);
    let build_args: Vec<(String, String)> = input["build_args"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, value)| (key.clone(), value.as_str().unwrap_or_default().to_owned()))
        .collect();
    let bases = &file["bases"]["STD"];
    let base_image = |name: &str, _platform: &str| {
        let name = if name.contains(':') {
            name.to_owned()
        } else {
            format!("{name}:latest")
        };
        let config = bases.get(format!("docker.io/library/{name}"))?;
        let env = strings(&config["config"]["Env"]);
        let env = env.iter().filter_map(|pair| pair.split_once('='));
        let part = |key: &str| config[key].as_str().unwrap_or_default().to_owned();
        Some(checks::BaseImage {
            platform: format!("{}/{}", part("os"), part("architecture")),
            env: env
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .collect(),
            has_shell: !strings(&config["config"]["Shell"]).is_empty(),
            on_build: strings(&config["config"]["OnBuild"]),
            is_unknown: false,
        })
    };
    let lint_input = checks::LintInput {
        build_args: &build_args,
        target: input["target"].as_str(),
        target_platform: input["platform"].as_str().unwrap_or("linux/amd64"),
        build_platform: "linux/amd64",
        base_image: &base_image,
        ignore: None,
    };
    let directives = &parsed.ast.directives;
    let Ok(config) = checks::LintConfig::from_directives(directives) else {
        // The reference ends here, before anything is checked.
        return json!({"warnings": []});
    };
    let warnings: Vec<Value> = checks::check(&parsed, &dockerfile, &lint_input, &config)
        .iter()
        .map(|warning| {
            let (rule, detail) = (warning.rule, warning.headline());
            json!({"rule": rule, "detail": detail, "line": warning.line()})
        })
        .collect();
    json!({"warnings": warnings})
}
