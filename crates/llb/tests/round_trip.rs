//! Any graph goes there and back; any bytes are taken or refused, and never end the program.

#![allow(clippy::unwrap_used)]

use proptest::collection::{btree_map, btree_set, vec};
use proptest::prelude::*;
use wharf_image::{Digest, Platform};
use wharf_llb::{
    Account, BuildOp, CacheSharing, Chown, ContentCache, CopyAction, Definition, Device, DiffOp,
    Edge, ExecMeta, ExecOp, FileAction, FileActionKind, FileInput, FileOp, Graph, HostIp, Location,
    MergeOp, Metadata, MkdirAction, MkfileAction, Mount, MountKind, NetworkMode, Op, Position,
    ProgressGroup, ProxyEnv, Resources, RmAction, SecretEnv, SecretMount, SecurityMode, SourceInfo,
    SourceMap, SourceOp, SshMount, SymlinkAction, Ulimit,
};

/// Inputs that every operation but sources has.
const INPUTS: usize = 3;

fn text() -> impl Strategy<Value = String> {
    "[a-z/é]{0,6}"
}

fn input() -> impl Strategy<Value = Option<usize>> {
    prop::option::of(0..INPUTS)
}

fn platform() -> impl Strategy<Value = Option<Platform>> {
    let platform = (text(), text(), text(), text(), vec(text(), 0..2));
    let platform =
        platform.prop_map(
            |(os, architecture, variant, os_version, os_features)| Platform {
                os,
                architecture,
                variant,
                os_version,
                os_features,
            },
        );
    prop::option::of(platform)
}

fn source() -> impl Strategy<Value = Op> {
    ("[a-z]{1,5}://[a-z]{0,4}", btree_map(text(), text(), 0..4)).prop_map(
        |(identifier, attributes)| {
            Op::Source(SourceOp {
                identifier,
                attributes,
            })
        },
    )
}

fn mount_kind() -> impl Strategy<Value = MountKind> {
    let file = || {
        (
            text(),
            any::<u32>(),
            any::<u32>(),
            any::<u32>(),
            any::<bool>(),
        )
    };
    let sharing = prop_oneof![
        Just(CacheSharing::Shared),
        Just(CacheSharing::Private),
        Just(CacheSharing::Locked)
    ];
    prop_oneof![
        Just(MountKind::Bind),
        file().prop_map(
            |(id, uid, gid, mode, optional)| MountKind::Secret(SecretMount {
                id,
                uid,
                gid,
                mode,
                optional
            })
        ),
        file().prop_map(|(id, uid, gid, mode, optional)| MountKind::Ssh(SshMount {
            id,
            uid,
            gid,
            mode,
            optional
        })),
        (text(), sharing).prop_map(|(id, sharing)| MountKind::Cache { id, sharing }),
        any::<i64>().prop_map(|size_bytes| MountKind::Tmpfs { size_bytes }),
    ]
}

fn mount() -> impl Strategy<Value = Mount> {
    let content_cache = prop_oneof![
        Just(ContentCache::Default),
        Just(ContentCache::On),
        Just(ContentCache::Off)
    ];
    (
        input(),
        text(),
        text(),
        prop::option::of(0..3_u32),
        any::<bool>(),
        mount_kind(),
        content_cache,
    )
        .prop_map(
            |(input, selector, destination, output, read_only, kind, content_cache)| {
                let is_tree = !matches!(kind, MountKind::Secret(_) | MountKind::Ssh(_));
                Mount {
                    input: input.filter(|_| is_tree),
                    selector,
                    destination,
                    output: output.filter(|_| is_tree),
                    read_only,
                    kind,
                    content_cache,
                }
            },
        )
}

fn root() -> Mount {
    Mount {
        input: Some(0),
        selector: String::new(),
        destination: "/".to_owned(),
        output: Some(0),
        read_only: false,
        kind: MountKind::Bind,
        content_cache: ContentCache::Default,
    }
}

