//! Addresses of repositories.

use serde_json::json;
use wharf_dockerfile::parse_git_url;

use super::verdict;
use crate::areas::text;
use crate::{Document, Vector, Verdict};

/// Checks how an address of a repository is read.
pub(in crate::areas) fn git_url(vector: &Vector, _: &Document) -> Verdict {
    let found = match parse_git_url(text(&vector.input, "ref")) {
        Err(error) => json!({"error": error.to_string(), "is_git": error.is_git()}),
        Ok(url) => json!({"is_git": true, "ref": {
            "Remote": url.remote,
            "ShortName": url.short_name,
            "Ref": url.reference,
            "Checksum": url.checksum,
            "SubDir": url.subdirectory,
            "IndistinguishableFromLocal": url.could_be_local,
            "UnencryptedTCP": url.is_unencrypted,
            "KeepGitDir": url.keep_git_dir,
            "Submodules": url.submodules,
            "MTime": url.modified_time,
            "FetchByCommit": url.fetch_by_commit,
        }}),
    };
    verdict(&found, &vector.expected)
}
