//! Building images: Dockerfile → graph → cache keys → steps → image.

#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::print_stdout)
)]

mod assemble;
mod builds;
mod cache;
mod cache_config;
mod change;
mod checks;
mod chmod;
mod collect;
mod config;
mod content;
mod context;
mod copier;
mod copy;
mod definition;
mod error;
mod event;
mod finish;
mod frontend;
mod history;
mod host;
mod imported;
#[doc(hidden)]
pub mod internals;
mod kept;
mod listing;
mod logs;
mod lower;
mod narrate;
mod owner;
mod plan;
mod ports;
mod request;
mod reuse;
mod select;
mod solve;
mod stat_cache;
mod unpack;

pub use builds::{BuildRecord, StepRecord, StepStatus, builds, find_build, forget, step_log};
pub use cache::{PruneOptions, Pruned, prune, remove};
pub use cache_config::{CacheBlob, ExportedCache, export_cache};
pub use change::apply_change;
pub use checks::{About, Answer, Mistake, Question, ask};
pub use collect::{collect, default_cache_limit, kept_bytes};
pub use definition::{CAPS, solve_definition};
pub use error::BuildError;
pub use event::{BuildEvent, Finding, SolveEvent};
pub use frontend::{Frontend, Lowered, lower_dockerfile, outline_dockerfile};
pub use host::{
    BaseImage, FetchRequest, Fetched, Host, HostError, MountSource, OutputStream, RunMount,
    RunOutcome, RunStep, Secret, SecretFile,
};
pub use imported::CacheDirectory;
pub use listing::{FileChange, ListingChange};
pub use request::{BuildRequest, ContextSource, Entitlements, NamedSource, SolveOptions};
pub use solve::{
    CacheMount, CacheSharing, Cause, FailedStep, cache_mounts, failed_step, find_cache_mount,
    import_cache_mount, remove_cache_mount,
};

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::time::Instant;

use wharf_dockerfile::{Diagnostic, Dockerfile, InstructionKind, load};
use wharf_image::{Digest, ImageId, Platform};
use wharf_llb::{Edge, VertexId};
use wharf_store::Store;

use assemble::Assembler;
use cache_config::UsedKeys;
use checks::Bases;
use context::{Context, DockerfileText};
use definition::check_platforms;
use finish::{Touches, finish};
use imported::Imported;
use lower::{FindBase, FindTime, LowerInput, TimeSource, git_source, lower, other_mistakes};
use narrate::Narrator;
use plan::{Plan, StageBase};
use solve::{Label, Means, Outcome, SolveInput, Solver, commit_seconds};

/// The name of the main build context.
const MAIN_CONTEXT: &str = "context";
/// The build argument that keeps `.git` in a build context that is a repository.
const KEEP_GIT_DIR_ARG: &str = "BUILDKIT_CONTEXT_KEEP_GIT_DIR";
/// The build argument that asks for a cache in the image (spec buildkit-protocol, build arguments).
const INLINE_CACHE_ARG: &str = "BUILDKIT_INLINE_CACHE";
/// Hexadecimal characters of a build's name.
const BUILD_ID_CHARS: usize = 12;

/// What a build led to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Built {
    /// The image, stored.
    pub image: ImageId,
    /// Name of the build.
    pub build: String,
}