fn meta() -> impl Strategy<Value = ExecMeta> {
    let limits = (text(), any::<i64>(), any::<i64>());
    let limits = limits.prop_map(|(name, soft, hard)| Ulimit { name, soft, hard });
    let proxy = (text(), text(), text(), text(), text());
    let proxy = proxy.prop_map(|(http, https, ftp, no, all)| ProxyEnv {
        http,
        https,
        ftp,
        no,
        all,
    });
    let hosts = (text(), text()).prop_map(|(host, ip)| HostIp { host, ip });
    let texts = (
        vec(text(), 1..3),
        vec(text(), 0..3),
        text(),
        text(),
        text(),
        text(),
    );
    let lists = (vec(hosts, 0..2), vec(limits, 0..2), vec(any::<i32>(), 0..3));
    (texts, prop::option::of(proxy), lists, any::<bool>()).prop_map(
        |((args, env, cwd, user, hostname, cgroup_parent), proxy_env, lists, recursive)| ExecMeta {
            args,
            env,
            cwd,
            user,
            proxy_env,
            extra_hosts: lists.0,
            hostname,
            ulimits: lists.1,
            cgroup_parent,
            remove_mount_stubs_recursive: recursive,
            valid_exit_codes: lists.2,
        },
    )
}

fn exec() -> impl Strategy<Value = Op> {
    let network = prop_oneof![
        Just(NetworkMode::Sandbox),
        Just(NetworkMode::Host),
        Just(NetworkMode::None)
    ];
    let secret = (text(), text(), any::<bool>());
    let secret = secret.prop_map(|(id, name, optional)| SecretEnv { id, name, optional });
    let device = (text(), any::<bool>()).prop_map(|(name, optional)| Device { name, optional });
    (
        meta(),
        vec(mount(), 0..4),
        network,
        any::<bool>(),
        vec(secret, 0..2),
        vec(device, 0..2),
    )
        .prop_map(
            |(meta, mounts, network, is_insecure, secret_env, devices)| {
                Op::Exec(ExecOp {
                    meta,
                    mounts: std::iter::once(root()).chain(mounts).collect(),
                    network,
                    security: if is_insecure {
                        SecurityMode::Insecure
                    } else {
                        SecurityMode::Sandbox
                    },
                    secret_env,
                    devices,
                })
            },
        )
}

fn account() -> impl Strategy<Value = Option<Account>> {
    prop::option::of(prop_oneof![
        any::<u32>().prop_map(Account::Id),
        (text(), input()).prop_map(|(name, input)| Account::Name {
            name,
            input: input.map_or(FileInput::Scratch, FileInput::Input)
        }),
    ])
}

fn owner() -> impl Strategy<Value = Option<Chown>> {
    prop::option::of((account(), account()).prop_map(|(user, group)| Chown { user, group }))
}

fn time() -> impl Strategy<Value = Option<i64>> {
    prop::option::of(any::<i64>().prop_filter("-1 means none", |time| *time != -1))
}

fn copy() -> impl Strategy<Value = CopyAction> {
    let mode = prop_oneof![
        Just((None, String::new())),
        (0..=0o7777_u32).prop_map(|mode| (Some(mode), String::new())),
        "[ugo]=[rwx]".prop_map(|text| (None, text)),
    ];
    let flags = any::<[bool; 7]>();
    let lists = (vec(text(), 0..2), vec(text(), 0..2), vec(text(), 0..2));
    (text(), text(), owner(), mode, flags, time(), lists).prop_map(
        |(source, destination, owner, (mode, mode_text), flags, timestamp_ns, lists)| CopyAction {
            source,
            destination,
            owner,
            mode,
            mode_text,
            follow_symlink: flags[0],
            dir_copy_contents: flags[1],
            attempt_unpack: flags[2],
            create_dest_path: flags[3],
            allow_wildcard: flags[4],
            allow_empty_wildcard: flags[5],
            always_replace: flags[6],
            timestamp_ns,
            include_patterns: lists.0,
            exclude_patterns: lists.1,
            required_paths: lists.2,
        },
    )
}

