//! The key sequence that detaches a client from a terminal (spec engine-api §2.2).

use crate::error::{EngineError, Result};

/// `ctrl-p,ctrl-q`
const DEFAULT: [u8; 2] = [0x10, 0x11];

/// Parses a comma list of single characters and `ctrl-x`; None is the default.
///
/// # Errors
/// Docker's text for a word that is neither.
pub(crate) fn parse(text: Option<&str>) -> Result<Vec<u8>> {
    let Some(text) = text.filter(|text| !text.is_empty()) else {
        return Ok(DEFAULT.to_vec());
    };
    text.split(',')
        .map(|word| {
            key(word).ok_or_else(|| EngineError::invalid(format!("Unknown character: '{word}'")))
        })
        .collect()
}

fn key(word: &str) -> Option<u8> {
    match (
        word.as_bytes(),
        word.strip_prefix("ctrl-").map(str::as_bytes),
    ) {
        ([byte], _) => Some(*byte),
        (_, Some([letter @ b'a'..=b'z'])) => Some(letter - b'a' + 1),
        (_, Some(b"@")) => Some(0),
        (_, Some([sign @ (b'[' | b'\\' | b']' | b'^' | b'_')])) => Some(sign - b'[' + 27),
        _ => None,
    }
}

/// Finds the sequence in a stream of input; bytes of a partial match are held back.
pub(crate) struct Scanner {
    keys: Vec<u8>,
    matched: usize,
}

impl Scanner {
    pub(crate) fn new(keys: Vec<u8>) -> Self {
        Self { keys, matched: 0 }
    }

    /// Returns the bytes to forward and whether the sequence is complete.
    pub(crate) fn feed(&mut self, bytes: &[u8]) -> (Vec<u8>, bool) {
        let mut forward = Vec::with_capacity(bytes.len());
        for byte in bytes {
            if self.keys.get(self.matched) == Some(byte) {
                self.matched += 1;
                if self.matched == self.keys.len() {
                    self.matched = 0;
                    return (forward, true);
                }
                continue;
            }
            forward.extend_from_slice(self.keys.get(..self.matched).unwrap_or_default());
            self.matched = 0;
            if self.keys.first() == Some(byte) && self.keys.len() > 1 {
                self.matched = 1;
            } else {
                forward.push(*byte);
            }
        }
        (forward, false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words() {
        assert_eq!(parse(None).unwrap(), [0x10, 0x11]);
        assert_eq!(
            parse(Some("ctrl-@,a,ctrl-_,ctrl-[")).unwrap(),
            [0, b'a', 31, 27]
        );
        assert!(parse(Some("ctrl-!")).is_err());
    }

    #[test]
    fn partial_matches_are_held_back_and_released() {
        let mut scanner = Scanner::new(vec![0x10, 0x11]);
        assert_eq!(scanner.feed(b"a\x10"), (b"a".to_vec(), false));
        assert_eq!(scanner.feed(b"b"), (b"\x10b".to_vec(), false));
        assert_eq!(scanner.feed(b"\x10\x10\x11rest"), (b"\x10".to_vec(), true));
    }
}
