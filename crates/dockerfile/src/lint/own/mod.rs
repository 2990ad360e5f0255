//! Checks that the reference does not have; each is described in `docs/checks.md`.
//!
//! They are warnings of their own list: what `docker build --check` says about a file is not changed by them.

mod packages;
mod secrets;
mod shell;

use std::collections::{BTreeMap, BTreeSet};

use crate::ast::{Location, line_and_column};
use crate::diagnostic::Diagnostic;
use crate::expand::{Environment, Expander};
use crate::instruction::mount::MountKind;
use crate::instruction::{
    CommandLine, Copy, Dockerfile, Instruction, InstructionKind, KeyValue, Run,
};

use super::rules::is_secret_name;
use super::stages::{StagePlace, walk};
use super::{LintInput, target_index};
use packages::{AptCall, dependency_install};
use shell::{commands_of, is_shell, script};

/// RUN in exec form uses a variable that nothing replaces.
pub(super) const EXEC_FORM_VARIABLE: &str = "ExecFormVariable";
/// apt asks a question that nobody answers.
pub(super) const APT_WITHOUT_YES: &str = "AptWithoutYes";
/// The lists of `apt-get update` stay in a layer of the image.
pub(super) const APT_LISTS_IN_LAYER: &str = "AptListsInLayer";
/// `chown -R` or `chmod -R` stores files a second time.
pub(super) const RECURSIVE_CHANGE: &str = "RecursiveChangeDuplicatesFiles";
/// The value of ARG or ENV looks like a secret.
pub(super) const SECRET_VALUE: &str = "SecretValueInArgOrEnv";
/// All files are copied before the dependencies are installed.
pub(super) const COPY_BEFORE_INSTALL: &str = "CopyBeforeInstall";

/// Variables that a shell has in any case.
const SHELL_VARIABLES: [&str; 6] = ["HOME", "PATH", "PWD", "USER", "HOSTNAME", "SHELL"];
/// Where apt keeps its lists, and the directories around it.
const APT_LISTS: [&str; 4] = ["/var/lib/apt/lists", "/var/lib/apt", "/var/lib", "/var"];

/// Runs these checks on every stage up to the target.
pub(super) fn check(
    source: &str,
    dockerfile: &Dockerfile,
    input: &LintInput<'_>,
) -> Vec<Diagnostic> {
    let expander = Expander::new(dockerfile.directives.escape);
    let mut stages: BTreeMap<usize, StageFacts> = BTreeMap::new();
    let mut findings = Vec::new();
    let mut observe = |place: StagePlace, instruction: &Instruction, env: &[(String, String)]| {
        if !stages.contains_key(&place.index) {
            let base = place.base.and_then(|base| stages.get(&base));
            stages.insert(place.index, base.cloned().unwrap_or_default());
        }
        if let Some(facts) = stages.get_mut(&place.index) {
            let mut checker = OwnChecker {
                source,
                expander: &expander,
                facts,
                findings: &mut findings,
                stage: place.index,
            };
            checker.check(instruction, env);
        }
    };
    let walked = walk(dockerfile, input, &expander, &mut Vec::new(), &mut observe);
    let mut image = BTreeSet::new();
    let mut stage = Some(target_index(dockerfile, input.target));
    while let Some(index) = stage {
        image.insert(index);
        stage = walked.get(index).and_then(|stage| stage.base);
    }
    findings
        .into_iter()
        .filter(|finding| !finding.only_in_image || image.contains(&finding.stage))
        .map(|finding| finding.warning)
        .collect()
}

/// A finding.
struct Finding {
    warning: Diagnostic,
    /// The number of its stage.
    stage: usize,
    /// Whether it counts only where the stage's layers are part of the image.
    only_in_image: bool,
}

/// What these checks know of a stage.
#[derive(Debug, Clone, Default)]
struct StageFacts {
    /// The working directory; empty for the root.
    cwd: String,
    /// Where COPY and ADD put files.
    placed: Vec<(String, Location)>,
    /// The first COPY of everything, as long as no dependencies were installed before it.
    copied_all: Option<Location>,
    /// Whether dependencies were installed.
    is_installed: bool,
}

/// Looks at the instructions of a stage one by one.
struct OwnChecker<'a> {
    /// The whole text, to find the place of a command.
    source: &'a str,
    expander: &'a Expander,
    facts: &'a mut StageFacts,
    findings: &'a mut Vec<Finding>,
    /// The number of the stage.
    stage: usize,
}

