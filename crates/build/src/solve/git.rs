//! Repositories, by the `git` program of this machine (spec llb §2.2, §4.1).

use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::json;
use wharf_image::Digest;
use wharf_llb::{SourceOp, VertexId};
use wharf_safefs::Root;
use wharf_store::Staging;

use super::Solver;
use super::node::Outcome;
use super::snapshot::{PendingLayer, Snapshot};
use crate::BuildError;
use crate::cache;

/// Protocols that git may use: nothing that runs a program or reads files of this machine.
const PROTOCOLS: &str = "git:http:https:ssh";
/// Hexadecimal characters of a whole commit.
const COMMIT_CHARS: [usize; 2] = [40, 64];
/// Bytes of what git says that are shown.
const SHOWN_BYTES: usize = 2_000;

/// What is taken of a repository.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Checkout {
    /// Where it is.
    pub url: String,
    /// Branch, tag, ref or commit; empty for its head.
    pub reference: String,
    /// The commit that it has to be, or its beginning.
    pub checksum: String,
    /// The directory that is taken; empty for all.
    pub subdirectory: String,
    /// Whether `.git` stays.
    pub keeps_git_directory: bool,
    /// Whether submodules are left out.
    pub skips_submodules: bool,
    /// A header for the server.
    pub authorization: Option<String>,
    /// The socket of an agent.
    pub agent: Option<std::path::PathBuf>,
}

impl Checkout {
    /// Reads a source `git://host/path[#ref[:directory]]`.
    pub fn of(source: &SourceOp) -> Self {
        let attribute = |name: &str| source.attributes.get(name).cloned();
        let is_set = |name: &str| attribute(name).is_some_and(|value| value == "true");
        let (address, fragment) = source
            .identifier
            .split_once('#')
            .unwrap_or((&source.identifier, ""));
        let (reference, subdirectory) = fragment.split_once(':').unwrap_or((fragment, ""));
        let full_url = attribute("git.fullurl").unwrap_or_else(|| address.to_owned());
        Self {
            url: full_url.split('#').next().unwrap_or_default().to_owned(),
            reference: reference.to_owned(),
            checksum: attribute("git.checksum").unwrap_or_default(),
            subdirectory: subdirectory.trim_matches('/').to_owned(),
            keeps_git_directory: is_set("git.keepgitdir"),
            skips_submodules: is_set("git.skipsubmodules"),
            authorization: None,
            agent: None,
        }
    }

    fn key(&self, commit: &str) -> Digest {
        let parts = json!({
            "commit": commit,
            // The directory holds the names of branches.
            "git": self.keeps_git_directory.then_some([&self.url, &self.reference]),
            "subdirectory": self.subdirectory,
            "skips_submodules": self.skips_submodules,
        });
        cache::key_of("git", &parts)
    }

    fn whole_commit(&self) -> Option<&str> {
        [self.checksum.as_str(), self.reference.as_str()]
            .into_iter()
            .find(|text| is_whole_commit(text))
    }
}

/// Returns the key of a source whose commit is named in advance.
pub(super) fn known_key(source: &SourceOp) -> Option<Digest> {
    let checkout = Checkout::of(source);
    let commit = checkout.whole_commit()?;
    Some(checkout.key(commit))
}

fn is_whole_commit(text: &str) -> bool {
    COMMIT_CHARS.contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

impl Solver<'_> {
    /// Brings in a repository's files.
    pub(super) fn clone_repository(
        &self,
        id: VertexId,
        source: &SourceOp,
    ) -> Result<(Outcome, Snapshot), BuildError> {
        let mut checkout = Checkout::of(source);
        checkout.authorization = self.authorization(source);
        let takes_agent = source.attributes.contains_key("git.mountsshsock");
        if takes_agent {
            checkout.agent = self.input.options.ssh.get("default").cloned();
        }
        let commit = match checkout.whole_commit() {
            Some(commit) => commit.to_owned(),
            None => find_commit(&checkout)?,
        };
        if !commit.starts_with(&checkout.checksum) {
            return Err(BuildError::Source {
                message: format!(
                    "expected checksum to match {}, got {commit}",
                    checkout.checksum
                ),
            });
        }
        let key = checkout.key(&commit);
        self.with_node(id, |node| node.key = Some(key));
        self.find_or_make(id, key, || {
            let staging = check_out(self.store, &checkout, &commit)?;
            Ok(Some(PendingLayer::new(self.store.place_layer(staging)?)))
        })
    }

    fn authorization(&self, source: &SourceOp) -> Option<String> {
        let secret = |attribute: &str| {
            let id = source.attributes.get(attribute)?;
            let secret = self.input.options.secrets.get(id)?;
            Some(String::from_utf8_lossy(secret.bytes()).trim().to_owned())
        };
        secret("git.authheadersecret").or_else(|| {
            let token = secret("git.authtokensecret")?;
            use base64::Engine as _;
            let encoded =
                base64::engine::general_purpose::STANDARD.encode(format!("x-access-token:{token}"));
            Some(format!("basic {encoded}"))
        })
    }
}

