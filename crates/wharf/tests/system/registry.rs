//! Push and pull through Debian's `docker-registry` on loopback, with both clients; others read what we wrote.

use crate::archives::hex;
use crate::harness::{Client, Daemon, clients, eventually, skip};
use crate::helpers::id_of;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

/// `ann` with the password `pw`; bcrypt with the lowest cost.
const HTPASSWD: &str = "ann:$2a$05$abcdefghijklmnopqrstuuHIrMEWpUCQe2YqFR3sXwQ75u4od..9q\n";

/// A running registry; ends with the value.
pub struct Registry {
    child: Child,
    address: SocketAddr,
    _directory: tempfile::TempDir,
}

impl Registry {
    /// Starts one; None, and said so, where it is not installed.
    pub fn start() -> Option<Self> {
        Self::start_with("")
    }

    /// Starts one that asks for a name and a password: `ann`, `pw`.
    pub fn with_password() -> Option<Self> {
        Self::start_with("auth: {htpasswd: {realm: test, path: DIRECTORY/htpasswd}}\n")
    }

    fn start_with(more: &str) -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let address = TcpListener::bind("127.0.0.1:0")
            .and_then(|socket| socket.local_addr())
            .unwrap();
        let config = directory.path().join("config.yml");
        let text = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}/data}}}}\nhttp: {{addr: {address}}}\n",
            directory.path().display()
        );
        let root = directory.path().display().to_string();
        std::fs::write(&config, text + &more.replace("DIRECTORY", &root)).unwrap();
        std::fs::write(directory.path().join("htpasswd"), HTPASSWD).unwrap();
        let Ok(child) = Command::new("docker-registry")
            .arg("serve")
            .arg(&config)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
        else {
            skip("docker-registry is not installed");
            return None;
        };
        eventually("the registry listens", || {
            TcpStream::connect(address).is_ok()
        });
        Some(Self {
            child,
            address,
            _directory: directory,
        })
    }

    /// Returns the name of an image in it.
    pub fn at(&self, path: &str) -> String {
        format!("localhost:{}/{path}", self.address.port())
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _already_ended = self.child.kill();
        let _ended = self.child.wait();
    }
}

#[test]
fn what_was_pushed_is_pulled_into_an_empty_root() {
    for client in clients() {
        let Some(registry) = Registry::start() else {
            return;
        };
        let d = Daemon::with_busybox();
        let script =
            "mkdir /d && echo pushed > /d/f && ln /d/f /d/hard && rm -r /home && chmod 4755 /d/f";
        d.ok(
            client,
            &["run", "--name", "made", "busybox", "sh", "-c", script],
        );
        let name = registry.at("team/made:v1");
        d.ok(client, &["commit", "made", &name]);
        let pushed = d.ok(client, &["push", &name]);
        for text in [
            format!(
                "The push refers to repository [{}]",
                registry.at("team/made")
            ),
            "v1: digest: sha256:".to_owned(),
        ] {
            assert!(pushed.contains(&text), "{client:?}: {pushed}");
        }
        let again = d.ok(client, &["push", &name]);
        assert!(again.contains("Layer already exists"), "{again}");
        let digest = pushed
            .split_whitespace()
            .find(|word| word.starts_with("sha256:"))
            .unwrap()
            .to_owned();
        let facts = |d: &Daemon, name: &str| {
            d.ok(
                client,
                &["inspect", "--format", "{{.Id}} {{json .RootFS}}", name],
            )
        };

        let fresh = Daemon::start();
        let pulled = fresh.ok(client, &["pull", &name]);
        for text in [
            "v1: Pulling from team/made".to_owned(),
            "Pull complete".to_owned(),
            format!("Digest: {digest}"),
            format!("Status: Downloaded newer image for {name}"),
        ] {
            assert!(pulled.contains(&text), "{client:?}: {pulled}");
        }
        assert_eq!(facts(&d, &name), facts(&fresh, &name));
        assert_eq!(
            fresh.ok(client, &["run", "--rm", &name, "cat", "/d/hard"]),
            "pushed"
        );
        let status = fresh.ok(client, &["pull", &name]);
        assert!(status.contains("Image is up to date for"), "{status}");
        let digests = fresh.ok(client, "images --digests --format {{.Digest}}");
        assert_eq!(digests, digest);

        // By digest; and its name goes with the last tag of its repository.
        let exact = format!("{}@{digest}", registry.at("team/made"));
        let third = Daemon::start();
        third.ok(client, &["pull", "-q", &exact]);
        assert_eq!(facts(&d, &name), facts(&third, &exact));
        let removed = fresh.ok(client, &["rmi", &name]);
        assert!(
            removed.starts_with(&format!(
                "Untagged: {name}\nUntagged: {exact}\nDeleted: sha256:"
            )),
            "{removed}"
        );
        let missing = registry.at("team/missing");
        let refused = fresh.call(client, &["pull", &missing]);
        assert_eq!(refused.code, 1, "{refused:?}");
        assert!(
            refused.stderr.contains("not found") || refused.stderr.contains("manifest unknown"),
            "{refused:?}"
        );
        read_with_skopeo(&d, client, &name);
        read_with_podman(&d, client, &name);
    }
}

