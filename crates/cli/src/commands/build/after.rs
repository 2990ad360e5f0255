//! After a build: why steps ran again, and a look into the one that failed.

use clap::FromArgMatches;
use serde::Deserialize;
use serde_json::Value as Json;

use crate::arguments::{Arguments, Command};
use crate::commands::build::BuildArgs;
use crate::commands::build::secrets;
use crate::commands::container::run;
use crate::error::{CliError, Result};
use crate::host_files;
use crate::http::Request;
use crate::session::Session;
use crate::terminal;

/// A step that failed, as the daemon tells it.
#[derive(Debug, Deserialize)]
struct Failed {
    step: FailedStep,
    /// Directory and destination of each cache mount.
    caches: Vec<(String, String)>,
}

#[derive(Debug, Deserialize)]
struct FailedStep {
    image: String,
    step: String,
    network: String,
    tmpfs: Vec<(String, u64)>,
    /// ID and destination, or `env:NAME`.
    secrets: Vec<(String, String)>,
}

/// Ends a build that failed: opens a shell where that was asked for, else says how.
pub async fn failed(
    session: &mut Session,
    args: &BuildArgs,
    build: Option<&str>,
    error: CliError,
) -> Result<()> {
    let CliError::Stream { code: Some(_), .. } = &error else {
        return Err(error);
    };
    let Some(build) = build else {
        return Err(error);
    };
    if args.on_error.is_some() {
        if let Some(report) = error.report() {
            session.output.talk(&report);
        }
        // The build has failed whatever is done in the shell.
        // What the shell itself ends with has no report.
        let opened = open_shell(session, build, &args.secret).await;
        if let Some(problem) = opened.err().and_then(|problem| problem.report()) {
            session.output.talk(&format!(
                "cannot open a shell in the failed step: {problem}"
            ));
        }
        return Err(error);
    }
    session.output.talk(&format!(
        "hint: `wharf builder shell {build}` opens a shell in the files of the failed step"
    ));
    Err(error)
}

/// Opens a shell in the files of the step that failed, with its environment, mounts and working directory.
pub async fn open_shell(session: &mut Session, build: &str, secrets: &[String]) -> Result<()> {
    let request = Request::get("/wharf/build/failed").query("build", build);
    let failed: Failed = session.client.send(request).await?.json().await?;
    session
        .output
        .talk(&format!("a shell in the files of {}", failed.step.step));
    let secrets = SecretFiles::read(secrets)?;
    let words = shell_arguments(&failed, &secrets, terminal::stdin_is_terminal());
    let matches = crate::arguments::command_for(&words)
        .try_get_matches_from(&words)
        .map_err(|error| CliError::usage(error.to_string()))?;
    let parsed = Arguments::from_arg_matches(&matches)
        .map_err(|error| CliError::usage(error.to_string()))?;
    match parsed.command {
        Command::Run(args) => run::run_command(session, args).await,
        _ => Err(CliError::usage("the shell's command line is none of run")),
    }
}

/// Secrets in files of this process, for the time of a shell.
struct SecretFiles {
    directory: tempfile::TempDir,
    /// By ID.
    values: Vec<(String, Vec<u8>)>,
}

impl SecretFiles {
    fn read(values: &[String]) -> Result<Self> {
        let directory = tempfile::tempdir()
            .map_err(|error| CliError::io("making a directory for the secrets", error))?;
        let variable = |name: &str| std::env::var(name).ok();
        let mut read = Vec::new();
        for value in values {
            let (id, content) = secrets::secret(value, &variable)?;
            let path = directory.path().join(read.len().to_string());
            host_files::replace_private(&path, &content)?;
            read.push((id, content));
        }
        Ok(Self {
            directory,
            values: read,
        })
    }
}

fn shell_arguments(
    failed: &Failed,
    secrets: &SecretFiles,
    is_terminal: bool,
) -> Vec<std::ffi::OsString> {
    let mut words: Vec<String> = ["wharf", "run", "--rm", "-i"].map(str::to_owned).to_vec();
    if is_terminal {
        words.push("-t".to_owned());
    }
    if matches!(failed.step.network.as_str(), "none" | "host") {
        words.extend(["--network".to_owned(), failed.step.network.clone()]);
    }
    for (directory, destination) in &failed.caches {
        words.extend(["-v".to_owned(), format!("{directory}:{destination}")]);
    }
    for (destination, size) in &failed.step.tmpfs {
        let size = if *size > 0 {
            format!(":size={size}")
        } else {
            String::new()
        };
        words.extend(["--tmpfs".to_owned(), format!("{destination}{size}")]);
    }
    for (id, destination) in &failed.step.secrets {
        let Some(number) = secrets.values.iter().position(|(known, _)| known == id) else {
            continue;
        };
        if let Some(name) = destination.strip_prefix("env:") {
            let value = secrets
                .values
                .get(number)
                .map(|(_, value)| value.as_slice());
            let value = String::from_utf8_lossy(value.unwrap_or_default()).into_owned();
            words.extend(["-e".to_owned(), format!("{name}={value}")]);
        } else {
            let path = secrets.directory.path().join(number.to_string());
            words.extend([
                "-v".to_owned(),
                format!("{}:{destination}:ro", path.display()),
            ]);
        }
    }
    words.push(failed.step.image.clone());
    words.push("/bin/sh".to_owned());
    words.into_iter().map(Into::into).collect()
}

