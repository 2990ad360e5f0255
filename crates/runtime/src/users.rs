//! Users and groups of a container, looked up in its own `/etc/passwd` and `/etc/group`
//! (spec runtime §3).

use std::path::PathBuf;

use wharf_safefs::Root;

use crate::error::{Result, RuntimeError};

/// The longest passwd or group file that is read, in bytes.
const MAX_FILE_BYTES: u64 = 16 << 20;

/// The largest user or group number.
pub const MAX_ID: u32 = i32::MAX as u32;

/// Who a container's process is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolvedUser {
    /// The user's number.
    pub uid: u32,
    /// The primary group's number.
    pub gid: u32,
    /// All groups' numbers, the primary one first.
    pub additional_gids: Vec<u32>,
    /// The home directory, if the user is in passwd and has one; else `/`.
    pub home: PathBuf,
}

struct PasswdEntry {
    name: String,
    uid: u32,
    gid: u32,
    home: String,
}

struct GroupEntry {
    name: String,
    gid: u32,
    members: Vec<String>,
}

/// Resolves `user[:group]` (empty means root) and the names or numbers in `group_add` against a
/// container's root directory.
///
/// Numbers are never looked up as names, so that an entry *named* `1000` gives nobody its rights.
///
/// # Errors
/// [`RuntimeError::User`] with the text clients know for unknown names and numbers out of range.
pub fn resolve(root: &Root, user: &str, group_add: &[String]) -> Result<ResolvedUser> {
    let (name, group) = match user.split_once(':') {
        Some((name, group)) => (name, Some(group).filter(|group| !group.is_empty())),
        None => (user, None),
    };
    let passwd = read_passwd(root)?;
    let groups = read_groups(root)?;
    let (uid, entry) = find_user(&passwd, if name.is_empty() { "0" } else { name })?;
    let gid = match group {
        Some(group) => find_group(&groups, group)?,
        None => entry.map_or(0, |entry| entry.gid),
    };
    let mut additional_gids = vec![gid];
    if group.is_none()
        && let Some(entry) = entry
    {
        let listing = groups
            .iter()
            .filter(|group| group.members.contains(&entry.name));
        additional_gids.extend(listing.map(|group| group.gid));
    }
    for group in group_add {
        additional_gids.push(find_group(&groups, group)?);
    }
    let mut seen = Vec::with_capacity(additional_gids.len());
    additional_gids.retain(|gid| {
        let new = !seen.contains(gid);
        seen.push(*gid);
        new
    });
    let home = entry.map(|entry| entry.home.as_str());
    Ok(ResolvedUser {
        uid,
        gid,
        additional_gids,
        home: PathBuf::from(home.filter(|home| !home.is_empty()).unwrap_or("/")),
    })
}

fn find_user<'a>(passwd: &'a [PasswdEntry], name: &str) -> Result<(u32, Option<&'a PasswdEntry>)> {
    if let Some(uid) = parse_id(name)? {
        return Ok((uid, passwd.iter().find(|entry| entry.uid == uid)));
    }
    match passwd.iter().find(|entry| entry.name == name) {
        Some(entry) => Ok((entry.uid, Some(entry))),
        None => Err(RuntimeError::User {
            message: format!("unable to find user {name}: no matching entries in passwd file"),
        }),
    }
}

fn find_group(groups: &[GroupEntry], name: &str) -> Result<u32> {
    if let Some(gid) = parse_id(name)? {
        return Ok(gid);
    }
    match groups.iter().find(|group| group.name == name) {
        Some(group) => Ok(group.gid),
        None => Err(RuntimeError::User {
            message: format!("unable to find group {name}: no matching entries in group file"),
        }),
    }
}

/// Returns a number; none for a name.
fn parse_id(text: &str) -> Result<Option<u32>> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(None);
    }
    match text.parse::<u32>() {
        Ok(id) if id <= MAX_ID => Ok(Some(id)),
        _ => Err(RuntimeError::User {
            message: format!("uids and gids must be in range 0-{MAX_ID}"),
        }),
    }
}

fn read_file(root: &Root, path: &str) -> Result<String> {
    match root.read(path, MAX_FILE_BYTES) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        // Without the file there are numbers only.
        Err(error) if error.is_not_found() => Ok(String::new()),
        Err(error) => Err(error.into()),
    }
}

fn id_field(field: Option<&str>) -> Option<u32> {
    field?.trim().parse().ok().filter(|id| *id <= MAX_ID)
}

