//! How one structured key differs from an earlier one, in words.

use std::collections::BTreeMap;

use serde_json::Value;
use wharf_store::Store;

use super::Cause;
use crate::listing::Listing;

/// Changed files that are named in the text.
const SHOWN_FILES: usize = 5;
/// Hexadecimal characters of a digest that are shown.
const SHOWN_DIGEST_CHARS: usize = 12;
/// Characters of a value that are shown.
const SHOWN_VALUE_CHARS: usize = 60;

/// Returns how one structured key differs from an earlier one.
pub(super) fn compare(store: &Store, old: &Value, new: &Value) -> Vec<Cause> {
    let mut causes = Vec::new();
    if old["step"] != new["step"] {
        let text = format!(
            "the instruction changed: it was {}",
            shown(&text_of(&old["step"]))
        );
        causes.push(Cause::new("instruction", text));
    }
    compare_variables(old, new, &mut causes);
    compare_options(old, new, &mut causes);
    let nothing = Vec::new();
    let olds = old["inputs"].as_array().unwrap_or(&nothing);
    let news = new["inputs"].as_array().unwrap_or(&nothing);
    for (index, new) in news.iter().enumerate() {
        match olds.get(index) {
            Some(old) => compare_input(store, old, new, &mut causes),
            None => causes.push(Cause::new(
                "input",
                format!("{} is new", text_of(&new["name"])),
            )),
        }
    }
    causes
}

fn compare_variables(old: &Value, new: &Value, causes: &mut Vec<Cause>) {
    let (before, after) = (variables(old), variables(new));
    let names: std::collections::BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let nothing = Vec::new();
    let args = new["args"].as_array().unwrap_or(&nothing);
    for name in names {
        let (before, after) = (before.get(name), after.get(name));
        if before == after {
            continue;
        }
        let keyword = if args.iter().any(|arg| arg == name) {
            "ARG"
        } else {
            "ENV"
        };
        let value =
            |value: Option<&String>| value.map_or("(unset)".to_owned(), |value| shown(value));
        let text = format!("{keyword} {name} {} → {}", value(before), value(after));
        causes.push(Cause::new("variable", text));
    }
}

/// Returns the variables of a structured key.
fn variables(explain: &Value) -> BTreeMap<String, String> {
    let nothing = Vec::new();
    let list = explain["parts"]["op"]["env"].as_array().unwrap_or(&nothing);
    let pairs = list
        .iter()
        .filter_map(|entry| entry.as_str()?.split_once('='));
    pairs
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

fn compare_options(old: &Value, new: &Value, causes: &mut Vec<Cause>) {
    if old["parts"]["platform"] != new["parts"]["platform"] {
        let platform = |explain: &Value| text_of(&explain["parts"]["platform"]);
        let text = format!("platform {} → {}", platform(old), platform(new));
        causes.push(Cause::new("option", text));
    }
    let (old_op, new_op) = (&old["parts"]["op"], &new["parts"]["op"]);
    let Some(new_fields) = new_op.as_object() else {
        if old_op != new_op && old["step"] == new["step"] {
            causes.push(Cause::new(
                "option",
                "its destination, owner or mode changed",
            ));
        }
        return;
    };
    for (name, value) in new_fields {
        if name == "env" || old_op[name] == *value {
            continue;
        }
        let text = match (name.as_str(), value) {
            ("args", _) if old["step"] != new["step"] => continue,
            ("args", _) => "its command changed".to_owned(),
            (name, Value::String(after)) => {
                format!(
                    "{name} {} → {}",
                    shown(&text_of(&old_op[name])),
                    shown(after)
                )
            }
            (name, _) => format!("its {} changed", name.replace('_', " ")),
        };
        causes.push(Cause::new("option", text));
    }
}

fn compare_input(store: &Store, old: &Value, new: &Value, causes: &mut Vec<Cause>) {
    if let (Some(old), Some(new)) = (old["image"].as_str(), new["image"].as_str())
        && old != new
    {
        causes.push(Cause::new("image", image_change(old, new)));
        return;
    }
    if new["contents"].is_array() {
        let nothing = Vec::new();
        let olds = old["contents"].as_array().unwrap_or(&nothing);
        for (index, new) in new["contents"]
            .as_array()
            .unwrap_or(&nothing)
            .iter()
            .enumerate()
        {
            compare_contents(store, olds.get(index).unwrap_or(&Value::Null), new, causes);
        }
        return;
    }
    if old["key"] == new["key"] {
        return;
    }
    let cause = match (new["number"].as_u64(), &new["image"]) {
        (_, Value::String(image)) => {
            Cause::new("image", format!("base image {} changed", familiar(image).0))
        }
        (Some(number), _) if number > 0 => {
            Cause::new("input", format!("its input changed (step {number})"))
        }
        _ => Cause::new(
            "input",
            format!("its input changed ({})", text_of(&new["name"])),
        ),
    };
    causes.push(cause);
}

fn compare_contents(store: &Store, old: &Value, new: &Value, causes: &mut Vec<Cause>) {
    if old["digest"] == new["digest"] {
        return;
    }
    let listing = |value: &Value| Listing::kept(store, value["listing"].as_str()?);
    let (Some(before), Some(after)) = (listing(old), listing(new)) else {
        let text = format!("the files of {} changed", text_of(&new["source"]));
        causes.push(Cause::new("files", text));
        return;
    };
    let change = after.changes_since(&before);
    let named: Vec<String> = change
        .examples
        .iter()
        .take(SHOWN_FILES)
        .map(|file| format!("{} ({})", one_line(&file.path), file.what))
        .collect();
    let more = change.changed.saturating_sub(named.len());
    let more = if more > 0 {
        format!(" and {more} more")
    } else {
        String::new()
    };
    let text = if change.changed == 0 {
        format!("owners of files of {} changed", text_of(&new["source"]))
    } else {
        format!(
            "{} of {} files changed: {}{more}",
            change.changed,
            change.files,
            named.join(", ")
        )
    };
    causes.push(Cause {
        files: Some(change),
        ..Cause::new("files", text)
    });
}

/// Tells how a base image changed.
fn image_change(old: &str, new: &str) -> String {
    let ((old_name, old_digest), (new_name, new_digest)) = (familiar(old), familiar(new));
    if old_name == new_name {
        format!("base image {new_name} moved {old_digest} → {new_digest}")
    } else {
        format!("base image {old_name} → {new_name}")
    }
}

/// Returns an image's name as users write it and its digest, shortened.
fn familiar(image: &str) -> (String, String) {
    let (name, digest) = image.split_once('@').unwrap_or((image, ""));
    let name = name.strip_prefix("docker.io/library/").unwrap_or(name);
    let name = name.strip_prefix("docker.io/").unwrap_or(name);
    let short = "sha256:".len() + SHOWN_DIGEST_CHARS;
    let digest = digest.get(..short).unwrap_or(digest);
    (name.to_owned(), digest.to_owned())
}

/// Returns a text of a structured key; empty where there is none.
pub(super) fn text_of(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// Returns a text with its line ends and other control characters written out: a cause is one line.
fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() {
            line.extend(character.escape_default());
        } else {
            line.push(character);
        }
    }
    line
}

