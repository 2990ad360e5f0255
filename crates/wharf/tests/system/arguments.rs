//! What a client is called with: a line as one types it, or the words one by one.

use std::ffi::{OsStr, OsString};

/// Arguments of a client's call.
pub trait Arguments: std::fmt::Debug {
    /// Returns the words.
    fn words(&self) -> Vec<OsString>;
}

/// A line: blanks separate, single quotes keep them.
impl Arguments for &str {
    fn words(&self) -> Vec<OsString> {
        split(self).into_iter().map(OsString::from).collect()
    }
}

impl<S: AsRef<OsStr> + std::fmt::Debug> Arguments for &[S] {
    fn words(&self) -> Vec<OsString> {
        let words = self.iter().map(|word| word.as_ref().to_owned());
        words.collect()
    }
}

impl<S: AsRef<OsStr> + std::fmt::Debug, const N: usize> Arguments for &[S; N] {
    fn words(&self) -> Vec<OsString> {
        self.as_slice().words()
    }
}

impl<S: AsRef<OsStr> + std::fmt::Debug> Arguments for &Vec<S> {
    fn words(&self) -> Vec<OsString> {
        self.as_slice().words()
    }
}

/// Splits a line into words; single quotes keep blanks.
pub fn split(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quoted, mut any) = (Vec::new(), String::new(), false, false);
    for letter in line.chars() {
        match letter {
            '\'' => {
                quoted = !quoted;
                any = true;
            }
            ' ' if !quoted => {
                if any || !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
                any = false;
            }
            other => word.push(other),
        }
    }
    assert!(!quoted, "a quote is not closed in {line:?}");
    if any || !word.is_empty() {
        words.push(word);
    }
    words
}
