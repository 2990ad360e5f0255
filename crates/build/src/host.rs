//! What a build needs of the engine around it: base images, mounted layers, running a step, fetching.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use wharf_image::{ImageConfig, ImageId, Platform};
use wharf_safefs::{Root, Timestamp};

/// An error of the engine; its text is shown to the user.
pub type HostError = Box<dyn std::error::Error + Send + Sync>;

/// An image that a build starts from or copies from; its layers are in the store.
#[derive(Debug, Clone)]
pub struct BaseImage {
    /// Digest of its config.
    pub id: ImageId,
    /// Its config.
    pub config: Arc<ImageConfig>,
}

/// One RUN to execute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunStep {
    /// Names the step's container: 64 hexadecimal characters, new for each execution.
    pub id: String,
    /// Directories of the layers below, lowest first; none on `scratch`.
    pub lower_dirs: Vec<PathBuf>,
    /// Empty directory that receives the step's changes.
    pub upper: PathBuf,
    /// Empty directory for overlayfs, on the file system of `upper`.
    pub work: PathBuf,
    /// Program and arguments.
    pub args: Vec<String>,
    /// Environment as `KEY=value`.
    pub env: Vec<String>,
    /// Working directory, absolute.
    pub cwd: String,
    /// `user[:group]`, by name or number; empty for root.
    pub user: String,
    /// `default`, `none`, `host` or what the request named.
    pub network: String,
    /// The command as the Dockerfile has it, for listings.
    pub text: String,
}

/// Where output of a step came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutputStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// How a step ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RunOutcome {
    /// The exit status, 128 + n for signal n.
    pub exit_code: i32,
    /// Whether the kernel killed something in it for lack of memory.
    pub oom_killed: bool,
}

/// What an address led to.
pub struct Fetched {
    /// The content.
    pub body: Box<dyn Read + Send>,
    /// The file name that the server or the address gives; may be empty.
    pub file_name: String,
    /// When the content last changed, where the server says so.
    pub last_modified: Option<Timestamp>,
}

/// What a build needs of the engine around it. All methods block.
pub trait Host: Send + Sync {
    /// Returns an image, from the store or pulled; with `pull` always asked for at its registry.
    ///
    /// # Errors
    /// The engine's text, such as docker's `pull access denied for …`.
    fn base_image(
        &self,
        reference: &str,
        pull: bool,
        platform: Option<&Platform>,
    ) -> Result<BaseImage, HostError>;

    /// Returns a read-only merged view of layers, lowest first, that nothing else sees.
    ///
    /// # Errors
    /// A mount that failed.
    fn view(&self, lower_dirs: &[PathBuf]) -> Result<Root, HostError>;

    /// Returns a merged view of layers whose changes go to `upper`; `work` is for overlayfs.
    ///
    /// # Errors
    /// A mount that failed.
    fn writable_view(
        &self,
        lower_dirs: &[PathBuf],
        upper: &Path,
        work: &Path,
    ) -> Result<Root, HostError>;

    /// Runs a step to its end, handing out what it writes as it comes.
    ///
    /// # Errors
    /// A step that could not be run at all; a failing one is an outcome.
    fn run(
        &self,
        step: &RunStep,
        output: &mut dyn FnMut(OutputStream, &[u8]),
    ) -> Result<RunOutcome, HostError>;

    /// Fetches an `http` or `https` address.
    ///
    /// # Errors
    /// An address that could not be fetched.
    fn fetch(&self, url: &str) -> Result<Fetched, HostError>;

    /// Says whether nobody waits for the build any more.
    fn is_cancelled(&self) -> bool;
}