/// Returns a value on one line, cut where it is long.
fn shown(text: &str) -> String {
    let text = one_line(text);
    if text.chars().count() <= SHOWN_VALUE_CHARS {
        return text;
    }
    let start: String = text.chars().take(SHOWN_VALUE_CHARS).collect();
    format!("{start}…")
}

#[cfg(test)]
mod tests {
    use super::{compare, image_change};
    use serde_json::{Value, json};
    use wharf_store::Store;

    fn explain(change: impl Fn(&mut Value)) -> Value {
        let mut value = json!({
            "step": "RUN make", "args": ["VERSION"],
            "parts": { "op": { "args": ["sh", "-c", "make"], "env": ["PATH=/bin", "VERSION=1.2"], "user": "" }, "platform": "linux/amd64" },
            "inputs": [{ "name": "COPY . .", "number": 4, "key": "sha256:1" }],
        });
        change(&mut value);
        value
    }

    #[test]
    fn causes() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&directory.path().join("root")).unwrap();
        let old = explain(|_| {});
        let told = |change: &dyn Fn(&mut Value)| -> Vec<String> {
            let causes = compare(&store, &old, &explain(change));
            causes.into_iter().map(|cause| cause.text).collect()
        };
        assert!(told(&|_| {}).is_empty());
        assert_eq!(
            told(&|new| new["inputs"][0]["key"] = json!("sha256:2")),
            ["its input changed (step 4)"]
        );
        assert_eq!(
            told(&|new| new["parts"]["op"]["env"] = json!(["PATH=/bin", "VERSION=1.3", "X=1"])),
            ["ARG VERSION 1.2 → 1.3", "ENV X (unset) → 1"]
        );
        assert_eq!(
            told(&|new| new["step"] = json!("RUN make all")),
            ["the instruction changed: it was RUN make"]
        );
        assert_eq!(
            told(&|new| new["parts"]["op"]["user"] = json!("app")),
            ["user  → app"]
        );
    }

    #[test]
    fn images() {
        let digest = |digit: &str| format!("sha256:{}", digit.repeat(64));
        let image =
            |digit: &str| format!("docker.io/library/debian:bookworm-slim@{}", digest(digit));
        assert_eq!(
            image_change(&image("a"), &image("b")),
            "base image debian:bookworm-slim moved sha256:aaaaaaaaaaaa → sha256:bbbbbbbbbbbb"
        );
        assert_eq!(
            image_change(&image("a"), "ghcr.io/x/y:1@sha256:c"),
            "base image debian:bookworm-slim → ghcr.io/x/y:1"
        );
    }
}
