//! Archives that ADD unpacks.

use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use wharf_layer::{ExtractOptions, decompress, extract};
use wharf_safefs::{FsError, OpenFlags, Root};

use crate::BuildError;
use crate::content::Reading;
use crate::copy::{Attributes, make_directory};
use crate::select::Selected;

/// Length of a tar header, and where its checksum lies (POSIX ustar).
const TAR_BLOCK_BYTES: usize = 512;
const TAR_CHECKSUM: std::ops::Range<usize> = 148..156;

/// Unpacks an archive below the target; says whether the file was one.
pub(crate) fn unpack(
    source: Reading<'_>,
    one: &Selected,
    tree: &Root,
    target: &Path,
    attributes: &Attributes,
) -> Result<bool, BuildError> {
    let is_file = one
        .entries
        .first()
        .is_some_and(|entry| entry.metadata.is_file());
    if !is_file || !is_archive(source, &one.path)? {
        return Ok(false);
    }
    // A mode is for what is copied: an archive's entries bring their own.
    let without_mode = Attributes {
        mode: None,
        ..attributes.clone()
    };
    make_directory(tree, target, &without_mode)?;
    let file =
        source.with_rights(|root| Ok(root.open_file_nofollow(&one.path, OpenFlags::RDONLY)?))?;
    let (_, tar) = decompress(BufReader::new(file))?;
    let options = ExtractOptions {
        owner: attributes.owner,
        best_effort_xattrs: true,
        keep_top: true,
        ..ExtractOptions::default()
    };
    // Links lead where they would if the target were the root, as with BuildKit.
    extract(tar, &tree.open_dir(target)?, Path::new(""), &options)?;
    Ok(true)
}

/// Says whether a file is a tar of any compression: its first block has a right checksum.
fn is_archive(source: Reading<'_>, path: &Path) -> Result<bool, BuildError> {
    let mut file =
        source.with_rights(|root| Ok(root.open_file_nofollow(path, OpenFlags::RDONLY)?))?;
    let failed = |error| FsError::io("read", path, error);
    file.seek(SeekFrom::Start(0)).map_err(failed)?;
    let mut block = [0_u8; TAR_BLOCK_BYTES];
    let Ok((_, mut plain)) = decompress(BufReader::new(file)) else {
        return Ok(false);
    };
    // What cannot be decompressed is no archive.
    Ok(plain.read_exact(&mut block).is_ok() && has_tar_checksum(&block))
}

fn has_tar_checksum(block: &[u8; TAR_BLOCK_BYTES]) -> bool {
    let field = block.get(TAR_CHECKSUM).unwrap_or_default();
    let text: String = field.iter().map(|byte| char::from(*byte)).collect();
    let Ok(expected) = u64::from_str_radix(text.trim_matches(['\0', ' ']), 8) else {
        return false;
    };
    let byte_value = |(position, byte): (usize, &u8)| {
        if TAR_CHECKSUM.contains(&position) {
            u64::from(b' ')
        } else {
            u64::from(*byte)
        }
    };
    expected == block.iter().enumerate().map(byte_value).sum::<u64>()
}
