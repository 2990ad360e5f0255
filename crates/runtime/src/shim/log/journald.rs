//! Entries for systemd's journal in its native protocol (systemd, JOURNAL_NATIVE_PROTOCOL).

use std::collections::BTreeMap;

use super::time::format_time;
use super::{Line, LogStream};

/// Priorities of the two streams (syslog(3)).
const INFORMATION: &str = "6";
const ERROR: &str = "3";

/// Turns lines into datagrams.
pub(super) struct JournalEntries {
    /// The fields that all entries share, written out.
    shared: Vec<u8>,
    ordinal: u64,
}

impl JournalEntries {
    /// Prepares the fields of a container; names are the journal's, in capitals.
    pub(super) fn new(fields: &BTreeMap<String, String>) -> Self {
        let mut shared = Vec::new();
        for (name, value) in fields {
            put(&mut shared, name, value.as_bytes());
        }
        let epoch = format!("{:032x}", crate::state::now_ns());
        put(&mut shared, "CONTAINER_LOG_EPOCH", epoch.as_bytes());
        Self { shared, ordinal: 0 }
    }

    /// Returns one entry.
    pub(super) fn encode(&mut self, line: &Line<'_>) -> Vec<u8> {
        self.ordinal += 1;
        let mut entry = Vec::with_capacity(self.shared.len() + line.bytes.len() + 128);
        put(&mut entry, "MESSAGE", line.text());
        let priority = match line.stream {
            LogStream::Stdout => INFORMATION,
            LogStream::Stderr => ERROR,
        };
        put(&mut entry, "PRIORITY", priority.as_bytes());
        let ordinal = self.ordinal.to_string();
        put(&mut entry, "CONTAINER_LOG_ORDINAL", ordinal.as_bytes());
        let time = format_time(line.time_ns);
        put(&mut entry, "SYSLOG_TIMESTAMP", time.as_bytes());
        if !line.is_last() {
            put(&mut entry, "CONTAINER_PARTIAL_MESSAGE", b"true");
        }
        entry.extend_from_slice(&self.shared);
        entry
    }
}

/// Writes one field; a value with a line feed goes with its length.
fn put(entry: &mut Vec<u8>, name: &str, value: &[u8]) {
    entry.extend_from_slice(name.as_bytes());
    if value.contains(&b'\n') {
        entry.push(b'\n');
        entry.extend_from_slice(&(value.len() as u64).to_le_bytes());
    } else {
        entry.push(b'=');
    }
    entry.extend_from_slice(value);
    entry.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_lines_and_odd_values_have_a_length() {
        let fields = [("CONTAINER_NAME", "web"), ("LABEL", "a\nb")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()));
        let mut entries = JournalEntries::new(&fields.into());
        let line = Line {
            stream: LogStream::Stderr,
            bytes: b"hi\n",
            time_ns: 0,
            part: None,
        };
        let entry = String::from_utf8(entries.encode(&line)).unwrap();
        assert!(entry.starts_with(
            "MESSAGE=hi\nPRIORITY=3\nCONTAINER_LOG_ORDINAL=1\nSYSLOG_TIMESTAMP=1970-01-01T00:00:00Z\nCONTAINER_NAME=web\n"
        ), "{entry}");
        assert!(entry.contains("LABEL\n\x03\0\0\0\0\0\0\0a\nb\n"));
    }
}
