//! Values of columns.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use std::str::FromStr;

use rusqlite::Row;
use rusqlite::types::Type;
use wharf_image::{Digest, LayerCompression, Reference};

/// Reads a digest stored as text.
pub(crate) fn digest_column(row: &Row<'_>, index: usize) -> rusqlite::Result<Digest> {
    parsed_column(row, index)
}

/// Reads a digest stored as text, or nothing.
pub(crate) fn digest_option_column(
    row: &Row<'_>,
    index: usize,
) -> rusqlite::Result<Option<Digest>> {
    match row.get_ref(index)?.data_type() {
        Type::Null => Ok(None),
        _ => digest_column(row, index).map(Some),
    }
}

/// Reads a canonical reference.
pub(crate) fn reference_column(row: &Row<'_>, index: usize) -> rusqlite::Result<Reference> {
    parsed_column(row, index)
}

fn parsed_column<T>(row: &Row<'_>, index: usize) -> rusqlite::Result<T>
where
    T: FromStr<Err: std::error::Error + Send + Sync + 'static>,
{
    let text = row.get_ref(index)?.as_str()?;
    text.parse().map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(index, Type::Text, Box::new(error))
    })
}

/// Reads a JSON document.
pub(crate) fn json_column<T: serde::de::DeserializeOwned>(
    row: &Row<'_>,
    index: usize,
) -> rusqlite::Result<T> {
    let text = row.get_ref(index)?.as_str()?;
    serde_json::from_str(text).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(index, Type::Text, Box::new(error))
    })
}

/// Reads a size or count.
pub(crate) fn size_column(row: &Row<'_>, index: usize) -> rusqlite::Result<u64> {
    let value: i64 = row.get(index)?;
    u64::try_from(value).map_err(|_| rusqlite::Error::IntegralValueOutOfRange(index, value))
}

/// Turns a size or count into a column's value; sizes on disk never reach 2^63.
pub(crate) fn sql_size(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// Joins paths with NUL, the one byte no path has.
pub(crate) fn paths_to_bytes<'a>(paths: impl IntoIterator<Item = &'a PathBuf>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for path in paths {
        bytes.extend_from_slice(path.as_os_str().as_bytes());
        bytes.push(0);
    }
    bytes
}

/// Splits what [`paths_to_bytes`] joined.
pub(crate) fn paths_from_bytes(bytes: &[u8]) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = bytes
        .split(|byte| *byte == 0)
        .map(|part| PathBuf::from(OsString::from_vec(part.to_vec())))
        .collect();
    // What follows the last separator is not a path.
    paths.pop();
    paths
}

/// Returns the stored name of a compression.
pub(crate) fn compression_name(compression: LayerCompression) -> &'static str {
    match compression {
        LayerCompression::None => "none",
        LayerCompression::Gzip => "gzip",
        LayerCompression::Zstd => "zstd",
    }
}

/// Returns the compression of a stored name.
pub(crate) fn parse_compression(name: &str) -> Option<LayerCompression> {
    [
        LayerCompression::None,
        LayerCompression::Gzip,
        LayerCompression::Zstd,
    ]
    .into_iter()
    .find(|compression| compression_name(*compression) == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_survive_the_way_through_a_column() {
        let cases: [&[&[u8]]; 4] = [
            &[],
            &[b"a"],
            &[b"a/b", b"c \n"],
            &[b"\xff\xfe", b"\xc3\xa4"],
        ];
        for case in cases {
            let paths: Vec<PathBuf> = case
                .iter()
                .map(|bytes| PathBuf::from(OsString::from_vec(bytes.to_vec())))
                .collect();
            assert_eq!(paths_from_bytes(&paths_to_bytes(&paths)), paths);
        }
    }
}
