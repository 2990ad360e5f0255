//! Builds as wharf's own client asks for them.

use crate::harness::{Client, Daemon, docker_program};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

const EPOCH: &str = "SOURCE_DATE_EPOCH=1700000000";

fn write(d: &Daemon, dockerfile: &str) {
    d.write("context/Dockerfile", dockerfile);
}

fn wharf(d: &Daemon, arguments: &[&str]) -> String {
    d.ok(Client::Wharf, arguments)
}

/// Returns the vertices of a build's events that were in the cache.
fn cached(events: &str) -> BTreeSet<String> {
    let events = events.lines().filter_map(|line| {
        let event: serde_json::Value = serde_json::from_str(line).ok()?;
        let is_cached = event["event"] == "completed" && event["cached"] == true;
        is_cached.then(|| event["digest"].to_string())
    });
    events.collect()
}

/// A build that is killed with the daemon at random moments goes on from the finished steps and gives the same image.
#[test]
fn a_killed_build_resumes_and_gives_the_same_image() {
    const ROUNDS: usize = 6;
    let steps: String = (0..6)
        .map(|step| format!("RUN sleep 0.1 && echo {step} > /{step}\n"))
        .collect();
    let dockerfile = format!(
        "FROM busybox AS side\nRUN sleep 0.2 && echo side > /side\nFROM busybox\nCOPY files /files\n{steps}COPY --from=side /side /\n"
    );
    let arguments = |how: &'static str| {
        let rest = ["-o", "type=image,rewrite-timestamp=true", "context"];
        [&["build", how, "--build-arg", EPOCH][..], &rest].concat()
    };
    let mut d = Daemon::with_busybox();
    for number in 0..300 {
        d.write(&format!("context/files/{number}"), "text");
    }
    write(&d, &dockerfile);
    let seed = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |now| now.subsec_nanos());
    println!("moments from {seed}");
    let mut moment = u64::from(seed);
    let mut kept = BTreeSet::new();
    for _ in 0..ROUNDS {
        moment = moment
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let wait = Duration::from_millis(20 + (moment >> 33) % 900);
        let events = std::thread::scope(|scope| {
            let daemon = &d;
            let build =
                scope.spawn(move || daemon.call(Client::Wharf, &arguments("--progress=rawjson")));
            std::thread::sleep(wait);
            daemon.kill_by_pid();
            build.join().expect("the client ends").stdout
        });
        let found = cached(&events);
        // What was there once stays, as far as this build came to tell it.
        if events.contains("\"started\"") {
            assert!(found.is_superset(&kept), "{wait:?}: {kept:?} {found:?}");
            kept = found;
        }
        d.kill();
        d.launch();
    }
    let resumed = wharf(&d, &arguments("-q"));
    // One that nobody disturbs finds everything, and one without the cache makes the same.
    let again = wharf(&d, &arguments("--progress=rawjson"));
    assert!(cached(&again).len() >= 9, "{again}");
    assert!(cached(&again).is_superset(&kept));
    let mut whole = arguments("-q");
    whole.insert(1, "--no-cache");
    assert_eq!(wharf(&d, &whole), resumed);
    wharf(&d, &["image", "inspect", resumed.trim()]);
}

