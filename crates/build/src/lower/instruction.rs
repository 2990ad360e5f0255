//! The instructions of a stage, except RUN, COPY and ADD (spec llb §7.5).

use wharf_dockerfile::instruction::{Arg, KeyValue};
use wharf_dockerfile::{Instruction, InstructionKind, Location};
use wharf_image::HistoryEntry;
use wharf_llb::{Edge, FileActionKind, FileInput, FileOp, MkdirAction, Op};

use super::copy::{Place, chown};
use super::mistakes::UNKNOWN_DIRECTORY;
use super::names::{named, trigger_text};
use super::{Lowering, StageState, config_entry};
use crate::BuildError;
use crate::config;
use crate::history;
use crate::plan::Step;

const MAINTAINER_WARNING: &str = "Maintainer instruction is deprecated in favor of using label";
/// Mode of directories that WORKDIR makes.
const WORKDIR_MODE: u32 = 0o755;

impl Lowering<'_, '_> {
    /// Lowers one instruction of a stage.
    pub(super) fn instruction(
        &mut self,
        stage: usize,
        instruction: &Instruction,
        is_trigger: bool,
        state: &mut StageState,
    ) -> Result<Step, BuildError> {
        let mut warnings = Vec::new();
        let at = &instruction.location;
        let text = if is_trigger {
            trigger_text(&instruction.original)
        } else {
            instruction.original.clone()
        };
        let shown = self.shown(&text, state);
        let place = Place {
            stage,
            at,
            text: &shown,
        };
        let history = match &instruction.kind {
            InstructionKind::Run(run) => self.run(stage, run, state, (at, &text))?,
            InstructionKind::Copy(copy) => self.copy(copy, false, state, &place)?,
            InstructionKind::Add(copy) => self.copy(copy, true, state, &place)?,
            InstructionKind::Workdir(path) => self.workdir(path, state, &place)?,
            InstructionKind::Arg(args) => self.arg(args, state, at)?,
            InstructionKind::Maintainer(name) => {
                warnings.push(MAINTAINER_WARNING.to_owned());
                state.author = Some(name.clone());
                config_entry(format!("MAINTAINER {name}"))
            }
            InstructionKind::Onbuild(trigger) => {
                state.config.on_build.push(trigger.clone());
                None
            }
            InstructionKind::Unreadable(unreadable) => {
                state.is_unsure |= unreadable.may_set_variables();
                state.has_unknown_trigger |= matches!(unreadable.meant, None | Some("ONBUILD"));
                if matches!(unreadable.meant, None | Some("WORKDIR")) {
                    UNKNOWN_DIRECTORY.clone_into(&mut state.config.working_dir);
                }
                None
            }
            InstructionKind::From(_) => {
                return Err(self.mistake(at, "FROM isn't allowed as an ONBUILD trigger"));
            }
            kind => self.config_instruction(kind, state, at)?,
        };
        Ok(Step {
            text: instruction.original.clone(),
            warnings,
            history,
            state: state.step_state(),
        })
    }

    fn config_instruction(
        &self,
        kind: &InstructionKind,
        state: &mut StageState,
        at: &Location,
    ) -> Result<Option<HistoryEntry>, BuildError> {
        let text = match kind {
            InstructionKind::Env(pairs) => {
                let pairs = self.pairs(pairs, state, at)?;
                for (key, value) in &pairs {
                    config::set_env(&mut state.config.env, key, value);
                    state.set_variable(key, value);
                }
                history::pairs("ENV", &pairs)
            }
            InstructionKind::Label(pairs) => {
                let pairs = self.pairs(pairs, state, at)?;
                state.config.labels.extend(pairs.iter().cloned());
                history::pairs("LABEL", &pairs)
            }
            InstructionKind::Cmd(command) => {
                config::set_cmd(&mut state.config, command);
                state.has_cmd = true;
                history::quoted_list("CMD", state.config.cmd.as_deref().unwrap_or_default())
            }
            InstructionKind::Entrypoint(command) => {
                config::set_entrypoint(&mut state.config, command, state.has_cmd);
                history::quoted_list(
                    "ENTRYPOINT",
                    state.config.entrypoint.as_deref().unwrap_or_default(),
                )
            }
            InstructionKind::Shell(shell) => {
                state.config.shell.clone_from(shell);
                history::plain_list("SHELL", shell)
            }
            InstructionKind::Healthcheck(check) => {
                config::set_healthcheck(&mut state.config, check);
                history::healthcheck(check)
            }
            InstructionKind::User(user) => {
                state.config.user = self.expand(user, state, at)?;
                format!("USER {}", state.config.user)
            }
            InstructionKind::Stopsignal(signal) => {
                let place = self.within(at, signal);
                let signal = self.expand(signal, state, at)?;
                config::set_stop_signal(&mut state.config, &signal)
                    .map_err(|error| self.mistake(&place, error))?;
                format!("STOPSIGNAL {signal}")
            }
            InstructionKind::Expose(words) => self.expose(words, state, at)?,
            InstructionKind::Volume(volumes) => {
                let expand = |volume: &String| self.expand(volume, state, at);
                let volumes = volumes.iter().map(expand).collect::<Result<Vec<_>, _>>()?;
                config::add_volumes(&mut state.config, &volumes)
                    .map_err(|error| self.mistake(at, error))?;
                history::plain_list("VOLUME", &volumes)
            }
            _ => return Err(self.mistake(at, "the instruction cannot stand here")),
        };
        Ok(config_entry(text))
    }

