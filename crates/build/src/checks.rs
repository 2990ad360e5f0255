//! Checks of a Dockerfile, and what it can be given, without building anything.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use wharf_dockerfile::lint::{self, LintConfig, LintInput};
use wharf_dockerfile::{
    Diagnostic, Dockerfile, IgnoreFile, Location, Outline, Phase, Severity, Target, interpret,
    outline, parse, render, targets,
};
use wharf_image::{ContainerConfig, Digest, ImageConfig, Platform};
use wharf_store::Store;

use crate::context::{Context, DockerfileText};
use crate::dockerfile::{lower_request, read, read_whole};
use crate::lower::{OCI_LAYOUT, TimeSource};
use crate::solve::Means;
use crate::{BaseImage, BuildError, BuildRequest, Finding, Host};

/// How long registries are asked in vain before all others are left alone.
const REGISTRY_PATIENCE: Duration = Duration::from_secs(5);
/// The build argument that stands for the `check` directive.
const CHECK_ARG: &str = "BUILDKIT_DOCKERFILE_CHECK";

/// What can be asked about a Dockerfile (`docker build --call`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Question {
    /// What is wrong or unwise.
    Check,
    /// What the target can be given.
    Outline,
    /// Which stages can be built.
    Targets,
}

/// An answer about a Dockerfile.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The Dockerfile's path.
    pub file_name: String,
    /// Its text.
    pub text: String,
    /// What was asked for.
    pub about: About,
}

/// What is said about a Dockerfile.
#[derive(Debug, Clone)]
pub enum About {
    /// Findings of the checks by line, and why it cannot be built, if so.
    Check {
        /// The findings.
        warnings: Vec<Diagnostic>,
        /// Why it cannot be built: the first mistake.
        error: Option<Mistake>,
        /// All mistakes in the Dockerfile, where there are several.
        mistakes: Vec<Mistake>,
        /// Base images that nothing is known of, a line each.
        notes: Vec<String>,
    },
    /// What the target can be given.
    Outline(Outline),
    /// The stages that can be built.
    Targets(Vec<Target>),
}

/// Why a Dockerfile cannot be built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// The first mistake in one line.
    pub message: String,
    /// First and last line of the instruction, where one is to blame.
    pub lines: Option<(usize, usize)>,
}

/// Answers a question about the request's Dockerfile. Nothing is built.
///
/// Of base images that are not here the configs alone are asked for at their registries; where none answers, nothing is
/// taken to be known of them. They are pulled where the request asks for it.
///
/// # Errors
/// A context or Dockerfile that cannot be read; for all questions but [`Question::Check`] mistakes in the Dockerfile.
pub fn ask(
    store: &Store,
    host: &dyn Host,
    request: &BuildRequest,
    question: Question,
) -> Result<Answer, BuildError> {
    let mut context = Context::open(store, &request.context, &Means::of_request(request))?;
    let file = context.load(request)?;
    let about = match question {
        Question::Check => check_file(host, request, &file, context.known_ignore()),
        Question::Outline => outline_of(host, request, &file)?,
        Question::Targets => About::Targets(targets(&read(&file)?)),
    };
    Ok(Answer {
        file_name: file.name,
        text: file.text,
        about,
    })
}

fn check_file(
    host: &dyn Host,
    request: &BuildRequest,
    file: &DockerfileText,
    ignore: Option<&IgnoreFile>,
) -> About {
    let bases = Bases::new(host, request);
    let lowered = read_whole(host, request, file).and_then(|dockerfile| {
        let mut find = |name: &str, platform: &Platform| bases.find_or_stand_in(name, platform);
        lower_request(request, file, &dockerfile, (&mut find, &no_time))
    });
    let checked = check(request, file, ignore, &bases);
    let (warnings, error) = match (checked, lowered) {
        (Ok(checked), Ok(_)) => {
            let violated = checked.violated;
            let error = (!violated.is_empty()).then(|| BuildError::Checks { rules: violated });
            (checked.warnings, error)
        }
        (Ok(checked), Err(error)) => (checked.warnings, Some(error)),
        (Err(error), _) => (Vec::new(), Some(error)),
    };
    About::Check {
        warnings,
        error: error.as_ref().map(mistake),
        mistakes: error.as_ref().map(mistakes).unwrap_or_default(),
        notes: bases.notes.into_inner(),
    }
}

fn outline_of(
    host: &dyn Host,
    request: &BuildRequest,
    file: &DockerfileText,
) -> Result<About, BuildError> {
    let bases = Bases::new(host, request);
    let dockerfile = read_whole(host, request, file)?;
    let mut find = |name: &str, platform: &Platform| bases.find_or_stand_in(name, platform);
    lower_request(request, file, &dockerfile, (&mut find, &no_time))?;
    let facts = Facts::new(request);
    let base_image = |name: &str, platform: &str| bases.facts(name, platform);
    let input = facts.input(&base_image, None);
    Ok(About::Outline(outline(&dockerfile, &input)))
}

