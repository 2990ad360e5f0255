//! A directory written as a tar and unpacked again is the same directory, and the same tar.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::print_stderr)]

mod common;

use std::io::Read;

use common::{Item, Scene, is_root_user, look, put_item, put_pax, tar_of};
use proptest::prelude::*;
use wharf_layer::{
    ApplyOptions, Compression, Recipe, apply, compress, decompress, summarize, write_tar,
};
use wharf_safefs::{FileType, Root, Timestamp};

/// One thing to put into a random tree.
#[derive(Debug, Clone)]
enum Thing {
    Directory { opaque: bool },
    File(Vec<u8>),
    Large(usize),
    Symlink(String),
    LinkTo(usize),
    Whiteout,
    Fifo,
    Device(u32, u32),
}

fn thing() -> impl Strategy<Value = Thing> {
    prop_oneof![
        4 => any::<bool>().prop_map(|opaque| Thing::Directory { opaque }),
        4 => proptest::collection::vec(any::<u8>(), 0..1200).prop_map(Thing::File),
        1 => (0..3_000_000_usize).prop_map(Thing::Large),
        1 => "[a-z/.]{1,120}".prop_map(Thing::Symlink),
        1 => any::<usize>().prop_map(Thing::LinkTo),
        1 => Just(Thing::Whiteout),
        1 => Just(Thing::Fifo),
        1 => (1..4000_u32, 0..70_000_u32).prop_map(|(major, minor)| Thing::Device(major, minor)),
    ]
}

fn name() -> impl Strategy<Value = String> {
    prop_oneof![4 => "[a-c.-]{1,3}", 1 => "[äß€x]{1,30}", 1 => "[a-z]{90,110}"]
        .prop_filter("names of their own", |name| {
            name != "." && name != ".." && !name.starts_with(".wh.")
        })
}

type Plan = Vec<(usize, String, Thing, u32, u32, i64, bool)>;

fn plan() -> impl Strategy<Value = Plan> {
    let one = (
        any::<usize>(),
        name(),
        thing(),
        0..0o10_000_u32,
        prop_oneof![Just(0_u32), Just(1000), Just(3_000_000)],
        prop_oneof![
            Just(0_i64),
            Just(-5),
            1..2_000_000_000_i64,
            Just(9_000_000_000)
        ],
        any::<bool>(),
    );
    proptest::collection::vec(one, 0..25)
}

