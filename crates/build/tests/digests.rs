//! Vertex digests are BuildKit's: recorded from a real one for Dockerfiles that need no build context.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use wharf_build::{BaseImage, BuildError, Frontend, lower_dockerfile};
use wharf_image::Platform;
use wharf_llb::Definition;

/// What BuildKit 0.25 (docker 28.5) told in `buildx build --progress=rawjson`.
const RECORDED: &str = include_str!("data/vertex-digests.json");

/// Lowers a recorded Dockerfile; returns all vertices as `digest name`.
fn lowered(recorded: &Value) -> BTreeSet<String> {
    let platform = recorded["platform"].as_str().unwrap_or("linux/amd64");
    let args = recorded["build_args"].as_object().into_iter().flatten();
    let options = Frontend {
        build_args: args
            .map(|(key, value)| (key.clone(), value.as_str().map(str::to_owned)))
            .collect::<BTreeMap<_, _>>(),
        target: recorded["target"].as_str().unwrap_or_default().to_owned(),
        platform: Some(Platform::parse(platform).unwrap()),
        build_platform: Some(Platform::parse("linux/amd64").unwrap()),
        ..Frontend::default()
    };
    let text = recorded["dockerfile"].as_str().unwrap();
    let mut no_image = |name: &str, _: &Platform| -> Result<BaseImage, BuildError> {
        Err(BuildError::Host(format!("{name}: not found").into()))
    };
    let lowered = lower_dockerfile(text, &options, &mut no_image).unwrap();
    // What is sent elsewhere has the same names.
    let definition = Definition::of(&lowered.graph, lowered.result);
    let received = Definition::decode(&definition.encode()).unwrap();
    let (graph, _) = received.graph().unwrap();
    let shown = graph.iter();
    shown
        .map(|(_, vertex)| format!("{} {}", vertex.digest, vertex.metadata.custom_name))
        .collect()
}

#[test]
fn digests_are_those_of_buildkit() {
    let recorded: Vec<Value> = serde_json::from_str(RECORDED).unwrap();
    let mut compared = 0;
    for one in recorded {
        let found = lowered(&one);
        let wanted: BTreeSet<String> = one["vertices"]
            .as_array()
            .unwrap()
            .iter()
            .map(|vertex| {
                let part = |key: &str| vertex[key].as_str().unwrap();
                format!("{} {}", part("digest"), part("name"))
            })
            .collect();
        compared += wanted.len();
        let missing: Vec<&String> = wanted.difference(&found).collect();
        let surplus: Vec<&String> = found.difference(&wanted).collect();
        // A vertex that was not yet looked at when a source could not be fetched is in no record.
        assert!(
            missing.is_empty(),
            "{}\nmissing {missing:#?}\nsurplus {surplus:#?}",
            one["dockerfile"].as_str().unwrap()
        );
    }
    assert!(compared > 40, "only {compared} vertices were recorded");
}