/// Nothing is fetched for an answer: what `SOURCE_DATE_EPOCH` names has no time here.
fn no_time(_: &TimeSource) -> Result<Option<i64>, BuildError> {
    Ok(None)
}

fn mistake(error: &BuildError) -> Mistake {
    let first = match error {
        BuildError::Dockerfile { diagnostics, .. } => diagnostics.first().map(mistake_of),
        _ => None,
    };
    first.unwrap_or_else(|| Mistake {
        message: error.to_string(),
        lines: None,
    })
}

/// Returns the mistakes in the Dockerfile, where there are several.
fn mistakes(error: &BuildError) -> Vec<Mistake> {
    match error {
        BuildError::Dockerfile { diagnostics, .. } if diagnostics.len() > 1 => {
            diagnostics.iter().map(mistake_of).collect()
        }
        _ => Vec::new(),
    }
}

fn mistake_of(diagnostic: &Diagnostic) -> Mistake {
    Mistake {
        message: diagnostic.headline(),
        lines: Some((*diagnostic.lines.start(), *diagnostic.lines.end())),
    }
}

/// What the checks found.
pub(crate) struct Checked {
    /// The findings by line.
    pub warnings: Vec<Diagnostic>,
    /// Names of the rules that fail the build.
    pub violated: Vec<&'static str>,
}

/// Checks a Dockerfile.
///
/// # Errors
/// Settings of the checks that there are not.
pub(crate) fn check(
    request: &BuildRequest,
    file: &DockerfileText,
    ignore: Option<&IgnoreFile>,
    bases: &Bases<'_>,
) -> Result<Checked, BuildError> {
    let parsed = parse(&file.text);
    let (dockerfile, _) = interpret(&parsed.ast);
    let config = config(request, &dockerfile)?;
    let facts = Facts::new(request);
    let base_image = |name: &str, platform: &str| bases.facts(name, platform);
    let input = facts.input(&base_image, ignore);
    let mut warnings = lint::check(&parsed, &dockerfile, &input, &config);
    warnings.extend(lint::check_own(&parsed, &dockerfile, &input, &config));
    warnings.sort_by_key(Diagnostic::line);
    warnings.dedup();
    let violated = config.violated(&warnings);
    Ok(Checked { warnings, violated })
}

/// Returns an instruction's first line, marked, on a line of its own.
pub(crate) fn line_of(file: &DockerfileText, at: &Location) -> String {
    let diagnostic = Diagnostic {
        severity: Severity::Error,
        phase: Phase::File,
        // Stands in the line that is taken away.
        message: file.name.clone(),
        span: at.span.clone(),
        lines: at.start_line..=at.end_line,
        help: None,
        rule: None,
    };
    let shown = render(&file.name, &file.text, &[diagnostic]);
    let lines = shown.split_once('\n').map(|(_, lines)| lines.trim_end());
    format!("\n{}", lines.unwrap_or_default())
}

/// Returns a finding with its source line.
pub(crate) fn finding(file: &DockerfileText, warning: &Diagnostic) -> Finding {
    let shown = render(&file.name, &file.text, std::slice::from_ref(warning));
    // The first line is the message.
    let snippet = shown.split_once('\n').map(|(_, rest)| rest.to_owned());
    Finding {
        rule: warning.rule.unwrap_or_default().to_owned(),
        message: warning.headline(),
        line: warning.line(),
        snippet: snippet.unwrap_or_default(),
    }
}

/// Returns the settings: those of the build argument, else of the directive.
fn config(request: &BuildRequest, dockerfile: &Dockerfile) -> Result<LintConfig, BuildError> {
    let given = request.build_args.get(CHECK_ARG).cloned().flatten();
    let config = match given {
        Some(text) => LintConfig::parse(&text),
        None => LintConfig::from_directives(&dockerfile.directives),
    };
    config.map_err(|error| BuildError::instruction(error.to_string()))
}

/// What the request says, as the checks take it.
pub(crate) struct Facts {
    /// Build arguments that have a value.
    pub build_args: Vec<(String, String)>,
    /// The stage to build; empty means the last.
    pub target: String,
    /// Platform to build for.
    pub target_platform: String,
    /// Platform that steps run on.
    pub build_platform: String,
}

/// Returns the build arguments that have a value.
pub(crate) fn given(build_args: &BTreeMap<String, Option<String>>) -> Vec<(String, String)> {
    let pairs = build_args.iter();
    pairs
        .filter_map(|(name, value)| Some((name.clone(), value.clone()?)))
        .collect()
}

/// Writes a platform, this machine's where there is none.
pub(crate) fn shown(platform: Option<&Platform>) -> String {
    platform.map_or_else(|| Platform::host().to_string(), ToString::to_string)
}

impl Facts {
    fn new(request: &BuildRequest) -> Self {
        Self {
            build_args: given(&request.build_args),
            target: request.target.clone(),
            target_platform: shown(request.platform.as_ref()),
            build_platform: shown(None),
        }
    }

