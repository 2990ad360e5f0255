//! The root file system: overlay options that fit the page `mount(2)` takes.

use std::ffi::CString;
use std::path::{Path, PathBuf};

use crate::error::{Result, RuntimeError};
use crate::init::mount_plan::paths::path_string;
use crate::init::plan::c_string;
use crate::request::RootMount;

/// The most layers below a container: overlay's own limit is 500, docker's 128.
pub const MAX_LOWER_DIRS: usize = 500;

/// Bytes of options `mount(2)` takes: one page less the final NUL.
const MAX_OPTION_BYTES: usize = 4095;

/// A root file system, ready to be mounted.
pub enum RootPlan {
    /// An overlay.
    Overlay {
        /// The directory to be in, so that layers have short names.
        base: CString,
        /// Options for `mount(2)`.
        options: CString,
    },
    /// A copy of the mount of one directory.
    Directory {
        /// The directory.
        path: CString,
        /// Whether it must not be written.
        readonly: bool,
    },
}

/// Prepares a root file system.
///
/// # Errors
/// [`RuntimeError::Invalid`] for no layers, too many, or an upper directory without a work directory.
pub fn plan_root(root: &RootMount) -> Result<RootPlan> {
    let RootMount::Overlay {
        lower_dirs,
        upper,
        work,
        volatile,
    } = root
    else {
        let RootMount::Directory(path) = root else {
            return Err(RuntimeError::invalid("root", "of no known kind"));
        };
        return Ok(RootPlan::Directory {
            path: path_string("root", path)?,
            readonly: false,
        });
    };
    if lower_dirs.len() > MAX_LOWER_DIRS {
        let reason = format!("{} layers, at most {MAX_LOWER_DIRS}", lower_dirs.len());
        return Err(RuntimeError::invalid("root", reason));
    }
    let changes = match (upper, work) {
        (Some(upper), Some(work)) => Some((upper.as_path(), work.as_path())),
        (None, None) => None,
        _ => {
            let reason = "an overlay needs both an upper and a work directory, or neither";
            return Err(RuntimeError::invalid("root", reason));
        }
    };
    match (lower_dirs.as_slice(), changes) {
        ([], None) => Err(RuntimeError::invalid("root", "no directory at all")),
        // Overlay wants a layer below; without one the upper directory is all there is.
        ([], Some((upper, _))) => Ok(RootPlan::Directory {
            path: path_string("root", upper)?,
            readonly: false,
        }),
        // Overlay refuses a single layer without an upper directory.
        ([only], None) => Ok(RootPlan::Directory {
            path: path_string("root", only)?,
            readonly: true,
        }),
        (lower, changes) => plan_overlay(lower, changes, *volatile),
    }
}

fn plan_overlay(
    lower: &[PathBuf],
    changes: Option<(&Path, &Path)>,
    volatile: bool,
) -> Result<RootPlan> {
    let base = common_parent(lower);
    let mut options = String::from("lowerdir=");
    for (index, layer) in lower.iter().rev().enumerate() {
        if index > 0 {
            options.push(':');
        }
        let relative = layer.strip_prefix(&base).unwrap_or(layer);
        escape(&mut options, relative, &[',', ':', '\\'])?;
    }
    if let Some((upper, work)) = changes {
        options.push_str(",upperdir=");
        escape(&mut options, upper, &[',', '\\'])?;
        options.push_str(",workdir=");
        escape(&mut options, work, &[',', '\\'])?;
        if volatile {
            options.push_str(",volatile");
        }
    }
    // Layers are shared by containers and named by content: no redirects, no index between them.
    options.push_str(",redirect_dir=off,index=off,metacopy=off");
    if options.len() > MAX_OPTION_BYTES {
        let reason = format!(
            "the names of {} layers take {} bytes, at most {MAX_OPTION_BYTES}",
            lower.len(),
            options.len()
        );
        return Err(RuntimeError::invalid("root", reason));
    }
    Ok(RootPlan::Overlay {
        base: path_string("root", &base)?,
        options: c_string("root", &options)?,
    })
}

fn common_parent(paths: &[PathBuf]) -> PathBuf {
    let parent = |path: &PathBuf| path.parent().map(Path::to_path_buf).unwrap_or_default();
    let mut common = paths.first().map(parent).unwrap_or_default();
    for path in paths {
        while !path.starts_with(&common) || *path == common {
            if !common.pop() {
                return PathBuf::from("/");
            }
        }
    }
    common
}

fn escape(options: &mut String, path: &Path, special: &[char]) -> Result<()> {
    let text = path
        .to_str()
        .ok_or_else(|| RuntimeError::invalid("root", format!("{} is not UTF-8", path.display())))?;
    for character in text.chars() {
        if special.contains(&character) {
            options.push('\\');
        }
        options.push(character);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn overlay(count: usize, root: &str) -> RootMount {
        RootMount::Overlay {
            lower_dirs: (1..=count)
                .map(|layer| PathBuf::from(format!("{root}/layers/{layer}")))
                .collect(),
            upper: Some(PathBuf::from(format!(
                "{root}/containers/{}/upper",
                "a".repeat(64)
            ))),
            work: Some(PathBuf::from(format!(
                "{root}/containers/{}/work",
                "a".repeat(64)
            ))),
            volatile: false,
        }
    }

    #[test]
    fn layers_are_named_relative_to_their_parent_highest_first() {
        let RootPlan::Overlay { base, options } = plan_root(&overlay(3, "/data")).unwrap() else {
            panic!("not an overlay");
        };
        assert_eq!(base.to_str().unwrap(), "/data/layers");
        assert!(
            options
                .to_str()
                .unwrap()
                .starts_with("lowerdir=3:2:1,upperdir=/data/containers/aa")
        );
    }

    #[test]
    fn a_hundred_and_twenty_eight_layers_fit_a_page() {
        assert!(plan_root(&overlay(128, "/var/lib/a/rather/long/data/root")).is_ok());
        assert!(plan_root(&overlay(MAX_LOWER_DIRS + 1, "/data")).is_err());
    }

    #[test]
    fn special_characters_are_escaped() {
        let root = RootMount::Overlay {
            lower_dirs: vec![PathBuf::from("/a/x:y"), PathBuf::from("/a/c,d")],
            upper: Some(PathBuf::from("/u,p")),
            work: Some(PathBuf::from("/w")),
            volatile: true,
        };
        let RootPlan::Overlay { options, .. } = plan_root(&root).unwrap() else {
            panic!("not an overlay");
        };
        let options = options.to_str().unwrap();
        assert!(options.starts_with("lowerdir=c\\,d:x\\:y,upperdir=/u\\,p,workdir=/w,volatile"));
    }
}
