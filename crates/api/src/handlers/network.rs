//! Networks (spec engine-api §5.4).

use crate::call::Call;
use crate::filters;
use crate::respond::{self, Answer, Failure};
use crate::wire::network::{Network, PortExplanation};
use crate::wire::network_request::{ConnectBody, CreateBody, DisconnectBody};
use http::StatusCode;
use serde_json::json;

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

/// `GET /networks/{name}`: `verbose` adds nothing without a swarm.
pub(crate) async fn inspect(call: Call) -> Answer {
    if call.name.is_empty() {
        return list(call).await;
    }
    check_verbose(call.query.text("verbose"))?;
    let network = call.engine.network(&call.name)?;
    let scope = call.query.text("scope");
    if !scope.is_empty() && scope != "local" {
        return Err(Failure::new(
            StatusCode::NOT_FOUND,
            format!("network {} not found", call.name),
        ));
    }
    respond::json(&Network::new(&network, true))
}

/// Refuses what is no switch, in the words of Go's parser.
fn check_verbose(text: &str) -> Result<(), Failure> {
    const SWITCHES: [&str; 12] = [
        "1", "t", "T", "TRUE", "true", "True", "0", "f", "F", "FALSE", "false", "False",
    ];
    if text.is_empty() || SWITCHES.contains(&text) {
        return Ok(());
    }
    Err(Failure::bad_request(format!(
        "invalid value for verbose: {text}: strconv.ParseBool: parsing {text:?}: invalid syntax"
    )))
}

/// `POST /networks/create`
pub(crate) async fn create(call: Call) -> Answer {
    let engine = call.engine.clone();
    let policy = call.peer.policy.get();
    let has_ipv4_switch = !call.version.is_before("1.48");
    let body: CreateBody = call.json_or_default().await?;
    let mut request = body.into_request()?;
    policy.admit_network(&request.driver, &mut request.labels)?;
    if !has_ipv4_switch {
        request.ipv4 = None;
    }
    let id = engine.create_network(request).await?;
    respond::json_with_status(StatusCode::CREATED, &json!({"Id": id, "Warning": ""}))
}

/// `DELETE /networks/{name}`
pub(crate) async fn remove(call: Call) -> Answer {
    call.engine.remove_network(&call.name).await?;
    respond::no_content()
}

/// `POST /networks/{name}/connect`
pub(crate) async fn connect(call: Call) -> Answer {
    let (engine, network) = (call.engine.clone(), call.name.clone());
    let policy = call.peer.policy.get();
    let body: ConnectBody = call.json_or_default().await?;
    check_container(&body.container)?;
    policy.admit_named_container(&engine, &body.container)?;
    engine
        .connect_network(&network, &body.container, body.endpoint_config.into())
        .await?;
    Ok(respond::status(StatusCode::OK))
}

/// `POST /networks/{name}/disconnect`
pub(crate) async fn disconnect(call: Call) -> Answer {
    let (engine, network) = (call.engine.clone(), call.name.clone());
    let policy = call.peer.policy.get();
    let body: DisconnectBody = call.json_or_default().await?;
    check_container(&body.container)?;
    policy.admit_named_container(&engine, &body.container)?;
    engine
        .disconnect_network(&network, &body.container, body.force)
        .await?;
    Ok(respond::status(StatusCode::OK))
}

fn check_container(name: &str) -> Result<(), Failure> {
    if name.is_empty() {
        return Err(Failure::bad_request("invalid name or ID supplied: \"\""));
    }
    Ok(())
}

/// `POST /networks/prune`
pub(crate) async fn prune(call: Call) -> Answer {
    let filters = filters::from_query(&call.query)?;
    let removed = call.engine.prune_networks(&filters).await?;
    let removed = Some(removed).filter(|removed| !removed.is_empty());
    respond::json(&json!({"NetworksDeleted": removed}))
}

/// `GET /wharf/ports/{name}`: where packets to a host port go.
pub(crate) async fn explain(call: Call) -> Answer {
    let port: u16 = call
        .name
        .parse()
        .ok()
        .filter(|port| *port != 0)
        .ok_or_else(|| {
            Failure::bad_request(format!(
                "invalid port {:?}: expected a number from 1 to 65535",
                call.name
            ))
        })?;
    let protocol = Some(call.query.text("protocol")).filter(|text| !text.is_empty());
    let explained = call.engine.explain_port(port, protocol).await?;
    let explained: Vec<PortExplanation> = explained.into_iter().map(Into::into).collect();
    respond::json(&explained)
}
