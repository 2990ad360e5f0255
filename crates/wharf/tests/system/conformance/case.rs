//! Cases of the corpus as they are written (`tests/conformance/README.md`), and their files laid out on disk.

use crate::arguments::split;
use crate::git::{Server, git};
use crate::web::{Page, Web};
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, lchown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Time of every file that has none of its own: 2001-02-03T04:05:06Z.
pub const DEFAULT_SECONDS: u64 = 981_173_106;

/// One case: files, and how an image is built from them.
#[derive(Debug, Clone, Default)]
pub struct Case {
    /// `TOPIC/NAME`.
    pub id: String,
    /// What it shows.
    pub title: String,
    /// Builds before the one that counts: their arguments.
    pub before: Vec<Vec<String>>,
    /// Arguments of the build that counts, but tag and context.
    pub build: Vec<String>,
    /// Environment of the client.
    pub environment: Vec<(String, String)>,
    /// Words that the error must hold.
    pub says: Vec<String>,
    /// Why the classic API is not asked.
    pub not_classic: Option<String>,
    /// Machines (as `uname -m` says) that it is for; all where empty.
    pub machine: String,
    /// Whether the record takes a daemon that keeps images in containerd.
    pub needs_containerd: bool,
    /// Why the record was not made by a real BuildKit.
    pub derived: Option<String>,
    /// What is made in place of an image: `tar`, `local`, `oci` or `docker`.
    pub output: Option<String>,
    files: Vec<File>,
}

#[derive(Debug, Clone)]
struct File {
    path: String,
    kind: Kind,
    mode: Option<u32>,
    owner: (u32, u32),
    seconds: u64,
    nanoseconds: i64,
    /// Extended attributes by name.
    attributes: Vec<(String, Vec<u8>)>,
    /// Whether a web server tells its time.
    is_dated: bool,
}

#[derive(Debug, Clone)]
enum Kind {
    Regular(Vec<u8>),
    /// A hole of this length with one byte behind it.
    Sparse(u64),
    Directory,
    Symlink(String),
    HardLink(String),
    Fifo,
    /// A tar of files, compressed by the program named.
    Archive {
        program: Option<&'static str>,
        members: Vec<File>,
    },
}

/// What `../web/` is served at, in files and records.
pub const WEB: &str = "@WEB@";
/// What the repositories `../git/NAME/` are served at.
pub const GIT: &str = "@GIT@";
const WEB_DIRECTORY: &str = "../web/";
const GIT_DIRECTORY: &str = "../git/";

/// What a program needs for `ping`: `cap_net_raw=ep`, as the kernel stores it (capabilities(7), version 2).
const CAPABILITY: [u8; 20] = [
    1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
];

/// What is served for one case while it is built.
#[derive(Default)]
pub struct Served {
    web: Option<Web>,
    git: Option<Server>,
}

impl Served {
    /// Puts the addresses that there are in the place of their names.
    fn written_out(&self, text: &str) -> String {
        let mut text = text.to_owned();
        if let Some(web) = &self.web {
            text = text.replace(WEB, &format!("http://{}", web.address()));
        }
        if let Some(git) = &self.git {
            text = text.replace(GIT, &format!("git://127.0.0.1:{}", git.port));
        }
        text
    }

    /// Puts names in the place of addresses that differ from run to run.
    pub fn named(&self, text: &str) -> String {
        let mut text = text.to_owned();
        if let Some(web) = &self.web {
            text = text.replace(&format!("http://{}", web.address()), WEB);
        }
        if let Some(git) = &self.git {
            text = text.replace(&format!("git://127.0.0.1:{}", git.port), GIT);
        }
        text
    }
}

/// Flags of `docker build` that the classic API can express.
const CLASSIC_FLAGS: &[&str] = &[
    "-t",
    "--build-arg",
    "--target",
    "--label",
    "-f",
    "--file",
    "--no-cache",
    "--network",
    "--add-host",
    "--platform",
    "--shm-size",
    "--ulimit",
];

impl Case {
    /// Reads all cases below a directory, sorted.
    pub fn read_all(corpus: &Path) -> Vec<Self> {
        let mut cases = Vec::new();
        for topic in directories(corpus) {
            for path in files(&topic) {
                if path.extension().is_none_or(|ending| ending != "case") {
                    continue;
                }
                let id = format!(
                    "{}/{}",
                    file_name(&topic),
                    path.file_stem().unwrap().to_str().unwrap()
                );
                cases.push(Self::parse(id, &std::fs::read_to_string(&path).unwrap()));
            }
        }
        cases.sort_by(|left, right| left.id.cmp(&right.id));
        cases
    }