/// Builds an image.
///
/// Nothing is run before the whole Dockerfile is known to make sense. Steps that were executed stay in the
/// cache whatever comes after them.
///
/// # Errors
/// See [`BuildError`].
pub fn build(
    store: &Store,
    host: &dyn Host,
    request: &BuildRequest,
    events: &mut dyn FnMut(BuildEvent),
) -> Result<Built, BuildError> {
    let began = Instant::now();
    let started_unix_ns = i64::try_from(jiff::Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX);
    let id = if request.id.is_empty() {
        new_build_id(&request.project)
    } else {
        request.id.clone()
    };
    let means = means(request);
    let mut context = Context::open(store, &request.context, &means)?;
    let file = context.load(request)?;
    let dockerfile = read_whole(host, request, &file)?;
    let bases = Bases::new(host, request);
    let mut find_base = |name: &str, platform: &Platform| bases.find(name, platform);
    let find_time = |source: &TimeSource| find_time(store, host, request, source);
    let plan = lower_request(request, &file, &dockerfile, (&mut find_base, &find_time))?;
    let checked = checks::check(request, &file, context.known_ignore(), &bases)?;
    let say_findings = |events: &mut dyn FnMut(BuildEvent)| {
        for warning in &checked.warnings {
            events(BuildEvent::Finding(checks::finding(&file, warning)));
        }
    };
    if !checked.violated.is_empty() {
        say_findings(events);
        let rules = checked.violated;
        return Err(BuildError::Checks { rules });
    }
    check_platforms(host, &plan.graph)?;
    let imported = imported(host, request);
    tell_warnings(&imported, events);
    events(BuildEvent::Solve(SolveEvent::Build { id: id.clone() }));
    let mut contexts = BTreeMap::from([(MAIN_CONTEXT.to_owned(), context)]);
    for (name, source) in &request.contexts {
        if let NamedSource::Files(files) = source {
            let opened = Context::open(store, files, &means)?;
            contexts.insert(name.clone(), opened.with_ignore_file()?);
        }
    }
    let solved = solve_plan(
        store,
        host,
        (request, &imported),
        &id,
        &plan,
        &contexts,
        events,
    );
    tell_warnings(&imported, events);
    for context in contexts.values_mut() {
        context.remember();
    }
    say_findings(events);
    let (result, steps) = solved.map_err(|error| with_line(error, &plan, &file, &dockerfile))?;
    let record = BuildRecord {
        id: id.clone(),
        started_unix_ns,
        took_ms: u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
        project: request.project.clone(),
        dockerfile: file.name.clone(),
        target: request.target.clone(),
        names: request.names.clone(),
        image: result.as_ref().ok().copied(),
        error: result.as_ref().err().map(ToString::to_string),
        steps,
    };
    record.keep(store)?;
    Ok(Built {
        image: result?,
        build: id,
    })
}

/// Solves a graph, whoever made it; returns the layers of each wanted output, lowest first.
///
/// The layers stay as long as a record of the cache, an image or a lease keeps them.
///
/// # Errors
/// See [`BuildError`]. What was executed before stays in the cache.
pub fn solve(
    store: &Store,
    host: &dyn Host,
    (graph, wanted): (&wharf_llb::Graph, &[Edge]),
    contexts: &BTreeMap<String, ContextSource>,
    options: &SolveOptions,
    events: &mut dyn FnMut(SolveEvent),
) -> Result<Vec<Vec<Digest>>, BuildError> {
    let means = Means::of(options);
    let mut opened = BTreeMap::new();
    for (name, source) in contexts {
        opened.insert(name.clone(), Context::open(store, source, &means)?);
    }
    let (sender, received) = channel();
    let (labels, images, imported) = (HashMap::new(), HashMap::new(), Imported::default());
    let input = SolveInput {
        graph,
        wanted,
        labels: &labels,
        images: &images,
        contexts: &opened,
        options,
        imported: &imported,
        depth: 0,
    };
    let solver = Solver::new(store, host, input, sender)?;
    let solved = std::thread::scope(|scope| {
        let solving = scope.spawn(|| {
            let _closing = solver.closing();
            solver.run()
        });
        received.iter().for_each(events);
        solving
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    });
    let chains = solved.and_then(|()| {
        let chain = |edge: &Edge| solver.snapshot(*edge).unwrap_or_default().diff_ids();
        wanted.iter().map(chain).collect()
    });
    drop(solver);
    for context in opened.values_mut() {
        context.remember();
    }
    chains
}

/// Returns what the request brings for getting at repositories.
fn means(request: &BuildRequest) -> Means<'_> {
    let keeps = request.build_args.get(KEEP_GIT_DIR_ARG).cloned().flatten();
    Means {
        secrets: &request.secrets,
        ssh: &request.ssh,
        caller: request.caller.as_ref(),
        keep_git_dir: keeps
            .map(|value| matches!(value.as_str(), "1" | "true" | "True" | "TRUE" | "t" | "T")),
    }
}

/// The image, or why there is none, with what became of the steps.
type Solved = (Result<ImageId, BuildError>, Vec<StepRecord>);

