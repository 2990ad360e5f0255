//! Go templates over JSON data, with the functions docker offers in `--format` and in the tags of logs.
//!
//! Pure. Templates and their data come from outside: [`TEMPLATE_LIMIT_BYTES`], [`PAD_LIMIT_CHARACTERS`].

#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use gotmpl::TemplateError;
pub use gotmpl::Value;
use gotmpl::parse::{CommandNode, Expr, ListNode, Node, Parser, PipeNode};
use serde_json::Value as Json;

/// Why a template cannot be read or filled in; the text is Go's where it is known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct FormatError(pub String);

/// What the functions of this room return.
pub type Result<T> = std::result::Result<T, FormatError>;

/// Longest accepted template, in bytes.
pub const TEMPLATE_LIMIT_BYTES: usize = 64 * 1024;
/// Widest padding `pad` makes, in characters.
pub const PAD_LIMIT_CHARACTERS: i64 = 4096;

/// Name under which the whole template is registered; no `{{define}}` can spell it.
const ROOT: &str = "\0root";

/// Whether a field that the data does not have is an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// The data stands for a type with fixed fields: an unknown one is a mistake.
    IsAnError,
    /// The data is free-form: print `<no value>`.
    HasNoValue,
}

/// A parsed `--format` template.
pub struct Template {
    tree: ListNode,
    engine: gotmpl::Template,
    source: String,
    order: Arc<std::sync::Mutex<KeyOrder>>,
}

/// Order of the keys of each JSON object, by the address of its template value.
///
/// Template maps are sorted; `{{json .}}` must print an API object in the daemon's order.
type KeyOrder = HashMap<usize, Vec<String>>;

/// Keys whose objects have free-form keys, so that asking for an absent one is no mistake.
const FREE_FORM: [&str; 18] = [
    "Labels",
    "Annotations",
    "Options",
    "DriverOpts",
    "Sysctls",
    "StorageOpt",
    "Tmpfs",
    "Data",
    "Volumes",
    "ExposedPorts",
    "Ports",
    "PortBindings",
    "Networks",
    "Containers",
    "Runtimes",
    "UsageData",
    "Attributes",
    "Status",
];

/// Name of the method that a map has whose JSON is written by Go's own encoder: `<`, `>` and `&` are escaped in it.
///
/// docker's function `json` leaves them alone but for values that write themselves, which the rows of its lists do.
pub const MARSHAL_METHOD: &str = "MarshalJSON";

impl Template {
    /// Parses a template.
    ///
    /// # Errors
    /// A mistake in the template, or one that is too long.
    pub fn parse(source: &str) -> Result<Self> {
        Self::parse_with(source, &[])
    }

    /// Parses a template in which the functions named in `replaced` return their first argument unchanged.
    ///
    /// docker renders a table's header line with the row template, where `json .ID` must give the heading itself.
    ///
    /// # Errors
    /// See [`Template::parse`].
    pub fn parse_with(source: &str, replaced: &[&str]) -> Result<Self> {
        if source.len() > TEMPLATE_LIMIT_BYTES {
            return Err(FormatError(format!(
                "template is longer than {TEMPLATE_LIMIT_BYTES} bytes"
            )));
        }
        check_blocks(source)?;
        let parsed = Parser::new(source, "{{", "}}").and_then(Parser::parse);
        let (mut tree, defines) = parsed.map_err(|error| FormatError(go_parse_error(&error)))?;
        let order = Arc::default();
        let mut engine = functions(gotmpl::Template::new(""), &order);
        for name in replaced {
            engine = engine.func(name, |args| Ok(args.first().cloned().unwrap_or(Value::Nil)));
        }
        call_methods(&mut tree);
        for mut define in defines {
            call_methods(&mut define.body);
            engine = engine.add_parse_tree(&define.name, define.body);
        }
        let engine = engine.add_parse_tree(ROOT, tree.clone());
        Ok(Self {
            tree,
            engine,
            source: source.to_owned(),
            order,
        })
    }

