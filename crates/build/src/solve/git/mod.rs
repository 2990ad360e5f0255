//! Repositories, by the `git` program of this machine (spec llb §2.2, §4.1).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::json;
use wharf_image::Digest;
use wharf_llb::{SourceOp, VertexId};
use wharf_safefs::{Caller, Root, Timestamp, trusted};
use wharf_store::{Staging, Store};

use super::Solver;
use super::agent::{Agent, no_agent};
use super::node::Outcome;
use super::snapshot::{PendingLayer, Snapshot};
use crate::cache;
use crate::{BuildError, BuildRequest, Secret, SolveOptions};

/// Protocols that git may use: nothing that runs a program or reads files of this machine.
const PROTOCOLS: &str = "git:http:https:ssh";
/// The build argument that keeps `.git` in a build context that is a repository.
const KEEP_GIT_DIR_ARG: &str = "BUILDKIT_CONTEXT_KEEP_GIT_DIR";
/// Hexadecimal characters of a whole commit.
const COMMIT_CHARS: [usize; 2] = [40, 64];
/// Bytes of what git says that are shown.
const SHOWN_BYTES: usize = 2_000;
/// Owner, group and permissions of a socket for wharf alone.
const OWN_SOCKET: (u32, u32, u32) = (0, 0, 0o600);
/// Name of the file with the servers' keys.
const KNOWN_HOSTS: &str = "known_hosts";

/// What is taken of a repository.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Checkout {
    /// Where it is.
    pub url: String,
    /// Branch, tag, ref or commit; empty for its head.
    pub reference: String,
    /// The commit that it has to be, or its beginning.
    pub checksum: String,
    /// Whether the commit is asked for by `checksum`, whatever the reference leads to by now.
    pub fetches_by_commit: bool,
    /// The directory that is taken; empty for all.
    pub subdirectory: String,
    /// Whether `.git` stays.
    pub keeps_git_directory: bool,
    /// Whether submodules are left out.
    pub skips_submodules: bool,
    /// A header for the server.
    pub authorization: Option<String>,
    /// The socket of an agent.
    pub agent: Option<PathBuf>,
    /// The file with the keys of the servers that may be talked to by SSH; none to take what they say.
    pub known_hosts: Option<PathBuf>,
    /// Whether files get the commit's time instead of that of the checkout.
    pub has_commit_time: bool,
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
            fetches_by_commit: is_set("git.fetchbycommit"),
            authorization: None,
            agent: None,
            known_hosts: None,
            has_commit_time: attribute("git.mtime").as_deref() == Some("commit"),
        }
    }

    fn key(&self, commit: &str) -> Digest {
        let parts = json!({
            "commit": commit,
            // The directory holds the names of branches.
            "git": self.keeps_git_directory.then_some([&self.url, &self.reference]),
            "subdirectory": self.subdirectory,
            "skips_submodules": self.skips_submodules,
            "has_commit_time": self.has_commit_time.then_some(true),
        });
        cache::key_of("git", &parts)
    }

    /// Returns the commit where no server has to be asked for it.
    fn whole_commit(&self) -> Option<&str> {
        let by_checksum = Some(self.checksum.as_str()).filter(|_| self.fetches_by_commit);
        [Some(self.reference.as_str()), by_checksum]
            .into_iter()
            .flatten()
            .find(|text| is_whole_commit(text))
    }

    /// Finds the commit out, and whether it is the wanted one.
    fn commit(&self) -> Result<String, BuildError> {
        let commit = match self.whole_commit() {
            Some(commit) => commit.to_owned(),
            None => find_commit(self)?,
        };
        if commit.starts_with(&self.checksum) {
            return Ok(commit);
        }
        Err(BuildError::Source {
            message: format!("expected checksum to match {}, got {commit}", self.checksum),
        })
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
        let prepared = prepared(self.store, source, &Means::of(self.input.options))?;
        let checkout = &prepared.checkout;
        let commit = checkout.commit()?;
        let key = checkout.key(&commit);
        self.with_node(id, |node| node.key = Some(key));
        self.find_or_make(id, key, || {
            let staging = check_out(self.store, checkout, &commit)?;
            Ok(Some(PendingLayer::new(self.store.place_layer(staging)?)))
        })
    }
}

