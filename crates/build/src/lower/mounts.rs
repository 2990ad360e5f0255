//! `RUN --mount` (spec llb §7.3).

use wharf_dockerfile::Location;
use wharf_dockerfile::instruction::Run;
use wharf_dockerfile::instruction::mount::{
    Mount as Flag, MountError, MountFlag, MountKind as Kind, Sharing,
};
use wharf_llb::{
    Account, CacheSharing, Chown, ContentCache, Edge, FileActionKind, FileInput, FileOp,
    MkdirAction, Mount, MountKind, Op, SecretEnv, SecretMount, SshMount,
};

use super::mistakes::may_have_any_name;
use super::names::internal;
use super::{Lowering, StageState, args, diagnostic};
use crate::BuildError;
use crate::config;
use crate::context::MAIN_CONTEXT;

/// Namespace of cache mounts' IDs.
const CACHE_NAMESPACE_ARG: &str = "BUILDKIT_CACHE_MOUNT_NS";
/// The directory of a cache that gets an owner or a mode.
pub(crate) const CACHE_DIR: &str = "/cache";
const CACHE_MODE: u32 = 0o755;
const SECRET_DIR: &str = "/run/secrets/";
const SECRET_MODE: u32 = 0o400;
const AGENT_SOCKET: &str = "/run/buildkit/ssh_agent.";
const AGENT_MODE: u32 = 0o600;
/// The variable that names an agent's socket.
const AGENT_VARIABLE: &str = "SSH_AUTH_SOCK";

/// What RUN gets besides its files.
#[derive(Default)]
pub(super) struct RunMounts {
    /// Mounts of files with what they show.
    pub files: Vec<(Option<Edge>, Mount)>,
    /// Secrets as files.
    pub secrets: Vec<Mount>,
    /// Agents.
    pub agents: Vec<Mount>,
    /// Secrets as variables.
    pub secret_env: Vec<SecretEnv>,
}

impl RunMounts {
    /// Returns the variable for the first agent.
    pub fn agent_variable(&self) -> Option<(String, String)> {
        let agent = self.agents.first()?;
        Some((AGENT_VARIABLE.to_owned(), agent.destination.clone()))
    }

    /// Returns the mounts and the inputs of the operation; `root` are the step's files.
    pub fn assemble(self, root: Option<Edge>) -> (Vec<Mount>, Vec<Edge>) {
        let mut inputs: Vec<Edge> = Vec::new();
        let mut input = |edge: Option<Edge>| {
            let edge = edge?;
            let known = inputs.iter().position(|other| *other == edge);
            Some(known.unwrap_or_else(|| {
                inputs.push(edge);
                inputs.len() - 1
            }))
        };
        let mut files = self.files;
        files.sort_by(|(_, left), (_, right)| left.destination.cmp(&right.destination));
        let mut mounts = vec![Mount {
            input: input(root),
            output: Some(0),
            ..bind("/")
        }];
        for (edge, mount) in files {
            let input = input(edge);
            mounts.push(Mount { input, ..mount });
        }
        mounts.extend(self.secrets);
        mounts.extend(self.agents);
        (mounts, inputs)
    }
}

/// Returns a mount of files that nobody keeps.
pub(super) fn bind(destination: &str) -> Mount {
    Mount {
        input: None,
        selector: String::new(),
        destination: destination.to_owned(),
        output: None,
        read_only: false,
        kind: MountKind::Bind,
        content_cache: ContentCache::Default,
    }
}

impl Lowering<'_, '_> {
    /// Lowers the mounts of one RUN.
    pub(super) fn mounts(
        &mut self,
        stage: usize,
        run: &Run,
        state: &StageState,
        at: &Location,
    ) -> Result<RunMounts, BuildError> {
        let mut mounts = RunMounts::default();
        for flag in &run.mounts {
            let place = self.within(at, &format!("--mount={}", flag.text));
            let Some(resolved) = self
                .mistakes
                .keep(self.resolve_mount(flag, state, &place))?
            else {
                continue;
            };
            let lowered = match resolved.kind {
                Kind::Secret => self.secret(&resolved, &mut mounts, &place),
                Kind::Ssh => self.agent(&resolved, &mut mounts, &place),
                Kind::Bind | Kind::Cache | Kind::Tmpfs => self
                    .files_mount(stage, &resolved, state, &place)
                    .map(|mount| mounts.files.push(mount)),
            };
            self.mistakes.keep(lowered)?;
        }
        Ok(mounts)
    }

    /// Reads a flag; tells all that is wrong in it.
    fn resolve_mount(
        &self,
        flag: &MountFlag,
        state: &StageState,
        place: &Location,
    ) -> Result<Flag, BuildError> {
        flag.resolve(|word| self.expander.expand_word(word, &state.env))
            .map_err(|errors| {
                let tell = |error: MountError| {
                    let field = self.within(place, &error.field);
                    let help = error.help.map(str::to_owned);
                    diagnostic(&field, error.error.to_string(), help)
                };
                let told = errors.into_iter().map(tell).collect();
                BuildError::dockerfile(self.input.file_name, self.input.source, told)
            })
    }