    /// Returns the first part of the id.
    pub fn topic(&self) -> &str {
        self.id.split('/').next().unwrap()
    }

    /// Says whether the case holds for a machine (as `uname -m` says).
    pub fn runs_on(&self, machine: &str) -> bool {
        self.machine.is_empty() || self.machine == machine
    }

    /// Returns the name that the image gets.
    pub fn tag(&self) -> String {
        format!("conformance/{}", self.id.replace('/', "-"))
    }

    fn parse(id: String, text: &str) -> Self {
        let mut case = Self {
            id,
            ..Self::default()
        };
        let mut lines = text.lines().peekable();
        while let Some(line) = lines.next_if(|line| !line.starts_with("==> ")) {
            case.header(line);
        }
        while let Some(line) = lines.next() {
            let (mut file, attributes) = File::parse(line.strip_prefix("==> ").unwrap());
            let mut content: Vec<&str> = Vec::new();
            while let Some(line) = lines.next_if(|line| !line.starts_with("==> ")) {
                content.push(line);
            }
            if let Kind::Regular(inline) = &mut file.kind
                && !attributes.iter().any(|word| word == "=")
            {
                *inline = joined(&content, &attributes);
            }
            if let Kind::Archive { members, .. } = &mut file.kind {
                *members = content.iter().map(|line| File::parse(line).0).collect();
            }
            case.files.push(file);
        }
        if let Some(flag) = case
            .build
            .iter()
            .chain(case.before.iter().flatten())
            .filter(|word| word.starts_with('-'))
            .map(|word| word.split('=').next().unwrap())
            .find(|flag| !CLASSIC_FLAGS.contains(flag))
        {
            case.not_classic.get_or_insert(format!("no {flag} there"));
        }
        case
    }

    fn header(&mut self, line: &str) {
        if let Some(comment) = line.strip_prefix("# ") {
            if self.title.is_empty() {
                comment.clone_into(&mut self.title);
            }
            return;
        }
        let Some((key, value)) = line.split_once(": ") else {
            assert!(line.is_empty(), "{}: {line:?} is no header line", self.id);
            return;
        };
        match key {
            "before" => self.before.push(split(value)),
            "build" => self.build = split(value),
            "env" => {
                let (name, value) = value.split_once('=').unwrap();
                self.environment.push((name.to_owned(), value.to_owned()));
            }
            "says" => self.says = split(value),
            "not-classic" => self.not_classic = Some(value.to_owned()),
            "machine" => value.clone_into(&mut self.machine),
            "store" => self.needs_containerd = value == "containerd",
            "derived" => self.derived = Some(value.to_owned()),
            "output" => {
                self.output = Some(value.to_owned());
                self.not_classic = Some("it makes images only".to_owned());
            }
            _ => panic!("{}: {key:?} is no header", self.id),
        }
    }

    /// Lays the files out: the context at `DIRECTORY/context`, what begins with `../` beside it. Serves those that are to
    /// be fetched, in the network namespace that a path names.
    pub fn lay_out(&self, directory: &Path, network: Option<&Path>) -> Served {
        let context = directory.join("context");
        let is_served = |file: &&File| {
            file.path.starts_with(WEB_DIRECTORY) || file.path.starts_with(GIT_DIRECTORY)
        };
        let (first, mut rest): (Vec<&File>, Vec<&File>) = self.files.iter().partition(is_served);
        lay_out(&first, &context);
        let served = serve(&first, directory, network);
        let written: Vec<File> = rest.iter().map(|file| file.with(&served)).collect();
        rest = written.iter().collect();
        lay_out(&rest, &context);
        served
    }
}

/// Makes repositories of one commit with the tag `v1`, and serves them and the files of the web.
fn serve(files: &[&File], directory: &Path, network: Option<&Path>) -> Served {
    let below = |prefix: &str| files.iter().any(|file| file.path.starts_with(prefix));
    let mut served = Served::default();
    if below(GIT_DIRECTORY) {
        let all = directory.join("git");
        for repository in directories(&all) {
            git(&repository, &["init", "-q"]);
            git(&repository, &["add", "-A"]);
            git(&repository, &["commit", "-q", "-m", "first"]);
            git(&repository, &["tag", "v1"]);
        }
        served.git = Some(Server::start_in(&all, network));
    }
    if below(WEB_DIRECTORY) {
        let pages = files.iter().filter_map(|file| {
            let path = file.path.strip_prefix(WEB_DIRECTORY)?;
            let content = std::fs::read(directory.join("web").join(path)).ok()?;
            let headers = match file.is_dated {
                true => vec!["Last-Modified: Sat, 03 Feb 2001 04:05:06 GMT".to_owned()],
                false => Vec::new(),
            };
            Some((format!("/{path}"), Page { content, headers }))
        });
        served.web = Some(Web::serve_in(pages.collect(), network));
    }
    served
}

