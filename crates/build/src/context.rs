//! The build context: where it lies, its Dockerfile, and what its ignore file leaves out.

use std::io::BufReader;
use std::path::{Path, PathBuf};

use wharf_dockerfile::{IgnoreFile, MAX_FILE_BYTES, ignore, nearest};
use wharf_layer::{ExtractOptions, decompress, extract};
use wharf_safefs::{Caller, Root, trusted};
use wharf_store::{Staging, Store};

use crate::content::Reading;
use crate::lower::git_source;
use crate::solve::{Means, bring};
use crate::stat_cache::StatCache;
use crate::{BuildError, BuildRequest, ContextSource};

/// The name of the main build context.
pub(crate) const MAIN_CONTEXT: &str = "context";
/// The file in the context where the request names none.
const DEFAULT_DOCKERFILE: &str = "Dockerfile";
/// How an ignore file that comes beside the context is named.
const BESIDE_DOCKERFILE: &str = "the Dockerfile's .dockerignore";
/// Names that are looked for where the request names no Dockerfile.
const FALLBACK_DOCKERFILE: &str = "dockerfile";
/// Most bytes of an ignore file.
const MAX_IGNORE_FILE_BYTES: u64 = 4 << 20;

/// An open build context.
pub(crate) struct Context {
    root: Option<Root>,
    /// How messages name it.
    shown: String,
    /// What is left out, and the file that says so.
    ignore: Option<(String, IgnoreFile)>,
    /// Whether the ignore file was applied by whoever packed the context: nothing that it names is there.
    is_packed: bool,
    /// With whose rights files are read; none for those of wharf itself.
    caller: Option<Caller>,
    /// Digests of files that did not change since an earlier build.
    stat_cache: Option<StatCache>,
    /// Whether no ignore file applies.
    is_whole: bool,
    /// Holds what was unpacked until the build is over.
    _unpacked: Option<Staging>,
}

/// A Dockerfile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DockerfileText {
    /// What messages call it.
    pub name: String,
    /// Its text.
    pub text: String,
}

impl Context {
    /// Opens a context; a tar is unpacked, a repository checked out, a directory read where it is, with the rights of
    /// the caller.
    pub fn open(
        store: &Store,
        source: &ContextSource,
        means: &Means<'_>,
    ) -> Result<Self, BuildError> {
        let caller = means.caller;
        match source {
            ContextSource::Git(address) => {
                let url = wharf_dockerfile::parse_git_url(address).map_err(|error| {
                    BuildError::instruction(format!("build context {address}: {error}"))
                })?;
                let source = git_source(&url, means.keep_git_dir, None);
                let staging = bring(store, &source, means).map_err(|error| match error {
                    BuildError::Source { message } => {
                        BuildError::instruction(format!("build context {address}: {message}"))
                    }
                    other => other,
                })?;
                let root = staging.root().try_clone()?;
                let shown = format!("build context {address}");
                Ok(Self {
                    is_whole: true,
                    ..Self::of(Some(root), shown, Some(staging))
                })
            }
            ContextSource::Empty => Ok(Self::of(None, "an empty build context".to_owned(), None)),
            ContextSource::Directory(path) => {
                let shown = format!("build context {}", path.display());
                let assumed = caller.map(Caller::assume).transpose()?;
                let root = Root::open(path).map_err(|error| BuildError::Unreadable {
                    name: shown.clone(),
                    reason: error.to_string(),
                })?;
                drop(assumed);
                let uid = caller.map_or(0, |caller| caller.uid);
                let stat_cache = StatCache::open(store, &root.metadata()?, uid);
                Ok(Self {
                    caller: caller.cloned(),
                    stat_cache: Some(stat_cache),
                    ..Self::of(Some(root), shown, None)
                })
            }
            ContextSource::Tar(path) => {
                let staging = store.stage()?;
                unpack(path, staging.root())?;
                let root = staging.root().try_clone()?;
                Ok(Self::of(
                    Some(root),
                    "the build context".to_owned(),
                    Some(staging),
                ))
            }
        }
    }

