//! What Go finds out while a template is filled in and the engine lets pass: fields that the data cannot have, and
//! functions and methods that are given too little or too much.

use gotmpl::Value;
use gotmpl::parse::{CommandNode, Expr, ListNode, Node, PipeNode, Pos};

use crate::{FormatError, MARSHAL_METHOD, Result};

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

/// How many arguments docker's functions take.
const ARITIES: [(&str, usize); 8] = [
    ("join", 2),
    ("json", 1),
    ("lower", 1),
    ("pad", 3),
    ("split", 2),
    ("title", 1),
    ("truncate", 2),
    ("upper", 1),
];
/// Functions whose first argument is a text.
const OF_TEXT: [&str; 6] = ["lower", "pad", "split", "title", "truncate", "upper"];
/// Arguments of a method of the data.
const METHOD_ARITY: usize = 1;

/// The operands of a template that is about to be filled in.
pub(crate) struct Operands<'a> {
    /// The template.
    pub source: &'a str,
    /// What it is filled in with.
    pub data: &'a Value,
    /// The data's type, for messages.
    pub type_name: &'a str,
}

impl Operands<'_> {
    /// Fails on the first mistake at the template's top level: further in, nobody knows what is come to.
    pub(crate) fn check(&self, tree: &ListNode) -> Result<()> {
        for node in &tree.nodes {
            let pipe = match node {
                Node::Action(action) => &action.pipe,
                Node::If(branch) | Node::Range(branch) | Node::With(branch) => &branch.pipe,
                _ => continue,
            };
            self.check_pipe(pipe)?;
        }
        Ok(())
    }

    fn check_pipe(&self, pipe: &PipeNode) -> Result<()> {
        for (number, command) in pipe.commands.iter().enumerate() {
            self.check_command(command, number > 0)?;
        }
        Ok(())
    }

    fn check_command(&self, command: &CommandNode, is_piped: bool) -> Result<()> {
        let words = match command.args.as_slice() {
            // A method that is given something was made a call.
            [Expr::Identifier(_, call), rest @ ..] if call == "call" => rest,
            words => words,
        };
        let given = words.len().saturating_sub(1) + usize::from(is_piped);
        for (index, word) in words.iter().enumerate() {
            match word {
                Expr::Field(at, path) => {
                    let path: Vec<&str> = path.iter().map(|name| name.as_str()).collect();
                    self.check_field(*at, &path, if index == 0 { given } else { 0 })?;
                }
                Expr::Pipe(_, inner) => self.check_pipe(inner)?,
                Expr::Identifier(at, name) if index == 0 => {
                    let arity = ARITIES.iter().find(|(known, _)| name == known);
                    if let Some((_, wanted)) = arity.filter(|(_, wanted)| *wanted != given) {
                        return Err(self.wrong_number(*at, name, name, *wanted, given));
                    }
                }
                _ => {}
            }
        }
        self.check_text(words)
    }

    fn check_field(&self, at: Pos, path: &[&str], given: usize) -> Result<()> {
        let shown = format!(".{}", path.join("."));
        if let Some((unknown, owner)) = unknown_field(self.data, path) {
            let owner = owner.unwrap_or(self.type_name);
            let what = format!("can't evaluate field {unknown} in type {owner}");
            return Err(self.wrong(place(at, path), &shown, &what));
        }
        match (self.value(path), path) {
            (Some(Value::Function(_)), [name])
                if given != METHOD_ARITY && *name != MARSHAL_METHOD =>
            {
                Err(self.wrong_number(at, &shown, name, METHOD_ARITY, given))
            }
            _ => Ok(()),
        }
    }

    fn check_text(&self, words: &[Expr]) -> Result<()> {
        let (Some(Expr::Identifier(_, name)), Some(Expr::Field(at, path))) =
            (words.first(), words.get(1))
        else {
            return Ok(());
        };
        let path: Vec<&str> = path.iter().map(|name| name.as_str()).collect();
        if OF_TEXT.contains(&name.as_str()) && matches!(self.value(&path), Some(Value::Bool(_))) {
            let shown = format!(".{}", path.join("."));
            let what = "wrong type for value; expected string; got bool";
            return Err(self.wrong(place(*at, &path), &shown, what));
        }
        Ok(())
    }

    fn value(&self, path: &[&str]) -> Option<&Value> {
        let mut current = self.data;
        for name in path {
            let Value::Map(map) = current else {
                return None;
            };
            current = map.get(*name)?;
        }
        Some(current)
    }

    fn wrong_number(
        &self,
        at: Pos,
        shown: &str,
        name: &str,
        wanted: usize,
        given: usize,
    ) -> FormatError {
        let what = format!("wrong number of args for {name}: want {wanted} got {given}");
        self.wrong(at, shown, &what)
    }

    fn wrong(&self, at: Pos, shown: &str, what: &str) -> FormatError {
        let before = &self.source[..at.offset.min(self.source.len())];
        let column = before.rsplit('\n').next().unwrap_or(before).len();
        let line = at.line;
        FormatError(format!(
            "template: :{line}:{column}: executing \"\" at <{shown}>: {what}"
        ))
    }
}