#[test]
fn stages_run_at_once_and_misses_are_explained() {
    let d = Daemon::with_busybox();
    d.write("context/src/a.c", "1");
    d.write("context/run.sh", "x");
    write(
        &d,
        "FROM busybox AS a\nRUN sleep 1.5 && echo a > /a\nFROM busybox AS b\nRUN sleep 1.5 && echo b > /b\n\
         FROM busybox\nCOPY --from=a /a /\nCOPY --from=b /b /\nCOPY src run.sh /w/\nRUN cat /a /b\n",
    );
    let began = Instant::now();
    wharf(&d, &["build", "--parallel", "2", "context"]);
    // One after the other the stages sleep three seconds.
    assert!(
        began.elapsed() < Duration::from_millis(2_900),
        "{:?}",
        began.elapsed()
    );
    d.write("context/src/a.c", "2");
    let told = wharf(&d, &["build", "--explain", "context"]);
    assert!(
        told.contains("step 8 COPY src run.sh /w/: 1 of 2 files changed: src/a.c (content)"),
        "{told}"
    );
    assert!(
        told.contains("step 9 RUN cat /a /b: its input changed (step 8)"),
        "{told}"
    );
    assert!(
        told.contains("step 2 RUN sleep 1.5 && echo a > /a: cached"),
        "{told}"
    );
    let events = wharf(&d, &["build", "--progress", "rawjson", "context"]);
    assert!(events.lines().all(|line| line.starts_with('{')), "{events}");
    assert_eq!(wharf(&d, &["builder", "logs", "9"]), "");
    let logs = wharf(&d, &["builder", "ls", "-q"]);
    let second = logs.lines().nth(1).expect("there were three builds");
    assert_eq!(wharf(&d, &["builder", "logs", second, "9"]), "a\nb");
}

#[test]
fn failed_steps_can_be_entered_and_limits_are_told() {
    let d = Daemon::with_busybox();
    write(
        &d,
        "FROM busybox\nENV GREETING=hi\nWORKDIR /w\nRUN echo kept > made && exit 3\n",
    );
    let failed = d.call(Client::Wharf, "build context");
    assert_eq!(failed.code, 3);
    assert!(
        failed.stderr.contains("hint: `wharf builder shell "),
        "{}",
        failed.stderr
    );
    let shell = d.call_with_input(
        Client::Wharf,
        "builder shell",
        b"cat made; pwd; echo $GREETING\n",
    );
    assert_eq!(
        (shell.code, shell.stdout.as_str()),
        (0, "kept\n/w\nhi\n"),
        "{}",
        shell.stderr
    );
    // The same at once; what the shell ends with changes nothing.
    let arguments = ["build", "--on-error", "shell", "context"];
    let entered = d.call_with_input(Client::Wharf, &arguments, b"cat made; exit 9\n");
    assert!(
        entered.code == 3 && entered.stdout.ends_with("kept\n"),
        "{entered:?}"
    );
    assert!(!entered.stderr.contains("cannot open"), "{entered:?}");
    // Secrets are asked for again.
    d.write("secret", "s3cret");
    write(
        &d,
        "FROM busybox\nRUN --mount=type=secret,id=one,target=/s --mount=type=cache,target=/kept touch /kept/x && exit 4\n",
    );
    let arguments = ["build", "--secret", "id=one,src=secret", "context"];
    assert_eq!(d.call(Client::Wharf, &arguments).code, 4);
    let arguments = ["builder", "shell", "--secret", "id=one,src=secret"];
    let shell = d.call_with_input(Client::Wharf, &arguments, b"cat /s; ls /kept\n");
    assert_eq!(
        (shell.code, shell.stdout.as_str()),
        (0, "s3cretx\n"),
        "{}",
        shell.stderr
    );
    write(
        &d,
        "FROM busybox\nRUN dd if=/dev/zero of=/dev/null bs=200M count=1\n",
    );
    let killed = d.call(Client::Wharf, "build --memory 50m context");
    assert_eq!(killed.code, 137);
    assert!(
        killed
            .stderr
            .contains("its limit is 50.0 MiB, its peak was"),
        "{}",
        killed.stderr
    );
}

#[test]
fn results_go_where_they_are_asked_to() {
    let d = Daemon::with_busybox();
    write(
        &d,
        "FROM busybox AS b\nRUN mkdir /out && echo made > /out/f\nFROM scratch\nCOPY --from=b /out /\n",
    );
    let files = d.path("files");
    let tar = d.path("result.tar");
    let archive = d.path("image.tar");
    let local = format!("type=local,dest={}", files.display());
    let plain = format!("type=tar,dest={}", tar.display());
    let docker = format!("type=docker,dest={}", archive.display());
    wharf(
        &d,
        &[
            "build", "-o", &local, "-o", &plain, "-o", &docker, "context",
        ],
    );
    assert_eq!(
        std::fs::read_to_string(files.join("f")).expect("the file"),
        "made\n"
    );
    assert!(std::fs::metadata(&tar).is_ok_and(|tar| tar.len() > 0));
    // Nobody asked for an image to be kept.
    assert!(
        !wharf(&d, &["images", "-aq"])
            .lines()
            .any(|id| id != wharf(&d, &["images", "-q", "busybox"]).trim())
    );
    wharf(&d, &["load", "-i", &archive.to_string_lossy()]);
    let squashed = wharf(&d, &["build", "-q", "--squash", "context"]);
    wharf(&d, &["image", "inspect", squashed.trim()]);
    write(
        &d,
        "FROM busybox\nRUN cat /proc/sys/kernel/random/uuid > /when\n",
    );
    let differs = d.call(Client::Wharf, "build --verify context").stderr;
    assert!(
        differs.contains("/when differs in its content"),
        "{differs}"
    );
}

