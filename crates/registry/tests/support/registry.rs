//! Runs Debian's `docker-registry`, if it is installed.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// `ann` with password `pw`; bcrypt with the lowest cost.
const HTPASSWD: &str = "ann:$2a$05$abcdefghijklmnopqrstuuHIrMEWpUCQe2YqFR3sXwQ75u4od..9q\n";
const START_TIMEOUT: Duration = Duration::from_secs(20);
/// Another test may take the free port first.
const START_ATTEMPTS: usize = 5;

/// Is a running registry; ends with the value.
pub struct Registry {
    child: Child,
    address: SocketAddr,
    _directory: TempDir,
}

impl Registry {
    /// Starts a registry on a free loopback port; `None`, said aloud, when none is installed.
    pub fn start(with_password: bool) -> Option<Self> {
        Self::start_with(with_password, false)
    }

    /// Starts a registry that speaks TLS with a certificate nobody trusts.
    pub fn start_tls() -> Option<Self> {
        Self::start_with(false, true)
    }

    fn start_with(with_password: bool, with_tls: bool) -> Option<Self> {
        for _ in 0..START_ATTEMPTS {
            let directory = TempDir::new().expect("directory");
            let address = TcpListener::bind("127.0.0.1:0")
                .and_then(|socket| socket.local_addr())
                .expect("port");
            let config = directory.path().join("config.yml");
            std::fs::write(
                &config,
                configuration(&directory, address, with_password, with_tls)?,
            )
            .expect("config");
            let command = Command::new("docker-registry")
                .arg("serve")
                .arg(&config)
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn();
            let Ok(child) = command else {
                skipped("docker-registry is not installed");
                return None;
            };
            let mut registry = Self {
                child,
                address,
                _directory: directory,
            };
            if registry.wait_until_ready() {
                return Some(registry);
            }
        }
        panic!("docker-registry does not start");
    }

    /// Returns a reference text for a path at this registry.
    pub fn at(&self, path: &str) -> String {
        format!("{}/{path}", self.address)
    }

    fn wait_until_ready(&mut self) -> bool {
        let begun = Instant::now();
        while begun.elapsed() < START_TIMEOUT {
            if self.child.try_wait().expect("wait").is_some() {
                return false;
            }
            if TcpStream::connect(self.address).is_ok() {
                return true;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        false
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[expect(clippy::print_stderr, reason = "a skipped test must show")]
fn skipped(reason: &str) {
    eprintln!("SKIP: {reason}");
}

fn configuration(
    directory: &TempDir,
    address: SocketAddr,
    with_password: bool,
    with_tls: bool,
) -> Option<String> {
    let root = directory.path().display();
    let tls = if with_tls {
        make_certificate(directory)?;
        format!(", tls: {{certificate: {root}/cert.pem, key: {root}/key.pem}}")
    } else {
        String::new()
    };
    let mut text = format!(
        "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {root}/data}}}}\n\
         http: {{addr: {address}{tls}}}\n"
    );
    if with_password {
        std::fs::write(directory.path().join("htpasswd"), HTPASSWD).expect("htpasswd");
        text.push_str(&format!(
            "auth: {{htpasswd: {{realm: test, path: {root}/htpasswd}}}}\n"
        ));
    }
    Some(text)
}

fn make_certificate(directory: &TempDir) -> Option<()> {
    let arguments = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=test -keyout key.pem -out cert.pem";
    let command = Command::new("openssl")
        .args(arguments.split(' '))
        .current_dir(directory.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    if command.is_ok_and(|status| status.success()) {
        return Some(());
    }
    skipped("openssl is not installed");
    None
}