/// Returns where Go says that a field stands: behind the first name of a path.
fn place(at: Pos, path: &[&str]) -> Pos {
    match path {
        [first, _, ..] => Pos::new(at.offset + 1 + first.len(), at.line),
        _ => at,
    }
}

/// Returns the first name of a path that the data cannot have, and the type that does not have it; none is the data's own.
fn unknown_field<'a>(data: &Value, path: &[&'a str]) -> Option<(&'a str, Option<&'static str>)> {
    let mut current = data;
    for (index, name) in path.iter().enumerate() {
        let map = match current {
            Value::Map(map) => map,
            Value::String(_) => return Some((name, Some("string"))),
            Value::Bool(_) => return Some((name, Some("bool"))),
            _ => return None,
        };
        match map.get(*name) {
            Some(next) => current = next,
            None if index > 0 && FREE_FORM.contains(&path[index - 1]) => return None,
            // An entry of a free-form map (a network, a runtime) may leave out what is empty.
            None if index > 1 && FREE_FORM.contains(&path[index - 2]) => return None,
            None => return Some((name, None)),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use crate::{Missing, Template, Value};

    fn told(source: &str) -> String {
        let row = BTreeMap::from([
            ("Name".into(), Value::String("x".into())),
            ("Is".into(), Value::Bool(true)),
            (
                "Label".into(),
                Value::Function(Arc::new(|_| Ok(Value::String("l".into())))),
            ),
        ]);
        let row = Value::Map(Arc::new(row));
        let filled = Template::parse(source)
            .and_then(|template| template.execute(&row, "*row", Missing::IsAnError));
        match filled {
            Ok(text) => text,
            Err(error) => error
                .to_string()
                .replace("template: :1:", "")
                .replace("executing \"\" at ", ""),
        }
    }

    /// As recorded from docker's client 28.5.
    #[test]
    fn mistakes_are_told_as_go_does() {
        for (source, expected) in [
            (
                "{{.Nope}}",
                "2: <.Nope>: can't evaluate field Nope in type *row",
            ),
            (
                "é {{.Name.Nope}}",
                "10: <.Name.Nope>: can't evaluate field Nope in type string",
            ),
            (
                "{{.ID.x.y}}",
                "5: <.ID.x.y>: can't evaluate field ID in type *row",
            ),
            (
                "{{.Label}}",
                "2: <.Label>: wrong number of args for Label: want 1 got 0",
            ),
            (
                "{{.Label \"a\" \"b\"}}",
                "2: <.Label>: wrong number of args for Label: want 1 got 2",
            ),
            ("{{.Label \"a\"}}", "l"),
            ("{{\"a\" | .Label}}", "l"),
            (
                "{{json}}",
                "2: <json>: wrong number of args for json: want 1 got 0",
            ),
            ("{{.Name | json}}", "\"x\""),
            (
                "{{upper .Is}}",
                "8: <.Is>: wrong type for value; expected string; got bool",
            ),
            ("{{nope .}}", " function \"nope\" not defined"),
            (
                "{{if .Name}}{{else}}{{print (nope)}}{{end}}",
                " function \"nope\" not defined",
            ),
        ] {
            assert_eq!(told(source), expected, "{source}");
        }
    }
}
