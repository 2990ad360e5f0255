//! What a story showed, made comparable: two clients that drive the same daemon must show the same.

use regex::Regex;
use std::sync::LazyLock;

/// Steps of a story with what was seen after each.
#[derive(Debug, Default)]
pub struct Transcript {
    steps: Vec<(String, String)>,
}

impl Transcript {
    /// Keeps what a step showed, without what differs from run to run (IDs, ages, free ports, column widths).
    pub fn note(&mut self, step: &str, shown: &str) {
        self.steps.push((step.to_owned(), masked(shown)));
    }

    /// Keeps what a step showed, without its sizes too.
    pub fn note_without_sizes(&mut self, step: &str, shown: &str) {
        static SIZE: LazyLock<Regex> =
            LazyLock::new(|| Regex::new(r"\d+(\.\d+)?[kMGT]?B\b").unwrap());
        self.note(step, &SIZE.replace_all(shown, "SIZE"));
    }
}

/// Compares the transcripts of the same story step by step.
pub fn assert_same(transcripts: &[Transcript]) {
    let Some((first, others)) = transcripts.split_first() else {
        return;
    };
    for other in others {
        for (left, right) in first.steps.iter().zip(&other.steps) {
            assert_eq!(left, right, "the clients differ");
        }
        assert_eq!(first.steps.len(), other.steps.len());
    }
}

/// Replaces what differs from run to run by words.
pub fn masked(shown: &str) -> String {
    static MASKS: LazyLock<Vec<(Regex, &str)>> = LazyLock::new(|| {
        let age = r"(Less than a second|About an? \w+|\d+ (seconds?|minutes?|hours?))";
        [
            (r"\b([0-9a-f]{64}|[0-9a-f]{12})\b".to_owned(), "ID"),
            (format!("{age} ago"), "AGO"),
            (format!("Up {age}"), "Up TIME"),
            (r"\b127\.0\.0\.1:\d+".to_owned(), "127.0.0.1:PORT"),
            (r"[ \t]+".to_owned(), " "),
        ]
        .map(|(text, word)| (Regex::new(&text).unwrap(), word))
        .into()
    });
    let lines: Vec<String> = shown
        .lines()
        .map(|line| {
            let line = MASKS.iter().fold(line.to_owned(), |line, (mask, word)| {
                mask.replace_all(&line, *word).into_owned()
            });
            line.trim_end().to_owned()
        })
        .collect();
    lines.join("\n")
}
