//! Go templates over JSON data, with the functions docker offers in `--format` and in the tags of logs.
//!
//! Pure. Templates and their data come from outside: [`TEMPLATE_LIMIT_BYTES`], [`PAD_LIMIT_CHARACTERS`].

#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod checks;
mod functions;
mod methods;
mod operands;
mod values;

use std::sync::{Arc, Mutex};

use gotmpl::TemplateError;
use gotmpl::parse::{ListNode, Parser};
use serde_json::Value as Json;

pub use functions::PAD_LIMIT_CHARACTERS;
pub use gotmpl::Value;
pub use values::Shape;

use checks::{check_blocks, check_functions};
use functions::functions;
use methods::call_methods;
use operands::Operands;
use values::KeyOrder;

/// Why a template cannot be read or filled in; the text is Go's where it is known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct FormatError(pub String);

/// What the functions of this room return.
pub type Result<T> = std::result::Result<T, FormatError>;

/// Longest accepted template, in bytes.
pub const TEMPLATE_LIMIT_BYTES: usize = 64 * 1024;

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
    order: Arc<Mutex<KeyOrder>>,
}

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
        check_functions(&tree)?;
        call_methods(&mut tree);
        for mut define in defines {
            check_functions(&define.body)?;
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
        self.execute_shaped(data, type_name, missing, &Shape::default())
    }

    /// Returns the template filled in with a JSON value of a type that has more to it.
    ///
    /// # Errors
    /// See [`Template::execute_json`].
    pub fn execute_shaped(
        &self,
        data: &Json,
        type_name: &str,
        missing: Missing,
        shape: &Shape,
    ) -> Result<String> {
        let value = {
            let mut order = self
                .order
                .lock()
                .map_err(|_| FormatError("broken state".into()))?;
            order.take(data, shape)
        };
        self.execute(&value, type_name, missing)
    }

    /// Returns the template filled in with a template value.
    ///
    /// # Errors
    /// See [`Template::execute_json`].
    pub fn execute(&self, data: &Value, type_name: &str, missing: Missing) -> Result<String> {
        if missing == Missing::IsAnError {
            let operands = Operands {
                source: &self.source,
                data,
                type_name,
            };
            operands.check(&self.tree)?;
        }
        self.engine
            .execute_template_to_string(ROOT, data)
            .map_err(|error| FormatError(go_exec_error(&error)))
    }
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
    use std::collections::BTreeMap;

    fn run(template: &str, data: &str) -> Result<String> {
        let data: Json = serde_json::from_str(data).unwrap();
        Template::parse(template)?.execute_json(
            &data,
            "map[string]interface {}",
            Missing::IsAnError,
        )
    }

    #[test]
    fn json_of_a_row_is_escaped_as_go_does() {
        let marshal = Value::Function(Arc::new(|_| Ok(Value::Nil)));
        let row = Value::Map(Arc::new(BTreeMap::from([
            (MARSHAL_METHOD.into(), marshal),
            ("A".into(), Value::String("<&>".into())),
        ])));
        let lists = BTreeMap::from([("Rows".into(), Value::List([row.clone()].into()))]);
        for (source, data, expected) in [
            ("{{json .}}", row.clone(), r#"{"A":"\u003c\u0026\u003e"}"#),
            ("{{json .A}}", row, r#""<&>""#),
            (
                "{{json .Rows}}",
                Value::Map(Arc::new(lists)),
                r#"[{"A":"\u003c\u0026\u003e"}]"#,
            ),
        ] {
            let template = Template::parse(source).unwrap();
            let text = template.execute(&data, "", Missing::IsAnError).unwrap();
            assert_eq!(text, expected, "{source}");
        }
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
    fn fields_without_a_value_are_what_their_type_says() {
        let shape = Shape {
            lists: &["L", "M"],
            maps: &["O"],
            texts: &["T"],
            flags: &["F"],
            optional: &[("", &["M", "T", "F", "X"]), ("In", &["O"])],
            go_names: &[("In", "AB", "a")],
        };
        let data = serde_json::json!({"L": null, "In": {"a": 1}});
        for (source, expected) in [
            ("{{json .}}", r#"{"L":null,"In":{"a":1}}"#),
            ("{{.L}} {{json .L}} {{len .L}}", "[] null 0"),
            ("{{.M}}|{{range .M}}x{{end}}|{{.T}}|{{.F}}", "[]|||false"),
            ("{{.In.O}} {{json .In.O}}", "map[] null"),
            ("{{.X}} {{json .X}}", "<no value> null"),
            ("{{if .L}}a{{else}}b{{end}}", "b"),
            ("{{.In.AB}} {{json .In}}", r#"1 {"a":1}"#),
        ] {
            let filled = Template::parse(source).unwrap().execute_shaped(
                &data,
                "t",
                Missing::IsAnError,
                &shape,
            );
            assert_eq!(filled.unwrap(), expected, "{source}");
        }
    }

    #[test]
    fn an_overlong_template_is_refused() {
        assert!(Template::parse(&"x".repeat(TEMPLATE_LIMIT_BYTES)).is_ok());
        assert!(Template::parse(&"x".repeat(TEMPLATE_LIMIT_BYTES + 1)).is_err());
    }
}