/// Prints why steps ran again: of one build, the newest where the name is empty, and of one step where it is given.
pub async fn explain(session: &mut Session, build: &str, step: Option<usize>) -> Result<()> {
    let record = record(session, build).await?;
    let lines = explanation(&record, step);
    if lines.is_empty() {
        return match step {
            Some(step) => Err(CliError::usage(format!(
                "build {} has no step {step} that changes files",
                record["id"].as_str().unwrap_or_default()
            ))),
            None => session.output.line("no step changes files"),
        };
    }
    for line in lines {
        session.output.line(&line)?;
    }
    Ok(())
}

/// Returns what the daemon remembers of a build.
pub async fn record(session: &mut Session, build: &str) -> Result<Json> {
    let request = Request::get("/wharf/build/record").query("build", build);
    session.client.send(request).await?.json().await
}

/// Returns one line for each step that has something to say.
pub fn explanation(record: &Json, step: Option<usize>) -> Vec<String> {
    let nothing = Vec::new();
    let steps = record["steps"].as_array().unwrap_or(&nothing).iter();
    let wanted =
        steps.filter(|told| step.is_none_or(|step| told["number"].as_u64() == Some(step as u64)));
    wanted
        .map(|told| {
            let causes: Vec<&str> = told["causes"]
                .as_array()
                .unwrap_or(&nothing)
                .iter()
                .filter_map(|cause| cause["text"].as_str())
                .collect();
            let why = match told["status"].as_str() {
                Some("cached") => "cached".to_owned(),
                Some("not-needed") => "not needed".to_owned(),
                Some("not-reached") => "not reached".to_owned(),
                _ if causes.is_empty() => "executed".to_owned(),
                _ => causes.join("; "),
            };
            let text = told["text"].as_str().unwrap_or_default();
            let text: Vec<&str> = text.split_whitespace().collect();
            format!("step {} {}: {why}", told["number"], text.join(" "))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{Failed, SecretFiles, explanation, shell_arguments};
    use serde_json::json;

    #[test]
    fn explanations() {
        let record = json!({ "id": "b", "steps": [
            { "number": 4, "text": "COPY . .", "status": "executed", "causes": [
                { "kind": "files", "text": "2 of 1834 files changed: src/a.c (content), run.sh (mode 0644 → 0755)" }] },
            { "number": 5, "text": "RUN  make \\\n  all", "status": "executed", "causes": [
                { "kind": "input", "text": "its input changed (step 4)" }] },
            { "number": 6, "text": "RUN x", "status": "cached", "causes": [] },
        ]});
        assert_eq!(
            explanation(&record, None),
            [
                "step 4 COPY . .: 2 of 1834 files changed: src/a.c (content), run.sh (mode 0644 → 0755)",
                "step 5 RUN make \\ all: its input changed (step 4)",
                "step 6 RUN x: cached"
            ]
        );
        assert_eq!(explanation(&record, Some(6)), ["step 6 RUN x: cached"]);
        assert!(explanation(&record, Some(7)).is_empty());
    }

    #[test]
    fn shells_get_what_the_step_had() {
        let failed: Failed = serde_json::from_value(json!({
            "step": { "image": "sha256:1", "step": "RUN x", "args": [], "network": "none", "caches": [["/c", "/c"]],
                "tmpfs": [["/t", 5]], "secrets": [["a", "/run/secrets/a"], ["b", "env:B"], ["c", "/run/secrets/c"]] },
            "caches": [["/data/m", "/c"]],
        }))
        .unwrap();
        let secrets = SecretFiles {
            directory: tempfile::tempdir().unwrap(),
            values: vec![("a".into(), b"1".to_vec()), ("b".into(), b"2".to_vec())],
        };
        let words = shell_arguments(&failed, &secrets, false);
        let words: Vec<&str> = words.iter().filter_map(|word| word.to_str()).collect();
        let file = format!(
            "{}:/run/secrets/a:ro",
            secrets.directory.path().join("0").display()
        );
        let expected = [
            "wharf",
            "run",
            "--rm",
            "-i",
            "--network",
            "none",
            "-v",
            "/data/m:/c",
            "--tmpfs",
            "/t:size=5",
            "-v",
            &file,
            "-e",
            "B=2",
            "sha256:1",
            "/bin/sh",
        ];
        assert_eq!(words, expected);
    }
}