fn solve_plan(
    store: &Store,
    host: &dyn Host,
    (request, imported): (&BuildRequest, &Imported),
    id: &str,
    plan: &Plan,
    contexts: &BTreeMap<String, Context>,
    events: &mut dyn FnMut(BuildEvent),
) -> Result<Solved, BuildError> {
    let labels = labels(plan, request);
    let wanted = wanted(plan);
    let options = request.solve_options(id, plan.epoch.clone());
    let (sender, received) = channel();
    let input = SolveInput {
        graph: &plan.graph,
        wanted: &wanted,
        labels: &labels,
        images: &plan.images,
        contexts,
        options: &options,
        imported,
        depth: 0,
    };
    let solver = Solver::new(store, host, input, sender)?;
    let assembler = Assembler::new(store, plan, request.no_cache, imported)?;
    let mut narrator = Narrator::new(plan, &solver, assembler, received, events);
    let (solved, told) = std::thread::scope(|scope| {
        let solving = scope.spawn(|| {
            let _closing = solver.closing();
            solver.run()
        });
        let told = narrator.tell();
        let solved = solving
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        (solved, told)
    });
    let result = solved.and_then(|()| match told? {
        Some(finished) => {
            let touches = touches(request, plan)?;
            let is_touched = touches != Touches::default();
            let finished = finish(store, plan, finished, &touches)?;
            if is_touched {
                narrator.say(BuildEvent::StageDone { id: finished.id });
            }
            let assembler = narrator.assembler();
            let used = UsedKeys {
                result: [solver.used_keys(&wanted), assembler.used_keys()].concat(),
                all: [solver.used_keys(&[]), assembler.used_keys()].concat(),
            };
            used.keep(store, id)?;
            let inline = has_inline_cache(request)
                .then(|| ExportedCache::of(store, &used.result))
                .transpose()?;
            assembler.store_image(&finished, inline.as_ref(), host)
        }
        None => Err(BuildError::instruction("no build stage in current context")),
    });
    if result.is_ok() {
        solver.remember_hits()?;
    }
    Ok((result, step_records(plan, &solver)))
}

/// Opens the caches of other machines; what is wrong with them is a warning.
fn imported(host: &dyn Host, request: &BuildRequest) -> Imported {
    let mut imported = Imported::default();
    for name in &request.cache_from {
        match host.base_image(name, false, request.platform.as_ref()) {
            Ok(image) if imported.add_image(name, &image) => {}
            Ok(_) => imported.warn(name, "the image holds no cache"),
            Err(error) => imported.warn(name, &error.to_string()),
        }
    }
    for directory in &request.cache_directories {
        imported.add_directory(directory, request.caller.as_ref());
    }
    imported
}

fn tell_warnings(imported: &Imported, events: &mut dyn FnMut(BuildEvent)) {
    for text in imported.take_warnings() {
        events(BuildEvent::GlobalWarning { text });
    }
}

/// Says whether the image is to hold what its steps led to.
fn has_inline_cache(request: &BuildRequest) -> bool {
    let argument = request.build_args.get(INLINE_CACHE_ARG);
    request.inline_cache || argument.is_some_and(|value| value.as_deref() == Some("1"))
}

/// Returns what is done to the image in the end.
fn touches(request: &BuildRequest, plan: &Plan) -> Result<Touches, BuildError> {
    let latest = match (&plan.epoch, request.rewrite_timestamp) {
        (_, false) => None,
        (Some(epoch), true) => {
            let time: jiff::Timestamp = epoch
                .parse()
                .map_err(|_| BuildError::instruction(format!("{epoch:?} is no time")))?;
            Some(time.as_second())
        }
        (None, true) => {
            return Err(BuildError::instruction(
                "rewrite-timestamp needs --build-arg SOURCE_DATE_EPOCH=SECONDS",
            ));
        }
    };
    Ok(Touches {
        squash: request.squash,
        latest,
    })
}

/// Returns what the target needs: every state of its own stage and of the stages that it is built on.
fn wanted(plan: &Plan) -> Vec<Edge> {
    let mut wanted = Vec::new();
    let mut stage = plan.stages.last();
    while let Some(at) = stage {
        wanted.extend(at.start.output);
        wanted.extend(at.steps.iter().filter_map(|step| step.state.output));
        stage = match at.base {
            StageBase::Stage(index) => plan.stages.get(index),
            _ => None,
        };
    }
    wanted.sort_unstable();
    wanted.dedup();
    wanted
}

