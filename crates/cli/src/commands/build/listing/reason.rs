//! Why a path is in the context or not.

use serde_json::{Value as Json, json};

/// Why a path is in the context or not.
pub(super) struct Reason {
    pub(super) path: String,
    pub(super) is_sent: bool,
    pub(super) exists: bool,
    /// The ignore file, the line's number and its text.
    pub(super) rule: Option<(String, usize, String)>,
    /// Why it is sent whatever the ignore file says.
    pub(super) always: Option<&'static str>,
}

impl Reason {
    /// Says it in a line.
    pub(super) fn text(&self) -> String {
        let outcome = if self.is_sent {
            "in the context"
        } else {
            "left out"
        };
        let rule = match &self.rule {
            Some((name, line, text)) => format!("line {line} of {name}: {text}"),
            None => "no rule names it".to_owned(),
        };
        let always = self.always.map(|why| format!(" ({why})"));
        let absent = if self.exists {
            ""
        } else {
            " (there is no such file)"
        };
        format!(
            "{}: {outcome}: {rule}{}{absent}\n",
            self.path,
            always.unwrap_or_default()
        )
    }

    /// Says it as JSON.
    pub(super) fn json(&self) -> Json {
        let rule = self
            .rule
            .as_ref()
            .map(|(name, line, text)| json!({"file": name, "line": line, "text": text}));
        json!({
            "path": self.path, "sent": self.is_sent, "exists": self.exists, "rule": rule,
            "always": self.always,
        })
    }
}
