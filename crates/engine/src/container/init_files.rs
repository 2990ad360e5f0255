//! What every container has besides its image: docker's init layer (spec runtime §4). The mount points of its name
//! files and devices are made where they are mounted.

use super::create::fs_error;
use crate::error::EngineError;
use std::path::Path;
use wharf_safefs::{FsError, Metadata, Root};

type Result<T, E = FsError> = std::result::Result<T, E>;

/// The file by which programs tell that they run in a container.
const MARKER: &str = ".dockerenv";
const MARKER_MODE: u32 = 0o755;
/// The list of mounts for programs that know nothing of `/proc`.
const MOUNT_TABLE: &str = "etc/mtab";
const MOUNT_TABLE_TARGET: &str = "/proc/mounts";
/// Attributes that overlayfs keeps its own notes in.
const OVERLAY_ATTRIBUTES: &str = "trusted.overlay.";

/// Makes the files that the image's `layers` (topmost first) do not have, in the container's own layer.
pub(crate) fn place(upper: &Path, layers: &[Root]) -> Result<(), EngineError> {
    let cannot = fs_error("cannot make the container's first files");
    place_in(upper, layers).map_err(cannot)
}

fn place_in(upper: &Path, layers: &[Root]) -> Result<()> {
    let upper = Root::open(upper)?;
    if find(layers, MARKER)?.is_none() {
        upper.create_new(MARKER, MARKER_MODE)?;
    }
    // An image without such a directory keeps none.
    let parent = Path::new("etc");
    if find(layers, MOUNT_TABLE)?.is_none()
        && let Some((layer, metadata)) = find(layers, parent)?.filter(|(_, found)| found.is_dir())
    {
        copy_directory(layer, &upper, parent, &metadata)?;
        upper.symlink(MOUNT_TABLE_TARGET, MOUNT_TABLE)?;
        upper.set_times(parent, metadata.atime, metadata.mtime)?;
    }
    Ok(())
}

/// Finds a file in the topmost layer that has it or takes it away.
fn find(layers: &[Root], path: impl AsRef<Path>) -> Result<Option<(&Root, Metadata)>> {
    let path = path.as_ref();
    for layer in layers {
        if let Some(found) = layer.lstat_optional(path)? {
            return Ok(Some((layer, found)).filter(|_| !found.is_whiteout()));
        }
    }
    Ok(None)
}

/// Makes a directory with the attributes of another: those of the topmost layer are what a container sees.
fn copy_directory(from: &Root, to: &Root, path: &Path, metadata: &Metadata) -> Result<()> {
    to.mkdir(path, metadata.mode)?;
    to.chown(path, metadata.uid, metadata.gid)?;
    to.chmod(path, metadata.mode)?;
    for name in from.xattrs(path)? {
        let is_overlays = name.to_string_lossy().starts_with(OVERLAY_ATTRIBUTES);
        if let Some(value) = from.xattr(path, &name)?.filter(|_| !is_overlays) {
            to.set_xattr(path, &name, &value)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::place;
    use wharf_safefs::Root;

    fn root(directory: &tempfile::TempDir, name: &str) -> Root {
        let path = directory.path().join(name);
        std::fs::create_dir(&path).unwrap();
        Root::open(&path).unwrap()
    }

    #[test]
    fn only_what_the_image_lacks_is_made() {
        let directory = tempfile::tempdir().unwrap();
        let lower = root(&directory, "lower");
        let top = root(&directory, "top");
        let upper = root(&directory, "upper");
        lower.mkdir("etc", 0o700).unwrap();
        top.mkdir("etc", 0o750).unwrap();
        place(&directory.path().join("upper"), &[top, lower]).unwrap();
        assert_eq!(upper.stat(".dockerenv").unwrap().mode, 0o755);
        assert_eq!(upper.stat("etc").unwrap().mode, 0o750);
        let table = upper.read_link("etc/mtab").unwrap();
        assert_eq!(table.to_str(), Some("/proc/mounts"));

        let second = root(&directory, "second");
        place(&directory.path().join("second"), &[upper]).unwrap();
        assert!(second.entries().unwrap().is_empty());
        let third = root(&directory, "third");
        place(&directory.path().join("third"), &[]).unwrap();
        assert_eq!(third.entries().unwrap().len(), 1);
    }
}
