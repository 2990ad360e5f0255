//! Archives that nobody should be sent: refused before anything is named, and nothing outside is touched.

use crate::archives::{Entry, image_archive, tar_of};
use crate::harness::{Client, Daemon, clients, eventually};
use std::process::Command;

/// Checks that nothing was named, stored or left half-way.
fn holds_nothing(d: &Daemon, client: Client) {
    assert_eq!(d.ok(client, "images -aq"), "");
    eventually("what was begun is removed", || d.disowned().is_empty());
    let layers = std::fs::read_dir(d.path("root/layers")).unwrap().count();
    assert_eq!(layers, 0);
}

#[test]
fn broken_archives_leave_nothing() {
    for client in clients() {
        let full = Daemon::with_busybox();
        full.ok(client, "save -o good.tar busybox");
        let good = std::fs::read(full.path("good.tar")).unwrap();
        let d = Daemon::start();
        for tenth in 0..10 {
            // Short of the two blocks of zeros at the end, which readers do not need.
            d.write("cut.tar", &good[..(good.len() - 1024 * 12) / 10 * tenth]);
            let cut = d.call(client, "load -i cut.tar");
            assert_eq!(cut.code, 1, "{tenth} tenths: {cut:?}");
            holds_nothing(&d, client);
        }
        let mut corrupt = good.clone();
        let middle = corrupt.len() / 2;
        corrupt[middle] ^= 0xff;
        d.write("corrupt.tar", &corrupt);
        d.fails(client, "load -i corrupt.tar", 1, "invalid");
        d.write("nonsense.tar", b"this is no archive");
        d.fails(client, "load -i nonsense.tar", 1, "archive");
        holds_nothing(&d, client);
    }
}

#[test]
fn broken_imports_leave_nothing() {
    for client in clients() {
        let d = Daemon::start();
        let good = std::fs::read(crate::harness::base_image_tar("busybox")).unwrap();
        let half = &good[..good.len() / 2 + 100];
        d.write("cut.tar", half);
        d.fails(client, "import cut.tar x", 1, "cannot read");
        d.write("half", half);
        for (program, name) in [("gzip", "cut.gz"), ("xz", "cut.xz"), ("zstd", "cut.zst")] {
            let output = Command::new(program)
                .args(["-c"])
                .arg(d.path("half"))
                .output();
            let packed = output.unwrap().stdout;
            d.write(name, &packed[..packed.len() / 2]);
            let cut = d.call(client, &["import", name, "x"]);
            assert_eq!(cut.code, 1, "{name}: {cut:?}");
        }
        holds_nothing(&d, client);
    }
}

#[test]
fn names_that_climb_out_are_refused() {
    for client in clients() {
        let d = Daemon::start();
        let outside = d.path("escaped");
        let climb = format!("{}{}", "../".repeat(12), &outside.to_str().unwrap()[1..]);
        assert!(climb.len() < 100);
        let layers = [
            tar_of(&[Entry::File("../../escaped", "x")]),
            tar_of(&[Entry::File(&climb, "x")]),
            tar_of(&[Entry::Directory("a"), Entry::File("a/../../escaped", "x")]),
            tar_of(&[Entry::Hardlink("leak", "../../../../../etc/passwd")]),
            tar_of(&[Entry::Hardlink("leak", "/etc/passwd")]),
        ];
        for layer in layers {
            d.write("layer.tar", &layer);
            let import = d.call(client, "import layer.tar evil");
            assert!(
                import.code == 1
                    && import.stderr.contains("leak") | import.stderr.contains("escape"),
                "{import:?}"
            );
            d.write("image.tar", image_archive("evil:1", &[layer]));
            let load = d.call(client, "load -i image.tar");
            assert!(
                load.code == 1 && load.stderr.contains("leak") | load.stderr.contains("escape"),
                "{load:?}"
            );
            assert!(!outside.exists());
        }
        holds_nothing(&d, client);
    }
}

