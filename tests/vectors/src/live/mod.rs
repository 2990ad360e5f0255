//! A real daemon for areas that are recorded from one.

pub mod http;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use serde_json::Value;

use http::Reply;

/// Names the program under test; the one beside this program otherwise.
const PROGRAM_VARIABLE: &str = "WHARF_BIN";
/// Names the directory of base images.
const IMAGES_VARIABLE: &str = "WHARF_TEST_IMAGES";
/// How long anything may take before it counts as hung.
const PATIENCE: Duration = Duration::from_secs(60);

/// Users of the recorded image.
const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh
daemon:x:1:1:daemon:/usr/sbin:/bin/false
bin:x:2:2:bin:/bin:/bin/false
sys:x:3:3:sys:/dev:/bin/false
sync:x:4:100:sync:/bin:/bin/sync
mail:x:8:8:mail:/var/spool/mail:/bin/false
www-data:x:33:33:www-data:/var/www:/bin/false
operator:x:37:37:Operator:/var:/bin/false
nobody:x:65534:65534:nobody:/home:/bin/false
";
/// Groups of the recorded image.
const GROUP: &str = "root:x:0:
daemon:x:1:
bin:x:2:
sys:x:3:
adm:x:4:
tty:x:5:
disk:x:6:
lp:x:7:
mail:x:8:
kmem:x:9:
wheel:x:10:root
cdrom:x:11:
dialout:x:18:
floppy:x:19:
video:x:28:
audio:x:29:
tape:x:32:
www-data:x:33:
operator:x:37:
utmp:x:43:
plugdev:x:46:
staff:x:50:
lock:x:54:
netdev:x:82:
users:x:100:
nobody:x:65534:
";

static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
static IMAGES: OnceLock<PathBuf> = OnceLock::new();

/// Says where the base images are; the first call counts.
pub fn use_images(path: impl Into<PathBuf>) {
    IMAGES.get_or_init(|| path.into());
}

/// Says which program is the daemon; the first call counts.
pub fn use_program(path: impl Into<PathBuf>) {
    PROGRAM.get_or_init(|| path.into());
}

fn program() -> Result<&'static Path, String> {
    let beside = || {
        let own = std::env::current_exe().unwrap_or_default();
        let directory = own.parent().unwrap_or(Path::new("/"));
        let directory = match directory.ends_with("deps") {
            true => directory.parent().unwrap_or(directory),
            false => directory,
        };
        directory.join("wharf")
    };
    let found = PROGRAM
        .get_or_init(|| std::env::var_os(PROGRAM_VARIABLE).map_or_else(beside, PathBuf::from));
    if found.is_file() {
        return Ok(found);
    }
    Err(format!(
        "{} is not there: build it, or name it in {PROGRAM_VARIABLE}",
        found.display()
    ))
}

/// A daemon with a root of its own that holds the image `busybox:latest`.
pub struct Daemon {
    directory: tempfile::TempDir,
    child: Child,
}

impl Daemon {
    /// Starts one below `/tmp`, as the recorded daemon was.
    ///
    /// # Errors
    /// Says what is missing on this machine.
    pub fn start() -> Result<Self, String> {
        if !rustix::process::geteuid().is_root() {
            return Err("a daemon needs root".to_owned());
        }
        let program = program()?;
        let image = busybox()?;
        let directory = tempfile::Builder::new()
            .prefix("wharf-vectors-")
            .tempdir_in("/tmp")
            .map_err(|error| error.to_string())?;
        let child = Command::new(program)
            .args(["daemon", "--socket"])
            .arg(directory.path().join("wharf.sock"))
            .arg("--root")
            .arg(directory.path().join("root"))
            .arg("--run-dir")
            .arg(directory.path().join("run"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| error.to_string())?;
        let mut daemon = Self { directory, child };
        daemon.await_socket()?;
        let changes = "changes=CMD%20%5B%22sh%22%5D&changes=ENV%20PATH%3D/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
        let path = format!("/v1.51/images/create?fromSrc=-&repo=busybox&tag=latest&{changes}");
        let reply = daemon.ask_with("POST", &path, &image)?;
        if reply.status != 200 || reply.text().contains("errorDetail") {
            return Err(format!("cannot import busybox: {}", reply.text()));
        }
        Ok(daemon)
    }

    fn await_socket(&mut self) -> Result<(), String> {
        let until = Instant::now() + PATIENCE;
        while std::os::unix::net::UnixStream::connect(self.socket()).is_err() {
            if self.child.try_wait().is_ok_and(|ended| ended.is_some()) || Instant::now() > until {
                return Err("the daemon does not start".to_owned());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// Returns the socket's path.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.directory.path().join("wharf.sock")
    }

    /// Returns the data root.
    #[must_use]
    pub fn root(&self) -> PathBuf {
        self.directory.path().join("root")
    }

    /// Sends a request without a body.
    ///
    /// # Errors
    /// Says what went wrong on the way.
    pub fn ask(&self, method: &str, path: &str) -> Result<Reply, String> {
        self.ask_with(method, path, b"")
    }

    /// Sends a JSON document.
    ///
    /// # Errors
    /// Says what went wrong on the way.
    pub fn ask_json(&self, method: &str, path: &str, body: &Value) -> Result<Reply, String> {
        self.ask_with(method, path, body.to_string().as_bytes())
    }

    fn ask_with(&self, method: &str, path: &str, body: &[u8]) -> Result<Reply, String> {
        let headers = [("Content-Type", "application/json")];
        http::exchange(&self.socket(), &http::request(method, path, &headers, body))
    }

    fn clean_up(&mut self) {
        if let Ok(reply) = self.ask("GET", "/v1.51/containers/json?all=1") {
            for container in reply.json().as_array().into_iter().flatten() {
                let id = container["Id"].as_str().unwrap_or_default();
                let _gone = self.ask("DELETE", &format!("/v1.51/containers/{id}?force=1&v=1"));
            }
        }
        let pid = rustix::process::Pid::from_child(&self.child);
        let _ended = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let _status = self.child.wait();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.clean_up();
    }
}

/// Returns the tar of the busybox image with the recorded image's users.
fn busybox() -> Result<Vec<u8>, String> {
    let directory = IMAGES.get_or_init(|| {
        std::env::var_os(IMAGES_VARIABLE).map_or_else(
            || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scratch/images"),
            PathBuf::from,
        )
    });
    let path = directory.join("busybox.tar");
    let bytes = wharf_safefs::trusted::read(&path).map_err(|error| {
        format!("{error}: run scripts/make-base-images DIRECTORY and name it in {IMAGES_VARIABLE}")
    })?;
    let fail = |error: std::io::Error| error.to_string();
    let mut builder = tar::Builder::new(Vec::new());
    let mut archive = tar::Archive::new(bytes.as_slice());
    for entry in archive.entries().map_err(fail)? {
        let mut entry = entry.map_err(fail)?;
        let path = entry.path().map_err(fail)?.into_owned();
        if path.ends_with("etc/passwd") || path.ends_with("etc/group") {
            continue;
        }
        let header = entry.header().clone();
        builder.append(&header, &mut entry).map_err(fail)?;
    }
    for (path, text) in [("etc/passwd", PASSWD), ("etc/group", GROUP)] {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o644);
        builder
            .append_data(&mut header, path, text.as_bytes())
            .map_err(fail)?;
    }
    let mut bytes = builder.into_inner().map_err(fail)?;
    bytes.flush().map_err(fail)?;
    Ok(bytes)
}