/// Builds that lead to the same image take nothing away from each other, and a prune nothing from any of them.
#[test]
fn builds_of_the_same_image_do_not_take_it_away_from_each_other() {
    const ROUNDS: usize = 4;
    let d = Daemon::with_busybox();
    write(
        &d,
        "FROM busybox AS b\nRUN mkdir /out && head -c 4000000 /dev/zero > /out/f\nFROM scratch\nCOPY --from=b /out /\n",
    );
    // All that follow find every step in the cache, and so lead to the same image at nearly the same time.
    let warm = wharf(&d, &["build", "-q", "context"]);
    wharf(&d, &["rmi", warm.trim()]);
    let is_over = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let mut builds = Vec::new();
        for number in 0..4 {
            let d = &d;
            builds.push(scope.spawn(move || {
                for round in 0..ROUNDS {
                    let files = d.path(&format!("files-{number}-{round}"));
                    let local = format!("type=local,dest={}", files.display());
                    let tar = format!("type=tar,dest={}.tar", files.display());
                    wharf(d, &["build", "-o", &local, "-o", &tar, "context"]);
                    let length = std::fs::metadata(files.join("f")).expect("the file").len();
                    assert_eq!(length, 4_000_000);
                }
            }));
        }
        builds.push(scope.spawn(|| {
            for _ in 0..ROUNDS {
                wharf(&d, &["build", "-q", "-t", "kept", "context"]);
                wharf(&d, &["image", "inspect", "kept"]);
                wharf(&d, &["rmi", "kept"]);
            }
        }));
        let pruning = scope.spawn(|| {
            while !is_over.load(std::sync::atomic::Ordering::SeqCst) {
                wharf(&d, &["image", "prune", "-f"]);
            }
        });
        let ended: Vec<_> = builds.into_iter().map(|build| build.join()).collect();
        is_over.store(true, std::sync::atomic::Ordering::SeqCst);
        pruning.join().expect("the prunes work");
        assert!(ended.iter().all(Result::is_ok), "{}", d.log());
    });
    // Nobody wanted the image to stay; one that is there without a name is not taken away by a build for files.
    let busybox = wharf(&d, &["images", "-q", "busybox"]);
    assert_eq!(wharf(&d, &["images", "-aq"]), busybox);
    let dangling = wharf(&d, &["build", "-q", "context"]);
    let archive = format!("type=tar,dest={}", d.path("result.tar").display());
    let id = wharf(&d, &["build", "-q", "-o", &archive, "context"]);
    assert_eq!(id, dangling);
    wharf(&d, &["image", "inspect", dangling.trim()]);
    // The archive on standard output has nothing else around it.
    let mut build = d.command(Client::Wharf);
    let build = build.args(["build", "-q", "-o", "-", "context"]).output();
    let stdout = build.expect("the client runs").stdout;
    assert!(
        stdout.starts_with(b"f\0"),
        "the archive does not begin with its first entry"
    );
}

