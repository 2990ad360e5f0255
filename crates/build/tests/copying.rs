//! COPY and ADD: what is selected, where it goes, and with which attributes.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::print_stdout)]

mod support;

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use support::{Bench, can_mount, history, write};
use wharf_build::{BuildRequest, ContextSource};
use wharf_safefs::{Root, Timestamp};

#[test]
fn destinations() {
    if !can_mount() {
        return;
    }
    let bench = Bench::new();
    bench.file("a.txt", "a");
    bench.file("b.txt", "b");
    bench.file("dir/sub/c", "c");
    bench.file("dir/d", "d");
    let (image, _) = bench.build(
        "FROM base\nWORKDIR /w\nCOPY a.txt .\nCOPY a.txt /x/renamed\nCOPY a.txt b.txt /y/\nCOPY dir /z\nCOPY dir/sub /lib\n\
         COPY a.txt /lib\nCOPY [\"b.txt\", \"two words\"]\n",
    );
    let tree = bench.tree(&image, "");
    for line in [
        "w/a.txt 644 0:0 a",
        "w/two words 644 0:0 b",
        "x/renamed 644 0:0 a",
        "y/a.txt 644 0:0 a",
        "y/b.txt 644 0:0 b",
        "z/d 644 0:0 d",
        "z/sub/c 644 0:0 c",
        "lib/c 644 0:0 c",
        "lib/a.txt 644 0:0 a",
        "lib/old 644 0:0 old",
    ] {
        assert!(tree.contains(&line.to_owned()), "{line}: {tree:#?}");
    }
    assert_eq!(history(&image)[2], "COPY a.txt . # buildkit");
    assert_eq!(bench.leftovers(), 0);
}

#[test]
fn patterns() {
    if !can_mount() {
        return;
    }
    let bench = Bench::new();
    for path in [
        "main.go",
        "util.go",
        "go.mod",
        "a/x.c",
        "b/y.c",
        "b/z.h",
        "arr[0].txt",
    ] {
        bench.file(path, path);
    }
    let (image, _) = bench.build(
        "FROM scratch\nCOPY *.go /go/\nCOPY */*.c /c/\nCOPY go.mod go.su* /m/\nCOPY arr[[]0].txt /s/\nCOPY nothing* /n/\n",
    );
    let names: Vec<String> = bench
        .tree(&image, "")
        .iter()
        .map(|line| line.split(' ').next().unwrap().to_owned())
        .collect();
    assert_eq!(
        names,
        [
            "c",
            "c/x.c",
            "c/y.c",
            "go",
            "go/main.go",
            "go/util.go",
            "m",
            "m/go.mod",
            "s",
            "s/arr[0].txt"
        ]
    );
    let (image, _) = bench.build("FROM scratch\nCOPY *.go /one\n");
    assert_eq!(
        bench.text(&image, "one").unwrap(),
        "util.go",
        "the last one is left"
    );
}

