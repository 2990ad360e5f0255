//! What a daemon may leave behind: nothing that is not named by a row on disk, and nothing in the kernel.

use crate::archives::hex;
use crate::harness::Daemon;
use rusqlite::{Connection, OpenFlags};
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

/// Rows that keep each layer and each blob; everything else on disk has no owner.
const REFERENCED_LAYERS: &str = "SELECT number FROM layers WHERE diff_id IN (
    SELECT diff_id FROM image_layers UNION SELECT diff_id FROM container_layers UNION SELECT diff_id FROM cache_layers)
    UNION SELECT number FROM variants";
const REFERENCED_BLOBS: &str = "SELECT id FROM images UNION SELECT digest FROM image_documents
    UNION SELECT config_digest FROM cache_records WHERE config_digest IS NOT NULL UNION SELECT digest FROM layer_blobs";

impl Daemon {
    /// Lists what lies on disk and has no owner, or has one and is not there.
    pub fn disowned(&self) -> Vec<String> {
        let path = self.path("root/wharf.db");
        let database = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
        let mut problems = Vec::new();
        let mut compare = |what: &str, query: &str, directory: &str, trim: &str| {
            let owned: BTreeSet<String> = column(&database, query)
                .into_iter()
                .map(|name| name.trim_start_matches(trim).to_owned())
                .collect();
            let found = names_in(&self.path(directory));
            problems.extend(
                found
                    .difference(&owned)
                    .map(|n| format!("{what} {n} has no owner")),
            );
            problems.extend(
                owned
                    .difference(&found)
                    .map(|n| format!("{what} {n} is missing")),
            );
        };
        compare("layer", REFERENCED_LAYERS, "root/layers", "");
        compare("blob", REFERENCED_BLOBS, "root/blobs/sha256", "sha256:");
        compare(
            "container",
            "SELECT id FROM containers",
            "root/containers",
            "",
        );
        compare("volume", "SELECT name FROM volumes", "root/volumes", "");
        compare("staged", "SELECT '' WHERE 0", "root/tmp", "");
        problems
    }

    /// Lists what is left in the kernel of a daemon that runs and has no running container.
    pub fn left_of_containers(&self) -> Vec<String> {
        let suffix = self.suffix();
        let mut left = self.mounts();
        let master = format!("master wh{suffix}");
        left.extend(lines_with("ip", &["-o", "link"], &master));
        left.extend(self.cgroups().into_iter().filter(|path| {
            // The parent of all is the daemon's own.
            !path.ends_with(&format!("/wharf-{suffix}"))
        }));
        left.extend(self.processes());
        let states = names_in(&self.path("run/containers"));
        left.extend(states.into_iter().map(|id| format!("run/containers/{id}")));
        left
    }

    /// Lists what is left in the kernel of a daemon that has ended and had no running container.
    pub fn left_of_daemon(&self) -> Vec<String> {
        let suffix = self.suffix();
        let mut left = self.left_of_containers();
        left.extend(lines_with("ip", &["-o", "link"], &format!("wh{suffix}")));
        left.extend(lines_with(
            "nft",
            &["list", "tables"],
            &format!("wharf_{suffix}"),
        ));
        left.extend(self.cgroups());
        left
    }

    /// Returns what the names of this daemon's bridge, tables and control groups end with.
    fn suffix(&self) -> String {
        let root = self.path("root");
        hex(root.as_os_str().as_encoded_bytes())[..8].to_owned()
    }

    /// Lists all control groups of this daemon, in every hierarchy.
    fn cgroups(&self) -> Vec<String> {
        let name = format!("wharf-{}", self.suffix());
        let mut found = Vec::new();
        let mut hierarchies = vec![Path::new("/sys/fs/cgroup").to_owned()];
        hierarchies.extend(directories_in(Path::new("/sys/fs/cgroup")));
        for hierarchy in hierarchies {
            let mut stack = vec![hierarchy.join(&name)];
            while let Some(directory) = stack.pop() {
                if directory.is_dir() {
                    stack.extend(directories_in(&directory));
                    found.push(directory.display().to_string());
                }
            }
        }
        found
    }

    /// Lists processes but the daemon that are in this daemon's control groups or hold its files open.
    fn processes(&self) -> Vec<String> {
        let group = format!("/wharf-{}/", self.suffix());
        let directory = self.path("");
        let own = [std::process::id(), self.running_pid().unwrap_or(0)];
        let mut found = Vec::new();
        for pid in names_in(Path::new("/proc")) {
            let process = Path::new("/proc").join(&pid);
            if !pid.parse().is_ok_and(|pid: u32| !own.contains(&pid)) {
                continue;
            }
            let groups = std::fs::read_to_string(process.join("cgroup")).unwrap_or_default();
            let command = std::fs::read_to_string(process.join("cmdline")).unwrap_or_default();
            let command = command.replace('\0', " ");
            let files = std::fs::read_dir(process.join("fd")).into_iter().flatten();
            let holds = command.starts_with("wharf shim")
                && files.flatten().any(|file| {
                    std::fs::read_link(file.path()).is_ok_and(|path| path.starts_with(&directory))
                });
            if groups.contains(&group) || holds {
                found.push(format!("process {pid} ({})", command.trim()));
            }
        }
        found
    }
}

fn column(database: &Connection, query: &str) -> Vec<String> {
    let mut statement = database.prepare(query).unwrap();
    let rows = statement.query_map([], |row| {
        Ok(match row.get_ref(0)? {
            rusqlite::types::ValueRef::Integer(number) => number.to_string(),
            text => text.as_str().unwrap().to_owned(),
        })
    });
    rows.unwrap().map(Result::unwrap).collect()
}

fn names_in(directory: &Path) -> BTreeSet<String> {
    std::fs::read_dir(directory)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}

fn directories_in(directory: &Path) -> Vec<std::path::PathBuf> {
    std::fs::read_dir(directory)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect()
}

fn lines_with(program: &str, arguments: &[&str], text: &str) -> Vec<String> {
    let output = Command::new(program).args(arguments).output().unwrap();
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter(|line| line.contains(text))
        .map(str::to_owned)
        .collect()
}
