//! The API as an OpenAPI document, made of the table of routes and what each call takes.

use crate::routes::{ROUTES, Route};
use crate::version::{API_VERSION, MIN_API_VERSION};
use http::Method;
use serde_json::{Map, Value, json};

/// What each call takes and gives; the table of routes says which calls there are.
const CALLS: &str = include_str!("openapi.txt");

/// One line of [`CALLS`].
struct CallText {
    /// Method; `*` means all.
    method: &'static str,
    /// Path, or with the method `*` what paths start with.
    path: &'static str,
    summary: &'static str,
    query: &'static str,
    body: &'static str,
    answer: &'static str,
}

/// Returns the API as an OpenAPI 3.1 document in JSON, with a line end.
pub fn openapi() -> String {
    let mut paths = Map::new();
    for route in ROUTES {
        let (path, parameters) = named_parameters(route.pattern);
        let item = paths.entry(path).or_insert_with(|| json!({}));
        for method in route.methods {
            let operation = operation(route, method, &parameters);
            if let (Value::Object(item), Some(operation)) = (&mut *item, operation) {
                item.insert(method.as_str().to_lowercase(), operation);
            }
        }
    }
    let document = json!({
        "openapi": "3.1.0",
        "info": {
            "title": "wharf Engine API",
            "version": API_VERSION,
            "description": format!(
                "Docker's Engine API as wharf serves it. Versions {MIN_API_VERSION} to {API_VERSION} \
                 are spoken; a path without a version means the newest."
            ),
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [
            {"url": format!("/v{API_VERSION}"), "description": "on a unix socket or over TCP"},
        ],
        "paths": paths,
        "components": {
            "schemas": {
                "Error": {
                    "type": "object",
                    "required": ["message"],
                    "properties": {"message": {"type": "string"}},
                },
            },
            "responses": {
                "Error": {
                    "description": "What went wrong",
                    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
                },
            },
        },
    });
    let mut text = serde_json::to_string_pretty(&document).unwrap_or_default();
    text.push('\n');
    text
}

/// Gives each parameter of a path a name of its own.
fn named_parameters(pattern: &str) -> (String, Vec<String>) {
    let mut names: Vec<String> = Vec::new();
    let mut path = String::new();
    let mut rest = pattern;
    while let Some((before, after)) = rest.split_once('{') {
        let (name, behind) = after.split_once('}').unwrap_or((after, ""));
        let name = if names.iter().any(|known| known == name) {
            format!("{name}{}", names.len() + 1)
        } else {
            name.to_owned()
        };
        path.push_str(&format!("{before}{{{name}}}"));
        names.push(name);
        rest = behind;
    }
    path.push_str(rest);
    (path, names)
}

fn operation(route: &Route, method: &Method, names: &[String]) -> Option<Value> {
    let call = call_of(method.as_str(), route.pattern)?;
    let in_path = names.iter().map(
        |name| json!({"name": name, "in": "path", "required": true, "schema": {"type": "string"}}),
    );
    let in_query = call.query.split_whitespace().map(query_parameter);
    let mut operation = json!({
        "operationId": operation_id(method, route.pattern),
        "summary": call.summary,
        "tags": [tag(route.pattern)],
        "parameters": in_path.chain(in_query).collect::<Vec<_>>(),
        "responses": responses(call.answer),
    });
    if let Value::Object(keys) = &mut operation {
        if !call.body.is_empty() {
            keys.insert("requestBody".to_owned(), request_body(call.body));
        }
        keys.insert("x-since".to_owned(), json!(route.since()));
        keys.insert("x-status".to_owned(), json!(route.status_text()));
        if !route.note().is_empty() {
            keys.insert("description".to_owned(), json!(route.note()));
        }
    }
    Some(operation)
}

fn query_parameter(text: &str) -> Value {
    let (name, kind) = text.split_once(':').unwrap_or((text, "string"));
    let schema = match kind {
        "strings" => json!({"type": "array", "items": {"type": "string"}}),
        kind => json!({"type": kind}),
    };
    json!({"name": name, "in": "query", "schema": schema})
}

fn request_body(name: &str) -> Value {
    let (media_type, schema) = match name {
        "Tar" => (
            "application/x-tar",
            json!({"type": "string", "format": "binary"}),
        ),
        name => ("application/json", json!({"type": "object", "title": name})),
    };
    json!({"content": {media_type: {"schema": schema}}})
}

fn responses(answer: &str) -> Value {
    let (code, kind) = answer.split_once(' ').unwrap_or((answer, "none"));
    let content = match kind {
        "text" => json!({"text/plain": {"schema": {"type": "string"}}}),
        "tar" => json!({"application/x-tar": {"schema": {"type": "string", "format": "binary"}}}),
        "object" | "array" => json!({"application/json": {"schema": {"type": kind}}}),
        "lines" => json!({"application/json": {"schema": {"type": "object"}}}),
        "stream" => {
            json!({"application/vnd.docker.raw-stream": {"schema": {"type": "string", "format": "binary"}}})
        }
        _ => Value::Null,
    };
    let mut success =
        json!({"description": if code.starts_with(['4', '5']) { "always" } else { "done" }});
    if let (Value::Object(keys), false) = (&mut success, content.is_null()) {
        keys.insert("content".to_owned(), content);
    }
    json!({code: success, "default": {"$ref": "#/components/responses/Error"}})
}

fn operation_id(method: &Method, pattern: &str) -> String {
    let words = pattern
        .split(|character: char| !character.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty());
    let mut id = method.as_str().to_lowercase();
    for word in words {
        let mut letters = word.chars();
        if let Some(first) = letters.next() {
            id.push(first.to_ascii_uppercase());
            id.extend(letters);
        }
    }
    id
}

fn tag(pattern: &str) -> &str {
    match pattern.split('/').nth(1).unwrap_or_default() {
        "_ping" | "version" | "info" | "events" | "system" | "auth" => "system",
        "session" | "grpc" => "build",
        "wharf" => "wharf",
        "commit" => "images",
        other => other,
    }
}

fn calls() -> impl Iterator<Item = CallText> {
    CALLS
        .lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty())
        .filter_map(|line| {
            let mut fields = line.split('|').map(str::trim);
            let (method, path) = fields.next()?.split_once(' ')?;
            Some(CallText {
                method,
                path,
                summary: fields.next()?,
                query: fields.next()?,
                body: fields.next()?,
                answer: fields.next()?,
            })
        })
}