#[test]
fn owners_and_modes() {
    if !can_mount() {
        return;
    }
    let bench = Bench::new();
    bench.file("f", "f");
    bench.file("dir/g", "g");
    let root = Root::open(bench.context()).unwrap();
    root.chown("f", 77, 77).unwrap();
    root.chmod("dir", 0o700).unwrap();
    let (image, _) = bench.build(
        "FROM base AS one\nCOPY f /context\nCOPY --chown=app f /name\nCOPY --chown=app:staff f /both\nCOPY --chown=5:6 f /n/u/m\n\
         COPY --chmod=600 f /octal\nCOPY --chmod=u+x,o= f /symbolic\nCOPY dir /dir\nCOPY --chown=1 --chmod=750 dir /dir2\n\
         FROM base\nCOPY --from=one /both /kept\nCOPY --from=one --chown=0 /both /given\n",
    );
    assert_eq!(
        bench.tree(&image, "")[..],
        [
            "etc 755 0:0 /",
            "etc/group 644 0:0 app:x:20:\nstaff:x:50:\n",
            "etc/passwd 644 0:0 root:x:0:0::/:\napp:x:10:20::/:\n",
            "given 644 0:0 f",
            "kept 644 10:50 f",
            "lib 755 0:0 /",
            "lib/old 644 0:0 old",
        ]
    );
    let request = BuildRequest { target: "one".to_owned(), ..bench.request(
        "FROM base AS one\nCOPY f /context\nCOPY --chown=app f /name\nCOPY --chown=app:staff f /both\nCOPY --chown=5:6 f /n/u/m\n\
         COPY --chmod=600 f /octal\nCOPY --chmod=u+x,o= f /symbolic\nCOPY dir /dir\nCOPY --chown=1 --chmod=750 dir /dir2\nFROM base\n") };
    let (image, log) = bench.build_request(&request);
    assert_eq!(log.hits(), 8);
    let tree = bench.tree(&image, "");
    for line in [
        "context 644 0:0 f",
        "name 644 10:20 f",
        "both 644 10:50 f",
        "n 755 5:6 /",
        "n/u 755 5:6 /",
        "n/u/m 644 5:6 f",
        "octal 600 0:0 f",
        "symbolic 740 0:0 f",
        "dir 755 0:0 /",
        "dir/g 644 0:0 g",
        "dir2 750 1:1 /",
        "dir2/g 750 1:1 g",
    ] {
        assert!(tree.contains(&line.to_owned()), "{line}: {tree:#?}");
    }
    let (image, log) =
        bench.build("FROM base\nCOPY --chown=ghost:staff f /f\nCOPY --chown=app:ghosts f /g\n");
    let tree = bench.tree(&image, "");
    assert!(tree.contains(&"f 644 0:50 f".to_owned()), "{tree:#?}");
    assert!(tree.contains(&"g 644 10:20 f".to_owned()), "{tree:#?}");
    for line in [
        "Stderr warning: no user ghost in the stage's /etc/passwd: root is taken\n",
        "Stderr warning: no group ghosts in the stage's /etc/group: group 20 is taken\n",
    ] {
        let told = log.lines.iter().filter(|told| *told == line).count();
        assert_eq!(told, 1, "{line}: {log:#?}");
    }
    let error = bench.fail("FROM scratch\nCOPY --chown=ghost f /f\n");
    assert!(error.starts_with("ghost cannot be looked up"), "{error}");
    let error = bench.fail("FROM base\nCOPY --chmod=999 f /f\n");
    assert!(
        error.starts_with("invalid chmod parameter: '999'"),
        "{error}"
    );
}

#[test]
fn links_and_what_is_in_the_way() {
    if !can_mount() {
        return;
    }
    let bench = Bench::new();
    bench.file("real/f", "f");
    bench.file("plain", "p");
    let root = Root::open(bench.context()).unwrap();
    root.symlink("f", "real/inner").unwrap();
    root.symlink("real", "linked").unwrap();
    root.symlink("/plain", "absolute").unwrap();
    root.hard_link("real/f", "real/same").unwrap();
    let (image, _) = bench.build(
        "FROM base\nCOPY linked /l\nCOPY absolute /abs\nRUN mkdir /target\nRUN write /file 1\nCOPY plain /file\nCOPY linked /target\n",
    );
    let view = bench.view(&image);
    assert_eq!(view.read_link("l/inner").unwrap(), Path::new("f"));
    assert_eq!(
        view.lstat("l/f").unwrap().ino,
        view.lstat("l/same").unwrap().ino
    );
    assert_eq!(bench.text(&image, "abs").unwrap(), "p");
    assert_eq!(bench.text(&image, "file").unwrap(), "p");
    assert_eq!(bench.text(&image, "target/f").unwrap(), "f");
    assert_eq!(
        bench.fail("FROM base\nCOPY real /etc/passwd\n"),
        "cannot copy to non-directory: /etc/passwd"
    );
    assert_eq!(
        bench.fail("FROM base\nRUN mkdir /d/plain\nCOPY plain /d/\n"),
        "cannot copy to directory: /d/plain"
    );
    assert_eq!(bench.leftovers(), 0);
}

#[test]
fn symlinks_of_the_image_stay_inside_it() {
    if !can_mount() {
        return;
    }
    let mut bench = Bench::new();
    bench.file("f", "new");
    let staging = bench.store.stage().unwrap();
    write(staging.root(), "run/keep", b"k");
    staging.root().symlink("/run", "var").unwrap();
    staging
        .root()
        .symlink("../../../../etc/target", "evil")
        .unwrap();
    let summary = wharf_layer::summarize(staging.root()).unwrap();
    let layer = bench
        .store
        .publish_layer(staging, wharf_store::NewLayer::made_here(summary))
        .unwrap();
    let mut config = (*bench.host.images["base"].config).clone();
    config.rootfs.diff_ids.push(layer.diff_id);
    config.history.push(config.history[0].clone());
    let bytes = config.to_bytes();
    let image = bench
        .store
        .put_image(&wharf_store::NewImage::of(&bytes))
        .unwrap();
    let base = wharf_build::BaseImage {
        id: image.id,
        digest: None,
        config: image.config,
    };
    bench.host.images.insert("links".to_owned(), base);
    let (image, _) = bench.build("FROM links\nCOPY f /var/\nCOPY f /evil\nCOPY f /var/deep/er/\n");
    let view = bench.view(&image);
    assert!(view.lstat("var").unwrap().is_symlink());
    assert_eq!(bench.text(&image, "run/f").unwrap(), "new");
    assert_eq!(bench.text(&image, "run/deep/er/f").unwrap(), "new");
    assert_eq!(bench.text(&image, "etc/target").unwrap(), "new");
    assert!(!Path::new("/etc/target").exists());
}

