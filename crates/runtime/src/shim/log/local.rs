//! Entries of docker's local format: framed protocol buffers (spec runtime §7).
//!
//! A frame is the message's length in four bytes, most significant first, the message, and the
//! length again, so that a file can be read from its end.

use super::Line;

/// Appends one entry.
pub(super) fn encode(entries: &mut Vec<u8>, line: &Line<'_>) {
    let mut message = Vec::with_capacity(line.bytes.len() + 48);
    put_bytes(&mut message, 1, line.stream.name().as_bytes());
    put_number(&mut message, 2, line.time_ns);
    put_bytes(&mut message, 3, line.text());
    if let Some(part) = line.part {
        put_number(&mut message, 4, 1);
        let mut metadata = Vec::new();
        if part.is_last {
            put_number(&mut metadata, 1, 1);
        }
        // All parts of a line share the time of the first.
        put_bytes(
            &mut metadata,
            2,
            format!("{:064x}", line.time_ns).as_bytes(),
        );
        put_number(&mut metadata, 3, part.ordinal.into());
        put_bytes(&mut message, 5, &metadata);
    }
    let length = u32::try_from(message.len())
        .unwrap_or(u32::MAX)
        .to_be_bytes();
    entries.extend_from_slice(&length);
    entries.extend_from_slice(&message);
    entries.extend_from_slice(&length);
}

/// Returns the bytes of the fewest entries that take at least `least_bytes`; all if they are shorter.
pub(super) fn whole_entries(entries: &[u8], least_bytes: usize) -> usize {
    let mut taken = 0;
    while taken < least_bytes.clamp(1, entries.len().max(1)) {
        let length = entries.get(taken..).and_then(<[u8]>::first_chunk::<4>);
        let Some(length) = length.copied().map(u32::from_be_bytes) else {
            return entries.len();
        };
        taken += 2 * size_of::<u32>() + length as usize;
    }
    taken.min(entries.len())
}

fn put_bytes(message: &mut Vec<u8>, field: u8, bytes: &[u8]) {
    message.push(field << 3 | 2);
    put_varint(message, bytes.len() as u64);
    message.extend_from_slice(bytes);
}

fn put_number(message: &mut Vec<u8>, field: u8, number: u64) {
    message.push(field << 3);
    put_varint(message, number);
}

fn put_varint(message: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        message.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    message.push(number as u8);
}

#[cfg(test)]
mod tests {
    use super::super::{LogStream, Part};
    use super::*;

    #[test]
    fn entries_are_framed_messages() {
        let mut entries = Vec::new();
        let line = Line {
            stream: LogStream::Stdout,
            bytes: b"hi\n",
            time_ns: 300,
            part: None,
        };
        encode(&mut entries, &line);
        assert_eq!(
            entries,
            b"\0\0\0\x0f\x0a\x06stdout\x10\xac\x02\x1a\x02hi\0\0\0\x0f"
        );
        entries.clear();
        let part = Some(Part {
            ordinal: 2,
            is_last: true,
        });
        encode(&mut entries, &Line { part, ..line });
        let text = String::from_utf8_lossy(&entries);
        assert!(
            text.contains("\x1a\x02hi\x20\x01\x2a\x46\x08\x01\x12\x40000"),
            "{text:?}"
        );
        assert!(text.contains("\x18\x02"));
    }
}