impl OwnChecker<'_> {
    /// Looks at one instruction; `env` holds what is set before it.
    fn check(&mut self, instruction: &Instruction, env: &[(String, String)]) {
        let location = &instruction.location;
        match &instruction.kind {
            InstructionKind::Run(run) => self.check_run(run, env, location),
            InstructionKind::Copy(copy) | InstructionKind::Add(copy) => {
                self.note_copy(copy, env, location);
            }
            InstructionKind::Workdir(path) => {
                let path = self.expand(path, env);
                self.facts.cwd = self.absolute(&path);
            }
            InstructionKind::Env(pairs) => self.check_values("ENV", pairs, location),
            InstructionKind::Arg(args) => {
                for arg in args {
                    let value = arg.value.as_deref().unwrap_or_default();
                    self.check_value("ARG", &arg.key, value, location);
                }
            }
            _ => {}
        }
    }

    fn check_run(&mut self, run: &Run, env: &[(String, String)], location: &Location) {
        self.check_exec_form(&run.command, env, location);
        self.check_apt(run, location);
        let commands = commands_of(run);
        for command in &commands {
            let Some((program, arguments)) = command.program() else {
                continue;
            };
            if matches!(program, "chown" | "chgrp" | "chmod") {
                self.check_recursive(program, arguments, env, location);
            }
        }
        if self.facts.is_installed {
            return;
        }
        if let Some(install) = commands.iter().find_map(dependency_install) {
            self.facts.is_installed = true;
            if let Some(copy) = self.facts.copied_all.take() {
                let message = format!(
                    "Everything is copied before `{install}` on line {}: any changed file runs it again; copy only what it needs first",
                    location.start_line
                );
                self.warn(COPY_BEFORE_INSTALL, message, &copy, "", false);
            }
        }
    }

    fn check_exec_form(
        &mut self,
        command: &CommandLine,
        env: &[(String, String)],
        location: &Location,
    ) {
        if command.is_shell || command.arguments.iter().any(|word| is_shell(word)) {
            return;
        }
        let is_known = |name: &str| env.value(name).is_some() || SHELL_VARIABLES.contains(&name);
        let used = command
            .arguments
            .iter()
            .flat_map(|word| variables(word))
            .find(|name| is_known(name));
        if let Some(name) = used {
            let message = format!(
                "RUN in exec form does not replace ${name}: no shell runs it; use shell form, or [\"sh\", \"-c\", \"…\"]"
            );
            self.warn(
                EXEC_FORM_VARIABLE,
                message,
                location,
                &format!("${name}"),
                false,
            );
        }
    }

    fn check_apt(&mut self, run: &Run, location: &Location) {
        let text = script(&run.command).unwrap_or_default();
        let commands = commands_of(run);
        let calls = commands
            .iter()
            .filter_map(|command| Some((command, AptCall::of(command)?)));
        let mut updates = None;
        for (command, call) in calls {
            if call.asks() && !command.reads_pipe && !text.to_lowercase().contains("assume-yes") {
                let message = format!(
                    "{} {} asks before it goes on and nobody can answer: add -y",
                    call.program, call.action
                );
                self.warn(APT_WITHOUT_YES, message, location, call.program, false);
            }
            if call.action == "update" {
                updates = updates.or(Some(call.program.to_owned()));
            }
        }
        let cleans = text.contains("/var/lib/apt")
            || text.contains("dist-clean")
            || text.contains("distclean");
        if let Some(program) = updates.filter(|_| !cleans && !mounts_lists(run)) {
            let message = format!(
                "The lists of {program} update stay in the layer: add `&& rm -rf /var/lib/apt/lists/*` to the same RUN, or --mount=type=cache,target=/var/lib/apt/lists"
            );
            self.warn(APT_LISTS_IN_LAYER, message, location, &program, true);
        }
    }

    fn check_recursive(
        &mut self,
        program: &str,
        arguments: &[String],
        env: &[(String, String)],
        location: &Location,
    ) {
        let is_recursive = |word: &String| {
            word == "--recursive"
                || word
                    .strip_prefix('-')
                    .is_some_and(|rest| !rest.starts_with('-') && rest.contains('R'))
        };
        if !arguments.iter().any(is_recursive) {
            return;
        }
        let is_path = |word: &&String| !word.starts_with(['-', '>', '<']);
        // The first word names the owner or the mode.
        for word in arguments.iter().filter(is_path).skip(1) {
            let path = self.expand(word, env);
            let path = self.absolute(&path);
            let below = format!("{}/", path.trim_end_matches('/'));
            let found = self
                .facts
                .placed
                .iter()
                .find(|(placed, _)| *placed == path || placed.starts_with(&below));
            let Some((_, copy)) = found else {
                continue;
            };
            let flag = if program == "chmod" {
                "--chmod"
            } else {
                "--chown"
            };
            let message = format!(
                "{program} -R stores the files that line {} copied to {path} a second time: use {flag} there",
                copy.start_line
            );
            self.warn(RECURSIVE_CHANGE, message, location, program, false);
            return;
        }
    }

    fn note_copy(&mut self, copy: &Copy, env: &[(String, String)], location: &Location) {
        let destination = self.expand(&copy.destination, env);
        let placed = self.absolute(&destination);
        self.facts.placed.push((placed, location.clone()));
        let is_all = |source: &String| matches!(source.as_str(), "." | "./" | "/" | "*" | "./*");
        if copy.from.is_none()
            && copy.exclude.is_empty()
            && copy.sources.iter().any(is_all)
            && !self.facts.is_installed
        {
            self.facts
                .copied_all
                .get_or_insert_with(|| location.clone());
        }
    }

    fn check_values(&mut self, keyword: &str, pairs: &[KeyValue], location: &Location) {
        for pair in pairs {
            self.check_value(keyword, &pair.key, &pair.value, location);
        }
    }

    fn check_value(&mut self, keyword: &str, key: &str, value: &str, location: &Location) {
        if is_secret_name(key) {
            return;
        }
        if let Some(kind) = secrets::kind(value) {
            let message = format!(
                "The value of {keyword} {key:?} looks like {kind}, which everybody who has the image can read: use RUN --mount=type=secret"
            );
            self.warn(SECRET_VALUE, message, location, key, false);
        }
    }

    /// Warns at `word` within an instruction, or at its first line.
    fn warn(
        &mut self,
        rule: &'static str,
        message: String,
        location: &Location,
        word: &str,
        only_in_image: bool,
    ) {
        let text = self.source.get(location.span.clone()).unwrap_or_default();
        let span = match text.find(word).filter(|_| !word.is_empty()) {
            Some(at) => location.span.start + at..location.span.start + at + word.len(),
            None => location.span.clone(),
        };
        let (line, _) = line_and_column(self.source, span.start);
        self.findings.push(Finding {
            warning: Diagnostic::warning(rule, message, span, line..=line),
            stage: self.stage,
            only_in_image,
        });
    }

    fn expand(&self, word: &str, env: &[(String, String)]) -> String {
        let expanded = self.expander.expand_word(word, &env.to_vec());
        expanded.unwrap_or_else(|_| word.to_owned())
    }

    fn absolute(&self, path: &str) -> String {
        let joined = if path.starts_with('/') {
            path.to_owned()
        } else {
            format!("{}/{path}", self.facts.cwd)
        };
        let mut parts: Vec<&str> = Vec::new();
        for part in joined.split('/') {
            match part {
                "" | "." => {}
                ".." => drop(parts.pop()),
                part => parts.push(part),
            }
        }
        format!("/{}", parts.join("/"))
    }
}

/// Returns whether the lists of apt lie on something that is no part of the layer.
fn mounts_lists(run: &Run) -> bool {
    run.mounts.iter().any(|mount| {
        let resolved = mount.resolve(|value| Ok(value.to_owned()));
        resolved.is_ok_and(|mount| {
            let target = mount.target.trim_end_matches('/');
            matches!(
                mount.kind,
                MountKind::Cache | MountKind::Tmpfs | MountKind::Bind
            ) && APT_LISTS.contains(&target)
        })
    })
}

/// Returns the names of `$name` and `${name}` in a word.
fn variables(word: &str) -> impl Iterator<Item = &str> {
    word.split('$').skip(1).filter_map(|rest| {
        let rest = rest.strip_prefix('{').unwrap_or(rest);
        let is_name = |character: char| character.is_ascii_alphanumeric() || character == '_';
        let end = rest
            .find(|character| !is_name(character))
            .unwrap_or(rest.len());
        let name = rest.get(..end)?;
        let starts_well =
            name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_');
        starts_well.then_some(name)
    })
}