fn build(root: &Root, plan: &Plan) {
    let mut directories = vec![std::path::PathBuf::new()];
    let mut files: Vec<std::path::PathBuf> = Vec::new();
    let mut times = Vec::new();
    for (parent, name, thing, mode, owner, seconds, with_xattr) in plan {
        let path = directories[parent % directories.len()].join(name);
        if root.lstat_optional(&path).unwrap().is_some() || path.as_os_str().len() > 900 {
            continue;
        }
        let mut is_symlink = false;
        match thing {
            Thing::Directory { opaque } => {
                root.mkdir(&path, 0o755).unwrap();
                if *opaque {
                    root.set_xattr(&path, "trusted.overlay.opaque", b"y")
                        .unwrap();
                }
                directories.push(path.clone());
            }
            Thing::File(content) => {
                std::io::Write::write_all(&mut root.create_new(&path, 0o600).unwrap(), content)
                    .unwrap();
                files.push(path.clone());
            }
            Thing::Large(size) => {
                root.create_new(&path, 0o600)
                    .unwrap()
                    .set_len(*size as u64)
                    .unwrap();
                files.push(path.clone());
            }
            Thing::Symlink(target) => {
                root.symlink(target, &path).unwrap();
                is_symlink = true;
            }
            Thing::LinkTo(which) if !files.is_empty() => {
                root.hard_link(&files[which % files.len()], &path).unwrap();
                continue;
            }
            Thing::LinkTo(_) => continue,
            Thing::Whiteout => {
                root.mknod(&path, FileType::CharDevice, 0, (0, 0)).unwrap();
                root.set_times(&path, Timestamp::default(), Timestamp::default())
                    .unwrap();
                continue;
            }
            Thing::Fifo => root.fifo(&path, 0o600).unwrap(),
            Thing::Device(major, minor) => {
                root.mknod(&path, FileType::BlockDevice, 0o600, (*major, *minor))
                    .unwrap();
            }
        }
        root.chown(&path, *owner, owner / 2).unwrap();
        let can_have_user_xattr = matches!(thing, Thing::Directory { .. } | Thing::File(_));
        if *with_xattr && can_have_user_xattr {
            root.set_xattr(&path, "user.note", name.as_bytes()).unwrap();
        }
        if !is_symlink {
            root.chmod(&path, *mode).unwrap();
        }
        times.push((path, Timestamp::from_seconds(*seconds)));
    }
    for (path, time) in times.into_iter().rev() {
        root.set_times(path, time, time).unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_trees_survive(plan in plan()) {
        if !is_root_user() {
            return Ok(());
        }
        let scene = Scene::new();
        let first = scene.root("first");
        build(&first, &plan);
        let mut tar = Vec::new();
        let written = write_tar(&first, &mut tar).unwrap();
        prop_assert_eq!(written.tar_bytes, tar.len() as u64);
        prop_assert_eq!(summarize(&first).unwrap(), written);

        let second = scene.root("second");
        let applied = apply(tar.as_slice(), &second, ApplyOptions::default()).unwrap();
        prop_assert_eq!(applied.summary, written);
        prop_assert!(applied.recipe.is_canonical());
        prop_assert!(applied.implied_dirs.is_empty() && applied.pending_links.is_empty());
        let mut expected = look(&first);
        for seen in &mut expected {
            // The end of time of this disk and the epoch are where times are kept.
            seen.mtime_seconds = seen.mtime_seconds.max(0);
            if seen.file_type == FileType::CharDevice {
                // A whiteout belongs to nobody.
                seen.owner = (0, 0);
            }
        }
        prop_assert_eq!(look(&second), expected);

        let mut again = Vec::new();
        prop_assert_eq!(write_tar(&second, &mut again).unwrap(), written);
        prop_assert!(again == tar);
    }
}

#[test]
fn what_is_not_canonical_is_noticed_and_rebuilt_by_its_recipe() {
    if !is_root_user() {
        return;
    }
    let long = vec![b'n'; 200];
    let mut with_pax = Vec::new();
    put_pax(
        &mut with_pax,
        &[("mtime", b"1000.25"), ("SCHILY.xattr.trusted.note", b"1")],
    );
    put_item(&mut with_pax, &Item::file("a", "content"));
    with_pax.extend_from_slice(&[0; 1024]);
    let canonical = tar_of(&[
        Item::dir("d/"),
        Item::file("d/a", "1"),
        Item::file("d-b", "2"),
    ]);
    let mut with_tail = canonical.clone();
    with_tail.extend_from_slice(b"junk after the end");
    let mut longer = canonical.clone();
    longer.extend_from_slice(&[0; 9216]);
    let big = vec![7; 3 << 20];
    let cases: Vec<(&str, Vec<u8>, bool)> = vec![
        ("canonical", canonical.clone(), true),
        ("empty", tar_of(&[]), true),
        ("no bytes at all", Vec::new(), false),
        (
            "no trailer",
            canonical[..canonical.len() - 1024].to_vec(),
            false,
        ),
        (
            "one zero block",
            canonical[..canonical.len() - 512].to_vec(),
            false,
        ),
        ("trailing junk", with_tail, false),
        ("padded to a record", longer, false),
        ("dot slash", tar_of(&[Item::file("./a", "1")]), false),
        (
            "top entry",
            tar_of(&[Item::dir("./"), Item::file("a", "1")]),
            false,
        ),
        (
            "unsorted",
            tar_of(&[Item::file("b", "1"), Item::file("a", "2")]),
            false,
        ),
        (
            "sorted as strings",
            tar_of(&[Item::file("a-b", "1"), Item::file("a/b", "2")]),
            false,
        ),
        (
            "implied directory",
            tar_of(&[Item::file("a/b", "2")]),
            false,
        ),
        (
            "no slash after a directory",
            tar_of(&[Item::dir("a")]),
            false,
        ),
        ("gnu long name", tar_of(&[Item::file(&long, "1")]), false),
        ("pax time and attribute", with_pax, false),
        (
            "duplicates",
            tar_of(&[
                Item::file("a", "first"),
                Item::file("a", &big),
                Item::file("a", "last"),
            ]),
            false,
        ),
        (
            "tree replaced",
            tar_of(&[
                Item::dir("a/"),
                Item::file("a/x", &big),
                Item::file("a", "file"),
            ]),
            false,
        ),
        (
            "link to a link",
            tar_of(&[
                Item::file("a", "1"),
                Item::hard_link("b", "a"),
                Item::hard_link("c", "b"),
            ]),
            false,
        ),
        (
            "links",
            tar_of(&[
                Item::file("a", "1"),
                Item::hard_link("b", "a"),
                Item::hard_link("c", "a"),
            ]),
            true,
        ),
        (
            "link with another mode",
            tar_of(&[Item::file("a", "1"), Item::hard_link("b", "a").mode(0o600)]),
            false,
        ),
        (
            "link to a lower layer",
            tar_of(&[Item::hard_link("b", "lower")]),
            false,
        ),
        (
            "whiteout",
            tar_of(&[Item {
                mtime: 0,
                ..Item::file(".wh.a", "").mode(0)
            }]),
            true,
        ),
        (
            "whiteout of a mode",
            tar_of(&[Item::file(".wh.a", "")]),
            false,
        ),
        (
            "whiteout with content",
            tar_of(&[Item {
                mtime: 0,
                ..Item::file(".wh.a", "text").mode(0)
            }]),
            false,
        ),
        (
            "opaque",
            tar_of(&[
                Item::dir("a/"),
                Item {
                    mtime: 0,
                    ..Item::file("a/.wh..wh..opq", "").mode(0o755)
                },
            ]),
            true,
        ),
        (
            "opaque late",
            tar_of(&[
                Item::dir("a/"),
                Item::file("a/b", ""),
                Item::file("a/.wh..wh..opq", ""),
            ]),
            false,
        ),
        (
            "opaque top",
            tar_of(&[Item {
                mtime: 0,
                ..Item::file(".wh..wh..opq", "").mode(0o755)
            }]),
            true,
        ),
        (
            "aufs data",
            tar_of(&[
                Item::dir(".wh..wh.aufs"),
                Item::dir(".wh..wh.plnk/"),
                Item::file(".wh..wh.plnk/1.2", &big),
                Item::hard_link("a", ".wh..wh.plnk/1.2"),
            ]),
            false,
        ),
        ("large", tar_of(&[Item::file("a", &big)]), true),
        (
            "through a symlink",
            tar_of(&[
                Item::dir("real/"),
                Item::symlink("link", "real"),
                Item::file("link/x", "1"),
            ]),
            false,
        ),
    ];
    for (what, tar, canonical) in cases {
        let scene = Scene::new();
        let root = scene.root("layer");
        let applied = apply(tar.as_slice(), &root, ApplyOptions::default()).unwrap();
        assert_eq!(applied.summary.tar_bytes, tar.len() as u64, "{what}");
        assert_eq!(applied.recipe.is_canonical(), canonical, "{what}");
        let same = summarize(&root).unwrap().diff_id == applied.summary.diff_id;
        assert!(same || !canonical, "{what}");
        let recipe = Recipe::from_bytes(&applied.recipe.to_bytes()).unwrap();
        assert!(recipe.is_complete());
        let mut rebuilt = Vec::new();
        recipe.rebuild(&root, &mut rebuilt).unwrap();
        assert!(rebuilt == tar, "{what}");
    }
}

#[test]
fn a_changed_directory_is_told_from_the_original() {
    let scene = Scene::new();
    let root = scene.root("layer");
    let tar = tar_of(&[Item::file("./a", "1234")]);
    let applied = apply(tar.as_slice(), &root, ApplyOptions::default()).unwrap();
    std::io::Write::write_all(&mut root.create_file("a", 0o644).unwrap(), b"1235").unwrap();
    assert!(applied.recipe.rebuild(&root, &mut Vec::new()).is_err());
    root.create_file("a", 0o644).unwrap();
    assert!(applied.recipe.rebuild(&root, &mut Vec::new()).is_err());
}

#[test]
fn damaged_recipes_are_errors() {
    let scene = Scene::new();
    let root = scene.root("layer");
    let tar = tar_of(&[Item::file("./a", "1234"), Item::file("./b", "x")]);
    let bytes = apply(tar.as_slice(), &root, ApplyOptions::default())
        .unwrap()
        .recipe
        .to_bytes();
    for length in 0..bytes.len() {
        assert!(Recipe::from_bytes(&bytes[..length]).is_err());
    }
    for index in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[index] ^= 0x55;
        if let Ok(recipe) = Recipe::from_bytes(&damaged) {
            // Either the damage is noticed or it is where it does not matter.
            let mut out = Vec::new();
            assert!(
                recipe.rebuild(&root, &mut out).is_err() || out == tar,
                "byte {index}"
            );
        }
    }
}