    /// Returns the template filled in with a JSON value; `type_name` names it in an error.
    ///
    /// # Errors
    /// A field that the data cannot have, or a function that fails.
    pub fn execute_json(&self, data: &Json, type_name: &str, missing: Missing) -> Result<String> {
        let value = {
            let mut order = self
                .order
                .lock()
                .map_err(|_| FormatError("broken state".into()))?;
            order.clear();
            from_json(data, &mut order)
        };
        self.execute(&value, type_name, missing)
    }

    /// Returns the template filled in with a template value.
    ///
    /// # Errors
    /// See [`Template::execute_json`].
    pub fn execute(&self, data: &Value, type_name: &str, missing: Missing) -> Result<String> {
        if missing == Missing::IsAnError {
            self.check_fields(data, type_name)?;
        }
        self.engine
            .execute_template_to_string(ROOT, data)
            .map_err(|error| FormatError(go_exec_error(&error)))
    }

    /// Fails on the first field at the template's top level that the data cannot have.
    fn check_fields(&self, data: &Value, type_name: &str) -> Result<()> {
        for node in &self.tree.nodes {
            let pipe = match node {
                Node::Action(action) => &action.pipe,
                Node::If(branch) | Node::Range(branch) | Node::With(branch) => &branch.pipe,
                _ => continue,
            };
            self.check_pipe(pipe, data, type_name)?;
        }
        Ok(())
    }

    fn check_pipe(&self, pipe: &PipeNode, data: &Value, type_name: &str) -> Result<()> {
        for expression in pipe.commands.iter().flat_map(|command| &command.args) {
            match expression {
                Expr::Field(position, path) => {
                    let path: Vec<&str> = path.iter().map(|name| name.as_str()).collect();
                    if let Some(unknown) = unknown_field(data, &path) {
                        let before = &self.source[..position.offset.min(self.source.len())];
                        let column = before.rsplit('\n').next().unwrap_or(before).chars().count();
                        return Err(FormatError(format!(
                            "template: :{}:{column}: executing \"\" at <.{}>: can't evaluate field {unknown} in type {type_name}",
                            position.line,
                            path.join("."),
                        )));
                    }
                }
                Expr::Pipe(_, inner) => self.check_pipe(inner, data, type_name)?,
                _ => {}
            }
        }
        Ok(())
    }
}

/// Fails when blocks and their `{{end}}` do not pair up, which the parser lets pass.
fn check_blocks(source: &str) -> Result<()> {
    let mut depth = 0_usize;
    let mut rest = source;
    while let Some(start) = rest.find("{{") {
        let action = &rest[start + 2..];
        let end = action_length(action);
        let words = action[..end].trim_start_matches('-').trim_start();
        match words
            .split(|c: char| !c.is_ascii_alphabetic())
            .next()
            .unwrap_or_default()
        {
            "if" | "range" | "with" | "block" | "define" => depth += 1,
            "end" => {
                depth = depth
                    .checked_sub(1)
                    .ok_or_else(|| FormatError("template: :1: unexpected {{end}}".into()))?;
            }
            _ => {}
        }
        rest = action.get(end + 2..).unwrap_or_default();
    }
    if depth > 0 {
        return Err(FormatError("template: :1: unexpected EOF".into()));
    }
    Ok(())
}

/// Returns where an action's closing braces are, those inside quotes and comments not counting.
fn action_length(action: &str) -> usize {
    if let Some(comment) = action.trim_start_matches(['-', ' ']).strip_prefix("/*") {
        let offset = action.len() - comment.len();
        let end = comment
            .find("*/")
            .map_or(action.len(), |end| offset + end + 2);
        return action[end..]
            .find("}}")
            .map_or(action.len(), |braces| end + braces);
    }
    let (mut quote, mut escaped) = (None, false);
    for (position, byte) in action.bytes().enumerate() {
        match quote {
            Some(_) if escaped => escaped = false,
            Some(b'"' | b'\'') if byte == b'\\' => escaped = true,
            Some(open) if byte == open => quote = None,
            Some(_) => {}
            None if matches!(byte, b'"' | b'`' | b'\'') => quote = Some(byte),
            None if action.as_bytes()[position..].starts_with(b"}}") => return position,
            None => {}
        }
    }
    action.len()
}

