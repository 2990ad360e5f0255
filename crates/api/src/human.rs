//! Sizes, durations and container states as docker puts them into words (spec engine-api §6.3).

use wharf_engine::model::container::{Container, State, Status};

/// Returns a duration in nanoseconds in words: `About an hour`, `5 minutes`.
pub(crate) fn duration(nanoseconds: i64) -> String {
    wharf_units::human_duration(nanoseconds / 1_000_000)
}

/// Returns a size with four significant digits and a decimal unit: `36.35kB`.
pub(crate) fn size(bytes: u64) -> String {
    wharf_units::human_size(bytes as f64)
}

/// Returns the text of `docker ps`'s STATUS column.
pub(crate) fn status_text(container: &Container, now_ns: i64) -> String {
    let has_healthcheck = container.healthcheck().is_some();
    state_text(&container.state, has_healthcheck, now_ns)
}

pub(crate) fn state_text(state: &State, has_healthcheck: bool, now_ns: i64) -> String {
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

    #[test]
    fn quotes_arguments_with_blanks() {
        let args = ["-c".to_owned(), "echo hi".to_owned()];
        assert_eq!(command_line("sh", &args), "sh -c 'echo hi'");
    }
}
