//! The same containers made by the built-in runtime and by OCI runtime programs of the host: what a process
//! sees and may do is the same.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::print_stderr)]

mod common;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use common::{Fixture, can_run, exec_request};
use tokio::io::AsyncReadExt;
use wharf_runtime::{AttachRequest, ExternalRuntime, capabilities, defaults};

/// Names programs to test with beside those on the path, separated by colons.
const PROGRAMS_VARIABLE: &str = "WHARF_TEST_RUNTIMES";

/// Runs a program where version 2 of control groups is not mounted.
const WITHOUT_VERSION_2: &str = "umount -l /sys/fs/cgroup/unified; exec \"$0\" \"$@\"";

/// A runtime program.
struct Program {
    /// The first line of what it says of itself.
    version: String,
    /// How it makes a container here.
    runtime: ExternalRuntime,
}

/// Returns the runtime programs of this host and says which.
fn programs() -> Vec<Program> {
    let named = std::env::var(PROGRAMS_VARIABLE).unwrap_or_default();
    let named = named.split(':').map(PathBuf::from);
    let directories = defaults::PATH.split(':');
    let join = |directory: &str| ["runc", "crun"].map(|name| Path::new(directory).join(name));
    let mut usable: Vec<Program> = Vec::new();
    for program in named.chain(directories.flat_map(join)) {
        if !program.is_file() {
            continue;
        }
        let version = Command::new(&program).arg("--version").output().unwrap();
        let version = String::from_utf8_lossy(&version.stdout);
        let version = version.lines().next().unwrap_or_default().to_owned();
        if usable.iter().any(|known| known.version == version) {
            continue;
        }
        eprintln!("with {version} ({})", program.display());
        // crun refuses where controllers are divided between version 1 and 2 of control groups.
        let is_hybrid = Path::new("/sys/fs/cgroup/unified").exists();
        let runtime = if version.starts_with("crun") && is_hybrid {
            let arguments = ["--mount", "sh", "-c", WITHOUT_VERSION_2];
            let arguments = arguments.map(str::to_owned).into_iter();
            ExternalRuntime {
                program: PathBuf::from("/usr/bin/unshare"),
                arguments: arguments.chain([program.display().to_string()]).collect(),
            }
        } else {
            ExternalRuntime {
                program,
                arguments: Vec::new(),
            }
        };
        usable.push(Program { version, runtime });
    }
    if usable.is_empty() {
        eprintln!("SKIP: no OCI runtime program here; name one in {PROGRAMS_VARIABLE}");
    }
    usable
}

fn with(mut fixture: Fixture, program: &ExternalRuntime) -> Fixture {
    fixture.request.runtime = Some(program.clone());
    fixture
}

/// A container with everything that both are to agree about.
fn confined(script: &str) -> Fixture {
    let mut fixture = Fixture::shell(script);
    let names = capabilities::default_names();
    fixture
        .linux()
        .set_seccomp(Some(defaults::seccomp_profile(&names)));
    let limits = r#"{"memory": {"limit": 67108864, "swap": 134217728, "reservation": 33554432},
        "cpu": {"shares": 512, "quota": 50000, "period": 100000}, "pids": {"limit": 77}}"#;
    let mut resources: oci_spec::runtime::LinuxResources = serde_json::from_str(limits).unwrap();
    resources.set_devices(Some(defaults::device_rules()));
    fixture.linux().set_resources(Some(resources));
    let process = fixture.process();
    let limit = r#"[{"type": "RLIMIT_NOFILE", "soft": 200, "hard": 300},
        {"type": "RLIMIT_CORE", "soft": 0, "hard": 0}]"#;
    process.set_rlimits(Some(serde_json::from_str(limit).unwrap()));
    process.set_oom_score_adj(Some(100));
    fixture
}