/// Returns the first name of a path that an object with fixed fields does not have.
fn unknown_field<'a>(data: &Value, path: &[&'a str]) -> Option<&'a str> {
    let mut current = data;
    for (index, name) in path.iter().enumerate() {
        let Value::Map(map) = current else {
            return None;
        };
        match map.get(*name) {
            Some(next) => current = next,
            None if index > 0 && FREE_FORM.contains(&path[index - 1]) => return None,
            // An entry of a free-form map (a network, a runtime) may leave out what is empty.
            None if index > 1 && FREE_FORM.contains(&path[index - 2]) => return None,
            None => return Some(name),
        }
    }
    None
}

fn from_json(json: &Json, order: &mut KeyOrder) -> Value {
    match json {
        Json::Null => Value::Nil,
        Json::Bool(flag) => Value::Bool(*flag),
        Json::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(signed), _) => Value::Int(signed),
            (None, Some(unsigned)) => Value::Uint(unsigned),
            (None, None) => Value::Float(number.as_f64().unwrap_or(0.0)),
        },
        Json::String(text) => Value::String(text.as_str().into()),
        Json::Array(items) => {
            Value::List(items.iter().map(|item| from_json(item, order)).collect())
        }
        Json::Object(members) => {
            let map: BTreeMap<Arc<str>, Value> = members
                .iter()
                .map(|(key, value)| (key.as_str().into(), from_json(value, order)))
                .collect();
            let map = Arc::new(map);
            order.insert(address(&map), members.keys().cloned().collect());
            Value::Map(map)
        }
    }
}

fn address(map: &Arc<BTreeMap<Arc<str>, Value>>) -> usize {
    Arc::as_ptr(map) as usize
}

fn to_json(value: &Value, order: &KeyOrder) -> Json {
    match value {
        Value::Bool(flag) => Json::Bool(*flag),
        Value::Int(number) => Json::from(*number),
        Value::Uint(number) => Json::from(*number),
        Value::Float(number) => Json::from(*number),
        Value::String(text) => Json::from(text.as_ref()),
        Value::List(items) => items.iter().map(|item| to_json(item, order)).collect(),
        Value::Map(map) => {
            let keys = order.get(&address(map));
            let member = |key: &str| {
                map.get(key)
                    .map(|value| (key.to_owned(), to_json(value, order)))
            };
            match keys {
                Some(keys) => Json::Object(keys.iter().filter_map(|key| member(key)).collect()),
                None => Json::Object(
                    map.iter()
                        .filter(|(_, value)| !matches!(value, Value::Function(_)))
                        .filter_map(|(key, _)| member(key))
                        .collect(),
                ),
            }
        }
        _ => Json::Null,
    }
}

/// Returns whether a value writes itself as JSON, as the rows of docker's lists do, or is a list of such values.
fn has_own_marshal(value: &Value) -> bool {
    match value {
        Value::Map(map) => matches!(map.get(MARSHAL_METHOD), Some(Value::Function(_))),
        Value::List(items) => items.iter().any(has_own_marshal),
        _ => false,
    }
}

/// Returns JSON with the characters escaped that Go's encoder escapes unless told not to.
fn html_safe(json: &str) -> String {
    json.replace('<', "\\u003c")
        .replace('>', "\\u003e")
        .replace('&', "\\u0026")
}

