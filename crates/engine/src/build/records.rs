//! Builds of the past, what they wrote, and what they keep.

use crate::byte_stream::ByteStream;
use crate::container::create::store_error;
use crate::engine::Engine;
use crate::error::{EngineError, ErrorKind, Result};
use bytes::Bytes;
use std::io::{self, Write};
use std::sync::Arc;
use tokio::sync::mpsc;
use wharf_build::{BuildError, BuildRecord, CacheMount, FailedStep, StepRecord};
use wharf_layer::{PlainTarOptions, write_plain_tar};
use wharf_safefs::Root;
use wharf_store::{BuildPart, Lease};

/// Chunks of an archive that wait for the client.
const CHUNKS: usize = 8;
/// Bytes of a chunk.
const CHUNK_BYTES: usize = 256 << 10;

/// A step that failed, with the directories of its cache mounts.
#[derive(Debug, Clone)]
pub struct FailedStepView {
    /// The step.
    pub step: FailedStep,
    /// Directory and destination of each cache mount.
    pub caches: Vec<(String, String)>,
}

impl Engine {
    /// Returns the builds that are remembered, newest first.
    ///
    /// # Errors
    /// A store that cannot be read.
    pub async fn builds(self: &Arc<Self>) -> Result<Vec<BuildRecord>> {
        self.with_store(|engine| wharf_build::builds(&engine.store).map_err(refused))
            .await
    }

    /// Returns a build by the beginning of its name; the newest where it is empty.
    ///
    /// # Errors
    /// A name that no build has.
    pub async fn find_build(self: &Arc<Self>, name: &str) -> Result<BuildRecord> {
        let name = name.to_owned();
        self.with_store(move |engine| {
            wharf_build::find_build(&engine.store, &name).map_err(refused)
        })
        .await
    }

    /// Returns what the steps of a build wrote, or one of them by its number.
    ///
    /// # Errors
    /// A build or step that is not there.
    pub async fn build_logs(
        self: &Arc<Self>,
        name: &str,
        step: Option<usize>,
    ) -> Result<Vec<(StepRecord, Vec<u8>)>> {
        let name = name.to_owned();
        self.with_store(move |engine| {
            let build = wharf_build::find_build(&engine.store, &name).map_err(refused)?;
            let wanted = build
                .steps
                .iter()
                .filter(|record| step.is_none_or(|step| record.number == step));
            let mut logs = Vec::new();
            for record in wanted {
                let log = wharf_build::step_log(&engine.store, &build.id, &record.vertex);
                logs.push((record.clone(), log.map_err(refused)?));
            }
            match step {
                Some(step) if logs.is_empty() => Err(EngineError::not_found(format!(
                    "build {} has no step {step} that changes files",
                    build.id
                ))),
                _ => Ok(logs),
            }
        })
        .await
    }

    /// Returns the step of a build that failed, and where its cache mounts lie.
    ///
    /// # Errors
    /// A build that did not fail in a step, or whose files were pruned.
    pub async fn failed_step(self: &Arc<Self>, name: &str) -> Result<FailedStepView> {
        let name = name.to_owned();
        self.with_store(move |engine| {
            let build = wharf_build::find_build(&engine.store, &name).map_err(refused)?;
            let step = wharf_build::failed_step(&engine.store, &build.id).map_err(refused)?;
            let step = step.ok_or_else(|| {
                EngineError::not_found(format!("no step of build {} failed", build.id))
            })?;
            let mut caches = Vec::new();
            for (id, destination) in &step.caches {
                if let Ok((mount, _, _)) = wharf_build::find_cache_mount(&engine.store, id) {
                    let path = engine
                        .store
                        .build_dir(BuildPart::CacheMounts)
                        .join(&mount.name);
                    caches.push((path.to_string_lossy().into_owned(), destination.clone()));
                }
            }
            Ok(FailedStepView { step, caches })
        })
        .await
    }

    /// Returns the cache mounts with the bytes they take on disk.
    ///
    /// # Errors
    /// A store that cannot be read.
    pub async fn cache_mounts(self: &Arc<Self>) -> Result<Vec<(CacheMount, u64)>> {
        self.with_store(|engine| wharf_build::cache_mounts(&engine.store).map_err(refused))
            .await
    }

    /// Returns one cache mount by its ID or the beginning of its name.
    ///
    /// # Errors
    /// One that is not there.
    pub async fn find_cache_mount(self: &Arc<Self>, id: &str) -> Result<(CacheMount, u64)> {
        let id = id.to_owned();
        self.with_store(move |engine| {
            let (mount, bytes, _) =
                wharf_build::find_cache_mount(&engine.store, &id).map_err(refused)?;
            Ok((mount, bytes))
        })
        .await
    }