/// A link may say anything; what follows it stays inside.
#[test]
fn links_that_point_out_lead_nowhere() {
    for client in clients() {
        let d = Daemon::with_busybox();
        let secret = d.write("secret", "of the host\n");
        let directory = secret.parent().unwrap().to_str().unwrap().to_owned();
        let climb = format!("{}{}", "../".repeat(9), &directory[1..]);
        for target in [directory.as_str(), climb.as_str()] {
            let layer = tar_of(&[
                Entry::Symlink("out", target),
                Entry::File("out/written", "x"),
            ]);
            d.write("layer.tar", &layer);
            // Refused or kept inside: both are right.
            let import = d.call(client, "import layer.tar evil");
            assert!(import.code <= 1, "{import:?}");
            d.write("image.tar", image_archive("evil:1", &[layer]));
            d.call(client, "load -i image.tar");
            assert!(!d.path("written").exists(), "{target}: written outside");

            let link = tar_of(&[Entry::Symlink("out", target)]);
            d.write("context/link.tar", link);
            d.write("context/file", "from the context\n");
            let dockerfile = "FROM busybox\nADD link.tar /\nRUN ls -l /out >&2 && test ! -e /out/secret\nCOPY file /out/written\nRUN cat /out/written\n";
            d.write("context/Dockerfile", dockerfile);
            let build = d.call(client, "build -t built context");
            assert!(!d.path("written").exists(), "{target}: copied outside");
            assert_eq!(build.code, 0, "{build:?}");
            d.ok(client, "create --name holder built");
            let out = d.call(client, "cp holder:/out/secret stolen");
            assert!(out.code != 0 && !d.path("stolen").exists(), "{out:?}");
            d.write("in", "copied in\n");
            d.call(client, "cp in holder:/out/written");
            assert!(!d.path("written").exists(), "{target}: cp wrote outside");
            let steal = "FROM scratch\nCOPY --from=built /out/secret /stolen\n";
            d.write("context/Dockerfile", steal);
            let stolen = d.call(client, "build -t stolen context");
            assert_ne!(stolen.code, 0, "{stolen:?}");
            d.ok(client, "rm holder");
        }
    }
}

#[test]
fn strange_whiteouts() {
    for client in clients() {
        let d = Daemon::with_busybox();
        for name in [".wh.", ".wh..", ".wh...", "etc/.wh.", "etc/.wh..."] {
            let layer = tar_of(&[Entry::Directory("etc"), Entry::File(name, "")]);
            d.write("layer.tar", &layer);
            let import = d.call(client, "import layer.tar evil");
            assert!(
                import.code == 1 && import.stderr.contains("the whiteout names no file"),
                "{name}: {import:?}"
            );
            d.write("image.tar", image_archive("evil:1", &[layer]));
            let load = d.call(client, "load -i image.tar");
            assert_eq!(load.code, 1, "{name}: {load:?}");
        }
        assert_eq!(d.ok(client, "images -q").lines().count(), 1);
        // Whiteouts of nothing, of a directory, of a name that is in the same layer, and AUFS' own files.
        let base = std::fs::read(crate::harness::base_image_tar("busybox")).unwrap();
        let strange = tar_of(&[
            Entry::File("etc/.wh.never-there", ""),
            Entry::File("etc/.wh.passwd", ""),
            Entry::File(".wh.home", "content that means nothing"),
            Entry::File(".wh..wh.aufs", ""),
            Entry::File("etc/both", "kept"),
            Entry::File("etc/.wh.both", ""),
            Entry::Directory("var"),
            Entry::File("var/.wh..wh..opq", ""),
        ]);
        d.write("image.tar", image_archive("strange:1", &[base, strange]));
        d.ok(client, "load -i image.tar");
        let script =
            "cat /etc/both; ls -a /home /etc/passwd /.wh* /etc/.wh* 2>/dev/null; ls -A /var";
        let run = ["run", "--rm", "--network", "none", "-u", "0", "strange:1"];
        let shown = d.ok(client, &[&run[..], &["/bin/sh", "-c", script]].concat());
        assert_eq!(shown, "kept");
    }
}

#[test]
fn a_build_context_that_is_cut_off() {
    for client in clients() {
        let d = Daemon::with_busybox();
        let context = tar_of(&[
            Entry::File("Dockerfile", "FROM busybox\nCOPY file /\n"),
            Entry::File("file", &"x".repeat(4000)),
        ]);
        let cut = d.call_with_input(client, "build -t cut -", &context[..2000]);
        assert_ne!(cut.code, 0, "{cut:?}");
        let climbing = tar_of(&[
            Entry::File("Dockerfile", "FROM busybox\nCOPY . /\n"),
            Entry::File("../../escaped", "x"),
        ]);
        let climb = d.call_with_input(client, "build -t cut -", &climbing);
        assert!(!d.path("escaped").exists());
        assert_ne!(climb.code, 0, "{climb:?}");
        assert_eq!(d.ok(client, "images -q").lines().count(), 1);
        eventually("the context is removed", || d.disowned().is_empty());
    }
}
