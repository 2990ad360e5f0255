//! Further processes in containers (spec engine-api §7.5).

use super::attach::content_type;
use crate::call::Call;
use crate::hijack;
use crate::respond::{self, Answer};
use crate::wire::create::{ExecBody, ExecStart};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::StatusCode;
use serde_json::json;
use wharf_engine::model::request::CreateExec;

/// `POST /containers/{name}/exec`
pub(crate) async fn create(call: Call) -> Answer {
    let (engine, container) = (call.engine.clone(), call.container().to_owned());
    let policy = call.peer.policy.get();
    let request = CreateExec::from(call.json::<ExecBody>().await?);
    if request.command.is_empty() {
        return Err(respond::Failure::bad_request("No exec command specified"));
    }
    policy.admit_exec(&request)?;
    let id = engine.create_exec(&container, request).await?;
    respond::json_with_status(StatusCode::CREATED, &json!({"Id": id}))
}

/// `POST /exec/{name}/start`
pub(crate) async fn start(mut call: Call) -> Answer {
    let (engine, id, version, peer) = (
        call.engine.clone(),
        call.name.clone(),
        call.version.clone(),
        call.peer.clone(),
    );
    let upgrade = call.upgrade.take();
    let body: ExecStart = call.json_or_default().await?;
    let size = body
        .console_size
        .filter(|size| *size != [0, 0])
        .map(|[height, width]| (height, width));
    let exec = engine.claim_exec(&id, body.tty, size)?;
    if body.detach {
        exec.detached().await?;
        return Ok(respond::status(StatusCode::OK));
    }
    let content_type = content_type(&version, body.tty);
    Ok(hijack::serve(exec.attached(), upgrade, content_type, peer).await)
}

/// `POST /exec/{name}/resize`
pub(crate) async fn resize(call: Call) -> Answer {
    let (height, width) = super::terminal_size(&call.query)?;
    call.engine.resize_exec(&call.name, height, width).await?;
    Ok(respond::status(StatusCode::OK))
}

/// `GET /exec/{name}/json`
pub(crate) async fn inspect(call: Call) -> Answer {
    let exec = call.engine.exec(&call.name)?;
    let (program, arguments) = match exec.request.command.split_first() {
        Some((program, arguments)) => (program.as_str(), arguments),
        None => ("", &[][..]),
    };
    let mut process = json!({
        "tty": exec.request.tty,
        "entrypoint": program,
        "arguments": arguments,
        "privileged": exec.request.privileged,
    });
    if !exec.request.user.is_empty() {
        process["user"] = json!(exec.request.user);
    }
    respond::json(&json!({
        "ID": exec.id,
        "Running": exec.running,
        "ExitCode": exec.exit_code,
        "ProcessConfig": process,
        "OpenStdin": exec.request.attach_stdin,
        "OpenStderr": exec.request.attach_stderr,
        "OpenStdout": exec.request.attach_stdout,
        // The field is docker's; an exec's record goes by itself.
        "CanRemove": false,
        "ContainerID": exec.container_id,
        "DetachKeys": STANDARD.encode(exec.detach_keys()),
        "Pid": exec.pid,
    }))
}
