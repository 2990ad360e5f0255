//! Tags of log lines: Go templates over what docker tells of a container (spec runtime §7).

use crate::error::{EngineError, Result};
use crate::model::container::Container;
use gotmpl::{MissingKey, TemplateError, Value};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Longest template in bytes.
const MAX_TEMPLATE_BYTES: usize = 4096;
/// Most rounds that loops in a template make.
const MAX_ROUNDS: u64 = 10_000;
/// What `DaemonName` is.
const DAEMON_NAME: &str = "docker";

/// Refuses a template that cannot be read.
pub(crate) fn check(template: &str) -> Result<()> {
    parse(template).map(drop)
}

/// Returns the tag that a template gives for a container.
///
/// # Errors
/// A template that cannot be read, or that asks for what there is not.
pub(crate) fn render(template: &str, container: &Container) -> Result<String> {
    let facts = facts(container);
    parse(template)?
        .execute_to_string(&facts)
        .map_err(|error| wrong(&error))
}

fn parse(template: &str) -> Result<gotmpl::Template> {
    if template.len() > MAX_TEMPLATE_BYTES {
        return Err(EngineError::invalid(format!(
            "log opt tag is longer than {MAX_TEMPLATE_BYTES} bytes"
        )));
    }
    functions(gotmpl::Template::new("log-tag"))
        .missing_key(MissingKey::Error)
        .max_range_iters(MAX_ROUNDS)
        .parse(template)
        .map_err(|error| wrong(&error))
}

fn wrong(error: &TemplateError) -> EngineError {
    EngineError::invalid(format!("invalid log opt tag: {error}"))
}

/// Returns the fields of docker's log information.
fn facts(container: &Container) -> Value {
    let image_id = container
        .image_id
        .map(|id| id.to_string())
        .unwrap_or_default();
    let image_hex = image_id.trim_start_matches("sha256:");
    let short = |id: &str| text(id.get(..12).unwrap_or(id));
    let name = container.name.trim_start_matches('/');
    let list = |items: &[String]| Value::List(items.iter().map(|item| text(item)).collect());
    let command: Vec<&str> = [container.path.as_str()]
        .into_iter()
        .chain(container.args.iter().map(String::as_str))
        .collect();
    let labels = container.config.labels.iter();
    let labels: BTreeMap<Arc<str>, Value> = labels
        .map(|(key, value)| (Arc::from(key.as_str()), text(value)))
        .collect();
    let fields = [
        ("ID", short(&container.id)),
        ("FullID", text(&container.id)),
        ("Name", text(name)),
        ("ImageID", short(image_hex)),
        ("ImageFullID", text(&image_id)),
        ("ImageName", text(&container.config.image)),
        ("DaemonName", text(DAEMON_NAME)),
        ("Command", text(&command.join(" "))),
        ("ContainerID", text(&container.id)),
        ("ContainerName", text(&format!("/{name}"))),
        ("ContainerEntrypoint", text(&container.path)),
        ("ContainerArgs", list(&container.args)),
        ("ContainerEnv", list(&container.config.env)),
        ("ContainerLabels", Value::Map(Arc::new(labels))),
        ("ContainerImageID", text(&image_id)),
        ("ContainerImageName", text(&container.config.image)),
    ];
    let fields: BTreeMap<Arc<str>, Value> = fields
        .into_iter()
        .map(|(key, value)| (Arc::from(key), value))
        .collect();
    Value::Map(Arc::new(fields))
}

fn text(text: &str) -> Value {
    Value::String(text.into())
}

