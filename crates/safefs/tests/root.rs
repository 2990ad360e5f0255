//! A root keeps every path beneath itself, and its operations do what they say.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::print_stderr)]

use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use wharf_safefs::{
    CopyOptions, FileType, FsError, MAX_REMOVE_DEPTH, MAX_SYMLINKS, MAX_XATTR_VALUE_BYTES,
    OpenFlags, Root, Timestamp, copy_tree, trusted,
};

/// A directory `root` beside a file `secret` that nothing may reach.
struct Scene {
    directory: tempfile::TempDir,
    root: Root,
}

impl Scene {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("root")).unwrap();
        fs::write(directory.path().join("secret"), "outside").unwrap();
        let root = Root::open(directory.path().join("root")).unwrap();
        Self { directory, root }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.directory.path().join("root").join(path)
    }
}

fn is_root_user() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("SKIP: needs root");
    }
    root
}

#[test]
fn no_path_leads_out_of_the_root() {
    let scene = Scene::new();
    symlink("../secret", scene.path("up")).unwrap();
    symlink(
        scene.directory.path().join("secret"),
        scene.path("absolute"),
    )
    .unwrap();
    symlink("..", scene.path("parent")).unwrap();
    symlink("/", scene.path("slash")).unwrap();
    for path in [
        "../secret",
        "/../secret",
        "up",
        "absolute",
        "parent/secret",
        "slash/secret",
        "a/../../secret",
    ] {
        let error = scene.root.read(path, 100).unwrap_err();
        assert!(error.is_not_found(), "{path}: {error}");
    }
    scene.root.mkdir_all("parent/made", 0o755, None).unwrap();
    assert!(scene.path("made").is_dir(), "'..' is clamped at the root");
    scene.root.create_file("../../clamped", 0o644).unwrap();
    assert!(scene.path("clamped").is_file());
}

#[test]
fn magic_links_are_refused() {
    let process = Root::open("/proc/self").unwrap();
    let error = process.open_dir("root/etc").unwrap_err();
    assert_eq!(
        error.raw_os_error(),
        Some(rustix::io::Errno::LOOP.raw_os_error())
    );
}

#[test]
fn works_on_a_process_root() {
    let root = Root::open("/proc/self/root").unwrap();
    assert!(root.stat("/proc").unwrap().is_dir());
}

#[test]
fn reading_has_a_limit_and_refuses_what_is_no_file() {
    let scene = Scene::new();
    fs::write(scene.path("four"), "1234").unwrap();
    scene.root.fifo("pipe", 0o600).unwrap();
    assert_eq!(scene.root.read("four", 4).unwrap(), b"1234");
    assert!(matches!(
        scene.root.read("four", 3),
        Err(FsError::TooLarge { .. })
    ));
    assert!(matches!(
        scene.root.read("pipe", 10),
        Err(FsError::WrongType { .. })
    ));
    assert!(scene.root.read(OsStr::from_bytes(b"a\0b"), 10).is_err());
}

#[test]
fn creation_never_writes_through_a_symlink_or_waits_for_a_pipe() {
    let scene = Scene::new();
    fs::write(scene.path("target"), "kept").unwrap();
    symlink("target", scene.path("link")).unwrap();
    scene.root.fifo("pipe", 0o600).unwrap();
    assert!(scene.root.create_file("link", 0o600).is_err());
    assert!(
        scene
            .root
            .open_file_nofollow("link", OpenFlags::RDONLY)
            .is_err()
    );
    assert!(scene.root.create_file("pipe", 0o600).is_err());
    assert_eq!(fs::read(scene.path("target")).unwrap(), b"kept");
}

#[test]
fn modes_do_not_depend_on_the_umask() {
    let scene = Scene::new();
    scene.root.mkdir("directory", 0o1777).unwrap();
    scene.root.create_file("file", 0o4777).unwrap();
    scene.root.fifo("pipe", 0o666).unwrap();
    assert_eq!(scene.root.lstat("directory").unwrap().mode, 0o1777);
    assert_eq!(scene.root.lstat("file").unwrap().mode, 0o4777);
    assert_eq!(scene.root.lstat("pipe").unwrap().mode, 0o666);
}

#[test]
fn attributes_are_those_of_the_link_itself() {
    let scene = Scene::new();
    fs::write(scene.path("file"), "").unwrap();
    symlink("file", scene.path("link")).unwrap();
    let old = Timestamp {
        seconds: 1_000,
        nanoseconds: 5,
    };
    scene.root.set_times("link", old, old).unwrap();
    assert_eq!(scene.root.lstat("link").unwrap().mtime, old);
    assert_ne!(scene.root.stat("link").unwrap().mtime, old);
    assert!(scene.root.chmod("link", 0o600).is_err());
    assert!(scene.root.chown("file", u32::MAX, 0).is_err());
    if is_root_user() {
        scene.root.chown("link", 12, 34).unwrap();
        assert_eq!(scene.root.lstat("link").unwrap().uid, 12);
        assert_eq!(scene.root.stat("link").unwrap().uid, 0);
    }
}

