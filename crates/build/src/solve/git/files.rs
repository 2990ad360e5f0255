//! The files of a commit, brought to a directory of their own.

use std::path::Path;

use wharf_safefs::{Root, Timestamp};
use wharf_store::Staging;

use super::checkout::Checkout;
use super::command::git;
use super::commit::commit_time;
use crate::BuildError;

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

/// Brings a commit to a repository of its own in an empty directory.
pub(super) fn fetch(directory: &Path, checkout: &Checkout, commit: &str) -> Result<(), BuildError> {
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

/// Moves one directory of a checkout to a staging directory of its own.
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

#[cfg(test)]
mod tests {
    use super::without_credentials;

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
}
