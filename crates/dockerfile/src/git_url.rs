//! Addresses of git repositories, as ADD and build contexts name them.
//!
//! A reference is a URL (`https://host/path.git`, `ssh://…`, `git://…`), an scp-like address
//! (`user@host:path`) or, of old, `github.com/path`. A fragment `#ref:subdir` or a query (`?branch=`, `tag=`,
//! `ref=`, `subdir=`, `checksum=` or `commit=`, `keep-git-dir=`, `submodules=`, `mtime=`, `fetch-by-commit=`)
//! says what of the repository is meant (spec llb §7.4).

/// What of which repository is meant.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GitUrl {
    /// The repository's address without fragment and query.
    pub remote: String,
    /// The last part of the address without `.git`; may be empty.
    pub short_name: String,
    /// Branch, tag or commit; empty means the default branch.
    pub reference: String,
    /// The commit that must be found, or the beginning of its name; empty for any.
    pub checksum: String,
    /// Directory of the repository; empty means all of it.
    pub subdirectory: String,
    /// Whether a local directory could have this name (`github.com/…` without a scheme).
    pub could_be_local: bool,
    /// Whether the transport is neither encrypted nor authenticated.
    pub is_unencrypted: bool,
    /// Whether `.git` stays; `None` where the address does not say.
    pub keep_git_dir: Option<bool>,
    /// Whether submodules are fetched; `None` where the address does not say.
    pub submodules: Option<bool>,
    /// `checkout` or `commit`: which time files get; empty where the address does not say.
    pub modified_time: String,
    /// Whether the commit itself is asked for instead of a branch that holds it.
    pub fetch_by_commit: bool,
}

/// Why an address is no repository's, or a repository's with a mistake.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GitUrlError {
    /// A path, or an `http` address that does not end in `.git`.
    #[error("invalid argument")]
    NotGit,
    /// No scheme, and not of the form `user@host:path`.
    #[error("unknown protocol")]
    UnknownProtocol,
    /// A scheme that git sources do not have.
    #[error("{0}: invalid protocol")]
    InvalidProtocol(String),
    /// A port that is no number.
    #[error("parse {address:?}: invalid port {port:?} after host")]
    InvalidPort {
        /// The address without its fragment.
        address: String,
        /// The port with its colon.
        port: String,
    },
    /// A repository's address whose query or fragment makes no sense.
    #[error("{0}")]
    Query(String),
}

impl GitUrlError {
    /// Says whether the address is a repository's all the same.
    #[must_use]
    pub fn is_git(&self) -> bool {
        matches!(self, Self::Query(_))
    }
}

/// Parses an address.
///
/// # Errors
/// What is no repository's address ([`GitUrlError::is_git`] is false), or a repository's with a mistake.
pub fn parse_git_url(text: &str) -> Result<GitUrl, GitUrlError> {
    let split = split(text)?;
    let mut url = GitUrl {
        short_name: short_name(&split.remote),
        remote: split.remote,
        could_be_local: split.could_be_local,
        is_unencrypted: split.is_unencrypted,
        ..GitUrl::default()
    };
    let (reference, subdirectory) = split
        .fragment
        .split_once(':')
        .unwrap_or((&split.fragment, ""));
    url.reference = reference.to_owned();
    url.subdirectory = clean_subdirectory(subdirectory);
    url.read_query(&split.query)?;
    Ok(url)
}

/// An address in its parts.
struct Split {
    remote: String,
    query: String,
    fragment: String,
    could_be_local: bool,
    is_unencrypted: bool,
}

fn split(text: &str) -> Result<Split, GitUrlError> {
    if text.starts_with("./") || text.starts_with("../") {
        return Err(GitUrlError::NotGit);
    }
    let (rest, fragment) = text.split_once('#').unwrap_or((text, ""));
    let (base, query) = rest.split_once('?').unwrap_or((rest, ""));
    let parts = |remote: String, could_be_local, is_unencrypted| Split {
        remote,
        query: query.to_owned(),
        fragment: fragment.to_owned(),
        could_be_local,
        is_unencrypted,
    };
    if text.starts_with("github.com/") {
        return Ok(parts(base.to_owned(), true, false));
    }
    if let Some((scheme, address)) = scheme(base) {
        if !["http", "https", "git", "ssh"].contains(&scheme.as_str()) {
            return Err(GitUrlError::InvalidProtocol(scheme));
        }
        check_port(rest, address)?;
        let is_web = scheme.starts_with("http");
        if is_web && !(address.ends_with(".git") && address.contains('/')) {
            return Err(GitUrlError::NotGit);
        }
        let is_unencrypted = scheme == "http" || scheme == "git";
        return Ok(parts(
            format!("{scheme}://{address}"),
            false,
            is_unencrypted,
        ));
    }
    if is_scp_like(base) {
        return Ok(parts(base.to_owned(), false, false));
    }
    Err(GitUrlError::UnknownProtocol)
}