#[test]
fn xattrs_are_listed_read_replaced_and_removed() {
    if !is_root_user() {
        return;
    }
    let scene = Scene::new();
    fs::write(scene.path("file"), "").unwrap();
    symlink("file", scene.path("link")).unwrap();
    let large = vec![b'x'; 2000];
    scene.root.set_xattr("file", "trusted.b", &large).unwrap();
    scene.root.set_xattr("file", "trusted.a", b"").unwrap();
    scene.root.set_xattr("link", "trusted.link", b"1").unwrap();
    assert_eq!(
        scene.root.xattrs("file").unwrap(),
        ["trusted.a", "trusted.b"]
    );
    assert_eq!(scene.root.xattr("file", "trusted.b").unwrap(), Some(large));
    assert_eq!(scene.root.xattr("file", "trusted.c").unwrap(), None);
    assert_eq!(scene.root.xattrs("link").unwrap(), ["trusted.link"]);
    scene.root.remove_xattr("file", "trusted.a").unwrap();
    scene.root.remove_xattr("file", "trusted.a").unwrap();
    assert_eq!(scene.root.xattrs("file").unwrap(), ["trusted.b"]);
    let too_large = vec![0; MAX_XATTR_VALUE_BYTES + 1];
    assert!(
        scene
            .root
            .set_xattr("file", "trusted.c", &too_large)
            .is_err()
    );
}

#[test]
fn resolve_gives_the_path_inside_the_root() {
    let scene = Scene::new();
    fs::create_dir_all(scene.path("a/b")).unwrap();
    symlink("/a", scene.path("absolute")).unwrap();
    symlink("../../../a/b", scene.path("a/up")).unwrap();
    for (path, expected) in [
        ("", ""),
        ("/", ""),
        ("../..", ""),
        ("absolute/b/./x", "a/b/x"),
        ("a/up/..", "a"),
        ("missing/../a", "a"),
        ("missing/deep", "missing/deep"),
    ] {
        assert_eq!(
            scene.root.resolve(path).unwrap(),
            Path::new(expected),
            "{path}"
        );
    }
}

#[test]
fn resolve_follows_as_many_symlinks_as_the_limit_and_not_one_more() {
    let scene = Scene::new();
    fs::write(scene.path("0"), "").unwrap();
    for number in 1..=MAX_SYMLINKS + 1 {
        symlink((number - 1).to_string(), scene.path(&number.to_string())).unwrap();
    }
    assert_eq!(
        scene.root.resolve(MAX_SYMLINKS.to_string()).unwrap(),
        Path::new("0")
    );
    assert!(scene.root.resolve((MAX_SYMLINKS + 1).to_string()).is_err());
}

#[test]
fn mkdir_all_makes_the_target_of_a_dangling_symlink() {
    let scene = Scene::new();
    symlink("/made/here", scene.path("link")).unwrap();
    scene.root.mkdir_all("link/below", 0o750, None).unwrap();
    assert_eq!(scene.root.lstat("made/here/below").unwrap().mode, 0o750);
}

#[test]
fn listing_is_sorted_by_bytes() {
    let scene = Scene::new();
    for name in [&b"b"[..], b"a-b", b"a", b"\xff", b"B"] {
        scene
            .root
            .create_file(OsStr::from_bytes(name), 0o600)
            .unwrap();
    }
    let names: Vec<_> = scene
        .root
        .entries()
        .unwrap()
        .into_iter()
        .map(|entry| entry.name)
        .collect();
    let expected: Vec<_> = [&b"B"[..], b"a", b"a-b", b"b", b"\xff"]
        .map(OsStr::from_bytes)
        .to_vec();
    assert_eq!(names, expected);
}

#[test]
fn remove_all_takes_deep_trees_and_follows_no_symlink() {
    let scene = Scene::new();
    scene.root.mkdir("top", 0o700).unwrap();
    let mut level = scene.root.open_dir("top").unwrap();
    for _ in 0..MAX_REMOVE_DEPTH * 40 {
        level.create_file("file", 0o600).unwrap();
        level.symlink(scene.directory.path(), "escape").unwrap();
        level.mkdir("below-with-a-long-enough-name", 0o700).unwrap();
        level = level.open_dir("below-with-a-long-enough-name").unwrap();
    }
    scene.root.remove_all("top").unwrap();
    assert!(!scene.path("top").exists());
    assert!(scene.directory.path().join("secret").exists());
    scene.root.remove_all("top").unwrap();
    assert!(scene.root.remove_all("").is_err());
}

