//! The Dockerfile language: parser, typed instructions, word expansion and ignore files.
//!
//! Pure: no I/O, no clock, no environment. Text goes in; trees, values and
//! [`Diagnostic`]s with byte spans come out.
//!
//! - [`parse`] gives the tree ([`Ast`]), [`interpret`] the typed instructions
//!   in stages ([`Dockerfile`]), [`load`] both in one step.
//! - [`parse_commands`] reads single instructions: ONBUILD triggers and `commit --change`.
//! - [`expand::Expander`] expands variables in words.
//! - [`parse_git_url`] tells addresses of git repositories.
//! - [`outline()`] says what a build can be given, [`targets`] which stages there are.
//! - [`IgnoreFile`] decides which paths of a build context are left out, and why.
//! - [`render`] shows diagnostics with their source lines.
#![forbid(unsafe_code)]

mod ast;
mod diagnostic;
mod error;
pub mod expand;
mod git_url;
pub mod ignore;
pub mod instruction;
pub mod lint;
mod outline;
mod parser;
mod quote;
mod suggest;

pub use ast::{Ast, Directives, Heredoc, Location, Node, Word, line_and_column};
pub use diagnostic::{Diagnostic, Phase, Severity, render, render_colored};
pub use error::Error;
pub use git_url::{GitUrl, GitUrlError, parse_git_url};
pub use ignore::{Decision, DirectoryMatches, IgnoreFile};
pub use instruction::{
    Dockerfile, Instruction, InstructionKind, Stage, interpret, load, parse_commands,
};
pub use outline::{Outline, OutlineArg, OutlineNeed, Target, outline, targets};
pub use parser::{MAX_FILE_BYTES, MAX_INSTRUCTIONS, MAX_LINE_BYTES, Parsed, parse};
pub use suggest::nearest;