fn call_of(method: &str, pattern: &str) -> Option<CallText> {
    calls().find(|call| {
        if call.method == "*" {
            pattern.starts_with(call.path)
        } else {
            call.method == method && call.path == pattern
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_call_is_described() {
        for route in ROUTES {
            for method in route.methods {
                assert!(
                    call_of(method.as_str(), route.pattern).is_some(),
                    "openapi.txt has no line for {method} {}",
                    route.pattern
                );
            }
        }
    }

    #[test]
    fn the_document_is_valid() {
        let document: Value = serde_json::from_str(&openapi()).expect("JSON");
        assert!(
            document["openapi"]
                .as_str()
                .expect("a version")
                .starts_with("3.1")
        );
        let mut ids = BTreeSet::new();
        let paths = document["paths"].as_object().expect("paths");
        for (path, item) in paths {
            assert!(path.starts_with('/'), "{path}");
            let in_path: BTreeSet<&str> = path
                .split('{')
                .skip(1)
                .filter_map(|part| part.split('}').next())
                .collect();
            for (method, operation) in item.as_object().expect("operations") {
                let id = operation["operationId"].as_str().expect("an ID");
                assert!(ids.insert(id.to_owned()), "{id} twice");
                assert!(!operation["summary"].as_str().expect("a summary").is_empty());
                let responses = operation["responses"].as_object().expect("responses");
                for code in responses.keys() {
                    assert!(code == "default" || code.parse::<u16>().is_ok(), "{code}");
                }
                let mut names = BTreeSet::new();
                let mut declared = BTreeSet::new();
                for parameter in operation["parameters"].as_array().expect("parameters") {
                    let name = parameter["name"].as_str().expect("a name");
                    let place = parameter["in"].as_str().expect("a place");
                    assert!(names.insert((name, place)), "{method} {path}: {name} twice");
                    assert!(parameter["schema"]["type"].is_string());
                    if place == "path" {
                        assert_eq!(parameter["required"], true);
                        declared.insert(name);
                    }
                }
                assert_eq!(declared, in_path, "{method} {path}");
            }
        }
        let references = openapi().matches("\"$ref\": \"#/components/").count();
        assert!(references > paths.len());
    }

    #[test]
    fn parameters_of_one_path_have_names_of_their_own() {
        assert_eq!(
            named_parameters("/a/{name}/b/{name}"),
            (
                "/a/{name}/b/{name2}".to_owned(),
                vec!["name".to_owned(), "name2".to_owned()]
            )
        );
    }
}