#[test]
fn compression_does_not_depend_on_the_number_of_threads() {
    let mut input = Vec::new();
    for number in 0..700_000_u32 {
        input.extend_from_slice(
            &(number.wrapping_mul(2_654_435_761) >> (number % 20)).to_le_bytes(),
        );
    }
    for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
        for length in [0, 1, 1 << 20, (1 << 20) + 1, input.len()] {
            let input = &input[..length];
            let mut outputs = Vec::new();
            for threads in [1, 2, 8] {
                let mut out = Vec::new();
                let report = compress(input, &mut out, compression, threads).unwrap();
                assert_eq!(
                    (report.in_bytes, report.out_bytes),
                    (length as u64, out.len() as u64)
                );
                assert_eq!(report.digest, wharf_image::Digest::of(&out));
                outputs.push(out);
            }
            assert!(outputs[0] == outputs[1] && outputs[1] == outputs[2]);
            let (detected, mut reader) = decompress(outputs[0].as_slice()).unwrap();
            assert!(length == 0 || compression == Compression::None || detected == compression);
            let mut back = Vec::new();
            reader.read_to_end(&mut back).unwrap();
            assert!(back == input, "{compression:?} {length}");
        }
    }
    assert!(compress(&b"x"[..], Vec::new(), Compression::Xz, 1).is_err());
}

