//! A build from the request to the stored image, and what is remembered of it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::time::Instant;

use wharf_image::{Digest, ImageId, Platform};
use wharf_llb::Edge;
use wharf_store::Store;

use crate::assemble::Assembler;
use crate::cache_config::{ExportedCache, UsedKeys};
use crate::checks::{self, Bases};
use crate::context::{Context, MAIN_CONTEXT};
use crate::definition::check_platforms;
use crate::dockerfile::{find_time, lower_request, read_whole};
use crate::finish::{Touches, finish};
use crate::imported::Imported;
use crate::lower::TimeSource;
use crate::narrate::Narrator;
use crate::plan::{Plan, StageBase};
use crate::solve::{Means, SolveInput, Solver};
use crate::steps::{labels, step_records, with_line};
use crate::{
    BuildError, BuildEvent, BuildRecord, BuildRequest, Host, NamedSource, SolveEvent, StepRecord,
};

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
    let means = Means::of_request(request);
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

/// The image, or why there is none, with what became of the steps.
type Solved = (Result<ImageId, BuildError>, Vec<StepRecord>);

/// Solves a plan and makes the image of it, telling what happens meanwhile.
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

/// Tells what is wrong with the caches of other machines and was not told yet.
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

/// Returns a name that no other build has.
fn new_build_id(project: &str) -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let now = jiff::Timestamp::now().as_nanosecond();
    let digest = Digest::of(format!("{project} {now} {number} {}", std::process::id()));
    digest.hex().chars().take(BUILD_ID_CHARS).collect()
}