/// What the request brings for getting at repositories.
pub(crate) struct Means<'a> {
    /// Secrets by ID.
    pub secrets: &'a BTreeMap<String, Secret>,
    /// Sockets of agents, or files of keys, by ID.
    pub ssh: &'a BTreeMap<String, Vec<PathBuf>>,
    /// Who asks.
    pub caller: Option<&'a Caller>,
    /// Whether a build context keeps its `.git`, where the address does not say.
    pub keep_git_dir: Option<bool>,
}

impl<'a> Means<'a> {
    /// Returns what a solve was given.
    pub fn of(options: &'a SolveOptions) -> Self {
        Self {
            secrets: &options.secrets,
            ssh: &options.ssh,
            caller: options.caller.as_ref(),
            keep_git_dir: None,
        }
    }

    /// Returns what a request brings.
    pub fn of_request(request: &'a BuildRequest) -> Self {
        let keeps = request.build_args.get(KEEP_GIT_DIR_ARG).cloned().flatten();
        Self {
            secrets: &request.secrets,
            ssh: &request.ssh,
            caller: request.caller.as_ref(),
            keep_git_dir: keeps
                .map(|value| matches!(value.as_str(), "1" | "true" | "True" | "TRUE" | "t" | "T")),
        }
    }

    fn authorization(&self, source: &SourceOp) -> Option<String> {
        let secret = |attribute: &str| {
            let id = source.attributes.get(attribute)?;
            let secret = self.secrets.get(id)?;
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

/// Checks a repository out to a directory of its own, for a build context.
///
/// # Errors
/// Servers that cannot be reached, references that do not exist.
pub(crate) fn bring(
    store: &Store,
    source: &SourceOp,
    means: &Means<'_>,
) -> Result<Staging, BuildError> {
    let prepared = prepared(store, source, means)?;
    let commit = prepared.checkout.commit()?;
    check_out(store, &prepared.checkout, &commit)
}

/// Returns when the commit that a source leads to was made, in seconds since 1970.
///
/// # Errors
/// Servers that cannot be reached, references that do not exist.
pub(crate) fn commit_seconds(
    store: &Store,
    source: &SourceOp,
    means: &Means<'_>,
) -> Result<i64, BuildError> {
    let prepared = prepared(store, source, means)?;
    let checkout = &prepared.checkout;
    let commit = checkout.commit()?;
    let staging = store.stage()?;
    fetch(&staging.files(), checkout, &commit)?;
    Ok(commit_time(&staging.files(), checkout, &commit)?.seconds)
}

/// A checkout with what it needs of this machine, which is gone when this is dropped.
struct Prepared {
    checkout: Checkout,
    _agent: Option<Agent>,
    _known_hosts: Option<Staging>,
}

fn prepared(store: &Store, source: &SourceOp, means: &Means<'_>) -> Result<Prepared, BuildError> {
    let mut checkout = Checkout::of(source);
    checkout.authorization = means.authorization(source);
    let mut agent = None;
    if let Some(id) = source.attributes.get("git.mountsshsock") {
        let given = means.ssh.get(id).ok_or_else(|| no_agent(id))?;
        let started = Agent::start(store, given, means.caller, OWN_SOCKET)?;
        checkout.agent = Some(started.path().to_path_buf());
        agent = Some(started);
    }
    let mut known_hosts = None;
    if let Some(hosts) = source.attributes.get("git.knownsshhosts") {
        let staging = store.stage()?;
        let file = staging.path().join(KNOWN_HOSTS);
        trusted::write_atomic(&file, hosts.as_bytes(), 0o600, false)?;
        checkout.known_hosts = Some(file);
        known_hosts = Some(staging);
    }
    Ok(Prepared {
        checkout,
        _agent: agent,
        _known_hosts: known_hosts,
    })
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

/// Brings a commit to a repository of its own in an empty directory.
fn fetch(directory: &Path, checkout: &Checkout, commit: &str) -> Result<(), BuildError> {
    git(Some(directory), checkout, &["init", "-q"])?;
    let fetch = |what: &str, depth: &[&str]| {
        let mut arguments = vec!["fetch", "-q"];
        arguments.extend(depth);
        arguments.extend(["--", &checkout.url, what]);
        git(Some(directory), checkout, &arguments)
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
    Ok(())
}

/// Brings the files of a commit to a staging directory.
pub(super) fn check_out(
    store: &wharf_store::Store,
    checkout: &Checkout,
    commit: &str,
) -> Result<Staging, BuildError> {
    let staging = store.stage()?;
    let directory = staging.files();
    fetch(&directory, checkout, commit)?;
    git(
        Some(&directory),
        checkout,
        &["checkout", "-q", "--detach", commit],
    )?;
    // Submodules may have addresses relative to it.
    let remote = ["remote", "add", "--", "origin", &checkout.url];
    git(Some(&directory), checkout, &remote)?;
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
    let time = if checkout.has_commit_time {
        Some(commit_time(&directory, checkout, commit)?)
    } else {
        None
    };
    if checkout.keeps_git_directory {
        let address = without_credentials(&checkout.url);
        let remote = ["remote", "set-url", "--", "origin", &address];
        git(Some(&directory), checkout, &remote)?;
    } else {
        remove_git_directories(staging.root())?;
    }
    if let Some(time) = time {
        set_times(staging.root(), Path::new(""), time)?;
    }
    if checkout.subdirectory.is_empty() {
        return Ok(staging);
    }
    take_subdirectory(store, &staging, &checkout.subdirectory)
}

/// Returns an address without the user and password of HTTP: what is kept of a repository is for everybody to read.
fn without_credentials(url: &str) -> String {
    let is_http = url.starts_with("http://") || url.starts_with("https://");
    match url.split_once("://") {
        Some((scheme, rest)) if is_http => {
            let end = rest.find('/').unwrap_or(rest.len());
            let (host, path) = rest.split_at(end);
            let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
            format!("{scheme}://{host}{path}")
        }
        _ => url.to_owned(),
    }
}

/// Returns when a commit was made.
fn commit_time(
    directory: &Path,
    checkout: &Checkout,
    commit: &str,
) -> Result<Timestamp, BuildError> {
    let asked = ["show", "-s", "--format=%ct", commit];
    let output = git(Some(directory), checkout, &asked)?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    match text.parse() {
        Ok(seconds) => Ok(Timestamp::from_seconds(seconds)),
        Err(_) => Err(BuildError::Source {
            message: format!("commit {commit} of {} has no time: {text:?}", checkout.url),
        }),
    }
}

/// Sets the times of all files below a path and of itself.
fn set_times(root: &Root, path: &Path, time: Timestamp) -> Result<(), BuildError> {
    for entry in root.read_dir(path)? {
        let inner = path.join(&entry.name);
        if root.lstat(&inner)?.is_dir() {
            set_times(root, &inner, time)?;
        } else {
            root.set_times(&inner, time, time)?;
        }
    }
    root.set_times(path, time, time)?;
    Ok(())
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
        .args([
            "-c",
            "protocol.ext.allow=never",
            "-c",
            "core.hooksPath=/dev/null",
        ])
        .args(arguments)
        .env_clear()
        .env(
            "PATH",
            "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        )
        .env("HOME", "/nonexistent")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("GIT_ALLOW_PROTOCOL", PROTOCOLS)
        .env("GIT_SSH_COMMAND", ssh_command(checkout))
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

/// Returns how git calls SSH: servers have to be known where the request says which are.
fn ssh_command(checkout: &Checkout) -> String {
    let hosts = match &checkout.known_hosts {
        None => "-o StrictHostKeyChecking=accept-new -o UserKnownHostsFile=/dev/null".to_owned(),
        Some(file) => format!(
            "-o StrictHostKeyChecking=yes -o UserKnownHostsFile='{}'",
            file.display()
        ),
    };
    format!("ssh -F /dev/null -o BatchMode=yes {hosts}")
}

#[cfg(test)]
mod tests {
    use super::{Checkout, best_commit, known_key, without_credentials};
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
    fn addresses_without_credentials() {
        for (url, expected) in [
            ("https://u:p@host/r@1.git", "https://host/r@1.git"),
            ("http://t@host:8080/r.git", "http://host:8080/r.git"),
            ("https://host/r.git", "https://host/r.git"),
            ("ssh://git@host/r.git", "ssh://git@host/r.git"),
            ("git@host:r.git", "git@host:r.git"),
        ] {
            assert_eq!(without_credentials(url), expected);
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
