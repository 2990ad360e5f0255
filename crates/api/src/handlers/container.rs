//! The life of containers (spec engine-api §5.2, §7).

use crate::call::Call;
use crate::filters;
use crate::limits::STREAM_CHUNKS;
use crate::respond::{self, Answer, Failure};
use crate::timestamp::now_ns;
use crate::wire::container::ContainerInspect;
use crate::wire::container_list::ContainerItem;
use crate::wire::create::{self, Created};
use crate::wire::create_compat;
use bytes::Bytes;
use http::StatusCode;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use wharf_engine::model::request::{ListContainers, WaitCondition};
use wharf_engine::model::view::{FileChange, FileChangeKind, WaitResult};
use wharf_engine::{EngineError, ErrorKind};

/// First version whose stop calls take a signal.
const FIRST_WITH_STOP_SIGNAL: &str = "1.42";

/// `GET /containers/json`
pub(crate) async fn list(call: Call) -> Answer {
    let query = &call.query;
    let request = ListContainers {
        all: query.switch("all", false),
        limit: query
            .integer("limit")?
            .and_then(|limit| usize::try_from(limit).ok())
            .unwrap_or(0),
        filters: filters::from_query(query)?,
    };
    let mut containers = call.engine.list_containers(&request)?;
    if query.switch("size", false) {
        for summary in &mut containers {
            // One that is removed meanwhile is listed without its size.
            summary.size_bytes = call
                .engine
                .container_sizes(&summary.container.id)
                .await
                .ok();
        }
    }
    let now_ns = now_ns();
    let items: Vec<_> = containers
        .iter()
        .map(|item| ContainerItem::new(item, now_ns))
        .collect();
    respond::json(&items)
}

/// `POST /containers/create`
pub(crate) async fn create(call: Call) -> Answer {
    let name = call.query.text("name").trim_start_matches('/').to_owned();
    let platform = super::platform_text(&call.query)?;
    let (engine, version) = (call.engine.clone(), call.version.clone());
    let policy = call.peer.policy.get();
    let body: Value = call.json().await?;
    let name = Some(name).filter(|name| !name.is_empty());
    let mut request = create::container(body, name, platform)?;
    let warnings = create_compat::adapt(&mut request, &version)?;
    policy.admit_container(&engine, &mut request)?;
    let created = engine.create_container(request).await?;
    let answer = Created {
        id: created.id,
        warnings: created.warnings.into_iter().chain(warnings).collect(),
    };
    respond::json_with_status(StatusCode::CREATED, &answer)
}

/// `GET /containers/{name}/json`
pub(crate) async fn inspect(call: Call) -> Answer {
    let container = call.engine.container(call.container())?;
    let sizes = if call.query.switch("size", false) {
        Some(call.engine.container_sizes(&container.id).await?)
    } else {
        None
    };
    let lower_dirs = call.engine.image_dirs_of(&container).await;
    respond::json(&ContainerInspect::new(
        &container,
        sizes,
        &lower_dirs,
        call.engine.shown_links(&container),
        &call.version,
    ))
}

/// `GET /containers/{name}/spec`
///
/// The engine's own: the OCI runtime spec that the container is started with.
pub(crate) async fn spec(call: Call) -> Answer {
    respond::json(&call.engine.container_spec(call.container()).await?)
}

/// `GET /containers/{name}/top`
pub(crate) async fn top(call: Call) -> Answer {
    let ps_args = call.query.get("ps_args").unwrap_or("-ef");
    let processes = call
        .engine
        .container_processes(call.container(), ps_args)
        .await?;
    respond::json(&json!({"Processes": processes.rows, "Titles": processes.titles}))
}

/// `GET /containers/{name}/changes`
pub(crate) async fn changes(call: Call) -> Answer {
    let changes = call.engine.container_changes(call.container()).await?;
    let number = |change: &FileChange| match change.kind {
        FileChangeKind::Modified => 0,
        FileChangeKind::Added => 1,
        FileChangeKind::Deleted => 2,
    };
    let items: Vec<Value> = changes
        .iter()
        .map(|change| json!({"Path": change.path, "Kind": number(change)}))
        .collect();
    respond::json(&crate::wire::none_if_empty(items))
}

