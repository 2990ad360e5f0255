//! `RUN --mount` (spec/llb.md §7.3).
//!
//! A mount is read twice: when the instruction is interpreted only `from` is
//! known (variables in the other fields have no value yet), and again with
//! [`MountFlag::resolve`] when the step is built.

mod reader;

use crate::error::Error;
use crate::instruction::fields::{invalid, split_fields};
use crate::instruction::interpret::Problem;

use reader::Reader;

/// A `--mount` flag as written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountFlag {
    /// The flag's value.
    pub text: String,
    /// The `from` field: a stage or an image. Variables are not allowed in it.
    pub from: Option<String>,
}

/// A mount with all its fields known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// What is mounted.
    pub kind: MountKind,
    /// Stage or image the files come from.
    pub from: Option<String>,
    /// Path below `from`, or the secret's id in old style.
    pub source: String,
    /// Where it appears; may be relative or empty.
    pub target: String,
    /// Whether the step cannot write.
    pub is_read_only: bool,
    /// Whether a missing secret or agent fails the step.
    pub is_required: bool,
    /// `size` of a tmpfs in bytes, 0 if not given.
    pub size_bytes: i64,
    /// The `id` of a cache, secret or agent.
    pub id: String,
    /// `sharing` of a cache.
    pub sharing: Option<Sharing>,
    /// Permission bits.
    pub mode: Option<u32>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// The variable that holds a secret.
    pub env: Option<String>,
}

/// The `type` of a mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MountKind {
    /// Files of the context, a stage or an image.
    Bind,
    /// A directory kept between builds.
    Cache,
    /// A secret of the client.
    Secret,
    /// The client's SSH agent.
    Ssh,
    /// Memory.
    Tmpfs,
}

/// How steps share a cache mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sharing {
    /// Several at once.
    Shared,
    /// Each its own.
    Private,
    /// One after the other.
    Locked,
}

/// The words of the `type` field.
const KINDS: [(&str, MountKind); 5] = [
    ("bind", MountKind::Bind),
    ("cache", MountKind::Cache),
    ("secret", MountKind::Secret),
    ("ssh", MountKind::Ssh),
    ("tmpfs", MountKind::Tmpfs),
];

/// The agent that is meant where none is named.
const DEFAULT_AGENT: &str = "default";

impl Mount {
    /// Returns the ID by which a secret or an agent is asked for (spec/llb.md §7.3).
    pub fn need_id(&self) -> &str {
        let base = || self.target.rsplit('/').find(|name| !name.is_empty());
        match self.kind {
            MountKind::Ssh if self.id.is_empty() => DEFAULT_AGENT,
            MountKind::Secret if !self.source.is_empty() => &self.source,
            MountKind::Secret if self.id.is_empty() => base().unwrap_or("/"),
            _ => &self.id,
        }
    }
}

impl MountKind {
    /// Returns the word of the `type` field.
    pub fn name(self) -> &'static str {
        KINDS
            .iter()
            .find(|(_, kind)| *kind == self)
            .map_or("", |(name, _)| name)
    }
}

impl MountFlag {
    /// Reads what can be known without variables.
    pub(super) fn parse(text: &str) -> Result<Self, Problem> {
        let mut from = None;
        for field in split_fields(text)? {
            let Some((key, value)) = field.split_once('=') else {
                continue;
            };
            if key.to_lowercase() != "from" {
                continue;
            }
            if value
                .find('$')
                .is_some_and(|dollar| dollar + 1 < value.len())
            {
                let reason =
                    "'from' doesn't support variable expansion, define alias stage instead";
                return Err(invalid(reason));
            }
            from = Some(value.to_owned()).filter(|value| !value.is_empty());
        }
        Ok(Self {
            text: text.to_owned(),
            from,
        })
    }

    /// Reads all fields; `expand` gives each value with its variables replaced.
    ///
    /// # Errors
    /// All unknown keys and types, values that are none, and fields that the type does not have.
    pub fn resolve(
        &self,
        mut expand: impl FnMut(&str) -> Result<String, Error>,
    ) -> Result<Mount, Vec<MountError>> {
        let whole = |problem| vec![MountError::of(problem, &self.text)];
        let mut reader = Reader::new();
        let mut errors = Vec::new();
        for field in split_fields(&self.text).map_err(whole)? {
            let read = match field.split_once('=') {
                None => reader.bare(&field),
                Some((key, value)) => expand(value)
                    .map_err(Problem::from)
                    .and_then(|value| reader.pair(&key.to_lowercase(), &value, &field)),
            };
            errors.extend(read.err().map(|problem| MountError::of(problem, &field)));
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        reader.finish().map_err(whole)
    }
}

/// Why a mount cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{error}{}", .help.map(|word| format!(" (did you mean {word}?)")).unwrap_or_default())]
pub struct MountError {
    /// What is wrong.
    pub error: Error,
    /// The valid word the author probably meant.
    pub help: Option<&'static str>,
    /// What is wrong of the flag's value, as it is written.
    pub field: String,
}

impl MountError {
    /// Makes the error of a problem with one field.
    fn of(problem: Problem, field: &str) -> Self {
        Self {
            error: problem.error,
            help: problem.help,
            field: field.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{MountFlag, MountKind, Sharing};

    fn resolve(text: &str) -> Result<super::Mount, String> {
        let flag = MountFlag::parse(text).map_err(|problem| problem.error.to_string())?;
        flag.resolve(|value| Ok(value.replace("$T", "/t")))
            .map_err(|errors| errors[0].to_string())
    }

    #[test]
    fn fields() {
        let mount =
            resolve("type=cache,target=$T/x,id=a,sharing=locked,mode=0750,uid=1").expect("mount");
        assert_eq!(
            (mount.kind, mount.target.as_str()),
            (MountKind::Cache, "/t/x")
        );
        assert_eq!(
            (mount.sharing, mount.mode),
            (Some(Sharing::Locked), Some(0o750))
        );
        assert!(!mount.is_read_only);
        assert!(resolve("target=/x").is_ok_and(|mount| mount.is_read_only));
        assert!(resolve("target=/x,rw").is_ok_and(|mount| !mount.is_read_only));
        assert!(resolve("type=secret,id=a,required").is_ok_and(|mount| mount.is_required));
    }

    #[test]
    fn errors() {
        for (text, expected) in [
            (
                "type=tmp",
                "unsupported mount type \"tmp\" (did you mean tmpfs?)",
            ),
            ("z", "invalid field 'z' must be a key=value pair"),
            (
                "from=$X",
                "'from' doesn't support variable expansion, define alias stage instead",
            ),
            (
                "trget=/x",
                "unexpected key 'trget' in 'trget=/x' (did you mean target?)",
            ),
            (
                "target=/x,mode=1",
                "mode not allowed for \"bind\" type mounts",
            ),
            (
                "target=/x,sharing=locked",
                "invalid cache sharing set for bind mount",
            ),
            (
                "type=bind,required",
                "unexpected key 'required' for mount type 'bind'",
            ),
            ("type=cache,uid=x", "invalid value x for uid"),
        ] {
            assert_eq!(resolve(text).err().as_deref(), Some(expected), "{text}");
        }
    }

    #[test]
    fn all_errors_of_a_flag() {
        let flag = MountFlag::parse("typ=cache,target=/x,uid=x,z").ok();
        let errors = flag.and_then(|flag| flag.resolve(|value| Ok(value.to_owned())).err());
        let errors = errors.unwrap_or_default();
        let fields: Vec<&str> = errors.iter().map(|error| error.field.as_str()).collect();
        assert_eq!(fields, ["typ=cache", "uid=x", "z"]);
    }
}
