//! Lists of rows in the format the caller asked for: a table, a template per row, or JSON.

use std::collections::BTreeMap;
use std::sync::Arc;

use wharf_template::{FormatError, Value};

use crate::error::{CliError, Result};
use crate::render::table;
use crate::render::template::{Missing, Template};
use crate::render::text::short_id;

/// One row: what `--format` can ask for, by field name.
pub struct Row {
    fields: BTreeMap<Arc<str>, Value>,
}

impl Row {
    /// Returns a row without fields.
    #[must_use]
    pub fn new() -> Self {
        let marshal = Value::Function(Arc::new(|_| Ok(Value::Nil)));
        Self {
            fields: BTreeMap::from([(wharf_template::MARSHAL_METHOD.into(), marshal)]),
        }
    }

    /// Adds a field.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.fields
            .insert(name.into(), Value::String(value.into().into()));
        self
    }

    /// Adds the field `ID`, cut to twelve digits unless `no_trunc`.
    #[must_use]
    pub fn with_id(self, id: &str, no_trunc: bool) -> Self {
        self.with("ID", if no_trunc { id } else { short_id(id) })
    }

    /// Adds a field without a value.
    #[must_use]
    pub fn with_nothing(mut self, name: &str) -> Self {
        self.fields.insert(name.into(), Value::Nil);
        self
    }

    /// Adds a field that is true or false.
    #[must_use]
    pub fn with_flag(mut self, name: &str, value: bool) -> Self {
        self.fields.insert(name.into(), Value::Bool(value));
        self
    }

    /// Adds the method `Label`, which looks a label up by its key.
    #[must_use]
    pub fn with_labels(mut self, labels: BTreeMap<String, String>) -> Self {
        let lookup = move |args: &[Value]| {
            let key = args
                .first()
                .and_then(|key| key.as_str())
                .unwrap_or_default();
            Ok(Value::String(
                labels
                    .get(key)
                    .map(String::as_str)
                    .unwrap_or_default()
                    .into(),
            ))
        };
        self.fields
            .insert("Label".into(), Value::Function(Arc::new(lookup)));
        self
    }
}

impl From<Row> for Value {
    fn from(row: Row) -> Self {
        Self::Map(Arc::new(row.fields))
    }
}

impl Default for Row {
    fn default() -> Self {
        Self::new()
    }
}

/// What a kind of list looks like.
pub struct Layout {
    /// Go type named in the error about an unknown field.
    pub type_name: &'static str,
    /// Template of the default table, without the word `table`.
    pub table: String,
    /// Template of `--quiet`.
    pub quiet: &'static str,
    /// Whether `--quiet` counts before a template of one's own; else it is about the tables and `raw` only.
    pub quiet_wins: bool,
    /// Template of the format `raw`, empty where docker has none.
    pub raw: &'static str,
    /// Column headings by field name.
    pub headings: &'static [(&'static str, &'static str)],
}

impl Layout {
    /// Returns the rows in the wanted format.
    ///
    /// `format` is what `--format` said (empty: the default table).
    pub fn render(&self, format: &str, quiet: bool, rows: &[Row]) -> Result<String> {
        let quiet = quiet && (self.quiet_wins || matches!(format, "" | "table" | "raw"));
        let (is_table, source) = self.source(format, quiet);
        let template = Template::parse(&source)?;
        let mut text = String::new();
        if is_table {
            text.push_str(&self.header(&source)?);
            text.push('\n');
        }
        for row in rows {
            let data = Value::Map(Arc::new(row.fields.clone()));
            text.push_str(&template.execute(&data, self.type_name, Missing::IsAnError)?);
            text.push('\n');
        }
        Ok(if is_table { table::align(&text) } else { text })
    }

    /// Fails where a template of one's own makes no sense for a row, as docker looks at it before it asks for the list.
    pub fn check(&self, format: &str, row: Row) -> Result<()> {
        let failed = |what: &str, error: FormatError| {
            CliError::usage(format!("failed to {what} template: {error}"))
        };
        let template = Template::parse(format).map_err(|error| failed("parse", error))?;
        template
            .execute(&row.into(), self.type_name, Missing::IsAnError)
            .map_err(|error| failed("execute", error))?;
        Ok(())
    }

    /// Returns whether the format is a table, and the template of one row.
    fn source(&self, format: &str, quiet: bool) -> (bool, String) {
        if quiet {
            // Of the raw format the line stays that holds the name or the id.
            let mut lines = self.raw.lines().filter(|_| format == "raw");
            let line = lines.find(|line| line.ends_with(self.quiet));
            return (false, line.unwrap_or(self.quiet).to_owned());
        }
        match format {
            "" | "table" => (true, self.table.clone()),
            "raw" if !self.raw.is_empty() => (false, self.raw.to_owned()),
            "json" => (false, "{{json .}}".to_owned()),
            other => match other.strip_prefix("table") {
                Some(template) => (true, unescape(template.trim_matches(' '))),
                None => (false, unescape(other.trim_matches(' '))),
            },
        }
    }

    fn header(&self, source: &str) -> Result<String> {
        let mut names: BTreeMap<Arc<str>, Value> = self
            .headings
            .iter()
            .map(|(field, heading)| ((*field).into(), Value::String((*heading).into())))
            .collect();
        names.insert(
            "Label".into(),
            Value::Function(Arc::new(|args| Ok(label_heading(args)))),
        );
        Template::parse_with(
            source,
            &[
                "json", "title", "lower", "upper", "truncate", "pad", "split", "join",
            ],
        )?
        .execute(
            &Value::Map(Arc::new(names)),
            self.type_name,
            Missing::HasNoValue,
        )
        .map_err(|error| CliError::Template(error.to_string()))
    }
}

/// A label's heading is the last part of its key, with blanks for dashes and underscores.
fn label_heading(args: &[Value]) -> Value {
    let key = args
        .first()
        .and_then(|key| key.as_str())
        .unwrap_or_default();
    let last = key.rsplit('.').next().unwrap_or(key);
    Value::String(last.replace(['-', '_'], " ").into())
}

/// In a list's template a backslash followed by `t` or `n` is a tab or a newline.
fn unescape(template: &str) -> String {
    template.replace("\\t", "\t").replace("\\n", "\n")
}
