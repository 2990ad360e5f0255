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

/// Returns user and group number of an owner.
///
/// A name without a group means the user's own group, a number alone the group of the same number; an empty user
/// name, as in `:GROUP`, is root.
///
/// # Errors
/// A name that the tree does not know.
pub(crate) fn resolve(tree: &Root, owner: &Owner) -> Result<(u32, u32), BuildError> {
    let (uid, own_gid) = match &owner.user {
        Account::Id(uid) => (*uid, *uid),
        Account::Name(name) if name.is_empty() => (0, 0),
        Account::Name(name) => find_user(tree, name)?,
    };
    let gid = match &owner.group {
        None => own_gid,
        Some(Account::Id(gid)) => *gid,
        Some(Account::Name(name)) => find_group(tree, name)?,
    };
    Ok((uid, gid))
}

fn find_user(tree: &Root, name: &str) -> Result<(u32, u32), BuildError> {
    let found = lines(tree, "etc/passwd")?.iter().find_map(|line| {
        let mut fields = line.split(':');
        let is_named = fields.next() == Some(name);
        let uid = fields.nth(1)?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        is_named.then_some((uid, gid))
    });
    found.ok_or_else(|| {
        BuildError::instruction(format!(
            "unable to find user {name}: no matching entries in passwd file"
        ))
    })
}

fn find_group(tree: &Root, name: &str) -> Result<u32, BuildError> {
    let found = lines(tree, "etc/group")?.iter().find_map(|line| {
        let mut fields = line.split(':');
        let is_named = fields.next() == Some(name);
        let gid = fields.nth(1)?.parse().ok()?;
        is_named.then_some(gid)
    });
    found.ok_or_else(|| {
        BuildError::instruction(format!(
            "unable to find group {name}: no matching entries in group file"
        ))
    })
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
        for (owner, expected) in [
            ("1:2", Some((1, 2))),
            ("7", Some((7, 7))),
            ("app", Some((10, 20))),
            ("app:staff", Some((10, 50))),
            ("app:3", Some((10, 3))),
            (":5", Some((0, 5))),
            ("nobody", None),
            ("app:none", None),
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
            assert_eq!(resolve(&root, &wanted).ok(), expected, "{owner}");
        }
    }
}
