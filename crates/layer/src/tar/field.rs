//! Numbers and strings in a header block.

/// Returns the bytes of a string field up to its NUL.
pub(crate) fn string(field: &[u8]) -> &[u8] {
    let end = field
        .iter()
        .position(|&byte| byte == 0)
        .unwrap_or(field.len());
    field.get(..end).unwrap_or_default()
}

/// Returns a number field: octal digits, or base-256 where the first bit is set (GNU).
/// `None` for anything else, and for numbers that do not fit.
pub(crate) fn number(field: &[u8]) -> Option<i64> {
    match field.first() {
        Some(first) if first & 0x80 != 0 => base_256(field),
        _ => octal(field).and_then(|value| i64::try_from(value).ok()),
    }
}

/// Parses octal digits between blanks and NULs; empty means 0.
pub(crate) fn octal(field: &[u8]) -> Option<u64> {
    let is_blank = |byte: &u8| *byte == b' ' || *byte == 0;
    let start = field
        .iter()
        .position(|byte| !is_blank(byte))
        .unwrap_or(field.len());
    let digits = field.get(start..).unwrap_or_default();
    let end = digits.iter().position(is_blank).unwrap_or(digits.len());
    let (digits, rest) = digits.split_at(end);
    if !rest.iter().all(is_blank) {
        return None;
    }
    digits.iter().try_fold(0_u64, |value, &digit| {
        if !(b'0'..=b'7').contains(&digit) || value >> 61 != 0 {
            return None;
        }
        Some(value << 3 | u64::from(digit - b'0'))
    })
}

/// Two's complement, big-endian; the first bit only marks the form, the second is the sign.
fn base_256(field: &[u8]) -> Option<i64> {
    let first = *field.first()?;
    let negative = first & 0x40 != 0;
    let mut value: i128 = if negative { -1 } else { 0 };
    for (index, &byte) in field.iter().enumerate() {
        let byte = if index == 0 {
            if negative { byte | 0x80 } else { byte & 0x7f }
        } else {
            byte
        };
        value = value.checked_mul(256)? | i128::from(byte);
        if i64::try_from(value).is_err() {
            return None;
        }
    }
    i64::try_from(value).ok()
}

/// Says whether a number fits a field of `width` bytes as octal digits with a NUL after them.
pub(crate) fn fits_octal(width: usize, value: u64) -> bool {
    let bits = (width - 1) * 3;
    bits >= 64 || value < 1 << bits
}

/// Writes octal digits with leading zeros and a NUL after them; 0 where the number does not fit.
pub(crate) fn put_octal(field: &mut [u8], value: u64) {
    let mut value = if fits_octal(field.len(), value) {
        value
    } else {
        0
    };
    if let Some((nul, digits)) = field.split_last_mut() {
        *nul = 0;
        for digit in digits.iter_mut().rev() {
            *digit = b'0' + (value & 7) as u8;
            value >>= 3;
        }
    }
}

/// Writes a string as Go's archive/tar does: cut at the field's end, and never so that a cut name
/// ends in `/`, which old readers take for a directory.
pub(crate) fn put_string(field: &mut [u8], text: &[u8]) {
    let length = text.len().min(field.len());
    field[..length].copy_from_slice(&text[..length]);
    if text.len() > field.len() && field.last() == Some(&b'/') {
        let kept = &text[..field.len() - 1];
        let end = kept
            .iter()
            .rposition(|&byte| byte != b'/')
            .map_or(0, |last| last + 1);
        field[end] = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_numbers() {
        for (field, expected) in [
            (&b"0000644\0"[..], Some(0o644)),
            (b"   644 \0", Some(0o644)),
            (b"\0\0\0\0", Some(0)),
            (b"", Some(0)),
            (b"8", None),
            (b"1 2", None),
            (b"-1", None),
            (b"777777777777777777777777", None),
            (b"\x80\0\0\x01\0", Some(256)),
            (b"\xff\xff\xff\xff", Some(-1)),
            (b"\xff\xff\xff\xfe", Some(-2)),
            (b"\x80\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", None),
        ] {
            assert_eq!(number(field), expected, "{field:?}");
        }
    }

    #[test]
    fn writes_numbers() {
        let mut field = [b'x'; 8];
        put_octal(&mut field, 0o644);
        assert_eq!(&field, b"0000644\0");
        assert!(fits_octal(8, 0o7_777_777));
        assert!(!fits_octal(8, 0o10_000_000));
        put_octal(&mut field, 0o10_000_000);
        assert_eq!(&field, b"0000000\0");
    }

    #[test]
    fn a_cut_name_never_ends_in_a_slash() {
        let mut field = [0; 4];
        put_string(&mut field, b"abc/def");
        assert_eq!(&field, b"abc\0");
        let mut field = [0; 4];
        put_string(&mut field, b"ab//def");
        assert_eq!(&field, b"ab\0/");
    }
}
