//! What the Engine API puts on the wire: multiplexed streams, states in words.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use wharf_api::internals;
use wharf_api::stdcopy::{Decoder, FrameError, Stream};
use wharf_engine::model::container::{Health, State, Status};

use super::{same, text};
use crate::{Document, Vector, Verdict};

/// The time at which states are put into words.
const NOW_NS: i64 = 1_700_000_000_000_000_000;

fn bytes(value: &Value) -> Vec<u8> {
    STANDARD.decode(value.as_str().unwrap()).unwrap()
}

/// Asks both readers of multiplexed streams, the server's and the client's.
pub(super) fn stdcopy(vector: &Vector, _: &Document) -> Verdict {
    let (stream, expected) = (bytes(&vector.input["stream_b64"]), &vector.expected);
    let mut decoder = Decoder::default();
    decoder.push(&stream);
    let (mut output, mut error_output) = (Vec::new(), Vec::new());
    let failure = loop {
        match decoder.next_frame() {
            Ok(Some((Stream::Error, payload))) => error_output.extend_from_slice(&payload),
            Ok(Some((_, payload))) => output.extend_from_slice(&payload),
            Ok(None) => break None,
            Err(error) => break Some(error),
        }
    };
    same("output", &output, &bytes(&expected["stdout_b64"]))?;
    same(
        "error output",
        &error_output,
        &bytes(&expected["stderr_b64"]),
    )?;
    match (&failure, expected["error"].as_str()) {
        (Some(error @ FrameError::UnknownStream(_)), Some(text)) => {
            same("error", error.to_string().as_str(), text)?;
        }
        (None, None) | (Some(_), Some(_)) => {}
        (found, text) => return Err(format!("{found:?} instead of {text:?}")),
    }
    #[cfg(feature = "cli")]
    match super::cli::demultiplexed(&stream) {
        Ok(found) => same("the client's", found, (output, error_output))?,
        Err(found) => same(
            "the client's",
            Some(found.is_empty()),
            failure.map(|_| false),
        )?,
    }
    Ok(())
}

pub(super) fn container_state(vector: &Vector, _: &Document) -> Verdict {
    let state = state_of(&vector.input);
    let expected = &vector.expected;
    same("state", state.status.as_str(), text(expected, "state"))?;
    same(
        "status",
        internals::state_text(&state, NOW_NS).as_str(),
        text(expected, "status"),
    )
}

/// Builds the model's state out of a vector's flags.
fn state_of(input: &Value) -> State {
    let flag = |key: &str| input[key].as_bool().unwrap_or(false);
    let ago = |key: &str| {
        input[key]
            .as_f64()
            .map_or(0, |seconds| NOW_NS - (seconds * 1e9) as i64)
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