fn file_kind() -> impl Strategy<Value = FileActionKind> {
    let mkfile = (
        text(),
        0..0o777_u32,
        vec(any::<u8>(), 0..9),
        owner(),
        time(),
    );
    let mkdir = (text(), 0..0o777_u32, any::<bool>(), owner(), time());
    prop_oneof![
        copy().prop_map(FileActionKind::Copy),
        mkfile.prop_map(|(path, mode, data, owner, timestamp_ns)| {
            FileActionKind::Mkfile(MkfileAction {
                path,
                mode,
                data,
                owner,
                timestamp_ns,
            })
        }),
        mkdir.prop_map(|(path, mode, make_parents, owner, timestamp_ns)| {
            FileActionKind::Mkdir(MkdirAction {
                path,
                mode,
                make_parents,
                owner,
                timestamp_ns,
            })
        }),
        (text(), any::<bool>(), any::<bool>()).prop_map(
            |(path, allow_not_found, allow_wildcard)| {
                FileActionKind::Rm(RmAction {
                    path,
                    allow_not_found,
                    allow_wildcard,
                })
            }
        ),
        (text(), text(), owner(), time()).prop_map(|(target, path, owner, timestamp_ns)| {
            FileActionKind::Symlink(SymlinkAction {
                target,
                path,
                owner,
                timestamp_ns,
            })
        }),
    ]
}

fn file() -> impl Strategy<Value = Op> {
    vec((file_kind(), any::<u8>(), any::<u8>()), 1..4).prop_map(|list| {
        let count = list.len();
        let actions = list.into_iter().enumerate();
        let actions = actions.map(|(number, (kind, first, second))| {
            let pick = |pick: u8| match usize::from(pick) % (INPUTS + number + 1) {
                0 => FileInput::Scratch,
                place if place <= INPUTS => FileInput::Input(place - 1),
                place => FileInput::Action(place - INPUTS - 1),
            };
            FileAction {
                input: pick(first),
                secondary: pick(second),
                output: (number + 1 == count).then_some(0),
                kind,
            }
        });
        Op::File(FileOp {
            actions: actions.collect(),
        })
    })
}

fn op() -> impl Strategy<Value = Op> {
    let build = (
        btree_map(text(), 0..INPUTS, 0..2),
        btree_map(text(), text(), 0..2),
        input(),
    );
    prop_oneof![
        2 => source(),
        4 => exec(),
        4 => file(),
        1 => vec(0..INPUTS, 0..4).prop_map(|inputs| Op::Merge(MergeOp { inputs })),
        1 => (input(), input()).prop_map(|(lower, upper)| Op::Diff(DiffOp { lower, upper })),
        1 => build.prop_map(|(inputs, attributes, builder)| Op::Build(BuildOp {
            builder,
            inputs,
            definition: Some(Box::new(Definition { ops: vec![vec![1]], ..Definition::default() })),
            attributes,
        })),
    ]
}

fn metadata() -> impl Strategy<Value = Metadata> {
    let group = (text(), text(), any::<bool>());
    let group = group.prop_map(|(id, name, weak)| ProgressGroup { id, name, weak });
    let resources = (
        any::<i64>(),
        any::<i64>(),
        any::<u64>(),
        any::<u64>(),
        any::<i64>(),
        text(),
    );
    let resources =
        resources.prop_map(
            |(memory_bytes, swap, cpu_shares, period, quota, cpus)| Resources {
                memory_bytes,
                memory_swap_bytes: swap,
                cpu_shares,
                cpu_period_us: period,
                cpu_quota_us: quota,
                cpuset_cpus: cpus.clone(),
                cpuset_mems: cpus,
            },
        );
    (
        any::<bool>(),
        text(),
        btree_map("[a-z]{1,4}", text(), 0..2),
        btree_set(text(), 0..2),
        prop::option::of(any::<bool>()),
        prop::option::of(group),
        prop::option::of(resources),
    )
        .prop_map(
            |(ignore_cache, custom_name, description, caps, export_cache, group, resources)| {
                Metadata {
                    ignore_cache,
                    custom_name,
                    description,
                    caps,
                    export_cache,
                    progress_group: group,
                    resources,
                }
            },
        )
}

