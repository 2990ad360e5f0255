//! File: changes of files without a program (spec llb §2.3).

/// Changes files.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct FileOp {
    /// What is done, in order.
    pub actions: Vec<FileAction>,
}

impl FileOp {
    /// Returns the operation that makes one change.
    #[must_use]
    pub fn single(input: FileInput, secondary: FileInput, kind: FileActionKind) -> Self {
        Self {
            actions: vec![FileAction {
                input,
                secondary,
                output: Some(0),
                kind,
            }],
        }
    }
}

/// What an action takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileInput {
    /// Nothing.
    Scratch,
    /// An input of the operation.
    Input(usize),
    /// The result of an earlier action.
    Action(usize),
}

/// One change.
#[derive(Debug, Clone, PartialEq)]
pub struct FileAction {
    /// The tree that is changed.
    pub input: FileInput,
    /// What is copied from.
    pub secondary: FileInput,
    /// Which output the tree becomes; none for a step on the way.
    pub output: Option<u32>,
    /// What is done.
    pub kind: FileActionKind,
}

/// What is done to a tree.
#[derive(Debug, Clone, PartialEq)]
pub enum FileActionKind {
    /// Copies.
    Copy(CopyAction),
    /// Makes a file.
    Mkfile(MkfileAction),
    /// Makes a directory.
    Mkdir(MkdirAction),
    /// Removes.
    Rm(RmAction),
    /// Makes a symlink.
    Symlink(SymlinkAction),
}

/// Copies files into a tree.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct CopyAction {
    /// Path, or pattern, of what is copied.
    pub source: String,
    /// Where to; with a `/` at the end always a directory.
    pub destination: String,
    /// Owner of the copies; none to keep it.
    pub owner: Option<Chown>,
    /// Permissions of the copies; none to keep them.
    pub mode: Option<u32>,
    /// Permissions as chmod(1) reads them, such as `u+x`; empty for none.
    pub mode_text: String,
    /// Whether a symlink as the source is followed.
    pub follow_symlink: bool,
    /// Whether of a directory its content is copied.
    pub dir_copy_contents: bool,
    /// Whether archives are unpacked.
    pub attempt_unpack: bool,
    /// Whether missing directories above the destination are made.
    pub create_dest_path: bool,
    /// Whether the source is a pattern.
    pub allow_wildcard: bool,
    /// Whether a pattern may match nothing.
    pub allow_empty_wildcard: bool,
    /// Time of the copies in nanoseconds since 1970; none to keep it.
    pub timestamp_ns: Option<i64>,
    /// Patterns of what is copied; empty for all.
    pub include_patterns: Vec<String>,
    /// Patterns of what is not copied.
    pub exclude_patterns: Vec<String>,
    /// Whether what is in the way is removed, whatever it is.
    pub always_replace: bool,
    /// Paths that have to be there.
    pub required_paths: Vec<String>,
}

/// An owner.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Chown {
    /// The user.
    pub user: Option<Account>,
    /// The group; none for the user's own.
    pub group: Option<Account>,
}

/// A user or group.
#[derive(Debug, Clone, PartialEq)]
pub enum Account {
    /// By name.
    Name {
        /// The name.
        name: String,
        /// Where it is looked up.
        input: FileInput,
    },
    /// By number.
    Id(u32),
}

/// Makes a file.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct MkfileAction {
    /// Where.
    pub path: String,
    /// Permissions.
    pub mode: u32,
    /// Content.
    pub data: Vec<u8>,
    /// Owner; none for root.
    pub owner: Option<Chown>,
    /// Time in nanoseconds since 1970; none for now.
    pub timestamp_ns: Option<i64>,
}

/// Makes a directory.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct MkdirAction {
    /// Where.
    pub path: String,
    /// Permissions.
    pub mode: u32,
    /// Whether those above are made, too.
    pub make_parents: bool,
    /// Owner; none for root.
    pub owner: Option<Chown>,
    /// Time in nanoseconds since 1970; none for now.
    pub timestamp_ns: Option<i64>,
}

/// Removes files.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RmAction {
    /// Path or pattern.
    pub path: String,
    /// Whether it may be missing.
    pub allow_not_found: bool,
    /// Whether it is a pattern.
    pub allow_wildcard: bool,
}

/// Makes a symlink.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SymlinkAction {
    /// What it points at.
    pub target: String,
    /// Where.
    pub path: String,
    /// Owner; none for root.
    pub owner: Option<Chown>,
    /// Time in nanoseconds since 1970; none for now.
    pub timestamp_ns: Option<i64>,
}
