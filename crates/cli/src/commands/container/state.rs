//! What the client needs to know of a container before it attaches: one inspect.

use serde::Deserialize;

use crate::error::Result;
use crate::http::{Client, path_part};

/// The parts of `GET /containers/{id}/json` that run, start, attach and exec read (engine-api.md §8).
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Container {
    /// Full id.
    pub id: String,
    /// State of its process.
    pub state: State,
    /// Its configuration.
    pub config: Config,
    /// Its settings about the host.
    pub host_config: HostConfig,
}

/// State of a container's process.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct State {
    /// Whether it runs.
    pub running: bool,
    /// Whether it is frozen.
    pub paused: bool,
    /// Whether it waits to be restarted.
    pub restarting: bool,
    /// Its last exit status.
    pub exit_code: i32,
}

/// Configuration of a container.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Config {
    /// Whether it has a terminal.
    pub tty: bool,
    /// Whether its standard input stays open.
    pub open_stdin: bool,
}

/// Settings of a container about the host.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct HostConfig {
    /// Whether it goes away when its process ends.
    pub auto_remove: bool,
}

/// Inspects a container.
pub async fn inspect(client: &Client, name: &str) -> Result<Container> {
    client
        .get_json(format!("/containers/{}/json", path_part(name)))
        .await
}
