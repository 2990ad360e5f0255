//! What a build led to, for programs: `--metadata-file`.

use serde_json::{Map, Value as Json};

use super::Built;
use super::outputs::{self, BuildOutput};
use crate::commands::image::names;
use crate::error::Result;

/// Returns what is told of a build, by buildx's names: an image's digests and names only where one was asked for.
///
/// # Errors
/// A name that is none.
pub(super) fn of(tags: &[String], wanted: &[BuildOutput], built: &Built) -> Result<Json> {
    let mut told = Map::new();
    let mut tell = |key: &str, value: Option<&str>| {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            told.insert(key.to_owned(), value.into());
        }
    };
    tell("buildx.build.ref", built.build.as_deref());
    if wanted.is_empty() || wanted.iter().any(BuildOutput::is_image) {
        let mut names = Vec::new();
        for name in tags.iter().chain(outputs::names(wanted)) {
            names.push(names::parse(name)?.to_string());
        }
        tell("containerimage.config.digest", built.image.as_deref());
        tell("containerimage.digest", built.image.as_deref());
        tell("image.name", Some(&names.join(",")));
    }
    Ok(Json::Object(told))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_image_is_told_where_one_was_asked_for() {
        let built = Built {
            image: Some("sha256:1".to_owned()),
            build: Some("b".to_owned()),
        };
        let told = |tags: &[&str], outputs: &[&str]| {
            let tags: Vec<String> = tags.iter().map(|&tag| tag.to_owned()).collect();
            let outputs = outputs
                .iter()
                .map(|output| BuildOutput::parse(output))
                .collect::<Result<Vec<_>>>()
                .unwrap();
            of(&tags, &outputs, &built)
        };
        let image = json!({
            "buildx.build.ref": "b",
            "containerimage.config.digest": "sha256:1",
            "containerimage.digest": "sha256:1",
        });
        let with_names = |names: &str| {
            let mut image = image.clone();
            image["image.name"] = names.into();
            image
        };
        // As recorded from buildx: names are whole, and no tag is made up.
        assert_eq!(told(&[], &[]).unwrap(), image);
        assert_eq!(
            told(&["one:1", "foo.example/two"], &[]).unwrap(),
            with_names("docker.io/library/one:1,foo.example/two")
        );
        assert_eq!(
            told(&[], &["type=local,dest=d", "type=image,name=x/y"]).unwrap(),
            with_names("docker.io/x/y")
        );
        for files in ["type=local,dest=d", "type=tar", "directory"] {
            let files = told(&["one:1"], &[files]).unwrap();
            assert_eq!(files, json!({"buildx.build.ref": "b"}));
        }
        assert!(told(&["NO"], &[]).is_err());
    }
}
