//! Starting a daemon, calling clients, cleaning up whatever happened.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use crate::arguments::Arguments;

/// How long anything in a test may take before it counts as hung.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Which program drives the daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Client {
    /// Our own.
    Wharf,
    /// The unmodified docker CLI.
    Docker,
}

/// What a client's call gave.
#[derive(Debug, Clone)]
pub struct Called {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

/// Returns the program under test: the one built with the tests, or another that `WHARF_TEST_EXE` names.
pub fn program() -> PathBuf {
    std::env::var_os("WHARF_TEST_EXE")
        .map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_wharf")), PathBuf::from)
}

/// A daemon with a root, a state directory and a socket of its own.
pub struct Daemon {
    directory: tempfile::TempDir,
    child: Option<Child>,
}

/// Returns the clients to run a story with: ours, and docker's where it is installed.
pub fn clients() -> Vec<Client> {
    match docker() {
        Some(_) => vec![Client::Wharf, Client::Docker],
        None => {
            skip("the docker CLI is not installed (set WHARF_TEST_DOCKER to its path)");
            vec![Client::Wharf]
        }
    }
}

/// Says that something was not tested; counted by `scripts/test`.
pub fn skip(reason: &str) {
    // Written past the test harness' capture, so that a passing test cannot hide it.
    let _closed = writeln!(std::io::stderr().lock(), "SKIP: {reason}");
}

/// Returns the docker CLI to test with.
pub fn docker_program() -> Option<&'static Path> {
    docker()
}

fn docker() -> Option<&'static Path> {
    static PATH: OnceLock<Option<PathBuf>> = OnceLock::new();
    let found = PATH.get_or_init(|| {
        let named = std::env::var_os("WHARF_TEST_DOCKER").map(PathBuf::from);
        let candidates = named
            .into_iter()
            .chain(["/usr/local/bin/docker".into(), "/usr/bin/docker".into()]);
        candidates.into_iter().find(|path| path.is_file())
    });
    found.as_deref()
}

/// Returns the tar of a base image's root file system, made once by `scripts/make-base-images`.
pub fn base_image_tar(name: &str) -> PathBuf {
    static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();
    let directory = DIRECTORY.get_or_init(|| {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let directory = std::env::var_os("WHARF_TEST_IMAGES")
            .map_or_else(|| root.join("scratch/images"), PathBuf::from);
        let made = Command::new(root.join("scripts/make-base-images"))
            .arg(&directory)
            .status();
        assert!(
            made.is_ok_and(|status| status.success()),
            "scripts/make-base-images failed"
        );
        directory
    });
    directory.join(format!("{name}.tar"))
}

impl Daemon {
    /// Starts a daemon on an empty root.
    pub fn start() -> Self {
        let mut daemon = Self::prepared();
        daemon.launch();
        daemon
    }

    /// Makes the directory of a daemon that is started later.
    pub fn prepared() -> Self {
        assert!(
            rustix::process::geteuid().is_root(),
            "system tests need root"
        );
        Self {
            directory: tempfile::Builder::new()
                .prefix("wharf-test-")
                .tempdir_in("/var/tmp")
                .unwrap(),
            child: None,
        }
    }

    /// Starts a daemon that has `busybox:latest`.
    pub fn with_busybox() -> Self {
        let daemon = Self::start();
        daemon.import("busybox");
        daemon
    }

