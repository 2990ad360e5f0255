//! What to build.

use std::collections::BTreeMap;
use std::path::PathBuf;

use wharf_image::Platform;

/// Where COPY and ADD take files from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum ContextSource {
    /// A directory of this machine, read in place.
    Directory(PathBuf),
    /// A tar of any compression, unpacked once and removed after the build.
    Tar(PathBuf),
    /// Nothing.
    #[default]
    Empty,
}

/// What to build; docker's build options (spec engine-api §10).
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BuildRequest {
    /// The files.
    pub context: ContextSource,
    /// Path of the Dockerfile in the context; empty means `Dockerfile`.
    pub dockerfile_name: String,
    /// A Dockerfile that does not lie in the context.
    pub dockerfile: Option<Vec<u8>>,
    /// `--build-arg`; `None` for one named without a value.
    pub build_args: BTreeMap<String, Option<String>>,
    /// `--label`.
    pub labels: BTreeMap<String, String>,
    /// The stage to build, by name or number; empty means the last.
    pub target: String,
    /// Executes every step; what it leads to is still recorded.
    pub no_cache: bool,
    /// Asks the registry for base images that are here.
    pub pull: bool,
    /// Platform to build for; `None` means this machine's.
    pub platform: Option<Platform>,
    /// Joins the new layers into one.
    pub squash: bool,
    /// Images whose steps may be taken over.
    pub cache_from: Vec<String>,
    /// Network of RUN: empty, `default`, `none`, `host` or another that the host knows.
    pub network_mode: String,
}
