//! Files from addresses (spec llb §2.2, §4.1).

use std::io::{Read, Write};

use serde_json::json;
use wharf_image::{Digest, Hasher};
use wharf_llb::{SourceOp, VertexId};
use wharf_safefs::{FsError, Timestamp};
use wharf_store::Staging;

use super::Solver;
use super::node::Outcome;
use super::snapshot::{PendingLayer, Snapshot};
use crate::cache;
use crate::{BuildError, FetchRequest, Fetched};

/// Most bytes that are taken from one address.
const MAX_DOWNLOAD_BYTES: u64 = 64 << 30;
/// Mode of files from addresses.
const DOWNLOAD_MODE: u32 = 0o600;
const COPY_BUFFER_BYTES: usize = 128 << 10;
/// Kind of the documents that say what an address held last.
const KIND: &str = "build-http";
const DEFAULT_NAME: &str = "download";

/// Returns the key of a source whose content is named in advance.
pub(super) fn known_key(source: &SourceOp) -> Option<Digest> {
    let checksum = source.attributes.get("http.checksum")?;
    Some(content_key(source, &checksum.parse().ok()?))
}

/// The content and how the file looks count, not where it comes from.
fn content_key(source: &SourceOp, content: &Digest) -> Digest {
    let attribute = |name: &str| source.attributes.get(name);
    let parts = json!({
        "name": file_name(source),
        "perm": attribute("http.perm"),
        "uid": attribute("http.uid"),
        "gid": attribute("http.gid"),
        "content": content,
    });
    cache::key_of("http", &parts)
}

fn file_name(source: &SourceOp) -> String {
    if let Some(name) = source.attributes.get("http.filename") {
        return name.clone();
    }
    let url = &source.identifier;
    let path = url.split(['?', '#']).next().unwrap_or_default();
    let path = path.split_once("://").map_or(path, |(_, rest)| rest);
    match path.rsplit_once('/') {
        Some((_, name)) if !name.is_empty() => name.to_owned(),
        _ => DEFAULT_NAME.to_owned(),
    }
}

