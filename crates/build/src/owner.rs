//! Names of users and groups, looked up in the tree that is changed (spec llb §7.4, `--chown`).

use wharf_safefs::Root;

use crate::BuildError;

/// A user or group, by name or number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Account {
    /// By number.
    Id(u32),
    /// By name.
    Name(String),
}

/// An owner to be looked up in a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Owner {
    /// The user.
    pub user: Account,
    /// The group; the user's own where there is none.
    pub group: Option<Account>,
}

/// Most bytes of `/etc/passwd` and `/etc/group`.
const MAX_ACCOUNT_FILE_BYTES: u64 = 8 << 20;

impl Owner {
    /// Returns the names in it.
    pub fn names(&self) -> Vec<&str> {
        let accounts = [Some(&self.user), self.group.as_ref()];
        let named = accounts.into_iter().flatten().filter_map(|one| match one {
            Account::Name(name) => Some(name.as_str()),
            Account::Id(_) => None,
        });
        named.collect()
    }
}

/// What an owner led to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Resolved {
    /// Number of the user.
    pub uid: u32,
    /// Number of the group.
    pub gid: u32,
    /// What the user should know: names that the tree does not have.
    pub warnings: Vec<String>,
}

/// Returns user and group number of an owner.
///
/// A name without a group means the user's own group, a number alone the group of the same number. A user that is not
/// there is root, a group that is not there the user's own, as BuildKit has it.
///
/// # Errors
/// `/etc/passwd` or `/etc/group` that cannot be read.
pub(crate) fn resolve(tree: &Root, owner: &Owner) -> Result<Resolved, BuildError> {
    let mut warnings = Vec::new();
    let (uid, own_gid) = match &owner.user {
        Account::Id(uid) => (*uid, *uid),
        Account::Name(name) => find_user(tree, name)?.unwrap_or_else(|| {
            warnings.push(format!(
                "no user {name} in the stage's /etc/passwd: root is taken"
            ));
            (0, 0)
        }),
    };
    let gid = match &owner.group {
        None => own_gid,
        Some(Account::Id(gid)) => *gid,
        Some(Account::Name(name)) => find_group(tree, name)?.unwrap_or_else(|| {
            warnings.push(format!(
                "no group {name} in the stage's /etc/group: group {own_gid} is taken"
            ));
            own_gid
        }),
    };
    Ok(Resolved { uid, gid, warnings })
}

fn find_user(tree: &Root, name: &str) -> Result<Option<(u32, u32)>, BuildError> {
    let found = lines(tree, "etc/passwd")?.iter().find_map(|line| {
        let mut fields = line.split(':');
        let is_named = fields.next() == Some(name);
        let uid = fields.nth(1)?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        is_named.then_some((uid, gid))
    });
    Ok(found)
}

fn find_group(tree: &Root, name: &str) -> Result<Option<u32>, BuildError> {
    let found = lines(tree, "etc/group")?.iter().find_map(|line| {
        let mut fields = line.split(':');
        let is_named = fields.next() == Some(name);
        let gid = fields.nth(1)?.parse().ok()?;
        is_named.then_some(gid)
    });
    Ok(found)
}

fn lines(tree: &Root, path: &str) -> Result<Vec<String>, BuildError> {
    match tree.read(path, MAX_ACCOUNT_FILE_BYTES) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes)
            .lines()
            .map(str::to_owned)
            .collect()),
        Err(error) if error.is_not_found() => Ok(Vec::new()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::{Account, Owner, resolve};
    use std::io::Write;
    use wharf_safefs::Root;

    #[test]
    fn names_and_numbers() {
        let directory = tempfile::tempdir().unwrap();
        let root = Root::open(directory.path()).unwrap();
        root.mkdir("etc", 0o755).unwrap();
        let write = |path: &str, text: &str| {
            root.create_file(path, 0o644)
                .unwrap()
                .write_all(text.as_bytes())
                .unwrap()
        };
        write(
            "etc/passwd",
            "root:x:0:0::/:\nbroken\napp:x:10:20::/:/bin/sh\n",
        );
        write("etc/group", "staff:x:50:app\n");
        for (owner, expected, unknown) in [
            ("1:2", (1, 2), 0),
            ("7", (7, 7), 0),
            ("app", (10, 20), 0),
            ("app:staff", (10, 50), 0),
            ("app:3", (10, 3), 0),
            ("nobody", (0, 0), 1),
            ("nobody:staff", (0, 50), 1),
            ("app:none", (10, 20), 1),
            ("7:none", (7, 7), 1),
            ("nobody:none", (0, 0), 2),
        ] {
            let account = |text: &str| match text.parse() {
                Ok(number) => Account::Id(number),
                Err(_) => Account::Name(text.to_owned()),
            };
            let (user, group) = owner.split_once(':').unwrap_or((owner, ""));
            let wanted = Owner {
                user: account(user),
                group: (!group.is_empty()).then(|| account(group)),
            };
            let found = resolve(&root, &wanted).unwrap();
            assert_eq!((found.uid, found.gid), expected, "{owner}");
            assert_eq!(found.warnings.len(), unknown, "{owner}");
        }
    }
}