/// Returns the vertices that steps lead to, with the step's number, text and place.
fn steps_of(plan: &Plan) -> Vec<(VertexId, usize, usize, usize)> {
    let mut found = Vec::new();
    let mut number = plan.global_args.len();
    for (stage_index, stage) in plan.stages.iter().enumerate() {
        number += 1;
        let mut output = stage.start.output;
        for (index, step) in stage.steps.iter().enumerate() {
            number += usize::from(index >= stage.triggers);
            if let Some(edge) = step.state.output
                && step.state.output != output
            {
                found.push((edge.vertex, number, stage_index, index));
            }
            output = step.state.output;
        }
    }
    found
}

fn labels(plan: &Plan, request: &BuildRequest) -> HashMap<VertexId, Label> {
    let mut labels = HashMap::new();
    for (vertex, number, stage, index) in steps_of(plan) {
        let Some(planned) = plan.stages.get(stage) else {
            continue;
        };
        let Some(step) = planned.steps.get(index) else {
            continue;
        };
        let place = format!(
            "{}\0{}\0{}",
            request.project, request.dockerfile_name, planned.text
        );
        labels.entry(vertex).or_insert_with(|| Label {
            text: step.text.clone(),
            number,
            slot: place,
            place: index,
            args: request.build_args.keys().cloned().collect(),
        });
    }
    labels
}

fn step_records(plan: &Plan, solver: &Solver<'_>) -> Vec<StepRecord> {
    let reports: HashMap<VertexId, solve::Report> = solver.reports().into_iter().collect();
    let steps = steps_of(plan).into_iter();
    steps
        .filter_map(|(vertex, number, stage, index)| {
            let text = plan.stages.get(stage)?.steps.get(index)?.text.clone();
            let report = reports.get(&vertex).cloned().unwrap_or_default();
            let status = match solver.outcome(vertex) {
                Outcome::Cached => StepStatus::Cached,
                Outcome::Executed => StepStatus::Executed,
                Outcome::Failed => StepStatus::Failed,
                Outcome::Pending => StepStatus::NotReached,
                Outcome::NotNeeded => StepStatus::NotNeeded,
            };
            Some(StepRecord {
                number,
                text,
                vertex: plan.graph.vertex(vertex).digest,
                status,
                started_ms: report.started_ms,
                completed_ms: report.completed_ms,
                causes: report.causes,
            })
        })
        .collect()
}

/// Adds the line of the Dockerfile to the error of a step that cannot be begun.
fn with_line(
    error: BuildError,
    plan: &Plan,
    file: &DockerfileText,
    dockerfile: &Dockerfile,
) -> BuildError {
    let BuildError::Step { vertex, error, .. } = error else {
        return error;
    };
    let places = steps_of(plan).into_iter();
    let text = places
        .filter(|(found, ..)| *found == vertex)
        .find_map(|(_, _, stage, index)| Some(&plan.stages.get(stage)?.steps.get(index)?.text));
    let mut instructions = dockerfile
        .stages
        .iter()
        .flat_map(|stage| &stage.instructions);
    let found = instructions.find(|instruction| Some(&instruction.original) == text);
    let shown = found.map(|instruction| {
        let line = checks::line_of(file, &instruction.location);
        match escaping_source(&instruction.kind) {
            Some(path) => format!(
                "{line}\nnote: {path} leads out of the build context, which COPY cannot leave"
            ),
            None => line,
        }
    });
    BuildError::Step {
        vertex,
        error,
        shown: shown.unwrap_or_default(),
    }
}

/// Returns a source of COPY or ADD whose `..` lead out of the context.
fn escaping_source(kind: &InstructionKind) -> Option<&str> {
    let (InstructionKind::Copy(copy) | InstructionKind::Add(copy)) = kind else {
        return None;
    };
    let leads_out = |path: &&String| {
        let mut depth = 0_usize;
        path.split('/').any(|part| match part {
            "" | "." => false,
            ".." => match depth.checked_sub(1) {
                Some(above) => {
                    depth = above;
                    false
                }
                None => true,
            },
            _ => {
                depth += 1;
                false
            }
        })
    };
    let mut sources = copy.sources.iter();
    sources.find(leads_out).map(String::as_str)
}

