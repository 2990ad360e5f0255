//! What a build needs of the engine around it: base images, mounted layers, running a step, fetching.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use serde::{Deserialize, Serialize};
use wharf_image::{Digest, ImageConfig, ImageId, Platform};
use wharf_safefs::{Root, Timestamp};

/// An error of the engine; its text is shown to the user.
pub type HostError = Box<dyn std::error::Error + Send + Sync>;

/// An image that a build starts from or copies from; its layers are in the store.
#[derive(Debug, Clone)]
pub struct BaseImage {
    /// Digest of its config.
    pub id: ImageId,
    /// Digest of the manifest or index that its name led to; none for an image that came from no registry.
    pub digest: Option<Digest>,
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
    /// Mounts besides the root file system, parents before children.
    pub mounts: Vec<RunMount>,
    /// Whether the root file system must not be written.
    pub read_only: bool,
    /// Host name; empty for one of the host's choosing.
    pub hostname: String,
    /// Further lines for `/etc/hosts`: name and address.
    pub extra_hosts: Vec<(String, String)>,
    /// Resource limits: name, soft and hard.
    pub ulimits: Vec<(String, i64, i64)>,
    /// Whether all that confines a step is left away.
    pub is_insecure: bool,
    /// Names the build that the step belongs to; empty where there is none.
    pub build: String,
}

/// Something mounted into a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunMount {
    /// Where, absolute.
    pub destination: String,
    /// What.
    pub source: MountSource,
    /// Whether it must not be written.
    pub read_only: bool,
}

/// What is mounted into a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MountSource {
    /// A file or directory that wharf itself chose.
    Path(PathBuf),
    /// Layers, lowest first; `changes` are an upper and a work directory, both empty.
    Layers {
        /// The directories; one or more.
        lower_dirs: Vec<PathBuf>,
        /// Where what is written goes.
        changes: Option<(PathBuf, PathBuf)>,
    },
    /// A file that lies in memory only and is gone with the step.
    Secret(SecretFile),
    /// Memory.
    Tmpfs {
        /// Its size in bytes; 0 for the kernel's default.
        size_bytes: u64,
    },
}

/// A file whose content is nobody else's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretFile {
    /// The content.
    pub value: Secret,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Permissions.
    pub mode: u32,
}

/// Something that is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Arc<[u8]>);

impl Secret {
    /// Takes a secret.
    pub fn new(bytes: impl Into<Arc<[u8]>>) -> Self {
        Self(bytes.into())
    }

    /// Returns the secret itself.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Where output of a step came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
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
    /// The most memory it used, in bytes; 0 where that is not known.
    pub peak_memory_bytes: u64,
    /// How much memory it may use, in bytes; 0 without a limit.
    pub memory_limit_bytes: u64,
    /// The most processes that it had at once; 0 where that is not known.
    pub peak_processes: u64,
    /// How many processes it may have; 0 without a limit.
    pub processes_limit: u64,
}

/// How an address is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FetchRequest {
    /// The address.
    pub url: String,
    /// Headers to send.
    pub headers: Vec<(String, String)>,
    /// What the server called the content that is here already: it may then say that it is the same still.
    pub etag: Option<String>,
}

/// What an address led to.
pub struct Fetched {
    /// The content.
    pub body: Box<dyn Read + Send>,
    /// The file name that the server or the address gives; may be empty.
    pub file_name: String,
    /// When the content last changed, where the server says so.
    pub last_modified: Option<Timestamp>,
    /// What the server calls this content, where it does.
    pub etag: Option<String>,
    /// Whether the content is the one that `etag` of the request named; `body` is empty then.
    pub is_unchanged: bool,
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

    /// Returns an image out of a directory of this machine, `DIRECTORY@sha256:…` or `DIRECTORY:TAG`, read with the rights of
    /// whoever asks; its layers are in the store as long as the build runs.
    ///
    /// # Errors
    /// Directories that cannot be read or are no OCI layout, images that are not there.
    fn layout_image(&self, name: &str, platform: Option<&Platform>)
    -> Result<BaseImage, HostError>;

    /// Returns an image that is here; none where it would have to be pulled.
    fn local_image(&self, reference: &str, platform: &Platform) -> Option<BaseImage>;

    /// Returns what a registry tells of an image: its config alone. Nothing is kept.
    ///
    /// # Errors
    /// The engine's text for an image that is not to be had, and for a registry that does not answer soon.
    fn image_config(&self, reference: &str, platform: &Platform) -> Result<BaseImage, HostError>;

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

    /// Runs a step to its end, handing out what it writes as it comes; once `cancelled` is set the step is killed.
    ///
    /// # Errors
    /// A step that could not be run at all; a failing one is an outcome.
    fn run(
        &self,
        step: &RunStep,
        cancelled: &AtomicBool,
        output: &mut dyn FnMut(OutputStream, &[u8]),
    ) -> Result<RunOutcome, HostError>;

    /// Fetches an `http` or `https` address.
    ///
    /// # Errors
    /// An address that could not be fetched.
    fn fetch(&self, request: &FetchRequest) -> Result<Fetched, HostError>;

    /// Says whether programs of a platform can be run here: this machine's own, and those that the kernel hands to
    /// an emulator (binfmt_misc).
    fn can_run(&self, platform: &Platform) -> bool;

    /// Takes hold of an image that is about to be stored, so that nothing removes it until the build is over.
    ///
    /// # Errors
    /// Where it cannot be kept.
    fn claim_image(&self, _id: &ImageId) -> Result<(), HostError> {
        Ok(())
    }

    /// Says whether nobody waits for the build any more.
    fn is_cancelled(&self) -> bool;
}
