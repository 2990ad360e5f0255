//! Builds as wharf's own client asks for them: with secrets and agents, followed step by step, and asked about later.
//!
//! The body of `POST /wharf/build` is a length of four bytes (big-endian), a JSON document of that length, and the
//! context as a tar where the document's query names no other.

use super::{build, build_answer};
use crate::call::Call;
use crate::query::Query;
use crate::respond::{self, Answer, Failure};
use crate::{body, spool};
use base64::Engine as _;
use bytes::{Bytes, BytesMut};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use tokio::sync::mpsc::{self, Receiver};
use wharf_engine::model::request::Build;
use wharf_engine::{CacheDirectory, CacheMount, ContextSource, NamedSource, Question, Secret};

/// Bytes of the document's length.
const LENGTH_BYTES: usize = 4;
/// Most bytes of the document; secrets are in it.
const MAX_DOCUMENT_BYTES: usize = 16 << 20;
/// Chunks of the context that wait for the disk.
const CHUNKS: usize = 16;

/// What a build is asked for besides docker's parameters.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    /// Docker's parameters of `POST /build`.
    query: String,
    /// Secrets by ID, base64.
    #[serde(default)]
    secrets: BTreeMap<String, String>,
    /// The socket of an SSH agent, or files of keys, by ID.
    #[serde(default)]
    ssh: BTreeMap<String, Vec<PathBuf>>,
    /// Steps that run at once; 0 for a number that suits the processors.
    #[serde(default)]
    parallel: usize,
    /// Tells the builds of one project from others'.
    #[serde(default)]
    project: String,
    /// Sets times later than `SOURCE_DATE_EPOCH` to that.
    #[serde(default)]
    rewrite_timestamp: bool,
    /// What names stand for: directories of this machine, and what is to be found.
    #[serde(default)]
    contexts: BTreeMap<String, NamedContext>,
    /// What RUN may ask for besides the usual (`network.host`, `security.insecure`).
    #[serde(default)]
    allow: Vec<String>,
    /// Stages whose steps run again, by name.
    #[serde(default)]
    no_cache_filter: Vec<String>,
    /// What is asked about the Dockerfile instead of building it.
    #[serde(default)]
    call: Option<DocumentQuestion>,
    /// Directories of this machine with caches of others.
    #[serde(default)]
    cache_directories: Vec<CacheSource>,
    /// Whether the image holds what its steps led to.
    #[serde(default)]
    inline_cache: bool,
    /// Most processes of a step.
    #[serde(default)]
    pids_limit: Option<i64>,
    /// Whether the client takes the result out and says when it is done with it.
    #[serde(default)]
    takes_out: bool,
    /// Whether the image is not to stay then.
    #[serde(default)]
    drops_image: bool,
}

/// A cache in the form of an OCI layout.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CacheSource {
    /// An absolute path.
    directory: String,
    /// Name of the manifest; empty for the usual one.
    #[serde(default)]
    tag: String,
    /// Digest of the manifest; empty where the tag counts.
    #[serde(default)]
    digest: String,
}

/// One named context.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum NamedContext {
    /// An absolute path.
    Directory(String),
    /// `docker-image://NAME` and the like.
    Reference(String),
}

/// What can be asked about a Dockerfile.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum DocumentQuestion {
    Check,
    Outline,
    Targets,
}

impl From<DocumentQuestion> for Question {
    fn from(question: DocumentQuestion) -> Self {
        match question {
            DocumentQuestion::Check => Self::Check,
            DocumentQuestion::Outline => Self::Outline,
            DocumentQuestion::Targets => Self::Targets,
        }
    }
}

/// The entitlement that lets RUN be confined by nothing.
const INSECURE: &str = "security.insecure";
/// The entitlement that lets RUN have the host's network.
const HOST_NETWORK: &str = "network.host";