#[test]
fn every_compression_is_detected_and_read_to_its_end() {
    use flate2::write::GzEncoder;
    use std::io::Write;
    let text = b"some text ".repeat(1000);
    let gzip = |bytes: &[u8]| {
        let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    };
    let mut bzip2 = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
    bzip2.write_all(&text).unwrap();
    let skippable = [
        &[0x5a, 0x2a, 0x4d, 0x18, 4, 0, 0, 0][..],
        b"skip",
        &zstd::bulk::compress(&text, 1).unwrap(),
    ]
    .concat();
    let frames = [
        zstd::bulk::compress(&text[..70], 1).unwrap(),
        zstd::bulk::compress(&text[70..], 1).unwrap(),
    ]
    .concat();
    for (expected, bytes) in [
        (Compression::None, text.clone()),
        (Compression::Gzip, gzip(&text)),
        (
            Compression::Gzip,
            [gzip(&text[..33]), gzip(&text[33..])].concat(),
        ),
        (Compression::Bzip2, bzip2.finish().unwrap()),
        (Compression::Zstd, skippable),
        (Compression::Zstd, frames),
    ] {
        // A reader that hands out one byte at a time finds the same.
        let slow = std::io::BufReader::with_capacity(1, bytes.as_slice());
        let (compression, mut reader) = decompress(slow).unwrap();
        let mut back = Vec::new();
        reader.read_to_end(&mut back).unwrap();
        assert_eq!((compression, back == text), (expected, true));
        if expected != Compression::None {
            let (_, mut cut) = decompress(&bytes[..bytes.len() - 3]).unwrap();
            assert!(
                cut.read_to_end(&mut Vec::new()).is_err(),
                "{expected:?} cut short"
            );
        }
    }
    let (compression, _) = decompress(&b"\xfd7zXZ\0rest"[..]).unwrap();
    assert_eq!(compression, Compression::Xz);
}

#[test]
fn a_tar_that_replaces_too_much_of_itself_has_no_complete_recipe() {
    let limit = wharf_layer::MAX_RECIPE_CONTENT_BYTES as usize;
    for (size, complete) in [(limit, true), (limit + 1, false)] {
        let scene = Scene::new();
        let root = scene.root("layer");
        let tar = tar_of(&[Item::file("a", vec![0; size]), Item::file("a", "last")]);
        let applied = apply(tar.as_slice(), &root, ApplyOptions::default()).unwrap();
        let recipe = Recipe::from_bytes(&applied.recipe.to_bytes()).unwrap();
        assert_eq!(recipe.is_complete(), complete);
        let mut rebuilt = Vec::new();
        assert_eq!(recipe.rebuild(&root, &mut rebuilt).is_ok(), complete);
        assert!(!complete || rebuilt == tar);
    }
}
