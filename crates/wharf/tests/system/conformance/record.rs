//! Records of the corpus: what a real BuildKit made of each case.

use super::{Case, Outcome, build_with, chosen, corpus, each};
use crate::harness::{Client, PATIENCE, base_image_tar};
use crate::peer::Peer;
use regex::Regex;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;
use std::time::Instant;

/// Flags of a daemon that keeps images in its own way; it knows no merging of layers.
const GRAPH_DRIVER: &[&str] = &[];
/// Flags of a daemon that keeps images in containerd, which merges layers (`COPY --link`).
const CONTAINERD: &[&str] = &["--feature", "containerd-snapshotter=true"];
/// Name of the frontend's image where one is given.
const FRONTEND: &str = "conformance/frontend";

/// Returns what is recorded of a case.
pub fn expected(id: &str) -> Option<String> {
    std::fs::read_to_string(path(id)).ok()
}

fn path(id: &str) -> PathBuf {
    corpus().join(format!("{id}.expected"))
}

/// Records what a real daemon makes of every case: `WHARF_RECORD_CONFORMANCE` names a root as `scripts/peer-daemon`
/// takes it, `WHARF_CONFORMANCE_FRONTEND` the program of a Dockerfile frontend to use instead of the daemon's own.
#[test]
fn record() {
    let Ok(root) = std::env::var("WHARF_RECORD_CONFORMANCE") else {
        return;
    };
    let cases = chosen(Client::Wharf);
    let (stored, layered): (Vec<Case>, Vec<Case>) = cases
        .into_iter()
        .filter(|case| case.derived.is_none())
        .partition(|case| case.needs_containerd);
    for (cases, flags) in [(layered, GRAPH_DRIVER), (stored, CONTAINERD)] {
        if cases.is_empty() {
            continue;
        }
        let recorder = Recorder::start(Path::new(&root), flags);
        let base = recorder.base();
        each(&cases, |case| {
            let text = match recorder.build(case, &base) {
                Outcome::Image(text) => text,
                Outcome::Error(said) => {
                    format!("error\n  {}\n", error_of(&said, &recorder.peer.path("")))
                }
            };
            std::fs::write(path(&case.id), text).unwrap();
        });
    }
}

/// A real daemon, and its client with a builder that talks to it.
struct Recorder {
    peer: Peer,
    client: PathBuf,
    has_frontend: bool,
}

impl Recorder {
    fn start(root: &Path, flags: &[&str]) -> Self {
        let peer = Peer::start(root, flags);
        let plugins = peer.path("client/cli-plugins");
        std::fs::create_dir_all(&plugins).unwrap();
        let plugin = root.join("usr/libexec/docker/cli-plugins/docker-buildx");
        std::os::unix::fs::symlink(plugin, plugins.join("docker-buildx")).unwrap();
        let mut recorder = Self {
            peer,
            client: root.join("usr/bin/docker"),
            has_frontend: false,
        };
        let path = "ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
        let base = base_image_tar("busybox");
        recorder.ok(&[
            "import",
            "--change",
            r#"CMD ["sh"]"#,
            "--change",
            path,
            base.to_str().unwrap(),
            "busybox:latest",
        ]);
        if let Some(program) = std::env::var_os("WHARF_CONFORMANCE_FRONTEND") {
            recorder.use_frontend(Path::new(&program));
        }
        recorder
    }

    /// Makes an image of a frontend's program.
    fn use_frontend(&mut self, program: &Path) {
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_ustar();
        let content = std::fs::read(program).unwrap();
        header.set_size(content.len() as u64);
        header.set_mode(0o755);
        header.set_cksum();
        builder
            .append_data(&mut header, "frontend", content.as_slice())
            .unwrap();
        let archive = self.peer.path("frontend.tar");
        std::fs::write(&archive, builder.into_inner().unwrap()).unwrap();
        let capabilities = r#"LABEL moby.buildkit.frontend.network.none="true" moby.buildkit.frontend.caps="moby.buildkit.frontend.inputs,moby.buildkit.frontend.subrequests,moby.buildkit.frontend.contexts""#;
        self.ok(&[
            "import",
            "--change",
            r#"ENTRYPOINT ["/frontend"]"#,
            "--change",
            capabilities,
            archive.to_str().unwrap(),
            FRONTEND,
        ]);
        self.has_frontend = true;
    }

    fn base(&self) -> String {
        let layers = self.ok(&[
            "image",
            "inspect",
            "--format",
            "{{json .RootFS.Layers}}",
            "busybox",
        ]);
        serde_json::from_str::<Vec<String>>(&layers).unwrap()[0].clone()
    }

    fn build(&self, case: &Case, base: &str) -> Outcome {
        let directory = tempfile::Builder::new()
            .prefix("case-")
            .tempdir_in(self.peer.path(""))
            .unwrap();
        let served = case.lay_out(directory.path(), Some(&self.peer.network()));
        let prepare = |arguments: &[String]| {
            let mut command = self.command();
            command.current_dir(directory.path()).args(arguments);
            if self.has_frontend && arguments[0] == "build" {
                command.args(["--build-arg", &format!("BUILDKIT_SYNTAX={FRONTEND}")]);
            }
            command
        };
        build_with(&prepare, case, directory.path(), base).named(&served)
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.client);
        command
            .env(
                "DOCKER_HOST",
                format!("unix://{}", self.peer.path("docker.sock").display()),
            )
            .env("DOCKER_CONFIG", self.peer.path("client"))
            .env("DOCKER_CLI_HINTS", "false")
            .env("BUILDKIT_PROGRESS", "plain")
            .env("BUILDX_GIT_INFO", "false")
            .env("BUILDX_NO_DEFAULT_ATTESTATIONS", "1");
        command
    }

    fn ok(&self, arguments: &[&str]) -> String {
        let until = Instant::now() + PATIENCE;
        loop {
            let output = self.command().args(arguments).output().unwrap();
            if output.status.success() {
                return String::from_utf8(output.stdout).unwrap();
            }
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(Instant::now() < until, "{arguments:?}: {said}");
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
    }
}

/// Returns what went wrong from a client's output: what stands behind the last `ERROR: ` without the client's own words
/// and without what differs from run to run.
fn error_of(said: &str, directory: &Path) -> String {
    let at = said
        .rfind("ERROR: ")
        .unwrap_or_else(|| panic!("no error in {said}"));
    let mut text = &said[at + "ERROR: ".len()..];
    for prefix in ["failed to build: ", "failed to solve: "] {
        text = text.strip_prefix(prefix).unwrap_or(text);
    }
    let text = text.replace(&directory.display().to_string(), "<root>");
    let lines: Vec<String> = text
        .trim()
        .lines()
        .filter(|line| !line.is_empty())
        .map(without_names)
        .collect();
    lines.join("\n  ")
}

/// Replaces names that a daemon makes up: of snapshots, sessions and mounts.
fn without_names(line: &str) -> String {
    static NAMES: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"ref [0-9a-z:-]+:[0-9a-z]{25}|overlay2/[0-9a-z]{25}").unwrap()
    });
    NAMES.replace_all(line, "<name>").into_owned()
}