#[test]
fn times_are_kept() {
    if !can_mount() {
        return;
    }
    let bench = Bench::new();
    bench.file("d/f", "f");
    let root = Root::open(bench.context()).unwrap();
    let time = Timestamp::from_seconds(1_000_000_000);
    root.set_times("d/f", time, time).unwrap();
    root.set_times("d", time, time).unwrap();
    let (image, _) = bench.build("FROM base\nCOPY d /d\n");
    let view = bench.view(&image);
    assert_eq!(view.lstat("d/f").unwrap().mtime, time);
    assert_eq!(view.lstat("d").unwrap().mtime, time);
}

#[test]
fn ignored_files_are_not_there() {
    if !can_mount() {
        return;
    }
    let bench = Bench::new();
    for path in [
        "keep.txt",
        "drop.log",
        "node_modules/deep/x",
        "target/a/lib.so",
        "target/keep/f",
        "sub/drop.log",
        "sub/ok",
    ] {
        bench.file(path, path);
    }
    bench.file(
        ".dockerignore",
        "# c\nnode_modules\n**/*.log\ntarget\n!target/keep\n.dockerignore\n",
    );
    // What cannot be read shows that it never is.
    let root = Root::open(bench.context()).unwrap();
    root.fifo("node_modules/deep/pipe", 0o644).unwrap();
    let (image, _) = bench.build("FROM scratch\nCOPY . /c/\n");
    let names: Vec<String> = bench
        .tree(&image, "c")
        .iter()
        .map(|line| line.split(' ').next().unwrap().to_owned())
        .collect();
    assert_eq!(
        names,
        [
            "c/keep.txt",
            "c/sub",
            "c/sub/ok",
            "c/target",
            "c/target/keep",
            "c/target/keep/f"
        ]
    );
    let error = bench.fail("FROM scratch\nCOPY node_modules/deep /m\n");
    let context = bench.context();
    let expected = format!(
        "COPY failed: file not found in build context or excluded by .dockerignore: stat /node_modules/deep: file does not exist \
         (in build context {}; excluded by \"node_modules\", line 2 of .dockerignore)\n --> Dockerfile:2:1\n",
        context.display()
    );
    assert!(error.starts_with(&expected), "{error}");
    let error = bench.fail("FROM scratch\nCOPY keep.text /m\n");
    assert!(error.contains("did you mean keep.txt?"), "{error}");
    bench.file("Dockerfile.dockerignore", "*.txt\n");
    let error = bench.fail("FROM scratch\nCOPY keep.txt /m\n");
    assert!(
        error.contains("line 1 of Dockerfile.dockerignore"),
        "{error}"
    );
}

#[test]
fn nothing_outside_the_context() {
    if !can_mount() {
        return;
    }
    let bench = Bench::new();
    bench.file("sub/f", "f");
    write(&Root::open(bench.directory.path()).unwrap(), "secret", b"s");
    Root::open(bench.context())
        .unwrap()
        .symlink("../secret", "link")
        .unwrap();
    let error = bench.fail("FROM scratch\nCOPY ../secret /s\n");
    let expected = format!(
        "COPY failed: file not found in build context or excluded by .dockerignore: stat /secret: file does not exist (in build context {})\n",
        bench.context().display()
    );
    assert!(
        error.starts_with(&expected) && error.contains("../secret leads out of the build context"),
        "{error}"
    );
    assert!(
        bench
            .fail("FROM scratch\nCOPY link /s\n")
            .contains("file does not exist")
    );
    let (image, _) = bench.build("FROM scratch\nCOPY sub/../sub/./f /f\n");
    assert_eq!(bench.text(&image, "f").unwrap(), "f");
}

#[test]
fn here_documents_become_files() {
    if !can_mount() {
        return;
    }
    let bench = Bench::new();
    let (image, _) = bench.build(
        "FROM base\nENV X=1\nCOPY <<a.txt <<\"b\" /d/\nx=$X \"q\"\na.txt\ny=$X\nb\nCOPY --chmod=755 <<EOF /lib\nz\nEOF\n",
    );
    assert_eq!(
        bench.tree(&image, "d"),
        ["d/a.txt 644 0:0 x=1 \"q\"\n", "d/b 644 0:0 y=$X\n"]
    );
    assert_eq!(
        bench.tree(&image, "lib"),
        ["lib/EOF 755 0:0 z\n", "lib/old 644 0:0 old"]
    );
}