    /// Returns what the checks and the outline take.
    pub fn input<'a>(
        &'a self,
        base_image: &'a dyn Fn(&str, &str) -> Option<lint::BaseImage>,
        ignore: Option<&'a IgnoreFile>,
    ) -> LintInput<'a> {
        LintInput {
            build_args: &self.build_args,
            target: Some(self.target.as_str()),
            target_platform: &self.target_platform,
            build_platform: &self.build_platform,
            base_image,
            ignore,
        }
    }
}

/// Base images, each looked up once.
pub(crate) struct Bases<'a> {
    host: &'a dyn Host,
    pull: bool,
    known: RefCell<HashMap<(String, String), Option<BaseImage>>>,
    /// What is said about images that nothing is known of.
    notes: RefCell<Vec<String>>,
    /// How long registries were asked in vain.
    waited: Cell<Duration>,
}

impl<'a> Bases<'a> {
    /// Finds images with a host, as the request wants them.
    pub fn new(host: &'a dyn Host, request: &BuildRequest) -> Self {
        Self {
            host,
            pull: request.pull,
            known: RefCell::default(),
            notes: RefCell::default(),
            waited: Cell::default(),
        }
    }

    /// Returns an image, pulled where it is not here.
    pub fn find(&self, name: &str, platform: &Platform) -> Result<BaseImage, BuildError> {
        let key = (name.to_owned(), platform.to_string());
        if let Some(Some(image)) = self.known.borrow().get(&key) {
            return Ok(image.clone());
        }
        if self.host.is_cancelled() {
            return Err(BuildError::Cancelled);
        }
        let found = match name.strip_prefix(OCI_LAYOUT) {
            Some(layout) => self.host.layout_image(layout, Some(platform)),
            None => self.host.base_image(name, self.pull, Some(platform)),
        };
        let image = found.map_err(BuildError::Host)?;
        self.known.borrow_mut().insert(key, Some(image.clone()));
        Ok(image)
    }

    /// Returns an image that is here, else what its registry tells of it, else one that holds nothing in its place; with
    /// `--pull` as [`Bases::find`].
    fn find_or_stand_in(&self, name: &str, platform: &Platform) -> Result<BaseImage, BuildError> {
        if self.pull {
            return self.find(name, platform);
        }
        let key = (name.to_owned(), platform.to_string());
        let mut known = self.known.borrow_mut();
        let found = known.entry(key).or_insert_with(|| {
            let local = self.host.local_image(name, platform);
            local.or_else(|| self.ask_registry(name, platform))
        });
        Ok(found.clone().unwrap_or_else(|| stand_in(name, platform)))
    }

    /// Asks a registry for a config; notes why there is none.
    fn ask_registry(&self, name: &str, platform: &Platform) -> Option<BaseImage> {
        if name.starts_with(OCI_LAYOUT) {
            return None;
        }
        let began = Instant::now();
        let reason = if self.waited.get() > REGISTRY_PATIENCE {
            "registries do not answer".to_owned()
        } else {
            match self.host.image_config(name, platform) {
                Ok(image) => return Some(image),
                Err(error) => {
                    let text = error.to_string();
                    text.lines().next().unwrap_or_default().to_owned()
                }
            }
        };
        self.waited.set(self.waited.get() + began.elapsed());
        let note = format!("the checks know nothing of {name}, which is not here: {reason}");
        self.notes.borrow_mut().push(note);
        None
    }

    /// Returns what the checks know of an image.
    fn facts(&self, name: &str, platform: &str) -> Option<lint::BaseImage> {
        let known = self.known.borrow();
        let platform = Platform::parse(platform).map_or(platform.to_owned(), |it| it.to_string());
        let found = known.get(&(name.to_owned(), platform));
        let Some(Some(image)) = found else {
            return Some(lint::BaseImage {
                is_unknown: true,
                ..lint::BaseImage::default()
            });
        };
        Some(image_facts(image))
    }
}

/// Returns what the checks look at of an image.
pub(crate) fn image_facts(image: &BaseImage) -> lint::BaseImage {
    let config = &image.config;
    let container = config.config.clone().unwrap_or_default();
    let own = Platform {
        os: config.os.clone(),
        architecture: config.architecture.clone(),
        variant: config.variant.clone().unwrap_or_default(),
        ..Platform::default()
    };
    let split = |entry: &String| {
        let (key, value) = entry.split_once('=').unwrap_or((entry, ""));
        (key.to_owned(), value.to_owned())
    };
    lint::BaseImage {
        platform: own.normalized().to_string(),
        env: container.env.iter().map(split).collect(),
        has_shell: !container.shell.is_empty(),
        on_build: container.on_build,
        is_unknown: false,
    }
}

/// Returns an image in the place of one that is not here.
fn stand_in(name: &str, platform: &Platform) -> BaseImage {
    BaseImage {
        id: Digest::of(name),
        digest: None,
        config: Arc::new(ImageConfig {
            os: platform.os.clone(),
            architecture: platform.architecture.clone(),
            variant: Some(platform.variant.clone()).filter(|variant| !variant.is_empty()),
            config: Some(ContainerConfig::default()),
            ..ImageConfig::default()
        }),
    }
}
