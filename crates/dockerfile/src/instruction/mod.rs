//! Typed instructions, grouped in stages (spec/llb.md §6.3, §7).

mod copy;
mod duration;
pub(crate) mod fields;
mod flags;
mod healthcheck;
mod interpret;
pub mod mount;
mod pairs;
mod run;

use crate::ast::{Directives, Heredoc, Location};
pub use interpret::{interpret, load, parse_commands};

/// Every instruction's keyword, in alphabetical order.
pub const KEYWORDS: [&str; 18] = [
    "ADD",
    "ARG",
    "CMD",
    "COPY",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "FROM",
    "HEALTHCHECK",
    "LABEL",
    "MAINTAINER",
    "ONBUILD",
    "RUN",
    "SHELL",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];

/// A whole Dockerfile.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Dockerfile {
    /// The parser directives.
    pub directives: Directives,
    /// The ARG instructions before the first FROM.
    pub meta_args: Vec<Instruction>,
    /// The stages in order.
    pub stages: Vec<Stage>,
    /// Whether something is missing that nothing is known of; see [`crate::Ast`].
    pub has_gap: bool,
}

/// One FROM and what follows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stage {
    /// What FROM says.
    pub from: From,
    /// The FROM line as written, continuations joined.
    pub original: String,
    /// Where FROM stands.
    pub location: Location,
    /// The comment above FROM that starts with the stage's name, without the name.
    pub description: String,
    /// The comment lines above FROM, without `#`.
    pub comments: Vec<String>,
    /// The instructions behind FROM.
    pub instructions: Vec<Instruction>,
    /// Whether FROM could not be read: of what it says only the stage's name may be known.
    pub is_unreadable: bool,
}

/// One instruction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instruction {
    /// The keyword as written.
    pub keyword: String,
    /// The instruction as written, continuations joined, without here-document bodies.
    pub original: String,
    /// Where it stands.
    pub location: Location,
    /// The comment lines above it, without `#`.
    pub comments: Vec<String>,
    /// What it says.
    pub kind: InstructionKind,
}

/// What an instruction says. Nothing is expanded yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InstructionKind {
    /// `ADD`.
    Add(Copy),
    /// `ARG`: names with default values.
    Arg(Vec<Arg>),
    /// `CMD`.
    Cmd(CommandLine),
    /// `COPY`.
    Copy(Copy),
    /// `ENTRYPOINT`.
    Entrypoint(CommandLine),
    /// `ENV`.
    Env(Vec<KeyValue>),
    /// `EXPOSE`: ports, sorted.
    Expose(Vec<String>),
    /// `FROM`. Only from [`parse_commands`]; files have it in [`Stage`].
    From(From),
    /// `HEALTHCHECK`.
    Healthcheck(Healthcheck),
    /// `LABEL`.
    Label(Vec<KeyValue>),
    /// `MAINTAINER`.
    Maintainer(String),
    /// `ONBUILD`: the trigger's text, here-documents included.
    Onbuild(String),
    /// `RUN`.
    Run(Run),
    /// `SHELL`.
    Shell(Vec<String>),
    /// `STOPSIGNAL`.
    Stopsignal(String),
    /// `USER`.
    User(String),
    /// `VOLUME`.
    Volume(Vec<String>),
    /// `WORKDIR`.
    Workdir(String),
    /// Something in which a mistake was found: it holds the place.
    Unreadable(Unreadable),
}

/// What is known of an instruction that could not be read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Unreadable {
    /// The keyword that it has or that was meant, in upper case, where that is known.
    pub meant: Option<&'static str>,
    /// Where its flags take files from: stages, contexts or images.
    pub from: Vec<String>,
}

impl Unreadable {
    /// Returns whether it may set variables: nobody knows what an unknown instruction does.
    pub fn may_set_variables(&self) -> bool {
        matches!(self.meant, None | Some("ARG" | "ENV"))
    }
}

