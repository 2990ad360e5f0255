//! What a container sees and may do.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::print_stderr)]

mod common;

use common::{Fixture, can_run, host_mounts};
use wharf_runtime::{RootMount, capabilities, defaults};

#[tokio::test]
async fn capabilities_seccomp_and_no_descriptors() {
    if !can_run() {
        return;
    }
    let mut fixture = Fixture::shell("cat /proc/self/status; ls /proc/self/fd | wc -l; umask");
    let names = capabilities::default_names();
    fixture
        .linux()
        .set_seccomp(Some(defaults::seccomp_profile(&names)));
    let output = fixture.output().await;
    for line in [
        "CapInh:\t0000000000000000",
        "CapPrm:\t00000000a80425fb",
        "CapEff:\t00000000a80425fb",
        "CapBnd:\t00000000a80425fb",
        "CapAmb:\t0000000000000000",
        "NoNewPrivs:\t0",
        "Seccomp:\t2",
    ] {
        assert!(output.contains(line), "{line} is not in {output}");
    }
    // 0, 1, 2 and the directory that ls itself opened.
    assert!(output.contains("\n4\n0022\n"), "{output}");
}

#[tokio::test]
async fn users_groups_and_no_new_privileges() {
    if !can_run() {
        return;
    }
    let mut fixture = Fixture::shell(
        "id; pwd; grep -E 'CapEff|CapBnd|NoNew|Seccomp:' /proc/self/status; echo x > /dev/stderr",
    );
    let names = capabilities::default_names();
    fixture
        .linux()
        .set_seccomp(Some(defaults::seccomp_profile(&names)));
    let process = fixture.process();
    process.set_no_new_privileges(Some(true));
    process.set_cwd("/home/u/new".into());
    let user = process.user_mut();
    user.set_uid(1000)
        .set_gid(1000)
        .set_additional_gids(Some(vec![1000, 10]));
    let ran = fixture.run().await.unwrap();
    let output = ran.stdout;
    assert!(
        output.contains("uid=1000(u) gid=1000(u) groups=10(wheel),1000(u)"),
        "{output}"
    );
    assert!(output.contains("/home/u/new\n"), "{output}");
    assert!(output.contains("CapEff:\t0000000000000000"), "{output}");
    assert!(output.contains("CapBnd:\t00000000a80425fb"), "{output}");
    assert!(output.contains("NoNewPrivs:\t1"), "{output}");
    assert!(output.contains("Seccomp:\t2"), "{output}");
    assert_eq!(ran.stderr, "x\n");
}

#[tokio::test]
async fn mounts_masks_devices_and_names() {
    if !can_run() {
        return;
    }
    let before = host_mounts();
    let script = "cut -d' ' -f5,6 /proc/self/mountinfo; hostname; cat /proc/keys | wc -c; \
        ls /proc/scsi /sys/firmware 2>/dev/null | grep -v : | wc -w; \
        echo 1 2>/dev/null > /proc/sys/kernel/sysrq || echo ro-sys; \
        touch /sys/x 2>/dev/null || echo ro-sysfs; \
        ls -l /dev | sed 's/  */ /g' | cut -d' ' -f1,5-; cat /proc/sys/net/ipv4/ping_group_range; \
        ls /sys/fs/cgroup | head -3; touch /sys/fs/cgroup/x 2>/dev/null || echo ro-cgroup; ps | wc -l; \
        cat /sys/class/net/lo/operstate; ls /sys/class/net; cat /etc/data; echo changed > /etc/data";
    let fixture = Fixture::shell(script);
    let output = fixture.output().await;
    for part in [
        "/proc rw,nosuid,nodev,noexec",
        "/dev rw,nosuid",
        "/dev/pts rw,nosuid,noexec",
        "/sys ro,nosuid,nodev,noexec",
        "/dev/shm rw,nosuid,nodev,noexec",
        "/dev/mqueue rw,nosuid,nodev,noexec",
        "/proc/sys ro,nosuid,nodev,noexec",
        "/proc/keys ro,nosuid",
        "\nbox\n0\n0\n",
        "\nro-sys\nro-sysfs\n",
        "ro-cgroup",
        "\ndata\n",
        "/dev/fd -> /proc/self/fd".trim_start_matches("/dev/"),
        "ptmx -> pts/ptmx",
        "0\t2147483647",
    ] {
        assert!(output.contains(part), "{part:?} is not in {output}");
    }
    let changed = std::fs::read_to_string(fixture.upper().join("etc/data")).unwrap();
    assert_eq!(changed, "changed\n");
    let after = host_mounts();
    let left: Vec<_> = after
        .difference(&before)
        .filter(|line| line.contains(fixture.directory.path().to_str().unwrap()))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test]
