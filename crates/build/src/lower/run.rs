//! RUN (spec llb §7.3).

use wharf_dockerfile::Location;
use wharf_dockerfile::instruction::{CommandLine, NetworkMode, Run, SecurityMode};
use wharf_image::HistoryEntry;

use super::{Lowering, StageState, args};
use crate::BuildError;
use crate::config;
use crate::history;
use crate::old_graph::{Exec, Input, Op};

impl Lowering<'_, '_> {
    pub(super) fn run(
        &mut self,
        run: &Run,
        state: &mut StageState,
        at: &Location,
    ) -> Result<Option<HistoryEntry>, BuildError> {
        if !run.mounts.is_empty() {
            return Err(self.unsupported(at, "RUN --mount"));
        }
        if !run.devices.is_empty() {
            return Err(self.unsupported(at, "RUN --device"));
        }
        if run.security == SecurityMode::Insecure {
            return Err(self.unsupported(at, "RUN --security=insecure"));
        }
        let command = self.command(&run.command, state, at)?;
        let created_by = history::run(&args_in_scope(state), &command);
        let exec = Exec {
            args: command,
            env: state
                .env
                .iter()
                .map(|(key, value)| format!("{key}={value}"))
                .collect(),
            cwd: state.cwd().to_owned(),
            user: state.config.user.clone(),
            network: match run.network {
                NetworkMode::Default => "default",
                NetworkMode::None => "none",
                NetworkMode::Host => "host",
            },
            proxy_env: args::proxy_env(self.input.build_args),
        };
        state.output = Input::Vertex(self.graph.add(Op::Exec(exec), vec![state.output]));
        Ok(Some(history::entry(created_by, false)))
    }

    /// Returns program and arguments; here-documents become text of the shell.
    fn command(
        &self,
        command: &CommandLine,
        state: &StageState,
        at: &Location,
    ) -> Result<Vec<String>, BuildError> {
        let [text] = command.arguments.as_slice() else {
            let mut arguments = config::command_arguments(&state.config, command);
            if command.is_shell {
                arguments.push(String::new());
            }
            return Ok(arguments);
        };
        let Some(first) = command.heredocs.first().filter(|_| command.is_shell) else {
            return Ok(config::command_arguments(&state.config, command));
        };
        let script = if is_heredoc_alone(text) {
            if first.content.starts_with("#!") {
                return Err(self.unsupported(at, "RUN with a here-document that starts with #!"));
            }
            first.text()
        } else {
            let bodies = command
                .heredocs
                .iter()
                .map(|heredoc| format!("\n{}{}", heredoc.content, heredoc.name));
            format!("{text}{}", bodies.collect::<String>())
        };
        let mut arguments = config::shell(&state.config);
        arguments.push(script);
        Ok(arguments)
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