/// Asks the server which commit a reference is.
fn find_commit(checkout: &Checkout) -> Result<String, BuildError> {
    let wanted = if checkout.reference.is_empty() {
        "HEAD"
    } else {
        &checkout.reference
    };
    let output = git(
        None,
        checkout,
        &[
            "ls-remote",
            "--",
            &checkout.url,
            wanted,
            &format!("{wanted}^{{}}"),
        ],
    )?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    best_commit(&text, wanted).ok_or_else(|| BuildError::Source {
        message: format!(
            "repository {} has no branch, tag or commit {wanted}",
            checkout.url
        ),
    })
}

/// Picks the commit of a name among the lines of `git ls-remote`: the commit of an annotated tag before the tag,
/// a branch or tag before other refs that end the same.
fn best_commit(text: &str, wanted: &str) -> Option<String> {
    let lines: Vec<(&str, &str)> = text
        .lines()
        .filter_map(|line| line.split_once('\t'))
        .collect();
    let names = [
        format!("refs/tags/{wanted}^{{}}"),
        format!("refs/heads/{wanted}"),
        format!("refs/tags/{wanted}"),
        wanted.to_owned(),
    ];
    let find = |name: &String| lines.iter().find(|(_, found)| found == name);
    let (commit, _) = names.iter().find_map(find)?;
    is_whole_commit(commit).then(|| (*commit).to_owned())
}

/// Brings the files of a commit to a staging directory.
pub(super) fn check_out(
    store: &wharf_store::Store,
    checkout: &Checkout,
    commit: &str,
) -> Result<Staging, BuildError> {
    let staging = store.stage()?;
    let directory = staging.files();
    git(Some(&directory), checkout, &["init", "-q"])?;
    let fetch = |what: &str, depth: &[&str]| {
        let mut arguments = vec!["fetch", "-q"];
        arguments.extend(depth);
        arguments.extend(["--", &checkout.url, what]);
        git(Some(&directory), checkout, &arguments)
    };
    // Not every server gives out a commit by its name, or a part of the history.
    let shallow = fetch(commit, &["--depth=1"]);
    let by_name = || {
        let reference = if checkout.reference.is_empty() {
            "HEAD"
        } else {
            &checkout.reference
        };
        fetch(reference, &[])
    };
    shallow.or_else(|_| by_name())?;
    git(
        Some(&directory),
        checkout,
        &["checkout", "-q", "--detach", commit],
    )?;
    if !checkout.skips_submodules && staging.root().exists(".gitmodules")? {
        let update = [
            "submodule",
            "update",
            "-q",
            "--init",
            "--recursive",
            "--depth=1",
        ];
        git(Some(&directory), checkout, &update)?;
    }
    if !checkout.keeps_git_directory {
        remove_git_directories(staging.root())?;
    }
    if checkout.subdirectory.is_empty() {
        return Ok(staging);
    }
    take_subdirectory(store, &staging, &checkout.subdirectory)
}

/// Removes `.git` here and in the submodules.
fn remove_git_directories(root: &Root) -> Result<(), BuildError> {
    root.remove_all(".git")?;
    let modules = match root.read(".gitmodules", 1 << 20) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(_) => return Ok(()),
    };
    for line in modules.lines() {
        if let Some(path) = line.trim().strip_prefix("path = ") {
            root.remove_all(Path::new(path).join(".git"))?;
        }
    }
    Ok(())
}

