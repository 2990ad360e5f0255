//! What the checks found in the Dockerfile, shown when the build is over.

use std::fmt::Write as _;

use serde::Deserialize;
use serde_json::Value as Json;

use crate::session::Session;

/// Findings that are shown with their line; of more only the messages.
const MAX_SNIPPETS: usize = 10;

/// A finding.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Finding {
    rule: String,
    message: String,
    line: usize,
    #[serde(default)]
    snippet: String,
}

impl Finding {
    /// Reads a build's event, if it is a finding.
    pub fn read(event: &Json) -> Option<Self> {
        let is_finding = event["event"] == "finding";
        is_finding.then(|| Self::deserialize(event).ok()).flatten()
    }
}

/// Tells the findings on standard error; nothing where there are none.
pub fn show(session: &mut Session, findings: &[Finding]) {
    if !findings.is_empty() {
        session.output.talk(text(findings).trim_end());
    }
}

fn text(findings: &[Finding]) -> String {
    let count = match findings.len() {
        1 => "1 warning found".to_owned(),
        count => format!("{count} warnings found"),
    };
    let mut text = format!("\n {count} (`wharf build --check` shows them without building):\n");
    for (index, finding) in findings.iter().enumerate() {
        // A string takes everything.
        let _ = writeln!(
            text,
            " - {}: {} (line {})",
            finding.rule, finding.message, finding.line
        );
        if index < MAX_SNIPPETS {
            for line in finding.snippet.lines() {
                let _ = writeln!(text, "   {line}");
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{Finding, text};
    use serde_json::json;

    #[test]
    fn findings_are_told_with_their_lines() {
        let event = json!({
            "event": "finding", "rule": "JSONArgsRecommended", "message": "JSON arguments", "line": 3,
            "snippet": " --> Dockerfile:3:1\n  |\n3 | CMD x\n  | ^^^^^\n",
        });
        let finding = Finding::read(&event).unwrap();
        insta::assert_snapshot!(text(&[finding]), @"
         1 warning found (`wharf build --check` shows them without building):
         - JSONArgsRecommended: JSON arguments (line 3)
            --> Dockerfile:3:1
             |
           3 | CMD x
             | ^^^^^
        ");
        assert_eq!(Finding::read(&json!({"event": "started"})), None);
    }
}