    fn files_mount(
        &mut self,
        stage: usize,
        flag: &Flag,
        state: &StageState,
        at: &Location,
    ) -> Result<(Option<Edge>, Mount), BuildError> {
        let destination = if flag.target.starts_with('/') {
            flag.target.clone()
        } else {
            config::join_workdir(state.cwd(), &flag.target)
        };
        if config::clean_absolute(&destination) == "/" {
            return Err(self.mistake(at, format!("invalid mount target {:?}", flag.target)));
        }
        let source = config::clean_absolute(&flag.source);
        let mut files = match (&flag.from, flag.kind) {
            (_, Kind::Tmpfs) | (None, Kind::Cache) => None,
            (None, _) => Some(self.context(MAIN_CONTEXT, &source)),
            (Some(from), _) => self.mounted(stage, from, &source, state, at)?,
        };
        let mut selector = source;
        let has_owner = flag.uid.is_some() || flag.gid.is_some() || flag.mode.is_some();
        if selector == "/" {
            selector = String::new();
            if has_owner {
                files = Some(self.owned_cache(flag, files));
                selector = CACHE_DIR.to_owned();
            }
        }
        let kind = match flag.kind {
            Kind::Tmpfs => MountKind::Tmpfs {
                size_bytes: flag.size_bytes,
            },
            Kind::Cache => self.cache_kind(flag),
            _ => MountKind::Bind,
        };
        let mount = Mount {
            selector,
            read_only: flag.is_read_only,
            kind,
            ..bind(&destination)
        };
        Ok((files, mount))
    }

    fn cache_kind(&self, flag: &Flag) -> MountKind {
        let id = if flag.id.is_empty() {
            clean(&flag.target)
        } else {
            flag.id.clone()
        };
        let namespace = args::given(self.input.build_args, CACHE_NAMESPACE_ARG).unwrap_or_default();
        let sharing = match flag.sharing {
            Some(Sharing::Private) => CacheSharing::Private,
            Some(Sharing::Locked) => CacheSharing::Locked,
            Some(Sharing::Shared) | None => CacheSharing::Shared,
        };
        MountKind::Cache {
            id: format!("{namespace}/{id}"),
            sharing,
        }
    }

    /// Makes the directory that a cache with an owner or a mode begins as.
    fn owned_cache(&mut self, flag: &Flag, files: Option<Edge>) -> Edge {
        let directory = MkdirAction {
            path: CACHE_DIR.to_owned(),
            mode: flag.mode.unwrap_or(CACHE_MODE),
            make_parents: false,
            owner: Some(Chown {
                user: Some(Account::Id(flag.uid.unwrap_or(0))),
                group: Some(Account::Id(flag.gid.unwrap_or(0))),
            }),
            timestamp_ns: None,
        };
        let inputs: Vec<Edge> = files.into_iter().collect();
        let input = if inputs.is_empty() {
            FileInput::Scratch
        } else {
            FileInput::Input(0)
        };
        let change = FileActionKind::Mkdir(directory);
        let op = Op::File(FileOp::single(input, FileInput::Scratch, change));
        let metadata = internal("setting cache mount permissions");
        let vertex = self.graph.add(op, inputs, None, metadata);
        Edge { vertex, output: 0 }
    }

    /// Returns the files that `from` names: those of any stage above, of a named context or of an image.
    fn mounted(
        &mut self,
        stage: usize,
        from: &str,
        path: &str,
        state: &StageState,
        at: &Location,
    ) -> Result<Option<Edge>, BuildError> {
        let earlier = self.input.dockerfile.stages.get(..=stage);
        match self.stage_named(from) {
            Some(index) if index < stage => self.stage_output(index, from, at),
            _ if may_have_any_name(earlier.unwrap_or_default()) => Ok(None),
            Some(_) => {
                Err(self.mistake(at, format!("circular dependency detected on stage: {from}")))
            }
            None => self.files_of(from, path, state, at),
        }
    }

    fn secret(&self, flag: &Flag, mounts: &mut RunMounts, at: &Location) -> Result<(), BuildError> {
        let written = if flag.source.is_empty() {
            &flag.id
        } else {
            &flag.source
        };
        let id = match (written.is_empty(), flag.target.is_empty()) {
            (false, _) => written.clone(),
            (true, false) => base_name(&flag.target).to_owned(),
            (true, true) => return Err(self.mistake(at, "one of source, target required")),
        };
        if let Some(name) = &flag.env {
            mounts.secret_env.push(SecretEnv {
                id: id.clone(),
                name: name.clone(),
                optional: !flag.is_required,
            });
        }
        if flag.env.is_some() && flag.target.is_empty() {
            return Ok(());
        }
        let destination = if flag.target.is_empty() {
            format!("{SECRET_DIR}{}", base_name(&id))
        } else {
            flag.target.clone()
        };
        let secret = SecretMount {
            id,
            uid: flag.uid.unwrap_or(0),
            gid: flag.gid.unwrap_or(0),
            mode: flag.mode.unwrap_or(SECRET_MODE),
            optional: !flag.is_required,
        };
        mounts.secrets.push(Mount {
            kind: MountKind::Secret(secret),
            ..bind(&destination)
        });
        Ok(())
    }

    fn agent(&self, flag: &Flag, mounts: &mut RunMounts, at: &Location) -> Result<(), BuildError> {
        if !flag.source.is_empty() {
            return Err(self.mistake(at, "ssh does not support source"));
        }
        let destination = if flag.target.is_empty() {
            format!("{AGENT_SOCKET}{}", mounts.agents.len())
        } else {
            flag.target.clone()
        };
        let agent = SshMount {
            id: flag.id.clone(),
            uid: flag.uid.unwrap_or(0),
            gid: flag.gid.unwrap_or(0),
            mode: flag.mode.unwrap_or(AGENT_MODE),
            optional: !flag.is_required,
        };
        mounts.agents.push(Mount {
            kind: MountKind::Ssh(agent),
            ..bind(&destination)
        });
        Ok(())
    }
}

fn base_name(path: &str) -> &str {
    let path = path.trim_end_matches('/');
    path.rsplit('/').next().unwrap_or(path)
}

/// Cleans a path without making it absolute.
fn clean(path: &str) -> String {
    let absolute = config::clean_absolute(path);
    if path.starts_with('/') {
        absolute
    } else {
        absolute.trim_start_matches('/').to_owned()
    }
}