async fn binds_files_propagation_and_read_only() {
    if !can_run() {
        return;
    }
    let script = "cat /vol/in; echo w > /vol/out; echo w 2>/dev/null > /ro/x || echo ro-ok; \
        cat /a/b/c/file; df /tmpfs | tail -1 | cut -d' ' -f1; grep -c /rr /proc/self/mountinfo; \
        touch /top 2>/dev/null || echo root-ro; touch /dev/x && echo dev-rw; ls -d /link/t; cat /var/dangling";
    let mut fixture = Fixture::shell(script);
    let volume = fixture.directory.path().join("volume");
    std::fs::create_dir_all(&volume).unwrap();
    std::fs::write(volume.join("in"), "in\n").unwrap();
    let volume = volume.display().to_string();
    std::os::unix::fs::symlink("tmp", fixture.layer().join("link")).unwrap();
    std::fs::create_dir(fixture.layer().join("var")).unwrap();
    std::os::unix::fs::symlink("../run/far/file", fixture.layer().join("var/dangling")).unwrap();
    for mount in [
        format!(r#"{{"destination":"/vol","type":"bind","source":"{volume}","options":["rbind","rprivate"]}}"#),
        format!(r#"{{"destination":"/ro","type":"bind","source":"{volume}","options":["rbind","ro"]}}"#),
        format!(r#"{{"destination":"/rr","type":"bind","source":"{volume}","options":["rbind","rro","rslave"]}}"#),
        format!(r#"{{"destination":"/a/b/c/file","type":"bind","source":"{volume}/in","options":["bind"]}}"#),
        format!(r#"{{"destination":"/var/dangling","type":"bind","source":"{volume}/in","options":["bind"]}}"#),
        r#"{"destination":"/link/t","type":"tmpfs","source":"tmpfs","options":["nosuid","size=64m","mode=1777"]}"#.to_owned(),
        r#"{"destination":"/tmpfs","type":"tmpfs","source":"tmpfs","options":["size=1m"]}"#.to_owned(),
    ] {
        fixture.add_mount(&mount);
    }
    let mut root = oci_spec::runtime::Root::default();
    root.set_readonly(Some(true));
    fixture.request.spec.set_root(Some(root));
    let output = fixture.output().await;
    assert_eq!(
        output,
        "in\nro-ok\nin\ntmpfs\n1\nroot-ro\ndev-rw\n/link/t\nin\n"
    );
    assert_eq!(
        std::fs::read_to_string(format!("{volume}/out")).unwrap(),
        "w\n"
    );
    assert!(fixture.upper().join("tmp/t").is_dir());
    assert!(fixture.upper().join("run/far/file").is_file());
}

#[tokio::test]
async fn start_failures_have_the_words_clients_know() {
    if !can_run() {
        return;
    }
    for (command, text) in [
        ("nope", "exec: \"nope\": executable file not found in $PATH"),
        (
            "/nope",
            "exec: \"/nope\": stat /nope: no such file or directory",
        ),
        ("/etc/data", "exec: \"/etc/data\": permission denied"),
        ("/etc", "exec: \"/etc\": is a directory: permission denied"),
        ("/bin/notexec", "exec /bin/notexec: exec format error"),
    ] {
        let fixture = Fixture::new(&[command]);
        std::fs::create_dir_all(fixture.layer().join("bin")).unwrap();
        let odd = fixture.layer().join("bin/notexec");
        std::fs::write(&odd, "\x7fELF nonsense").unwrap();
        std::fs::set_permissions(&odd, std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .unwrap();
        let Err(error) = fixture.run().await else {
            panic!("{command} ran");
        };
        let error = error.to_string();
        assert!(error.ends_with(text), "{error}");
        assert!(
            error.starts_with("failed to create task for container: failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: error during container init: exec"),
            "{error}"
        );
        common::assert_nothing_left(&fixture);
    }
}

#[tokio::test]
async fn mount_failures_name_the_mount() {
    if !can_run() {
        return;
    }
    let mut fixture = Fixture::new(&["true"]);
    fixture.add_mount(
        r#"{"destination":"/etc/data","type":"bind","source":"/tmp","options":["bind"]}"#,
    );
    let error = fixture.launch().await.unwrap_err().to_string();
    let reason = "error mounting \"/tmp\" to rootfs at \"/etc/data\": mount /tmp:/etc/data: not a directory: Are you trying";
    assert!(error.contains(reason), "{error}");
    common::assert_nothing_left(&fixture);
    let mut fixture = Fixture::new(&["true"]);
    fixture.add_mount(
        r#"{"destination":"/x","type":"bind","source":"/missing-here","options":["bind"]}"#,
    );
    let error = fixture.launch().await.unwrap_err().to_string();
    assert!(
        error.contains("/missing-here: no such file or directory"),
        "{error}"
    );
}

#[tokio::test]
async fn plain_directories_and_many_layers() {
    if !can_run() {
        return;
    }
    let mut fixture = Fixture::new(&["cat", "/etc/data"]);
    fixture.request.root = RootMount::Directory(fixture.directory.path().join("layers/1"));
    assert_eq!(fixture.output().await, "data\n");
    let mut fixture = Fixture::new(&["sh", "-c", "cat /etc/n; ls /many | wc -l"]);
    let base = fixture.directory.path().join("layers");
    let mut lower = vec![base.join("1")];
    for number in 3..130 {
        let layer = base.join(number.to_string());
        std::fs::create_dir_all(layer.join("many")).unwrap();
        std::fs::create_dir_all(layer.join("etc")).unwrap();
        std::fs::write(layer.join(format!("many/{number}")), "").unwrap();
        std::fs::write(layer.join("etc/n"), format!("{number}\n")).unwrap();
        lower.push(layer);
    }
    let RootMount::Overlay { lower_dirs, .. } = &mut fixture.request.root else {
        panic!("not an overlay");
    };
    *lower_dirs = lower;
    assert_eq!(fixture.output().await, "129\n127\n");
}

#[tokio::test]
async fn detached_mounts_show_the_same_files() {
    if !can_run() {
        return;
    }
    let fixture = Fixture::shell("echo new > /etc/new; rm /etc/data");
    fixture.output().await;
    let before = host_mounts();
    let mount = wharf_runtime::mount_detached(&fixture.request.root, true).unwrap();
    let root = wharf_safefs::Root::from_fd(mount);
    assert_eq!(root.read("etc/new", 100).unwrap(), b"new\n");
    assert!(!root.exists("etc/data").unwrap());
    assert!(root.create_file("etc/more", 0o644).is_err(), "read-only");
    let writable = wharf_runtime::mount_detached(&fixture.request.root, false).unwrap();
    wharf_safefs::Root::from_fd(writable)
        .create_file("etc/more", 0o644)
        .unwrap();
    assert!(fixture.upper().join("etc/more").is_file());
    let own = fixture.directory.path().display().to_string();
    assert!(
        !host_mounts()
            .difference(&before)
            .any(|line| line.contains(&own))
    );
}

fn namespaces(json: &str) -> Option<Vec<oci_spec::runtime::LinuxNamespace>> {
    Some(serde_json::from_str(json).unwrap())
}

#[tokio::test]
async fn a_cgroup_namespace_hides_where_the_group_lies() {
    if !can_run() {
        return;
    }
    let mut fixture = Fixture::shell("grep pids /proc/self/cgroup");
    let json =
        r#"[{"type":"pid"},{"type":"ipc"},{"type":"uts"},{"type":"network"},{"type":"cgroup"}]"#;
    fixture.linux().set_namespaces(namespaces(json));
    let output = fixture.output().await;
    assert!(output.trim_end().ends_with(":pids:/"), "{output}");
}

#[tokio::test]
async fn a_later_process_joins_the_cgroup_namespace() {
    if !can_run() {
        return;
    }
    let mut fixture = Fixture::new(&["sleep", "1000"]);
    let json =
        r#"[{"type":"pid"},{"type":"ipc"},{"type":"uts"},{"type":"network"},{"type":"cgroup"}]"#;
    fixture.linux().set_namespaces(namespaces(json));
    let shim = fixture.launch().await.unwrap();
    shim.start().await.unwrap();
    let request = common::exec_request("one", &["grep", "pids", "/proc/self/cgroup"]);
    let (_, stream) = shim.exec(request).await.unwrap();
    let mut framed = Vec::new();
    tokio::io::AsyncReadExt::read_to_end(&mut stream.unwrap(), &mut framed)
        .await
        .unwrap();
    let (output, _) = common::unframe(&framed);
    assert!(output.trim_end().ends_with(":pids:/"), "{output}");
    assert_eq!(shim.wait_exec("one").await.unwrap(), 0);
    shim.signal(libc::SIGKILL, true).await.unwrap();
    shim.wait().await.unwrap();
    shim.release().await.unwrap();
}

#[tokio::test]
async fn without_a_pid_namespace_all_ends_with_the_first_process() {
    if !can_run() {
        return;
    }
    let mut fixture = Fixture::shell("sleep 1000 & echo $!");
    let json = r#"[{"type":"ipc"},{"type":"uts"},{"type":"network"}]"#;
    fixture.linux().set_namespaces(namespaces(json));
    let begin = std::time::Instant::now();
    let output = fixture.output().await;
    common::assert_ends(output.trim().parse().unwrap()).await;
    assert!(begin.elapsed().as_secs() < 2);
    common::assert_nothing_left(&fixture);
}

#[tokio::test]
async fn namespaces_of_another_container_are_joined() {
    if !can_run() {
        return;
    }
    let first = Fixture::new(&["sleep", "1000"]);
    let shim = first.launch().await.unwrap();
    shim.start().await.unwrap();
    let mut second = Fixture::shell(
        "ps -o pid,args | grep -c '[s]leep 1000'; hostname; readlink /proc/self/ns/net",
    );
    let pid = shim.pid();
    let json = format!(
        r#"[{{"type":"pid","path":"/proc/{pid}/ns/pid"}},{{"type":"uts","path":"/proc/{pid}/ns/uts"}},{{"type":"network","path":"/proc/{pid}/ns/net"}},{{"type":"ipc"}}]"#
    );
    second
        .linux()
        .set_namespaces(namespaces(&json))
        .set_sysctl(None);
    second.request.spec.set_hostname(None);
    let network = std::fs::read_link(format!("/proc/{pid}/ns/net")).unwrap();
    let output = second.output().await;
    assert_eq!(output, format!("1\nbox\n{}\n", network.display()));
    // The same by descriptor.
    let descriptor = std::fs::File::open(format!("/proc/{pid}/ns/net")).unwrap();
    let mut third = Fixture::shell("[ $(readlink /proc/self/ns/net) = \"$WANTED\" ]");
    let mut environment = third.process().env().clone().unwrap();
    environment.push(format!("WANTED={}", network.display()));
    third.process().set_env(Some(environment));
    third.linux().set_sysctl(None);
    let fd = std::os::fd::AsFd::as_fd(&descriptor);
    let joined = wharf_runtime::launch(&third.request, Some(fd))
        .await
        .unwrap();
    joined.start().await.unwrap();
    assert_eq!(joined.wait().await.unwrap().code, 0);
    joined.release().await.unwrap();
    shim.release().await.unwrap();
}

#[tokio::test]
async fn a_container_that_is_never_started_goes_with_its_handle() {
    if !can_run() {
        return;
    }
    let fixture = Fixture::new(&["true"]);
    let shim = fixture.launch().await.unwrap();
    let pid = shim.pid();
    drop(shim);
    common::assert_ends(pid).await;
}

#[tokio::test]
async fn a_filter_is_in_force() {
    if !can_run() {
        return;
    }
    let mut fixture = Fixture::shell("unshare -U true; mount -t tmpfs x /tmp; true");
    let names = capabilities::default_names();
    fixture
        .linux()
        .set_seccomp(Some(defaults::seccomp_profile(&names)));
    let ran = fixture.run().await.unwrap();
    assert!(
        ran.stderr.contains("Operation not permitted"),
        "{}",
        ran.stderr
    );
    assert_eq!(ran.status.code, 0);
}