/// Returns the scheme in lower case and what follows `://`.
fn scheme(base: &str) -> Option<(String, &str)> {
    let (scheme, address) = base.split_once("://")?;
    let is_scheme = !scheme.is_empty() && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric());
    is_scheme.then(|| (scheme.to_ascii_lowercase(), address))
}

fn check_port(whole: &str, address: &str) -> Result<(), GitUrlError> {
    let authority = address.split('/').next().unwrap_or_default();
    let host = authority.rsplit('@').next().unwrap_or_default();
    let after_brackets = host.rsplit(']').next().unwrap_or_default();
    match after_brackets.split_once(':') {
        Some((_, port)) if !port.bytes().all(|byte| byte.is_ascii_digit()) => {
            Err(GitUrlError::InvalidPort {
                address: whole.to_owned(),
                port: format!(":{port}"),
            })
        }
        _ => Ok(()),
    }
}

/// Recognises `user@host:path`.
fn is_scp_like(base: &str) -> bool {
    let Some((user, (host, _))) = base
        .split_once('@')
        .and_then(|(user, rest)| Some((user, rest.split_once(':')?)))
    else {
        return false;
    };
    let is_word = |text: &str, also: &[u8]| {
        !text.is_empty()
            && text
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || also.contains(&byte))
    };
    is_word(user, b"-_") && is_word(host, b"-.")
}

fn short_name(remote: &str) -> String {
    let last = remote.rsplit('/').next().unwrap_or_default();
    last.strip_suffix(".git").unwrap_or(last).to_owned()
}

/// Makes a directory relative to the repository's root, whatever `..` it has.
fn clean_subdirectory(text: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in text.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}

impl GitUrl {
    fn read_query(&mut self, query: &str) -> Result<(), GitUrlError> {
        let (mut branch, mut tag) = (String::new(), String::new());
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = percent_decoded(value);
            match key {
                "ref" => self.set_reference("ref", value)?,
                "branch" => branch = value,
                "tag" => tag = value,
                "subdir" => self.set_subdirectory(&value)?,
                "checksum" | "commit" => self.checksum = value,
                "keep-git-dir" => self.keep_git_dir = Some(boolean(key, &value)?),
                "submodules" => self.submodules = Some(boolean(key, &value)?),
                "fetch-by-commit" => self.fetch_by_commit = boolean(key, &value)?,
                "mtime" if value == "checkout" || value == "commit" => self.modified_time = value,
                "mtime" => {
                    return Err(GitUrlError::Query(format!(
                        "invalid mtime value: {value:?} (must be \"checkout\" or \"commit\")"
                    )));
                }
                _ => return Err(GitUrlError::Query(format!("unexpected query {key:?}"))),
            }
        }
        if !branch.is_empty() && !tag.is_empty() {
            return Err(GitUrlError::Query("branch conflicts with tag".to_owned()));
        }
        if !tag.is_empty() {
            self.set_reference("tag", format!("refs/tags/{tag}"))?;
        }
        if !branch.is_empty() {
            self.set_reference("branch", format!("refs/heads/{branch}"))?;
        }
        Ok(())
    }

    fn set_reference(&mut self, key: &str, value: String) -> Result<(), GitUrlError> {
        if !self.reference.is_empty() && self.reference != value {
            return Err(GitUrlError::Query(format!(
                "{key} conflicts: {:?} vs {value:?}",
                self.reference
            )));
        }
        self.reference = value;
        Ok(())
    }

    fn set_subdirectory(&mut self, value: &str) -> Result<(), GitUrlError> {
        let value = clean_subdirectory(value);
        if !self.subdirectory.is_empty() && self.subdirectory != value {
            return Err(GitUrlError::Query(format!(
                "subdir conflicts: {:?} vs {value:?}",
                self.subdirectory
            )));
        }
        self.subdirectory = value;
        Ok(())
    }
}

fn boolean(key: &str, value: &str) -> Result<bool, GitUrlError> {
    match value {
        "" | "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(GitUrlError::Query(format!(
            "invalid {key} value: {value:?}"
        ))),
    }
}

/// Decodes `%XX` and `+`; what is no such code stays as it is.
fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let code = after
            .get(..2)
            .and_then(|digits| std::str::from_utf8(digits).ok());
        match (
            first,
            code.and_then(|digits| u8::from_str_radix(digits, 16).ok()),
        ) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &after[2..];
                continue;
            }
            (b'+', _) => bytes.push(b' '),
            _ => bytes.push(first),
        }
        rest = after;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