fn lay_out(files: &[&File], root: &Path) {
    std::fs::create_dir_all(root).unwrap();
    let place = |path: &str| {
        let path = path.trim_end_matches('/');
        match path.strip_prefix("../") {
            Some(beside) => root.parent().unwrap().join(beside),
            None => root.join(path),
        }
    };
    let mut made = vec![root.to_owned()];
    for file in files {
        let path = place(&file.path);
        let mut parent = path.parent().unwrap();
        while !parent.exists() {
            made.push(parent.to_owned());
            parent = parent.parent().unwrap();
        }
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        file.make(&path, &place);
    }
    for path in &made {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    for file in files {
        file.set_attributes(&place(&file.path));
    }
    // Times last: making a file changes its directory's.
    made.sort();
    for path in made.iter().rev() {
        if !files.iter().any(|file| place(&file.path) == *path) {
            set_time(path, DEFAULT_SECONDS, 0);
        }
    }
    for file in files {
        set_time(&place(&file.path), file.seconds, file.nanoseconds);
    }
}

impl File {
    /// Reads `PATH [MODE] [UID:GID] [@SECONDS[.FRACTION]] [KIND…]`; returns the words too.
    fn parse(line: &str) -> (Self, Vec<String>) {
        let words = split(line);
        let mut file = Self {
            path: words[0].clone(),
            kind: if words[0].ends_with('/') {
                Kind::Directory
            } else {
                Kind::Regular(Vec::new())
            },
            mode: None,
            owner: (0, 0),
            seconds: DEFAULT_SECONDS,
            nanoseconds: 0,
            attributes: Vec::new(),
            is_dated: false,
        };
        let mut rest = words.iter().skip(1);
        while let Some(word) = rest.next() {
            match word.as_str() {
                "->" => file.kind = Kind::Symlink(rest.next().unwrap().clone()),
                "=>" => file.kind = Kind::HardLink(rest.next().unwrap().clone()),
                "=" => file.kind = Kind::Regular(rest.next().unwrap().clone().into_bytes()),
                "fifo" => file.kind = Kind::Fifo,
                "bare" | "crlf" | "bom" => {}
                "dated" => file.is_dated = true,
                "capability" => file
                    .attributes
                    .push(("security.capability".to_owned(), CAPABILITY.to_vec())),
                word if word.starts_with("user.") => {
                    let (name, value) = word.split_once('=').unwrap();
                    let value = value.as_bytes().to_vec();
                    file.attributes.push((name.to_owned(), value));
                }
                word if word.starts_with("sparse=") => {
                    file.kind = Kind::Sparse(word["sparse=".len()..].parse().unwrap());
                }
                word if word.starts_with("archive") => {
                    let program = match word.strip_prefix("archive=") {
                        None => None,
                        Some("gz") => Some("gzip"),
                        Some("bz2") => Some("bzip2"),
                        Some("xz") => Some("xz"),
                        Some("zst") => Some("zstd"),
                        Some(other) => panic!("{other} is no compression"),
                    };
                    file.kind = Kind::Archive {
                        program,
                        members: Vec::new(),
                    };
                }
                word if word.starts_with('@') => {
                    let (seconds, fraction) = word[1..].split_once('.').unwrap_or((&word[1..], ""));
                    file.seconds = seconds.parse().unwrap();
                    file.nanoseconds = format!("{fraction:0<9}").parse().unwrap();
                }
                word if word.contains(':') => {
                    let (uid, gid) = word.split_once(':').unwrap();
                    file.owner = (uid.parse().unwrap(), gid.parse().unwrap());
                }
                word => {
                    let mode = u32::from_str_radix(word, 8);
                    file.mode = Some(mode.unwrap_or_else(|_| panic!("{line:?}: what is {word}?")));
                }
            }
        }
        (file, words)
    }

    /// Returns the file with the addresses of what is served.
    fn with(&self, served: &Served) -> Self {
        let mut file = self.clone();
        if let Kind::Regular(content) = &mut file.kind
            && let Ok(text) = std::str::from_utf8(content)
        {
            *content = served.written_out(text).into_bytes();
        }
        file
    }

    fn mode(&self) -> u32 {
        let usual = if matches!(self.kind, Kind::Directory) {
            0o755
        } else {
            0o644
        };
        self.mode.unwrap_or(usual)
    }

    fn make(&self, path: &Path, place: &dyn Fn(&str) -> PathBuf) {
        match &self.kind {
            Kind::Regular(content) => std::fs::write(path, content).unwrap(),
            Kind::Sparse(length) => {
                use std::io::{Seek as _, SeekFrom};
                let mut file = std::fs::File::create(path).unwrap();
                file.seek(SeekFrom::Start(*length)).unwrap();
                file.write_all(b"x").unwrap();
            }
            Kind::Directory => std::fs::create_dir_all(path).unwrap(),
            Kind::Symlink(target) => symlink(target, path).unwrap(),
            Kind::HardLink(first) => std::fs::hard_link(place(first), path).unwrap(),
            Kind::Fifo => {
                let made = Command::new("mkfifo").arg(path).status();
                assert!(made.is_ok_and(|status| status.success()), "{path:?}");
            }
            Kind::Archive { program, members } => {
                std::fs::write(path, compressed(*program, &archive(members))).unwrap();
            }
        }
    }

    fn set_attributes(&self, path: &Path) {
        if matches!(self.kind, Kind::HardLink(_)) {
            return;
        }
        lchown(path, Some(self.owner.0), Some(self.owner.1)).unwrap();
        if !matches!(self.kind, Kind::Symlink(_)) {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(self.mode())).unwrap();
        }
        let flags = rustix::fs::XattrFlags::empty();
        for (name, value) in &self.attributes {
            rustix::fs::lsetxattr(path, name, value, flags).unwrap();
        }
    }
}

