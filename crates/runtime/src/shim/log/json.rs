//! Entries of docker's json-file format (spec runtime §7).

use super::Line;
use super::time::format_time;

/// Appends one entry: `{"log":…,"stream":…,"attrs":…,"time":…}` and a line feed.
pub(super) fn encode(entry: &mut Vec<u8>, line: &Line<'_>, attributes: &str) {
    entry.extend_from_slice(b"{\"log\":\"");
    escape(entry, line.bytes);
    entry.extend_from_slice(b"\",\"stream\":\"");
    entry.extend_from_slice(line.stream.name().as_bytes());
    entry.push(b'"');
    entry.extend_from_slice(attributes.as_bytes());
    entry.extend_from_slice(b",\"time\":\"");
    entry.extend_from_slice(format_time(line.time_ns).as_bytes());
    entry.extend_from_slice(b"\"}\n");
}

/// Returns the bytes of the fewest entries that take at least `least_bytes`; all if they are shorter. An entry
/// ends with the only line feed in it.
pub(super) fn whole_entries(entries: &[u8], least_bytes: usize) -> usize {
    let before = least_bytes.saturating_sub(1);
    let rest = entries.get(before..).unwrap_or_default();
    let end = rest.iter().position(|byte| *byte == b'\n');
    end.map_or(entries.len(), |end| before + end + 1)
}

/// Appends text as the inside of a JSON string, the way docker writes it: HTML characters and
/// controls as `\u00xx`, invalid UTF-8 and U+2028/9 as escapes.
fn escape(entry: &mut Vec<u8>, bytes: &[u8]) {
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '"' | '\\' => entry.extend_from_slice(&[b'\\', character as u8]),
                '\n' => entry.extend_from_slice(b"\\n"),
                '\r' => entry.extend_from_slice(b"\\r"),
                '<' | '>' | '&' | '\0'..' ' => {
                    entry.extend_from_slice(format!("\\u{:04x}", character as u32).as_bytes());
                }
                '\u{2028}' => entry.extend_from_slice(b"\\u2028"),
                '\u{2029}' => entry.extend_from_slice(b"\\u2029"),
                _ => {
                    let mut buffer = [0; 4];
                    entry.extend_from_slice(character.encode_utf8(&mut buffer).as_bytes());
                }
            }
        }
        for _ in chunk.invalid() {
            entry.extend_from_slice(b"\\ufffd");
        }
    }
}
