//! The conformance corpus (`tests/conformance/`): every case is built with wharf and compared with what BuildKit made of it.
//!
//! `record` writes what a real daemon makes (see `scripts/record-conformance`); the other tests build every case with
//! wharf's client and with docker's classic client, and compare.

mod case;
mod image;
mod record;
mod report;

use self::case::{Case, Served};
use self::report::Report;
use crate::harness::{Called, Client, Daemon, docker_program, skip};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Builds at the same time.
const THREADS: usize = 4;
/// What the corpus holds at least.
const LEAST_CASES: usize = 150;
/// What its records take at most.
const MOST_RECORDED_BYTES: usize = 1 << 20;
/// What is not older than this was made by the build: files of cases have times of long ago.
const RECENT: Duration = Duration::from_secs(24 * 3600);

#[test]
fn wharf_builds_what_buildkit_builds() {
    run(Client::Wharf);
}

#[test]
fn the_classic_api_builds_what_buildkit_builds() {
    if docker_program().is_none() {
        skip("the docker CLI is not installed (set WHARF_TEST_DOCKER to its path)");
        return;
    }
    run(Client::Docker);
}

/// The corpus is as large as it has to be, and its parts belong together.
#[test]
fn the_corpus_is_whole() {
    let cases = Case::read_all(&corpus());
    assert!(cases.len() >= LEAST_CASES, "{} cases", cases.len());
    let mut bytes = 0;
    for case in &cases {
        let expected = record::expected(&case.id);
        bytes += expected
            .unwrap_or_else(|| panic!("{} has no record", case.id))
            .len();
        assert!(
            !case.title.is_empty(),
            "{} does not say what it shows",
            case.id
        );
    }
    assert!(bytes < MOST_RECORDED_BYTES, "{bytes} bytes of records");
    for id in report::listed() {
        assert!(
            cases.iter().any(|case| case.id == id),
            "differences.txt names {id}"
        );
    }
}

/// Builds all cases with a client and compares.
fn run(client: Client) {
    let daemon = Daemon::with_busybox();
    let base = daemon.layers(Client::Wharf, "busybox")[0].clone();
    let cases = chosen(client);
    let report = Mutex::new(Report::new(client));
    each(&cases, |case| {
        let expected = record::expected(&case.id);
        let Some(expected) = expected else {
            report.lock().unwrap().unrecorded(case);
            return;
        };
        let outcome = build(&daemon, client, case, &base);
        report.lock().unwrap().compare(case, &expected, &outcome);
    });
    report.into_inner().unwrap().finish();
}

/// Returns the cases that a client can express here and that `WHARF_CONFORMANCE` (a part of their ids) chooses.
fn chosen(client: Client) -> Vec<Case> {
    let part = std::env::var("WHARF_CONFORMANCE").unwrap_or_default();
    let machine = rustix::system::uname()
        .machine()
        .to_string_lossy()
        .into_owned();
    let mut cases = Case::read_all(&corpus());
    cases.retain(|case| case.id.contains(&part));
    if client == Client::Docker {
        cases.retain(|case| case.not_classic.is_none());
    }
    for case in cases.iter().filter(|case| !case.runs_on(&machine)) {
        skip(&format!(
            "conformance case {} is for {}",
            case.id, case.machine
        ));
    }
    cases.retain(|case| case.runs_on(&machine));
    cases
}

/// Calls a function for every case, several at a time.
fn each(cases: &[Case], call: impl Fn(&Case) + Sync) {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    call(case);
                }
            });
        }
    });
}

/// What a build gave.
enum Outcome {
    /// The image, rendered.
    Image(String),
    /// What was said.
    Error(String),
}

impl Outcome {
    /// Leaves out the addresses of what was served.
    fn named(self, served: &Served) -> Self {
        match self {
            Self::Image(text) => Self::Image(served.named(&text)),
            Self::Error(said) => Self::Error(served.named(&said)),
        }
    }
}

fn build(daemon: &Daemon, client: Client, case: &Case, base: &str) -> Outcome {
    let directory = tempfile::Builder::new()
        .prefix("case-")
        .tempdir_in(daemon.path(""))
        .unwrap();
    let served = case.lay_out(directory.path(), None);
    let prepare = |arguments: &[String]| {
        let mut command = daemon.command(client);
        command.args(arguments).current_dir(directory.path());
        command
    };
    build_with(&prepare, case, directory.path(), base).named(&served)
}

/// Builds a case with commands that `prepare` makes of arguments and renders the image.
fn build_with(
    prepare: &dyn Fn(&[String]) -> Command,
    case: &Case,
    directory: &Path,
    base: &str,
) -> Outcome {
    for arguments in &case.before {
        let called = called(prepare(&build_arguments(arguments, directory)));
        assert_eq!(called.code, 0, "{}: {called:?}", case.id);
    }
    let tag = case.tag();
    let output = directory.join("output");
    let mut arguments = match &case.output {
        None => vec!["-t".to_owned(), tag.clone()],
        Some(kind) => vec![
            "-o".to_owned(),
            format!("type={kind},dest={}", output.display()),
        ],
    };
    arguments.extend(case.build.iter().cloned());
    let mut command = prepare(&build_arguments(&arguments, directory));
    command.envs(case.environment.iter().cloned());
    let built = called(command);
    if built.code != 0 {
        return Outcome::Error(format!("{}{}", built.stdout, built.stderr));
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let now_seconds = (now - RECENT).as_secs();
    match case.output.as_deref() {
        None => {}
        Some("oci") => return Outcome::Image(image::render_layout(&output, base, now_seconds)),
        Some("docker") => return Outcome::Image(image::render(&output, base, now_seconds)),
        Some(_) => return Outcome::Image(image::render_files(&output, now_seconds)),
    }
    let archive = directory.join("image.tar");
    let save = ["save", "-o", archive.to_str().unwrap(), &tag].map(str::to_owned);
    let saved = called(prepare(&save));
    assert_eq!(saved.code, 0, "{}: {saved:?}", case.id);
    Outcome::Image(image::render(&archive, base, now_seconds))
}

/// Returns the arguments of a build whose files lie in a directory. Context and Dockerfile are named by their whole
/// paths: BuildKit takes files of contexts of the same name for each other where size and time are the same.
fn build_arguments(arguments: &[String], directory: &Path) -> Vec<String> {
    let mut all = vec!["build".to_owned()];
    for argument in arguments {
        let is_file = all.last().is_some_and(|last| last == "-f");
        all.push(if is_file {
            directory.join(argument).display().to_string()
        } else {
            argument.clone()
        });
    }
    all.push(directory.join("context").display().to_string());
    all
}

fn called(mut command: Command) -> Called {
    let output = command.stdin(std::process::Stdio::null()).output().unwrap();
    Called {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Returns the directory of the corpus.
fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/conformance")
}
