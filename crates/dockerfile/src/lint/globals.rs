//! The arguments before the first FROM, and those that exist without being declared (spec/llb.md §7.1).

use super::LintInput;
use super::capture::{ArgInfo, Capture};
use crate::ast::Location;
use crate::expand::{Environment, Expander};
use crate::instruction::{Arg, Dockerfile, InstructionKind};

/// Arguments that exist in FROM without being declared.
pub(super) const PLATFORM_ARGS: [&str; 10] = [
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

/// What TARGETSTAGE is where no target was asked for and the last stage has no name (spec/llb.md §7.1).
const DEFAULT_TARGET: &str = "default";

/// The arguments before the first FROM.
pub(super) struct Globals {
    /// Variables for FROM: platforms and declared arguments.
    pub values: Vec<(String, String)>,
    /// Names that were declared.
    pub names: Vec<String>,
    /// The same, for the outline.
    pub capture: Capture,
}

impl Globals {
    /// Reads the arguments. Their names are nobody's secret: they reach no image.
    pub fn new(dockerfile: &Dockerfile, input: &LintInput<'_>, expander: &Expander) -> Self {
        let mut globals = Self {
            values: platform_values(dockerfile, input),
            names: Vec::new(),
            capture: Capture::default(),
        };
        for instruction in &dockerfile.meta_args {
            let InstructionKind::Arg(args) = &instruction.kind else {
                continue;
            };
            for (place, arg) in args.iter().enumerate() {
                globals.declare(arg, place, &instruction.location, input, expander);
            }
        }
        globals
    }

    fn declare(
        &mut self,
        arg: &Arg,
        place: usize,
        location: &Location,
        input: &LintInput<'_>,
        expander: &Expander,
    ) {
        let given = given(input.build_args, &arg.key);
        let written = arg.value.as_deref().filter(|_| given.is_none());
        let default = written.and_then(|value| expander.expand(value, &self.values).ok());
        let mut uses = default
            .as_ref()
            .map(|default| default.matched.clone())
            .unwrap_or_default();
        if uses.remove(&arg.key)
            && let Some(earlier) = self.capture.args.get(&arg.key)
        {
            uses.extend(earlier.uses.iter().cloned());
        }
        let value = given.or(default.map(|default| default.result));
        let info = ArgInfo {
            value: value.clone().unwrap_or_default(),
            description: arg.description.clone(),
            location: location.clone(),
            place,
            uses,
        };
        self.capture.args.insert(arg.key.clone(), info);
        self.names.push(arg.key.clone());
        self.values
            .extend(value.map(|value| (arg.key.clone(), value)));
    }
}

/// Returns the value of `--build-arg`.
pub(super) fn given(pairs: &[(String, String)], key: &str) -> Option<String> {
    pairs.value(key)
}

fn platform_values(dockerfile: &Dockerfile, input: &LintInput<'_>) -> Vec<(String, String)> {
    let last = dockerfile.stages.last();
    let last = last.and_then(|stage| stage.from.stage_name.as_deref());
    let target = input.target.filter(|target| !target.is_empty()).or(last);
    let target = target.unwrap_or(DEFAULT_TARGET).to_owned();
    let mut values = vec![("TARGETSTAGE".to_owned(), target)];
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
