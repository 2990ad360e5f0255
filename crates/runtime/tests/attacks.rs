//! What engines have been broken with (paths, mounts, descriptors), each a container that tries.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::print_stderr)]

mod common;

use std::os::unix::fs::{PermissionsExt, symlink};

use common::{Fixture, can_run, exec_request, process, unframe};
use tokio::io::AsyncReadExt;

/// CVE-2024-21626: the working directory through a leaked descriptor.
#[tokio::test]
async fn working_directory_by_descriptor() {
    if !can_run() {
        return;
    }
    for number in 3..24 {
        let mut fixture = Fixture::new(&["sh", "-c", "ls ../../../../; pwd -P"]);
        fixture
            .process()
            .set_cwd(format!("/proc/self/fd/{number}").into());
        if let Ok(ran) = fixture.run().await {
            assert!(ran.stdout.is_empty(), "{number}: {}", ran.stdout);
        }
    }
    let fixture = Fixture::new(&["sleep", "100"]);
    let shim = fixture.launch().await.unwrap();
    shim.start().await.unwrap();
    for number in 0..24 {
        let mut request = exec_request(&format!("e{number}"), &["pwd"]);
        request.process = process(&["pwd"]);
        request
            .process
            .set_cwd(format!("/proc/self/fd/{number}").into());
        assert!(shim.exec(request).await.is_err(), "{number}");
    }
    shim.release().await.unwrap();
}

/// CVE-2019-5736: the shim's own executable through `/proc/self/exe`.
#[tokio::test]
async fn the_shims_executable_cannot_be_written() {
    if !can_run() {
        return;
    }
    let executable = env!("CARGO_BIN_EXE_wharf-shim-test");
    let before = std::fs::metadata(executable).unwrap();
    // The image's command is the executable of whoever executes it.
    let mut fixture = Fixture::new(&["/bin/self"]);
    let bin = fixture.layer().join("bin");
    std::fs::create_dir_all(&bin).unwrap();
    symlink("/proc/self/exe", bin.join("self")).unwrap();
    let _ = fixture.run().await;
    // An exec that the container watches: /proc/<pid>/exe of a process that is being set up.
    *fixture.process() = process(&[
        "sh",
        "-c",
        "while :; do for p in /proc/[0-9]*; do echo x 2>/dev/null >> $p/exe && echo written $p; done; done",
    ]);
    let names = wharf_runtime::capabilities::tweak(&["ALL".to_owned()], &[], false).unwrap();
    fixture
        .process()
        .set_capabilities(Some(wharf_runtime::defaults::capability_sets(&names)));
    let shim = fixture.launch().await.unwrap();
    shim.start().await.unwrap();
    for number in 0..30 {
        let request = exec_request(&format!("e{number}"), &["/bin/self"]);
        let _ = shim.exec(request).await;
    }
    shim.release().await.unwrap();
    let after = std::fs::metadata(executable).unwrap();
    assert_eq!(before.len(), after.len());
    assert_eq!(before.modified().unwrap(), after.modified().unwrap());
}

/// CVE-2025-31133: `/dev/null` of the image leads to a file worth writing.
#[tokio::test]
async fn masks_do_not_come_from_the_image() {
    if !can_run() {
        return;
    }
    let fixture = Fixture::shell(
        "ls -l /dev/null | cut -c1; cat /proc/keys | wc -c; echo x > /proc/keys; cat /etc/data",
    );
    let dev = fixture.layer().join("dev");
    std::fs::create_dir_all(&dev).unwrap();
    symlink("/etc/data", dev.join("null")).unwrap();
    assert_eq!(fixture.output().await, "c\n0\ndata\n");
}

/// CVE-2025-52565, CVE-2026-41579: `/dev`, `/dev/pts`, `/dev/console` of the image lead elsewhere.
#[tokio::test]
async fn device_directories_that_are_links() {
    if !can_run() {
        return;
    }
    let outside = tempfile::tempdir().unwrap();
    for (name, target) in [
        ("dev", outside.path().display().to_string()),
        ("dev", "../../../../../../../../tmp".to_owned()),
        ("dev/pts", outside.path().display().to_string()),
        (
            "dev/console",
            outside.path().join("file").display().to_string(),
        ),
        ("dev/ptmx", "/etc/data".to_owned()),
    ] {
        let mut fixture = Fixture::shell("tty; cat /etc/data");
        fixture.request.stdio.tty = true;
        let link = fixture.directory.path().join("layers/1").join(name);
        if name == "dev" {
            std::fs::remove_dir(&link).unwrap();
        }
        symlink(&target, &link).unwrap();
        let ran = fixture.run().await;
        if let Ok(ran) = ran {
            assert!(
                ran.stdout.contains("data"),
                "{name} {target}: {}",
                ran.stdout
            );
        }
        assert_eq!(
            std::fs::read_dir(outside.path()).unwrap().count(),
            0,
            "{name} {target}"
        );
    }
}

/// CVE-2019-19921, CVE-2023-28642: `/proc` of the image is a link.
#[tokio::test]
async fn proc_that_is_a_link_is_refused() {
    if !can_run() {
        return;
    }
    for name in ["proc", "sys"] {
        let fixture = Fixture::new(&["true"]);
        let place = fixture.directory.path().join("layers/1").join(name);
        std::fs::remove_dir(&place).unwrap();
        symlink("tmp", &place).unwrap();
        let error = fixture.launch().await.unwrap_err().to_string();
        assert!(
            error.contains("must be mounted on an ordinary directory"),
            "{error}"
        );
        common::assert_nothing_left(&fixture);
    }
}

