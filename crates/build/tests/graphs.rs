//! Graphs that no Dockerfile makes, and every kind of operation and mount.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod support;

use std::collections::BTreeMap;

use support::{Bench, can_mount};
use wharf_build::{ContextSource, Secret, SolveOptions, cache_mounts, solve};
use wharf_image::{Digest, ImageConfig};
use wharf_llb::{
    CacheSharing, ContentCache, CopyAction, DiffOp, Edge, ExecMeta, ExecOp, FileAction,
    FileActionKind, FileInput, FileOp, Graph, MergeOp, Metadata, MkdirAction, MkfileAction, Mount,
    MountKind, Op, RmAction, SecretEnv, SecretMount, SourceOp, SymlinkAction,
};

struct Lab {
    bench: Bench,
    graph: Graph,
    options: SolveOptions,
}

impl Lab {
    fn new() -> Self {
        Self {
            bench: Bench::new(),
            graph: Graph::default(),
            options: SolveOptions {
                build: "lab".to_owned(),
                parallel: 2,
                ..SolveOptions::default()
            },
        }
    }

    fn add(&mut self, op: Op, inputs: Vec<Edge>) -> Edge {
        let vertex = self.graph.add(op, inputs, None, Metadata::default());
        Edge { vertex, output: 0 }
    }

    fn source(&mut self, identifier: &str) -> Edge {
        let source = SourceOp {
            identifier: identifier.to_owned(),
            attributes: BTreeMap::new(),
        };
        self.add(Op::Source(source), Vec::new())
    }

    fn base(&mut self) -> Edge {
        self.source("docker-image://base")
    }

    fn run(&mut self, root: Edge, script: &str, mounts: Vec<Mount>, mut inputs: Vec<Edge>) -> Edge {
        inputs.insert(0, root);
        let exec = exec(script, mounts);
        self.add(Op::Exec(exec), inputs)
    }

    fn files(&mut self, input: Option<Edge>, kinds: Vec<FileActionKind>) -> Edge {
        let mut actions: Vec<FileAction> = Vec::new();
        for (number, kind) in kinds.into_iter().enumerate() {
            actions.push(FileAction {
                input: match (number, input) {
                    (0, None) => FileInput::Scratch,
                    (0, Some(_)) => FileInput::Input(0),
                    (number, _) => FileInput::Action(number - 1),
                },
                secondary: FileInput::Scratch,
                output: None,
                kind,
            });
        }
        actions.last_mut().unwrap().output = Some(0);
        self.add(Op::File(FileOp { actions }), input.into_iter().collect())
    }

    fn solve(&self, wanted: Edge) -> Result<Vec<Digest>, String> {
        let contexts = BTreeMap::from([(
            "context".to_owned(),
            ContextSource::Directory(self.bench.context()),
        )]);
        let graph = (&self.graph, &[wanted][..]);
        let solved = solve(
            &self.bench.store,
            &self.bench.host,
            graph,
            &contexts,
            &self.options,
            &mut |_| {},
        );
        solved
            .map(|mut chains| chains.remove(0))
            .map_err(|error| error.to_string())
    }

    fn tree(&self, wanted: Edge) -> Vec<String> {
        let mut image = ImageConfig::default();
        image.rootfs.diff_ids = self.solve(wanted).unwrap();
        self.bench.tree(&image, "")
    }
}

fn exec(script: &str, mounts: Vec<Mount>) -> ExecOp {
    let root = mount(Some(0), "/", Some(0), MountKind::Bind);
    ExecOp {
        meta: ExecMeta {
            args: vec!["/bin/sh".to_owned(), "-c".to_owned(), script.to_owned()],
            cwd: "/".to_owned(),
            ..ExecMeta::default()
        },
        mounts: std::iter::once(root).chain(mounts).collect(),
        ..ExecOp::default()
    }
}

fn mount(input: Option<usize>, destination: &str, output: Option<u32>, kind: MountKind) -> Mount {
    Mount {
        input,
        selector: String::new(),
        destination: destination.to_owned(),
        output,
        read_only: false,
        kind,
        content_cache: ContentCache::Default,
    }
}

fn mkfile(path: &str, text: &str) -> FileActionKind {
    FileActionKind::Mkfile(MkfileAction {
        path: path.to_owned(),
        mode: 0o644,
        data: text.as_bytes().to_vec(),
        ..MkfileAction::default()
    })
}

