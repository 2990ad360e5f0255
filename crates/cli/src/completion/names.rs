//! Names of what is there: asked of the daemon, within a moment, and of the client's own files.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value as Json;

use crate::commands::plugin;
use crate::completion::line::Line;
use crate::completion::values::{State, Values};
use crate::config_file::ConfigFile;
use crate::connection::{Address, Host};
use crate::context::{self, ContextStore, DEFAULT_CONTEXT, GlobalFlags};
use crate::http::{Client, ClientOptions};
use crate::options::filter;

/// How long a daemon may take: who waits for completions longer types on.
const ANSWER_LIMIT: Duration = Duration::from_secs(1);
/// Variable by which docker's completions show the IDs of containers, too.
const SHOW_IDS: &str = "DOCKER_COMPLETION_SHOW_CONTAINER_IDS";

/// What a line says about daemons and configuration.
pub struct Surroundings {
    flags: GlobalFlags,
    directory: PathBuf,
}

impl Surroundings {
    /// Reads the global flags of a line.
    pub fn of(line: &Line<'_>) -> Self {
        let text = |long| line.value(long).map(str::to_owned);
        let path = |long| line.value(long).map(PathBuf::from);
        let flags = GlobalFlags {
            host: text("host").filter(|_| line.path.first() != Some(&"daemon")),
            context: text("context"),
            tls: line.value("tls").is_some(),
            tls_verify: line.value("tlsverify").is_some(),
            tls_ca: path("tlscacert"),
            tls_certificate: path("tlscert"),
            tls_key: path("tlskey"),
        };
        let directory = path("config").unwrap_or_else(ConfigFile::usual_directory);
        Self { flags, directory }
    }

    /// Returns the daemon that the line is for; None where it says nothing that makes sense.
    fn host(&self) -> Option<Host> {
        let variable = |name: &str| std::env::var(name).ok();
        let chosen = context::choose(&self.flags, &variable, &mut || {
            Ok(context::configured(&self.config()?))
        });
        let host = chosen
            .and_then(|chosen| chosen.resolve(&self.flags, &self.directory, &variable))
            .ok()?;
        // To look for a name must start nothing, and a program that asks for a password would ask amid the line.
        let is_quiet = !matches!(host.address, Address::Ssh(_));
        is_quiet.then_some(Host {
            is_explicit: true,
            ..host
        })
    }

    /// Returns the address that plugins are told, if docker's own would not be right.
    pub fn own_host(&self) -> Option<String> {
        self.host().filter(Host::is_local).map(|host| host.url())
    }

    fn config(&self) -> crate::error::Result<ConfigFile> {
        ConfigFile::load_from(self.directory.join("config.json"))
    }

    /// Returns the names of contexts.
    pub fn contexts(&self) -> Vec<String> {
        let stored = ContextStore::below(&self.directory).list();
        let stored = stored.unwrap_or_default().into_iter();
        let mut names: Vec<String> = stored.map(|context| context.name).collect();
        names.push(DEFAULT_CONTEXT.to_owned());
        names.sort();
        names.dedup();
        names
    }

    /// Returns the names of plugins.
    pub fn plugins(&self) -> Vec<String> {
        match self.config() {
            Ok(config) => plugin::names(&config, &self.directory),
            Err(_) => Vec::new(),
        }
    }

    /// Returns the program of a plugin.
    pub fn plugin(&self, name: &str) -> Option<PathBuf> {
        let config = self.config().ok()?;
        plugin::find(&config, &self.directory, name)
    }
}

/// Returns what the daemon of the line has; nothing where none answers in time.
pub fn ask(line: &Line<'_>, values: &Values) -> Vec<String> {
    let Some(host) = Surroundings::of(line).host() else {
        return Vec::new();
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let Ok(runtime) = runtime else {
        return Vec::new();
    };
    let client = Client::new(host, ClientOptions::default(), Arc::new(|_| {}));
    let answer = runtime.block_on(async {
        let names = names(&client, values);
        tokio::time::timeout(ANSWER_LIMIT, names).await
    });
    runtime.shutdown_background();
    let mut names = answer.unwrap_or_default();
    names.sort();
    names.dedup();
    names
}

async fn names(client: &Client, values: &Values) -> Vec<String> {
    match values {
        Values::Containers(state) => containers(client, *state).await,
        Values::Images => images(client).await,
        Values::Networks => networks(client).await,
        Values::Volumes => volumes(client).await,
        Values::Objects => {
            let (containers, images, networks, volumes) = tokio::join!(
                containers(client, State::Any),
                images(client),
                networks(client),
                volumes(client)
            );
            [containers, images, networks, volumes].concat()
        }
        _ => Vec::new(),
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Container {
    id: String,
    #[serde(default)]
    names: Vec<String>,
}

async fn containers(client: &Client, state: State) -> Vec<String> {
    let wanted: &[&str] = match state {
        State::Any => &[],
        State::Running => &["running", "paused", "restarting"],
        State::Unfrozen => &["running"],
        State::Frozen => &["paused"],
        State::Startable => &["created", "exited"],
    };
    let wanted: Vec<String> = wanted
        .iter()
        .map(|state| format!("status={state}"))
        .collect();
    let filters = filter::query(&wanted).ok().flatten();
    let request = crate::http::Request::get("/containers/json")
        .query("all", "1")
        .query_if("filters", filters);
    let found: Vec<Container> = match client.send(request).await {
        Ok(response) => response.json().await.unwrap_or_default(),
        Err(_) => Vec::new(),
    };
    let shows_ids = std::env::var(SHOW_IDS).is_ok_and(|value| value == "yes");
    let mut names = Vec::new();
    for container in found {
        if shows_ids {
            names.push(container.id);
        }
        let own = container
            .names
            .iter()
            .filter_map(|name| name.strip_prefix('/'));
        // A slash inside is the name of an old link.
        names.extend(own.filter(|name| !name.contains('/')).map(str::to_owned));
    }
    names
}

async fn images(client: &Client) -> Vec<String> {
    let found: Vec<Json> = client.get_json("/images/json").await.unwrap_or_default();
    let tags = found
        .iter()
        .filter_map(|image| image["RepoTags"].as_array());
    let tags = tags.flatten().filter_map(Json::as_str);
    tags.filter(|tag| !tag.contains("<none>"))
        .map(str::to_owned)
        .collect()
}

async fn networks(client: &Client) -> Vec<String> {
    let found: Vec<Json> = client.get_json("/networks").await.unwrap_or_default();
    named(&found)
}

async fn volumes(client: &Client) -> Vec<String> {
    let found: Json = client.get_json("/volumes").await.unwrap_or_default();
    found["Volumes"]
        .as_array()
        .map_or_else(Vec::new, |all| named(all))
}

fn named(found: &[Json]) -> Vec<String> {
    let names = found.iter().filter_map(|one| one["Name"].as_str());
    names.map(str::to_owned).collect()
}
