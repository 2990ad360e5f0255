//! `wharf build --call` and `--check`: what is said about a Dockerfile without building it, as docker's buildx prints it.

use std::path::Path;

use crate::commands::build::BuildArgs;
use crate::commands::build::answer::{CheckAnswer, OutlineAnswer, TargetsAnswer};
use crate::commands::build::request::{Purpose, build_request};
use crate::error::{CliError, Result};
use crate::host_files;
use crate::options::misc::go_boolean;
use crate::session::Session;

/// Exit status where the checks found something.
const EXIT_FINDINGS: i32 = 1;

/// What is asked about a Dockerfile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    method: Method,
    /// Whether the answer is printed as JSON.
    is_json: bool,
    /// Whether findings leave the exit status 0.
    ignores_status: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Method {
    Check,
    Outline,
    Targets,
}

impl Method {
    fn name(self) -> &'static str {
        match self {
            Self::Check => "check",
            Self::Outline => "outline",
            Self::Targets => "targets",
        }
    }
}

impl Call {
    /// Reads the flags; nothing where the Dockerfile is to be built.
    pub fn of(args: &BuildArgs) -> Result<Option<Self>> {
        Self::parse(if args.check { "check" } else { &args.call })
    }

    /// Reads `METHOD[,format=FORMAT][,ignorestatus=BOOL]`.
    fn parse(text: &str) -> Result<Option<Self>> {
        let mut name = None;
        let (mut is_json, mut ignores_status) = (false, false);
        for field in text.split(',') {
            match field.split_once('=') {
                Some(("format", format)) => {
                    is_json = match format {
                        "json" => true,
                        "" | "text" => false,
                        other => {
                            return Err(CliError::usage(format!(
                                "invalid format {other:?} in --call {text}: expected json or text"
                            )));
                        }
                    };
                }
                Some(("ignorestatus", value)) => {
                    ignores_status = go_boolean(value).map_err(|_| {
                        CliError::usage(format!("invalid ignorestatus print value: {value}"))
                    })?;
                }
                Some(_) => return Err(CliError::usage(format!("invalid print field: {field}"))),
                None if name.is_some() => {
                    return Err(CliError::usage(format!("invalid print value: {text}")));
                }
                None => name = Some(field),
            }
        }
        let method = match name.unwrap_or_default() {
            "" | "build" => return Ok(None),
            "check" | "lint" => Method::Check,
            "outline" => Method::Outline,
            "targets" => Method::Targets,
            other => {
                return Err(CliError::usage(format!(
                    "invalid --call {other}: expected build, check, outline or targets"
                )));
            }
        };
        Ok(Some(Self {
            method,
            is_json,
            ignores_status,
        }))
    }
}

/// Asks and prints the answer.
pub async fn call_command(session: &mut Session, args: &BuildArgs, call: &Call) -> Result<()> {
    let request = build_request(session, args, &[], Purpose::Call(call.method.name())).await?;
    let response = session.client.send(request).await?;
    match call.method {
        Method::Check => {
            let answer: CheckAnswer = response.json().await?;
            for note in answer.notes() {
                session.output.talk(&format!("note: {note}"));
            }
            print(
                session,
                call,
                &answer,
                &answer.text(&shown_file(args, answer.file())),
            )?;
            if let Some(mistake) = answer.mistake(&shown_file(args, answer.file())) {
                return Err(CliError::Plain(mistake));
            }
            if answer.has_findings() && !call.ignores_status {
                return Err(CliError::Exit(EXIT_FINDINGS));
            }
        }
        Method::Outline => {
            let answer: OutlineAnswer = response.json().await?;
            print(session, call, &answer, &answer.text())?;
        }
        Method::Targets => {
            let answer: TargetsAnswer = response.json().await?;
            print(session, call, &answer, &answer.text())?;
        }
    }
    Ok(())
}

fn print(
    session: &mut Session,
    call: &Call,
    answer: &impl serde::Serialize,
    text: &str,
) -> Result<()> {
    if !call.is_json {
        return session.output.text(text);
    }
    let json = serde_json::to_string_pretty(answer).map_err(|source| CliError::Decode {
        request: "the answer about the Dockerfile".to_owned(),
        source,
    })?;
    // As docker's documents have them; outside of texts these characters do not occur.
    let json = json
        .replace('&', "\\u0026")
        .replace('<', "\\u003c")
        .replace('>', "\\u003e");
    session.output.line(&json)
}

/// Returns how the caller would name the Dockerfile.
fn shown_file(args: &BuildArgs, name: &str) -> String {
    let context = Path::new(&args.context);
    match args.file.as_deref() {
        Some(file) if file != "-" => file.to_owned(),
        None if host_files::metadata(context).is_ok_and(|found| found.is_dir()) => {
            let path = context.join(name);
            let path = path.strip_prefix(".").unwrap_or(&path);
            path.to_string_lossy().into_owned()
        }
        _ => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::{Call, Method};

    #[test]
    fn calls() {
        assert_eq!(Call::parse("build").unwrap(), None);
        let check = Call::parse("check,format=json,ignorestatus=true").unwrap();
        assert_eq!(
            check,
            Some(Call {
                method: Method::Check,
                is_json: true,
                ignores_status: true
            })
        );
        for (text, expected) in [
            ("check,x=1", "invalid print field: x=1"),
            ("check,outline", "invalid print value: check,outline"),
            (
                "foo",
                "invalid --call foo: expected build, check, outline or targets",
            ),
            (
                "check,format=xml",
                "invalid format \"xml\" in --call check,format=xml: expected json or text",
            ),
        ] {
            assert_eq!(Call::parse(text).unwrap_err().to_string(), expected);
        }
    }
}
