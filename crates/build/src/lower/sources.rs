//! What ADD fetches: addresses and repositories (spec llb §2.2, §7.4).

use std::collections::BTreeMap;

use wharf_dockerfile::{GitUrl, Location, parse_git_url};
use wharf_image::Platform;
use wharf_llb::{Edge, Metadata, Op, SourceOp};

use super::Lowering;
use super::contexts::OCI_LAYOUT;
use crate::solve::image_key;
use crate::{BaseImage, BuildError};

/// Name of a file whose address ends in none.
const UNNAMED: &str = "__unnamed__";

impl Lowering<'_, '_> {
    /// Returns the files of an image.
    pub(super) fn image_vertex(
        &mut self,
        name: &str,
        base: &BaseImage,
        platform: &Platform,
        metadata: Metadata,
    ) -> Edge {
        let identifier = format!("docker-image://{}", super::bases::canonical(name, base));
        self.image_source(identifier, base, platform, metadata)
    }

    /// Returns the files of an image in a directory.
    pub(super) fn layout_vertex(
        &mut self,
        name: &str,
        base: &BaseImage,
        platform: &Platform,
        metadata: Metadata,
    ) -> Edge {
        let place = name.split('@').next().unwrap_or(name);
        let digest = base.digest.unwrap_or(base.id);
        let identifier = format!("{OCI_LAYOUT}{place}@{digest}");
        self.image_source(identifier, base, platform, metadata)
    }

    fn image_source(
        &mut self,
        identifier: String,
        base: &BaseImage,
        platform: &Platform,
        metadata: Metadata,
    ) -> Edge {
        let key = image_key(&identifier, Some(platform));
        self.images.insert(key, base.clone());
        let source = SourceOp {
            identifier,
            attributes: BTreeMap::new(),
        };
        let platform = Some(platform.clone());
        let vertex = self
            .graph
            .add(Op::Source(source), Vec::new(), platform, metadata);
        Edge { vertex, output: 0 }
    }

    /// Returns what an address leads to, and the file's name in it.
    pub(super) fn http_vertex(
        &mut self,
        url: &str,
        checksum: Option<&str>,
        metadata: Metadata,
    ) -> (Edge, String) {
        let file_name = url_file_name(url);
        let source = http_source(url, checksum);
        let vertex = self
            .graph
            .add(Op::Source(source), Vec::new(), None, metadata);
        (Edge { vertex, output: 0 }, file_name)
    }

    /// Returns the files of a repository.
    pub(super) fn git_vertex(
        &mut self,
        text: &str,
        (keep_git_dir, checksum): (Option<bool>, Option<&str>),
        metadata: Metadata,
        at: &Location,
    ) -> Result<Edge, BuildError> {
        let url = parse_git_url(text).map_err(|error| self.mistake(at, error.to_string()))?;
        let source = git_source(&url, keep_git_dir, checksum);
        let vertex = self
            .graph
            .add(Op::Source(source), Vec::new(), None, metadata);
        Ok(Edge { vertex, output: 0 })
    }
}

/// Returns how an address is asked for.
pub(super) fn http_source(url: &str, checksum: Option<&str>) -> SourceOp {
    let mut attributes = BTreeMap::from([("http.filename".to_owned(), url_file_name(url))]);
    if let Some(checksum) = checksum {
        attributes.insert("http.checksum".to_owned(), checksum.to_owned());
    }
    SourceOp {
        identifier: url.to_owned(),
        attributes,
    }
}

/// Returns how a repository is asked for.
pub(crate) fn git_source(
    url: &GitUrl,
    keep_git_dir: Option<bool>,
    checksum: Option<&str>,
) -> SourceOp {
    let checksum = checksum.unwrap_or(&url.checksum).to_owned();
    let mut attributes = BTreeMap::from([("git.fullurl".to_owned(), url.remote.clone())]);
    let mut set = |key: &str, value: &str| {
        attributes.insert(format!("git.{key}"), value.to_owned());
    };
    // They are named whatever the protocol is.
    set("authheadersecret", "GIT_AUTH_HEADER");
    set("authtokensecret", "GIT_AUTH_TOKEN");
    // BuildKit's client asks the host for its key here and adds `git.knownsshhosts`; lowering asks nobody.
    if is_ssh(&url.remote) {
        set("mountsshsock", "default");
    }
    if keep_git_dir.or(url.keep_git_dir) == Some(true) {
        set("keepgitdir", "true");
    }
    if !checksum.is_empty() {
        set("checksum", &checksum);
    }
    if url.submodules == Some(false) {
        set("skipsubmodules", "true");
    }
    if url.fetch_by_commit {
        set("fetchbycommit", "true");
    }
    if !url.modified_time.is_empty() {
        set("mtime", &url.modified_time);
    }
    SourceOp {
        identifier: git_identifier(url),
        attributes,
    }
}

fn is_ssh(remote: &str) -> bool {
    remote.starts_with("ssh://") || !remote.contains("://")
}

fn git_identifier(url: &GitUrl) -> String {
    let place = match url.remote.split_once("://") {
        Some((_, rest)) => rest.to_owned(),
        None => url.remote.replacen(':', "/", 1),
    };
    let place = place
        .split_once('@')
        .map_or(place.as_str(), |(user, rest)| {
            if user.contains('/') {
                place.as_str()
            } else {
                rest
            }
        });
    let mut identifier = format!("git://{place}");
    if !url.reference.is_empty() || !url.subdirectory.is_empty() {
        identifier.push_str(&format!("#{}", url.reference));
    }
    if !url.subdirectory.is_empty() {
        identifier.push_str(&format!(":{}", url.subdirectory));
    }
    identifier
}

/// Says whether ADD takes a source for an address.
pub(super) fn is_address(source: &str) -> bool {
    source.starts_with("http://") || source.starts_with("https://")
}

/// Says whether ADD takes a source for a repository.
pub(super) fn is_git(source: &str) -> bool {
    match parse_git_url(source) {
        Ok(url) => !url.could_be_local,
        Err(error) => error.is_git(),
    }
}

fn url_file_name(url: &str) -> String {
    let path = url.split(['?', '#']).next().unwrap_or_default();
    let after_scheme = path.split_once("://").map_or(path, |(_, rest)| rest);
    let name = after_scheme
        .split_once('/')
        .and_then(|(_, path)| path.trim_end_matches('/').rsplit('/').next());
    match name {
        Some(name) if !name.is_empty() && name != "." && name != ".." => name.to_owned(),
        _ => UNNAMED.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::{git_identifier, is_git, url_file_name};

    #[test]
    fn addresses() {
        for (url, name) in [
            ("https://e.com/a/b.tgz?x#y", "b.tgz"),
            ("https://e.com/a/", "a"),
            ("https://e.com/", "__unnamed__"),
            ("https://e.com", "__unnamed__"),
            ("https://e.com/a/..", "__unnamed__"),
        ] {
            assert_eq!(url_file_name(url), name, "{url}");
        }
        assert!(is_git("https://github.com/a/b.git#main"));
        assert!(is_git("git@github.com:a/b"));
        assert!(!is_git("https://e.com/x.tgz"));
    }

    #[test]
    fn identifiers() {
        for (url, expected) in [
            (
                "https://github.com/a/b.git#v1:sub",
                "git://github.com/a/b.git#v1:sub",
            ),
            ("git@github.com:a/b.git", "git://github.com/a/b.git"),
        ] {
            let url = wharf_dockerfile::parse_git_url(url).unwrap();
            assert_eq!(git_identifier(&url), expected);
        }
    }
}