#[test]
fn steps_see_their_mounts_and_copies_keep_to_their_flags() {
    let d = Daemon::with_busybox();
    d.write("context/a/b/file", "text");
    d.write("context/a/skipped", "");
    let secret = d.write("secret", "s3cret");
    write(
        &d,
        "FROM busybox AS other\nRUN mkdir /made && echo other > /made/file\n\
         FROM busybox\n\
         COPY --exclude=skipped a /excluded/\n\
         COPY --link a/b/file /linked/file\n\
         COPY --parents a/./b/file /parents/\n\
         RUN --mount=type=secret,id=one cat /run/secrets/one && test ! -e /excluded/skipped && cat /linked/file /parents/b/file\n\
         RUN --mount=type=bind,source=a,target=/bound --mount=type=tmpfs,target=/fast \\\n\
           grep ' /fast tmpfs' /proc/mounts && cat /bound/b/file && ! touch /bound/x\n\
         RUN --mount=type=bind,from=other,source=/made,target=/made,rw echo lost > /made/file && cat /made/file\n\
         RUN --mount=type=cache,target=/kept echo one >> /kept/file\n\
         RUN --mount=type=cache,target=/kept echo two >> /kept/file && test \"$(wc -l < /kept/file)\" = 2\n\
         RUN test -z \"$(ls /kept /bound /fast /made /run/secrets 2>/dev/null)\"\n\
         RUN <<SCRIPT\n#!/usr/bin/awk -f\nBEGIN { print \"from a script\" }\nSCRIPT\n",
    );
    let from_file = format!("id=one,src={}", secret.display());
    let told = wharf(
        &d,
        &[
            "build",
            "--progress",
            "plain",
            "--secret",
            &from_file,
            "-t",
            "mounted",
            "context",
        ],
    );
    assert!(told.contains("from a script"), "{told}");
    // What was mounted is no part of the image, and the other stage's files are as they were.
    let gone = wharf(&d, &["run", "--rm", "mounted", "ls", "/"]);
    assert!(!gone.contains("s3cret"), "{gone}");
    let mounts = wharf(&d, &["builder", "cache", "ls"]);
    assert!(mounts.contains("kept"), "{mounts}");
}

/// What a cache mount holds goes out, comes back under another name, and survives the step cache.
#[test]
fn cache_mounts_are_exported_imported_and_removed() {
    let d = Daemon::with_busybox();
    let keep = |id: &str, script: &str| {
        let mount = format!("--mount=type=cache,id={id},target=/kept");
        write(&d, &format!("FROM busybox\nRUN {mount} {script}\n"));
        wharf(&d, &["build", "--progress", "plain", "context"])
    };
    keep(
        "one",
        "mkdir /kept/d && echo text > /kept/d/f && chmod 600 /kept/d/f",
    );
    wharf(&d, &["builder", "prune", "-f"]);
    let listed = wharf(&d, &["builder", "cache", "ls"]);
    assert!(listed.contains("/one"), "{listed}");
    let inspected = wharf(&d, &["builder", "cache", "inspect", "one"]);
    let inspected: serde_json::Value = serde_json::from_str(&inspected).unwrap();
    assert_eq!(inspected[0]["Id"], "/one");
    let exported = d
        .command(Client::Wharf)
        .args(["builder", "cache", "export", "one"])
        .output()
        .unwrap()
        .stdout;
    assert!(exported.len() > 1024);
    wharf(&d, &["builder", "cache", "rm", "one"]);
    let import = |id: &str, bytes: &[u8]| {
        d.call_with_input(Client::Wharf, &["builder", "cache", "import", id], bytes)
    };
    for cut in [0, 300, 700] {
        let refused = import("cut", &exported[..cut]);
        assert_ne!(refused.code, 0, "{cut}: {refused:?}");
    }
    assert_eq!(wharf(&d, &["builder", "cache", "ls", "-q"]), "");
    let imported = import("two", &exported);
    assert_eq!(imported.code, 0, "{imported:?}");
    let told = keep("two", "cat /kept/d/f && stat -c %a /kept/d/f");
    assert!(told.contains("text") && told.contains("600"), "{told}");
}