/// Adds docker's functions.
fn functions(template: gotmpl::Template) -> gotmpl::Template {
    template
        .func("json", |args| {
            let value = to_json(argument(args, 0)?);
            Ok(text(&value.to_string()))
        })
        .func("upper", |args| Ok(text(&string(args, 0)?.to_uppercase())))
        .func("lower", |args| Ok(text(&string(args, 0)?.to_lowercase())))
        .func("title", |args| Ok(text(&title(string(args, 0)?))))
        .func("split", |args| {
            let parts = string(args, 0)?.split(string(args, 1)?);
            Ok(Value::List(parts.map(text).collect()))
        })
        .func("join", |args| match argument(args, 0)? {
            Value::List(items) => {
                let parts: Vec<String> = items.iter().map(ToString::to_string).collect();
                Ok(text(&parts.join(string(args, 1)?)))
            }
            _ => Err(TemplateError::Exec("join: expected a list".into())),
        })
        .func("truncate", |args| {
            let length = argument(args, 1)?.as_int().unwrap_or(0);
            let length = usize::try_from(length).unwrap_or(0);
            let cut: String = string(args, 0)?.chars().take(length).collect();
            Ok(text(&cut))
        })
}

fn title(whole: &str) -> String {
    let mut capital = true;
    let letters = whole.chars().map(|letter| {
        let changed = if capital {
            letter.to_ascii_uppercase()
        } else {
            letter
        };
        capital = letter.is_whitespace();
        changed
    });
    letters.collect()
}

fn to_json(value: &Value) -> serde_json::Value {
    match value {
        Value::String(text) => text.as_ref().into(),
        Value::Int(number) => (*number).into(),
        Value::Bool(flag) => (*flag).into(),
        Value::List(items) => items.iter().map(to_json).collect(),
        Value::Map(map) => map
            .iter()
            .map(|(key, value)| (key.to_string(), to_json(value)))
            .collect(),
        _ => serde_json::Value::Null,
    }
}

fn argument(args: &[Value], index: usize) -> gotmpl::Result<&Value> {
    args.get(index)
        .ok_or_else(|| TemplateError::Exec("wrong number of args".into()))
}

fn string(args: &[Value], index: usize) -> gotmpl::Result<&str> {
    let value = argument(args, index)?.as_str();
    value.ok_or_else(|| TemplateError::Exec("expected a string".into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags() {
        let mut container = Container {
            id: "54cd3e221d14f5be10f933d35e83f27588bd67ad10153c4426ded7c1f46c6b7c".into(),
            name: "Cont_1".into(),
            path: "/entry".into(),
            args: vec!["a".into(), "b c".into()],
            ..Container::default()
        };
        container.config.image = "repo/img:tag".into();
        container.config.env = vec!["A=1".into()];
        container.config.labels = [("com.x", "y"), ("lab", "v")]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into();
        for (template, expected) in [
            ("", ""),
            ("x", "x"),
            ("{{.ID}}", "54cd3e221d14"),
            ("{{.Name}}/{{.ID}}", "Cont_1/54cd3e221d14"),
            ("{{.ImageName}}", "repo/img:tag"),
            ("{{.DaemonName}}", "docker"),
            ("{{.Command}}", "/entry a b c"),
            ("{{.ContainerLabels}}", "map[com.x:y lab:v]"),
            ("{{index .ContainerLabels \"com.x\"}}", "y"),
            ("{{json .ContainerArgs}}", "[\"a\",\"b c\"]"),
            ("{{upper .Name}}", "CONT_1"),
            ("{{range .ContainerArgs}}{{.}},{{end}}", "a,b c,"),
            ("{{join .ContainerArgs \"-\"}}", "a-b c"),
            ("{{truncate .Name 3}}", "Con"),
            ("{{ (index .ContainerEnv 0) }}", "A=1"),
            ("{{with .Name}}[{{.}}]{{end}}", "[Cont_1]"),
            ("{{split .ImageName \":\"}}", "[repo/img tag]"),
            ("{{println .ID}}", "54cd3e221d14\n"),
        ] {
            assert_eq!(
                render(template, &container).unwrap(),
                expected,
                "{template}"
            );
        }
        assert!(check("{{").is_err());
        assert!(render("{{.Foo}}", &container).is_err());
    }
}
