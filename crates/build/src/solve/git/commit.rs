//! Which commit a name is, and when it was made.

use std::path::Path;

use wharf_safefs::Timestamp;

use super::checkout::{Checkout, is_whole_commit};
use super::command::git;
use crate::BuildError;

/// Asks the server which commit a reference is.
pub(super) fn find_commit(checkout: &Checkout) -> Result<String, BuildError> {
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

/// Returns when a commit was made.
pub(super) fn commit_time(
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

#[cfg(test)]
mod tests {
    use super::best_commit;

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