/// `GET /containers/{name}/export`
pub(crate) async fn export(call: Call) -> Answer {
    let chunks = call.engine.export_container(call.container()).await?;
    Ok(respond::stream("application/octet-stream", chunks))
}

/// `POST /containers/{name}/resize`
pub(crate) async fn resize(call: Call) -> Answer {
    let (height, width) = super::terminal_size(&call.query)?;
    call.engine
        .resize_container(call.container(), height, width)
        .await?;
    Ok(respond::status(StatusCode::OK))
}

/// `POST /containers/{name}/start`
pub(crate) async fn start(call: Call) -> Answer {
    if !call.query.text("checkpoint").is_empty() {
        return Err(Failure::bad_request(
            "checkpoint is only supported in experimental mode",
        ));
    }
    call.engine.start_container(call.container()).await?;
    respond::no_content()
}

/// Reads `signal` and `t` of stop and restart.
fn stop_options(call: &Call) -> Result<(Option<String>, Option<i64>), Failure> {
    let signal = call
        .query
        .get("signal")
        .filter(|signal| !signal.is_empty() && !call.version.is_before(FIRST_WITH_STOP_SIGNAL));
    Ok((signal.map(str::to_owned), call.query.integer("t")?))
}

/// Says what an error stood in the way of, as docker does but for a container that is not there or has stopped.
fn told_of(error: EngineError, what: &str) -> Failure {
    let is_plain =
        error.kind() == ErrorKind::NotModified || error.message().starts_with("No such container");
    if is_plain {
        return Failure::from(error);
    }
    Failure::new(
        StatusCode::INTERNAL_SERVER_ERROR,
        format!("{what}: {}", error.message()),
    )
}

/// `POST /containers/{name}/stop`
pub(crate) async fn stop(call: Call) -> Answer {
    let (signal, timeout_s) = stop_options(&call)?;
    let name = call.container();
    call.engine
        .stop_container(name, signal.as_deref(), timeout_s)
        .await
        .map_err(|error| told_of(error, &format!("cannot stop container: {name}")))?;
    respond::no_content()
}

/// `POST /containers/{name}/restart`
pub(crate) async fn restart(call: Call) -> Answer {
    let (signal, timeout_s) = stop_options(&call)?;
    let name = call.container();
    call.engine
        .restart_container(name, signal.as_deref(), timeout_s)
        .await
        .map_err(|error| told_of(error, &format!("Cannot restart container {name}")))?;
    respond::no_content()
}

/// `POST /containers/{name}/kill`
pub(crate) async fn kill(call: Call) -> Answer {
    let signal = call.query.get("signal").filter(|signal| !signal.is_empty());
    let name = call.container();
    call.engine
        .kill_container(name, signal)
        .await
        .map_err(|error| {
            let failure = Failure::from(error);
            if failure.message().starts_with("cannot kill container") {
                return failure;
            }
            failure.context(&format!("cannot kill container: {name}"))
        })?;
    respond::no_content()
}

/// `POST /containers/{name}/pause`
pub(crate) async fn pause(call: Call) -> Answer {
    call.engine.pause_container(call.container()).await?;
    respond::no_content()
}

/// `POST /containers/{name}/unpause`
pub(crate) async fn unpause(call: Call) -> Answer {
    call.engine.unpause_container(call.container()).await?;
    respond::no_content()
}

/// `POST /containers/{name}/rename`
pub(crate) async fn rename(call: Call) -> Answer {
    let new_name = call.query.text("name").trim_start_matches('/');
    if call.container().is_empty() || new_name.is_empty() {
        return Err(Failure::bad_request(
            "Neither old nor new names may be empty",
        ));
    }
    call.engine
        .rename_container(call.container(), new_name)
        .await?;
    respond::no_content()
}