fn rm(path: &str, allow_not_found: bool, allow_wildcard: bool) -> FileActionKind {
    FileActionKind::Rm(RmAction {
        path: path.to_owned(),
        allow_not_found,
        allow_wildcard,
    })
}

#[test]
fn files_are_made_linked_and_removed() {
    if !can_mount() {
        return;
    }
    let mut lab = Lab::new();
    let directory = MkdirAction {
        path: "/d/e".to_owned(),
        mode: 0o750,
        make_parents: true,
        timestamp_ns: Some(5_000_000_000),
        ..MkdirAction::default()
    };
    let link = SymlinkAction {
        target: "d/a.txt".to_owned(),
        path: "/link".to_owned(),
        ..SymlinkAction::default()
    };
    let made = lab.files(
        None,
        vec![
            FileActionKind::Mkdir(directory),
            mkfile("/d/a.txt", "a"),
            mkfile("/d/b.txt", "b"),
            FileActionKind::Symlink(link),
        ],
    );
    assert_eq!(
        lab.tree(made),
        [
            "d 750 0:0 /",
            "d/a.txt 644 0:0 a",
            "d/b.txt 644 0:0 b",
            "d/e 750 0:0 /",
            "link 777 0:0 -> d/a.txt"
        ]
    );
    // A link is removed itself, not what it leads to.
    let removed = lab.files(
        Some(made),
        vec![
            rm("/link", false, false),
            rm("/d/b*", false, true),
            rm("/none", true, false),
        ],
    );
    assert_eq!(
        lab.tree(removed),
        ["d 750 0:0 /", "d/a.txt 644 0:0 a", "d/e 750 0:0 /"]
    );
    let missing = lab.files(Some(made), vec![rm("/none", false, false)]);
    assert!(lab.solve(missing).unwrap_err().contains("does not exist"));
    let twice = lab.files(
        Some(made),
        vec![FileActionKind::Symlink(SymlinkAction {
            target: "x".to_owned(),
            path: "/link".to_owned(),
            ..SymlinkAction::default()
        })],
    );
    assert!(lab.solve(twice).is_err());
}

#[test]
fn merging_joins_layers_and_diffing_takes_them_apart() {
    if !can_mount() {
        return;
    }
    let mut lab = Lab::new();
    let base = lab.base();
    let one = lab.files(None, vec![mkfile("/x", "1"), mkfile("/one", "1")]);
    let two = lab.run(base, "write /x 2 && rm /lib/old", Vec::new(), Vec::new());
    let merged = lab.add(Op::Merge(MergeOp { inputs: vec![0, 1] }), vec![one, two]);
    let (of_one, of_two) = (lab.solve(one).unwrap(), lab.solve(two).unwrap());
    assert_eq!(
        lab.solve(merged).unwrap(),
        [of_one, of_two.clone()].concat()
    );
    let tree = lab.tree(merged);
    assert!(
        tree.contains(&"x 644 0:0 2".to_owned()) && tree.contains(&"one 644 0:0 1".to_owned()),
        "{tree:?}"
    );
    let diff = |lower, upper| Op::Diff(DiffOp { lower, upper });
    let own = lab.add(diff(Some(0), Some(1)), vec![base, two]);
    assert_eq!(lab.solve(own).unwrap(), of_two[1..]);
    // Trees that do not stand on each other are compared: what is missing becomes a deletion.
    let against = lab.add(diff(Some(0), Some(1)), vec![two, one]);
    let joined = lab.add(
        Op::Merge(MergeOp { inputs: vec![0, 1] }),
        vec![two, against],
    );
    assert_eq!(lab.tree(joined), lab.tree(one));
    let same = lab.add(diff(Some(0), Some(1)), vec![one, one]);
    assert!(lab.solve(same).unwrap().is_empty());
}

