//! Definitions of other programs: read, refused or solved, also where a graph holds another one.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod support;

use std::collections::BTreeMap;

use support::{Bench, can_mount};
use wharf_build::{CAPS, ContextSource, SolveOptions, solve_definition};
use wharf_image::{ImageConfig, Platform};
use wharf_llb::{
    BuildOp, CopyAction, DEFINITION_INPUT, Definition, Device, Edge, ExecMeta, ExecOp,
    FileActionKind, FileInput, FileOp, Graph, Metadata, MkfileAction, Mount, MountKind, Op,
    Resources, SecurityMode, SourceOp,
};

fn options() -> SolveOptions {
    SolveOptions {
        build: "lab".to_owned(),
        parallel: 2,
        ..SolveOptions::default()
    }
}

fn solve(bench: &Bench, definition: &Definition) -> Result<Vec<String>, String> {
    // What is solved went over a wire.
    let definition = Definition::decode(&definition.encode()).unwrap();
    let context = ContextSource::Directory(bench.context());
    let contexts = BTreeMap::from([("context".to_owned(), context)]);
    let (store, host) = (&bench.store, &bench.host);
    let diff_ids = solve_definition(store, host, &definition, &contexts, &options(), &mut |_| {});
    let mut image = ImageConfig::default();
    image.rootfs.diff_ids = diff_ids.map_err(|error| error.to_string())?;
    if image.rootfs.diff_ids.is_empty() {
        return Ok(Vec::new());
    }
    Ok(bench.tree(&image, ""))
}

fn add(graph: &mut Graph, op: Op, inputs: Vec<Edge>) -> Edge {
    let platform = matches!(op, Op::Exec(_)).then(Platform::host);
    let vertex = graph.add(op, inputs, platform, Metadata::default());
    Edge { vertex, output: 0 }
}

fn source(identifier: &str) -> Op {
    Op::Source(SourceOp {
        identifier: identifier.to_owned(),
        ..SourceOp::default()
    })
}

fn exec(script: &str) -> ExecOp {
    ExecOp {
        meta: ExecMeta {
            args: vec!["/bin/sh".to_owned(), "-c".to_owned(), script.to_owned()],
            cwd: "/".to_owned(),
            ..ExecMeta::default()
        },
        mounts: vec![Mount {
            input: Some(0),
            selector: String::new(),
            destination: "/".to_owned(),
            output: Some(0),
            read_only: false,
            kind: MountKind::Bind,
            content_cache: Default::default(),
        }],
        ..ExecOp::default()
    }
}

fn file(kind: FileActionKind, secondary: FileInput, input: FileInput) -> Op {
    Op::File(FileOp::single(input, secondary, kind))
}

fn mkfile(path: &str, data: Vec<u8>) -> Op {
    let made = MkfileAction {
        path: path.to_owned(),
        mode: 0o644,
        data,
        ..MkfileAction::default()
    };
    file(
        FileActionKind::Mkfile(made),
        FileInput::Scratch,
        FileInput::Scratch,
    )
}

/// An image, a file of the context in it, and a program over both.
fn whole() -> Definition {
    let mut graph = Graph::default();
    let base = add(&mut graph, source("docker-image://base"), vec![]);
    let context = add(&mut graph, source("local://context"), vec![]);
    let copy = CopyAction {
        source: "/f".to_owned(),
        destination: "/srv/".to_owned(),
        create_dest_path: true,
        ..CopyAction::default()
    };
    let copy = FileActionKind::Copy(copy);
    let copy = file(copy, FileInput::Input(1), FileInput::Input(0));
    let copied = add(&mut graph, copy, vec![base, context]);
    let run = Op::Exec(exec("write /srv/made by-a-program"));
    let run = add(&mut graph, run, vec![copied]);
    Definition::of(&graph, Some(run))
}

#[test]
fn a_definition_builds_and_is_found_again() {
    if !can_mount() {
        return;
    }
    let bench = Bench::new();
    bench.file("f", "of the context");
    let tree = solve(&bench, &whole()).unwrap();
    for name in ["lib/old", "srv/f", "srv/made"] {
        assert!(
            tree.iter().any(|line| line.contains(name)),
            "{name} in {tree:?}"
        );
    }
    assert_eq!(bench.runs(), 1);
    assert_eq!(solve(&bench, &whole()).unwrap(), tree);
    assert_eq!(bench.runs(), 1);
    assert_eq!(solve(&bench, &Definition::default()), Ok(Vec::new()));
}

