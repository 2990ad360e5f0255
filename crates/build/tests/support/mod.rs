//! A store in a temporary directory and an engine that runs toy commands.

#![allow(dead_code)]

use std::collections::{BTreeMap, HashMap};
use std::io::{Cursor, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, OpenTreeFlags};
use wharf_build::{
    BaseImage, BuildError, BuildEvent, BuildRequest, ContextSource, FetchRequest, Fetched, Host,
    HostError, MountSource, OutputStream, RunOutcome, RunStep,
};
use wharf_image::{ContainerConfig, ImageConfig, ImageId, Platform};
use wharf_layer::summarize;
use wharf_safefs::{OpenFlags, Root};
use wharf_store::{NewImage, NewLayer, Store};

/// Most bytes of a file that a test looks at.
const MAX_TEST_FILE_BYTES: u64 = 1 << 20;

/// Says whether overlays can be mounted here; prints why a test does nothing where not.
pub fn can_mount() -> bool {
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        println!("SKIP: mounting overlays needs root");
    }
    is_root
}

/// A store, a context directory and an engine.
pub struct Bench {
    pub directory: tempfile::TempDir,
    pub store: Store,
    pub host: FakeHost,
}

/// Runs toy commands, one a line: `write PATH TEXT`, `rm PATH`, `mkdir PATH`, `env NAME PATH` (writes the
/// variable), `get MOUNT/FILE PATH`, `put MOUNT/FILE TEXT`, `say TEXT`, `warn TEXT`, `fail N`, `oom`, `cancel`, `nothing`, `whoami PATH`,
/// `outside PATH TEXT` (writes a file outside, as somebody does who goes on working while the build runs).
pub struct FakeHost {
    pub images: HashMap<String, BaseImage>,
    pub urls: HashMap<String, Vec<u8>>,
    pub runs: AtomicUsize,
    pub fetches: AtomicUsize,
    pub cancelled: AtomicBool,
    pub networks: std::sync::Mutex<Vec<String>>,
}

/// What a build said, in docker's classic form.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Log {
    pub lines: Vec<String>,
}

impl Log {
    /// Returns how many steps came from the cache.
    pub fn hits(&self) -> usize {
        self.lines.iter().filter(|line| *line == "hit").count()
    }

    fn event(&mut self, event: BuildEvent) {
        self.lines.push(match event {
            BuildEvent::StepStarted { index, total, text } => format!("{index}/{total} {text}"),
            BuildEvent::Warning { text } => format!("warning {text}"),
            BuildEvent::GlobalWarning { text } => format!("WARNING {text}"),
            BuildEvent::Triggers { count } => format!("triggers {count}"),
            BuildEvent::CacheHit => "hit".to_owned(),
            BuildEvent::Running { id } => {
                assert_eq!(id.len(), 64);
                "running".to_owned()
            }
            BuildEvent::Output { stream, bytes } => {
                format!("{stream:?} {}", String::from_utf8_lossy(&bytes))
            }
            BuildEvent::IntermediateRemoved { .. } => "removed".to_owned(),
            BuildEvent::StepDone { .. } => "done".to_owned(),
            BuildEvent::StageDone { .. } => "stage".to_owned(),
            BuildEvent::NotNeeded => "not needed".to_owned(),
            BuildEvent::Finding(finding) => format!("finding {}", finding.text()),
            BuildEvent::Solve(_) => return,
        });
    }
}

