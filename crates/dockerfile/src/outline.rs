//! What a build can be given and which stages it can build: `docker build --call=outline` and `--call=targets`.

use std::collections::BTreeSet;

use crate::ast::Location;
use crate::expand::Expander;
use crate::instruction::Dockerfile;
use crate::lint::{LintInput, WalkedStage, target_index, walk};

/// What the target can be given.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Outline {
    /// The target's name; empty where it has none.
    pub name: String,
    /// The comment above the target's FROM, without the name.
    pub description: String,
    /// Build arguments, in the order of their lines.
    pub args: Vec<OutlineArg>,
    /// Secrets, in the order of their lines.
    pub secrets: Vec<OutlineNeed>,
    /// SSH agents, in the order of their lines.
    pub ssh: Vec<OutlineNeed>,
}

/// A build argument.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutlineArg {
    /// Its name.
    pub name: String,
    /// The comment above it, without the name.
    pub description: String,
    /// Its value: the one given, or the default after expansion.
    pub value: String,
    /// The instruction that declares it.
    pub location: Location,
}

/// A secret or an SSH agent that a step asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutlineNeed {
    /// Its ID.
    pub id: String,
    /// Whether the step fails without it.
    pub is_required: bool,
    /// The first instruction that asks for it.
    pub location: Location,
}

/// A stage that can be built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Its name; empty where it has none.
    pub name: String,
    /// The comment above FROM, without the name.
    pub description: String,
    /// Whether it is built where no target is named: the last stage.
    pub is_default: bool,
    /// What FROM names, not expanded.
    pub base: String,
    /// `--platform` of FROM, not expanded; empty if not given.
    pub platform: String,
    /// Where FROM stands.
    pub location: Location,
}

/// Returns what the target of `input`, and all the stages it needs, can be given.
///
/// Mistakes in the Dockerfile are not told: whoever wants them lowers it.
pub fn outline(dockerfile: &Dockerfile, input: &LintInput<'_>) -> Outline {
    let expander = Expander::new(dockerfile.directives.escape);
    let stages = walk(
        dockerfile,
        input,
        &expander,
        &mut Vec::new(),
        &mut |_, _, _| {},
    );
    let target = target_index(dockerfile, input.target);
    let mut collector = Collector {
        stages: &stages,
        seen: BTreeSet::new(),
        names: BTreeSet::new(),
        args: Vec::new(),
        secrets: Vec::new(),
        ssh: Vec::new(),
    };
    collector.collect(target);
    let Collector {
        mut args,
        mut secrets,
        mut ssh,
        ..
    } = collector;
    args.sort_by_key(|(place, arg)| (arg.location.start_line, *place));
    secrets.sort_by_key(|(place, need)| (need.location.start_line, *place));
    ssh.sort_by_key(|(place, need)| (need.location.start_line, *place));
    let without_place = |needs: Vec<(usize, OutlineNeed)>| needs.into_iter().map(|(_, need)| need);
    let stage = dockerfile.stages.get(target);
    Outline {
        name: stage
            .and_then(|stage| stage.from.stage_name.clone())
            .unwrap_or_default(),
        description: stage
            .map(|stage| stage.description.clone())
            .unwrap_or_default(),
        args: args.into_iter().map(|(_, arg)| arg).collect(),
        secrets: without_place(secrets).collect(),
        ssh: without_place(ssh).collect(),
    }
}

/// Returns the stages that can be built, in the file's order.
pub fn targets(dockerfile: &Dockerfile) -> Vec<Target> {
    let last = dockerfile.stages.len().saturating_sub(1);
    let stages = dockerfile.stages.iter().enumerate();
    stages
        .map(|(index, stage)| Target {
            name: stage.from.stage_name.clone().unwrap_or_default(),
            description: stage.description.clone(),
            is_default: index == last,
            base: stage.from.image.clone(),
            platform: stage.from.platform.clone().unwrap_or_default(),
            location: stage.location.clone(),
        })
        .collect()
}

/// Which kind of thing a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Arg,
    Secret,
    Ssh,
}