/// `POST /containers/{name}/update`
pub(crate) async fn update(call: Call) -> Answer {
    let (engine, name) = (call.engine.clone(), call.container().to_owned());
    let body = call.value().await?.unwrap_or_else(|| json!({}));
    let (resources, policy) = create::update(body)?;
    let warnings = engine.update_container(&name, resources, policy).await?;
    respond::json(&json!({"Warnings": crate::wire::none_if_empty(warnings)}))
}

/// `DELETE /containers/{name}`
pub(crate) async fn remove(call: Call) -> Answer {
    if call.name.contains("/checkpoints/") {
        return checkpoints(call).await;
    }
    let query = &call.query;
    if query.switch("link", false) {
        call.engine.remove_link(call.container()).await?;
        return respond::no_content();
    }
    let (force, volumes) = (query.switch("force", false), query.switch("v", false));
    call.engine
        .remove_container(call.container(), force, volumes)
        .await?;
    respond::no_content()
}

/// `POST /containers/prune`
pub(crate) async fn prune(call: Call) -> Answer {
    let pruned = call
        .engine
        .prune_containers(&filters::from_query(&call.query)?)
        .await?;
    respond::json(&json!({
        "ContainersDeleted": crate::wire::none_if_empty(pruned.removed),
        "SpaceReclaimed": pruned.reclaimed_bytes,
    }))
}

/// `POST /containers/{name}/wait`
///
/// The head of the answer goes out at once: clients wait for it before they start the container
/// (spec engine-api §5.2).
pub(crate) async fn wait(call: Call) -> Answer {
    let condition = match call.query.text("condition") {
        "" | "not-running" => WaitCondition::NotRunning,
        "next-exit" => WaitCondition::NextExit,
        "removed" => WaitCondition::Removed,
        other => {
            return Err(Failure::bad_request(format!(
                "invalid condition: {other:?}"
            )));
        }
    };
    let ended = call.engine.wait_container(call.container(), condition)?;
    let (sender, chunks) = mpsc::channel(STREAM_CHUNKS);
    tokio::spawn(async move {
        let result = tokio::select! {
            result = ended => result,
            () = sender.closed() => return,
        };
        let document = match result {
            Ok(WaitResult {
                exit_code,
                error: None,
            }) => json!({"StatusCode": exit_code}),
            Ok(WaitResult {
                exit_code,
                error: Some(message),
            }) => {
                json!({"StatusCode": exit_code, "Error": {"Message": message}})
            }
            Err(error) => json!({"StatusCode": -1, "Error": {"Message": error.message()}}),
        };
        // A client that left needs no answer.
        let _ = sender.send(Ok(Bytes::from(format!("{document}\n")))).await;
    });
    Ok(respond::stream(respond::JSON, chunks))
}

/// `POST /commit`
pub(crate) async fn commit(call: Call) -> Answer {
    let query = &call.query;
    let mut request = wharf_engine::model::request::Commit {
        container: query.text("container").trim_start_matches('/').to_owned(),
        repository: query.text("repo").to_owned(),
        tag: query.text("tag").to_owned(),
        comment: query.text("comment").to_owned(),
        author: query.text("author").to_owned(),
        pause: query.switch("pause", true),
        changes: query.all("changes"),
        config: None,
    };
    let engine = call.engine.clone();
    let body = call.value().await?;
    if request.container.is_empty() {
        return Err(Failure::bad_request("invalid name or ID supplied: \"\""));
    }
    request.config = match body {
        None | Some(Value::Null) => None,
        // An empty object means "as the container is": docker's CLI sends it.
        Some(Value::Object(object)) if object.is_empty() => None,
        Some(body) => Some(crate::body::read_document(body)?),
    };
    let id = engine.commit_container(request).await?;
    respond::json_with_status(StatusCode::CREATED, &json!({"Id": id.to_string()}))
}

/// Everything about checkpoints: they are an experiment of docker's, off there unless asked for.
pub(crate) async fn checkpoints(_: Call) -> Answer {
    Err(Failure::not_implemented(
        "This experimental feature is disabled by default. Start the Docker daemon in experimental mode in order to enable it.",
    ))
}