    /// Expands the pairs of one line; all see the variables from before it.
    fn pairs(
        &self,
        pairs: &[KeyValue],
        state: &StageState,
        at: &Location,
    ) -> Result<Vec<(String, String)>, BuildError> {
        let mut expanded = Vec::new();
        for pair in pairs {
            let key = self.mistakes.keep(self.expand(&pair.key, state, at))?;
            let value = self.mistakes.keep(self.expand(&pair.value, state, at))?;
            expanded.extend(key.zip(value));
        }
        Ok(expanded)
    }

    fn expose(
        &self,
        words: &[String],
        state: &mut StageState,
        at: &Location,
    ) -> Result<String, BuildError> {
        let mut expanded = Vec::new();
        for word in words {
            let place = self.within(at, word);
            let ports = self.expander.expand_words(word, &state.env);
            let told = ports.map_err(|error| self.mistake(&place, error.to_string()));
            let ports = self.mistakes.keep(told)?.unwrap_or_default();
            expanded.extend(ports.into_iter().map(|port| (port, place.clone())));
        }
        let mut shown = Vec::new();
        for (port, place) in expanded {
            let exposed = config::expose(&mut state.config, &port);
            let told = exposed.map_err(|error| self.mistake(&place, error));
            shown.extend(self.mistakes.keep(told)?.unwrap_or_default());
        }
        Ok(history::plain_list("EXPOSE", &shown))
    }

    /// Lowers ARG: the value is `--build-arg`, the default, or that of the same global argument.
    fn arg(
        &mut self,
        args: &[Arg],
        state: &mut StageState,
        at: &Location,
    ) -> Result<Option<HistoryEntry>, BuildError> {
        let mut text = "ARG".to_owned();
        for arg in args {
            self.consumed.insert(arg.key.clone());
            let value = match (self.globals.given(self.input, &arg.key), &arg.value) {
                (Some(given), _) => Some(given),
                (None, Some(default)) => Some(self.expand(default, state, at)?),
                (None, None) => {
                    state.is_unsure |= self.globals.is_unsure;
                    self.globals.value(&arg.key)
                }
            };
            text.push_str(&format!(" {}", arg.key));
            if let Some(value) = &value {
                text.push_str(&format!("={value}"));
                state.set_variable(&arg.key, value);
            }
            match state.args.iter_mut().find(|(key, _)| *key == arg.key) {
                Some((_, old)) => *old = value,
                None => state.args.push((arg.key.clone(), value)),
            }
        }
        Ok(config_entry(text))
    }

    fn workdir(
        &mut self,
        path: &str,
        state: &mut StageState,
        place: &Place<'_>,
    ) -> Result<Option<HistoryEntry>, BuildError> {
        let path = self.expand(path, state, place.at)?;
        // An absolute path is kept as it is written.
        let written = if path.starts_with('/') {
            path
        } else {
            config::join_workdir(state.cwd(), &path)
        };
        let path = config::clean_absolute(&written);
        let text = format!("WORKDIR {written}");
        state.config.working_dir = written;
        if path == "/" {
            return Ok(config_entry(text));
        }
        let user = &state.config.user;
        let has_base = state.output.is_some();
        let directory = MkdirAction {
            path,
            mode: WORKDIR_MODE,
            make_parents: true,
            owner: (!user.is_empty()).then(|| chown(user, has_base)),
            timestamp_ns: self.epoch.as_deref().and_then(super::args::nanoseconds),
        };
        let input = if has_base {
            FileInput::Input(0)
        } else {
            FileInput::Scratch
        };
        let change = FileActionKind::Mkdir(directory);
        let op = Op::File(FileOp::single(input, FileInput::Scratch, change));
        let metadata = named(state.names.next(place.text));
        let inputs = state.output.into_iter().collect();
        let vertex = self.graph.add(op, inputs, None, metadata);
        state.output = Some(Edge { vertex, output: 0 });
        Ok(Some(history::entry(text, false)))
    }
}
