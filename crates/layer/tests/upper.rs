//! What overlayfs leaves in an upper directory becomes a layer; plain trees become archives.
#![allow(clippy::unwrap_used, clippy::print_stderr, clippy::disallowed_methods)]

mod common;

use std::path::{Path, PathBuf};

use common::{Item, Scene, Seen, is_root_user, look, tar_of};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_string, fsmount,
    fsopen,
};
use wharf_layer::{
    ApplyOptions, ChangeKind, PlainTarOptions, apply, changes, clean_upper, copy_upper, summarize,
    write_plain_tar,
};
use wharf_safefs::{FileType, Root};

/// Makes an overlay that is mounted nowhere and is gone with its descriptor; nothing where the kernel has none.
fn overlay(scene: &Scene, lowers: &[&str], upper: &str) -> Option<Root> {
    scene.root(upper);
    scene.root("work");
    let lower = lowers
        .iter()
        .map(|name| scene.path(name).display().to_string())
        .collect::<Vec<_>>()
        .join(":");
    let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).ok()?;
    fsconfig_set_string(&context, "lowerdir", lower.as_str()).ok()?;
    fsconfig_set_string(&context, "upperdir", scene.path(upper)).ok()?;
    fsconfig_set_string(&context, "workdir", scene.path("work")).ok()?;
    if fsconfig_create(&context).is_err() {
        eprintln!("SKIP: this file system holds no overlay");
        return None;
    }
    let mount = fsmount(
        &context,
        FsMountFlags::FSMOUNT_CLOEXEC,
        MountAttrFlags::empty(),
    )
    .ok()?;
    Some(Root::from_fd(mount))
}

fn lower(scene: &Scene) -> Root {
    let root = scene.root("lower");
    let tar = tar_of(&[
        Item::dir("kept/"),
        Item::file("kept/file", "old"),
        Item::file("kept/gone", "old"),
        Item::dir("replaced/"),
        Item::file("replaced/inner", "1"),
        Item::dir("touched/"),
        Item::file("touched/a", "1"),
        Item::dir("etc/"),
    ]);
    apply(tar.as_slice(), &root, ApplyOptions::default()).unwrap();
    root
}

fn change(merged: &Root) {
    use std::io::Write;
    merged
        .create_file("kept/file", 0o644)
        .unwrap()
        .write_all(b"newer")
        .unwrap();
    merged.remove_file("kept/gone").unwrap();
    merged.remove_all("replaced").unwrap();
    merged.mkdir("replaced", 0o700).unwrap();
    merged.create_new("replaced/other", 0o600).unwrap();
    merged.mkdir("new", 0o755).unwrap();
    merged.create_new("new/x", 0o600).unwrap();
    merged.hard_link("new/x", "new/y").unwrap();
    // Copied up and then as before.
    merged.create_new("touched/b", 0o600).unwrap();
    merged.remove_file("touched/b").unwrap();
    // What a container's start leaves behind.
    merged.create_new("etc/hosts", 0o644).unwrap();
}

#[test]
fn an_upper_directory_becomes_a_layer() {
    if !is_root_user() {
        return;
    }
    let scene = Scene::new();
    let lower = lower(&scene);
    let Some(merged) = overlay(&scene, &["lower"], "upper") else {
        return;
    };
    change(&merged);
    let expected: Vec<Seen> = look(&merged)
        .into_iter()
        .filter(|seen| seen.path != Path::new("etc/hosts"))
        .collect();
    drop(merged);
    let upper = Root::open(scene.path("upper")).unwrap();
    let lowers = [lower];

    let lines: Vec<String> = changes(&upper, &lowers, &[])
        .unwrap()
        .iter()
        .map(|change| format!("{:?} {}", change.kind, change.path.display()))
        .collect();
    assert_eq!(
        lines,
        [
            "Modified /etc",
            "Added /etc/hosts",
            "Modified /kept",
            "Modified /kept/file",
            "Deleted /kept/gone",
            "Added /new",
            "Added /new/x",
            "Added /new/y",
            "Modified /replaced",
            "Deleted /replaced/inner",
            "Added /replaced/other",
        ]
    );
    assert!(ChangeKind::Modified < ChangeKind::Added);

    let copy = scene.root("copy");
    let exclude = [PathBuf::from("/etc/hosts")];
    let copied = copy_upper(&upper, &lowers, &copy, &exclude, || ()).unwrap();
    clean_upper(&upper, &lowers, &exclude).unwrap();
    assert_eq!(look(&copy), look(&upper), "both ways leave the same");
    assert_eq!(summarize(&copy).unwrap(), summarize(&upper).unwrap());
    assert_eq!(copied, summarize(&copy).unwrap());
    let paths: Vec<String> = look(&copy)
        .iter()
        .map(|seen| seen.path.display().to_string())
        .collect();
    assert_eq!(
        paths,
        [
            "kept",
            "kept/file",
            "kept/gone",
            "new",
            "new/x",
            "new/y",
            "replaced",
            "replaced/other"
        ]
    );
    let opaque: Vec<_> = look(&copy)
        .into_iter()
        .filter(|seen| !seen.xattrs.is_empty())
        .map(|seen| seen.path)
        .collect();
    assert_eq!(
        opaque,
        [Path::new("replaced")],
        "a new directory hides nothing"
    );
    assert!(copy.lstat("kept/gone").unwrap().is_whiteout());
    drop(upper);

    std::fs::remove_dir_all(scene.path("work")).unwrap();
    let Some(again) = overlay(&scene, &["copy", "lower"], "upper-2") else {
        return;
    };
    let mut seen = look(&again);
    for (seen, expected) in seen.iter_mut().zip(&expected) {
        // Directories that something was left out of have another time.
        if seen.file_type == FileType::Directory {
            seen.mtime_seconds = expected.mtime_seconds;
        }
    }
    assert_eq!(seen, expected, "on its lower layers it shows the same");
}

