//! Builds: the build room's steps with this engine's images, network and runtime.

mod cache_archive;
mod cancel;
mod claims;
mod emulation;
mod fetch;
pub(crate) mod groups;
mod host;
mod lines;
pub(crate) mod mounts;
mod records;

pub use cancel::CancellableBuild;
pub(crate) use cancel::RunningBuilds;
pub(crate) use claims::ImageClaims;
pub use records::FailedStepView;

use crate::engine::{Engine, blocking};
use crate::error::{EngineError, ErrorKind, Result};
use crate::image::naming;
use crate::model::request::{Build, BuildContext};
use crate::model::view::{Progress, ProgressSender};
use host::BuildHost;
use lines::Lines;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use wharf_build::{Answer, BuildError, BuildRequest, ContextSource, Question};
use wharf_image::{ImageId, Reference};

/// Hexadecimal characters of a build's name.
const BUILD_NAME_CHARS: usize = 12;

/// Shortest time between two looks at how much builds keep.
const BUDGET_INTERVAL_S: i64 = 60;

/// Cancels a build when its future is dropped (the client went away).
struct CancelOnDrop(Arc<AtomicBool>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

impl Engine {
    /// Builds an image and names it; messages are docker's classic build lines (spec engine-api §10).
    ///
    /// Dropping the future cancels the build.
    ///
    /// # Errors
    /// Dockerfile mistakes and failing steps; nothing of a failed build is kept but its cached steps.
    pub async fn build(
        self: &Arc<Self>,
        request: Build,
        progress: ProgressSender,
    ) -> Result<ImageId> {
        let names = parse_names(&request.tags)?;
        let cancelled = Arc::new(AtomicBool::new(false));
        let _cancel_on_drop = CancelOnDrop(Arc::clone(&cancelled));
        let context = self.context(&request).await?;
        let (quiet, takes_out) = (request.quiet, request.options.takes_out);
        let build = new_build_name()?;
        let name = build.clone();
        let host = BuildHost::new(
            Arc::clone(self),
            &request,
            cancelled,
            progress.clone(),
            &build,
        );
        let engine = Arc::clone(self);
        let (id, claim) = {
            let progress = progress.clone();
            blocking(move || {
                let trace = request.options.trace;
                let build = build_request(request, context, build);
                let mut lines = Lines::new(progress, quiet, build.remove_said, trace);
                let built =
                    wharf_build::build(&engine.store, &host, &build.request, &mut |event| {
                        lines.event(event)
                    });
                lines.finish(built.is_ok());
                let built = built.map_err(build_error)?;
                Ok((built.image, host.take_claim()))
            })
            .await?
        };
        self.keep_budget();
        let say = |text: String| {
            let _client_gone = progress.send(Progress::Stream(text));
        };
        if quiet {
            say(format!("{id}\n"));
        } else {
            say(format!("Successfully built {}\n", id.short()));
        }
        let mut tagged = Ok(());
        for name in names {
            tagged = self.tag_reference(&name, &id).await;
            if tagged.is_err() {
                break;
            }
            if !quiet {
                say(format!("Successfully tagged {}\n", name.familiar()));
            }
        }
        let is_left_to_client = takes_out && tagged.is_ok();
        blocking(move || {
            match claim {
                Some(claim) if is_left_to_client => claim.park(&name),
                claim => drop(claim),
            }
            Ok(())
        })
        .await?;
        tagged.map(|_| id)
    }

    /// Answers a question about a build's Dockerfile; nothing is built, and no base image pulled unless that is asked for.
    ///
    /// # Errors
    /// A context or Dockerfile that cannot be read; unless the question is what is wrong with it, mistakes in it.
    pub async fn ask_build(self: &Arc<Self>, request: Build, question: Question) -> Result<Answer> {
        let cancelled = Arc::new(AtomicBool::new(false));
        let _cancel_on_drop = CancelOnDrop(Arc::clone(&cancelled));
        let context = self.context(&request).await?;
        let name = new_build_name()?;
        // Nobody watches images being pulled.
        let (progress, _) = tokio::sync::mpsc::unbounded_channel();
        let host = BuildHost::new(Arc::clone(self), &request, cancelled, progress, &name);
        let engine = Arc::clone(self);
        blocking(move || {
            let build = build_request(request, context, name);
            wharf_build::ask(&engine.store, &host, &build.request, question).map_err(build_error)
        })
        .await
    }

    /// Removes what was not used for long once builds keep more than they may; in the background, and not too often.
    fn keep_budget(self: &Arc<Self>) {
        static LAST_S: AtomicI64 = AtomicI64::new(0);
        let now_s = crate::clock::now_ns() / 1_000_000_000;
        let last_s = LAST_S.load(Ordering::Relaxed);
        if now_s - last_s < BUDGET_INTERVAL_S
            || LAST_S
                .compare_exchange(last_s, now_s, Ordering::Relaxed, Ordering::Relaxed)
                .is_err()
        {
            return;
        }
        let engine = Arc::clone(self);
        tokio::task::spawn_blocking(move || {
            let limit = engine.options.cache_limit_bytes.unwrap_or_else(|| {
                let disk = rustix::fs::statvfs(engine.store.root());
                let bytes = disk.map_or(0, |disk| disk.f_blocks * disk.f_frsize);
                wharf_build::default_cache_limit(bytes)
            });
            // What cannot be removed now is tried again after a later build.
            let _tried_again = wharf_build::collect(&engine.store, limit);
        });
    }

    /// Brings the context to where the build room can read it.
    async fn context(self: &Arc<Self>, request: &Build) -> Result<OpenedContext> {
        match &request.context {
            BuildContext::Directory(path) => {
                Ok(OpenedContext::plain(ContextSource::Directory(path.clone())))
            }
            BuildContext::Tar(path) => Ok(OpenedContext::plain(ContextSource::Tar(path.clone()))),
            BuildContext::Dockerfile(bytes) => Ok(OpenedContext {
                source: ContextSource::Empty,
                dockerfile: Some(bytes.clone()),
                spooled: None,
            }),
            BuildContext::Remote(url) => self.remote_context(url).await,
        }
    }

    /// Fetches a remote context: plain text is a Dockerfile, everything else a tar.
    async fn remote_context(self: &Arc<Self>, url: &str) -> Result<OpenedContext> {
        match wharf_dockerfile::parse_git_url(url) {
            Ok(_) => return Ok(OpenedContext::plain(ContextSource::Git(url.to_owned()))),
            Err(error) if error.is_git() => {
                return Err(EngineError::invalid(format!(
                    "build context {url}: {error}"
                )));
            }
            Err(_) => {}
        }
        let mut body = crate::fetch::fetch(url).await?;
        let spool = self
            .spool_dir()
            .join(format!("context-{}", crate::identity::random_id()?));
        let mut file = wharf_safefs::trusted::create(&spool, 0o600).map_err(
            crate::container::create::fs_error("cannot store the context"),
        )?;
        let mut head = Vec::new();
        while let Some(chunk) = body.recv().await {
            let chunk = chunk.map_err(|e| {
                EngineError::wrap(ErrorKind::Invalid, format!("cannot fetch {url}"), e)
            })?;
            if head.len() < 1024 {
                head.extend_from_slice(chunk.get(..chunk.len().min(1024)).unwrap_or_default());
            }
            std::io::Write::write_all(&mut file, &chunk).map_err(|e| {
                EngineError::wrap(ErrorKind::Internal, "cannot store the context", e)
            })?;
        }
        if is_text(&head) {
            let bytes = wharf_safefs::trusted::read_limited(
                &spool,
                wharf_dockerfile::MAX_FILE_BYTES as u64,
            )
            .map_err(crate::container::create::fs_error(
                "cannot read the fetched Dockerfile",
            ))?;
            return Ok(OpenedContext {
                source: ContextSource::Empty,
                dockerfile: Some(bytes),
                spooled: Some(SpoolFile(spool)),
            });
        }
        Ok(OpenedContext {
            source: ContextSource::Tar(spool.clone()),
            dockerfile: None,
            spooled: Some(SpoolFile(spool)),
        })
    }
}

struct OpenedContext {
    source: ContextSource,
    dockerfile: Option<Vec<u8>>,
    spooled: Option<SpoolFile>,
}

impl OpenedContext {
    fn plain(source: ContextSource) -> Self {
        Self {
            source,
            dockerfile: None,
            spooled: None,
        }
    }
}

/// Removes a fetched context when the build is over.
struct SpoolFile(PathBuf);

impl Drop for SpoolFile {
    fn drop(&mut self) {
        let _swept_at_the_next_start = wharf_safefs::trusted::remove_all(&self.0);
    }
}

fn is_text(head: &[u8]) -> bool {
    !head.contains(&0)
        && !head.starts_with(&[0x1f, 0x8b])
        && std::str::from_utf8(head.get(..head.len().min(512)).unwrap_or_default()).is_ok()
}

fn parse_names(tags: &[String]) -> Result<Vec<Reference>> {
    let mut names: Vec<Reference> = Vec::new();
    for tag in tags.iter().filter(|tag| !tag.is_empty()) {
        let name = naming::parse_tag(tag, "")?;
        if !names.contains(&name) {
            names.push(name);
        }
    }
    Ok(names)
}

struct PreparedBuild {
    request: BuildRequest,
    remove_said: bool,
    _spooled: Option<SpoolFile>,
}

/// Returns a name that no other build has.
fn new_build_name() -> Result<String> {
    let mut name = crate::identity::random_id()?;
    name.truncate(BUILD_NAME_CHARS);
    Ok(name)
}

fn build_request(request: Build, context: OpenedContext, id: String) -> PreparedBuild {
    let options = request.options;
    let build = BuildRequest {
        context: context.source,
        dockerfile_name: request.dockerfile,
        dockerfile: request.dockerfile_inline.or(context.dockerfile),
        dockerfile_shown: request.dockerfile_shown,
        ignore_file: request.ignore_file_inline,
        build_args: request.build_args,
        labels: request.labels,
        target: request.target,
        no_cache: request.no_cache,
        no_cache_stages: options.no_cache_stages,
        pull: request.pull,
        platform: request.platform,
        squash: request.squash,
        cache_from: request.cache_from,
        cache_directories: options.cache_directories,
        inline_cache: options.inline_cache,
        network_mode: request.network_mode,
        id,
        project: options.project,
        names: request.tags,
        parallel: options.parallel,
        secrets: options.secrets,
        ssh: options.ssh,
        caller: options.caller,
        rewrite_timestamp: options.rewrite_timestamp,
        contexts: options.contexts,
        allow_insecure: options.allow_insecure,
        allow_host_network: options.allow_host_network,
    };
    PreparedBuild {
        request: build,
        remove_said: request.remove,
        _spooled: context.spooled,
    }
}

/// Turns the build room's error into the engine's, with the exit code of a failing step.
fn build_error(error: BuildError) -> EngineError {
    let code = error.exit_code();
    let text = error.to_string();
    // Docker's own status for it is 500.
    let no_dockerfile = matches!(error, BuildError::NoDockerfile { .. });
    let kind = if code.is_some() || error.is_users_fault() && !no_dockerfile {
        ErrorKind::Invalid
    } else {
        ErrorKind::Internal
    };
    EngineError::new(kind, text).with_exit_code(code)
}
