//! Logs of containers (spec engine-api §11).

use super::attach::content_type;
use crate::call::Call;
use crate::limits::STREAM_CHUNKS;
use crate::query::Query;
use crate::respond::{self, Answer, Failure};
use crate::stdcopy::{self, Stream};
use crate::timestamp::{parse_unix, rfc3339_fixed};
use bytes::Bytes;
use std::collections::BTreeMap;
use tokio::sync::mpsc;
use url::form_urlencoded::byte_serialize;
use wharf_engine::log_tag::{LogFacts, attributes, chosen_attributes};
use wharf_engine::model::request::LogRequest;
use wharf_engine::model::view::LogLine;

/// `GET /containers/{name}/logs`
pub(crate) async fn logs(call: Call) -> Answer {
    let request = log_request(&call.query)?;
    let container = call.engine.container(call.container())?;
    let details = if call.query.switch("details", false) {
        let config = &container.host_config.log_config;
        let facts = LogFacts::from(&*container);
        let chosen = match config.driver.as_str() {
            // It keeps the tag with each line, if one was asked for.
            "json-file" => attributes(&config.options, &facts)?,
            _ => chosen_attributes(&config.options, &facts)?,
        };
        Some(details_text(&chosen))
    } else {
        None
    };
    let mut form = LineForm {
        framed: !container.config.tty,
        timestamps: call.query.switch("timestamps", false),
        details,
        is_inside: [false; 2],
    };
    let mut lines = call
        .engine
        .container_logs(call.container(), request)
        .await?;
    let (sender, chunks) = mpsc::channel(STREAM_CHUNKS);
    tokio::spawn(async move {
        loop {
            let line = tokio::select! {
                line = lines.recv() => line,
                () = sender.closed() => return,
            };
            let (chunk, is_last) = match line {
                None => return,
                Some(Ok(line)) => (form.write(&line), false),
                Some(Err(error)) => (
                    form.write_error(&format!("Error grabbing logs: {error}\n")),
                    true,
                ),
            };
            if sender.send(Ok(chunk)).await.is_err() || is_last {
                return;
            }
        }
    });
    Ok(respond::stream(
        content_type(&call.version, container.config.tty),
        chunks,
    ))
}

fn log_request(query: &Query) -> Result<LogRequest, Failure> {
    let (stdout, stderr) = (query.switch("stdout", false), query.switch("stderr", false));
    if !stdout && !stderr {
        return Err(Failure::bad_request(
            "must specify at least one of 'stdout' or 'stderr'",
        ));
    }
    let time = |key: &str| {
        parse_unix(query.text(key))
            .map(Option::unwrap_or_default)
            .map_err(|text| Failure::bad_request(format!("invalid value for '{key}': {text}")))
    };
    Ok(LogRequest {
        follow: query.switch("follow", false),
        stdout,
        stderr,
        since_ns: time("since")?,
        until_ns: time("until")?,
        // Whatever is no number means all lines, as in docker.
        tail: query.text("tail").parse().ok(),
    })
}

/// How a line is written.
struct LineForm {
    framed: bool,
    timestamps: bool,
    details: Option<String>,
    /// Whether the last piece of standard output, of standard error, did not end its line: what
    /// follows goes on in it.
    is_inside: [bool; 2],
}

impl LineForm {
    fn write(&mut self, line: &LogLine) -> Bytes {
        let mut text = Vec::with_capacity(line.bytes.len() + 64);
        let ends = line.bytes.ends_with(b"\n");
        let [stdout, stderr] = &mut self.is_inside;
        let inside = if line.stderr { stderr } else { stdout };
        let begins = !std::mem::replace(inside, !ends);
        if self.timestamps && begins {
            text.extend_from_slice(rfc3339_fixed(line.time_ns).as_bytes());
            text.push(b' ');
        }
        if let Some(details) = self.details.as_ref().filter(|_| begins) {
            text.extend_from_slice(details.as_bytes());
            text.push(b' ');
        }
        text.extend_from_slice(&line.bytes);
        match (self.framed, line.stderr) {
            (false, _) => Bytes::from(text),
            (true, false) => stdcopy::encode(Stream::Output, &text),
            (true, true) => stdcopy::encode(Stream::Error, &text),
        }
    }

    fn write_error(&self, text: &str) -> Bytes {
        if self.framed {
            return stdcopy::encode(Stream::System, text.as_bytes());
        }
        Bytes::copy_from_slice(text.as_bytes())
    }
}

/// Writes details as `key=value` in the order of the keys.
fn details_text(details: &BTreeMap<String, String>) -> String {
    let encode = |text: &str| byte_serialize(text.as_bytes()).collect::<String>();
    let pairs: Vec<String> = details
        .iter()
        .map(|(key, value)| format!("{}={}", encode(key), encode(value)))
        .collect();
    pairs.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(stderr: bool) -> LogLine {
        LogLine {
            stderr,
            time_ns: 1_714_557_600_000_000_001,
            bytes: b"hi\n".to_vec(),
        }
    }

    #[test]
    fn lines_are_framed_unless_on_a_terminal() {
        let mut form = LineForm {
            framed: true,
            timestamps: false,
            details: None,
            is_inside: [false; 2],
        };
        assert_eq!(&form.write(&line(true))[..], b"\x02\0\0\0\0\0\0\x03hi\n");
        assert_eq!(form.write_error("x").first(), Some(&3));
        let mut form = LineForm {
            framed: false,
            timestamps: true,
            details: Some("a=b".into()),
            is_inside: [false; 2],
        };
        assert_eq!(
            &form.write(&line(true))[..],
            b"2024-05-01T10:00:00.000000001Z a=b hi\n"
        );
    }

    #[test]
    fn details_are_encoded() {
        let details = [("E", "a=b"), ("l", "1 2")]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into();
        assert_eq!(details_text(&details), "E=a%3Db,l=1+2");
    }

    #[test]
    fn requests() {
        let request = |text: &str| log_request(&Query::parse(text).expect("a query"));
        assert_eq!(
            request("").expect_err("no stream").message(),
            "must specify at least one of 'stdout' or 'stderr'"
        );
        assert!(request("stdout=1&since=x").is_err());
        let full = request("stderr=1&tail=5&since=1.5&follow=true").expect("a request");
        assert_eq!(
            (full.tail, full.since_ns, full.follow),
            (Some(5), 1_500_000_000, true)
        );
        assert_eq!(request("stdout=1&tail=all").expect("a request").tail, None);
    }
}