#[test]
fn bind_mounts_of_other_vertices() {
    if !can_mount() {
        return;
    }
    let mut lab = Lab::new();
    let base = lab.base();
    let tools = lab.files(None, vec![mkfile("/t", "old"), mkfile("/f", "file")]);
    let tools = lab.files(Some(tools), vec![mkfile("/t", "tool")]);
    let mut read = mount(Some(1), "/mnt", None, MountKind::Bind);
    read.read_only = true;
    let mut part = mount(Some(1), "/one", None, MountKind::Bind);
    part.selector = "/f".to_owned();
    part.read_only = true;
    let written = mount(Some(1), "/rw", None, MountKind::Bind);
    let script = "get /mnt/t /got && get /one /file && put /rw/new 1 && get /rw/new /back";
    let run = lab.run(base, script, vec![read, part, written], vec![tools]);
    let tree = lab.tree(run);
    for line in ["got 644 0:0 tool", "file 644 0:0 file", "back 644 0:0 1"] {
        assert!(tree.contains(&line.to_owned()), "{line}: {tree:?}");
    }
    // Neither what was written to the mount nor mount points are part of anything.
    assert!(
        !tree
            .iter()
            .any(|line| line.starts_with("mnt") || line.starts_with("rw"))
    );
    assert_eq!(lab.tree(tools), ["f 644 0:0 file", "t 644 0:0 tool"]);
}

#[test]
fn a_mount_can_be_a_result_of_its_own() {
    if !can_mount() {
        return;
    }
    let mut lab = Lab::new();
    let base = lab.base();
    let start = lab.files(None, vec![mkfile("/kept", "1")]);
    let out = mount(Some(1), "/out", Some(1), MountKind::Bind);
    let run = lab.run(base, "put /out/made 2", vec![out], vec![start]);
    let second = Edge { output: 1, ..run };
    assert_eq!(lab.tree(second), ["kept 644 0:0 1", "made 644 0:0 2"]);
    let runs = lab.bench.runs();
    assert_eq!(lab.tree(second).len(), 2);
    assert_eq!(lab.bench.runs(), runs);
}

#[test]
fn contexts_are_mounted_without_their_times() {
    if !can_mount() {
        return;
    }
    let mut lab = Lab::new();
    lab.bench.file("src/a", "1");
    let (base, context) = (lab.base(), lab.source("local://context"));
    let mut bound = mount(Some(1), "/src", None, MountKind::Bind);
    bound.read_only = true;
    bound.selector = "/src".to_owned();
    let run = lab.run(base, "get /src/a /got", vec![bound], vec![context]);
    assert!(lab.tree(run).contains(&"got 644 0:0 1".to_owned()));
    lab.bench.file("other", "changed");
    lab.bench.file("src/a", "1");
    lab.solve(run).unwrap();
    assert_eq!(lab.bench.runs(), 1);
    lab.bench.file("src/a", "2");
    assert!(lab.tree(run).contains(&"got 644 0:0 2".to_owned()));
}

#[test]
fn cache_mounts_outlive_steps() {
    if !can_mount() {
        return;
    }
    let mut lab = Lab::new();
    let base = lab.base();
    let cache = |sharing| {
        let id = "/c".to_owned();
        mount(None, "/c", None, MountKind::Cache { id, sharing })
    };
    let first = lab.run(
        base,
        "put /c/kept 1",
        vec![cache(CacheSharing::Shared)],
        Vec::new(),
    );
    let second = lab.run(
        first,
        "get /c/kept /got",
        vec![cache(CacheSharing::Locked)],
        Vec::new(),
    );
    let tree = lab.tree(second);
    assert!(
        tree.contains(&"got 644 0:0 1".to_owned())
            && !tree.iter().any(|line| line.starts_with("c ")),
        "{tree:?}"
    );
    let kept = cache_mounts(&lab.bench.store).unwrap();
    assert_eq!((kept.len(), kept[0].0.use_count), (1, 2));
    // Pruning steps leaves them.
    let all = wharf_build::PruneOptions {
        all: true,
        until_unix_ns: None,
    };
    wharf_build::prune(&lab.bench.store, &all).unwrap();
    assert_eq!(cache_mounts(&lab.bench.store).unwrap().len(), 1);
}

