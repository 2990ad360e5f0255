//! Runs a file and says how it went.

use std::fmt::{Display, Formatter, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};

use serde_json::Value;

use crate::areas::{self, Runner};
use crate::{Document, Vector, differences};

/// Longest text of an input, expected or found value in a report.
const MAX_SHOWN_BYTES: usize = 2000;
/// Failures shown in full.
const MAX_LISTED: usize = 25;

/// How one vector went: `Err` holds what was found instead.
pub type Verdict = Result<(), String>;

/// How an area went.
#[derive(Debug, Default)]
pub struct AreaReport {
    /// The area's name.
    pub area: String,
    /// Vectors that are answered as recorded.
    pub passed: usize,
    /// Vectors that are answered otherwise on purpose.
    pub differing: usize,
    /// What failed, a text each.
    pub failures: Vec<String>,
    /// Number of vectors that failed.
    pub failed: usize,
    /// Why nothing was run.
    pub skipped: Option<String>,
}

impl AreaReport {
    /// Adds the counts of another file.
    pub fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.differing += other.differing;
        self.failed += other.failed;
        self.failures.extend(other.failures);
        self.skipped = self.skipped.take().or(other.skipped);
    }

    /// Returns the failures in full, as many as fit a terminal.
    #[must_use]
    pub fn details(&self) -> String {
        let shown: Vec<&str> = self
            .failures
            .iter()
            .take(MAX_LISTED)
            .map(String::as_str)
            .collect();
        let more = self.failures.len().saturating_sub(MAX_LISTED);
        let rest = if more > 0 {
            format!("\n… and {more} more")
        } else {
            String::new()
        };
        format!("{}{rest}", shown.join("\n"))
    }
}

impl Display for AreaReport {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> std::fmt::Result {
        if let Some(reason) = &self.skipped {
            return write!(formatter, "SKIP: {}: {reason}", self.area);
        }
        write!(
            formatter,
            "{}: {} passed, {} failed",
            self.area, self.passed, self.failed
        )?;
        if self.differing > 0 {
            write!(formatter, ", {} differ on purpose", self.differing)?;
        }
        Ok(())
    }
}

/// Runs all vectors of a file.
#[must_use]
pub fn judge(document: &Document) -> AreaReport {
    let mut report = AreaReport {
        area: document.area.clone(),
        ..AreaReport::default()
    };
    let verdicts = match areas::runner(&document.area) {
        Some(Runner::Each(check)) => document
            .vectors
            .iter()
            .map(|vector| guarded(|| check(vector, document)))
            .collect(),
        Some(Runner::Whole(check)) => match check(document) {
            Ok(verdicts) => verdicts,
            Err(reason) => {
                report.skipped = Some(reason);
                return report;
            }
        },
        None => {
            report.failed = document.vectors.len();
            report
                .failures
                .push(format!("{}: no runner answers this area", document.area));
            return report;
        }
    };
    let answered = verdicts.len();
    for (vector, verdict) in document.vectors.iter().zip(verdicts) {
        let listed = differences::reason(&document.area, &vector.id);
        match (verdict, listed) {
            (Ok(()), None) => report.passed += 1,
            (Err(_), Some(_)) => report.differing += 1,
            (Err(found), None) => report.fail(vector, &found),
            (Ok(()), Some(reason)) => {
                report.fail(
                    vector,
                    &format!("as recorded, but listed as different: {reason}"),
                );
            }
        }
    }
    for vector in document.vectors.iter().skip(answered) {
        report.fail(vector, "no answer");
    }
    report
}

impl AreaReport {
    fn fail(&mut self, vector: &Vector, found: &str) {
        self.failed += 1;
        let mut text = String::new();
        // A string takes everything.
        let _ = write!(
            text,
            "{}: {}\n  input    {}\n  expected {}",
            vector.id,
            cut(found),
            cut(&shown(&vector.input)),
            cut(&shown(&vector.expected))
        );
        self.failures.push(text);
    }
}

/// Turns a panic into a failure: input from outside must never end the program.
fn guarded(check: impl FnOnce() -> Verdict) -> Verdict {
    catch_unwind(AssertUnwindSafe(check)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Err(format!("panicked: {}", text.unwrap_or_default()))
    })
}

fn shown(value: &Value) -> String {
    value.to_string()
}

fn cut(text: &str) -> &str {
    let end = (0..=MAX_SHOWN_BYTES)
        .rev()
        .find(|end| text.is_char_boundary(*end));
    text.get(..end.unwrap_or(0)).unwrap_or(text)
}
