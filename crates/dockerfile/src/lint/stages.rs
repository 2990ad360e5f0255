//! Rules that follow variables and settings through the stages.

use std::collections::BTreeMap;

use super::{BaseImage, LintInput, reach, rules, warn_at};
use crate::ast::Location;
use crate::diagnostic::Diagnostic;
use crate::expand::{Environment, Expander};
use crate::instruction::{
    Arg, Copy, Dockerfile, Instruction, InstructionKind, KeyValue, Run, Stage, parse_commands,
};
use crate::quote::quoted;
use crate::suggest::nearest;

/// Arguments that exist in FROM without being declared.
const PLATFORM_ARGS: [&str; 10] = [
    "BUILDPLATFORM",
    "BUILDOS",
    "BUILDOSVERSION",
    "BUILDARCH",
    "BUILDVARIANT",
    "TARGETPLATFORM",
    "TARGETOS",
    "TARGETOSVERSION",
    "TARGETARCH",
    "TARGETVARIANT",
];

/// Checks every stage, used or not.
pub(super) fn check_stages(
    dockerfile: &Dockerfile,
    input: &LintInput<'_>,
    warnings: &mut Vec<Diagnostic>,
) {
    let expander = Expander::new(dockerfile.directives.escape);
    let globals = Globals::new(dockerfile, input, &expander, warnings);
    let defaults = Globals::new(
        dockerfile,
        &LintInput {
            build_args: &[],
            ..*input
        },
        &expander,
        &mut Vec::new(),
    );
    let froms: Vec<FromFacts> = dockerfile
        .stages
        .iter()
        .map(|stage| check_from(stage, &globals, &expander, warnings))
        .collect();
    for stage in &dockerfile.stages {
        let names = dockerfile
            .stages
            .iter()
            .map(|stage| stage.from.stage_name.as_deref());
        check_default(stage, &defaults, &expander, names, warnings);
    }
    let target = reach::target_index(dockerfile, input.target);
    let bases: Vec<&str> = froms.iter().map(|facts| facts.image.as_str()).collect();
    let needed = reach::needed(dockerfile, &bases, target);
    let mut done: Vec<(Option<String>, StageState)> = Vec::new();
    // Stages behind the target are not looked into.
    let stages = dockerfile.stages.iter().take(target + 1);
    for ((stage, facts), is_needed) in stages.zip(froms).zip(needed) {
        let base = done
            .iter()
            .rev()
            .find(|(name, _)| name.as_deref() == Some(facts.image.as_str()));
        let mut state = match base {
            Some((_, base)) => StageState {
                is_set: BTreeMap::new(),
                ..base.clone()
            },
            None => base_state(stage, &facts, input, warnings),
        };
        let mut checker = Checker {
            state: &mut state,
            expander: &expander,
            globals: &globals,
            input,
            warnings,
        };
        let triggers = std::mem::take(&mut checker.state.on_build);
        // An image's triggers only run where its stage is built.
        for trigger in triggers.iter().filter(|_| is_needed) {
            for mut instruction in parse_commands(trigger).unwrap_or_default() {
                instruction.location = stage.location.clone();
                checker.check(&instruction);
            }
        }
        for instruction in &stage.instructions {
            checker.check(instruction);
        }
        done.push((stage.from.stage_name.clone(), state));
    }
}

/// The arguments before the first FROM.
struct Globals {
    values: Vec<(String, String)>,
    names: Vec<String>,
}

impl Globals {
    fn new(
        dockerfile: &Dockerfile,
        input: &LintInput<'_>,
        expander: &Expander,
        warnings: &mut Vec<Diagnostic>,
    ) -> Self {
        let mut globals = Self {
            values: platform_values(input),
            names: Vec::new(),
        };
        for instruction in &dockerfile.meta_args {
            let InstructionKind::Arg(args) = &instruction.kind else {
                continue;
            };
            rules::check_arg_secrets(args, &instruction.location, warnings);
            for arg in args {
                let default = arg.value.as_deref();
                let default =
                    default.and_then(|value| expander.expand_word(value, &globals.values).ok());
                let given = given(input.build_args, &arg.key).or(default);
                globals.names.push(arg.key.clone());
                globals
                    .values
                    .extend(given.map(|value| (arg.key.clone(), value)));
            }
        }
        globals
    }
}