/// Gathers what the stages can be given; of one name the stage nearest to the target counts.
struct Collector<'a> {
    stages: &'a [WalkedStage],
    seen: BTreeSet<usize>,
    names: BTreeSet<(Kind, String)>,
    /// Each with its place in its instruction.
    args: Vec<(usize, OutlineArg)>,
    secrets: Vec<(usize, OutlineNeed)>,
    ssh: Vec<(usize, OutlineNeed)>,
}

impl Collector<'_> {
    fn collect(&mut self, index: usize) {
        let Some(stage) = self.stages.get(index).filter(|_| self.seen.insert(index)) else {
            return;
        };
        let capture = stage.capture();
        for name in capture.used_at_last() {
            let Some(info) = capture.args.get(name) else {
                continue;
            };
            if self.names.insert((Kind::Arg, name.to_owned())) {
                let arg = OutlineArg {
                    name: name.to_owned(),
                    description: info.description.clone(),
                    value: info.value.clone(),
                    location: info.location.clone(),
                };
                self.args.push((info.place, arg));
            }
        }
        for (kind, needs) in [(Kind::Secret, &capture.secrets), (Kind::Ssh, &capture.ssh)] {
            for (id, info) in needs {
                if !self.names.insert((kind, id.clone())) {
                    continue;
                }
                let need = OutlineNeed {
                    id: id.clone(),
                    is_required: info.is_required,
                    location: info.location.clone(),
                };
                match kind {
                    Kind::Secret => self.secrets.push((info.place, need)),
                    _ => self.ssh.push((info.place, need)),
                }
            }
        }
        if let Some(base) = stage.base {
            self.collect(base);
        }
        for source in &stage.sources {
            self.collect(*source);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{outline, targets};
    use crate::instruction::load;
    use crate::lint::LintInput;

    const SOURCE: &str = "\
# VERSION what to build
ARG VERSION=1
ARG UNUSED=x
FROM busybox:$VERSION AS base
# MODE how, TOKEN never shown
ARG MODE=fast VERBOSE
RUN --mount=type=secret,id=key,required --mount=type=ssh true
FROM alpine AS other
ARG OTHER
FROM base AS app
# app the program
ARG VERSION
RUN --mount=type=secret,target=/a/cert true
";

    fn input<'a>(build_args: &'a [(String, String)]) -> LintInput<'a> {
        LintInput {
            build_args,
            target: None,
            target_platform: "linux/amd64",
            build_platform: "linux/amd64",
            base_image: &|_, _| None,
            ignore: None,
        }
    }

    #[test]
    fn outlines_follow_what_the_target_needs() {
        let (dockerfile, diagnostics) = load(SOURCE);
        assert!(diagnostics.is_empty(), "{diagnostics:?}");
        let args = [("MODE".to_owned(), "slow".to_owned())];
        let outline = outline(&dockerfile, &input(&args));
        let args: Vec<String> = outline
            .args
            .iter()
            .map(|arg| format!("{}={} ({})", arg.name, arg.value, arg.description))
            .collect();
        assert_eq!(
            args,
            [
                "VERSION=1 (what to build)",
                "MODE=slow (how, TOKEN never shown)",
                "VERBOSE= ()"
            ]
        );
        let secrets: Vec<(&str, bool)> = outline
            .secrets
            .iter()
            .map(|need| (need.id.as_str(), need.is_required))
            .collect();
        assert_eq!(secrets, [("key", true), ("cert", false)]);
        assert_eq!(outline.ssh.len(), 1);
        assert_eq!(outline.name, "app");
    }

    #[test]
    fn targets_are_the_stages() {
        let (dockerfile, _) = load(SOURCE);
        let names: Vec<(String, bool)> = targets(&dockerfile)
            .into_iter()
            .map(|target| (target.name, target.is_default))
            .collect();
        assert_eq!(
            names,
            [
                ("base".to_owned(), false),
                ("other".to_owned(), false),
                ("app".to_owned(), true)
            ]
        );
    }
}
