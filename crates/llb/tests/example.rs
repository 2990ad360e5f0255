//! The worked example of the specification (spec llb §9), and definitions that are wrong.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use wharf_image::{Digest, Platform};
use wharf_llb::limits::{MAX_DEFINITION_BYTES, MAX_INPUTS, MAX_OP_BYTES, MAX_OPS};
use wharf_llb::{
    BuildOp, CacheSharing, CopyAction, Definition, DiffOp, Edge, ExecMeta, ExecOp, FileActionKind,
    FileInput, FileOp, Graph, LlbError, MergeOp, Metadata, MkdirAction, Mount, MountKind, Op,
    SourceOp, VertexId,
};

fn edge(vertex: VertexId) -> Edge {
    Edge { vertex, output: 0 }
}

fn source(identifier: &str, attributes: &[(&str, &str)]) -> Op {
    let pair = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
    Op::Source(SourceOp {
        identifier: identifier.to_owned(),
        attributes: attributes.iter().map(pair).collect(),
    })
}

fn file(input: FileInput, secondary: FileInput, kind: FileActionKind) -> Op {
    Op::File(FileOp::single(input, secondary, kind))
}

fn copy(source: &str, destination: &str) -> FileActionKind {
    FileActionKind::Copy(CopyAction {
        source: source.to_owned(),
        destination: destination.to_owned(),
        follow_symlink: true,
        dir_copy_contents: true,
        create_dest_path: true,
        allow_wildcard: true,
        allow_empty_wildcard: true,
        ..CopyAction::default()
    })
}

fn mount(destination: &str, input: Option<usize>, output: Option<u32>, kind: MountKind) -> Mount {
    Mount {
        input,
        selector: String::new(),
        destination: destination.to_owned(),
        output,
        read_only: false,
        kind,
        content_cache: Default::default(),
    }
}

fn named(name: &str) -> Metadata {
    Metadata {
        custom_name: name.to_owned(),
        ..Metadata::default()
    }
}

fn exec(args: &[&str], mounts: Vec<Mount>) -> Op {
    Op::Exec(ExecOp {
        meta: ExecMeta {
            args: args.iter().map(|arg| (*arg).to_owned()).collect(),
            cwd: "/w".to_owned(),
            ..ExecMeta::default()
        },
        mounts,
        ..ExecOp::default()
    })
}