fn read_passwd(root: &Root) -> Result<Vec<PasswdEntry>> {
    let text = read_file(root, "etc/passwd")?;
    let parse = |line: &str| {
        let mut fields = line.trim().split(':');
        let name = fields.next().filter(|name| !name.is_empty())?.to_owned();
        let uid = id_field(fields.nth(1))?;
        let gid = id_field(fields.next())?;
        let home = fields.nth(1).unwrap_or_default().to_owned();
        Some(PasswdEntry {
            name,
            uid,
            gid,
            home,
        })
    };
    // A line that is none (a comment, NIS's "+", nonsense) names nobody.
    Ok(text.lines().filter_map(parse).collect())
}

fn read_groups(root: &Root) -> Result<Vec<GroupEntry>> {
    let text = read_file(root, "etc/group")?;
    let parse = |line: &str| {
        let mut fields = line.trim().split(':');
        let name = fields.next().filter(|name| !name.is_empty())?.to_owned();
        let gid = id_field(fields.nth(1))?;
        let members = fields.next().unwrap_or_default();
        let members = members.split(',').map(|name| name.trim().to_owned());
        Some(GroupEntry {
            name,
            gid,
            members: members.filter(|name| !name.is_empty()).collect(),
        })
    };
    Ok(text.lines().filter_map(parse).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fixture() -> (tempfile::TempDir, Root) {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("etc")).unwrap();
        let passwd = "# comment\nroot:x:0:0:root:/root:/bin/sh\nu:x:1000:1001::/home/u:/bin/sh\n\
                      1000:x:0:0::/evil:/bin/sh\nbig:x:4294967296:0::/:/bin/sh\nshort:x\n";
        std::fs::write(directory.path().join("etc/passwd"), passwd).unwrap();
        let group = "root:x:0:\nwheel:x:10:root,u\nu:x:1001:\nstaff:x:50:u\n";
        std::fs::write(directory.path().join("etc/group"), group).unwrap();
        let root = Root::open(directory.path()).unwrap();
        (directory, root)
    }

    #[test]
    fn forms() {
        let (_directory, root) = fixture();
        for (user, add, uid, gid, groups, home) in [
            ("", &[][..], 0, 0, &[0, 10][..], "/root"),
            ("u", &[], 1000, 1001, &[1001, 10, 50], "/home/u"),
            ("1000", &[], 1000, 1001, &[1001, 10, 50], "/home/u"),
            ("4711", &[], 4711, 0, &[0], "/"),
            ("u:staff", &[], 1000, 50, &[50], "/home/u"),
            ("u:7", &[], 1000, 7, &[7], "/home/u"),
            (":staff", &[], 0, 50, &[50], "/root"),
            ("u:", &[], 1000, 1001, &[1001, 10, 50], "/home/u"),
            (
                "4711:12",
                &["wheel", "99", "12"],
                4711,
                12,
                &[12, 10, 99],
                "/",
            ),
        ] {
            let add: Vec<String> = add.iter().map(|name: &&str| (*name).to_owned()).collect();
            let found = resolve(&root, user, &add).unwrap();
            assert_eq!((found.uid, found.gid), (uid, gid), "{user}");
            assert_eq!(found.additional_gids, groups, "{user}");
            assert_eq!(found.home, PathBuf::from(home), "{user}");
        }
    }

    #[test]
    fn nobody_becomes_root_by_an_odd_name() {
        let (_directory, root) = fixture();
        for (user, text) in [
            (
                "nobody",
                "unable to find user nobody: no matching entries in passwd file",
            ),
            (
                "0x0",
                "unable to find user 0x0: no matching entries in passwd file",
            ),
            (
                "big",
                "unable to find user big: no matching entries in passwd file",
            ),
            (
                "u:none",
                "unable to find group none: no matching entries in group file",
            ),
            ("2147483648", "uids and gids must be in range 0-2147483647"),
            ("4294967296", "uids and gids must be in range 0-2147483647"),
            ("-1", "uids and gids must be in range 0-2147483647"),
        ] {
            assert_eq!(resolve(&root, user, &[]).unwrap_err().to_string(), text);
        }
    }

    #[test]
    fn files_are_optional_and_links_stay_inside() {
        let directory = tempfile::tempdir().unwrap();
        let root = Root::open(directory.path()).unwrap();
        assert_eq!(resolve(&root, "5", &[]).unwrap().gid, 0);
        std::fs::create_dir(directory.path().join("etc")).unwrap();
        let link = directory.path().join("etc/passwd");
        std::os::unix::fs::symlink("/../../../../etc/passwd", link).unwrap();
        // Beneath the root the link leads to itself; the host's file is out of reach.
        assert!(resolve(&root, "root", &[]).is_err());
    }
}
