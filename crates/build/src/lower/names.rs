//! How vertices are called where a build is shown (spec llb §7.5): `[stage i/N] RUN …`.

use std::collections::BTreeMap;

use wharf_dockerfile::expand::Expander;
use wharf_dockerfile::{Instruction, InstructionKind};
use wharf_llb::Metadata;

use super::{Lowering, StageState};

/// What the value of a secret is shown as.
const MASK: &str = "****";
/// Prefix of triggers.
const TRIGGER_PREFIX: &str = "ONBUILD ";

/// How the steps of a stage are numbered.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Numbering {
    /// The stage's name; empty where there is only one.
    pub stage: String,
    /// The number of the last step that was named.
    pub last: usize,
    /// How many there are; 0 for stages that the file does not have.
    pub total: usize,
}

impl Numbering {
    /// Returns the next step's name.
    pub fn next(&mut self, text: &str) -> String {
        if self.total == 0 {
            return text.to_owned();
        }
        self.last += 1;
        self.current(text)
    }

    /// Returns the name of something that belongs to the last step.
    pub fn current(&self, text: &str) -> String {
        if self.total == 0 {
            return text.to_owned();
        }
        let stage = if self.stage.is_empty() {
            String::new()
        } else {
            format!("{} ", self.stage)
        };
        let width = self.total.to_string().len();
        format!("[{stage}{:>width$}/{}] {text}", self.last, self.total)
    }
}

/// Says whether an instruction is counted.
pub(super) fn is_counted(instruction: &Instruction) -> bool {
    matches!(
        instruction.kind,
        InstructionKind::Add(_)
            | InstructionKind::Copy(_)
            | InstructionKind::Run(_)
            | InstructionKind::Workdir(_)
    )
}

/// Returns metadata with a name.
pub(super) fn named(name: impl Into<String>) -> Metadata {
    Metadata {
        custom_name: name.into(),
        ..Metadata::default()
    }
}

/// Returns metadata of something that is no step.
pub(super) fn internal(name: &str) -> Metadata {
    named(format!("[internal] {name}"))
}

/// Writes the first word in capitals.
fn with_keyword(text: &str) -> String {
    match text.split_once(' ') {
        Some((keyword, rest)) => format!("{} {rest}", keyword.to_uppercase()),
        None => text.to_uppercase(),
    }
}

/// Returns how a here-document is summed up.
pub(super) fn summary(content: &str) -> String {
    let mut lines = content.trim().split('\n');
    let first = lines.next().unwrap_or_default().trim_end_matches('\r');
    if lines.next().is_some() {
        format!("{first}...")
    } else {
        first.to_owned()
    }
}

impl Lowering<'_, '_> {
    /// Returns the text of a step as it is shown: variables replaced, the keyword in capitals.
    pub(super) fn shown(&self, text: &str, state: &StageState) -> String {
        let expanded = self.expander.expand_word(text, &state.env);
        with_keyword(&expanded.unwrap_or_else(|_| text.to_owned()))
    }

    /// Returns the text of RUN: the shell's words stay as they are, secret variables are hidden.
    pub(super) fn shown_run(&self, text: &str, state: &StageState, secrets: &[String]) -> String {
        let expander = Expander {
            raw_quotes: true,
            skip_unset_env: true,
            ..self.expander.clone()
        };
        let mut env: BTreeMap<String, String> = state.env.iter().cloned().collect();
        for name in secrets {
            env.insert(name.clone(), MASK.to_owned());
        }
        let expanded = expander.expand_word(text, &env);
        with_keyword(&expanded.unwrap_or_else(|_| text.to_owned()))
    }
}

/// Returns how an instruction of a base image's trigger is written.
pub(super) fn trigger_text(text: &str) -> String {
    format!("{TRIGGER_PREFIX}{text}")
}

#[cfg(test)]
mod tests {
    use super::{Numbering, summary, with_keyword};

    #[test]
    fn numbers_have_one_width() {
        let mut names = Numbering {
            stage: "st".to_owned(),
            last: 0,
            total: 12,
        };
        assert_eq!(names.next("RUN x"), "[st  1/12] RUN x");
        assert_eq!(names.current("LINK x"), "[st  1/12] LINK x");
        assert_eq!(Numbering::default().next("FROM a"), "FROM a");
    }

    #[test]
    fn texts() {
        assert_eq!(with_keyword("run  a b"), "RUN  a b");
        assert_eq!(summary("\na\r\nb\n"), "a...");
        assert_eq!(summary("a\n"), "a");
    }
}
