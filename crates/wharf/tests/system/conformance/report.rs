//! Comparing outcomes with records, and what is told of it.

use super::{Case, Outcome, corpus};
use crate::harness::Client;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// What came of all cases.
pub struct Report {
    client: Client,
    differences: BTreeMap<String, String>,
    topics: BTreeMap<String, Counts>,
    complaints: BTreeMap<String, String>,
}

#[derive(Default)]
struct Counts {
    same: usize,
    differing: usize,
    failed: usize,
}

impl Report {
    /// Begins a report of one client.
    pub fn new(client: Client) -> Self {
        Self {
            client,
            differences: differences(&table()),
            topics: BTreeMap::new(),
            complaints: BTreeMap::new(),
        }
    }

    /// Takes in a case that nothing is recorded of.
    pub fn unrecorded(&mut self, case: &Case) {
        self.failed(
            case,
            "has no record: run scripts/record-conformance".to_owned(),
        );
    }

    /// Compares an outcome with the record.
    pub fn compare(&mut self, case: &Case, expected: &str, outcome: &Outcome) {
        let (difference, detail) = match (expected.strip_prefix("error\n"), outcome) {
            (Some(_), Outcome::Error(said)) => {
                let missing = missing_words(case, said);
                (missing, said.as_str())
            }
            (Some(error), Outcome::Image(_)) => ("-error\n+image\n".to_owned(), error),
            (None, Outcome::Error(said)) => ("-image\n+error\n".to_owned(), said.as_str()),
            (None, Outcome::Image(text)) => (difference(expected, text), ""),
        };
        if let Some(directory) = std::env::var_os("WHARF_CONFORMANCE_OUTPUT") {
            self.keep(case, outcome, std::path::Path::new(&directory));
        }
        let listed = self
            .differences
            .get(&case.id)
            .map(String::as_str)
            .unwrap_or_default();
        if difference != listed {
            let hint = if difference.is_empty() {
                "is listed in differences.txt and is the same".to_owned()
            } else {
                format!("{difference}{detail}")
            };
            self.failed(case, hint);
            return;
        }
        let counts = self.topics.entry(case.topic().to_owned()).or_default();
        if difference.is_empty() {
            counts.same += 1;
        } else {
            counts.differing += 1;
        }
    }

    fn failed(&mut self, case: &Case, complaint: String) {
        self.topics
            .entry(case.topic().to_owned())
            .or_default()
            .failed += 1;
        self.complaints.insert(case.id.clone(), complaint);
    }

    fn keep(&self, case: &Case, outcome: &Outcome, directory: &std::path::Path) {
        let (Outcome::Image(text) | Outcome::Error(text)) = outcome;
        let path = directory.join(format!("{:?}", self.client)).join(&case.id);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    /// Prints a line of counts for each topic and fails if any case failed.
    pub fn finish(self) {
        for (topic, counts) in &self.topics {
            println!(
                "conformance {topic} ({:?}): {} passed, {} failed, {} differ on purpose",
                self.client, counts.same, counts.failed, counts.differing
            );
        }
        let mut text = String::new();
        for (id, complaint) in &self.complaints {
            let _ = writeln!(text, "{id}\n{complaint}");
        }
        assert!(
            self.complaints.is_empty(),
            "{} cases failed:\n{text}",
            self.complaints.len()
        );
    }
}

/// Returns which of the words that an error must hold it lacks.
fn missing_words(case: &Case, said: &str) -> String {
    let missing: Vec<&str> = case
        .says
        .iter()
        .filter(|word| !said.contains(word.as_str()))
        .map(String::as_str)
        .collect();
    if missing.is_empty() {
        return String::new();
    }
    format!("-error with {missing:?}\n+error without\n")
}

/// Returns the lines that differ, `-` for the record's and `+` for those that were found.
fn difference(expected: &str, found: &str) -> String {
    let (old, new): (Vec<&str>, Vec<&str>) = (expected.lines().collect(), found.lines().collect());
    // The longest common subsequence: images have few lines.
    let mut lengths = vec![vec![0_usize; new.len() + 1]; old.len() + 1];
    for (i, left) in old.iter().enumerate().rev() {
        for (j, right) in new.iter().enumerate().rev() {
            lengths[i][j] = if left == right {
                lengths[i + 1][j + 1] + 1
            } else {
                lengths[i + 1][j].max(lengths[i][j + 1])
            };
        }
    }
    let (mut i, mut j, mut text) = (0, 0, String::new());
    while i < old.len() || j < new.len() {
        if i < old.len() && j < new.len() && old[i] == new[j] {
            (i, j) = (i + 1, j + 1);
        } else if j == new.len() || (i < old.len() && lengths[i + 1][j] >= lengths[i][j + 1]) {
            let _ = writeln!(text, "-{}", old[i]);
            i += 1;
        } else {
            let _ = writeln!(text, "+{}", new[j]);
            j += 1;
        }
    }
    text
}

fn table() -> String {
    std::fs::read_to_string(corpus().join("differences.txt")).unwrap()
}

/// Returns the cases that the table of differences names.
pub fn listed() -> Vec<String> {
    differences(&table()).into_keys().collect()
}

/// Reads the table of differences: a reason, then cases (`$ TOPIC/NAME`), each with the lines that differ.
fn differences(table: &str) -> BTreeMap<String, String> {
    let mut listed: BTreeMap<String, String> = BTreeMap::new();
    let mut case = String::new();
    let mut has_reason = false;
    for line in table.lines() {
        if let Some(id) = line.strip_prefix("$ ") {
            assert!(has_reason, "{id} has no reason");
            id.clone_into(&mut case);
            listed.insert(case.clone(), String::new());
        } else if line.starts_with(['-', '+']) {
            let _ = writeln!(listed.get_mut(&case).unwrap(), "{line}");
        } else {
            has_reason |= !line.is_empty() && !line.starts_with('#');
        }
    }
    listed
}
