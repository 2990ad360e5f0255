//! Mount options as in fstab, sorted into what each system call takes.

use crate::error::{Result, RuntimeError};

/// The most options of one mount.
const MAX_OPTIONS: usize = 256;

/// One mount's options.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct MountOptions {
    /// `bind` or `rbind` was among them.
    pub bind: bool,
    /// `rbind` was among them.
    pub recursive: bool,
    /// `MOUNT_ATTR_*` bits to set.
    pub set: u64,
    /// `MOUNT_ATTR_*` bits to clear.
    pub clear: u64,
    /// `MOUNT_ATTR_*` bits to set on everything below too (`rro` and its like).
    pub set_recursive: u64,
    /// Propagation (`MS_*`), and whether for everything below too.
    pub propagation: Option<(u64, bool)>,
    /// What of the source is mounted, from its root; empty means all.
    pub subpath: String,
    /// The file of the mount namespace that the source's path is in; empty means the host's.
    pub namespace: String,
    /// What the file system itself takes.
    pub data: Vec<String>,
}

/// Option that names the mount namespace of the source, as a file of procfs.
const NAMESPACE: &str = "X-wharf.mount-namespace=";

/// Option that names a path inside the source; links in it lead nowhere outside.
const SUBPATH: &str = "X-wharf.subpath=";

const ATTRIBUTES: [(&str, u64); 8] = [
    ("ro", libc::MOUNT_ATTR_RDONLY),
    ("nosuid", libc::MOUNT_ATTR_NOSUID),
    ("nodev", libc::MOUNT_ATTR_NODEV),
    ("noexec", libc::MOUNT_ATTR_NOEXEC),
    ("noatime", libc::MOUNT_ATTR_NOATIME),
    ("strictatime", libc::MOUNT_ATTR_STRICTATIME),
    ("nodiratime", libc::MOUNT_ATTR_NODIRATIME),
    ("nosymfollow", libc::MOUNT_ATTR_NOSYMFOLLOW),
];

const OPPOSITES: [(&str, u64); 7] = [
    ("rw", libc::MOUNT_ATTR_RDONLY),
    ("suid", libc::MOUNT_ATTR_NOSUID),
    ("dev", libc::MOUNT_ATTR_NODEV),
    ("exec", libc::MOUNT_ATTR_NOEXEC),
    ("atime", libc::MOUNT_ATTR_NOATIME),
    ("diratime", libc::MOUNT_ATTR_NODIRATIME),
    ("symfollow", libc::MOUNT_ATTR_NOSYMFOLLOW),
];

/// Options that change nothing here: the defaults, and hints for other systems.
const WITHOUT_EFFECT: [&str; 9] = [
    "defaults",
    "relatime",
    "async",
    "consistent",
    "cached",
    "delegated",
    "nostrictatime",
    "norelatime",
    "nomand",
];

const ATIME_BITS: u64 = libc::MOUNT_ATTR_NOATIME | libc::MOUNT_ATTR_STRICTATIME;

impl MountOptions {
    /// Sorts options; later ones win.
    pub fn parse(options: &[String]) -> Result<Self> {
        if options.len() > MAX_OPTIONS {
            let reason = format!("{} of at most {MAX_OPTIONS}", options.len());
            return Err(RuntimeError::invalid("mount options", reason));
        }
        let mut parsed = Self::default();
        for option in options {
            parsed.add(option)?;
        }
        Ok(parsed)
    }

    /// Says whether the mount itself is to be read-only.
    pub fn is_readonly(&self) -> bool {
        (self.set | self.set_recursive) & libc::MOUNT_ATTR_RDONLY != 0
    }

    fn add(&mut self, option: &str) -> Result<()> {
        match option {
            "bind" => self.bind = true,
            "rbind" => (self.bind, self.recursive) = (true, true),
            // Flags of a new file system, which it takes by these names.
            "sync" | "dirsync" => self.data.push(option.to_owned()),
            "remount" | "mand" | "tmpcopyup" | "idmap" | "ridmap" => {
                return Err(RuntimeError::Unsupported {
                    what: format!("mount option {option}"),
                });
            }
            _ if WITHOUT_EFFECT.contains(&option) => {}
            _ => {
                if let Some(kind) = propagation(option) {
                    self.propagation = Some(kind);
                } else if let Some(path) = option.strip_prefix(SUBPATH) {
                    path.clone_into(&mut self.subpath);
                } else if let Some(path) = option.strip_prefix(NAMESPACE) {
                    path.clone_into(&mut self.namespace);
                } else if !self.add_attribute(option) {
                    self.data.push(option.to_owned());
                }
            }
        }
        Ok(())
    }

    fn add_attribute(&mut self, option: &str) -> bool {
        if let Some(bit) = lookup(&ATTRIBUTES, option) {
            if bit & ATIME_BITS != 0 {
                self.set &= !ATIME_BITS;
            }
            self.set |= bit;
            self.clear &= !bit;
            return true;
        }
        if let Some(bit) = lookup(&OPPOSITES, option) {
            self.set &= !bit;
            self.clear |= bit;
            return true;
        }
        if let Some(bit) = option
            .strip_prefix('r')
            .and_then(|name| lookup(&ATTRIBUTES, name))
        {
            self.set_recursive |= bit;
            return true;
        }
        false
    }
}

fn lookup(table: &[(&str, u64)], name: &str) -> Option<u64> {
    table
        .iter()
        .find(|(known, _)| *known == name)
        .map(|(_, bit)| *bit)
}

/// Returns a propagation's flag and whether it is recursive; none for any other word.
pub fn propagation(name: &str) -> Option<(u64, bool)> {
    let (name, recursive) = match name.strip_prefix('r') {
        Some(rest) => (rest, true),
        None => (name, false),
    };
    let flag = match name {
        "private" => libc::MS_PRIVATE,
        "shared" => libc::MS_SHARED,
        "slave" => libc::MS_SLAVE,
        "unbindable" => libc::MS_UNBINDABLE,
        _ => return None,
    };
    Some((flag, recursive))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(options: &[&str]) -> MountOptions {
        let options: Vec<String> = options.iter().map(|option| (*option).to_owned()).collect();
        MountOptions::parse(&options).unwrap()
    }

    #[test]
    fn later_options_win_and_the_rest_is_the_file_systems() {
        let parsed = parse(&[
            "nosuid",
            "ro",
            "rw",
            "mode=755",
            "strictatime",
            "size=65536k",
            "sync",
        ]);
        assert_eq!(
            parsed.set,
            libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_STRICTATIME
        );
        assert_eq!(parsed.clear, libc::MOUNT_ATTR_RDONLY);
        assert_eq!(parsed.data, ["mode=755", "size=65536k", "sync"]);
        assert!(!parsed.is_readonly());
    }

    #[test]
    fn binds_and_propagation() {
        let parsed = parse(&["rbind", "rro", "rslave"]);
        assert!(parsed.bind && parsed.recursive && parsed.is_readonly());
        assert_eq!(parsed.propagation, Some((libc::MS_SLAVE, true)));
        assert_eq!(propagation("rro"), None);
        assert_eq!(propagation("shared"), Some((libc::MS_SHARED, false)));
    }

    #[test]
    fn what_cannot_be_done_is_refused() {
        assert!(MountOptions::parse(&["tmpcopyup".to_owned()]).is_err());
        assert!(MountOptions::parse(&vec!["ro".to_owned(); MAX_OPTIONS + 1]).is_err());
    }
}
