//! Networks: the built-in ones (spec engine-api §5.4).

use crate::call::Call;
use crate::filters;
use crate::respond::{self, Answer, Failure};
use crate::wire::network::Network;
use http::StatusCode;
use serde::Deserialize;
use serde_json::json;

/// Names of the networks that are always there.
const BUILT_IN: [&str; 3] = ["bridge", "host", "none"];

/// `GET /networks`
pub(crate) async fn list(call: Call) -> Answer {
    let networks = call
        .engine
        .list_networks(&filters::from_query(&call.query)?)?;
    let items: Vec<_> = networks
        .iter()
        .map(|network| Network::new(network, false))
        .collect();
    respond::json(&items)
}

/// `GET /networks/{name}`
pub(crate) async fn inspect(call: Call) -> Answer {
    if call.name.is_empty() {
        return list(call).await;
    }
    respond::json(&Network::new(&call.engine.network(&call.name)?, true))
}

/// Returns the answer to what only user-defined networks can do.
fn not_supported() -> Failure {
    Failure::not_implemented("user-defined networks are not supported yet")
}

/// `POST /networks/create`
pub(crate) async fn create(call: Call) -> Answer {
    #[derive(Debug, Default, Deserialize)]
    #[serde(rename_all = "PascalCase", default)]
    struct Body {
        name: String,
    }
    let body: Body = call.json_or_default().await?;
    match body.name.as_str() {
        "" => Err(Failure::bad_request("invalid name: name is empty")),
        name if BUILT_IN.contains(&name) || name == "default" => Err(Failure::new(
            StatusCode::FORBIDDEN,
            format!("operation is not permitted on predefined {name} network "),
        )),
        _ => Err(not_supported()),
    }
}

/// `DELETE /networks/{name}`
pub(crate) async fn remove(call: Call) -> Answer {
    let network = call.engine.network(&call.name)?;
    Err(Failure::new(
        StatusCode::FORBIDDEN,
        format!(
            "{} is a pre-defined network and cannot be removed",
            network.name
        ),
    ))
}

/// `POST /networks/{name}/connect` and `/disconnect`
pub(crate) async fn connect(call: Call) -> Answer {
    #[derive(Debug, Default, Deserialize)]
    #[serde(rename_all = "PascalCase", default)]
    struct Body {
        container: String,
    }
    let (engine, network) = (call.engine.clone(), call.name.clone());
    let body: Body = call.json_or_default().await?;
    if body.container.is_empty() {
        return Err(Failure::bad_request("invalid name or ID supplied: \"\""));
    }
    engine.network(&network)?;
    engine.container(&body.container)?;
    Err(not_supported())
}

/// `POST /networks/prune`: there is never anything to prune.
pub(crate) async fn prune(call: Call) -> Answer {
    let filters = filters::from_query(&call.query)?;
    filters::accept(&filters, &["until", "label", "label!"])?;
    respond::json(&json!({"NetworksDeleted": null}))
}