/// A graph that solves what a file of another vertex holds.
fn nested(inner: &Definition, path: &str) -> Definition {
    let mut graph = Graph::default();
    let holder = add(&mut graph, mkfile(path, inner.encode()), vec![]);
    let build = Op::Build(BuildOp {
        inputs: BTreeMap::from([(DEFINITION_INPUT.to_owned(), 1)]),
        attributes: BTreeMap::from([("llbbuild.filename".to_owned(), path.to_owned())]),
        ..BuildOp::default()
    });
    let other = add(&mut graph, mkfile("/other", Vec::new()), vec![]);
    let built = add(&mut graph, build, vec![other, holder]);
    let run = Op::Exec(exec("write /srv/outer after-it"));
    let run = add(&mut graph, run, vec![built]);
    Definition::of(&graph, Some(run))
}

#[test]
fn a_graph_in_a_graph_is_solved() {
    if !can_mount() {
        return;
    }
    let bench = Bench::new();
    bench.file("f", "of the context");
    let outer = nested(&whole(), "/d/graph");
    // The directory above the file is not there.
    assert!(solve(&bench, &outer).is_err());
    let outer = nested(&whole(), "/graph");
    let tree = solve(&bench, &outer).unwrap();
    for name in ["srv/f", "srv/made", "srv/outer"] {
        assert!(
            tree.iter().any(|line| line.contains(name)),
            "{name} in {tree:?}"
        );
    }
    assert!(!tree.iter().any(|line| line.contains("graph")), "{tree:?}");
    assert_eq!(bench.runs(), 2);
    // The graph inside is known already.
    solve(&bench, &whole()).unwrap();
    assert_eq!(bench.runs(), 2);

    let mut graph = Graph::default();
    let build = Op::Build(BuildOp {
        definition: Some(Box::new(whole())),
        ..BuildOp::default()
    });
    let built = add(&mut graph, build, vec![]);
    assert!(solve(&bench, &Definition::of(&graph, Some(built))).is_ok());
    assert_eq!(bench.runs(), 2);
}

#[test]
fn graphs_in_graphs_end_at_a_depth() {
    if !can_mount() {
        return;
    }
    let bench = Bench::new();
    let deep = |depth: usize| {
        let mut held = {
            let mut graph = Graph::default();
            let made = add(&mut graph, mkfile("/made", Vec::new()), vec![]);
            Definition::of(&graph, Some(made))
        };
        for _ in 0..depth {
            let mut graph = Graph::default();
            let build = Op::Build(BuildOp {
                definition: Some(Box::new(held)),
                ..BuildOp::default()
            });
            let built = add(&mut graph, build, vec![]);
            held = Definition::of(&graph, Some(built));
        }
        held
    };
    assert!(solve(&bench, &deep(8)).is_ok());
    let error = solve(&bench, &deep(9)).unwrap_err();
    assert_eq!(
        error,
        "invalid build graph: graphs are nested more than 8 deep"
    );
}

#[test]
fn what_the_solver_cannot_do_is_refused_before_anything_runs() {
    let bench = Bench::new();
    let with = |change: &dyn Fn(&mut ExecOp, &mut Metadata)| {
        let mut graph = Graph::default();
        let base = add(&mut graph, source("docker-image://base"), vec![]);
        let (mut op, mut metadata) = (exec("write /a b"), Metadata::default());
        change(&mut op, &mut metadata);
        let vertex = graph.add(Op::Exec(op), vec![base], None, metadata);
        let error = solve(
            &bench,
            &Definition::of(&graph, Some(Edge { vertex, output: 0 })),
        );
        let error = error.unwrap_err();
        // Digests say nothing here.
        match error.split_once("operation sha256:") {
            Some((start, rest)) => format!("{start}operation …{}", rest.get(64..).unwrap()),
            None => error,
        }
    };
    let told = [
        with(&|_, known| known.caps.extend(["exec.teleport".to_owned()])),
        with(&|op, _| op.security = SecurityMode::Insecure),
        with(&|op, _| {
            op.devices.push(Device {
                name: "a.b/c=d".to_owned(),
                optional: false,
            });
        }),
        with(&|op, _| op.meta.cgroup_parent = "/x".to_owned()),
        with(&|_, known| known.resources = Some(Resources::default())),
    ];
    insta::assert_snapshot!(told.join("\n"));
    let mut graph = Graph::default();
    let signed = SourceOp {
        identifier: "git://a/b".to_owned(),
        attributes: BTreeMap::from([("git.sig.pubkey".to_owned(), "x".to_owned())]),
    };
    let signed = add(&mut graph, Op::Source(signed), vec![]);
    let error = solve(&bench, &Definition::of(&graph, Some(signed))).unwrap_err();
    assert!(error.ends_with("attribute git.sig.pubkey of a source is not supported"));
    assert_eq!(bench.runs(), 0);
    assert!(CAPS.is_sorted());
}
