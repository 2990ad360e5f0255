//! Noticing the keys that detach. The daemon acts on them; the client only has to know why the stream ended.

/// Watches typed bytes for a key sequence.
#[derive(Debug, Clone)]
pub struct DetachKeys {
    sequence: Vec<u8>,
    matched: usize,
}

/// docker's default: ctrl-p, ctrl-q.
const DEFAULT_SEQUENCE: [u8; 2] = [0x10, 0x11];

impl DetachKeys {
    /// Reads a checked `--detach-keys` value (see [`crate::options::misc::check_detach_keys`]).
    #[must_use]
    pub fn parse(value: Option<&str>) -> Self {
        let sequence: Vec<u8> = match value {
            None | Some("") => DEFAULT_SEQUENCE.to_vec(),
            Some(keys) => keys.split(',').filter_map(key_byte).collect(),
        };
        Self {
            sequence,
            matched: 0,
        }
    }

    /// Takes the next typed bytes; returns whether they complete the sequence.
    pub fn saw(&mut self, bytes: &[u8]) -> bool {
        for byte in bytes {
            if self.sequence.get(self.matched) == Some(byte) {
                self.matched += 1;
            } else {
                self.matched = usize::from(self.sequence.first() == Some(byte));
            }
            if !self.sequence.is_empty() && self.matched == self.sequence.len() {
                return true;
            }
        }
        false
    }
}

/// A control key is its character with the upper three bits off: ctrl-a is 1, ctrl-@ is 0.
fn key_byte(key: &str) -> Option<u8> {
    match key.strip_prefix("ctrl-") {
        Some(control) => control
            .bytes()
            .next()
            .map(|byte| byte.to_ascii_uppercase() & 0x1f),
        None => key.bytes().next(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequences_are_found_across_pieces() {
        let mut keys = DetachKeys::parse(None);
        assert!(!keys.saw(b"ls\x10"));
        assert!(keys.saw(b"\x11"));
        let mut keys = DetachKeys::parse(Some("ctrl-@,x"));
        assert!(!keys.saw(b"\0\0y"));
        assert!(keys.saw(b"\0x"));
    }
}