fn example() -> (Graph, Edge) {
    let mut graph = Graph::default();
    let platform = Some(Platform::parse("linux/amd64").unwrap());
    let image = format!(
        "docker-image://docker.io/library/alpine:3.20@{}",
        Digest::of("alpine")
    );
    let name = "[b 1/4] FROM docker.io/library/alpine:3.20";
    let base = graph.add(
        source(&image, &[]),
        Vec::new(),
        platform.clone(),
        named(name),
    );
    let workdir = FileActionKind::Mkdir(MkdirAction {
        path: "/w".to_owned(),
        mode: 0o755,
        make_parents: true,
        ..MkdirAction::default()
    });
    let workdir = file(FileInput::Input(0), FileInput::Scratch, workdir);
    let workdir = graph.add(workdir, vec![edge(base)], None, named("[b 2/4] WORKDIR /w"));
    let attributes = [
        ("local.followpaths", r#"["x"]"#),
        ("local.sharedkeyhint", "context"),
    ];
    let context = source("local://context", &attributes);
    let name = "[internal] load build context";
    let context = graph.add(context, Vec::new(), None, named(name));
    let copied = file(FileInput::Input(0), FileInput::Input(1), copy("/x", "/w/"));
    let inputs = vec![edge(workdir), edge(context)];
    let copied = graph.add(copied, inputs, None, named("[b 3/4] COPY x ."));
    let cache = MountKind::Cache {
        id: "//c".to_owned(),
        sharing: CacheSharing::Shared,
    };
    let mounts = vec![
        mount("/", Some(0), Some(0), MountKind::Bind),
        mount("/c", None, None, cache),
    ];
    let run = exec(&["/bin/sh", "-c", "./x"], mounts);
    let name = "[b 4/4] RUN --mount=type=cache,target=/c ./x";
    let run = graph.add(run, vec![edge(copied)], platform, named(name));
    let last = file(FileInput::Scratch, FileInput::Input(0), copy("/w/out", "/"));
    let name = "[stage-1 1/1] COPY --from=b /w/out /";
    let last = graph.add(last, vec![edge(run)], None, named(name));
    (graph, edge(last))
}

#[test]
fn the_worked_example_goes_there_and_back() {
    let (graph, result) = example();
    let definition = Definition::of(&graph, Some(result));
    assert_eq!(definition.ops.len(), 7);
    let bytes = definition.encode();
    let read = Definition::decode(&bytes).unwrap();
    assert_eq!(read, definition);
    let (again, found) = read.graph().unwrap();
    assert_eq!(found, Some(result));
    assert_eq!(again, graph);
    assert_eq!(Definition::of(&again, found).encode(), bytes);
    let shown: Vec<String> = again
        .iter()
        .map(|(_, vertex)| format!("{} {}", vertex.digest.short(), vertex.metadata.custom_name))
        .collect();
    insta::assert_snapshot!(shown.join("\n"));
}

#[test]
fn bytes_are_those_of_the_format() {
    // Field 1 of the operation is the input, field 11 the empty constraints, field 6 a merge of one input.
    let mut graph = Graph::default();
    let source = graph.add(
        source("local://a", &[("k", "")]),
        Vec::new(),
        None,
        named(""),
    );
    let bytes = graph.vertex(source).bytes();
    assert_eq!(
        bytes,
        b"\x5a\x00\x1a\x12\x0a\x09local://a\x12\x05\x0a\x01k\x12\x00"
    );
    let merge = Op::Merge(MergeOp { inputs: vec![0] });
    let merge = graph.add(merge, vec![edge(source)], None, named(""));
    let digest = graph.vertex(source).digest.to_string();
    let head = b"\x0a\x49\x0a\x47".as_slice();
    let expected = [head, digest.as_bytes(), b"\x5a\x00\x32\x02\x0a\x00"].concat();
    assert_eq!(graph.vertex(merge).bytes(), expected);
    let diff = Op::Diff(DiffOp {
        lower: None,
        upper: Some(0),
    });
    let diff = graph.add(diff, vec![edge(source)], None, named(""));
    let none = b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01";
    let head = b"\x0a\x49\x0a\x47".as_slice();
    let body = [b"\x5a\x00\x3a\x0f\x0a\x0b".as_slice(), none, b"\x12\x00"].concat();
    let expected = [head, digest.as_bytes(), &body].concat();
    assert_eq!(graph.vertex(diff).bytes(), expected);
}

#[test]
fn digests_are_those_of_buildkit() {
    // Recorded from docker 28.5 and buildx 0.29 for `FROM busybox:1`, an image without a digest, and `RUN true`.
    let mut graph = Graph::default();
    let platform = Some(Platform::parse("linux/amd64").unwrap());
    let attributes = [("image.resolvemode", "local")];
    let image = source("docker-image://docker.io/library/busybox:1", &attributes);
    let image = graph.add(image, Vec::new(), platform.clone(), named(""));
    let op = ExecOp {
        meta: ExecMeta {
            args: ["/bin/sh", "-c", "true"].map(str::to_owned).to_vec(),
            env: vec![
                "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned(),
            ],
            cwd: "/".to_owned(),
            remove_mount_stubs_recursive: true,
            ..ExecMeta::default()
        },
        mounts: vec![mount("/", Some(0), Some(0), MountKind::Bind)],
        ..ExecOp::default()
    };
    let run = graph.add(Op::Exec(op), vec![edge(image)], platform, named(""));
    let digest = |id: VertexId| graph.vertex(id).digest.to_string();
    assert_eq!(
        digest(image),
        "sha256:852434f9e1c3da964ba81c5873c6637ec5cf1f4807e242595120d281c540cc18"
    );
    assert_eq!(
        digest(run),
        "sha256:ed54682d91602c9fac8edad7cbf72f0e322a91f9d2f1e31c9679b4ecb4034d21"
    );
}

#[test]
fn received_bytes_name_a_vertex_as_they_came() {
    // Fields in another order, and one that nobody knows.
    let bytes = b"\xfa\x3f\x01x\x1a\x0b\x0a\x09local://a".to_vec();
    let digest = Digest::of(&bytes);
    let mut definition = Definition {
        ops: vec![bytes.clone(), last(&[(digest.to_string(), 0)])],
        ..Definition::default()
    };
    definition.metadata.insert(digest, named("mine"));
    let (graph, result) = definition.graph().unwrap();
    let vertex = graph.vertex(result.unwrap().vertex);
    assert_eq!((vertex.digest, vertex.bytes()), (digest, bytes.as_slice()));
    assert_eq!(vertex.metadata.custom_name, "mine");
}

/// Writes the operation that names results.
fn last(inputs: &[(String, u8)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (digest, index) in inputs {
        let mut input = vec![0x0a, u8::try_from(digest.len()).unwrap()];
        input.extend(digest.as_bytes());
        input.extend([0x10, *index]);
        bytes.extend([0x0a, u8::try_from(input.len()).unwrap()]);
        bytes.extend(input);
    }
    bytes
}

fn error(ops: Vec<Vec<u8>>) -> LlbError {
    let definition = Definition {
        ops,
        ..Definition::default()
    };
    definition.graph().unwrap_err()
}

#[test]
fn wrong_definitions_are_refused_with_a_reason() {
    let (graph, result) = example();
    let definition = Definition::of(&graph, Some(result));
    let (_, ops) = definition.ops.split_last().unwrap();
    let result = definition.ops.last().unwrap().clone();
    let image = ops[0].clone();
    let digest = Digest::of(&image).to_string();
    let other = Digest::of("other").to_string();
    let with = |ops: &[Vec<u8>], last: Vec<u8>| {
        let mut ops = ops.to_vec();
        ops.push(last);
        error(ops).to_string()
    };
    let told = [
        with(&ops[1..], result.clone()),
        with(&ops[..1], result.clone()),
        with(&ops[..1], last(&[(digest.clone(), 1)])),
        with(&ops[..1], last(&[(other, 0)])),
        with(&ops[..1], last(&[(digest.clone(), 0), (digest, 0)])),
        with(&ops[..1], Vec::new()),
        with(&ops[..1], image.clone()),
        with(&[], vec![0xff]),
        with(&[vec![0xff]], result.clone()),
        with(&[Vec::new()], result),
    ];
    insta::assert_snapshot!(told.join("\n"));
    assert_eq!(
        Definition::default().graph().unwrap(),
        (Graph::default(), None)
    );
}

#[test]
fn operations_that_make_no_sense_are_refused() {
    let root = || mount("/", Some(0), Some(0), MountKind::Bind);
    let copy_of = |input, secondary| file(input, secondary, copy("/a", "/b"));
    let told: Vec<String> = [
        exec(&[], vec![root()]),
        exec(&["x"], vec![mount("/a", None, None, MountKind::Bind)]),
        exec(&["x"], vec![mount("/", Some(1), None, MountKind::Bind)]),
        copy_of(FileInput::Input(0), FileInput::Input(4)),
        copy_of(FileInput::Action(0), FileInput::Scratch),
        Op::File(FileOp::default()),
        Op::Merge(MergeOp { inputs: vec![1] }),
        source("", &[]),
        Op::Build(BuildOp {
            inputs: BTreeMap::from([("a".to_owned(), 9)]),
            ..BuildOp::default()
        }),
    ]
    .into_iter()
    .map(|op| {
        let mut graph = Graph::default();
        let base = graph.add(source("local://a", &[]), Vec::new(), None, named(""));
        let vertex = graph.add(op, vec![edge(base)], None, named(""));
        let definition = Definition::of(&graph, Some(edge(vertex)));
        let LlbError::Invalid { message, .. } = definition.graph().unwrap_err() else {
            panic!("another error");
        };
        message
    })
    .collect();
    insta::assert_snapshot!(told.join("\n"));
}

#[test]
fn limits_hold() {
    let local = |number: usize| {
        let mut graph = Graph::default();
        let id = graph.add(
            source(&format!("local://{number}"), &[]),
            vec![],
            None,
            named(""),
        );
        graph.vertex(id).bytes().to_vec()
    };
    let with = |mut ops: Vec<Vec<u8>>| {
        let digest = Digest::of(&ops[0]).to_string();
        ops.push(last(&[(digest, 0)]));
        Definition {
            ops,
            ..Definition::default()
        }
        .graph()
    };
    assert!(with((0..MAX_OPS - 1).map(local).collect()).is_ok());
    let too_many = with((0..MAX_OPS).map(local).collect());
    assert_eq!(too_many, Err(LlbError::TooManyOps { found: MAX_OPS + 1 }));

    let padded = |bytes: usize| {
        let base = b"\x1a\x0b\x0a\x09local://a".to_vec();
        // An unknown field of the wanted length; its own length takes four bytes.
        let length = u32::try_from(bytes - base.len() - 6).unwrap();
        let mut op = base;
        op.extend([0xfa, 0x3f]);
        op.extend((0..3).map(|shift| (length >> (7 * shift) & 0x7f | 0x80) as u8));
        op.push((length >> 21) as u8);
        op.resize(bytes, b'x');
        op
    };
    assert!(with(vec![padded(MAX_OP_BYTES)]).is_ok());
    let found = MAX_OP_BYTES + 1;
    let too_large = with(vec![padded(found)]);
    assert_eq!(too_large, Err(LlbError::OpTooLarge { number: 0, found }));
    let whole = MAX_DEFINITION_BYTES / MAX_OP_BYTES;
    let too_large = with((0..whole).map(|_| padded(MAX_OP_BYTES)).collect());
    assert!(matches!(too_large, Err(LlbError::TooLarge { .. })));
    let too_large = Definition::decode(&vec![0; MAX_DEFINITION_BYTES + 1]);
    assert!(matches!(too_large, Err(LlbError::TooLarge { .. })));
    // An empty tag is malformed, not too large.
    let largest = Definition::decode(&vec![0; MAX_DEFINITION_BYTES]);
    assert!(matches!(largest, Err(LlbError::Malformed { .. })));

    let merged = |count: usize| {
        let mut graph = Graph::default();
        let base = graph.add(source("local://a", &[]), Vec::new(), None, named(""));
        let merge = Op::Merge(MergeOp { inputs: vec![0] });
        let merge = graph.add(merge, vec![edge(base); count], None, named(""));
        Definition::of(&graph, Some(edge(merge))).graph().map(drop)
    };
    assert_eq!(merged(MAX_INPUTS), Ok(()));
    assert!(matches!(
        merged(MAX_INPUTS + 1),
        Err(LlbError::TooManyInputs { .. })
    ));
}