/// A base is looked for only when it is missing or `--pull` asks; where it moved to is told.
#[test]
fn a_base_that_moved_is_found_by_pulling_and_explained() {
    let Some(registry) = Registry::start() else {
        return;
    };
    let name = registry.at("team/base:v1");
    let other = Daemon::with_busybox();
    let publish = |text: &str| {
        let dockerfile = format!("FROM busybox\nRUN echo {text} > /which\n");
        other.write("context/Dockerfile", dockerfile);
        other.ok(Client::Wharf, &["build", "-t", &name, "context"]);
        other.ok(Client::Wharf, &["push", &name]);
    };
    for client in clients() {
        publish("old");
        let d = Daemon::start();
        d.write(
            "context/Dockerfile",
            format!("FROM {name}\nRUN cat /which > /seen\nCMD cat /seen\n"),
        );
        let build = |more: &[&str]| {
            let arguments = [&["build", "-t", "built"], more, &["context"]].concat();
            let built = d.call(client, &arguments);
            assert_eq!(built.code, 0, "{client:?}: {built:?}");
            (d.ok(client, "run --rm built"), built)
        };
        assert_eq!(build(&[]).0, "old");
        publish("new");
        assert_eq!(build(&[]).0, "old");
        assert_eq!(build(&["--pull"]).0, "new");
        let told = d.ok(Client::Wharf, "builder explain");
        assert!(
            told.contains("moved sha256:") && told.contains(" → sha256:"),
            "{told}"
        );
    }
}

/// What `login` wrote, or anybody else in docker's form, is what push and pull send.
#[test]
fn passwords_come_from_the_client_s_configuration() {
    for client in clients() {
        let Some(registry) = Registry::with_password() else {
            return;
        };
        let d = Daemon::with_busybox();
        let name = registry.at("private/made:v1");
        let server = registry.at("");
        let server = server.trim_end_matches('/');
        d.ok(client, &["tag", "busybox", &name]);
        let refused = d.call(client, &["push", &name]);
        assert!(
            refused.code == 1 && refused.stderr.contains("log in to"),
            "{client:?}: {refused:?}"
        );
        let login = ["login", "-u", "ann", "--password-stdin", server];
        let wrong = d.call_with_input(client, &login, b"no");
        assert_ne!(wrong.code, 0, "{client:?}: {wrong:?}");
        let right = d.call_with_input(client, &login, b"pw");
        assert_eq!(right.code, 0, "{client:?}: {right:?}");
        d.ok(client, &["push", &name]);
        let id = id_of(&d, client, &name);

        // By hand in another client's file: "ann:pw".
        let fresh = Daemon::start();
        fresh.write(
            "client-config/config.json",
            format!(r#"{{"auths": {{"{server}": {{"auth": "YW5uOnB3"}}}}}}"#),
        );
        fresh.ok(client, &["pull", &name]);
        assert_eq!(id_of(&fresh, client, &name), id);
        fresh.ok(client, &["logout", server]);
        let refused = fresh.call(client, &["pull", &name]);
        assert_ne!(refused.code, 0, "{client:?}: {refused:?}");
    }
}

/// Runs a program that must succeed; `None` if it is not installed.
fn run(program: &str, arguments: &[&str]) -> Option<Output> {
    let Ok(output) = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
    else {
        skip(&format!("{program} is not installed"));
        return None;
    };
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Some(output)
}

/// skopeo finds the config whose digest is the image's ID, and copies all layers (it verifies them).
fn read_with_skopeo(d: &Daemon, client: Client, name: &str) {
    let source = format!("docker://{name}");
    let arguments = [
        "inspect",
        "--tls-verify=false",
        "--config",
        "--raw",
        &source,
    ];
    let Some(config) = run("skopeo", &arguments) else {
        return;
    };
    assert_eq!(
        format!("sha256:{}", hex(&config.stdout)),
        id_of(d, client, name)
    );
    let copy = d.path("copied");
    let target = format!("dir:{}", copy.display());
    run(
        "skopeo",
        &["copy", "-q", "--src-tls-verify=false", &source, &target],
    );
    assert!(copy.join("manifest.json").exists());
}

/// podman pulls the image under the same ID, and its files are there.
fn read_with_podman(d: &Daemon, client: Client, name: &str) {
    let directory = tempfile::tempdir_in("/var/tmp").unwrap();
    let at = |name: &str| directory.path().join(name).display().to_string();
    let (root, state) = (at("root"), at("run"));
    let common = [
        "--root",
        &root,
        "--runroot",
        &state,
        "--storage-driver",
        "vfs",
    ];
    let podman = |arguments: &[&str]| run("podman", &[&common[..], arguments].concat());
    if podman(&["pull", "-q", "--tls-verify=false", name]).is_none() {
        return;
    }
    let output = podman(&["image", "inspect", "--format", "{{.Id}}", name]).unwrap();
    let id = String::from_utf8(output.stdout).unwrap();
    assert_eq!(format!("sha256:{}", id.trim()), id_of(d, client, name));
    let output = podman(&["image", "mount", name]).unwrap();
    let mounted = String::from_utf8(output.stdout).unwrap();
    let files = Path::new(mounted.trim()).to_owned();
    let content = std::fs::read_to_string(files.join("d/hard")).unwrap();
    let home = files.join("home").exists();
    podman(&["image", "umount", name]);
    podman(&["rmi", "-f", name]);
    assert_eq!(content, "pushed\n");
    assert!(!home, "a deleted directory is back");
}