/// Fills a directory with more than one thread copies at once, of all that copies tell apart.
fn fill(root: &Root) {
    use std::io::Write;
    let file = |path: &str, bytes: usize| {
        let mut file = root.create_file(path, 0o640).unwrap();
        file.write_all(&vec![b'x'; bytes]).unwrap();
    };
    let deep = "d/".repeat(80);
    for directory in ["a", "a/b", "empty", "z", "hides"] {
        root.mkdir(directory, 0o750).unwrap();
    }
    root.mkdir_all(&deep, 0o711, None).unwrap();
    for number in 0..300 {
        file(&format!("a/{number}"), number * 7);
        file(&format!("a/b/{number}"), 3);
        file(&format!("{deep}/{number}"), 1);
    }
    // More than is read in one piece, and more than one batch keeps.
    for number in 0..70 {
        file(
            &format!("z/{number}"),
            (number % 2) * (40 << 10) + (32 << 10),
        );
    }
    file("z/large", 300 << 10);
    for (path, mode) in [
        ("a/1", 0o4755),
        ("a/2", 0o000),
        ("a/b", 0o2777),
        ("z", 0o1777),
    ] {
        root.chown(path, 7, 8).unwrap();
        root.chmod(path, mode).unwrap();
    }
    root.set_xattr("a/3", "user.note", b"kept").unwrap();
    root.set_xattr("a/3", "trusted.overlay.origin", b"dropped")
        .unwrap();
    root.set_xattr("hides", "trusted.overlay.opaque", b"y")
        .unwrap();
    // Second names within a batch, in a later one, before and behind their first name.
    root.hard_link("a/0", "a/1-again").unwrap();
    root.hard_link("a/b/7", "a/a").unwrap();
    root.hard_link("z/large", "a/large").unwrap();
    root.symlink("target", "a/link").unwrap();
    root.hard_link("a/link", "z/link").unwrap();
    root.fifo("z/pipe", 0o600).unwrap();
    root.mknod("z/socket", FileType::Socket, 0o600, (0, 0))
        .unwrap();
    root.hard_link("z/socket", "z/socket-again").unwrap();
    // As overlayfs makes them: one inode.
    root.mknod("z/gone", FileType::CharDevice, 0, (0, 0))
        .unwrap();
    root.hard_link("z/gone", "a/gone").unwrap();
    root.hard_link("z/gone", "a/nothing-to-hide").unwrap();
    let time = wharf_safefs::Timestamp {
        seconds: 1_600_000_000,
        nanoseconds: 7,
    };
    for path in ["a/1", "a/b", "a/link", "a/gone", "z"] {
        root.set_times(path, time, time).unwrap();
    }
}

#[test]
fn a_large_upper_directory_is_read_once_for_copy_and_digest() {
    if !is_root_user() {
        return;
    }
    let scene = Scene::new();
    let (upper, lower, into) = (scene.root("upper"), scene.root("lower"), scene.root("into"));
    fill(&upper);
    for directory in ["a", "z", "hides"] {
        lower.mkdir(directory, 0o755).unwrap();
    }
    for file in ["a/gone", "z/gone"] {
        lower.create_new(file, 0o644).unwrap();
    }
    let (sender, copied) = std::sync::mpsc::channel();
    let last = move || sender.send(()).unwrap();
    let exclude = [PathBuf::from("/z/5")];
    let summary = copy_upper(&upper, &[lower], &into, &exclude, last).unwrap();
    assert_eq!(copied.try_iter().count(), 1, "told once");
    assert_eq!(summary, summarize(&into).unwrap());
    let is_copied = |seen: &Seen| {
        let left_out = [Path::new("z/5"), Path::new("a/nothing-to-hide")];
        !left_out.contains(&seen.path.as_path())
    };
    let mut expected: Vec<Seen> = look(&upper).into_iter().filter(is_copied).collect();
    let note = expected
        .iter_mut()
        .find(|seen| seen.path == Path::new("a/3"))
        .unwrap();
    note.xattrs
        .retain(|attribute| !format!("{attribute:?}").contains("origin"));
    assert_eq!(note.xattrs.len(), 1);
    assert_eq!(look(&into), expected);
    for path in ["a/1", "a/b", "a/link", "a/gone", "z"] {
        let (old, new) = (upper.lstat(path).unwrap(), into.lstat(path).unwrap());
        assert_eq!(old.mtime, new.mtime, "{path}");
    }
    let inode = |path: &str| into.lstat(path).unwrap().ino;
    assert_eq!(inode("z/large"), inode("a/large"));
    assert_eq!(inode("z/gone"), inode("a/gone"));
}