#[test]
fn secrets_reach_the_step_and_no_key() {
    if !can_mount() {
        return;
    }
    let mut lab = Lab::new();
    let base = lab.base();
    let secret = SecretMount {
        id: "token".to_owned(),
        mode: 0o400,
        ..SecretMount::default()
    };
    let mut op = exec(
        "get /run/secrets/token /got && env TOKEN /variable",
        vec![mount(
            None,
            "/run/secrets/token",
            None,
            MountKind::Secret(secret),
        )],
    );
    op.secret_env.push(SecretEnv {
        id: "token".to_owned(),
        name: "TOKEN".to_owned(),
        optional: false,
    });
    let run = lab.add(Op::Exec(op), vec![base]);
    let error = lab.solve(run).unwrap_err();
    assert!(error.contains("secret token: not found"), "{error}");
    let pass = |lab: &mut Lab, value: &str| {
        let value = Secret::new(value.as_bytes().to_vec());
        lab.options.secrets.insert("token".to_owned(), value);
    };
    pass(&mut lab, "one");
    let tree = lab.tree(run);
    assert!(
        tree.contains(&"got 644 0:0 one".to_owned())
            && tree.contains(&"variable 644 0:0 one".to_owned()),
        "{tree:?}"
    );
    pass(&mut lab, "two");
    assert_eq!(lab.tree(run), tree);
    for record in lab.bench.store.caches().unwrap() {
        assert!(!record.explain.to_string().contains("one"));
    }
}

#[test]
fn copies_select_and_place_as_asked() {
    if !can_mount() {
        return;
    }
    let mut lab = Lab::new();
    for path in ["src/a.txt", "src/b.log", "src/deep/c.txt"] {
        lab.bench.file(path, path);
    }
    let context = lab.source("local://context");
    let mut copied = |change: &dyn Fn(&mut CopyAction)| {
        let mut copy = CopyAction {
            source: "/src".to_owned(),
            destination: "/out".to_owned(),
            create_dest_path: true,
            ..CopyAction::default()
        };
        change(&mut copy);
        let copy = FileActionKind::Copy(copy);
        let copying = FileOp::single(FileInput::Scratch, FileInput::Input(0), copy);
        let edge = lab.add(Op::File(copying), vec![context]);
        let tree = lab.tree(edge).into_iter();
        tree.filter(|line| !line.ends_with('/'))
            .map(|line| line.split(' ').next().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        copied(&|_| {}),
        ["out/a.txt", "out/b.log", "out/deep/c.txt"]
    );
    assert_eq!(
        copied(&|copy| copy.destination = "/out/".to_owned()),
        ["out/src/a.txt", "out/src/b.log", "out/src/deep/c.txt"]
    );
    assert_eq!(
        copied(&|copy| copy.exclude_patterns = vec!["*.log".to_owned()]),
        ["out/a.txt", "out/deep/c.txt"]
    );
    assert_eq!(
        copied(&|copy| copy.include_patterns = vec!["deep".to_owned()]),
        ["out/deep/c.txt"]
    );
    assert_eq!(
        copied(&|copy| {
            copy.source = "/src/*.txt".to_owned();
            copy.allow_wildcard = true;
            copy.destination = "/out/".to_owned();
        }),
        ["out/a.txt"]
    );
}

#[test]
fn graphs_that_make_no_sense_are_refused() {
    if !can_mount() {
        return;
    }
    let mut lab = Lab::new();
    let base = lab.base();
    let unknown = lab.source("ftp://a/b");
    assert!(
        lab.solve(unknown)
            .unwrap_err()
            .contains("unknown kind of source")
    );
    let no_context = lab.source("local://nowhere");
    assert!(
        lab.solve(no_context)
            .unwrap_err()
            .contains("no build context named nowhere")
    );
    let rootless = ExecOp {
        mounts: Vec::new(),
        ..exec("nothing", Vec::new())
    };
    let rootless = lab.add(Op::Exec(rootless), vec![base]);
    assert!(
        lab.solve(rootless)
            .unwrap_err()
            .contains("without a root file system")
    );
    let far = mount(None, "/", Some(u32::MAX), MountKind::Bind);
    let far = ExecOp {
        mounts: vec![far],
        ..exec("nothing", Vec::new())
    };
    let far = lab.add(Op::Exec(far), vec![base]);
    assert!(lab.solve(far).unwrap_err().contains("numbered from 0"));
    let ahead = FileOp::single(FileInput::Action(3), FileInput::Scratch, mkfile("/x", ""));
    let ahead = lab.add(Op::File(ahead), vec![base]);
    assert!(
        lab.solve(ahead)
            .unwrap_err()
            .contains("does not come before it")
    );
}
