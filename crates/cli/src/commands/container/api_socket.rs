//! `--use-api-socket`: a container that may talk to the daemon, with the caller's registry credentials.

use std::io::Write;

use serde_json::{Value as Json, json};

use crate::archive;
use crate::connection::Address;
use crate::error::{CliError, Result};
use crate::http::{Request, path_part};
use crate::session::Session;

/// Where docker's clients look for the daemon.
const SOCKET_IN_CONTAINER: &str = "/var/run/docker.sock";
/// Directory of the credentials in the container.
const CONFIG_DIRECTORY: &str = "/run/secrets/docker";
/// The variable that tells docker's clients about it.
const CONFIG_VARIABLE: &str = "DOCKER_CONFIG";

/// Credentials that go into a container once it is made.
pub struct Credentials(Vec<u8>);

/// Adds the daemon's socket to a create request and, unless it has a configuration of its own, tells the container
/// where it finds the returned credentials.
///
/// # Errors
/// Says that a daemon behind a network has no socket to give, or which credential helper failed.
pub fn add(session: &mut Session, body: &mut Json) -> Result<Option<Credentials>> {
    let Address::Unix(socket) = &session.client.host().address else {
        return Err(CliError::usage(format!(
            "--use-api-socket needs a daemon at a unix socket of this machine: {} is none",
            session.client.host().url()
        )));
    };
    let mount = json!({
        "Type": "bind",
        "Source": socket,
        "Target": SOCKET_IN_CONTAINER,
        "BindOptions": {},
    });
    push(&mut body["HostConfig"]["Mounts"], mount);
    let prefix = format!("{CONFIG_VARIABLE}=");
    let has_own = body["Env"].as_array().is_some_and(|variables| {
        let mut variables = variables.iter().filter_map(Json::as_str);
        variables.any(|variable| variable.starts_with(&prefix))
    });
    if has_own {
        return Ok(None);
    }
    let Some(config) = session.config()?.credentials_alone()? else {
        return Ok(None);
    };
    push(
        &mut body["Env"],
        format!("{prefix}{CONFIG_DIRECTORY}").into(),
    );
    Ok(Some(Credentials(config)))
}

impl Credentials {
    /// Writes the credentials into a container that is made and not started, readable by its root only.
    pub async fn put(self, session: &Session, id: &str) -> Result<()> {
        let upload = archive::upload(move |sink| {
            let mut archive = tar::Builder::new(sink);
            let name = format!("{CONFIG_DIRECTORY}/config.json");
            append(&mut archive, name.trim_start_matches('/'), &self.0)
                .map_err(|error| CliError::io("writing the credentials", error))
        });
        let request = Request::put(format!("/containers/{}/archive", path_part(id)))
            .query("path", "/")
            .upload("application/x-tar", upload);
        let sent = session.client.send(request).await;
        sent.map(drop).map_err(|error| {
            CliError::Plain(format!(
                "injecting docker config.json into container failed: {error}"
            ))
        })
    }
}

fn push(list: &mut Json, item: Json) {
    match list {
        Json::Array(items) => items.push(item),
        other => *other = json!([item]),
    }
}

fn append(
    archive: &mut tar::Builder<&mut dyn Write>,
    name: &str,
    content: &[u8],
) -> std::io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_mode(0o600);
    header.set_size(content.len() as u64);
    archive.append_data(&mut header, name, content)?;
    archive.finish()
}