impl Bench {
    /// Makes a store that holds the image `base`: a few directories, `/etc/passwd`, a variable and a command.
    pub fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&directory.path().join("root")).unwrap();
        let host = FakeHost {
            images: HashMap::new(),
            urls: HashMap::new(),
            runs: AtomicUsize::new(0),
            fetches: AtomicUsize::new(0),
            cancelled: AtomicBool::new(false),
            networks: std::sync::Mutex::default(),
        };
        let mut bench = Self {
            directory,
            store,
            host,
        };
        let config = ContainerConfig {
            env: vec!["PATH=/bin".to_owned(), "BASE=1".to_owned()],
            cmd: Some(vec!["sh".to_owned()]),
            ..ContainerConfig::default()
        };
        let files = [
            ("etc/passwd", "root:x:0:0::/:\napp:x:10:20::/:\n"),
            ("etc/group", "app:x:20:\nstaff:x:50:\n"),
            ("lib/old", "old"),
        ];
        bench.add_image("base", config, &files);
        trusted_dir(&bench.context());
        bench
    }

    /// Returns the context directory.
    pub fn context(&self) -> PathBuf {
        self.directory.path().join("context")
    }

    /// Adds an image of one layer.
    pub fn add_image(
        &mut self,
        name: &str,
        config: ContainerConfig,
        files: &[(&str, &str)],
    ) -> ImageId {
        let staging = self.store.stage().unwrap();
        for (path, text) in files {
            write(staging.root(), path, text.as_bytes());
        }
        let summary = summarize(staging.root()).unwrap();
        let layer = self
            .store
            .publish_layer(staging, NewLayer::made_here(summary))
            .unwrap();
        let mut image = ImageConfig {
            architecture: Platform::host().architecture,
            os: "linux".to_owned(),
            created: Some("2024-01-01T00:00:00Z".to_owned()),
            config: Some(config),
            ..ImageConfig::default()
        };
        image.rootfs.diff_ids.push(layer.diff_id);
        image.history.push(wharf_image::HistoryEntry {
            created: image.created.clone(),
            created_by: Some(format!("base layer of {name}")),
            ..Default::default()
        });
        let bytes = image.to_bytes();
        let stored = self.store.put_image(&NewImage::of(&bytes)).unwrap();
        self.host.images.insert(
            name.to_owned(),
            BaseImage {
                id: stored.id,
                digest: None,
                config: stored.config,
            },
        );
        stored.id
    }

    /// Writes a file of the context.
    pub fn file(&self, path: &str, content: impl AsRef<[u8]>) {
        write(&Root::open(self.context()).unwrap(), path, content.as_ref());
    }

    /// Returns a request for a Dockerfile text.
    pub fn request(&self, dockerfile: &str) -> BuildRequest {
        BuildRequest {
            context: ContextSource::Directory(self.context()),
            dockerfile: Some(dockerfile.as_bytes().to_vec()),
            ..BuildRequest::default()
        }
    }

    /// Returns an engine beside the bench's own that knows the same images.
    pub fn other_host(&self) -> FakeHost {
        FakeHost {
            images: self.host.images.clone(),
            urls: self.host.urls.clone(),
            runs: AtomicUsize::new(0),
            fetches: AtomicUsize::new(0),
            cancelled: AtomicBool::new(false),
            networks: std::sync::Mutex::default(),
        }
    }

    /// Builds and returns the outcome with what was said.
    pub fn try_build(&self, request: &BuildRequest) -> (Result<ImageId, BuildError>, Log) {
        self.try_build_with(&self.host, request)
    }

    /// Builds with another engine.
    pub fn try_build_with(
        &self,
        host: &FakeHost,
        request: &BuildRequest,
    ) -> (Result<ImageId, BuildError>, Log) {
        let mut log = Log::default();
        let built = wharf_build::build(&self.store, host, request, &mut |event| log.event(event));
        (built.map(|built| built.image), log)
    }

    /// Builds a Dockerfile text that has to work.
    pub fn build(&self, dockerfile: &str) -> (ImageConfig, Log) {
        self.build_request(&self.request(dockerfile))
    }

    /// Builds a request that has to work.
    pub fn build_request(&self, request: &BuildRequest) -> (ImageConfig, Log) {
        let (built, log) = self.try_build(request);
        let id = built.unwrap_or_else(|error| panic!("{error}\n{log:#?}"));
        let image = self.store.image(&id).unwrap().unwrap();
        ((*image.config).clone(), log)
    }

    /// Builds a Dockerfile text that has to fail.
    pub fn fail(&self, dockerfile: &str) -> String {
        let (built, _) = self.try_build(&self.request(dockerfile));
        built.unwrap_err().to_string()
    }

    /// Returns the files of an image as a merged view.
    pub fn view(&self, image: &ImageConfig) -> Root {
        let dirs = self.store.layer_dirs(&image.rootfs.diff_ids).unwrap();
        self.host.view(&dirs).unwrap()
    }

    /// Describes what lies below a directory of an image: `path kind mode uid:gid content`, sorted.
    pub fn tree(&self, image: &ImageConfig, below: &str) -> Vec<String> {
        let view = self.view(image);
        let mut lines = Vec::new();
        let mut open = vec![PathBuf::from(below)];
        while let Some(directory) = open.pop() {
            for entry in view.read_dir(&directory).unwrap() {
                let path = directory.join(&entry.name);
                let found = view.lstat(&path).unwrap();
                let content = match found.file_type {
                    kind if kind.is_file() => {
                        String::from_utf8_lossy(&view.read(&path, MAX_TEST_FILE_BYTES).unwrap())
                            .into_owned()
                    }
                    kind if kind.is_symlink() => {
                        format!("-> {}", view.read_link(&path).unwrap().display())
                    }
                    _ => "/".to_owned(),
                };
                lines.push(format!(
                    "{} {:o} {}:{} {content}",
                    path.display(),
                    found.mode,
                    found.uid,
                    found.gid
                ));
                if found.is_dir() {
                    open.push(path);
                }
            }
        }
        lines.sort();
        lines
    }

    /// Returns the text of a file of an image.
    pub fn text(&self, image: &ImageConfig, path: &str) -> Option<String> {
        let bytes = self.view(image).read(path, MAX_TEST_FILE_BYTES).ok()?;
        Some(String::from_utf8(bytes).unwrap())
    }

    /// Returns how many things lie in the store's temporary directory.
    pub fn leftovers(&self) -> usize {
        self.store.wait_for_removals();
        Root::open(self.store.root().join("tmp"))
            .unwrap()
            .entries()
            .unwrap()
            .len()
    }

    /// Returns how many steps ran.
    pub fn runs(&self) -> usize {
        self.host.runs.load(Ordering::SeqCst)
    }
}

