//! Reading the fields of a mount, each with its variables replaced.

use crate::instruction::fields::{invalid, parse_bool, parse_size};
use crate::instruction::interpret::Problem;
use crate::suggest::nearest;

use super::{KINDS, Mount, MountKind, Sharing};

/// All keys, for the nearest one to a mistaken word.
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

/// A mount whose fields are being read.
pub(super) struct Reader {
    mount: Mount,
    /// Whether a field said who may write.
    has_access: bool,
}

impl Reader {
    /// Begins with what holds where no field says otherwise.
    pub(super) fn new() -> Self {
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

    /// Takes a field without a value.
    pub(super) fn bare(&mut self, field: &str) -> Result<(), Problem> {
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

    /// Takes a field with its value; `field` is both as written.
    pub(super) fn pair(&mut self, key: &str, value: &str, field: &str) -> Result<(), Problem> {
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

    /// Refuses a field that the type does not have.
    fn only_for(&self, key: &str, kinds: &[MountKind]) -> Result<(), Problem> {
        if kinds.contains(&self.mount.kind) {
            return Ok(());
        }
        let kind = self.mount.kind.name();
        Err(invalid(format!(
            "unexpected key '{key}' for mount type '{kind}'"
        )))
    }

    /// Returns the mount where its fields go together.
    pub(super) fn finish(self) -> Result<Mount, Problem> {
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

/// Refuses fields of a secret that do not go together.
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
