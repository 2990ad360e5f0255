//! Volumes (spec engine-api §5.4).

use crate::call::Call;
use crate::filters;
use crate::respond::{self, Answer, Failure};
use crate::wire::volume::{CreateVolume, Volume, VolumeList};
use http::StatusCode;
use serde_json::json;

/// First version whose prune takes only volumes without a name.
const FIRST_WITH_ANONYMOUS_PRUNE: &str = "1.42";

/// `GET /volumes`
pub(crate) async fn list(call: Call) -> Answer {
    let filters = filters::from_query(&call.query)
        .map_err(|failure| failure.context("error reading volume filters"))?;
    let volumes = call.engine.list_volumes(&filters)?;
    let volumes = volumes.iter().map(Volume::from).collect();
    respond::json(&VolumeList {
        volumes,
        warnings: None,
    })
}

/// `POST /volumes/create`
pub(crate) async fn create(call: Call) -> Answer {
    let engine = call.engine.clone();
    let policy = call.peer.policy.get();
    let mut body: CreateVolume = call.json_or_default().await?;
    if body.cluster_volume_spec.is_some() {
        return Err(Failure::not_implemented(
            "cluster volumes are not supported",
        ));
    }
    policy.admit_volume(&body.driver_opts, &mut body.labels)?;
    let name = Some(body.name.as_str()).filter(|name| !name.is_empty());
    let driver = if body.driver.is_empty() {
        "local"
    } else {
        &body.driver
    };
    let volume = engine
        .create_volume(name, driver, body.driver_opts, body.labels)
        .await?;
    respond::json_with_status(StatusCode::CREATED, &Volume::from(&volume))
}

/// `GET /volumes/{name}`
pub(crate) async fn inspect(call: Call) -> Answer {
    require_name(&call)?;
    respond::json(&Volume::from(&call.engine.volume(&call.name)?))
}

/// `PUT /volumes/{name}`: only volumes of swarms can be changed.
pub(crate) async fn update(_: Call) -> Answer {
    Err(Failure::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "volume update only valid for cluster volumes, but swarm is unavailable",
    ))
}

/// `DELETE /volumes/{name}`
pub(crate) async fn remove(call: Call) -> Answer {
    require_name(&call)?;
    call.engine
        .remove_volume(&call.name, call.query.switch("force", false))
        .await?;
    respond::no_content()
}

fn require_name(call: &Call) -> Result<(), Failure> {
    if call.name.is_empty() {
        return Err(Failure::new(StatusCode::NOT_FOUND, "get: no such volume"));
    }
    Ok(())
}

/// `POST /volumes/prune`
pub(crate) async fn prune(call: Call) -> Answer {
    let mut filters = filters::from_query(&call.query)?;
    let all = match filters.remove("all") {
        None => call.version.is_before(FIRST_WITH_ANONYMOUS_PRUNE),
        Some(values) => go_bool(values.first().map(String::as_str).unwrap_or_default())?,
    };
    let pruned = call.engine.prune_volumes(&filters, all).await?;
    respond::json(&json!({
        "VolumesDeleted": pruned.removed,
        "SpaceReclaimed": pruned.reclaimed_bytes,
    }))
}

/// Reads a boolean as Go's `strconv.ParseBool` does.
fn go_bool(text: &str) -> Result<bool, Failure> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        other => Err(Failure::bad_request(format!(
            "invalid filter 'all': strconv.ParseBool: parsing {other:?}: invalid syntax"
        ))),
    }
}
