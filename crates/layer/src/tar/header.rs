//! Writing one entry's header blocks, byte for byte as Go's archive/tar does for a header whose
//! format is PAX: plain ustar where every value fits, else a PAX record block before it
//! (spec image-store §5.1).

use super::field::{fits_octal, put_octal, put_string};
use super::{BLOCK_BYTES, Entry, XATTR_RECORD_PREFIX, padding, pax};

const NAME_BYTES: usize = 100;
const PREFIX_BYTES: usize = 155;
const NUMBER_WIDTH: usize = 8;
const LARGE_NUMBER_WIDTH: usize = 12;

/// Appends the header of an entry to `out`. `records` is scratch space.
///
/// Only whole seconds of `mtime` are written and no user names (spec image-store §5.1). The
/// caller has clamped negative times.
pub(crate) fn encode(entry: &Entry, out: &mut Vec<u8>, records: &mut Vec<(Vec<u8>, Vec<u8>)>) {
    records.clear();
    let seconds = u64::try_from(entry.mtime.seconds).unwrap_or(0);
    let mut ustar = true;
    if !is_ascii(&entry.name) || entry.name.len() > NAME_BYTES {
        ustar &= split_name(&entry.name).is_some();
        records.push((b"path".to_vec(), entry.name.clone()));
    }
    if !is_ascii(&entry.link) || entry.link.len() > NAME_BYTES {
        ustar = false;
        records.push((b"linkpath".to_vec(), entry.link.clone()));
    }
    let numbers: [(&[u8], usize, u64); 4] = [
        (b"uid", NUMBER_WIDTH, entry.uid),
        (b"gid", NUMBER_WIDTH, entry.gid),
        (b"size", LARGE_NUMBER_WIDTH, entry.size_bytes),
        (b"mtime", LARGE_NUMBER_WIDTH, seconds),
    ];
    for (key, width, value) in numbers {
        if !fits_octal(width, value) {
            ustar = false;
            records.push((key.to_vec(), value.to_string().into_bytes()));
        }
    }
    for (key, value) in &entry.xattrs {
        ustar = false;
        records.push(([XATTR_RECORD_PREFIX, key].concat(), value.clone()));
    }
    if ustar {
        let split = split_name(&entry.name);
        let (prefix, name) = split.unwrap_or((b"", &entry.name));
        put_block(out, entry, name, prefix, &entry.link, seconds);
        return;
    }
    records.sort();
    put_records(out, &entry.name, records);
    let (name, link) = (ascii_only(&entry.name), ascii_only(&entry.link));
    put_block(out, entry, &name, b"", &link, seconds);
}

fn put_block(
    out: &mut Vec<u8>,
    entry: &Entry,
    name: &[u8],
    prefix: &[u8],
    link: &[u8],
    seconds: u64,
) {
    let mut block = [0_u8; BLOCK_BYTES];
    put_string(&mut block[..100], name);
    put_octal(&mut block[100..108], entry.mode.into());
    put_octal(&mut block[108..116], entry.uid);
    put_octal(&mut block[116..124], entry.gid);
    put_octal(&mut block[124..136], entry.size_bytes);
    put_octal(&mut block[136..148], seconds);
    block[156] = entry.kind.type_flag();
    put_string(&mut block[157..257], link);
    put_octal(&mut block[329..337], entry.major.into());
    put_octal(&mut block[337..345], entry.minor.into());
    put_string(&mut block[345..500], prefix);
    seal(&mut block);
    out.extend_from_slice(&block);
}

/// Appends the block and content of an extended header.
fn put_records(out: &mut Vec<u8>, name: &[u8], records: &[(Vec<u8>, Vec<u8>)]) {
    let mut content = Vec::new();
    for (key, value) in records {
        pax::put_record(&mut content, key, value);
    }
    let mut block = [0_u8; BLOCK_BYTES];
    let record_name = ascii_only(&record_name(name));
    let end = record_name.len().min(NAME_BYTES);
    let mut cut = &record_name[..end];
    while let Some(rest) = cut.strip_suffix(b"/") {
        cut = rest;
    }
    put_string(&mut block[..100], cut);
    put_octal(&mut block[100..108], 0);
    put_octal(&mut block[108..116], 0);
    put_octal(&mut block[116..124], 0);
    put_octal(&mut block[124..136], content.len() as u64);
    put_octal(&mut block[136..148], 0);
    block[156] = b'x';
    seal(&mut block);
    out.extend_from_slice(&block);
    out.extend_from_slice(&content);
    out.resize(out.len() + padding(content.len() as u64), 0);
}

/// Returns `<directory>/PaxHeaders.0/<file>`.
fn record_name(name: &[u8]) -> Vec<u8> {
    let slash = name.iter().rposition(|&byte| byte == b'/');
    let (directory, file) = name.split_at(slash.map_or(0, |slash| slash + 1));
    let mut joined = directory.to_vec();
    joined.extend_from_slice(b"PaxHeaders.0");
    if !file.is_empty() {
        joined.push(b'/');
        joined.extend_from_slice(file);
    }
    joined
}

/// Writes magic, version and checksum.
fn seal(block: &mut [u8; BLOCK_BYTES]) {
    block[257..265].copy_from_slice(b"ustar\x0000");
    let checksum = checksum(block);
    put_octal(&mut block[148..155], checksum);
    block[155] = b' ';
}

/// Returns the sum of all bytes, those of the checksum field taken as blanks.
pub(crate) fn checksum(block: &[u8; BLOCK_BYTES]) -> u64 {
    let all: u64 = block.iter().map(|&byte| u64::from(byte)).sum();
    let field: u64 = block[148..156].iter().map(|&byte| u64::from(byte)).sum();
    all - field + 8 * u64::from(b' ')
}

/// Returns the sum as some old writers made it, bytes taken as signed.
pub(crate) fn signed_checksum(block: &[u8; BLOCK_BYTES]) -> i64 {
    let sum = |bytes: &[u8]| -> i64 { bytes.iter().map(|&byte| i64::from(byte as i8)).sum() };
    sum(block) - sum(&block[148..156]) + 8 * i64::from(b' ')
}

/// Splits a long ASCII name for ustar's prefix and name fields.
fn split_name(name: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut length = name.len();
    if length <= NAME_BYTES || !is_ascii(name) {
        return None;
    }
    if length > PREFIX_BYTES + 1 {
        length = PREFIX_BYTES + 1;
    } else if name.last() == Some(&b'/') {
        length -= 1;
    }
    let slash = name[..length].iter().rposition(|&byte| byte == b'/')?;
    let (prefix, rest) = (&name[..slash], &name[slash + 1..]);
    if slash == 0 || rest.len() > NAME_BYTES || rest.is_empty() || slash > PREFIX_BYTES {
        return None;
    }
    Some((prefix, rest))
}

fn is_ascii(text: &[u8]) -> bool {
    text.iter().all(|&byte| byte < 0x80 && byte != 0)
}

fn ascii_only(text: &[u8]) -> Vec<u8> {
    text.iter()
        .copied()
        .filter(|&byte| byte < 0x80 && byte != 0)
        .collect()
}