impl Solver<'_> {
    /// Brings in a file, asking the server first whether it is the one of last time.
    pub(super) fn fetch(
        &self,
        id: VertexId,
        source: &SourceOp,
        url: &str,
    ) -> Result<(Outcome, Snapshot), BuildError> {
        if let Some(key) = known_key(source)
            && self.may_hit(id)
            && let Some(hit) = cache::find(self.store, &self.lease, &key, None)?
        {
            return Ok((Outcome::Cached, super::lookup::from_hit(&hit, 0)));
        }
        let headers = self.headers(source)?;
        let document_key = Digest::of(format!("{url}\0{headers:?}")).hex();
        let known = self.store.document(KIND, &document_key)?;
        let known_content: Option<Digest> = known
            .as_ref()
            .and_then(|known| known["content"].as_str()?.parse().ok());
        let hit = match &known_content {
            Some(content) if self.may_hit(id) => {
                let key = content_key(source, content);
                cache::find(self.store, &self.lease, &key, None)?.map(|hit| (key, hit))
            }
            _ => None,
        };
        let etag = known
            .as_ref()
            .and_then(|known| known["etag"].as_str())
            .filter(|_| hit.is_some());
        let request = FetchRequest {
            url: url.to_owned(),
            headers,
            etag: etag.map(str::to_owned),
        };
        let fetched = self.host.fetch(&request).map_err(BuildError::Host)?;
        if fetched.is_unchanged
            && let Some((key, hit)) = hit
        {
            self.with_node(id, |node| node.key = Some(key));
            return Ok((Outcome::Cached, super::lookup::from_hit(&hit, 0)));
        }
        let etag = fetched.etag.clone();
        let staging = self.store.stage()?;
        let content = self.download(source, url, fetched, &staging)?;
        if let Some(etag) = etag {
            let document = json!({ "etag": etag, "content": content });
            self.store.put_document(KIND, &document_key, &document)?;
        }
        let key = content_key(source, &content);
        self.with_node(id, |node| node.key = Some(key));
        self.find_or_make(id, key, || {
            Ok(Some(PendingLayer::new(self.store.place_layer(staging)?)))
        })
    }

    fn headers(&self, source: &SourceOp) -> Result<Vec<(String, String)>, BuildError> {
        let mut headers: Vec<(String, String)> = source
            .attributes
            .iter()
            .filter_map(|(name, value)| {
                Some((name.strip_prefix("http.header.")?.to_owned(), value.clone()))
            })
            .collect();
        if let Some(id) = source.attributes.get("http.authheadersecret") {
            let secret = self.input.options.secrets.get(id);
            let secret = secret.ok_or_else(|| super::exec::no_secret(id))?;
            let value = String::from_utf8_lossy(secret.bytes()).trim().to_owned();
            headers.push(("Authorization".to_owned(), value));
        }
        Ok(headers)
    }

    fn download(
        &self,
        source: &SourceOp,
        url: &str,
        fetched: Fetched,
        staging: &Staging,
    ) -> Result<Digest, BuildError> {
        let name = file_name(source);
        if name.contains('/') || matches!(name.as_str(), "" | "." | "..") {
            return Err(BuildError::Source {
                message: format!("{name:?} cannot be the name of a file"),
            });
        }
        let number = |attribute: &str, radix: u32| {
            let text = source.attributes.get(attribute)?;
            u32::from_str_radix(text, radix).ok()
        };
        let root = staging.root();
        let mode = number("http.perm", 8).unwrap_or(DOWNLOAD_MODE);
        let mut file = root.create_file(&name, mode & 0o7777)?;
        let content = self.receive(url, fetched.body, &mut file, &name)?;
        drop(file);
        if let Some(expected) = source.attributes.get("http.checksum")
            && *expected != content.to_string()
        {
            return Err(BuildError::Source {
                message: format!("digest mismatch of {url}: expected {expected}, found {content}"),
            });
        }
        if let (uid @ Some(_), gid) | (uid, gid @ Some(_)) =
            (number("http.uid", 10), number("http.gid", 10))
        {
            root.chown(&name, uid.unwrap_or(0), gid.unwrap_or(0))?;
        }
        let time = fetched.last_modified.unwrap_or(Timestamp::from_seconds(0));
        root.set_times(&name, time, time)?;
        root.set_times("", time, time)?;
        Ok(content)
    }

    fn receive(
        &self,
        url: &str,
        body: Box<dyn Read + Send>,
        file: &mut std::fs::File,
        name: &str,
    ) -> Result<Digest, BuildError> {
        let mut body = body.take(MAX_DOWNLOAD_BYTES + 1);
        let mut buffer = vec![0; COPY_BUFFER_BYTES];
        let mut hasher = Hasher::new();
        let mut total = 0;
        loop {
            self.check_stopped()?;
            let count = match body.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    return Err(BuildError::Source {
                        message: format!("cannot fetch {url}: {error}"),
                    });
                }
            };
            total += count as u64;
            let bytes = buffer.get(..count).unwrap_or_default();
            hasher.update(bytes);
            file.write_all(bytes)
                .map_err(|error| FsError::io("write", name, error))?;
        }
        if total > MAX_DOWNLOAD_BYTES {
            return Err(BuildError::Source {
                message: format!("{url} has more than {MAX_DOWNLOAD_BYTES} bytes"),
            });
        }
        Ok(hasher.finish())
    }
}

#[cfg(test)]
mod tests {
    use super::{content_key, file_name, known_key};
    use wharf_image::Digest;
    use wharf_llb::SourceOp;

    fn source(url: &str, attributes: &[(&str, &str)]) -> SourceOp {
        SourceOp {
            identifier: url.to_owned(),
            attributes: attributes
                .iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect(),
        }
    }

    #[test]
    fn names() {
        for (url, expected) in [
            ("https://a/b/c.txt?x=1", "c.txt"),
            ("https://a/b/", "download"),
            ("https://a", "download"),
        ] {
            assert_eq!(file_name(&source(url, &[])), expected, "{url}");
        }
        assert_eq!(
            file_name(&source("https://a/b", &[("http.filename", "n")])),
            "n"
        );
    }

    #[test]
    fn keys_are_of_the_content() {
        let content = Digest::of("x");
        let (one, other) = (source("https://a/f", &[]), source("https://b/f", &[]));
        assert_eq!(content_key(&one, &content), content_key(&other, &content));
        assert_eq!(known_key(&one), None);
        let named = source("https://a/f", &[("http.checksum", &content.to_string())]);
        assert_eq!(known_key(&named), Some(content_key(&one, &content)));
        let private = source("https://a/f", &[("http.perm", "644")]);
        assert_ne!(content_key(&one, &content), content_key(&private, &content));
    }
}