    fn of(root: Option<Root>, shown: String, unpacked: Option<Staging>) -> Self {
        Self {
            root,
            shown,
            ignore: None,
            is_packed: unpacked.is_some(),
            caller: None,
            stat_cache: None,
            is_whole: false,
            _unpacked: unpacked,
        }
    }

    /// Returns how the files are read; nothing for an empty context.
    pub fn reading(&self) -> Option<Reading<'_>> {
        Some(Reading {
            root: self.root.as_ref()?,
            caller: self.caller.as_ref(),
            stat_cache: self.stat_cache.as_ref(),
            is_context: true,
        })
    }

    /// Keeps what was learned of the files for the next build. A disk that does not take it costs time later.
    pub fn remember(&mut self) {
        if let Some(cache) = &mut self.stat_cache {
            let _read_again_next_time = cache.save();
        }
    }

    /// Returns how messages name the context.
    pub fn shown(&self) -> &str {
        &self.shown
    }

    /// Returns the ignore file and its name.
    pub fn ignore(&self) -> Option<(&str, &IgnoreFile)> {
        let ignore = self.ignore.as_ref().filter(|_| !self.is_packed);
        ignore.map(|(name, file)| (name.as_str(), file))
    }

    /// Returns the ignore file, also one that was applied by whoever packed the context.
    pub fn known_ignore(&self) -> Option<&IgnoreFile> {
        self.ignore.as_ref().map(|(_, file)| file)
    }

    /// Names the rule of the ignore file that keeps a path out of the context; of files in place only those that exist.
    pub fn hiding_rule(&self, path: &str) -> Option<String> {
        let (name, file) = self.ignore.as_ref()?;
        let decision = file.decide(path).ok()?;
        let pattern = decision.pattern.filter(|_| decision.is_ignored)?;
        let root = self.root.as_ref()?;
        // Whoever packed the context left the file behind.
        let is_meant = self.is_packed || root.exists(path).unwrap_or(false);
        is_meant.then(|| format!("{:?}, line {} of {name}", pattern.text, pattern.line))
    }

    /// Applies the ignore file of a context that has no Dockerfile.
    ///
    /// # Errors
    /// An ignore file that is malformed.
    pub fn with_ignore_file(mut self) -> Result<Self, BuildError> {
        self.load_ignore_file(DEFAULT_DOCKERFILE)?;
        Ok(self)
    }

    /// Reads the request's Dockerfile and then the ignore file that belongs to it.
    ///
    /// # Errors
    /// A Dockerfile that is missing, empty or not UTF-8; an ignore file that is malformed.
    pub fn load(&mut self, request: &BuildRequest) -> Result<DockerfileText, BuildError> {
        let file = match &request.dockerfile {
            Some(bytes) => {
                let name = if request.dockerfile_name.is_empty() {
                    DEFAULT_DOCKERFILE
                } else {
                    &request.dockerfile_name
                };
                (name.to_owned(), bytes.clone())
            }
            None => self.read_dockerfile(&request.dockerfile_name)?,
        };
        let (name, bytes) = file;
        let text = String::from_utf8(bytes).map_err(|error| BuildError::Unreadable {
            name: name.clone(),
            reason: format!("it is not UTF-8 text: {}", error.utf8_error()),
        })?;
        if text.is_empty() {
            return Err(BuildError::EmptyDockerfile { name });
        }
        match &request.ignore_file {
            Some(bytes) => self.apply_ignore_file(BESIDE_DOCKERFILE.to_owned(), bytes, &name)?,
            None => self.load_ignore_file(&name)?,
        }
        let shown = &request.dockerfile_shown;
        let name = if shown.is_empty() {
            name
        } else {
            shown.clone()
        };
        Ok(DockerfileText { name, text })
    }

    fn read_dockerfile(&self, asked: &str) -> Result<(String, Vec<u8>), BuildError> {
        let name = if asked.is_empty() {
            DEFAULT_DOCKERFILE
        } else {
            asked
        };
        if let Some(bytes) = self.read(name, MAX_FILE_BYTES as u64)? {
            return Ok((name.to_owned(), bytes));
        }
        if name == DEFAULT_DOCKERFILE
            && let Some(bytes) = self.read(FALLBACK_DOCKERFILE, MAX_FILE_BYTES as u64)?
        {
            return Ok((FALLBACK_DOCKERFILE.to_owned(), bytes));
        }
        Err(BuildError::NoDockerfile {
            name: name.to_owned(),
            hint: self
                .similar(name)
                .map(|name| format!("did you mean {name}?")),
        })
    }

    /// Returns the nearest name beside a missing one.
    pub fn similar(&self, path: &str) -> Option<String> {
        let path = Path::new(path);
        let parent = path.parent().unwrap_or(Path::new(""));
        let reading = self.reading()?;
        let entries = reading
            .with_rights(|root| Ok(root.read_dir(parent)?))
            .ok()?;
        let names: Vec<String> = entries
            .iter()
            .filter_map(|entry| entry.name.to_str().map(str::to_owned))
            .collect();
        let found = nearest(
            path.file_name()?.to_str()?,
            names.iter().map(String::as_str),
            false,
        )?;
        Some(parent.join(found).display().to_string())
    }

    fn read(&self, path: &str, limit_bytes: u64) -> Result<Option<Vec<u8>>, BuildError> {
        let Some(reading) = self.reading() else {
            return Ok(None);
        };
        let _assumed = reading.caller.map(Caller::assume).transpose()?;
        match reading.root.read(path, limit_bytes) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(BuildError::Unreadable {
                name: path.to_owned(),
                reason: error.to_string(),
            }),
        }
    }

    fn load_ignore_file(&mut self, dockerfile: &str) -> Result<(), BuildError> {
        if self.is_whole {
            return Ok(());
        }
        for name in ignore::file_names(Some(dockerfile)) {
            let Some(bytes) = self.read(&name, MAX_IGNORE_FILE_BYTES)? else {
                continue;
            };
            return self.apply_ignore_file(name, &bytes, dockerfile);
        }
        Ok(())
    }

    fn apply_ignore_file(
        &mut self,
        name: String,
        bytes: &[u8],
        dockerfile: &str,
    ) -> Result<(), BuildError> {
        let text = String::from_utf8_lossy(bytes);
        let file = IgnoreFile::parse(&text).map_err(|error| BuildError::Unreadable {
            name: name.clone(),
            reason: error.to_string(),
        })?;
        if self.is_packed {
            self.drop_packed(&file, &[dockerfile, &name])?;
        }
        self.ignore = Some((name, file));
        Ok(())
    }

    /// Whoever packs a context sends the Dockerfile and the ignore file in any case and leaves the rest
    /// out; those two are no part of it where they are ignored (spec engine-api §10).
    fn drop_packed(&self, file: &IgnoreFile, names: &[&str]) -> Result<(), BuildError> {
        let Some(root) = &self.root else {
            return Ok(());
        };
        for name in names {
            let is_ignored = file.decide(name).map(|decision| decision.is_ignored);
            if is_ignored.unwrap_or(false) {
                root.remove_all(name)?;
            }
        }
        Ok(())
    }
}

fn unpack(path: &PathBuf, root: &Root) -> Result<(), BuildError> {
    let file = trusted::open(path)?;
    let (_, tar) = decompress(BufReader::new(file))?;
    let options = ExtractOptions {
        owner: Some((0, 0)),
        best_effort_xattrs: true,
        skip_devices: true,
        ..ExtractOptions::default()
    };
    extract(tar, root, Path::new(""), &options).map_err(|error| BuildError::Unreadable {
        name: "the build context".to_owned(),
        reason: error.to_string(),
    })?;
    Ok(())
}