/// `FROM [--platform=…] image [AS name]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct From {
    /// The base: an image, an earlier stage's name or `scratch`.
    pub image: String,
    /// The stage's name in lower case.
    pub stage_name: Option<String>,
    /// The value of `--platform`, not empty.
    pub platform: Option<String>,
}

/// One name of `ARG`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arg {
    /// The name.
    pub key: String,
    /// The default value, if there is a `=`.
    pub value: Option<String>,
    /// The comment above that starts with the name, without the name.
    pub description: String,
}

/// One pair of `ENV` or `LABEL`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyValue {
    /// The key, quotes included.
    pub key: String,
    /// The value, quotes included.
    pub value: String,
    /// Whether it is written `key=value` and not `key value`.
    pub has_equals: bool,
}

/// The command of RUN, CMD and ENTRYPOINT.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CommandLine {
    /// Exec form: the arguments. Shell form: one text, or none.
    pub arguments: Vec<String>,
    /// Whether a shell runs it.
    pub is_shell: bool,
    /// Here-documents, in order. Only RUN has them.
    pub heredocs: Vec<Heredoc>,
}

/// `RUN`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// What to run.
    pub command: CommandLine,
    /// The `--mount` flags.
    pub mounts: Vec<mount::MountFlag>,
    /// `--network`, `default` if not given.
    pub network: NetworkMode,
    /// `--security`, `sandbox` if not given.
    pub security: SecurityMode,
    /// The `--device` flags.
    pub devices: Vec<Device>,
    /// Names of the flags given, sorted.
    pub flags_used: Vec<&'static str>,
}

/// `RUN --network`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum NetworkMode {
    /// The build's network.
    #[default]
    Default,
    /// No network.
    None,
    /// The host's network; needs an entitlement.
    Host,
}

/// `RUN --security`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SecurityMode {
    /// The usual confinement.
    #[default]
    Sandbox,
    /// None; needs an entitlement.
    Insecure,
}

/// `RUN --device=name[,required]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// The device's name or class.
    pub name: String,
    /// Whether the step fails without it.
    pub is_required: bool,
}

/// `COPY` or `ADD`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Copy {
    /// Paths, patterns and (ADD) addresses.
    pub sources: Vec<String>,
    /// Files given as here-documents.
    pub heredocs: Vec<InlineFile>,
    /// Where to.
    pub destination: String,
    /// `--from` (COPY), not empty.
    pub from: Option<String>,
    /// `--chown`, not empty.
    pub chown: Option<String>,
    /// `--chmod`, not empty.
    pub chmod: Option<String>,
    /// `--link`.
    pub link: bool,
    /// `--parents` (COPY).
    pub parents: bool,
    /// `--exclude` patterns.
    pub exclude: Vec<String>,
    /// `--keep-git-dir` (ADD), if given.
    pub keep_git_dir: Option<bool>,
    /// `--checksum` (ADD), not empty.
    pub checksum: Option<String>,
    /// `--unpack` (ADD), if given.
    pub unpack: Option<bool>,
}

/// A here-document as a source of COPY or ADD.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InlineFile {
    /// The file's name: the here-document's word.
    pub name: String,
    /// The file's content.
    pub content: String,
    /// Whether variables in the content are expanded.
    pub expand: bool,
}

/// `HEALTHCHECK`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Healthcheck {
    /// `["NONE"]`, `["CMD", args…]` or `["CMD-SHELL", text]`.
    pub test: Vec<String>,
    /// `--interval` in nanoseconds, 0 if not given.
    pub interval_ns: i64,
    /// `--timeout` in nanoseconds, 0 if not given.
    pub timeout_ns: i64,
    /// `--start-period` in nanoseconds, 0 if not given.
    pub start_period_ns: i64,
    /// `--start-interval` in nanoseconds, 0 if not given.
    pub start_interval_ns: i64,
    /// `--retries`, 0 if not given.
    pub retries: i32,
}