#[test]
fn what_steps_may_not_have_is_refused_before_anything_runs() {
    let d = Daemon::with_busybox();
    for (line, text) in [
        ("RUN --security=insecure true", "--allow security.insecure"),
        (
            "RUN --network=host true",
            "network.host is not allowed: grant it with --allow network.host",
        ),
        ("RUN --device=vendor.com/device=one true", "get no devices"),
    ] {
        write(&d, &format!("FROM busybox\nRUN echo ran\n{line}\n"));
        let failed = d.call(Client::Wharf, "build context");
        assert_ne!(failed.code, 0);
        assert!(failed.stderr.contains(text), "{}", failed.stderr);
        assert!(!failed.stdout.contains("ran\n"), "{}", failed.stdout);
    }
}

#[test]
fn what_steps_are_allowed_they_get() {
    let d = Daemon::with_busybox();
    write(
        &d,
        "FROM busybox\nRUN --network=host cat /proc/net/dev && readlink /proc/self/ns/net\n",
    );
    let own = std::fs::read_link("/proc/self/ns/net").expect("a namespace");
    let own = own.to_string_lossy().into_owned();
    let build = |arguments: &[&str]| {
        let all = [&["build", "--no-cache"][..], arguments, &["context"]].concat();
        d.ok(Client::Wharf, &all)
    };
    for arguments in [["--allow", "network.host"], ["--network", "host"]] {
        let told = build(&arguments);
        assert!(told.contains(&own), "{told}");
    }
    // Docker's client has no word for what is allowed: its own network flag says it.
    if docker_program().is_some() {
        let refused = d.call(Client::Docker, "build --no-cache context");
        assert_ne!(refused.code, 0);
        let host = ["build", "--no-cache", "--network", "host", "context"];
        let told = d.ok(Client::Docker, &host);
        assert!(told.contains(&own), "{told}");
    }
    write(
        &d,
        "FROM busybox\nRUN grep CapEff /proc/self/status\n\
         RUN --security=insecure grep CapEff /proc/self/status && mkdir -p /mnt && mount -t tmpfs none /mnt && echo mounted\n",
    );
    let told = build(&["--allow", "security.insecure"]);
    let capabilities: Vec<&str> = told
        .lines()
        .filter_map(|line| line.trim().split_once("CapEff:"))
        .map(|(_, value)| value.trim())
        .collect();
    assert_eq!(capabilities.len(), 2, "{told}");
    assert_ne!(capabilities[0], capabilities[1], "{told}");
    assert!(told.contains("mounted"), "{told}");
}

#[test]
fn limits_hold_in_every_step() {
    let d = Daemon::with_busybox();
    let show = "cat /sys/fs/cgroup/cpu*/cpu.cfs_quota_us /sys/fs/cgroup/cpu.max 2>/dev/null; \
        cat /sys/fs/cgroup/pids/pids.max /sys/fs/cgroup/pids.max 2>/dev/null; \
        ulimit -n; df -k /dev/shm | tail -n 1; grep elsewhere /etc/hosts";
    write(
        &d,
        &format!("FROM busybox\nRUN echo one; {show}\nRUN echo two; {show}\n"),
    );
    let limits = [
        "--cpus",
        "0.5",
        "--pids-limit",
        "20",
        "--ulimit",
        "nofile=77",
        "--shm-size",
        "3m",
        "--add-host",
        "elsewhere:10.1.2.3",
        "--memory",
        "64m",
    ];
    let told = wharf(&d, &[&["build"][..], &limits, &["context"]].concat());
    for step in [
        told.split("one\n").nth(1).expect("the first step ran"),
        told.split("two\n").nth(1).expect("the second step ran"),
    ] {
        assert!(step.contains("50000"), "{told}");
        assert!(step.contains("\n20\n"), "{told}");
        assert!(step.contains("77\n"), "{told}");
        assert!(step.contains("3072"), "{told}");
        assert!(step.contains("10.1.2.3"), "{told}");
    }
    write(
        &d,
        "FROM busybox\nRUN for i in $(seq 40); do sleep 5 & done; wait; exit 1\n",
    );
    let refused = d.call(Client::Wharf, "build --pids-limit 10 context");
    assert_ne!(refused.code, 0);
    assert!(
        refused
            .stderr
            .contains("its limit is 10: more were refused"),
        "{}",
        refused.stderr
    );
}

