//! One message of a long operation's answer (spec engine-api §2.3).

use crate::human;
use serde::Serialize;
use serde_json::{Value, json};
use wharf_engine::model::view::Progress;

/// Marks what a build's solver did.
const SOLVE_ID: &str = "wharf.solve";

/// Columns of a progress bar's inside.
const BAR_COLUMNS: u64 = 50;

/// One message, keys in docker's order; empty ones are left out.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Message {
    #[serde(skip_serializing_if = "Option::is_none")]
    stream: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<String>,
    #[serde(rename = "progressDetail", skip_serializing_if = "Option::is_none")]
    progress_detail: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    progress: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    #[serde(rename = "errorDetail", skip_serializing_if = "Option::is_none")]
    error_detail: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    aux: Option<Value>,
}

impl Message {
    /// Makes a text that clients print as it is.
    fn stream(text: String) -> Self {
        Self {
            stream: Some(text),
            ..Self::default()
        }
    }

    /// Makes the line that tells a failure; `code` is the exit code of the program that failed.
    pub(crate) fn error(message: &str, code: Option<i32>) -> Self {
        let detail = match code {
            Some(code) => json!({"code": code, "message": message}),
            None => json!({"message": message}),
        };
        Self {
            error_detail: Some(detail),
            error: Some(message.to_owned()),
            ..Self::default()
        }
    }
}

impl From<Progress> for Message {
    fn from(progress: Progress) -> Self {
        match progress {
            Progress::Stream(text) => Self::stream(text),
            Progress::ImageId(id) => Self {
                aux: Some(json!({"ID": id.to_string()})),
                ..Self::default()
            },
            Progress::Solve(event) => Self {
                id: Some(SOLVE_ID.to_owned()),
                aux: Some(serde_json::to_value(event).unwrap_or_default()),
                ..Self::default()
            },
            Progress::Pushed {
                tag,
                digest,
                size_bytes,
            } => Self {
                progress_detail: Some(json!({})),
                aux: Some(json!({"Tag": tag, "Digest": digest.to_string(), "Size": size_bytes})),
                ..Self::default()
            },
            Progress::Status {
                id,
                status,
                progress,
            } => {
                // The head of a pull names its tag as id but is no part that progresses.
                let is_part = id.is_some() && !status.starts_with("Pulling from ");
                Self {
                    progress_detail: progress
                        .map(|(current, total)| detail(current, total))
                        .or_else(|| is_part.then(|| json!({}))),
                    progress: progress.map(|(current, total)| bar(current, total)),
                    status: Some(status),
                    id,
                    ..Self::default()
                }
            }
        }
    }
}

/// Returns `progressDetail`, without numbers that are 0.
fn detail(current: u64, total: u64) -> Value {
    match (current, total) {
        (0, 0) => json!({}),
        (0, total) => json!({"total": total}),
        (current, 0) => json!({"current": current}),
        (current, total) => json!({"current": current, "total": total}),
    }
}

/// Returns the bar text that clients up to 28.x print: `[==>   ]  36.35kB/3.622MB`.
fn bar(current: u64, total: u64) -> String {
    if total == 0 || current > total {
        return format!("{:>8}", human::size(current));
    }
    // u128: sizes times 100 may leave u64.
    let filled = (u128::from(current) * 100 / u128::from(total) / 2) as u64;
    let (filled, empty) = (filled.min(BAR_COLUMNS), BAR_COLUMNS.saturating_sub(filled));
    format!(
        "[{}>{}] {:>8}/{}",
        "=".repeat(filled as usize),
        " ".repeat(empty as usize),
        human::size(current),
        human::size(total),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(progress: Progress) -> String {
        serde_json::to_string(&Message::from(progress)).expect("plain data")
    }

    fn part(status: &str, progress: Option<(u64, u64)>) -> Progress {
        Progress::Status {
            id: Some("c6a83fedfae6".into()),
            status: status.into(),
            progress,
        }
    }

    #[test]
    fn lines_match_the_pull_example() {
        assert_eq!(
            line(Progress::Status {
                id: Some("3.20".into()),
                status: "Pulling from library/alpine".into(),
                progress: None
            }),
            r#"{"status":"Pulling from library/alpine","id":"3.20"}"#
        );
        assert_eq!(
            line(part("Pulling fs layer", None)),
            r#"{"status":"Pulling fs layer","progressDetail":{},"id":"c6a83fedfae6"}"#
        );
        assert_eq!(
            line(part("Downloading", Some((36_352, 3_622_094)))),
            format!(
                r#"{{"status":"Downloading","progressDetail":{{"current":36352,"total":3622094}},"progress":"[>{}]  36.35kB/3.622MB","id":"c6a83fedfae6"}}"#,
                " ".repeat(50)
            )
        );
        assert_eq!(line(Progress::Stream("a\n".into())), r#"{"stream":"a\n"}"#);
        assert_eq!(
            line(Progress::Status {
                id: None,
                status: "Digest: x".into(),
                progress: None
            }),
            r#"{"status":"Digest: x"}"#
        );
    }

    #[test]
    fn errors_carry_the_exit_code() {
        assert_eq!(
            serde_json::to_string(&Message::error("boom", Some(3))).expect("plain data"),
            r#"{"errorDetail":{"code":3,"message":"boom"},"error":"boom"}"#
        );
    }

    #[test]
    fn bars_fill() {
        assert!(bar(50, 100).starts_with(&format!("[{}>{}]", "=".repeat(25), " ".repeat(25))));
        assert!(bar(100, 100).starts_with(&format!("[{}>]", "=".repeat(50))));
        assert_eq!(bar(5, 0), "      5B");
        assert!(bar(u64::MAX, u64::MAX).starts_with("[====="));
    }
}
