//! Archives made to break out, to exhaust, or to confuse: each is refused or does no harm.
#![allow(clippy::unwrap_used, clippy::print_stderr, clippy::disallowed_methods)]

mod common;

use std::path::Path;

use common::{Item, Scene, is_root_user, look, put_item, put_pax, tar_of};
use wharf_layer::limits::{
    MAX_EXTENDED_HEADER_BYTES, MAX_HEADERS_BYTES, MAX_PATH_BYTES, MAX_XATTR_BYTES,
};
use wharf_layer::{ApplyOptions, ExtractOptions, LayerError, Limits, apply, extract};
use wharf_safefs::{MAX_SYMLINKS, Root};

fn applied(tar: &[u8]) -> (Scene, Root, Result<wharf_layer::Applied, LayerError>) {
    let scene = Scene::new();
    std::fs::write(scene.path("secret"), "outside").unwrap();
    let root = scene.root("layer");
    let result = apply(tar, &root, ApplyOptions::default());
    assert_eq!(std::fs::read(scene.path("secret")).unwrap(), b"outside");
    (scene, root, result)
}

fn refused(tar: &[u8]) -> String {
    match applied(tar).2 {
        Ok(_) => panic!("was accepted"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn names_that_climb_are_refused_by_name() {
    for name in ["../x", "a/../../x", "/../x", "..", "a/../.."] {
        let message = refused(&tar_of(&[Item::file(name, "x")]));
        assert!(message.contains(name), "{message}");
    }
    for link in ["../secret", "/../secret", "a/../../secret"] {
        let message = refused(&tar_of(&[Item::hard_link("x", link)]));
        assert!(message.contains("leads out"), "{message}");
    }
}

#[test]
fn absolute_names_and_hard_links_are_taken_from_the_top() {
    let (_scene, root, result) = applied(&tar_of(&[
        Item::file("/etc/passwd", "inside"),
        Item::hard_link("link", "/etc/passwd"),
    ]));
    result.unwrap();
    assert_eq!(root.read("link", 10).unwrap(), b"inside");
}

#[test]
fn entries_through_symlinks_stay_inside() {
    let scene = Scene::new();
    let outside = scene.root("outside");
    let root = scene.root("layer");
    let target = scene.path("outside");
    let tar = tar_of(&[
        Item::symlink("link", target.as_os_str().as_encoded_bytes()),
        Item::file("link/x", "1"),
        Item::symlink("link/y", "/"),
        Item::file("link/y/z", "1"),
    ]);
    apply(tar.as_slice(), &root, ApplyOptions::default()).unwrap();
    assert!(outside.entries().unwrap().is_empty());
    assert!(
        root.lstat(target.join("x")).unwrap().is_file(),
        "absolute targets start at the top"
    );
    assert!(root.lstat("z").unwrap().is_file());
    let message = refused(&tar_of(&[
        Item::symlink("l", "../../out"),
        Item::file("l/x", "1"),
    ]));
    assert!(message.contains("leads out of the layer"), "{message}");
}

#[test]
fn a_file_replaces_a_symlink_and_does_not_follow_it() {
    let (_scene, root, result) = applied(&tar_of(&[
        Item::file("kept", "kept"),
        Item::symlink("x", "kept"),
        Item::file("x", "new"),
        Item::symlink("y", "kept"),
        Item::dir("y"),
    ]));
    result.unwrap();
    assert_eq!(root.read("kept", 10).unwrap(), b"kept");
    assert_eq!(root.read("x", 10).unwrap(), b"new");
    assert!(root.lstat("y").unwrap().is_dir());
}

#[test]
fn a_hard_link_to_a_symlink_does_not_lead_attributes_out() {
    let scene = Scene::new();
    std::fs::write(scene.path("secret"), "outside").unwrap();
    let before = std::fs::metadata(scene.path("secret")).unwrap();
    let root = scene.root("layer");
    let target = scene.path("secret");
    let tar = tar_of(&[
        Item::symlink("a", target.as_os_str().as_encoded_bytes()),
        Item::hard_link("b", "a").mode(0o6777),
    ]);
    apply(tar.as_slice(), &root, ApplyOptions::default()).unwrap();
    let after = std::fs::metadata(scene.path("secret")).unwrap();
    assert_eq!(before.permissions(), after.permissions());
    assert!(root.lstat("b").unwrap().is_symlink());
}

#[test]
fn symlink_chains_end_at_the_limit() {
    let chain = |length: usize| {
        let mut items = vec![Item::dir("0")];
        for number in 1..=length {
            items.push(Item::symlink(number.to_string(), (number - 1).to_string()));
        }
        items.push(Item::file(format!("{length}/x"), "1"));
        tar_of(&items)
    };
    let (_scene, root, result) = applied(&chain(MAX_SYMLINKS));
    result.unwrap();
    assert!(root.lstat("0/x").unwrap().is_file());
    assert!(refused(&chain(MAX_SYMLINKS + 1)).contains("symbolic links"));
    assert!(
        refused(&tar_of(&[Item::symlink("a", "a"), Item::file("a/x", "")]))
            .contains("symbolic links")
    );
}

#[test]
fn strange_whiteouts() {
    for name in [".wh.", ".wh..", ".wh...", "a/.wh."] {
        assert!(
            refused(&tar_of(&[Item::file(name, "")])).contains("whiteout"),
            "{name}"
        );
    }
    if !is_root_user() {
        return;
    }
    let (_scene, root, result) = applied(&tar_of(&[
        Item::file(".wh..wh.aufs", ""),
        Item::dir(".wh..wh.orph"),
        Item::file("d/.wh..wh.x", ""),
        Item::file("kept", "kept"),
        Item::file(".wh.kept", ""),
        Item::file(".wh.later", ""),
        Item::file("later", "later"),
        Item::file(".wh.dir", ""),
        Item::dir("dir"),
        Item::file(".wh.implied", ""),
        Item::file("implied/x", "1"),
        Item::file("full/x", "1"),
        Item::file("full/.wh..wh..opq", ""),
    ]));
    let applied = result.unwrap();
    let names: Vec<_> = look(&root).into_iter().map(|seen| seen.path).collect();
    let expected = [
        "dir",
        "full",
        "full/x",
        "implied",
        "implied/x",
        "kept",
        "later",
    ];
    assert_eq!(names, expected.map(Path::new));
    for opaque in ["dir", "full", "implied"] {
        assert_eq!(
            root.xattr(opaque, "trusted.overlay.opaque").unwrap(),
            Some(b"y".to_vec()),
            "{opaque}"
        );
    }
    assert_eq!(applied.implied_dirs, ["full", "implied"].map(Path::new));
}

#[test]
fn attributes_of_overlayfs_are_not_taken_from_a_tar() {
    if !is_root_user() {
        return;
    }
    let mut tar = Vec::new();
    put_pax(
        &mut tar,
        &[
            ("SCHILY.xattr.trusted.overlay.redirect", b"/etc"),
            ("SCHILY.xattr.trusted.overlay.opaque", b"y"),
            ("SCHILY.xattr.user.overlay.opaque", b"y"),
            ("SCHILY.xattr.user.kept", b"1"),
        ],
    );
    put_item(&mut tar, &Item::dir("d"));
    let (_scene, root, result) = applied(&tar);
    result.unwrap();
    assert_eq!(root.xattrs("d").unwrap(), ["user.kept"]);
}

#[test]
fn special_modes_and_nodes_are_kept_as_they_are() {
    if !is_root_user() {
        return;
    }
    let (_scene, root, result) = applied(&tar_of(&[
        Item {
            uid: 7,
            gid: 8,
            ..Item::file("setuid", "x").mode(0o6755)
        },
        Item {
            device: (1, 3),
            ..Item::new(b'3', "null")
        },
        Item::new(b'6', "pipe"),
        Item {
            mode: 0o1777,
            ..Item::dir("sticky")
        },
    ]));
    result.unwrap();
    let seen = root.lstat("setuid").unwrap();
    assert_eq!(
        (seen.mode, seen.uid, seen.gid),
        (0o6755, 7, 8),
        "owner first, then the bits it would clear"
    );
    assert_eq!(
        (
            root.lstat("null").unwrap().rdev_major(),
            root.lstat("null").unwrap().rdev_minor()
        ),
        (1, 3)
    );
    assert_eq!(root.lstat("sticky").unwrap().mode, 0o1777);
    let (_scene, root, result) = {
        let scene = Scene::new();
        let root = scene.root("layer");
        let options = ApplyOptions {
            skip_devices: true,
            ..ApplyOptions::default()
        };
        let tar = tar_of(&[Item {
            device: (1, 3),
            ..Item::new(b'3', "null")
        }]);
        let result = apply(tar.as_slice(), &root, options);
        (scene, root, result)
    };
    result.unwrap();
    assert!(root.entries().unwrap().is_empty());
}

#[test]
fn pax_values_override_and_bad_ones_are_errors() {
    if !is_root_user() {
        return;
    }
    let mut tar = Vec::new();
    let long = "p/".repeat(80) + "äöü";
    put_pax(
        &mut tar,
        &[
            ("path", long.as_bytes()),
            ("uid", b"3000000"),
            ("mtime", b"-7.5"),
            ("size", b"3"),
            ("unknown.key", b"ignored"),
        ],
    );
    let mut item = Item::file("short", "abc");
    item.content = b"abc".to_vec();
    put_item(&mut tar, &item);
    let (_scene, root, result) = applied(&tar);
    result.unwrap();
    let seen = root.lstat(&long).unwrap();
    assert_eq!(
        (seen.uid, seen.mtime.seconds, seen.size_bytes),
        (3_000_000, 0, 3)
    );
    for records in [
        [("uid", &b"4294967295"[..])],
        [("uid", b"99999999999999999999999")],
        [("size", b"-1")],
        [("mtime", b"soon")],
        [("path", b"a\0b")],
        [("SCHILY.xattr.", b"x")],
        [("GNU.sparse.map", b"1,2,3")],
    ] {
        let mut tar = Vec::new();
        put_pax(&mut tar, &records);
        put_item(&mut tar, &Item::file("x", "abc"));
        refused(&tar);
    }
}

#[test]
fn malformed_and_truncated_archives_are_errors() {
    let good = tar_of(&[Item::file("a", vec![1; 700]), Item::file("b", "")]);
    let boundaries = [512, 1212, 1536, 2048, 2560];
    let near = |length: usize| {
        boundaries
            .iter()
            .any(|boundary| length.abs_diff(*boundary) < 3)
    };
    for length in (1..good.len()).filter(|&length| near(length) || length % 97 == 0) {
        let result = applied(&good[..length]).2;
        // Whole entries without a trailer are accepted, also when only padding is missing.
        let whole = [512 + 700..=1536, 2048..=2048, 2560..=2560]
            .iter()
            .any(|range| range.contains(&length));
        assert_eq!(result.is_ok(), whole, "{length}");
    }
    let mut flipped = good.clone();
    flipped[3] ^= 1;
    assert!(refused(&flipped).contains("checksum"));
    assert!(refused(&vec![7; 2048]).contains("checksum"));
    assert!(refused(&tar_of(&[Item::new(b'V', "label")])).contains("unknown type"));
    let mut header = Item::file("negative", "");
    header.content = Vec::new();
    let mut block = header.header();
    block.as_old_mut().size = [0xff; 12];
    block.set_cksum();
    assert!(refused(block.as_bytes()).contains("size"));
}

#[test]
fn limits_hold_at_and_one_past() {
    let count = 5;
    let items: Vec<Item> = (0..count)
        .map(|number| Item::file(format!("f{number}"), "12345678"))
        .collect();
    let tar = tar_of(&items);
    let length = tar.len() as u64;
    let with = |limits: Limits| {
        let scene = Scene::new();
        let layer = apply(
            tar.as_slice(),
            &scene.root("a"),
            ApplyOptions {
                limits,
                ..ApplyOptions::default()
            },
        );
        let options = ExtractOptions {
            limits,
            ..ExtractOptions::default()
        };
        let plain = extract(tar.as_slice(), &scene.root("b"), Path::new(""), &options);
        assert_eq!(layer.is_ok(), plain.is_ok());
        layer.is_ok()
    };
    let at = Limits {
        max_entries: count,
        max_tar_bytes: length,
        max_unpacked_bytes: count * 8,
    };
    assert!(with(at));
    assert!(!with(Limits {
        max_entries: count - 1,
        ..at
    }));
    assert!(!with(Limits {
        max_tar_bytes: length - 1,
        ..at
    }));
    assert!(!with(Limits {
        max_unpacked_bytes: count * 8 - 1,
        ..at
    }));
}

#[test]
fn a_bomb_stops_at_the_limit() {
    let scene = Scene::new();
    let header = {
        let mut header = Item::file("bomb", "").header();
        header.set_size(1 << 36);
        header.set_cksum();
        header
    };
    let endless = std::io::Read::chain(&header.as_bytes()[..], std::io::repeat(0));
    let limits = Limits {
        max_tar_bytes: 8 << 20,
        ..Limits::default()
    };
    let result = apply(
        endless,
        &scene.root("layer"),
        ApplyOptions {
            limits,
            ..ApplyOptions::default()
        },
    );
    assert!(matches!(result, Err(LayerError::Limit { .. })));
}

#[test]
fn long_paths_and_attributes_hold_at_the_limit_and_one_past() {
    let name = |length: usize| {
        let mut name = "d/".repeat(length / 2);
        name.push_str(if length % 2 == 1 { "x" } else { "" });
        name
    };
    let pax = |key: &str, value: &[u8]| {
        let mut tar = Vec::new();
        put_pax(&mut tar, &[(key, value)]);
        put_item(&mut tar, &Item::symlink("x", "y"));
        tar
    };
    applied(&pax("path", name(MAX_PATH_BYTES).as_bytes()))
        .2
        .unwrap();
    assert!(refused(&pax("path", name(MAX_PATH_BYTES + 1).as_bytes())).contains("4095"));
    applied(&pax("linkpath", &[b'x'; MAX_PATH_BYTES]))
        .2
        .unwrap();
    assert!(refused(&pax("linkpath", &[b'x'; MAX_PATH_BYTES + 1])).contains("4095"));
    assert!(
        refused(&pax("path", &[b'x'; 256])).contains("name"),
        "the kernel's limit for one name"
    );
    refused(&pax("SCHILY.xattr.user.x", &vec![0; MAX_XATTR_BYTES + 1]));
    let record = MAX_EXTENDED_HEADER_BYTES as usize - "1048576 comment=\n".len();
    applied(&pax("comment", &vec![b'x'; record])).2.unwrap();
    assert!(refused(&pax("comment", &vec![b'x'; record + 1])).contains("extended header"));
}

#[test]
fn sparse_files_are_expanded() {
    let scene = Scene::new();
    let python = std::process::Command::new("tar").arg("--version").output();
    if python.is_err() {
        eprintln!("SKIP: needs GNU tar");
        return;
    }
    let source = scene.path("source");
    std::fs::create_dir(&source).unwrap();
    let file = std::fs::File::create(source.join("holes")).unwrap();
    for number in 0..40_u64 {
        std::os::unix::fs::FileExt::write_all_at(&file, b"data", number * 300_000).unwrap();
    }
    file.set_len(20_000_000).unwrap();
    let original = std::fs::read(source.join("holes")).unwrap();
    for format in [
        &["--format=gnu"][..],
        &["--format=pax", "--sparse-version=0.0"],
        &["--format=pax", "--sparse-version=0.1"],
        &["--format=pax", "--sparse-version=1.0"],
    ] {
        let output = std::process::Command::new("tar")
            .args(["-c", "--sparse"])
            .args(format)
            .arg("-C")
            .arg(&source)
            .arg("holes")
            .output()
            .unwrap();
        assert!(output.stdout.len() < 1_000_000, "{format:?} is not sparse");
        let root = scene.root(&format.join(""));
        let applied = apply(output.stdout.as_slice(), &root, ApplyOptions::default()).unwrap();
        assert!(
            root.read("holes", 1 << 30).unwrap() == original,
            "{format:?}"
        );
        assert_eq!(applied.summary.size_bytes, 20_000_000);
        let mut rebuilt = Vec::new();
        applied.recipe.rebuild(&root, &mut rebuilt).unwrap();
        assert!(rebuilt == output.stdout, "{format:?}");
    }
}

#[test]
fn names_need_not_be_text() {
    let (_scene, root, result) = applied(&tar_of(&[
        Item::file(b"\xff\xfe", "1"),
        Item::symlink("l", b"\x80"),
    ]));
    result.unwrap();
    assert_eq!(root.entries().unwrap().len(), 2);
}

#[test]
fn extraction_stays_beneath_the_root_and_keeps_kinds_apart() {
    let scene = Scene::new();
    std::fs::write(scene.path("secret"), "outside").unwrap();
    let root = scene.root("root");
    root.mkdir_all("at/dir", 0o755, None).unwrap();
    root.symlink("../../..", "at/up").unwrap();
    root.symlink("/at", "alias").unwrap();
    std::fs::write(scene.path("root/at/file"), "old").unwrap();
    let run = |items: &[Item], options: &ExtractOptions| {
        extract(tar_of(items).as_slice(), &root, Path::new("alias"), options)
            .map_err(|error| error.to_string())
    };
    let plain = ExtractOptions::default();
    run(
        &[
            Item::file("up/clamped", "1"),
            Item::file(".wh.name", "2"),
            Item::file("file", "new"),
        ],
        &plain,
    )
    .unwrap();
    assert_eq!(root.read("clamped", 9).unwrap(), b"1");
    assert_eq!(root.read("at/.wh.name", 9).unwrap(), b"2");
    assert_eq!(root.read("at/file", 9).unwrap(), b"new");
    assert!(!scene.path("clamped").exists());
    assert!(run(&[Item::file("../x", "1")], &plain).is_err());
    assert!(run(&[Item::hard_link("x", "../../secret")], &plain).is_err());
    assert!(run(&[Item::hard_link("x", "up/secret")], &plain).is_err());
    let strict = ExtractOptions {
        no_overwrite_dir_non_dir: true,
        ..plain.clone()
    };
    let message = run(&[Item::file("dir", "1")], &strict).unwrap_err();
    assert_eq!(
        message,
        "cannot overwrite directory \"dir\" with non-directory \"dir\""
    );
    let message = run(&[Item::dir("file")], &strict).unwrap_err();
    assert_eq!(
        message,
        "cannot overwrite non-directory \"file\" with directory \"file\""
    );
    run(&[Item::file("dir", "1"), Item::dir("file")], &plain).unwrap();
    assert!(root.lstat("at/file").unwrap().is_dir());
    if is_root_user() {
        let owned = ExtractOptions {
            owner: Some((5, 6)),
            ..plain
        };
        run(&[Item::file("new/deep/x", "1").mode(0o4755)], &owned).unwrap();
        for path in ["at/new", "at/new/deep", "at/new/deep/x"] {
            let seen = root.lstat(path).unwrap();
            assert_eq!((seen.uid, seen.gid), (5, 6), "{path}");
        }
        assert_eq!(root.lstat("at/new/deep/x").unwrap().mode, 0o4755);
    }
}

#[test]
fn headers_without_an_entry_end_at_the_limit() {
    let mut one = Vec::new();
    put_pax(&mut one, &[("comment", &vec![b'x'; 1_000_000])]);
    let with = |count: usize| {
        let mut tar = one.repeat(count);
        put_item(&mut tar, &Item::file("x", ""));
        tar
    };
    let fitting = (MAX_HEADERS_BYTES - 512) / one.len();
    applied(&with(fitting)).2.unwrap();
    assert!(refused(&with(fitting + 1)).contains("headers"));
}

#[test]
fn links_to_lower_layers_are_told_once_and_in_order() {
    let (_scene, _root, result) = applied(&tar_of(&[
        Item::hard_link("a", "below/1"),
        Item::hard_link("b", "a"),
        Item::hard_link("d/c", "below/1"),
        Item::hard_link("e", "below/2"),
        Item::file("d", "replaces the directory"),
        Item::file("e", "replaces the link"),
        Item::hard_link("a", "below/3"),
    ]));
    let links = result.unwrap().pending_links;
    let expected =
        [("b", "below/1"), ("a", "below/3")].map(|(link, target)| (link.into(), target.into()));
    assert_eq!(links.len(), 2);
    assert!(
        expected.iter().all(|link| links.contains(link)),
        "{links:?}"
    );
}
