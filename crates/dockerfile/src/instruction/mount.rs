//! `RUN --mount` (spec/llb.md §7.3).
//!
//! A mount is read twice: when the instruction is interpreted only `from` is
//! known (variables in the other fields have no value yet), and again with
//! [`MountFlag::resolve`] when the step is built.

use crate::error::Error;
use crate::instruction::interpret::Problem;
use crate::suggest::nearest;

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

const KINDS: [(&str, MountKind); 5] = [
    ("bind", MountKind::Bind),
    ("cache", MountKind::Cache),
    ("secret", MountKind::Secret),
    ("ssh", MountKind::Ssh),
    ("tmpfs", MountKind::Tmpfs),
];

const KEYS: [&str; 19] = [
    "type",
    "from",
    "source",
    "target",
    "readonly",
    "id",
    "sharing",
    "required",
    "size",
    "mode",
    "uid",
    "gid",
    "src",
    "dst",
    "destination",
    "ro",
    "rw",
    "readwrite",
    "env",
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
    fn of(problem: Problem, field: &str) -> Self {
        Self {
            error: problem.error,
            help: problem.help,
            field: field.to_owned(),
        }
    }
}

struct Reader {
    mount: Mount,
    has_access: bool,
}

impl Reader {
    fn new() -> Self {
        let mount = Mount {
            kind: MountKind::Bind,
            from: None,
            source: String::new(),
            target: String::new(),
            is_read_only: false,
            is_required: false,
            size_bytes: 0,
            id: String::new(),
            sharing: None,
            mode: None,
            uid: None,
            gid: None,
            env: None,
        };
        Self {
            mount,
            has_access: false,
        }
    }

    fn bare(&mut self, field: &str) -> Result<(), Problem> {
        match field.to_lowercase().as_str() {
            "readonly" | "ro" => self.access(true),
            "readwrite" | "rw" => self.access(false),
            "required" => {
                self.only_for("required", &[MountKind::Secret, MountKind::Ssh])?;
                self.mount.is_required = true;
            }
            _ => {
                return Err(invalid(format!(
                    "invalid field '{field}' must be a key=value pair"
                )));
            }
        }
        Ok(())
    }

    fn pair(&mut self, key: &str, value: &str, field: &str) -> Result<(), Problem> {
        let mount = &mut self.mount;
        match key {
            "type" => mount.kind = parse_kind(value)?,
            "from" => mount.from = Some(value.to_owned()).filter(|value| !value.is_empty()),
            "source" | "src" => mount.source = value.to_owned(),
            "target" | "dst" | "destination" => mount.target = value.to_owned(),
            "readonly" | "ro" => {
                let is_read_only = parse_bool(key, value)?;
                self.access(is_read_only);
            }
            "readwrite" | "rw" => {
                let is_writable = parse_bool(key, value)?;
                self.access(!is_writable);
            }
            "required" => {
                self.only_for(key, &[MountKind::Secret, MountKind::Ssh])?;
                self.mount.is_required = parse_bool(key, value)?;
            }
            "size" => {
                self.only_for(key, &[MountKind::Tmpfs])?;
                self.mount.size_bytes = parse_size(value)
                    .ok_or_else(|| invalid(format!("invalid value for {key}: {value}")))?;
            }
            "id" => mount.id = value.to_owned(),
            "sharing" => mount.sharing = Some(parse_sharing(value)?),
            "mode" => mount.mode = Some(parse_number(key, value, 8)?),
            "uid" => mount.uid = Some(parse_number(key, value, 10)?),
            "gid" => mount.gid = Some(parse_number(key, value, 10)?),
            "env" => mount.env = Some(value.to_owned()),
            _ => {
                let problem = invalid(format!("unexpected key '{key}' in '{field}'"));
                return Err(problem.help(nearest(key, KEYS, true)));
            }
        }
        Ok(())
    }

    fn access(&mut self, is_read_only: bool) {
        self.mount.is_read_only = is_read_only;
        self.has_access = true;
    }

    fn only_for(&self, key: &str, kinds: &[MountKind]) -> Result<(), Problem> {
        if kinds.contains(&self.mount.kind) {
            return Ok(());
        }
        let kind = self.mount.kind.name();
        Err(invalid(format!(
            "unexpected key '{key}' for mount type '{kind}'"
        )))
    }

    fn finish(self) -> Result<Mount, Problem> {
        let mut mount = self.mount;
        let kind = mount.kind;
        if matches!(kind, MountKind::Bind | MountKind::Tmpfs) {
            let owner = [("mode", mount.mode), ("uid", mount.uid), ("gid", mount.gid)];
            if let Some((key, _)) = owner.iter().find(|(_, value)| value.is_some()) {
                let kind = kind.name();
                return Err(invalid(format!(
                    "{key} not allowed for \"{kind}\" type mounts"
                )));
            }
        }
        if !self.has_access {
            mount.is_read_only = !matches!(kind, MountKind::Cache | MountKind::Tmpfs);
        }
        if mount.sharing.is_some() && kind != MountKind::Cache {
            return Err(invalid(format!(
                "invalid cache sharing set for {} mount",
                kind.name()
            )));
        }
        if kind == MountKind::Secret {
            check_secret(&mount)?;
        }
        Ok(mount)
    }
}

