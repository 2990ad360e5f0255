//! The recorded plans: image configs that the reference makes of Dockerfiles.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use serde_json::{Map, Value};
use wharf_dockerfile::{Diagnostic, load, render};
use wharf_image::{Digest, ImageConfig, Platform, Reference};
use wharf_safefs::trusted;

use super::{LowerInput, lower};
use crate::{BaseImage, BuildError};

const MAX_VECTOR_BYTES: u64 = 64 << 20;

/// Returns the image config, or what was wrong.
fn plan(input: &Value, bases: &Map<String, Value>) -> Result<Value, String> {
    let source = input["dockerfile"].as_str().unwrap();
    let (dockerfile, diagnostics) = load(source);
    let errors: Vec<Diagnostic> = diagnostics
        .into_iter()
        .filter(Diagnostic::is_error)
        .collect();
    if !errors.is_empty() {
        return Err(render("Dockerfile", source, &errors));
    }
    let strings = |key: &str| -> BTreeMap<String, String> {
        let entries = input[key].as_object().into_iter().flatten();
        entries
            .map(|(key, value)| (key.clone(), value.as_str().unwrap().to_owned()))
            .collect()
    };
    let host = Platform::parse("linux/amd64").unwrap();
    let lower_input = LowerInput {
        dockerfile: &dockerfile,
        file_name: "Dockerfile",
        source,
        build_args: &strings("build_args")
            .into_iter()
            .map(|(key, value)| (key, Some(value)))
            .collect(),
        labels: &strings("labels"),
        target: input["target"].as_str().unwrap_or_default(),
        platform: input["platform"]
            .as_str()
            .map_or(host.clone(), |text| Platform::parse(text).unwrap()),
        build_platform: host,
        contexts: &BTreeMap::new(),
        no_cache_stages: &[],
        allow_insecure: true,
        network_mode: "",
        find_time: &|_| Ok(None),
        is_partial: false,
    };
    let mut find_base = |name: &str, _: &Platform| {
        let canonical = Reference::parse(name).unwrap().with_default_tag();
        let key = format!(
            "{}:{}",
            canonical.name(),
            canonical.tag().unwrap_or_default()
        );
        let found = bases
            .get(&key)
            .ok_or_else(|| BuildError::Host(format!("{name}: {key}: not found").into()))?;
        let config: ImageConfig = serde_json::from_value(found.clone()).unwrap();
        Ok(BaseImage {
            id: Digest::of(name),
            digest: None,
            config: Arc::new(config),
        })
    };
    let plan = lower(&lower_input, &mut find_base).map_err(|error| error.to_string())?;
    Ok(image(&plan))
}

/// Returns the config that a plan leads to if every step makes a layer, in the form of the vectors.
fn image(plan: &crate::plan::Plan) -> Value {
    let mut history = Vec::new();
    let mut chain = vec![plan.stages.len() - 1];
    let mut base = None;
    while let Some(stage) = chain.last().and_then(|last| plan.stages.get(*last)) {
        match &stage.base {
            crate::plan::StageBase::Stage(index) => chain.push(*index),
            crate::plan::StageBase::Image(image) => {
                base = Some(image.config.clone());
                break;
            }
            crate::plan::StageBase::Scratch => break,
        }
    }
    if let Some(base) = &base {
        history.extend(base.history.iter().cloned());
    }
    for stage in chain
        .iter()
        .rev()
        .filter_map(|index| plan.stages.get(*index))
    {
        for mut entry in stage.steps.iter().filter_map(|step| step.history.clone()) {
            entry.created.clone_from(&plan.epoch);
            history.push(entry);
        }
    }
    let last = plan.stages.last().unwrap();
    let state = last.steps.last().map_or(&last.start, |step| &step.state);
    let mut image = plan.image_config(state, history);
    image.rootfs.diff_ids = base
        .map(|base| base.rootfs.diff_ids.clone())
        .unwrap_or_default();
    serde_json::from_slice(&image.to_bytes()).unwrap()
}

/// Takes away what differs between writers and means the same.
fn normal(mut value: Value) -> Value {
    if value["rootfs"]["diff_ids"].is_null() {
        value["rootfs"]["diff_ids"] = Value::Array(Vec::new());
    }
    if let Some(object) = value.as_object_mut() {
        object.remove("created");
        if object
            .get("config")
            .is_some_and(|config| config.as_object().is_some_and(Map::is_empty))
        {
            object.remove("config");
        }
    }
    value
}

#[test]
fn recorded_plans() {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/vectors/own/dockerfile-plan.json");
    let path = std::env::var_os("WHARF_PLAN_VECTORS").map_or(path, Into::into);
    let file: Value =
        serde_json::from_slice(&trusted::read_limited(path, MAX_VECTOR_BYTES).unwrap()).unwrap();
    let bases = file["bases"]["STD"].as_object().unwrap();
    let (mut passed, mut unsupported, mut wrong) =
        (0, BTreeMap::<String, usize>::new(), Vec::new());
    for vector in file["vectors"].as_array().unwrap() {
        let expected = &vector["expected"];
        let found = plan(&vector["input"], bases);
        match (expected.get("error"), found) {
            (_, Err(error)) if error.contains("not supported yet") => {
                *unsupported
                    .entry(error.lines().next().unwrap_or_default().to_owned())
                    .or_default() += 1;
            }
            (Some(error), Err(found)) if found.contains(error.as_str().unwrap()) => passed += 1,
            (None, Ok(image)) if normal(image.clone()) == normal(expected["image"].clone()) => {
                passed += 1
            }
            (_, found) => wrong.push(format!(
                "{}: {}\nfound    {}\nexpected {}",
                vector["id"],
                vector["input"]["dockerfile"],
                found.map_or_else(|error| error, |image| normal(image).to_string()),
                expected
                    .get("error")
                    .cloned()
                    .unwrap_or(normal(expected["image"].clone()))
            )),
        }
    }
    println!(
        "{passed} plans pass, {} wrong; not supported yet: {unsupported:#?}",
        wrong.len()
    );
    assert!(
        wrong.is_empty(),
        "{}",
        wrong
            .iter()
            .take(12)
            .cloned()
            .collect::<Vec<_>>()
            .join("\n\n")
    );
}