/// Turns `.Label "x"`, a method call in Go, into `call .Label "x"`.
fn call_methods(list: &mut ListNode) {
    for node in &mut list.nodes {
        match node {
            Node::List(inner) => call_methods(inner),
            Node::Action(action) => call_methods_in_pipe(&mut action.pipe),
            Node::If(branch) | Node::Range(branch) | Node::With(branch) => {
                call_methods_in_pipe(&mut branch.pipe);
                call_methods(&mut branch.body);
                if let Some(other) = &mut branch.else_body {
                    call_methods(other);
                }
            }
            Node::Template(template) => {
                if let Some(pipe) = &mut template.pipe {
                    call_methods_in_pipe(pipe);
                }
            }
            Node::Text(_) | Node::Define(_) | Node::Break(_) | Node::Continue(_) => {}
        }
    }
}

fn call_methods_in_pipe(pipe: &mut PipeNode) {
    for command in &mut pipe.commands {
        for argument in &mut command.args {
            if let Expr::Pipe(_, inner) = argument {
                call_methods_in_pipe(inner);
            }
        }
        call_method(command);
    }
}

fn call_method(command: &mut CommandNode) {
    let is_method = matches!(
        command.args.first(),
        Some(Expr::Field(..) | Expr::Variable(..))
    );
    if is_method && command.args.len() > 1 {
        command
            .args
            .insert(0, Expr::Identifier(command.pos, "call".into()));
    }
}

/// Adds docker's functions (documented under "Format command and log output").
fn functions(
    template: gotmpl::Template,
    order: &Arc<std::sync::Mutex<KeyOrder>>,
) -> gotmpl::Template {
    let order = Arc::clone(order);
    template
        .func("json", move |args| {
            let order = order.lock().map_err(|_| wrong("json: broken state"))?;
            let given = argument("json", args, 0)?;
            let value = to_json(given, &order);
            let json = serde_json::to_string(&value).map_err(|error| wrong(error.to_string()))?;
            Ok(text(if has_own_marshal(given) {
                html_safe(&json)
            } else {
                json
            }))
        })
        .func("upper", |args| {
            Ok(text(string("upper", args, 0)?.to_uppercase()))
        })
        .func("lower", |args| {
            Ok(text(string("lower", args, 0)?.to_lowercase()))
        })
        .func("title", |args| Ok(text(title(string("title", args, 0)?))))
        .func("split", |args| {
            let (whole, separator) = (string("split", args, 0)?, string("split", args, 1)?);
            Ok(Value::List(
                whole
                    .split(separator)
                    .map(|part| Value::String(part.into()))
                    .collect(),
            ))
        })
        .func("join", join)
        .func("pad", |args| {
            let whole = string("pad", args, 0)?;
            if whole.is_empty() {
                return Ok(text(String::new()));
            }
            let blanks = |index| -> gotmpl::Result<String> {
                Ok(" ".repeat(integer("pad", args, index)?.clamp(0, PAD_LIMIT_CHARACTERS) as usize))
            };
            Ok(text(format!("{}{whole}{}", blanks(1)?, blanks(2)?)))
        })
        .func("truncate", |args| {
            let (whole, length) = (string("truncate", args, 0)?, integer("truncate", args, 1)?);
            Ok(text(
                whole
                    .chars()
                    .take(usize::try_from(length).unwrap_or(0))
                    .collect(),
            ))
        })
        .func("index", index)
}

/// Go's `join` takes the list first, so that it can also follow a pipe the other way round.
fn join(args: &[Value]) -> gotmpl::Result<Value> {
    let separator = string("join", args, 1)?;
    match argument("join", args, 0)? {
        Value::List(items) => {
            let parts: Vec<String> = items.iter().map(ToString::to_string).collect();
            Ok(text(parts.join(separator)))
        }
        Value::Nil => Ok(text(String::new())),
        other => Err(wrong(format!(
            "join: expected a list, found {}",
            other.type_name()
        ))),
    }
}

/// Go's `index` gives the zero value for a key that a map of strings does not have, where the value has no type here.
fn index(args: &[Value]) -> gotmpl::Result<Value> {
    let mut current = argument("index", args, 0)?.clone();
    for key in &args[1..] {
        current = match (&current, key) {
            (Value::Nil, Value::String(_)) => text(String::new()),
            (Value::Map(map), Value::String(name)) => match map.get(name.as_ref()) {
                Some(found) => found.clone(),
                None if map.values().all(|value| matches!(value, Value::String(_))) => {
                    text(String::new())
                }
                None => Value::Nil,
            },
            (value, key) => value.index(key)?,
        };
    }
    Ok(current)
}