/// Returns the layers of an image.
fn layers(d: &Daemon, image: &str) -> String {
    wharf(
        d,
        &[
            "image",
            "inspect",
            "--format",
            "{{json .RootFS.Layers}}",
            image,
        ],
    )
}

#[test]
fn caches_go_to_other_machines() {
    let dockerfile = "FROM busybox AS made\nRUN cat /proc/sys/kernel/random/uuid > /one\n\
        FROM busybox\nENV A=1\nCOPY file /\nCOPY --from=made /one /\nRUN cat /proc/sys/kernel/random/uuid > /two\nRUN true\nLABEL b=2\n";
    let first = Daemon::with_busybox();
    let machine = || {
        let d = Daemon::start();
        wharf(
            &d,
            &["load", "-i", &first.path("base.tar").to_string_lossy()],
        );
        d.write("context/file", "text");
        write(&d, dockerfile);
        d
    };
    wharf(
        &first,
        &[
            "save",
            "-o",
            &first.path("base.tar").to_string_lossy(),
            "busybox",
        ],
    );
    first.write("context/file", "text");
    write(&first, dockerfile);
    let directory = first.path("cache");
    let (all, few) = (directory.join("all"), directory.join("few"));
    let target = |path: &std::path::Path, mode: &str| {
        format!("type=local,dest={},mode={mode}", path.display())
    };
    let id = wharf(
        &first,
        &[
            "build",
            "-q",
            "--cache-to",
            &target(&all, "max"),
            "--cache-to",
            &target(&few, "min"),
            "context",
        ],
    );
    wharf(
        &first,
        &[
            "build",
            "-q",
            "--cache-to",
            "type=inline",
            "-t",
            "app",
            "context",
        ],
    );
    assert_eq!(layers(&first, "app"), layers(&first, id.trim()));
    wharf(
        &first,
        &[
            "save",
            "-o",
            &first.path("app.tar").to_string_lossy(),
            "app",
        ],
    );

    for path in [&all, &few] {
        let second = machine();
        let source = format!("type=local,src={}", path.display());
        let told = wharf(
            &second,
            &["build", "--cache-from", &source, "-t", "again", "context"],
        );
        assert!(told.matches("Using cache").count() >= 6, "{told}");
        assert_eq!(layers(&second, "again"), layers(&first, id.trim()));
        let found = wharf(&second, &["images", "-q", "--no-trunc", "again"]);
        assert_eq!(found.trim(), id.trim());
        // What came from there stays.
        let told = wharf(&second, &["build", "context"]);
        assert!(told.matches("Using cache").count() >= 6, "{told}");
    }
    let third = machine();
    wharf(
        &third,
        &["load", "-i", &first.path("app.tar").to_string_lossy()],
    );
    wharf(
        &third,
        &["build", "--cache-from", "app", "-t", "again", "context"],
    );
    assert_eq!(layers(&third, "again"), layers(&first, "app"));

    // A cache whose bytes are not what their names say is of no use, and does no harm.
    let blobs = all.join("blobs/sha256");
    for entry in std::fs::read_dir(&blobs).expect("there are blobs") {
        let path = entry.expect("an entry").path();
        if std::fs::metadata(&path).is_ok_and(|found| found.len() > 100_000) {
            continue;
        }
        let mut bytes = std::fs::read(&path).expect("a blob");
        bytes.push(b' ');
        std::fs::write(&path, bytes).expect("a blob");
    }
    let fourth = machine();
    let source = format!("type=local,src={}", all.display());
    let told = fourth.call(
        Client::Wharf,
        &["build", "--cache-from", &source, "-t", "again", "context"],
    );
    assert_eq!(told.code, 0, "{}", told.stderr);
    let all_told = format!("{}{}", told.stdout, told.stderr);
    assert!(all_told.contains("holds something else"), "{all_told}");
    assert_ne!(layers(&fourth, "again"), layers(&first, "app"));
    let refused = fourth.call(
        Client::Wharf,
        "build --cache-to type=registry,ref=a/b context",
    );
    assert!(
        refused.stderr.contains("not supported yet"),
        "{}",
        refused.stderr
    );
}