fn given(pairs: &[(String, String)], key: &str) -> Option<String> {
    pairs.value(key)
}

fn platform_values(input: &LintInput<'_>) -> Vec<(String, String)> {
    let mut values = Vec::new();
    for (prefix, platform) in [
        ("BUILD", input.build_platform),
        ("TARGET", input.target_platform),
    ] {
        let mut parts = platform.splitn(3, '/');
        let mut next = || parts.next().unwrap_or_default().to_owned();
        values.push((format!("{prefix}PLATFORM"), platform.to_owned()));
        values.push((format!("{prefix}OS"), next()));
        values.push((format!("{prefix}OSVERSION"), String::new()));
        values.push((format!("{prefix}ARCH"), next()));
        values.push((format!("{prefix}VARIANT"), next()));
    }
    for (name, value) in input.build_args {
        if PLATFORM_ARGS.contains(&name.as_str()) {
            values.push((name.clone(), value.clone()));
        }
    }
    values
}

/// FROM after expansion.
struct FromFacts {
    image: String,
    platform: Option<String>,
}

/// Checks UndefinedArgInFrom, RedundantTargetPlatform and FromPlatformFlagConstDisallowed.
fn check_from(
    stage: &Stage,
    globals: &Globals,
    expander: &Expander,
    warnings: &mut Vec<Diagnostic>,
) -> FromFacts {
    let location = &stage.location;
    let mut expand = |word: &str| {
        let Ok(expansion) = expander.expand(word, &globals.values) else {
            return String::new();
        };
        for name in &expansion.unmatched {
            if globals.names.contains(name) {
                continue;
            }
            let message = format!("FROM argument '{name}' is not declared");
            let mut warning = warn_at(location, "UndefinedArgInFrom", message);
            let known = PLATFORM_ARGS
                .iter()
                .copied()
                .chain(globals.names.iter().map(String::as_str));
            warning.help = nearest(name, known, true).map(str::to_owned);
            warnings.push(warning);
        }
        expansion.result
    };
    let image = expand(&stage.from.image);
    let platform = stage.from.platform.as_deref().map(&mut expand);
    if let Some(written) = stage.from.platform.as_deref() {
        check_platform_flag(stage, written, warnings);
    }
    FromFacts { image, platform }
}

fn check_platform_flag(stage: &Stage, written: &str, warnings: &mut Vec<Diagnostic>) {
    let location = &stage.location;
    if matches!(written, "$TARGETPLATFORM" | "${TARGETPLATFORM}") {
        let message = format!(
            "Setting platform to predefined {written} in FROM is redundant as this is the default behavior"
        );
        warnings.push(warn_at(location, "RedundantTargetPlatform", message));
    }
    let name = stage.from.stage_name.as_deref().unwrap_or_default();
    let mut parts = written.split('/');
    let (system, architecture) = (parts.next().unwrap_or_default(), parts.next());
    let is_named = name.contains(system) || architecture.is_some_and(|part| name.contains(part));
    if !written.contains('$') && !is_named {
        let message = format!("FROM --platform flag should not use constant value \"{written}\"");
        warnings.push(warn_at(
            location,
            "FromPlatformFlagConstDisallowed",
            message,
        ));
    }
}

/// Checks InvalidDefaultArgInFrom: without build arguments the base must still have a usable name.
fn check_default<'a>(
    stage: &Stage,
    defaults: &Globals,
    expander: &Expander,
    stage_names: impl Iterator<Item = Option<&'a str>>,
    warnings: &mut Vec<Diagnostic>,
) {
    let written = &stage.from.image;
    let Ok(image) = expander.expand_word(written, &defaults.values) else {
        return;
    };
    let is_stage = stage_names.flatten().any(|name| name == image);
    if !is_stage && !is_image_name(&image) {
        let message =
            format!("Default value for ARG {written} results in empty or invalid base image name");
        warnings.push(warn_at(&stage.location, "InvalidDefaultArgInFrom", message));
    }
}