/// `POST /wharf/build`
pub(crate) async fn build(mut call: Call) -> Answer {
    let mut chunks = body::into_stream(call.body.take());
    let (document, rest) = read_document(&mut chunks).await?;
    call.query = Query::parse(&document.query)?;
    build::check_builder(&call.query)?;
    let mut request = build::build_request(&call)?;
    if !document.ssh.is_empty() && call.peer.caller.is_none() {
        return Err(Failure::bad_request(
            "an ssh agent can only be used from the same machine",
        ));
    }
    let options = &mut request.options;
    options.trace = true;
    options.parallel = document.parallel;
    options.rewrite_timestamp = document.rewrite_timestamp;
    options.ssh = document.ssh;
    options.no_cache_stages = document.no_cache_filter;
    if !document.project.is_empty() {
        options.project = document.project;
    }
    let is_allowed = |name: &str| document.allow.iter().any(|allowed| allowed == name);
    options.allow_insecure = is_allowed(INSECURE);
    options.allow_host_network = is_allowed(HOST_NETWORK);
    options.inline_cache = document.inline_cache;
    options.takes_out = document.takes_out;
    options.drops_image = document.drops_image;
    for cache in document.cache_directories {
        options.cache_directories.push(CacheDirectory {
            path: build::local_directory(&cache.directory, &call.peer)?,
            tag: cache.tag,
            digest: cache.digest,
        });
    }
    for (name, context) in document.contexts {
        let source = match context {
            NamedContext::Directory(path) => {
                let directory = build::local_directory(&path, &call.peer)?;
                NamedSource::Files(ContextSource::Directory(directory))
            }
            NamedContext::Reference(text) => NamedSource::Reference(text),
        };
        options.contexts.insert(name, source);
    }
    for (id, value) in document.secrets {
        let bytes = base64::engine::general_purpose::STANDARD
            .decode(value)
            .map_err(|error| Failure::bad_request(format!("secret {id}: {error}")))?;
        options.secrets.insert(id, Secret::new(bytes));
    }
    request.resources.pids_limit = document.pids_limit;
    let chunks = with_beginning(rest, chunks);
    match document.call {
        None => build::start(call, request, chunks).await,
        Some(question) => answer(call, request, chunks, question.into()).await,
    }
}

/// Answers a question about the Dockerfile with the document that docker's builder has for it.
async fn answer(
    call: Call,
    request: Build,
    chunks: Receiver<io::Result<Bytes>>,
    question: Question,
) -> Answer {
    let (request, spooled) = build::receive_context(&call, request, chunks).await?;
    let answer = call.engine.ask_build(request, question).await?;
    drop(spooled);
    respond::json(&build_answer::Document::of(&answer))
}

/// Reads the document; returns what came behind it.
async fn read_document(
    chunks: &mut Receiver<io::Result<Bytes>>,
) -> Result<(Document, Bytes), Failure> {
    let mut received = BytesMut::new();
    loop {
        if let Some(length) = received.first_chunk::<LENGTH_BYTES>() {
            let length = u32::from_be_bytes(*length) as usize;
            if length > MAX_DOCUMENT_BYTES {
                return Err(Failure::bad_request(format!(
                    "the build's document has {length} bytes, at most {MAX_DOCUMENT_BYTES} are accepted"
                )));
            }
            if let Some(text) = received.get(LENGTH_BYTES..LENGTH_BYTES + length) {
                let document = serde_json::from_slice(text).map_err(|error| {
                    Failure::bad_request(format!("the build's document is malformed: {error}"))
                })?;
                let rest = received.split_off(LENGTH_BYTES + length);
                return Ok((document, rest.freeze()));
            }
        }
        match chunks.recv().await {
            Some(Ok(chunk)) => received.extend_from_slice(&chunk),
            Some(Err(error)) => {
                return Err(Failure::bad_request(format!(
                    "reading the request body: {error}"
                )));
            }
            None => {
                return Err(Failure::bad_request(
                    "the request ends within the build's document",
                ));
            }
        }
    }
}

fn with_beginning(
    first: Bytes,
    mut chunks: Receiver<io::Result<Bytes>>,
) -> Receiver<io::Result<Bytes>> {
    let (sender, receiver) = mpsc::channel(CHUNKS);
    tokio::spawn(async move {
        if !first.is_empty() && sender.send(Ok(first)).await.is_err() {
            return;
        }
        while let Some(chunk) = chunks.recv().await {
            if sender.send(chunk).await.is_err() {
                return;
            }
        }
    });
    receiver
}

/// `GET /wharf/builds`
pub(crate) async fn list(call: Call) -> Answer {
    respond::json(&call.engine.builds().await?)
}

/// `GET /wharf/build/record`
pub(crate) async fn record(call: Call) -> Answer {
    respond::json(&call.engine.find_build(call.query.text("build")).await?)
}

/// `POST /wharf/build/release`
pub(crate) async fn release(call: Call) -> Answer {
    call.engine.release_build(call.query.text("build")).await?;
    respond::no_content()
}

/// `GET /wharf/build/logs`
pub(crate) async fn logs(call: Call) -> Answer {
    let step = match call.query.text("step") {
        "" => None,
        text => Some(text.parse().map_err(|_| {
            Failure::bad_request(format!("invalid step {text:?}: expected a number"))
        })?),
    };
    let logs = call
        .engine
        .build_logs(call.query.text("build"), step)
        .await?;
    let told: Vec<Value> = logs
        .into_iter()
        .map(|(step, log)| json!({ "step": step, "log": String::from_utf8_lossy(&log) }))
        .collect();
    respond::json(&told)
}