fn set_time(path: &Path, seconds: u64, nanoseconds: i64) {
    let time = rustix::fs::Timespec {
        tv_sec: seconds.try_into().unwrap(),
        tv_nsec: nanoseconds,
    };
    let times = rustix::fs::Timestamps {
        last_access: time,
        last_modification: time,
    };
    let flags = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
    rustix::fs::utimensat(rustix::fs::CWD, path, &times, flags).unwrap();
}

fn archive(members: &[File]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for member in members {
        let (kind, link, content): (_, &str, &[u8]) = match &member.kind {
            Kind::Regular(content) => (tar::EntryType::Regular, "", content),
            Kind::Directory => (tar::EntryType::Directory, "", b""),
            Kind::Symlink(target) => (tar::EntryType::Symlink, target, b""),
            Kind::HardLink(first) => (tar::EntryType::Link, first, b""),
            Kind::Fifo => (tar::EntryType::Fifo, "", b""),
            Kind::Sparse(_) | Kind::Archive { .. } => panic!("{}: not in archives", member.path),
        };
        let names: Vec<String> = (member.attributes.iter())
            .map(|(name, _)| format!("SCHILY.xattr.{name}"))
            .collect();
        let values = member.attributes.iter().map(|(_, value)| value.as_slice());
        let extensions = names.iter().map(String::as_str).zip(values);
        builder.append_pax_extensions(extensions).unwrap();
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(member.mode());
        header.set_uid(member.owner.0.into());
        header.set_gid(member.owner.1.into());
        header.set_mtime(member.seconds);
        header.set_size(content.len() as u64);
        let old = header.as_old_mut();
        old.name[..member.path.len()].copy_from_slice(member.path.as_bytes());
        old.linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_cksum();
        builder.append(&header, content).unwrap();
    }
    builder.into_inner().unwrap()
}

fn compressed(program: Option<&str>, plain: &[u8]) -> Vec<u8> {
    let Some(program) = program else {
        return plain.to_vec();
    };
    let mut command = Command::new(program);
    if program == "gzip" {
        command.arg("-n");
    }
    let mut child = command
        .arg("-c")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{program}: {error}"));
    let mut input = child.stdin.take().unwrap();
    let plain = plain.to_vec();
    let writer = std::thread::spawn(move || input.write_all(&plain).unwrap());
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    assert!(output.status.success(), "{program}");
    output.stdout
}

/// Puts lines together as a file's words say: `crlf`, `bom`, and `bare` for no line end at the end.
fn joined(lines: &[&str], attributes: &[String]) -> Vec<u8> {
    let has = |word: &str| attributes.iter().any(|attribute| attribute == word);
    let end = if has("crlf") { "\r\n" } else { "\n" };
    let mut text = lines.join(end);
    if !lines.is_empty() && !has("bare") {
        text.push_str(end);
    }
    if has("bom") {
        text.insert(0, '\u{feff}');
    }
    text.into_bytes()
}

fn directories(path: &Path) -> Vec<PathBuf> {
    files(path)
        .into_iter()
        .filter(|path| path.is_dir())
        .collect()
}

fn files(path: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(path).unwrap();
    entries.map(|entry| entry.unwrap().path()).collect()
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap().to_string_lossy().into_owned()
}
