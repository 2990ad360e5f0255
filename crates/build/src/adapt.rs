//! From the lowering's own graph to LLB.

use crate::old_graph as og;
use crate::old_plan as op;
use crate::plan::{Plan, PlannedStage, StageBase, Step, StepState};
use std::collections::{BTreeMap, HashMap};
use wharf_llb::*;

pub(crate) fn adapt(old: op::Plan) -> Plan {
    let mut a = Adapter {
        old: &old,
        graph: Graph::default(),
        done: HashMap::new(),
        images: HashMap::new(),
    };
    let mut bases = HashMap::new();
    for stage in &old.stages {
        if let op::StageBase::Image(b) = &stage.base {
            bases.insert(b.config.rootfs.diff_ids.clone(), b.clone());
        }
    }
    let stages = old
        .stages
        .iter()
        .map(|s| PlannedStage {
            text: s.text.clone(),
            base: match &s.base {
                op::StageBase::Scratch => StageBase::Scratch,
                op::StageBase::Image(b) => StageBase::Image(b.clone()),
                op::StageBase::Stage(i) => StageBase::Stage(*i),
            },
            triggers: s.triggers,
            start: a.state(&s.start, &bases),
            steps: s
                .steps
                .iter()
                .map(|st| Step {
                    text: st.text.clone(),
                    warnings: st.warnings.clone(),
                    history: st.history.clone(),
                    state: a.state(&st.state, &bases),
                })
                .collect(),
        })
        .collect();
    Plan {
        images: a.images,
        graph: a.graph,
        global_args: old.global_args.clone(),
        stages,
        total: old.total,
        warnings: old.warnings.clone(),
        platform: old.platform.clone(),
        epoch: old.epoch.clone(),
    }
}
struct Adapter<'a> {
    old: &'a op::Plan,
    graph: Graph,
    done: HashMap<og::VertexId, Edge>,
    images: HashMap<String, crate::BaseImage>,
}
impl Adapter<'_> {
    fn state(
        &mut self,
        s: &op::StepState,
        b: &HashMap<Vec<wharf_image::Digest>, crate::BaseImage>,
    ) -> StepState {
        StepState {
            config: s.config.clone(),
            author: s.author.clone(),
            output: self.edge(s.output, b),
        }
    }
    fn edge(
        &mut self,
        i: og::Input,
        b: &HashMap<Vec<wharf_image::Digest>, crate::BaseImage>,
    ) -> Option<Edge> {
        let og::Input::Vertex(id) = i else {
            return None;
        };
        if let Some(e) = self.done.get(&id) {
            return Some(*e);
        }
        let v = self.old.graph.vertex(id).clone();
        let inputs: Vec<Option<Edge>> = v.inputs.iter().map(|i| self.edge(*i, b)).collect();
        let mut list: Vec<Edge> = Vec::new();
        let mut index = |e: Option<Edge>| {
            e.map(|e| {
                list.push(e);
                list.len() - 1
            })
        };
        let idx: Vec<Option<usize>> = inputs.iter().map(|e| index(*e)).collect();
        let op = match &v.op {
            og::Op::Source(og::Source::Image { layers }) => {
                let identifier = format!(
                    "docker-image://base@{}",
                    wharf_image::Digest::of(format!("{layers:?}"))
                );
                let mut config = wharf_image::ImageConfig::default();
                config.rootfs.diff_ids = layers.clone();
                let image = b.get(layers).cloned().unwrap_or(crate::BaseImage {
                    id: wharf_image::Digest::of("x"),
                    config: std::sync::Arc::new(config),
                });
                self.images.insert(identifier.clone(), image);
                Op::Source(SourceOp {
                    identifier,
                    attributes: BTreeMap::new(),
                })
            }
            og::Op::Source(og::Source::Local) => Op::Source(SourceOp {
                identifier: "local://context".into(),
                attributes: BTreeMap::new(),
            }),
            og::Op::Source(og::Source::Http { url, file_name }) => Op::Source(SourceOp {
                identifier: url.clone(),
                attributes: [("http.filename".to_owned(), file_name.clone())].into(),
            }),
            og::Op::Exec(e) => {
                let mut proxy = ProxyEnv::default();
                for p in &e.proxy_env {
                    if let Some((k, v)) = p.split_once('=') {
                        match k.to_lowercase().as_str() {
                            "http_proxy" => proxy.http = v.into(),
                            "https_proxy" => proxy.https = v.into(),
                            "ftp_proxy" => proxy.ftp = v.into(),
                            "no_proxy" => proxy.no = v.into(),
                            _ => proxy.all = v.into(),
                        }
                    }
                }
                Op::Exec(ExecOp {
                    meta: ExecMeta {
                        args: e.args.clone(),
                        env: e.env.clone(),
                        cwd: e.cwd.clone(),
                        user: e.user.clone(),
                        proxy_env: Some(proxy),
                        ..Default::default()
                    },
                    mounts: vec![Mount {
                        input: idx[0],
                        selector: String::new(),
                        destination: "/".into(),
                        output: Some(0),
                        read_only: false,
                        kind: MountKind::Bind,
                    }],
                    network: match e.network {
                        "none" => NetworkMode::None,
                        "host" => NetworkMode::Host,
                        _ => NetworkMode::Sandbox,
                    },
                    ..Default::default()
                })
            }
            og::Op::File(f) => {
                let mut actions: Vec<FileAction> = Vec::new();
                let mut last = idx[0].map_or(FileInput::Scratch, FileInput::Input);
                let chown = |o: &Option<og::Owner>| {
                    o.as_ref().map(|o| {
                        let acc = |t: &str| {
                            t.parse().map(Account::Id).unwrap_or(Account::Name {
                                name: t.into(),
                                input: FileInput::Scratch,
                            })
                        };
                        Chown {
                            user: Some(acc(&o.user)),
                            group: o.group.as_deref().map(acc),
                        }
                    })
                };
                for act in &f.actions {
                    match act {
                        og::FileAction::Mkdir { path, mode, owner } => actions.push(FileAction {
                            input: last,
                            secondary: FileInput::Scratch,
                            output: None,
                            kind: FileActionKind::Mkdir(MkdirAction {
                                path: path.clone(),
                                mode: *mode,
                                make_parents: true,
                                owner: chown(owner),
                                timestamp_ns: None,
                            }),
                        }),
                        og::FileAction::Copy(c) => {
                            let (secondary, source) = match &c.source {
                                og::CopySource::Input { input, path } => (
                                    idx[*input].map_or(FileInput::Scratch, FileInput::Input),
                                    path.clone(),
                                ),
                                og::CopySource::Inline { name, content } => {
                                    actions.push(FileAction {
                                        input: FileInput::Scratch,
                                        secondary: FileInput::Scratch,
                                        output: None,
                                        kind: FileActionKind::Mkfile(MkfileAction {
                                            path: name.clone(),
                                            mode: 0o644,
                                            data: content.clone().into_bytes(),
                                            owner: None,
                                            timestamp_ns: None,
                                        }),
                                    });
                                    (FileInput::Action(actions.len() - 1), name.clone())
                                }
                            };
                            actions.push(FileAction {
                                input: last,
                                secondary,
                                output: None,
                                kind: FileActionKind::Copy(CopyAction {
                                    source,
                                    destination: c.destination.clone(),
                                    owner: chown(&c.owner),
                                    mode_text: c.mode.clone().unwrap_or_default(),
                                    follow_symlink: c.follow_symlink,
                                    dir_copy_contents: true,
                                    attempt_unpack: c.unpack,
                                    create_dest_path: true,
                                    allow_wildcard: true,
                                    allow_empty_wildcard: true,
                                    ..Default::default()
                                }),
                            });
                        }
                    }
                    last = FileInput::Action(actions.len() - 1);
                }
                if let Some(a) = actions.last_mut() {
                    a.output = Some(0);
                }
                Op::File(FileOp { actions })
            }
        };
        let edge = Edge {
            vertex: self.graph.add(
                op,
                list,
                Some(self.old.platform.clone()),
                Metadata::default(),
            ),
            output: 0,
        };
        self.done.insert(id, edge);
        Some(edge)
    }
}