/// `GET /wharf/build/cache`
pub(crate) async fn export_cache(call: Call) -> Answer {
    let all = match call.query.text("mode") {
        "" | "min" => false,
        "max" => true,
        other => {
            return Err(Failure::bad_request(format!(
                "invalid mode {other:?}: expected min or max"
            )));
        }
    };
    let tag = match call.query.text("tag") {
        "" => "latest",
        tag => tag,
    };
    let tar = call
        .engine
        .export_build_cache(call.query.text("build"), all, tag)
        .await?;
    Ok(respond::stream(respond::TAR, tar))
}

/// `GET /wharf/build/failed`
pub(crate) async fn failed(call: Call) -> Answer {
    let failed = call.engine.failed_step(call.query.text("build")).await?;
    respond::json(&json!({ "step": failed.step, "caches": failed.caches }))
}

fn mount_json((mount, bytes): (CacheMount, u64)) -> Value {
    json!({ "mount": mount, "disk_bytes": bytes })
}

/// `GET /wharf/cache-mounts`
pub(crate) async fn cache_mounts(call: Call) -> Answer {
    match call.query.text("id") {
        "" => {
            let mounts = call.engine.cache_mounts().await?;
            respond::json(&mounts.into_iter().map(mount_json).collect::<Vec<_>>())
        }
        id => respond::json(&mount_json(call.engine.find_cache_mount(id).await?)),
    }
}

/// `DELETE /wharf/cache-mounts`
pub(crate) async fn remove_cache_mount(call: Call) -> Answer {
    let bytes = call
        .engine
        .remove_cache_mount(call.query.text("id"))
        .await?;
    respond::json(&json!({ "freed_bytes": bytes }))
}

/// `GET /wharf/cache-mounts/archive`
pub(crate) async fn export_cache_mount(call: Call) -> Answer {
    let tar = call
        .engine
        .export_cache_mount(call.query.text("id"))
        .await?;
    Ok(respond::stream(respond::TAR, tar))
}

/// `PUT /wharf/cache-mounts/archive`
pub(crate) async fn import_cache_mount(mut call: Call) -> Answer {
    let id = call.query.text("id").to_owned();
    if id.is_empty() {
        return Err(Failure::bad_request("a cache mount needs an id"));
    }
    let file = spool::receive(&call.engine.spool_dir(), call.body.take()).await?;
    let mount = call
        .engine
        .import_cache_mount(&id, file.path().to_owned())
        .await?;
    respond::json(&mount)
}

/// `GET /wharf/images/{name}/files`
pub(crate) async fn image_files(call: Call) -> Answer {
    let tar = call.engine.image_files(&call.name).await?;
    Ok(respond::stream(respond::TAR, tar))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(pieces: &[&[u8]]) -> Result<(String, Bytes), String> {
        let (sender, mut receiver) = mpsc::channel(CHUNKS);
        for piece in pieces {
            let piece = Bytes::copy_from_slice(piece);
            sender.send(Ok(piece)).await.expect("there is room");
        }
        drop(sender);
        let read = read_document(&mut receiver).await;
        read.map(|(document, rest)| (document.query, rest))
            .map_err(|failure| failure.message().to_owned())
    }

    #[tokio::test]
    async fn documents_come_in_any_pieces() {
        let text = br#"{"query":"t=a"}"#;
        let mut whole = (text.len() as u32).to_be_bytes().to_vec();
        whole.extend_from_slice(text);
        whole.extend_from_slice(b"tar");
        let (query, rest) = read(&[&whole]).await.expect("a document");
        assert_eq!((query.as_str(), &rest[..]), ("t=a", &b"tar"[..]));
        let (query, rest) = read(&[&whole[..3], &whole[3..10], &whole[10..19]])
            .await
            .expect("a document");
        assert_eq!((query.as_str(), rest.len()), ("t=a", 0));
        assert!(
            read(&[&whole[..12]])
                .await
                .expect_err("cut")
                .contains("ends within")
        );
        let long = (MAX_DOCUMENT_BYTES as u32 + 1).to_be_bytes();
        assert!(read(&[&long]).await.expect_err("long").contains("at most"));
        let bad = [0, 0, 0, 1, b'x'];
        assert!(read(&[&bad]).await.expect_err("bad").contains("malformed"));
    }
}