/// CVE-2021-30465, CVE-2024-45310: mount targets through links of the image or of a volume.
#[tokio::test]
async fn mount_targets_stay_inside() {
    if !can_run() {
        return;
    }
    let outside = tempfile::tempdir().unwrap();
    let mut fixture = Fixture::shell("cat /volume/escape/file; ls /volume");
    let volume = fixture.directory.path().join("volume");
    std::fs::create_dir(&volume).unwrap();
    symlink(outside.path(), volume.join("escape")).unwrap();
    symlink(
        "/../../../../../../../../tmp/wharf-escape",
        volume.join("up"),
    )
    .unwrap();
    let data = fixture
        .directory
        .path()
        .join("layers/1/etc/data")
        .display()
        .to_string();
    let volume = volume.display().to_string();
    for (target, source) in [
        ("/volume", &volume),
        ("/volume/escape/file", &data),
        ("/volume/up/file", &data),
    ] {
        fixture.add_mount(&format!(
            r#"{{"destination":"{target}","type":"bind","source":"{source}","options":["rbind"]}}"#
        ));
    }
    let output = fixture.output().await;
    assert!(output.starts_with("data\n"), "{output}");
    assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 0);
    assert!(!std::path::Path::new("/tmp/wharf-escape").exists());
}

/// CVE-2025-52881, CVE-2019-16884: a volume on `/proc` does not catch what is written there.
#[tokio::test]
async fn kernel_parameters_are_written_to_the_real_procfs() {
    if !can_run() {
        return;
    }
    let mut fixture = Fixture::shell("cat /etc/data");
    let fake = fixture.directory.path().join("fake");
    std::fs::create_dir_all(fake.join("sys/net/ipv4")).unwrap();
    symlink("/etc/data", fake.join("sys/net/ipv4/ping_group_range")).unwrap();
    symlink(
        "/etc/data",
        fake.join("sys/net/ipv4/ip_unprivileged_port_start"),
    )
    .unwrap();
    let mounts = fixture.request.spec.mounts_mut().as_mut().unwrap();
    mounts.retain(|mount| mount.destination() != std::path::Path::new("/proc"));
    let fake = fake.display();
    let json =
        format!(r#"{{"destination":"/proc","type":"bind","source":"{fake}","options":["rbind"]}}"#);
    mounts.insert(0, serde_json::from_str(&json).unwrap());
    assert_eq!(fixture.output().await, "data\n");
    let mut fixture = Fixture::new(&["true"]);
    let bad = [("net/../../../etc/data".to_owned(), "1".to_owned())].into();
    fixture.linux().set_sysctl(Some(bad));
    assert!(fixture.launch().await.is_err());
}

/// CVE-2016-9962: nobody inside may look into a process that is being set up.
#[tokio::test]
async fn descriptors_of_a_joining_process_are_out_of_reach() {
    if !can_run() {
        return;
    }
    let mut fixture = Fixture::shell(
        "while :; do for p in /proc/[0-9]*; do ls -l $p/fd 2>/dev/null | grep -E 'socket|/sys|shim' ; done; done",
    );
    fixture.request.stdio.open_stdin = false;
    let names = wharf_runtime::capabilities::default_names();
    fixture
        .linux()
        .set_seccomp(Some(wharf_runtime::defaults::seccomp_profile(&names)));
    let shim = fixture.launch().await.unwrap();
    let attach = wharf_runtime::AttachRequest {
        stdout: true,
        ..Default::default()
    };
    let mut stream = shim.attach(attach).await.unwrap();
    shim.start().await.unwrap();
    for number in 0..40 {
        let _ = shim
            .exec(exec_request(&format!("e{number}"), &["true"]))
            .await;
    }
    shim.release().await.unwrap();
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await.unwrap();
    assert_eq!(unframe(&bytes).0, "");
}

/// CVE-2020-15257, CVE-2024-25621: nobody else connects to a shim or lists its directory.
#[tokio::test]
async fn state_is_private() {
    if !can_run() {
        return;
    }
    let fixture = Fixture::new(&["true"]);
    std::fs::remove_dir(&fixture.request.state_dir).unwrap();
    let shim = fixture.launch().await.unwrap();
    let mode =
        |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(&fixture.request.state_dir), 0o700);
    let socket = fixture.request.state_dir.join("shim.sock");
    assert_eq!(mode(&socket) & 0o077, 0);
    // Nonsense on the socket ends that connection and nothing else.
    for bytes in [&b"\xff\xff\xff\xff"[..], b"\x02\x00\x00\x00{}", b"\x01\x00"] {
        use tokio::io::AsyncWriteExt;
        let directory = std::fs::File::open(&fixture.request.state_dir).unwrap();
        let path = format!(
            "/proc/self/fd/{}/shim.sock",
            std::os::fd::AsRawFd::as_raw_fd(&directory)
        );
        let mut stream = tokio::net::UnixStream::connect(path).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
    }
    shim.start().await.unwrap();
    assert_eq!(shim.wait().await.unwrap().code, 0);
    shim.release().await.unwrap();
}
