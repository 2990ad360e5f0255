//! A busybox root file system and containers in it that clean up after themselves.

#![allow(dead_code, clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use oci_spec::runtime::{Process, Spec};
use tokio::io::AsyncReadExt;
use wharf_runtime::{
    AttachRequest, ExecRequest, ExitStatus, LaunchRequest, LogConfig, LogDriver, RootMount,
    RuntimeError, Shim, Stdio, capabilities, defaults, launch,
};

const BUSYBOX: &str = "/usr/bin/busybox";

static NEXT: AtomicU32 = AtomicU32::new(0);

/// Says (and prints) whether tests that need root and busybox can run here.
pub fn can_run() -> bool {
    // SAFETY: plain system call.
    let root = unsafe { libc::geteuid() } == 0;
    let ready = root && Path::new(BUSYBOX).exists();
    if !ready {
        eprintln!("SKIP: needs root and {BUSYBOX}");
    }
    ready
}

/// A container's directories; all is taken down when it goes out of scope.
pub struct Fixture {
    pub directory: tempfile::TempDir,
    pub id: String,
    pub request: LaunchRequest,
}

/// What a finished container left.
pub struct Ran {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

impl Fixture {
    pub fn new(args: &[&str]) -> Self {
        set_executable();
        let directory = tempfile::Builder::new()
            .prefix("wharf-rt-")
            .tempdir()
            .unwrap();
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let id = format!("{:08x}{number:08x}", std::process::id()).repeat(4);
        let base = directory.path();
        make_layer(&base.join("layers/1"));
        for name in ["layers/2", "container/upper", "container/work", "state"] {
            std::fs::create_dir_all(base.join(name)).unwrap();
        }
        let request = LaunchRequest {
            id: id.clone(),
            state_dir: base.join("state"),
            spec: spec(args),
            root: RootMount::Overlay {
                lower_dirs: vec![base.join("layers/1"), base.join("layers/2")],
                upper: Some(base.join("container/upper")),
                work: Some(base.join("container/work")),
                volatile: false,
            },
            stdio: Stdio::default(),
            log: Some(LogConfig {
                path: base.join("container/json.log"),
                driver: LogDriver::JsonFile,
                max_size_bytes: None,
                max_files: 1,
                compress: false,
                attributes: Default::default(),
                max_buffer_bytes: None,
                remote: None,
            }),
            cgroup_path: format!("/wharf-test-{id}"),
            init: false,
            stop_on_disconnect: false,
            runtime: None,
        };
        Self {
            directory,
            id,
            request,
        }
    }

    pub fn shell(script: &str) -> Self {
        Self::new(&["sh", "-c", script])
    }

    pub fn layer(&self) -> PathBuf {
        self.directory.path().join("layers/2")
    }

    pub fn upper(&self) -> PathBuf {
        self.directory.path().join("container/upper")
    }

    pub fn process(&mut self) -> &mut Process {
        self.request.spec.process_mut().as_mut().unwrap()
    }

    pub fn linux(&mut self) -> &mut oci_spec::runtime::Linux {
        self.request.spec.linux_mut().as_mut().unwrap()
    }

    pub fn add_mount(&mut self, json: &str) {
        let mount = serde_json::from_str(json).unwrap();
        self.request.spec.mounts_mut().as_mut().unwrap().push(mount);
    }

    pub async fn launch(&self) -> Result<Shim, RuntimeError> {
        launch(&self.request, None).await
    }

    /// Runs the container to its end and returns what it wrote.
    pub async fn run(&self) -> Result<Ran, RuntimeError> {
        let shim = self.launch().await?;
        let all = AttachRequest {
            stdin: false,
            stdout: true,
            stderr: true,
        };
        let mut stream = shim.attach(all).await?;
        let started = shim.start().await;
        let mut bytes = Vec::new();
        let read = stream.read_to_end(&mut bytes);
        tokio::time::timeout(Duration::from_secs(30), read)
            .await
            .unwrap()
            .unwrap();
        let status = shim.wait().await?;
        shim.release().await?;
        started?;
        let (stdout, stderr) = if self.request.stdio.tty {
            (String::from_utf8_lossy(&bytes).into_owned(), String::new())
        } else {
            unframe(&bytes)
        };
        Ok(Ran {
            status,
            stdout,
            stderr,
        })
    }

    /// Runs the container and returns its standard output, expecting success.
    pub async fn output(&self) -> String {
        let ran = self.run().await.unwrap();
        assert_eq!(ran.status.code, 0, "{}{}", ran.stdout, ran.stderr);
        ran.stdout
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        let state = self.directory.path().join("state/shim.json");
        let Ok(text) = std::fs::read_to_string(state) else {
            return;
        };
        let state: serde_json::Value = serde_json::from_str(&text).unwrap();
        // A shim that dies takes its container along.
        let pid = state["shim_pid"].as_i64().unwrap();
        // SAFETY: plain system call; the state directory is this test's own.
        unsafe { libc::kill(pid as i32, libc::SIGKILL) };
        std::thread::sleep(Duration::from_millis(50));
        wharf_runtime::sweep(self.directory.path(), "/wharf-test-none", &[]);
        for controller in std::fs::read_dir("/sys/fs/cgroup").unwrap().flatten() {
            let _ = std::fs::remove_dir(controller.path().join(format!("wharf-test-{}", self.id)));
        }
    }
}

/// Makes shims from this crate's own test binary.
fn set_executable() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        // SAFETY: done once, before any other thread of the test reads the environment.
        unsafe { std::env::set_var("WHARF_SHIM_EXE", env!("CARGO_BIN_EXE_wharf-shim-test")) };
    });
}