fn check_secret(mount: &Mount) -> Result<(), Problem> {
    if mount.from.is_some() {
        return Err(invalid("secret mount should not have a from"));
    }
    if mount.source.is_empty() && mount.target.is_empty() && mount.id.is_empty() {
        return Err(invalid(
            "invalid secret mount. one of source, target required",
        ));
    }
    if !mount.source.is_empty() && !mount.id.is_empty() {
        return Err(invalid("both source and id can't be set"));
    }
    Ok(())
}

fn parse_kind(value: &str) -> Result<MountKind, Problem> {
    let lower = value.to_lowercase();
    if let Some((_, kind)) = KINDS.iter().find(|(name, _)| *name == lower) {
        return Ok(*kind);
    }
    let problem = invalid(format!(
        "unsupported mount type {}",
        crate::quote::quoted(value)
    ));
    Err(problem.help(nearest(value, KINDS.map(|(name, _)| name), true)))
}

fn parse_sharing(value: &str) -> Result<Sharing, Problem> {
    match value.to_lowercase().as_str() {
        "shared" => Ok(Sharing::Shared),
        "private" => Ok(Sharing::Private),
        "locked" => Ok(Sharing::Locked),
        _ => Err(invalid(format!(
            "unsupported sharing value {}",
            crate::quote::quoted(value)
        ))),
    }
}

fn parse_number(key: &str, value: &str, radix: u32) -> Result<u32, Problem> {
    let digits = value.bytes().all(|byte| byte.is_ascii_digit());
    let number = u32::from_str_radix(value, radix).ok().filter(|_| digits);
    number.ok_or_else(|| invalid(format!("invalid value {value} for {key}")))
}

/// Reads the words that the reference takes as true and false.
pub(super) fn parse_bool(key: &str, value: &str) -> Result<bool, Problem> {
    parse_flag(value).ok_or_else(|| invalid(format!("invalid value for {key}: {value}")))
}

/// Reads a word that means true or false.
pub(crate) fn parse_flag(word: &str) -> Option<bool> {
    match word {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// Reads a size in bytes with an optional binary unit (`64m`, `1.5GiB`).
fn parse_size(value: &str) -> Option<i64> {
    let lower = value.to_ascii_lowercase();
    let digits = lower.trim_end_matches(|character: char| character.is_ascii_alphabetic());
    let unit = lower.get(digits.len()..)?;
    let exponent = match unit.trim_end_matches('b').trim_end_matches('i') {
        "" if matches!(unit, "" | "b") => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        "p" => 5,
        _ => return None,
    };
    let number: f64 = digits.trim_end().parse().ok()?;
    let size = number * 1024_f64.powi(exponent);
    // Beyond 2^62 no memory can be; the cast below cannot lose the sign.
    (number >= 0.0 && size < 4.6e18).then_some(size as i64)
}

/// Splits one line of comma separated values; fields may be in double quotes.
pub(super) fn split_fields(text: &str) -> Result<Vec<String>, Problem> {
    let mut fields = Vec::new();
    let mut rest = text;
    loop {
        let Some(quoted) = rest.strip_prefix('"') else {
            let end = rest.find(',').unwrap_or(rest.len());
            let (field, tail) = rest.split_at(end);
            if field.contains('"') {
                return Err(bad_quote(text));
            }
            fields.push(field.to_owned());
            match tail.strip_prefix(',') {
                Some(next) => rest = next,
                None => return Ok(fields),
            }
            continue;
        };
        let (field, tail) = quoted_field(quoted).ok_or_else(|| bad_quote(text))?;
        fields.push(field);
        match tail.strip_prefix(',') {
            Some(next) => rest = next,
            None if tail.is_empty() => return Ok(fields),
            None => return Err(bad_quote(text)),
        }
    }
}

/// Reads a field behind its opening quote; returns it and what follows the closing one.
fn quoted_field(text: &str) -> Option<(String, &str)> {
    let mut field = String::new();
    let mut rest = text;
    loop {
        let (part, tail) = rest.split_once('"')?;
        field.push_str(part);
        match tail.strip_prefix('"') {
            Some(next) => {
                field.push('"');
                rest = next;
            }
            None => return Some((field, tail)),
        }
    }
}

fn bad_quote(text: &str) -> Problem {
    invalid(format!(
        "failed to parse csv mounts: misplaced quote in '{text}'"
    ))
}

fn invalid(reason: impl Into<String>) -> Problem {
    Error::InvalidOption {
        reason: reason.into(),
    }
    .into()
}

#[cfg(test)]
mod tests {
    use super::{MountFlag, MountKind, Sharing, parse_size, split_fields};

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

    #[test]
    fn comma_separated_values() {
        assert_eq!(
            split_fields("a,\"b,\"\"c\",").ok(),
            Some(vec!["a".into(), "b,\"c".into(), "".into()])
        );
        assert!(split_fields("a\"b").is_err());
        assert!(split_fields("\"a").is_err());
    }

    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("64", Some(64)),
            ("1k", Some(1024)),
            ("1.5m", Some(1_572_864)),
            ("2GiB", Some(2 << 30)),
            ("x", None),
            ("-1", None),
        ] {
            assert_eq!(parse_size(text), bytes, "{text}");
        }
    }
}
