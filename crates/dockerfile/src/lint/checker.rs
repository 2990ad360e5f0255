//! The rules for one instruction, with the variables and settings that hold before it.

use std::collections::BTreeSet;

use super::capture::{ArgInfo, NeedInfo};
use super::globals::{Globals, given};
use super::stages::StageState;
use super::{LintInput, rules, warn_at};
use crate::ast::Location;
use crate::diagnostic::Diagnostic;
use crate::expand::{Environment, Expander};
use crate::instruction::mount::MountKind;
use crate::instruction::{Arg, Copy, Instruction, InstructionKind, KeyValue, Run, mount};
use crate::quote::quoted;
use crate::suggest::nearest;

/// Checks the instructions of a stage, one after the other.
pub(super) struct Checker<'a> {
    /// What the instructions before it led to.
    pub state: &'a mut StageState,
    /// How words are expanded.
    pub expander: &'a Expander,
    /// The arguments before the first FROM.
    pub globals: &'a Globals,
    /// What the file is checked with.
    pub input: &'a LintInput<'a>,
    /// What was found.
    pub warnings: &'a mut Vec<Diagnostic>,
}

impl Checker<'_> {
    /// Checks an instruction and takes over what it sets.
    pub fn check(&mut self, instruction: &Instruction) {
        let location = &instruction.location;
        let keyword = instruction.keyword.as_str();
        match &instruction.kind {
            InstructionKind::Add(copy) | InstructionKind::Copy(copy) => {
                self.check_copy(copy, keyword, location);
            }
            InstructionKind::Arg(args) => self.check_arg(args, location),
            InstructionKind::Cmd(command) => {
                self.check_command(command.is_shell, keyword, "CMD", location);
            }
            InstructionKind::Entrypoint(command) => {
                self.check_command(command.is_shell, keyword, "ENTRYPOINT", location);
            }
            InstructionKind::Env(pairs) => self.check_env(pairs, keyword, location),
            InstructionKind::Expose(ports) => {
                for port in ports {
                    let words = self.expander.expand_words(port, &self.state.env);
                    for port in words.unwrap_or_default() {
                        rules::check_port(&port, location, self.warnings);
                    }
                }
            }
            InstructionKind::Healthcheck(_) => self.check_once(keyword, "HEALTHCHECK", location),
            InstructionKind::Label(pairs) => {
                for pair in pairs {
                    self.expand(&pair.key, location);
                    self.expand(&pair.value, location);
                }
                rules::check_format(keyword, pairs, location, self.warnings);
            }
            InstructionKind::Onbuild(trigger) => self.state.on_build.push(trigger.clone()),
            InstructionKind::Run(run) => self.check_run(run, location),
            InstructionKind::Shell(_) => self.state.has_shell = true,
            InstructionKind::Stopsignal(word) | InstructionKind::User(word) => {
                self.expand(word, location);
            }
            InstructionKind::Volume(words) => {
                for word in words {
                    self.expand(word, location);
                }
            }
            InstructionKind::Workdir(path) => self.check_workdir(path, location),
            InstructionKind::Unreadable(unreadable) => {
                self.state.has_unknown_env |= unreadable.may_set_variables();
                self.state.has_workdir |= unreadable.meant == Some("WORKDIR");
                self.state.has_shell |= unreadable.meant == Some("SHELL");
            }
            InstructionKind::From(_) | InstructionKind::Maintainer(_) => {}
        }
    }

    /// Expands a word and checks UndefinedVar.
    fn expand(&mut self, word: &str, location: &Location) -> String {
        let Ok(expansion) = self.expander.expand(word, &self.state.env) else {
            return String::new();
        };
        for name in &expansion.unmatched {
            if self.state.args.contains(name) || self.state.has_unknown_env {
                continue;
            }
            let message = format!("Usage of undefined variable '${name}'");
            let mut warning = warn_at(location, "UndefinedVar", message);
            let known = self.state.env.iter().map(|(name, _)| name.as_str());
            warning.help = nearest(name, known, true).map(|name| format!("${name}"));
            self.warnings.push(warning);
        }
        expansion.result
    }

    fn check_copy(&mut self, copy: &Copy, keyword: &str, location: &Location) {
        let flags = [&copy.chown, &copy.chmod, &copy.checksum];
        for word in flags.into_iter().flatten() {
            self.expand(word, location);
        }
        self.expand(&copy.destination, location);
        let sources: Vec<String> = copy
            .sources
            .iter()
            .map(|source| self.expand(source, location))
            .collect();
        let without_quotes = Expander {
            skip_process_quotes: true,
            ..self.expander.clone()
        };
        for file in copy.heredocs.iter().filter(|file| file.expand) {
            let Ok(expansion) = without_quotes.expand(&file.content, &self.state.env) else {
                continue;
            };
            for name in expansion.unmatched {
                let word = format!("${{{name}}}");
                self.expand(&word, location);
            }
        }
        if copy.from.is_none() {
            self.check_ignored(&sources, keyword, location);
        }
    }

    /// Checks CopyIgnoredFile; an ignore file with `!` patterns says too little about one path.
    fn check_ignored(&mut self, sources: &[String], keyword: &str, location: &Location) {
        let Some(ignore) = self.input.ignore.filter(|ignore| !ignore.has_exceptions()) else {
            return;
        };
        for source in sources {
            let path = source.trim_start_matches("./").trim_matches('/');
            if ignore
                .decide(path)
                .is_ok_and(|decision| decision.is_ignored)
            {
                let message = format!(
                    "Attempting to {} file \"{source}\" that is excluded by .dockerignore",
                    capitalized(keyword)
                );
                self.warnings
                    .push(warn_at(location, "CopyIgnoredFile", message));
            }
        }
    }

    fn check_arg(&mut self, args: &[Arg], location: &Location) {
        rules::check_arg_secrets(args, location, self.warnings);
        for (place, arg) in args.iter().enumerate() {
            let default = arg
                .value
                .as_deref()
                .map(|value| self.expand(value, location));
            let own = given(self.input.build_args, &arg.key).or(default);
            let inherited = self.globals.values.value(&arg.key);
            if own.is_some() || inherited.is_none() {
                let info = ArgInfo {
                    value: own.clone().unwrap_or_default(),
                    description: arg.description.clone(),
                    location: location.clone(),
                    place,
                    uses: BTreeSet::new(),
                };
                self.state.capture.args.insert(arg.key.clone(), info);
            }
            self.state.capture.used.insert(arg.key.clone());
            if let Some(value) = own.or(inherited) {
                set(&mut self.state.env, &arg.key, value);
            }
            self.state.args.push(arg.key.clone());
        }
    }

    fn check_env(&mut self, pairs: &[KeyValue], keyword: &str, location: &Location) {
        rules::check_format(keyword, pairs, location, self.warnings);
        // All pairs of one line see the variables from before the line.
        let expanded: Vec<(String, String)> = pairs
            .iter()
            .map(|pair| {
                (
                    self.expand(&pair.key, location),
                    self.expand(&pair.value, location),
                )
            })
            .collect();
        for (key, value) in expanded {
            rules::check_secret("ENV", &key, location, self.warnings);
            set(&mut self.state.env, &key, value);
        }
    }

    fn check_run(&mut self, run: &Run, location: &Location) {
        for (place, mount) in run.mounts.iter().enumerate() {
            let mut words = Vec::new();
            let resolved = mount.resolve(|value| {
                words.push(value.to_owned());
                self.expander.expand_word(value, &self.state.env)
            });
            for word in words {
                self.expand(&word, location);
            }
            // A mount that makes no sense is the builder's to tell.
            if let Ok(mount) = resolved {
                self.note_need(&mount, place, location);
            }
        }
    }

    /// Notes the secret or agent that a mount asks for.
    fn note_need(&mut self, mount: &mount::Mount, place: usize, location: &Location) {
        let capture = &mut self.state.capture;
        let needs = match mount.kind {
            MountKind::Secret => &mut capture.secrets,
            MountKind::Ssh => &mut capture.ssh,
            MountKind::Bind | MountKind::Cache | MountKind::Tmpfs => return,
        };
        needs
            .entry(mount.need_id().to_owned())
            .or_insert_with(|| NeedInfo {
                is_required: mount.is_required,
                location: location.clone(),
                place,
            });
    }

    fn check_command(
        &mut self,
        is_shell: bool,
        keyword: &str,
        name: &'static str,
        location: &Location,
    ) {
        if is_shell && !self.state.has_shell {
            let message = format!(
                "JSON arguments recommended for {keyword} to prevent unintended behavior related to OS signals"
            );
            self.warnings
                .push(warn_at(location, "JSONArgsRecommended", message));
        }
        self.check_once(keyword, name, location);
    }

    /// Checks MultipleInstructionsDisallowed; the warning stands at the earlier instruction.
    fn check_once(&mut self, keyword: &str, name: &'static str, location: &Location) {
        if let Some(earlier) = self.state.is_set.insert(name, location.clone()) {
            let message = format!(
                "Multiple {keyword} instructions should not be used in the same stage because only the last one will be used"
            );
            self.warnings
                .push(warn_at(&earlier, "MultipleInstructionsDisallowed", message));
        }
    }

    fn check_workdir(&mut self, path: &str, location: &Location) {
        let path = self.expand(path, location);
        if !self.state.has_workdir && !path.starts_with('/') {
            let message = format!(
                "Relative workdir {} can have unexpected results if the base image changes",
                quoted(&path)
            );
            self.warnings
                .push(warn_at(location, "WorkdirRelativePath", message));
        }
        self.state.has_workdir = true;
    }
}

/// Sets a variable.
fn set(env: &mut Vec<(String, String)>, key: &str, value: String) {
    match env.iter_mut().find(|(name, _)| name == key) {
        Some((_, old)) => *old = value,
        None => env.push((key.to_owned(), value)),
    }
}

/// Returns a keyword as messages begin with it.
fn capitalized(keyword: &str) -> String {
    let lower = keyword.to_lowercase();
    let mut characters = lower.chars();
    let first = characters.next().map(|first| first.to_ascii_uppercase());
    first.into_iter().chain(characters).collect()
}
