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
use wharf_engine::model::container::Container;
use wharf_engine::model::request::LogRequest;
use wharf_engine::model::view::LogLine;

/// `GET /containers/{name}/logs`
pub(crate) async fn logs(call: Call) -> Answer {
    let request = log_request(&call.query)?;
    let container = call.engine.container(call.container())?;
    let form = LineForm {
        framed: !container.config.tty,
        timestamps: call.query.switch("timestamps", false),
        details: call
            .query
            .switch("details", false)
            .then(|| details_of(&container)),
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
}

impl LineForm {
    fn write(&self, line: &LogLine) -> Bytes {
        let mut text = Vec::with_capacity(line.bytes.len() + 64);
        if self.timestamps {
            text.extend_from_slice(rfc3339_fixed(line.time_ns).as_bytes());
            text.push(b' ');
        }
        if let Some(details) = &self.details {
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

/// Returns the labels and variables that the options `labels` and `env` of the log name, as
/// `key=value` in the order of the keys.
fn details_of(container: &Container) -> String {
    let options = &container.host_config.log_config.options;
    let named = |key: &str| {
        options
            .get(key)
            .map(String::as_str)
            .unwrap_or_default()
            .split(',')
    };
    let mut details = BTreeMap::new();
    for label in named("labels") {
        if let Some(value) = container.config.labels.get(label) {
            details.insert(label, value.as_str());
        }
    }
    for variable in named("env") {
        let entries = container
            .config
            .env
            .iter()
            .filter_map(|entry| entry.split_once('='));
        if let Some((_, value)) = entries.into_iter().find(|(key, _)| *key == variable) {
            details.insert(variable, value);
        }
    }
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
    use wharf_engine::model::host_config::LogConfig;

    fn line(stderr: bool) -> LogLine {
        LogLine {
            stderr,
            time_ns: 1_714_557_600_000_000_001,
            bytes: b"hi\n".to_vec(),
        }
    }

    #[test]
    fn lines_are_framed_unless_on_a_terminal() {
        let form = LineForm {
            framed: true,
            timestamps: false,
            details: None,
        };
        assert_eq!(&form.write(&line(true))[..], b"\x02\0\0\0\0\0\0\x03hi\n");
        assert_eq!(form.write_error("x").first(), Some(&3));
        let form = LineForm {
            framed: false,
            timestamps: true,
            details: Some("a=b".into()),
        };
        assert_eq!(
            &form.write(&line(true))[..],
            b"2024-05-01T10:00:00.000000001Z a=b hi\n"
        );
    }

    #[test]
    fn details_are_what_the_log_options_name() {
        let mut container = Container::default();
        container.config.labels = [("l", "1 2"), ("other", "x")]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into();
        container.config.env = vec!["E=a=b".into(), "F=c".into()];
        container.host_config.log_config = LogConfig {
            driver: "json-file".into(),
            options: [("labels", "l,none"), ("env", "E")]
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .into(),
        };
        assert_eq!(details_of(&container), "E=a%3Db,l=1+2");
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