fn take_subdirectory(
    store: &wharf_store::Store,
    staging: &Staging,
    subdirectory: &str,
) -> Result<Staging, BuildError> {
    let found = staging.root().lstat_optional(subdirectory)?;
    if !found.is_some_and(|found| found.is_dir()) {
        return Err(BuildError::Source {
            message: format!("the repository has no directory {subdirectory}"),
        });
    }
    let part = staging.root().open_dir_nofollow(subdirectory)?;
    let taken = store.stage()?;
    for entry in part.entries()? {
        part.rename_to(&entry.name, taken.root(), &entry.name)?;
    }
    Ok(taken)
}

fn git(
    directory: Option<&Path>,
    checkout: &Checkout,
    arguments: &[&str],
) -> Result<Output, BuildError> {
    let mut command = Command::new("git");
    command
        .args(["-c", "protocol.ext.allow=never", "-c", "core.hooksPath=/dev/null"])
        .args(arguments)
        .env_clear()
        .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .env("HOME", "/nonexistent")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("GIT_ALLOW_PROTOCOL", PROTOCOLS)
        .env("GIT_SSH_COMMAND", "ssh -o BatchMode=yes -o StrictHostKeyChecking=accept-new -o UserKnownHostsFile=/dev/null")
        .stdin(Stdio::null());
    if let Some(directory) = directory {
        command.current_dir(directory);
    }
    if let Some(agent) = &checkout.agent {
        command.env("SSH_AUTH_SOCK", agent);
    }
    if let Some(header) = &checkout.authorization {
        // By the environment: the command line is everybody's to read.
        command
            .env("GIT_CONFIG_COUNT", "1")
            .env("GIT_CONFIG_KEY_0", "http.extraHeader")
            .env("GIT_CONFIG_VALUE_0", format!("Authorization: {header}"));
    }
    let output = command.output().map_err(|error| {
        let message = if error.kind() == std::io::ErrorKind::NotFound {
            format!(
                "cannot bring in {}: the program git is not installed",
                checkout.url
            )
        } else {
            format!("cannot run git: {error}")
        };
        BuildError::Source { message }
    })?;
    if output.status.success() {
        return Ok(output);
    }
    let told = output.stderr.get(..SHOWN_BYTES).unwrap_or(&output.stderr);
    Err(BuildError::Source {
        message: format!(
            "git {} of {} failed: {}",
            arguments.first().unwrap_or(&""),
            checkout.url,
            String::from_utf8_lossy(told).trim()
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::{Checkout, best_commit, known_key};
    use wharf_llb::SourceOp;

    fn source(identifier: &str, attributes: &[(&str, &str)]) -> SourceOp {
        SourceOp {
            identifier: identifier.to_owned(),
            attributes: attributes
                .iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect(),
        }
    }

    #[test]
    fn sources() {
        let full = source(
            "git://a/b.git#main:sub/dir",
            &[
                ("git.fullurl", "https://a/b.git"),
                ("git.keepgitdir", "true"),
            ],
        );
        let checkout = Checkout::of(&full);
        assert_eq!(checkout.url, "https://a/b.git");
        assert_eq!(
            (checkout.reference.as_str(), checkout.subdirectory.as_str()),
            ("main", "sub/dir")
        );
        assert!(checkout.keeps_git_directory);
        assert_eq!(known_key(&full), None);
        let commit = "0123456789abcdef0123456789abcdef01234567";
        assert!(known_key(&source(&format!("git://a/b#{commit}"), &[])).is_some());
    }

    #[test]
    fn branches_and_tags() {
        let line = |digit: &str, name: &str| format!("{}\t{name}\n", digit.repeat(40));
        let text = [
            line("1", "refs/heads/x/main"),
            line("2", "refs/tags/main"),
            line("3", "refs/heads/main"),
        ]
        .concat();
        assert_eq!(best_commit(&text, "main"), Some("3".repeat(40)));
        let annotated = line("4", "refs/tags/v1") + &line("5", "refs/tags/v1^{}");
        assert_eq!(best_commit(&annotated, "v1"), Some("5".repeat(40)));
        assert_eq!(best_commit("", "v1"), None);
    }
}