    /// Removes a cache mount; returns the bytes that come free.
    ///
    /// # Errors
    /// One that is not there, or in use.
    pub async fn remove_cache_mount(self: &Arc<Self>, id: &str) -> Result<u64> {
        let id = id.to_owned();
        self.with_store(move |engine| {
            let (mount, _, _) =
                wharf_build::find_cache_mount(&engine.store, &id).map_err(refused)?;
            wharf_build::remove_cache_mount(&engine.store, &mount).map_err(refused)
        })
        .await
    }

    /// Returns the content of a cache mount as a tar.
    ///
    /// # Errors
    /// One that is not there.
    pub async fn export_cache_mount(self: &Arc<Self>, id: &str) -> Result<ByteStream> {
        let id = id.to_owned();
        let root = self
            .with_store(move |engine| {
                let found = wharf_build::find_cache_mount(&engine.store, &id);
                found.map(|(_, _, root)| root).map_err(refused)
            })
            .await?;
        Ok(tar_of(root, None))
    }

    /// Replaces the content of a cache mount by an archive's; makes the cache mount where there is none.
    ///
    /// # Errors
    /// An archive that cannot be read; a cache mount in use.
    pub async fn import_cache_mount(
        self: &Arc<Self>,
        id: &str,
        archive: std::path::PathBuf,
    ) -> Result<CacheMount> {
        let id = id.to_owned();
        self.with_store(move |engine| {
            let mut file = wharf_safefs::trusted::open(&archive)
                .map_err(|error| refused(BuildError::from(error)))?;
            wharf_build::import_cache_mount(&engine.store, &id, &mut file).map_err(refused)
        })
        .await
    }

    /// Returns the merged files of an image as a plain tar.
    ///
    /// # Errors
    /// An image that is not there.
    pub async fn image_files(self: &Arc<Self>, name: &str) -> Result<ByteStream> {
        let name = name.to_owned();
        let opened = self
            .with_store(move |engine| {
                let image = engine.find_image(&name)?;
                let lease = engine
                    .store
                    .lease("the files of an image")
                    .map_err(store_error("cannot keep the image"))?;
                let held = lease
                    .hold_image(&image.id)
                    .map_err(store_error("cannot keep the image"))?;
                if held.is_none() {
                    return Err(crate::image::find::no_such_image(&name));
                }
                let diff_ids = &image.config.rootfs.diff_ids;
                if diff_ids.is_empty() {
                    return Ok(None);
                }
                let lower_dirs = engine
                    .store
                    .layer_dirs(diff_ids)
                    .map_err(store_error("cannot find the image's layers"))?;
                let mount = wharf_runtime::RootMount::Overlay {
                    lower_dirs,
                    upper: None,
                    work: None,
                    volatile: false,
                };
                let fd = wharf_runtime::mount_detached(&mount, true).map_err(
                    crate::container::runtime_error("cannot mount the image's layers"),
                )?;
                Ok(Some((Root::from_fd(fd), lease)))
            })
            .await?;
        Ok(opened.map_or_else(tar_of_nothing, |(root, lease)| tar_of(root, Some(lease))))
    }
}

/// Writes a tree as a tar for whoever reads it; its layers stay until that is done.
fn tar_of(root: Root, lease: Option<Lease>) -> ByteStream {
    let (sender, receiver) = mpsc::channel(CHUNKS);
    tokio::task::spawn_blocking(move || {
        let mut out = ChunkWriter {
            sender: sender.clone(),
            buffer: Vec::with_capacity(CHUNK_BYTES),
        };
        let options = PlainTarOptions::default();
        let written = write_plain_tar(&root, "".as_ref(), &mut out, &options)
            .map_err(io::Error::other)
            .and_then(|_| out.flush());
        if let Err(error) = written {
            // A client that went away needs no error.
            let _client_gone = sender.blocking_send(Err(error));
        }
        // The mount goes before what it shows.
        drop(root);
        drop(lease);
    });
    receiver
}

/// Returns a tar without entries: its end alone.
fn tar_of_nothing() -> ByteStream {
    let (sender, receiver) = mpsc::channel(1);
    // There is room for one, and nobody has closed it.
    let _sent = sender.try_send(Ok(Bytes::from_static(&[0; 1024])));
    receiver
}

/// Passes bytes on in chunks.
struct ChunkWriter {
    sender: mpsc::Sender<io::Result<Bytes>>,
    buffer: Vec<u8>,
}

impl Write for ChunkWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= CHUNK_BYTES {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let chunk = Bytes::from(std::mem::take(&mut self.buffer));
        self.sender
            .blocking_send(Ok(chunk))
            .map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))
    }
}

fn refused(error: BuildError) -> EngineError {
    let text = error.to_string();
    let kind = if text.starts_with("no such") || text.starts_with("nothing was built") {
        ErrorKind::NotFound
    } else if error.is_users_fault() {
        ErrorKind::Invalid
    } else {
        ErrorKind::Internal
    };
    EngineError::new(kind, text)
}