    /// Imports a base image: `busybox` as `busybox:latest`, `debian` as `debian:bookworm-slim`.
    pub fn import(&self, name: &str) {
        let (reference, command) = match name {
            "debian" => ("debian:bookworm-slim", r#"CMD ["bash"]"#),
            _ => ("busybox:latest", r#"CMD ["sh"]"#),
        };
        let path = "ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
        let tar = base_image_tar(name);
        self.ok(
            Client::Wharf,
            &[
                "import",
                "--change",
                command,
                "--change",
                path,
                tar.to_str().unwrap(),
                reference,
            ],
        );
    }

    /// Starts the daemon on its root (again).
    pub fn launch(&mut self) {
        self.launch_with(&[]);
    }

    /// Starts the daemon on its root with further flags.
    pub fn launch_with(&mut self, flags: &[&str]) {
        let socket = self.path("wharf.sock").display().to_string();
        let mut all = vec!["--socket", &socket];
        all.extend(flags);
        self.launch_bare(&all);
    }

    /// Starts the daemon on its root with flags that say where it listens, `wharf.sock` included.
    pub fn launch_bare(&mut self, flags: &[&str]) {
        let mut command = Command::new(program());
        command.arg("daemon").args(flags);
        self.launch_command(command);
    }

    /// Starts the daemon by a command that lacks only the root.
    pub fn launch_command(&mut self, mut command: Command) {
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.path("daemon.log"))
            .unwrap();
        let child = command
            .arg("--root")
            .arg(self.path("root"))
            .arg("--run-dir")
            .arg(self.path("run"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        self.child = Some(child);
        let until = Instant::now() + PATIENCE;
        // That a connection is taken says too little: a program that a killed daemon was about to start
        // holds its socket until it runs.
        while crate::raw::call(self, "GET", "/_ping", "").is_err() {
            let ended = self.child.as_mut().unwrap().try_wait().unwrap();
            assert!(ended.is_none(), "the daemon ended: {}", self.log());
            assert!(
                Instant::now() < until,
                "the daemon does not answer: {}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Sends the daemon a signal.
    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(self.child.as_ref().unwrap());
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Ends the daemon as a power cut would, without a chance to clean up.
    pub fn kill(&mut self) {
        let mut child = self.child.take().unwrap();
        let _already_dead = child.kill();
        child.wait().unwrap();
    }

    /// Sends the daemon SIGKILL while others still talk to it; [`Daemon::kill`] takes its end in.
    pub fn kill_by_pid(&self) {
        let pid = rustix::process::Pid::from_child(self.child.as_ref().unwrap());
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    }

    /// Asks the daemon to end and waits for it.
    pub fn stop(&mut self) {
        let mut child = self.child.take().unwrap();
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        let status = child.wait().unwrap();
        assert!(
            status.success(),
            "the daemon ended with {status}: {}",
            self.log()
        );
    }

    /// Returns the daemon's process number.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    /// Returns a path in the test's own directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Returns where the daemon listens.
    pub fn socket(&self) -> PathBuf {
        self.path("wharf.sock")
    }

    /// Returns what the daemon printed.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.path("daemon.log")).unwrap_or_default()
    }

    /// Prepares a client's call.
    pub fn command(&self, client: Client) -> Command {
        let program = match client {
            Client::Wharf => program(),
            Client::Docker => docker().unwrap().to_owned(),
        };
        let mut command = Command::new(program);
        command
            .env(
                "DOCKER_HOST",
                format!("unix://{}", self.path("wharf.sock").display()),
            )
            .env("DOCKER_CONFIG", self.path("client-config"))
            .env("DOCKER_BUILDKIT", "0")
            .env("DOCKER_CLI_HINTS", "false")
            .env_remove("WHARF_HOST")
            .current_dir(self.directory.path());
        command
    }

    /// Calls a client and returns what it gave.
    pub fn call(&self, client: Client, arguments: impl Arguments) -> Called {
        self.call_with_input(client, arguments, b"")
    }

    /// Calls a client with standard input from a pipe.
    pub fn call_with_input(
        &self,
        client: Client,
        arguments: impl Arguments,
        input: &[u8],
    ) -> Called {
        let mut command = self.command(client);
        command.args(arguments.words());
        run_with_input(command, input)
    }

    /// Calls a client on a terminal of its own and types `typed`; what it showed is in `stdout`.
    pub fn on_a_terminal(&self, client: Client, arguments: impl Arguments, typed: &str) -> Called {
        let command = self.command(client);
        let mut line = quoted(&command.get_program().to_string_lossy());
        for argument in arguments.words() {
            line.push(' ');
            line.push_str(&quoted(&argument.to_string_lossy()));
        }
        // `script` makes the terminal, types what it reads, and ends with the command's exit code.
        let mut script = Command::new("script");
        script.args(["-qec", &line, "/dev/null"]);
        script.current_dir(self.directory.path());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => script.env(name, value),
                None => script.env_remove(name),
            };
        }
        run_with_input(script, typed.as_bytes())
    }

    /// Calls a client that must succeed and returns its standard output without the last line end.
    pub fn ok(&self, client: Client, arguments: impl Arguments) -> String {
        let said = format!("{arguments:?}");
        let called = self.call(client, arguments);
        assert_eq!(
            called.code,
            0,
            "{client:?} {said}\nstdout: {}\nstderr: {}\ndaemon: {}",
            called.stdout,
            called.stderr,
            self.log()
        );
        called.stdout.trim_end_matches('\n').to_owned()
    }

    /// Calls a client that must fail with `code` and say `text`.
    pub fn fails(&self, client: Client, arguments: impl Arguments, code: i32, text: &str) {
        let asked = format!("{arguments:?}");
        let called = self.call(client, arguments);
        let said = format!("{}{}", called.stdout, called.stderr);
        assert!(
            called.code == code && said.contains(text),
            "{client:?} {asked}: expected code {code} and {text:?}, found code {} and\n{said}",
            called.code
        );
    }

    /// Writes a file in the test's directory and returns its path.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        path
    }

    /// Makes a FIFO without a writer, which hangs whoever opens it.
    pub fn make_fifo(&self, name: &str) {
        let path = self.path(name);
        let made = Command::new("mkfifo").arg(&path).status();
        assert!(made.is_ok_and(|status| status.success()), "{path:?}");
    }

    /// Returns the layers of an image, lowest first.
    pub fn layers(&self, client: Client, name: &str) -> Vec<String> {
        let format = "{{json .RootFS.Layers}}";
        let list = self.ok(client, &["image", "inspect", "--format", format, name]);
        serde_json::from_str(&list).unwrap()
    }

    /// Returns the daemon's process, while it runs.
    pub fn running_pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Lists what the daemon left in the kernel that names its root: mounts of this mount namespace.
    pub fn mounts(&self) -> Vec<String> {
        let own = self.directory.path().display().to_string();
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        mounts
            .lines()
            .filter(|line| line.contains(&own))
            .map(str::to_owned)
            .collect()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // A test that failed has said why; cleaning up must not abort the others.
        if std::thread::panicking() {
            let _best_effort =
                std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.clean_up()));
        } else {
            self.clean_up();
            let until = Instant::now() + PATIENCE;
            let mut left = self.left_of_daemon();
            while !left.is_empty() {
                assert!(Instant::now() < until, "the daemon left {left:#?}");
                std::thread::sleep(Duration::from_millis(20));
                left = self.left_of_daemon();
            }
        }
    }
}

impl Daemon {
    fn clean_up(&mut self) {
        let ended = |child: &mut Child| child.try_wait().is_ok_and(|status| status.is_some());
        if self.child.as_mut().is_none_or(ended) {
            self.launch();
        }
        let containers = self.call(Client::Wharf, "ps -aq").stdout;
        let mut remove = vec!["rm", "-f", "-v"];
        remove.extend(containers.split_whitespace());
        if remove.len() > 3 {
            self.call(Client::Wharf, &remove);
        }
        self.stop();
    }
}

/// Runs a program with standard input from a pipe.
fn run_with_input(mut command: Command, input: &[u8]) -> Called {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    let writer = std::thread::spawn(move || {
        let _program_may_not_read = stdin.write_all(&input);
    });
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    Called {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Quotes a word for a shell.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', "'\\''"))
}

/// Waits until `condition` holds.
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !condition() {
        assert!(
            Instant::now() < until,
            "{what} did not happen in {PATIENCE:?}"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}