/// What a container tells of itself, by section.
const QUESTIONS: [(&str, &str); 15] = [
    (
        "status",
        "grep -E '^(Uid|Gid|Groups|NoNewPrivs|Seccomp|Cap)' /proc/self/status",
    ),
    ("limits", "cat /proc/self/limits"),
    ("oom", "cat /proc/self/oom_score_adj; umask"),
    (
        // Read-only counts whether the mount or its file system says it. How a path is masked is each
        // one's own affair; that it is, is asked for below. The directory of version 1's hierarchies is
        // read-only here and writable with runc.
        "mounts",
        "sed 's/ - /|/' /proc/self/mountinfo | awk -F'|' '{split($1,l,\" \"); split($2,r,\" \"); \
         o=\",\" l[6] \",\"; s=\",\" r[3] \",\"; w=(o ~ /,ro,/ || s ~ /,ro,/) ? \"ro\" : \"rw\"; \
         gsub(/,r[ow],/, \",\", o); print l[5], r[1], w, o}' | grep -vE '^(/proc/(acpi|asound|interrupts|kcore|keys|\
latency_stats|sched_debug|scsi|timer_list|timer_stats)|/sys/firmware|/sys/devices/|/sys/fs/cgroup tmpfs)' | sort",
    ),
    (
        "masked",
        "for f in /proc/acpi /proc/kcore /proc/keys /proc/latency_stats /proc/timer_list /proc/scsi \
         /sys/firmware; do echo $f $(cat $f 2>/dev/null | head -c 10 | wc -c) $(ls $f 2>/dev/null | wc -w); done",
    ),
    (
        "read-only",
        "for f in /proc/sys/kernel/sysrq /proc/sysrq-trigger /proc/irq/default_smp_affinity /sys/x \
         /proc/bus/x; do (echo x > $f) 2>/dev/null && echo $f written || echo $f refused; done",
    ),
    (
        "devices",
        // crun also makes /dev/core, which leads to the masked /proc/kcore.
        "ls -ln /dev | awk '{print $1,$3,$4,$5,$6,$NF}' | grep -v -e total -e /proc/kcore",
    ),
    (
        "device rules",
        "mknod /tmp/mem c 1 1 && head -c1 /tmp/mem >/dev/null 2>&1 && echo mem || echo no mem; \
         mknod /tmp/null c 1 3 && echo x > /tmp/null && echo null",
    ),
    (
        "groups",
        "for f in memory/memory.limit_in_bytes memory/memory.memsw.limit_in_bytes \
         memory/memory.soft_limit_in_bytes cpu/cpu.shares cpu/cpu.cfs_quota_us cpu/cpu.cfs_period_us \
         pids/pids.max; do echo $f $(cat /sys/fs/cgroup/$f); done",
    ),
    // runc adds HOME where the spec has none; the engine's specs always have one.
    ("names", "hostname; pwd; id; env | grep -v ^HOME= | sort"),
    (
        "namespaces",
        "ls /proc/self/ns | sort; set -- /proc/[0-9]*; echo $#; ls /sys/class/net",
    ),
    (
        "sysctls",
        "cat /proc/sys/net/ipv4/ping_group_range /proc/sys/net/ipv4/ip_unprivileged_port_start",
    ),
    // runc hands on that its parent ignores the C library's own signals 32 and 33.
    (
        "signals",
        "grep -E '^Sig(Blk|Ign|Cgt)' /proc/self/status | awk '{print $1, substr($2, 10)}'",
    ),
    ("descriptors", "ls /proc/self/fd | wc -l"),
    (
        "refused",
        "unshare -m true 2>&1; mount -t tmpfs t /tmp 2>&1; swapon /x 2>&1; chroot / true && echo chroot",
    ),
];

fn script() -> String {
    let ask = |(name, question): &(&str, &str)| format!("echo '== {name}'; {{ {question}; }}");
    QUESTIONS.iter().map(ask).collect::<Vec<_>>().join("\n")
}

fn sections(output: &str) -> BTreeMap<String, String> {
    let parts = output.split("== ").filter(|part| !part.is_empty());
    let split = |part: &str| {
        let (name, text) = part.split_once('\n').unwrap_or((part, ""));
        (name.to_owned(), text.to_owned())
    };
    parts.map(split).collect()
}

/// Programs, by the beginning of their version, and sections in which they differ, with the reason.
const DIFFERENCES: [(&str, &str, &str); 1] = [(
    "crun version 1.8",
    "mounts",
    "it takes nosuid, nodev and noexec off what is made read-only",
)];

#[tokio::test]
async fn a_container_is_the_same_whoever_makes_it() {
    if !can_run() {
        return;
    }
    let programs = programs();
    if programs.is_empty() {
        return;
    }
    let own = sections(&confined(&script()).output().await);
    assert_eq!(own.len(), QUESTIONS.len());
    for program in programs {
        let theirs = with(confined(&script()), &program.runtime).output().await;
        let theirs = sections(&theirs);
        for (name, text) in &own {
            let is_meant = DIFFERENCES.iter().any(|(version, section, _)| {
                program.version.starts_with(version) && section == name
            });
            let same = theirs.get(name) == Some(text);
            assert!(
                same || is_meant,
                "{name}:\nbuilt in:\n{text}\n{}:\n{}",
                program.version,
                theirs.get(name).map_or("", String::as_str)
            );
            assert!(!same || !is_meant, "{name} does not differ any more");
        }
    }
}