/// Returns a name that no other build has.
fn new_build_id(project: &str) -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let now = jiff::Timestamp::now().as_nanosecond();
    let digest = Digest::of(format!("{project} {now} {number} {}", std::process::id()));
    digest.hex().chars().take(BUILD_ID_CHARS).collect()
}

/// Reads the Dockerfile; tells what its text alone shows to be wrong.
fn read(file: &DockerfileText) -> Result<Dockerfile, BuildError> {
    read_with(file, |_| Vec::new())
}

/// Reads the Dockerfile to lower it: with mistakes in its text those are told, too, that lowering finds in the rest. For
/// that only images that are here are looked at.
fn read_whole(
    host: &dyn Host,
    request: &BuildRequest,
    file: &DockerfileText,
) -> Result<Dockerfile, BuildError> {
    read_with(file, |dockerfile| {
        let mut find_base = |name: &str, platform: &Platform| {
            let found = host.local_image(name, platform);
            found.ok_or_else(|| BuildError::Host(format!("{name} is not here").into()))
        };
        let find_time = |_: &TimeSource| Ok(None);
        with_input(request, file, dockerfile, &find_time, |input| {
            let input = LowerInput {
                is_partial: true,
                ..input
            };
            other_mistakes(&input, &mut find_base)
        })
    })
}

fn read_with(
    file: &DockerfileText,
    others: impl FnOnce(&Dockerfile) -> Vec<Diagnostic>,
) -> Result<Dockerfile, BuildError> {
    let (dockerfile, mut errors) = load(&file.text);
    errors.retain(Diagnostic::is_error);
    if errors.is_empty() {
        return Ok(dockerfile);
    }
    errors.extend(others(&dockerfile));
    Err(BuildError::dockerfile(&file.name, &file.text, errors))
}

/// Finds the time that `SOURCE_DATE_EPOCH` names, in seconds since 1970.
fn find_time(
    store: &Store,
    host: &dyn Host,
    request: &BuildRequest,
    source: &TimeSource,
) -> Result<Option<i64>, BuildError> {
    let source = match (source, &request.context) {
        (TimeSource::Source(source), _) => source.clone(),
        (TimeSource::MainContext, ContextSource::Git(address)) => {
            let url = wharf_dockerfile::parse_git_url(address)
                .map_err(|error| BuildError::instruction(error.to_string()))?;
            git_source(&url, None, None)
        }
        // Files have times, a directory as a whole has none that anybody could rely on.
        (TimeSource::MainContext, _) => return Ok(None),
    };
    if source.identifier.starts_with("git://") {
        return commit_seconds(store, &source, &means(request)).map(Some);
    }
    let asked = FetchRequest {
        url: source.identifier.clone(),
        ..FetchRequest::default()
    };
    let fetched = host.fetch(&asked).map_err(BuildError::Host)?;
    match fetched.last_modified {
        Some(time) => Ok(Some(time.seconds)),
        None => Err(BuildError::instruction(format!(
            "SOURCE_DATE_EPOCH: the server does not say when {} last changed",
            source.identifier
        ))),
    }
}

/// Lowers the Dockerfile of a request.
fn lower_request(
    request: &BuildRequest,
    file: &DockerfileText,
    dockerfile: &Dockerfile,
    (find_base, find_time): (&mut FindBase<'_>, &FindTime<'_>),
) -> Result<Plan, BuildError> {
    with_input(request, file, dockerfile, find_time, |input| {
        lower(&input, find_base)
    })
}

/// Calls a function with what lowering a request's Dockerfile depends on.
fn with_input<T>(
    request: &BuildRequest,
    file: &DockerfileText,
    dockerfile: &Dockerfile,
    find_time: &FindTime<'_>,
    call: impl FnOnce(LowerInput<'_>) -> T,
) -> T {
    let build_platform = Platform::host();
    call(LowerInput {
        dockerfile,
        file_name: &file.name,
        source: &file.text,
        build_args: &request.build_args,
        labels: &request.labels,
        target: &request.target,
        platform: request
            .platform
            .clone()
            .unwrap_or_else(|| build_platform.clone()),
        build_platform,
        contexts: &request.named_contexts(),
        allow_insecure: request.allow_insecure,
        network_mode: &request.network_mode,
        find_time,
        is_partial: false,
    })
}