fn title(whole: &str) -> String {
    let mut capital = true;
    whole
        .chars()
        .flat_map(|character| {
            let mapped: Vec<char> = if capital {
                character.to_uppercase().collect()
            } else {
                vec![character]
            };
            capital = character.is_whitespace();
            mapped
        })
        .collect()
}

fn text(text: String) -> Value {
    Value::String(text.into())
}

fn wrong(message: impl Into<String>) -> TemplateError {
    TemplateError::Exec(message.into())
}

fn argument<'a>(name: &str, args: &'a [Value], index: usize) -> gotmpl::Result<&'a Value> {
    args.get(index).ok_or_else(|| {
        wrong(format!(
            "wrong number of args for {name}: want at least {}, got {}",
            index + 1,
            args.len()
        ))
    })
}

fn string<'a>(name: &str, args: &'a [Value], index: usize) -> gotmpl::Result<&'a str> {
    let value = argument(name, args, index)?;
    value.as_str().ok_or_else(|| {
        wrong(format!(
            "{name}: expected a string, found {}",
            value.type_name()
        ))
    })
}

fn integer(name: &str, args: &[Value], index: usize) -> gotmpl::Result<i64> {
    let value = argument(name, args, index)?;
    value.as_int().ok_or_else(|| {
        wrong(format!(
            "{name}: expected an integer, found {}",
            value.type_name()
        ))
    })
}

/// Words a parse error as Go does for an unnamed template: `template: :1: unclosed action`.
fn go_parse_error(error: &TemplateError) -> String {
    match error {
        TemplateError::Parse { line, message, .. } | TemplateError::Lex { line, message, .. } => {
            format!("template: :{line}: {message}")
        }
        other => format!("template: :1: {other}"),
    }
}

fn go_exec_error(error: &TemplateError) -> String {
    match error {
        TemplateError::UndefinedFunction(name) => {
            format!("template: :1: function \"{name}\" not defined")
        }
        other => format!("template: :1: executing \"\": {other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(template: &str, data: &str) -> Result<String> {
        let data: Json = serde_json::from_str(data).unwrap();
        Template::parse(template)?.execute_json(
            &data,
            "map[string]interface {}",
            Missing::IsAnError,
        )
    }

    #[test]
    fn json_keeps_the_order_of_the_keys() {
        assert_eq!(
            run("{{json .}}", r#"{"Z":1,"A":{"y":1,"b":"<&>"}}"#).unwrap(),
            r#"{"Z":1,"A":{"y":1,"b":"<&>"}}"#
        );
        assert_eq!(
            run("{{json .A}}", r#"{"Z":1,"A":{"y":1,"b":2}}"#).unwrap(),
            r#"{"y":1,"b":2}"#
        );
    }

    #[test]
    fn an_unknown_field_is_an_error_and_an_unknown_label_is_not() {
        let error = run("{{.Nope}}", "{}").unwrap_err().to_string();
        assert!(error.contains("can't evaluate field Nope"), "{error}");
        assert_eq!(
            run("{{.Labels.x}}", r#"{"Labels":{}}"#).unwrap(),
            "<no value>"
        );
        assert_eq!(
            run("{{index .Labels \"x\"}}", r#"{"Labels":{"y":"1"}}"#).unwrap(),
            ""
        );
        assert_eq!(
            run("{{index .Labels \"x\"}}", r#"{"Labels":null}"#).unwrap(),
            ""
        );
    }

    #[test]
    fn an_overlong_template_is_refused() {
        assert!(Template::parse(&"x".repeat(TEMPLATE_LIMIT_BYTES)).is_ok());
        assert!(Template::parse(&"x".repeat(TEMPLATE_LIMIT_BYTES + 1)).is_err());
    }
}