/// A graph whose last vertex stands on all others.
fn graph() -> impl Strategy<Value = (Graph, Edge)> {
    let vertex = (op(), any::<[u8; INPUTS]>(), platform(), metadata());
    vec(vertex, 1..8).prop_map(|list| {
        let mut graph = Graph::default();
        let mut edges: Vec<Edge> = Vec::new();
        let name = |name: &str| {
            Op::Source(SourceOp {
                identifier: format!("local://{name}"),
                attributes: Default::default(),
            })
        };
        for start in ["a", "b"] {
            let vertex = graph.add(name(start), Vec::new(), None, Metadata::default());
            edges.push(Edge { vertex, output: 0 });
        }
        for (op, picks, platform, metadata) in list {
            let inputs = picks.map(|pick| edges[usize::from(pick) % edges.len()]);
            let inputs = if matches!(op, Op::Source(_)) {
                Vec::new()
            } else {
                inputs.to_vec()
            };
            let vertex = graph.add(op, inputs, platform, metadata);
            edges.push(Edge { vertex, output: 0 });
        }
        edges.sort_unstable();
        edges.dedup();
        let all = MergeOp {
            inputs: (0..edges.len()).collect(),
        };
        let vertex = graph.add(Op::Merge(all), edges, None, Metadata::default());
        (graph, Edge { vertex, output: 0 })
    })
}

/// Names vertices with what is known of them, whatever their order.
fn contents(graph: &Graph) -> Vec<(Digest, Op, Vec<(Digest, u32)>, Option<Platform>, Metadata)> {
    let mut list: Vec<_> = graph
        .iter()
        .map(|(_, vertex)| {
            let inputs = vertex.inputs.iter();
            let inputs = inputs.map(|edge| (graph.vertex(edge.vertex).digest, edge.output));
            (
                vertex.digest,
                vertex.op.clone(),
                inputs.collect(),
                vertex.platform.clone(),
                vertex.metadata.clone(),
            )
        })
        .collect();
    list.sort_by_key(|(digest, ..)| *digest);
    list
}

proptest! {
    #[test]
    fn graphs_go_there_and_back((graph, result) in graph()) {
        let definition = Definition::of(&graph, Some(result));
        let bytes = definition.encode();
        let read = Definition::decode(&bytes).unwrap();
        prop_assert_eq!(&read, &definition);
        let (again, found) = read.graph().unwrap();
        let digest = |graph: &Graph, edge: Edge| graph.vertex(edge.vertex).digest;
        prop_assert_eq!(digest(&again, found.unwrap()), digest(&graph, result));
        prop_assert_eq!(contents(&again), contents(&graph));
        prop_assert_eq!(Definition::of(&again, found).encode(), bytes);
    }

    #[test]
    fn sources_go_there_and_back(
        lines in vec((any::<i32>(), any::<i32>()), 0..3),
        data in vec(any::<u8>(), 0..9),
        name in text(),
    ) {
        let range = |(line, character): &(i32, i32)| {
            let position = Position { line: *line, character: *character };
            (position, position)
        };
        let location = Location { source: 1, ranges: lines.iter().map(range).collect() };
        let info = SourceInfo {
            filename: name.clone(),
            data,
            definition: Some(Definition::default()),
            language: name,
        };
        let definition = Definition {
            source: Some(SourceMap {
                locations: [(Digest::of("x"), vec![location])].into(),
                infos: vec![info],
            }),
            ..Definition::default()
        };
        prop_assert_eq!(Definition::decode(&definition.encode()), Ok(definition));
    }

    #[test]
    fn bytes_are_taken_or_refused(bytes in vec(any::<u8>(), 0..200)) {
        if let Ok(definition) = Definition::decode(&bytes) {
            let _ = definition.graph();
        }
        let _ = Definition { ops: vec![bytes.clone(), bytes], ..Definition::default() }.graph();
    }

    #[test]
    fn broken_definitions_are_taken_or_refused(
        (graph, result) in graph(),
        place in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let mut bytes = Definition::of(&graph, Some(result)).encode();
        let place = place.index(bytes.len());
        bytes[place] = byte;
        if let Ok(definition) = Definition::decode(&bytes) {
            let _ = definition.graph();
        }
        bytes.truncate(place);
        if let Ok(definition) = Definition::decode(&bytes) {
            let _ = definition.graph();
        }
    }
}
