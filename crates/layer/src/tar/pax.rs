//! PAX records: `<length> <key>=<value>\n`, the length counting itself (POSIX pax, "pax Extended Header").

use wharf_safefs::Timestamp;

/// Splits the first record off; `None` where the bytes are no record.
pub(crate) fn next_record(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = bytes.iter().position(|&byte| byte == b' ')?;
    let length = decimal(bytes.get(..space)?)?;
    let length = usize::try_from(length).ok()?;
    let record = bytes.get(space + 1..length)?;
    let rest = bytes.get(length..)?;
    let record = record.strip_suffix(b"\n")?;
    let equals = record.iter().position(|&byte| byte == b'=')?;
    let (key, value) = (record.get(..equals)?, record.get(equals + 1..)?);
    if key.is_empty() {
        return None;
    }
    Some((key, value, rest))
}

/// Appends a record.
pub(crate) fn put_record(out: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let body = key.len() + value.len() + 3;
    let mut length = body + digits(body);
    length = body + digits(length);
    out.extend_from_slice(length.to_string().as_bytes());
    out.push(b' ');
    out.extend_from_slice(key);
    out.push(b'=');
    out.extend_from_slice(value);
    out.push(b'\n');
}

/// Parses a number without sign.
pub(crate) fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// Parses seconds with a fraction of any length, digits past nanoseconds cut off.
pub(crate) fn time(text: &[u8]) -> Option<Timestamp> {
    let (negative, text) = match text.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let point = text
        .iter()
        .position(|&byte| byte == b'.')
        .unwrap_or(text.len());
    let (whole, fraction) = text.split_at(point);
    let seconds = i64::try_from(decimal(whole)?).ok()?;
    let fraction = fraction.strip_prefix(b".").unwrap_or_default();
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let mut nanoseconds = 0_u32;
    for place in 0..9 {
        let digit = fraction.get(place).map_or(0, |digit| digit - b'0');
        nanoseconds = nanoseconds * 10 + u32::from(digit);
    }
    Some(match (negative, nanoseconds) {
        (false, nanoseconds) => Timestamp {
            seconds,
            nanoseconds,
        },
        (true, 0) => Timestamp {
            seconds: -seconds,
            nanoseconds: 0,
        },
        (true, nanoseconds) => Timestamp {
            seconds: -seconds - 1,
            nanoseconds: 1_000_000_000 - nanoseconds,
        },
    })
}

fn digits(number: usize) -> usize {
    number.checked_ilog10().map_or(1, |log| log as usize + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_round_trip_at_every_length() {
        for length in 0..2000 {
            let value = vec![b'v'; length];
            let mut record = Vec::new();
            put_record(&mut record, b"path", &value);
            record.extend_from_slice(b"rest");
            assert_eq!(
                next_record(&record),
                Some((&b"path"[..], &value[..], &b"rest"[..])),
                "{length}"
            );
        }
    }

    #[test]
    fn refuses_what_is_no_record() {
        for bytes in [
            &b""[..],
            b"6 a=b\n",
            b"9 a=b\n",
            b"x a=b\n",
            b"6 a-b\n",
            b"5 =b\n",
            b"6 a=bc",
            b"-6 a=b\n",
            b"3 a",
        ] {
            let parsed = next_record(bytes);
            assert!(parsed.is_none() || bytes == b"6 a=b\n", "{bytes:?}");
        }
    }

    #[test]
    fn reads_times() {
        for (text, seconds, nanoseconds) in [
            ("0", 0, 0),
            ("12.5", 12, 500_000_000),
            ("12.0000000019", 12, 1),
            ("-1.5", -2, 500_000_000),
            ("-3", -3, 0),
            ("7.", 7, 0),
        ] {
            assert_eq!(
                time(text.as_bytes()),
                Some(Timestamp {
                    seconds,
                    nanoseconds
                }),
                "{text}"
            );
        }
        for text in ["", "x", "1.x", "--1", "99999999999999999999"] {
            assert_eq!(time(text.as_bytes()), None, "{text}");
        }
    }
}