/// Returns whether a text has the form of an image name: `[host[:port]/]path[:tag][@digest]`.
fn is_image_name(text: &str) -> bool {
    let (name, digest) = match text.split_once('@') {
        Some((name, digest)) => (name, Some(digest)),
        None => (text, None),
    };
    if digest.is_some_and(|digest| !digest.contains(':') || digest.ends_with(':')) {
        return false;
    }
    let last_start = name.rfind('/').map_or(0, |slash| slash + 1);
    let tag_start = name
        .get(last_start..)
        .and_then(|last| last.find(':'))
        .map(|at| last_start + at);
    let (path, tag) = match tag_start {
        Some(at) => (name.get(..at).unwrap_or_default(), name.get(at + 1..)),
        None => (name, None),
    };
    let is_tag = |tag: &str| {
        let is_rest = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
        !tag.is_empty()
            && tag.len() <= 128
            && !tag.starts_with(['.', '-'])
            && tag.bytes().all(is_rest)
    };
    let path = match path.split_once('/') {
        Some((host, rest)) if host.contains(['.', ':']) || host == "localhost" => rest,
        _ => path,
    };
    let is_component = |part: &str| {
        let is_inner =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_.-".contains(&byte);
        !part.is_empty()
            && part.bytes().all(is_inner)
            && !part.starts_with(['_', '.', '-'])
            && !part.ends_with(['_', '.', '-'])
    };
    tag.is_none_or(is_tag) && path.split('/').all(is_component)
}

/// What later instructions of a stage, and stages built on it, depend on.
#[derive(Clone, Default)]
struct StageState {
    env: Vec<(String, String)>,
    args: Vec<String>,
    has_workdir: bool,
    has_shell: bool,
    on_build: Vec<String>,
    /// Where CMD, ENTRYPOINT and HEALTHCHECK were set in this stage.
    is_set: BTreeMap<&'static str, Location>,
}

/// Returns the state an image gives; checks InvalidBaseImagePlatform.
fn base_state(
    stage: &Stage,
    facts: &FromFacts,
    input: &LintInput<'_>,
    warnings: &mut Vec<Diagnostic>,
) -> StageState {
    let platform = facts.platform.as_deref().unwrap_or(input.target_platform);
    let found = match facts.image.as_str() {
        "scratch" => None,
        image => (input.base_image)(image, platform),
    };
    let Some(BaseImage {
        platform: own,
        env,
        has_shell,
        on_build,
    }) = found
    else {
        return StageState::default();
    };
    if own != platform {
        let message = format!(
            "Base image {} was pulled with platform \"{own}\", expected \"{platform}\" for current build",
            facts.image
        );
        warnings.push(warn_at(
            &stage.location,
            "InvalidBaseImagePlatform",
            message,
        ));
    }
    StageState {
        env,
        has_shell,
        on_build,
        ..StageState::default()
    }
}

struct Checker<'a> {
    state: &'a mut StageState,
    expander: &'a Expander,
    globals: &'a Globals,
    input: &'a LintInput<'a>,
    warnings: &'a mut Vec<Diagnostic>,
}

impl Checker<'_> {
    fn check(&mut self, instruction: &Instruction) {
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
            InstructionKind::From(_) | InstructionKind::Maintainer(_) => {}
        }
    }

    /// Expands a word and checks UndefinedVar.
    fn expand(&mut self, word: &str, location: &Location) -> String {
        let Ok(expansion) = self.expander.expand(word, &self.state.env) else {
            return String::new();
        };
        for name in &expansion.unmatched {
            if self.state.args.contains(name) {
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
        for pattern in &copy.exclude {
            self.expand(pattern, location);
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
        for arg in args {
            let default = arg
                .value
                .as_deref()
                .map(|value| self.expand(value, location));
            let value = given(self.input.build_args, &arg.key)
                .or(default)
                .or_else(|| self.globals.values.value(&arg.key));
            if let Some(value) = value {
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
        for mount in &run.mounts {
            let mut words = Vec::new();
            let _ = mount.resolve(|value| {
                words.push(value.to_owned());
                self.expander.expand_word(value, &self.state.env)
            });
            for word in words {
                self.expand(&word, location);
            }
        }
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

fn set(env: &mut Vec<(String, String)>, key: &str, value: String) {
    match env.iter_mut().find(|(name, _)| name == key) {
        Some((_, old)) => *old = value,
        None => env.push((key.to_owned(), value)),
    }
}

fn capitalized(keyword: &str) -> String {
    let lower = keyword.to_lowercase();
    let mut characters = lower.chars();
    let first = characters.next().map(|first| first.to_ascii_uppercase());
    first.into_iter().chain(characters).collect()
}
