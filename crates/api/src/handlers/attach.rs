//! Attaching to containers (spec engine-api §2.2).

use crate::call::Call;
use crate::hijack::{self, MULTIPLEXED_STREAM, RAW_STREAM};
use crate::query::Query;
use crate::respond::{Answer, Failure};
use crate::version::ApiVersion;
use wharf_engine::model::request::AttachRequest;

/// First version that tells framed streams by their content type.
const FIRST_WITH_MULTIPLEXED_TYPE: &str = "1.42";

/// Returns the content type of a process's streams (spec engine-api §2.1).
pub(crate) fn content_type(version: &ApiVersion, tty: bool) -> &'static str {
    if tty || version.is_before(FIRST_WITH_MULTIPLEXED_TYPE) {
        RAW_STREAM
    } else {
        MULTIPLEXED_STREAM
    }
}

/// `POST /containers/{name}/attach`
///
/// The engine listens before the answer goes out, so nothing of a container that is started next is
/// lost.
pub(crate) async fn attach(mut call: Call) -> Answer {
    let request = attach_request(&call.query);
    let upgrade = call.upgrade.take();
    match call
        .engine
        .attach_container(call.container(), request)
        .await
    {
        Ok(stream) => {
            let content_type = content_type(&call.version, stream.tty);
            let stream = std::future::ready(stream);
            Ok(hijack::serve(stream, upgrade, content_type, call.peer).await)
        }
        Err(error) => Ok(hijack::refuse(&Failure::from(error))),
    }
}

/// `GET /containers/{name}/attach/ws`
pub(crate) async fn web_socket(mut call: Call) -> Answer {
    let Some(key) = hijack::accept_key(&call.headers) else {
        return Err(Failure::bad_request(
            "this is for web sockets: the headers \"Upgrade: websocket\" and \"Sec-WebSocket-Key\" are missing",
        ));
    };
    let Some(upgrade) = call.upgrade.take() else {
        return Err(Failure::bad_request("the connection cannot be upgraded"));
    };
    let request = attach_request(&call.query);
    let stream = call
        .engine
        .attach_container(call.container(), request)
        .await?;
    let protocol = call.headers.get("sec-websocket-protocol").cloned();
    Ok(hijack::serve_web_socket(
        stream, upgrade, &key, protocol, call.peer,
    ))
}

fn attach_request(query: &Query) -> AttachRequest {
    AttachRequest {
        logs: query.switch("logs", false),
        // Without any stream there is nothing to follow.
        stream: query.switch("stream", false)
            && ["stdin", "stdout", "stderr"]
                .iter()
                .any(|name| query.switch(name, false)),
        stdin: query.switch("stdin", false),
        stdout: query.switch("stdout", false),
        stderr: query.switch("stderr", false),
        detach_keys: query
            .get("detachKeys")
            .filter(|keys| !keys.is_empty())
            .map(str::to_owned),
    }
}