/// Makes an archive with a file, a directory and an owner by the system's tools.
fn archive(compressor: Option<&str>) -> Option<Vec<u8>> {
    let directory = tempfile::tempdir().unwrap();
    let root = Root::open(directory.path()).unwrap();
    write(&root, "in/file", b"content");
    root.chown("in/file", 8, 9).unwrap();
    let tar = Command::new("tar")
        .arg("-C")
        .arg(directory.path())
        .args(["-cf", "-", "in"])
        .output()
        .unwrap();
    let Some(compressor) = compressor else {
        return Some(tar.stdout);
    };
    let child = Command::new(compressor)
        .arg("-c")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    let Ok(mut child) = child else {
        println!("SKIP: {compressor} is not installed");
        return None;
    };
    child.stdin.take().unwrap().write_all(&tar.stdout).unwrap();
    Some(child.wait_with_output().unwrap().stdout)
}

#[test]
fn add_unpacks_archives_of_all_compressions() {
    if !can_mount() {
        return;
    }
    let bench = Bench::new();
    for compressor in [None, Some("gzip"), Some("bzip2"), Some("xz"), Some("zstd")] {
        let Some(bytes) = archive(compressor) else {
            continue;
        };
        bench.file("archive", &bytes);
        let (image, _) = bench.build("FROM base\nADD archive /x\nADD --chown=3:4 archive /y/\nCOPY archive /plain\nADD --unpack=false archive /raw\n");
        let tree = bench.tree(&image, "");
        for line in ["x/in/file 644 8:9 content", "y/in/file 644 3:4 content"] {
            assert!(
                tree.contains(&line.to_owned()),
                "{compressor:?} {line}: {tree:#?}"
            );
        }
        let view = bench.view(&image);
        assert_eq!(view.read("plain", 1 << 20).unwrap(), bytes);
        assert_eq!(view.read("raw", 1 << 20).unwrap(), bytes);
    }
    bench.file("archive", "not an archive");
    let (image, _) = bench.build("FROM base\nADD archive /x/\n");
    assert_eq!(bench.text(&image, "x/archive").unwrap(), "not an archive");
}

#[test]
fn add_fetches_addresses() {
    if !can_mount() {
        return;
    }
    let mut bench = Bench::new();
    let url = "https://e.com/a/f.tar";
    bench
        .host
        .urls
        .insert(url.to_owned(), archive(None).unwrap());
    let text = format!(
        "FROM base\nADD {url} /d/\nADD --chmod=755 {url} /e\nADD --unpack=true {url} /u/\n"
    );
    let (image, _) = bench.build(&text);
    let view = bench.view(&image);
    assert_eq!(view.lstat("d/f.tar").unwrap().mode, 0o600);
    assert_eq!(view.lstat("e").unwrap().mode, 0o755);
    assert_eq!(view.read("u/in/file", 100).unwrap(), b"content");
    assert_eq!(
        bench.host.fetches.load(std::sync::atomic::Ordering::SeqCst),
        1
    );
    let (_, log) = bench.build(&text);
    assert_eq!(log.hits(), 3);
    bench.host.urls.insert(url.to_owned(), b"other".to_vec());
    let (_, log) = bench.build(&text.replace("ADD --unpack=true", "# "));
    assert_eq!(log.hits(), 0);
    assert!(
        bench
            .fail("FROM base\nADD https://e.com/none /d/\n")
            .contains("404 Not Found")
    );
}

#[test]
fn packed_contexts() {
    if !can_mount() {
        return;
    }
    let bench = Bench::new();
    let directory = tempfile::tempdir().unwrap();
    let root = Root::open(directory.path()).unwrap();
    write(&root, "dockerfile", b"FROM base\nCOPY . /c\n");
    write(
        &root,
        ".dockerignore",
        b".dockerignore\ndockerfile\nstays\n",
    );
    write(&root, "stays", b"s");
    let tar = Command::new("tar")
        .arg("-C")
        .arg(directory.path())
        .args(["-czf", "-", "."])
        .output()
        .unwrap();
    let path = bench.directory.path().join("context.tar");
    wharf_safefs::trusted::write_atomic(&path, &tar.stdout, 0o600, false).unwrap();
    let request = BuildRequest {
        context: ContextSource::Tar(path),
        ..BuildRequest::default()
    };
    let (image, _) = bench.build_request(&request);
    assert_eq!(bench.tree(&image, "c"), ["c/stays 644 0:0 s"]);
    assert_eq!(bench.leftovers(), 0);
}