/// Returns the history as `text` or `text (empty)`.
pub fn history(image: &ImageConfig) -> Vec<String> {
    let line = |entry: &wharf_image::HistoryEntry| {
        let empty = if entry.empty_layer { " (empty)" } else { "" };
        format!("{}{empty}", entry.created_by.clone().unwrap_or_default())
    };
    image.history.iter().map(line).collect()
}

impl Host for FakeHost {
    fn local_image(&self, reference: &str, _: &Platform) -> Option<BaseImage> {
        self.images.get(reference).cloned()
    }

    fn base_image(
        &self,
        reference: &str,
        _: bool,
        _: Option<&Platform>,
    ) -> Result<BaseImage, HostError> {
        let found = self.images.get(reference).cloned();
        found.ok_or_else(|| format!("pull access denied for {reference}").into())
    }

    fn image_config(&self, reference: &str, _: &Platform) -> Result<BaseImage, HostError> {
        let found = self.images.get(&format!("registry:{reference}")).cloned();
        found.ok_or_else(|| format!("no registry answers for {reference}").into())
    }

    fn layout_image(&self, name: &str, _: Option<&Platform>) -> Result<BaseImage, HostError> {
        let found = self.images.get(&format!("oci-layout://{name}")).cloned();
        found.ok_or_else(|| format!("oci-layout {name}: no such directory").into())
    }

