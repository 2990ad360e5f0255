//! Sizes, durations and container states as docker puts them into words (spec engine-api §6.3).

use wharf_engine::model::container::{Container, State, Status};

const MINUTE_SECONDS: i64 = 60;
const NANOS_PER_HOUR: f64 = 3_600e9;
const SIZE_UNITS: [&str; 9] = ["B", "kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB"];

/// Returns a duration in nanoseconds in words: `About an hour`, `5 minutes`.
pub(crate) fn duration(nanoseconds: i64) -> String {
    let seconds = nanoseconds / 1_000_000_000;
    let minutes = seconds / MINUTE_SECONDS;
    // Hours are rounded, not cut: an hour and a half is 2 hours.
    let hours = (nanoseconds as f64 / NANOS_PER_HOUR).round() as i64;
    match (seconds, minutes, hours) {
        (..1, _, _) => "Less than a second".to_owned(),
        (1, _, _) => "1 second".to_owned(),
        (..MINUTE_SECONDS, _, _) => format!("{seconds} seconds"),
        (_, 1, _) => "About a minute".to_owned(),
        (_, ..60, _) => format!("{minutes} minutes"),
        (_, _, 1) => "About an hour".to_owned(),
        (_, _, ..48) => format!("{hours} hours"),
        (_, _, ..336) => format!("{} days", hours / 24),
        (_, _, ..1440) => format!("{} weeks", hours / 24 / 7),
        (_, _, ..17520) => format!("{} months", hours / 24 / 30),
        _ => format!("{} years", seconds / 3600 / 24 / 365),
    }
}

/// Returns a size with four significant digits and a decimal unit: `36.35kB`.
pub(crate) fn size(bytes: u64) -> String {
    let mut value = bytes as f64;
    let mut units = SIZE_UNITS.iter();
    let mut unit = units.next().copied().unwrap_or_default();
    for next in units {
        if value < 1000.0 {
            break;
        }
        value /= 1000.0;
        unit = next;
    }
    let digits_before_point = if value < 10.0 {
        1
    } else if value < 100.0 {
        2
    } else {
        3
    };
    let text = format!("{value:.*}", 4 - digits_before_point);
    let text = if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.')
    } else {
        &text
    };
    format!("{text}{unit}")
}

/// Returns the text of `docker ps`'s STATUS column.
pub(crate) fn status_text(container: &Container, now_ns: i64) -> String {
    let has_healthcheck = container.healthcheck().is_some();
    state_text(&container.state, has_healthcheck, now_ns)
}

fn state_text(state: &State, has_healthcheck: bool, now_ns: i64) -> String {
    let since = |start_ns: i64| duration(now_ns.saturating_sub(start_ns));
    match state.status {
        Status::Running => {
            let up = format!("Up {}", since(state.started_at_ns));
            match state.health.as_ref().filter(|_| has_healthcheck) {
                Some(health) if health.status == "starting" => format!("{up} (health: starting)"),
                Some(health) if !health.status.is_empty() => format!("{up} ({})", health.status),
                _ => up,
            }
        }
        Status::Paused => format!("Up {} (Paused)", since(state.started_at_ns)),
        Status::Restarting => {
            format!(
                "Restarting ({}) {} ago",
                state.exit_code,
                since(state.finished_at_ns)
            )
        }
        Status::Removing => "Removal In Progress".to_owned(),
        Status::Dead => "Dead".to_owned(),
        Status::Created => "Created".to_owned(),
        Status::Exited if state.finished_at_ns == 0 => String::new(),
        Status::Exited => format!(
            "Exited ({}) {} ago",
            state.exit_code,
            since(state.finished_at_ns)
        ),
    }
}

/// Returns a command line as `docker ps` shows it: arguments with a blank are quoted with `'`.
pub(crate) fn command_line(path: &str, args: &[String]) -> String {
    let mut text = path.to_owned();
    for argument in args {
        text.push(' ');
        if argument.contains(' ') {
            text.push('\'');
            text.push_str(argument);
            text.push('\'');
        } else {
            text.push_str(argument);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;
    use wharf_engine::model::container::Health;

    #[test]
    fn sizes_have_four_significant_digits() {
        for (bytes, expected) in [
            (0, "0B"),
            (999, "999B"),
            (36_352, "36.35kB"),
            (3_622_094, "3.622MB"),
            (1_000, "1kB"),
            (100_000, "100kB"),
            (1_234_567_890, "1.235GB"),
        ] {
            assert_eq!(size(bytes), expected);
        }
    }

    #[test]
    fn quotes_arguments_with_blanks() {
        let args = ["-c".to_owned(), "echo hi".to_owned()];
        assert_eq!(command_line("sh", &args), "sh -c 'echo hi'");
    }

    /// Builds the model's state out of a vector's flags.
    fn state_of(input: &Value, now_ns: i64) -> State {
        let flag = |key: &str| input[key].as_bool().unwrap_or(false);
        let ago = |key: &str| {
            input[key]
                .as_f64()
                .map_or(0, |seconds| now_ns - (seconds * 1e9) as i64)
        };
        let status = match () {
            () if flag("running") && flag("paused") => Status::Paused,
            () if flag("running") && flag("restarting") => Status::Restarting,
            () if flag("running") => Status::Running,
            () if flag("removing") => Status::Removing,
            () if flag("dead") => Status::Dead,
            () if input["started_secs_ago"].is_null() => Status::Created,
            () => Status::Exited,
        };
        State {
            status,
            exit_code: input["exit_code"].as_i64().unwrap_or(0) as i32,
            started_at_ns: ago("started_secs_ago"),
            finished_at_ns: ago("finished_secs_ago"),
            health: input["health"].as_str().map(|status| Health {
                status: status.to_owned(),
                ..Health::default()
            }),
            ..State::default()
        }
    }

    #[test]
    fn container_states_match_the_vectors() {
        let document: Value =
            serde_json::from_str(include_str!("../tests/vectors/container-state.json"))
                .expect("vectors are JSON");
        let now_ns = 1_700_000_000_000_000_000;
        for vector in document["vectors"].as_array().expect("a list") {
            let state = state_of(&vector["input"], now_ns);
            let id = &vector["id"];
            assert_eq!(
                state_text(&state, true, now_ns),
                vector["expected"]["status"],
                "{id}"
            );
            assert_eq!(state.status.as_str(), vector["expected"]["state"], "{id}");
        }
    }
}