fn make_layer(layer: &Path) {
    for name in [
        "bin", "etc", "tmp", "root", "proc", "sys", "dev", "home/u", "var",
    ] {
        std::fs::create_dir_all(layer.join(name)).unwrap();
    }
    std::fs::set_permissions(layer.join("tmp"), PermissionsExt::from_mode(0o1777)).unwrap();
    std::fs::copy(BUSYBOX, layer.join("bin/busybox")).unwrap();
    let list = Command::new(BUSYBOX).arg("--list").output().unwrap();
    for applet in String::from_utf8(list.stdout).unwrap().lines() {
        if applet != "busybox" {
            symlink("busybox", layer.join("bin").join(applet)).unwrap();
        }
    }
    let passwd = "root:x:0:0:root:/root:/bin/sh\nu:x:1000:1000::/home/u:/bin/sh\n";
    std::fs::write(layer.join("etc/passwd"), passwd).unwrap();
    std::fs::write(
        layer.join("etc/group"),
        "root:x:0:\nu:x:1000:\nwheel:x:10:u\n",
    )
    .unwrap();
    std::fs::write(layer.join("etc/data"), "data\n").unwrap();
}

fn spec(args: &[&str]) -> Spec {
    let mut spec = Spec::default();
    spec.set_process(Some(process(args)))
        .set_hostname(Some("box".to_owned()))
        .set_mounts(Some(defaults::mounts(Some(defaults::SHM_SIZE_BYTES))));
    let mut root = oci_spec::runtime::Root::default();
    root.set_readonly(Some(false));
    spec.set_root(Some(root));
    let mut linux = oci_spec::runtime::Linux::default();
    let mut resources = oci_spec::runtime::LinuxResources::default();
    resources.set_devices(Some(defaults::device_rules()));
    linux
        .set_namespaces(Some(defaults::namespaces(false)))
        .set_masked_paths(Some(defaults::masked_paths()))
        .set_readonly_paths(Some(defaults::readonly_paths()))
        .set_sysctl(Some(defaults::sysctls()))
        .set_resources(Some(resources));
    spec.set_linux(Some(linux));
    spec
}

pub fn process(args: &[&str]) -> Process {
    let mut process = Process::default();
    process
        .set_args(Some(args.iter().map(|arg| (*arg).to_owned()).collect()))
        .set_env(Some(vec![format!("PATH={}", defaults::PATH)]))
        .set_cwd(PathBuf::from("/"))
        .set_no_new_privileges(Some(false))
        .set_rlimits(None)
        .set_capabilities(Some(defaults::capability_sets(
            &capabilities::default_names(),
        )));
    process
}

pub fn exec_request(id: &str, args: &[&str]) -> ExecRequest {
    ExecRequest {
        framed: None,
        id: id.to_owned(),
        process: process(args),
        stdio: Stdio::default(),
        attach: Some(AttachRequest {
            stdin: false,
            stdout: true,
            stderr: true,
        }),
    }
}

/// Takes docker's frames apart into standard output and error.
pub fn unframe(mut bytes: &[u8]) -> (String, String) {
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    while !bytes.is_empty() {
        let length = u32::from_be_bytes(bytes[4..8].try_into().unwrap()) as usize;
        let payload = &bytes[8..8 + length];
        match bytes[0] {
            1 => stdout.extend_from_slice(payload),
            2 => stderr.extend_from_slice(payload),
            other => panic!("stream {other}"),
        }
        bytes = &bytes[8 + length..];
    }
    (
        String::from_utf8_lossy(&stdout).into_owned(),
        String::from_utf8_lossy(&stderr).into_owned(),
    )
}

/// Returns the `log` fields of a json-file log.
pub fn log_lines(path: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines()
        .map(|line| {
            let entry: serde_json::Value = serde_json::from_str(line).unwrap();
            entry["log"].as_str().unwrap().to_owned()
        })
        .collect()
}

/// Returns the host's mount points.
pub fn host_mounts() -> BTreeSet<String> {
    let text = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    text.lines().map(str::to_owned).collect()
}

/// Waits until a process is gone.
pub async fn assert_ends(pid: u32) {
    for _ in 0..100 {
        if !Path::new(&format!("/proc/{pid}")).exists() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("process {pid} is still there");
}

/// Makes sure that no control group of a container is left.
pub fn assert_nothing_left(fixture: &Fixture) {
    for controller in std::fs::read_dir("/sys/fs/cgroup").unwrap().flatten() {
        let group = controller.path().join(format!("wharf-test-{}", fixture.id));
        assert!(!group.exists(), "{}", group.display());
    }
}