    fn view(&self, lower_dirs: &[PathBuf]) -> Result<Root, HostError> {
        if let [only] = lower_dirs {
            let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
            return Ok(Root::from_fd(rustix::mount::open_tree(
                rustix::fs::CWD,
                only,
                flags,
            )?));
        }
        Ok(Root::from_fd(overlay(lower_dirs, None)?))
    }

    fn writable_view(
        &self,
        lower_dirs: &[PathBuf],
        upper: &Path,
        work: &Path,
    ) -> Result<Root, HostError> {
        Ok(Root::from_fd(overlay(lower_dirs, Some((upper, work)))?))
    }

    fn run(
        &self,
        step: &RunStep,
        cancelled: &AtomicBool,
        output: &mut dyn FnMut(OutputStream, &[u8]),
    ) -> Result<RunOutcome, HostError> {
        self.runs.fetch_add(1, Ordering::SeqCst);
        self.networks.lock().unwrap().push(step.network.clone());
        assert_eq!(step.id.len(), 64);
        let root = self.writable_view(&step.lower_dirs, &step.upper, &step.work)?;
        let script = step.args.last().cloned().unwrap_or_default();
        let script =
            if step.args.len() > 3 || step.args.first().is_some_and(|shell| shell != "/bin/sh") {
                step.args.join(" ")
            } else {
                script
            };
        for line in script.lines().flat_map(|line| line.split("&&")) {
            let mut words = line.trim().splitn(3, ' ');
            let (verb, first) = (
                words.next().unwrap_or_default(),
                words.next().unwrap_or_default(),
            );
            let rest = words.next().unwrap_or_default();
            let path = Path::new(&step.cwd).join(first);
            match verb {
                "write" => write(&root, path.to_str().unwrap(), rest.as_bytes()),
                "rm" => root.remove_all(&path)?,
                "mkdir" => root.mkdir_all(&path, 0o755, None)?,
                "env" => {
                    let prefix = format!("{first}=");
                    let value = step
                        .env
                        .iter()
                        .rev()
                        .find_map(|entry| entry.strip_prefix(&prefix))
                        .unwrap_or("<unset>");
                    write(&root, rest, value.as_bytes());
                }
                "get" => {
                    let bytes = mounted(step, first)?;
                    write(&root, rest, &bytes);
                }
                "put" => put_mounted(step, first, rest)?,
                "whoami" => write(&root, first, step.user.as_bytes()),
                "say" => output(OutputStream::Stdout, format!("{first}\n").as_bytes()),
                "warn" => output(OutputStream::Stderr, format!("{first}\n").as_bytes()),
                "fail" => {
                    return Ok(RunOutcome {
                        exit_code: first.parse()?,
                        ..RunOutcome::default()
                    });
                }
                "oom" => {
                    return Ok(RunOutcome {
                        exit_code: 137,
                        oom_killed: true,
                        ..RunOutcome::default()
                    });
                }
                "outside" => {
                    let (parent, name) = first.rsplit_once('/').unwrap();
                    write(&Root::open(parent)?, name, rest.as_bytes());
                }
                "cancel" => self.cancelled.store(true, Ordering::SeqCst),
                "sleep" => {
                    let until = Instant::now() + Duration::from_millis(first.parse()?);
                    while Instant::now() < until && !cancelled.load(Ordering::SeqCst) {
                        std::thread::sleep(Duration::from_millis(1));
                    }
                }
                "nothing" | "" => {}
                other => return Err(format!("toy shell: {other}: not found").into()),
            }
        }
        Ok(RunOutcome::default())
    }

    fn can_run(&self, platform: &Platform) -> bool {
        platform.architecture == Platform::host().architecture
    }

    fn fetch(&self, request: &FetchRequest) -> Result<Fetched, HostError> {
        self.fetches.fetch_add(1, Ordering::SeqCst);
        let url = &request.url;
        let body = self
            .urls
            .get(url)
            .cloned()
            .ok_or_else(|| format!("{url}: 404 Not Found"))?;
        let etag = wharf_image::Digest::of(&body).hex();
        let is_unchanged = request.etag.as_ref() == Some(&etag);
        let body = if is_unchanged { Vec::new() } else { body };
        let body: Box<dyn Read + Send> = Box::new(Cursor::new(body));
        Ok(Fetched {
            body,
            file_name: String::new(),
            last_modified: None,
            etag: Some(etag),
            is_unchanged,
        })
    }

    fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::SeqCst)
    }
}

/// Opens what is mounted at the longest prefix of a path; returns it with the rest of the path.
fn open_mount<'p>(step: &RunStep, path: &'p str) -> Result<(Root, &'p str), HostError> {
    let mounts = step.mounts.iter();
    let mount = mounts
        .filter(|mount| path.starts_with(&mount.destination))
        .max_by_key(|mount| mount.destination.len())
        .ok_or_else(|| format!("nothing is mounted at {path}"))?;
    let rest = path[mount.destination.len()..].trim_start_matches('/');
    match &mount.source {
        MountSource::Path(source) => Ok((Root::open(source)?, rest)),
        MountSource::Layers {
            lower_dirs,
            changes,
        } => {
            let changes = changes.as_ref();
            let changes = changes.map(|(upper, work)| (upper.as_path(), work.as_path()));
            Ok((Root::from_fd(overlay(lower_dirs, changes)?), rest))
        }
        other => Err(format!("{other:?} is no directory").into()),
    }
}

fn mounted(step: &RunStep, path: &str) -> Result<Vec<u8>, HostError> {
    for mount in step.mounts.iter().filter(|mount| mount.destination == path) {
        match &mount.source {
            MountSource::Secret(file) => return Ok(file.value.bytes().to_vec()),
            MountSource::Path(file) => {
                return Ok(wharf_safefs::trusted::read(file)?);
            }
            _ => {}
        }
    }
    let (root, rest) = open_mount(step, path)?;
    Ok(root.read(rest, MAX_TEST_FILE_BYTES)?)
}

fn put_mounted(step: &RunStep, path: &str, text: &str) -> Result<(), HostError> {
    let (root, rest) = open_mount(step, path)?;
    write(&root, rest, text.as_bytes());
    Ok(())
}

/// Writes a file beneath a root with all directories above it.
pub fn write(root: &Root, path: &str, content: &[u8]) {
    let path = Path::new(path);
    root.mkdir_all(path.parent().unwrap(), 0o755, None).unwrap();
    root.create_file(path, 0o644)
        .unwrap()
        .write_all(content)
        .unwrap();
}

/// Reads the start of a file to check that it can be opened.
pub fn can_open(root: &Root, path: &str) -> bool {
    root.open_file(path, OpenFlags::RDONLY).is_ok()
}

/// Returns pairs as a map.
pub fn map<V: Clone>(pairs: &[(&str, V)]) -> BTreeMap<String, V> {
    pairs
        .iter()
        .map(|(key, value)| ((*key).to_owned(), value.clone()))
        .collect()
}

fn trusted_dir(path: &Path) {
    wharf_safefs::trusted::create_dir_all(path, 0o755).unwrap();
}

fn overlay(lower_dirs: &[PathBuf], upper: Option<(&Path, &Path)>) -> rustix::io::Result<OwnedFd> {
    let context = rustix::mount::fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    let fd = context.as_fd();
    // The topmost comes first.
    for path in lower_dirs.iter().rev() {
        rustix::mount::fsconfig_set_string(fd, "lowerdir+", path)?;
    }
    for option in ["metacopy", "redirect_dir", "index", "xino"] {
        rustix::mount::fsconfig_set_string(fd, option, "off")?;
    }
    if let Some((upper, work)) = upper {
        rustix::mount::fsconfig_set_string(fd, "upperdir", upper)?;
        rustix::mount::fsconfig_set_string(fd, "workdir", work)?;
    }
    rustix::mount::fsconfig_create(fd)?;
    rustix::mount::fsmount(fd, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())
}