#[tokio::test]
async fn a_program_starts_executes_and_is_cleaned_up_after() {
    if !can_run() {
        return;
    }
    for program in programs() {
        let mut fixture = with(
            Fixture::shell("read line; echo got $line; exit 7"),
            &program.runtime,
        );
        fixture.request.stdio.open_stdin = true;
        fixture.request.stdio.stdin_once = true;
        let shim = fixture.launch().await.unwrap();
        let all = AttachRequest {
            stdin: true,
            stdout: true,
            stderr: true,
        };
        let mut stream = shim.attach(all).await.unwrap();
        shim.start().await.unwrap();
        let (started, output) = shim
            .exec(exec_request("e1", &["sh", "-c", "echo exec; exit 3"]))
            .await
            .unwrap();
        assert!(started.pid > 0);
        let mut bytes = Vec::new();
        output.unwrap().read_to_end(&mut bytes).await.unwrap();
        assert_eq!(common::unframe(&bytes).0, "exec\n");
        assert_eq!(shim.wait_exec("e1").await.unwrap(), 3);
        let missing = shim.exec(exec_request("e2", &["/nope"])).await.unwrap_err();
        let text = missing.to_string();
        assert!(text.starts_with("OCI runtime exec failed: "), "{text}");
        let text = text.to_lowercase();
        assert!(text.contains("no such file or directory"), "{text}");
        shim.pause().await.unwrap();
        shim.resume().await.unwrap();
        assert!(shim.stats().await.unwrap().pids.current > 0);
        tokio::io::AsyncWriteExt::write_all(&mut stream, b"word\n")
            .await
            .unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).await.unwrap();
        assert_eq!(common::unframe(&bytes).0, "got word\n");
        assert_eq!(shim.wait().await.unwrap().code, 7);
        shim.release().await.unwrap();
        common::assert_nothing_left(&fixture);
    }
}

/// A program that makes a process in a container that is paused meanwhile is given up, and its process with it.
#[tokio::test]
async fn a_program_that_meets_a_pause_is_given_up() {
    if !can_run() {
        return;
    }
    for program in programs() {
        let fixture = with(Fixture::new(&["sleep", "1000"]), &program.runtime);
        let shim = fixture.launch().await.unwrap();
        shim.start().await.unwrap();
        for number in 0..20_u64 {
            let request = exec_request(&format!("e{number}"), &["true"]);
            let exec = tokio::spawn({
                let shim = shim.clone();
                async move { shim.exec(request).await.map(drop) }
            });
            tokio::time::sleep(Duration::from_millis(number)).await;
            shim.pause().await.unwrap();
            let answer = tokio::time::timeout(Duration::from_secs(30), exec).await;
            match answer.expect("the shim answers").unwrap() {
                Ok(()) | Err(wharf_runtime::RuntimeError::Paused) => {}
                Err(error) => panic!("{error}"),
            }
            shim.resume().await.unwrap();
        }
        let until = std::time::Instant::now() + Duration::from_secs(30);
        while shim.processes().await.unwrap().len() > 1 {
            assert!(std::time::Instant::now() < until, "a process is left");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        shim.release().await.unwrap();
        common::assert_nothing_left(&fixture);
    }
}

#[tokio::test]
async fn terminals_come_from_the_program() {
    if !can_run() {
        return;
    }
    for program in programs() {
        let terminal = || {
            let mut fixture = Fixture::shell(
                "stty size; tty; test -c /dev/console && echo console; echo err >&2",
            );
            fixture.request.stdio.tty = true;
            fixture.request.stdio.console_size = Some((33, 44));
            fixture.process().set_terminal(Some(true));
            fixture
        };
        let output = with(terminal(), &program.runtime).output().await;
        assert!(output.starts_with("33 44\r\n/dev/pts/0\r\n"), "{output:?}");
        assert_eq!(output, terminal().output().await);
    }
}

#[tokio::test]
async fn what_a_program_cannot_start_is_told_in_its_words() {
    if !can_run() {
        return;
    }
    for program in programs() {
        let fixture = with(Fixture::new(&["nope"]), &program.runtime);
        let error = fixture.run().await.map(drop).unwrap_err().to_string();
        // crun names the program in between: executable file `nope` not found in $PATH.
        let frame = "failed to create task for container: failed to create shim task: \
            OCI runtime create failed: ";
        assert!(error.starts_with(frame), "{error}");
        assert!(
            error.contains("executable file ") && error.contains("not found in $PATH"),
            "{error}"
        );
        common::assert_nothing_left(&fixture);
    }
    let missing = ExternalRuntime {
        program: PathBuf::from("/no/such/runtime"),
        arguments: Vec::new(),
    };
    let fixture = with(Fixture::new(&["true"]), &missing);
    let error = fixture.run().await.map(drop).unwrap_err().to_string();
    assert!(error.contains("/no/such/runtime"), "{error}");
    assert!(!fixture.request.state_dir.exists());
    common::assert_nothing_left(&fixture);
}