#[test]
fn the_upper_directory_may_change_again_after_a_failure_too() {
    let scene = Scene::new();
    let (upper, into) = (scene.root("upper"), scene.root("into"));
    upper.create_new(".wh.file", 0o600).unwrap();
    let (sender, copied) = std::sync::mpsc::channel();
    let last = move || sender.send(()).unwrap();
    let error = copy_upper(&upper, &[], &into, &[], last).unwrap_err();
    assert!(error.to_string().contains(".wh."), "{error}");
    assert_eq!(copied.try_iter().count(), 1);
}

#[test]
fn what_lies_partly_below_is_refused() {
    if !is_root_user() {
        return;
    }
    for (name, attribute) in [
        ("directory", "trusted.overlay.redirect"),
        ("file", "trusted.overlay.metacopy"),
    ] {
        let scene = Scene::new();
        let (upper, into) = (scene.root("upper"), scene.root("into"));
        upper.mkdir("directory", 0o755).unwrap();
        upper.create_new("file", 0o644).unwrap();
        upper.set_xattr(name, attribute, b"/other").unwrap();
        let error = copy_upper(&upper, &[], &into, &[], || ()).unwrap_err();
        assert!(error.to_string().contains("redirect_dir"), "{error}");
        let error = clean_upper(&upper, &[], &[]).unwrap_err();
        assert!(error.to_string().contains("redirect_dir"), "{error}");
    }
}

#[test]
fn layers_refuse_names_that_would_mean_something_else() {
    let scene = Scene::new();
    let root = scene.root("layer");
    root.create_new(".wh.file", 0o600).unwrap();
    let error = summarize(&root).unwrap_err();
    assert!(error.to_string().contains(".wh."), "{error}");
}

#[test]
fn plain_archives_hold_what_was_asked_for() {
    if !is_root_user() {
        return;
    }
    let scene = Scene::new();
    let root = scene.root("root");
    root.mkdir_all("a/b", 0o755, None).unwrap();
    root.create_new("a/b/.wh.file", 0o600).unwrap();
    root.mkdir("a/skipped", 0o755).unwrap();
    root.create_new("a/skipped/x", 0o600).unwrap();
    root.symlink("a/b", "link").unwrap();
    root.mknod("a/zero", FileType::CharDevice, 0o600, (0, 0))
        .unwrap();
    let names = |subpath: &str, options: &PlainTarOptions| {
        let mut tar = Vec::new();
        let bytes = write_plain_tar(&root, Path::new(subpath), &mut tar, options).unwrap();
        assert_eq!(bytes, tar.len() as u64);
        let mut archive = tar::Archive::new(tar.as_slice());
        let names: Vec<String> = archive
            .entries()
            .unwrap()
            .map(|entry| String::from_utf8(entry.unwrap().path_bytes().into_owned()).unwrap())
            .collect();
        names
    };
    let plain = PlainTarOptions::default();
    let named = PlainTarOptions {
        name: Some("n".into()),
        exclude: vec!["skipped".into()],
        ..plain.clone()
    };
    assert_eq!(names("a", &named), ["n/", "n/b/", "n/b/.wh.file", "n/zero"]);
    assert_eq!(
        names("link", &plain),
        ["link"],
        "the last component is not followed"
    );
    assert_eq!(names("link/.wh.file", &named), ["n"]);
    assert_eq!(names("a/b", &plain), [".wh.file"]);
    assert_eq!(
        names(
            "",
            &PlainTarOptions {
                exclude: vec!["a".into()],
                ..plain
            }
        ),
        ["link"]
    );
}

#[test]
fn headers_are_as_other_readers_expect() {
    let scene = Scene::new();
    let root = scene.root("layer");
    let deep = "directory-with-a-name/".repeat(8);
    root.mkdir_all(&deep, 0o755, None).unwrap();
    let long = "x".repeat(200);
    for name in ["plain", "äöü", long.as_str()] {
        root.create_new(name, 0o640).unwrap();
        root.create_new(Path::new(&deep).join(name), 0o640).unwrap();
    }
    let target = "t".repeat(150);
    root.symlink(&target, "link").unwrap();
    let mut tar = Vec::new();
    wharf_layer::write_tar(&root, &mut tar).unwrap();
    let mut archive = tar::Archive::new(tar.as_slice());
    let mut seen = Vec::new();
    for entry in archive.entries().unwrap() {
        let entry = entry.unwrap();
        let path = String::from_utf8(entry.path_bytes().into_owned()).unwrap();
        if path == "link" {
            assert_eq!(entry.link_name_bytes().unwrap().as_ref(), target.as_bytes());
        }
        seen.push(path.trim_end_matches('/').to_owned());
    }
    let expected: Vec<String> = look(&root)
        .iter()
        .map(|seen| seen.path.display().to_string())
        .collect();
    assert_eq!(seen, expected);
}
