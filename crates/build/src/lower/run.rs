//! RUN (spec llb §7.3).

use wharf_dockerfile::Location;
use wharf_dockerfile::instruction::{NetworkMode, Run, SecurityMode};
use wharf_image::HistoryEntry;
use wharf_llb::{
    Edge, ExecMeta, ExecOp, FileActionKind, FileInput, FileOp, Metadata, MkfileAction, Mount, Op,
    SecretEnv,
};

use super::mounts::{RunMounts, bind};
use super::names::{internal, summary};
use super::{Lowering, StageState, args};
use crate::BuildError;
use crate::config;
use crate::history;

/// Where a here-document with an interpreter of its own is mounted.
const SCRIPT_DIR: &str = "/dev/pipes/";
const SCRIPT_MODE: u32 = 0o755;

/// What RUN runs.
struct Command {
    args: Vec<String>,
    /// Appended to what is shown.
    summary: String,
    /// A script that has to be there.
    script: Option<(Option<Edge>, Mount)>,
}

impl Lowering<'_, '_> {
    pub(super) fn run(
        &mut self,
        stage: usize,
        run: &Run,
        state: &mut StageState,
        (at, text): (&Location, &str),
    ) -> Result<Option<HistoryEntry>, BuildError> {
        if let Some(device) = run.devices.first() {
            let flag = self.within(at, &format!("--device={}", device.name));
            return Err(self.mistake(
                &flag,
                "device feature is only supported in Dockerfile frontend 1.14.0-labs or later; no frontend here has it: build steps get no devices",
            ));
        }
        let is_insecure = run.security == SecurityMode::Insecure;
        if is_insecure && !self.input.allow_insecure {
            return Err(self.mistake(
                at,
                "RUN --security=insecure is not allowed: grant it with --allow security.insecure",
            ));
        }
        let command = self.command(run, state, at)?;
        if command.args.is_empty() {
            return Err(self.mistake(at, "marshal: arguments are required"));
        }
        let mut mounts = self.mounts(stage, run, state, at)?;
        mounts.files.extend(command.script);
        let name = self.run_name(text, &command.summary, &mounts.secret_env, state);
        let created_by = history::run(&args_in_scope(state), &command.args);
        let mut env: Vec<String> = state
            .env
            .iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        if let Some((key, value)) = mounts.agent_variable() {
            config::set_env(&mut env, &key, &value);
        }
        let exec = ExecOp {
            meta: ExecMeta {
                args: command.args,
                env,
                cwd: state.cwd().to_owned(),
                user: state.config.user.clone(),
                proxy_env: args::proxy_env(self.input.build_args),
                remove_mount_stubs_recursive: true,
                ..ExecMeta::default()
            },
            network: match (run.network, self.input.network_mode) {
                (NetworkMode::None, _) | (NetworkMode::Default, "none") => {
                    wharf_llb::NetworkMode::None
                }
                (NetworkMode::Host, _) | (NetworkMode::Default, "host") => {
                    wharf_llb::NetworkMode::Host
                }
                (NetworkMode::Default, _) => wharf_llb::NetworkMode::Sandbox,
            },
            security: if is_insecure {
                wharf_llb::SecurityMode::Insecure
            } else {
                wharf_llb::SecurityMode::Sandbox
            },
            ..ExecOp::default()
        };
        let metadata = self.step(stage, name);
        state.output = Some(self.exec(exec, mounts, state, metadata));
        Ok(Some(history::entry(created_by, false)))
    }

    fn exec(
        &mut self,
        exec: ExecOp,
        mounts: RunMounts,
        state: &StageState,
        metadata: Metadata,
    ) -> Edge {
        let secret_env = mounts.secret_env.clone();
        let (mounts, inputs) = mounts.assemble(state.output);
        let op = Op::Exec(ExecOp {
            mounts,
            secret_env,
            ..exec
        });
        let platform = Some(state.platform.clone());
        let vertex = self.graph.add(op, inputs, platform, metadata);
        Edge { vertex, output: 0 }
    }

    fn run_name(
        &self,
        text: &str,
        summary: &str,
        secrets: &[SecretEnv],
        state: &mut StageState,
    ) -> String {
        let secrets: Vec<String> = secrets.iter().map(|secret| secret.name.clone()).collect();
        let shown = self.shown_run(&format!("{text}{summary}"), state, &secrets);
        state.names.next(&shown)
    }

    /// Returns program and arguments; here-documents become text of the shell, or a script.
    fn command(
        &mut self,
        run: &Run,
        state: &StageState,
        at: &Location,
    ) -> Result<Command, BuildError> {
        let command = &run.command;
        let plain = |args: Vec<String>| Command {
            args,
            summary: String::new(),
            script: None,
        };
        let [text] = command.arguments.as_slice() else {
            return Ok(plain(config::command_arguments(&state.config, command)));
        };
        let Some(first) = command.heredocs.first().filter(|_| command.is_shell) else {
            return Ok(plain(config::command_arguments(&state.config, command)));
        };
        let mut arguments = config::shell(&state.config);
        if !is_heredoc_alone(text) {
            let bodies = command
                .heredocs
                .iter()
                .map(|heredoc| format!("\n{}{}", heredoc.content, heredoc.name));
            arguments.push(format!("{text}{}", bodies.collect::<String>()));
            return Ok(plain(arguments));
        }
        let summary = format!(" ({})", summary(&first.content));
        if !first.text().starts_with("#!") {
            arguments.push(first.text());
            return Ok(Command {
                args: arguments,
                summary,
                script: None,
            });
        }
        if first.name.contains('/') {
            return Err(self.mistake(at, "the name of a here-document that is a script is a path"));
        }
        arguments.push(format!("{SCRIPT_DIR}{}", first.name));
        let file = self.inline_file(&first.name, SCRIPT_MODE, first.text());
        // BuildKit's client names the root here, where other mounts of a whole say nothing.
        let mount = Mount {
            selector: "/".to_owned(),
            read_only: true,
            ..bind(SCRIPT_DIR)
        };
        Ok(Command {
            args: arguments,
            summary,
            script: Some((Some(file), mount)),
        })
    }

    /// Makes a file whose content the Dockerfile holds.
    pub(super) fn inline_file(&mut self, name: &str, mode: u32, content: String) -> Edge {
        let file = MkfileAction {
            path: config::clean_absolute(name),
            mode,
            data: content.into_bytes(),
            owner: None,
            timestamp_ns: None,
        };
        let change = FileActionKind::Mkfile(file);
        let op = Op::File(FileOp::single(
            FileInput::Scratch,
            FileInput::Scratch,
            change,
        ));
        let metadata = internal("preparing inline document");
        let vertex = self.graph.add(op, Vec::new(), None, metadata);
        Edge { vertex, output: 0 }
    }
}

/// Returns the build arguments as RUN sees them: a variable of the same name counts.
fn args_in_scope(state: &StageState) -> Vec<(String, String)> {
    let value = |key: &str, own: &Option<String>| {
        let variable = state.env.iter().rev().find(|(name, _)| name == key);
        variable
            .map(|(_, value)| value.clone())
            .or_else(|| own.clone())
            .unwrap_or_default()
    };
    state
        .args
        .iter()
        .map(|(key, own)| (key.clone(), value(key, own)))
        .collect()
}

/// Says whether the whole command is one `<<WORD`.
fn is_heredoc_alone(text: &str) -> bool {
    let rest = text
        .trim()
        .trim_start_matches(|digit: char| digit.is_ascii_digit());
    rest.starts_with("<<") && !rest.contains(char::is_whitespace)
}
