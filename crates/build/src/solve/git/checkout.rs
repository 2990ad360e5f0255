//! What is taken of a repository, as a source of a graph says it.

use std::path::PathBuf;

use serde_json::json;
use wharf_image::Digest;
use wharf_llb::SourceOp;

use super::commit::find_commit;
use crate::BuildError;
use crate::cache;

/// Hexadecimal characters of a whole commit.
const COMMIT_CHARS: [usize; 2] = [40, 64];

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

    /// Returns the key of what is taken of a commit.
    pub(super) fn key(&self, commit: &str) -> Digest {
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
    pub(super) fn commit(&self) -> Result<String, BuildError> {
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
pub(in crate::solve) fn known_key(source: &SourceOp) -> Option<Digest> {
    let checkout = Checkout::of(source);
    let commit = checkout.whole_commit()?;
    Some(checkout.key(commit))
}

/// Says whether a text is the whole name of a commit.
pub(super) fn is_whole_commit(text: &str) -> bool {
    COMMIT_CHARS.contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::{Checkout, known_key};
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
}