#[test]
fn copy_keeps_everything() {
    if !is_root_user() {
        return;
    }
    let scene = Scene::new();
    let from = &scene.root;
    let time = Timestamp {
        seconds: 1_600_000_000,
        nanoseconds: 7,
    };
    from.mkdir("d", 0o2751).unwrap();
    fs::write(scene.path("d/file"), vec![7; 3 << 20]).unwrap();
    from.chown("d/file", 5, 6).unwrap();
    from.chmod("d/file", 0o4755).unwrap();
    from.set_xattr("d/file", "user.note", b"kept").unwrap();
    from.hard_link("d/file", "z-second-name").unwrap();
    // Files that are read whole: of another owner, of our own, of nothing; with bits that a write takes away.
    fs::write(scene.path("d/small"), "ab").unwrap();
    from.chown("d/small", 5, 6).unwrap();
    from.chmod("d/small", 0o6711).unwrap();
    from.create_file("d/ours", 0o4427)
        .unwrap()
        .write_all(b"abc")
        .unwrap();
    from.chown("d/ours", 0, 0).unwrap();
    from.chmod("d/ours", 0o4427).unwrap();
    from.create_file("d/empty", 0o444).unwrap();
    from.mknod("whiteout", FileType::CharDevice, 0, (0, 0))
        .unwrap();
    from.symlink("/nowhere", "link").unwrap();
    for path in ["d/file", "d/ours", "link", "d"] {
        from.set_times(path, time, time).unwrap();
    }
    fs::create_dir(scene.directory.path().join("copy")).unwrap();
    let to = Root::open(scene.directory.path().join("copy")).unwrap();
    let report = copy_tree(from, &to, &CopyOptions::default()).unwrap();
    assert_eq!((report.bytes, report.files), ((3 << 20) + 5, 8));
    for path in [
        "d",
        "d/empty",
        "d/file",
        "d/ours",
        "d/small",
        "link",
        "whiteout",
        "z-second-name",
    ] {
        let (old, new) = (from.lstat(path).unwrap(), to.lstat(path).unwrap());
        assert_eq!(
            (old.file_type, old.mode, old.uid, old.gid),
            (new.file_type, new.mode, new.uid, new.gid)
        );
        assert_eq!(
            (old.mtime, old.nlink, old.rdev),
            (new.mtime, new.nlink, new.rdev),
            "{path}"
        );
    }
    assert_eq!(
        to.xattr("d/file", "user.note").unwrap(),
        Some(b"kept".to_vec())
    );
    assert_eq!(
        to.lstat("d/file").unwrap().ino,
        to.lstat("z-second-name").unwrap().ino
    );
    assert_eq!(to.read_to_string("d/ours", 8).unwrap(), "abc");
    assert!(to.lstat("whiteout").unwrap().is_whiteout());
    assert_eq!(to.read("d/file", u64::MAX - 1).unwrap().len(), 3 << 20);
}

#[test]
fn write_atomic_replaces_and_leaves_nothing_beside() {
    let scene = Scene::new();
    let path = scene.path("state");
    for (content, sync) in [("one", false), ("two", true)] {
        trusted::write_atomic(&path, content.as_bytes(), 0o640, sync).unwrap();
        assert_eq!(trusted::read_to_string(&path, 3).unwrap(), content);
    }
    assert_eq!(trusted::metadata(&path).unwrap().mode, 0o640);
    assert_eq!(scene.root.entries().unwrap().len(), 1);
    assert!(trusted::write_atomic(scene.path("no/such"), b"", 0o600, false).is_err());
}

#[test]
fn disk_usage_counts_a_file_with_two_names_once() {
    let scene = Scene::new();
    fs::write(scene.path("a"), vec![1; 8192]).unwrap();
    fs::hard_link(scene.path("a"), scene.path("b")).unwrap();
    let usage = trusted::disk_usage(scene.path("")).unwrap();
    assert_eq!((usage.apparent_bytes, usage.inodes), (8192, 2));
    assert!(usage.disk_bytes >= 8192);
}

#[test]
fn trusted_directories_are_made_and_removed() {
    let scene = Scene::new();
    let path = scene.path("x/y/z");
    trusted::create_dir_all(&path, 0o711).unwrap();
    trusted::create_dir_all(&path, 0o711).unwrap();
    assert_eq!(trusted::metadata(scene.path("x/y")).unwrap().mode, 0o711);
    trusted::remove_all(scene.path("x")).unwrap();
    trusted::remove_all(scene.path("x")).unwrap();
    assert!(!trusted::exists(&path).unwrap());
    assert!(trusted::syncfs(trusted::open(scene.path("")).unwrap().as_fd()).is_ok());
}
