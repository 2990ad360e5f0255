//! What a socket's clients may do: which calls, on which objects, with how much of the host.
//!
//! A policy is looked at after a request was routed and parsed, never on its raw bytes: what is
//! judged is what will be done.

mod create;
mod rule;

use crate::call::Call;
use crate::respond::Failure;
use crate::routes::Route;
use http::{Method, StatusCode};
use rule::Rule;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};
use wharf_engine::EngineError;

/// Paths that everybody may ask: clients need them to speak at all.
const OPEN: [&str; 2] = ["/_ping", "/version"];

/// The policies that exist without being written down, by the names of what they are made for:
/// name, allowed calls, whether containers may use the host.
const PRESETS: [(&str, &[&str], bool); 5] = [
    ("full", &["all"], true),
    ("read-only", &["all:read"], false),
    (
        "traefik",
        &[
            "events",
            "GET /info",
            "GET /containers/json",
            "GET /containers/{name}/json",
            "GET /networks",
            "GET /networks/{name}",
        ],
        false,
    ),
    (
        "watchtower",
        &[
            "system:read",
            "events",
            "containers",
            "exec",
            "images",
            "networks:read",
            "POST /networks/{name}/connect",
            "POST /networks/{name}/disconnect",
            "distribution",
        ],
        true,
    ),
    (
        "ci",
        &[
            "system:read",
            "auth",
            "events",
            "containers",
            "exec",
            "images",
            "build",
            "networks",
            "volumes",
            "distribution",
        ],
        false,
    ),
];

/// What a policy is made of, as an administrator writes it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PolicyOptions {
    /// Allowed calls: a group (`containers`), a group's reads or writes (`images:read`), `all`, or
    /// one call (`GET /containers/{name}/json`).
    pub allow: Vec<String>,
    /// `key=value`: only objects with this label are seen, and new ones get it.
    pub label: Option<String>,
    /// Containers may use the host: mount its directories, be privileged, share its namespaces.
    pub host_access: bool,
}

/// Tells why a policy cannot be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum PolicyError {
    /// Not one of the ways to name calls.
    #[error(
        "{entry:?} names no calls: expected a group ({groups}), GROUP:read, GROUP:write, all, or a call such as \"GET /containers/json\""
    )]
    UnknownEntry {
        /// What was written.
        entry: String,
        /// The groups there are.
        groups: String,
    },
    /// Not `key=value`.
    #[error("label {0:?} is not of the form key=value")]
    Label(String),
    /// Nothing would be allowed.
    #[error("nothing is allowed: list calls under allow")]
    Empty,
}

/// What the clients of one socket may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    rules: Vec<Rule>,
    label: Option<(String, String)>,
    host_access: bool,
}

impl Policy {
    /// Allows everything.
    pub fn full() -> Self {
        Self {
            rules: vec![Rule::everything()],
            label: None,
            host_access: true,
        }
    }

    /// Returns the policy of a well-known name: `full`, `read-only`, `traefik`, `watchtower`, `ci`.
    pub fn preset(name: &str) -> Option<Self> {
        let (_, allow, host_access) = PRESETS.iter().find(|(preset, _, _)| *preset == name)?;
        Self::new(&PolicyOptions {
            allow: allow.iter().map(|entry| (*entry).to_owned()).collect(),
            label: None,
            host_access: *host_access,
        })
        .ok()
    }

    /// Makes a policy.
    ///
    /// # Errors
    /// An entry that names no calls, a label without a value, an empty list.
    pub fn new(options: &PolicyOptions) -> Result<Self, PolicyError> {
        let rules = options
            .allow
            .iter()
            .map(|entry| Rule::parse(entry))
            .collect::<Result<Vec<_>, _>>()?;
        if rules.is_empty() {
            return Err(PolicyError::Empty);
        }
        let label = match &options.label {
            None => None,
            Some(text) => match text.split_once('=') {
                Some((key, value)) if !key.is_empty() => Some((key.to_owned(), value.to_owned())),
                _ => return Err(PolicyError::Label(text.clone())),
            },
        };
        Ok(Self {
            rules,
            label,
            host_access: options.host_access,
        })
    }

    /// Decides about a call, and narrows lists to what the policy's label shows.
    ///
    /// # Errors
    /// 403 for a call that is not allowed, 404 for an object that is not shown.
    pub(crate) fn admit(
        &self,
        method: &Method,
        route: &Route,
        call: &mut Call,
    ) -> Result<(), Failure> {
        let is_open = OPEN.contains(&route.pattern);
        let is_allowed = is_open
            || self
                .rules
                .iter()
                .any(|rule| rule.allows(method, route.pattern));
        if !is_allowed {
            return Err(refused(&format!(
                "{method} {} is not allowed on this socket",
                route.pattern
            )));
        }
        if !self.host_access {
            refuse_host_network_builds(route, call)?;
        }
        match &self.label {
            Some((key, value)) if !is_open => scope(key, value, method, route, call),
            _ => Ok(()),
        }
    }

    /// Gives a new object the label that the policy's clients see.
    pub(crate) fn mark(&self, labels: &mut BTreeMap<String, String>) {
        if let Some((key, value)) = &self.label {
            labels.insert(key.clone(), value.clone());
        }
    }

    /// Tells whether labels make an object visible to the policy's clients.
    fn shows(&self, labels: &BTreeMap<String, String>) -> bool {
        self.label
            .as_ref()
            .is_none_or(|(key, value)| labels.get(key) == Some(value))
    }
}

/// A socket's policy, which may be replaced while the socket is served.
#[derive(Debug, Clone)]
pub struct PolicyHandle(Arc<RwLock<Arc<Policy>>>);

impl PolicyHandle {
    /// Makes a handle on a policy.
    pub fn new(policy: Policy) -> Self {
        Self(Arc::new(RwLock::new(Arc::new(policy))))
    }

    /// Puts another policy in force for all further requests.
    pub fn replace(&self, policy: Policy) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(policy);
    }

    /// Returns the policy in force.
    pub(crate) fn get(&self) -> Arc<Policy> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }
}

fn refused(text: &str) -> Failure {
    Failure::new(StatusCode::FORBIDDEN, text)
}

fn refuse_host_network_builds(route: &Route, call: &Call) -> Result<(), Failure> {
    let is_build = route.pattern == "/build";
    if is_build && call.query.text("networkmode") == "host" {
        return Err(refused(
            "builds on the host's network are not allowed on this socket",
        ));
    }
    if is_build && !call.query.text("contextdir").is_empty() {
        return Err(refused(
            "builds from a directory of the host are not allowed on this socket: send the context",
        ));
    }
    // Its query comes with the body, which is not read yet.
    if route.pattern == "/wharf/build" {
        return Err(refused(
            "wharf's own build interface is not allowed on this socket: build with docker's client",
        ));
    }
    // They ask for directories, sockets and networks of the host in ways that are not judged here.
    let is_buildkit = matches!(route.pattern, "/session" | "/grpc" | "/wharf/build");
    if is_buildkit {
        return Err(refused(
            "only classic builds are allowed on this socket: use docker's client with DOCKER_BUILDKIT=0",
        ));
    }
    Ok(())
}

/// Narrows a call to objects with a label.
fn scope(
    key: &str,
    value: &str,
    method: &Method,
    route: &Route,
    call: &mut Call,
) -> Result<(), Failure> {
    let is_read = matches!(*method, Method::GET | Method::HEAD);
    let shows = |labels: &BTreeMap<String, String>| labels.get(key).is_some_and(|own| own == value);
    match route.pattern {
        "/info" | "/auth" | "/images/create" => Ok(()),
        // There are none of these: the answers say so.
        pattern if rule::is_absent(pattern) => Ok(()),
        // What new objects may be is decided once their requests are parsed.
        "/containers/create" | "/volumes/create" | "/networks/create" => Ok(()),
        "/containers/json" | "/containers/prune" | "/events" | "/networks" | "/volumes"
        | "/volumes/prune" | "/networks/prune" => narrow(call, key, value),
        "/commit" => {
            let name = call.query.text("container").to_owned();
            container_is_shown(call, &name, shows)
        }
        pattern if pattern.starts_with("/containers/{name}") => {
            let name = call.container().to_owned();
            container_is_shown(call, &name, shows)
        }
        pattern if pattern.starts_with("/exec/{name}") => {
            let missing = || {
                Failure::from(EngineError::not_found(format!(
                    "No such exec instance: {}",
                    call.name
                )))
            };
            let exec = call.engine.exec(&call.name)?;
            container_is_shown(call, &exec.container_id, shows).map_err(|_| missing())
        }
        pattern if pattern.starts_with("/volumes/{name}") => {
            let volume = call.engine.volume(&call.name)?;
            if shows(&volume.labels) {
                return Ok(());
            }
            Err(EngineError::not_found(format!("get {}: no such volume", call.name)).into())
        }
        pattern if pattern.starts_with("/networks/{name}") => {
            let found = call.engine.network(&call.name)?;
            if shows(&found.network.labels) {
                return Ok(());
            }
            Err(EngineError::not_found(format!("network {} not found", call.name)).into())
        }
        // Images have no owner: they may be seen and pulled by everybody, changed by nobody.
        pattern
            if is_read
                && (pattern.starts_with("/images") || pattern.starts_with("/distribution")) =>
        {
            Ok(())
        }
        pattern => Err(refused(&format!(
            "{method} {pattern} is not allowed on this socket, which is limited to objects labelled {key}={value}"
        ))),
    }
}

fn container_is_shown(
    call: &Call,
    name: &str,
    shows: impl Fn(&BTreeMap<String, String>) -> bool,
) -> Result<(), Failure> {
    let container = call.engine.container(name)?;
    if shows(&container.config.labels) {
        return Ok(());
    }
    Err(EngineError::not_found(format!("No such container: {name}")).into())
}

/// Adds the label to a call's filters.
fn narrow(call: &mut Call, key: &str, value: &str) -> Result<(), Failure> {
    let mut filters = crate::filters::from_query(&call.query)?;
    filters
        .entry("label".to_owned())
        .or_default()
        .push(format!("{key}={value}"));
    let document: Value = filters
        .into_iter()
        .map(|(key, values)| (key, json!(values)))
        .collect::<serde_json::Map<_, _>>()
        .into();
    call.query.set("filters", document.to_string());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routes::ROUTES;

    fn options(allow: &[&str]) -> PolicyOptions {
        PolicyOptions {
            allow: allow.iter().map(|entry| (*entry).to_owned()).collect(),
            ..PolicyOptions::default()
        }
    }

    fn allowed(policy: &Policy) -> Vec<String> {
        ROUTES
            .iter()
            .flat_map(|route| route.methods.iter().map(move |method| (method, route)))
            .filter(|(method, route)| {
                policy
                    .rules
                    .iter()
                    .any(|rule| rule.allows(method, route.pattern))
            })
            .map(|(method, route)| format!("{method} {}", route.pattern))
            .collect()
    }

    #[test]
    fn read_only_allows_what_changes_nothing() {
        let policy = Policy::preset("read-only").expect("a preset");
        let allowed = allowed(&policy);
        assert!(allowed.contains(&"GET /containers/json".to_owned()));
        for call in &allowed {
            assert!(
                call.starts_with("GET ") || call.starts_with("HEAD "),
                "{call}"
            );
        }
        // A web socket carries standard input.
        assert!(!allowed.contains(&"GET /containers/{name}/attach/ws".to_owned()));
    }

    #[test]
    fn every_preset_is_sound() {
        for (name, _, _) in PRESETS {
            let policy = Policy::preset(name).expect("a preset");
            assert!(!allowed(&policy).is_empty(), "{name}");
        }
        let total = ROUTES
            .iter()
            .map(|route| route.methods.len())
            .sum::<usize>();
        assert_eq!(allowed(&Policy::full()).len(), total);
        assert_eq!(Policy::preset("nope"), None);
    }

    #[test]
    fn mistakes_are_named() {
        let unknown = Policy::new(&options(&["contaners"])).expect_err("a mistake");
        assert!(unknown.to_string().contains("\"contaners\""), "{unknown}");
        assert!(Policy::new(&options(&["GET /nothing"])).is_err());
        assert_eq!(Policy::new(&options(&[])), Err(PolicyError::Empty));
        let label = PolicyOptions {
            label: Some("team".to_owned()),
            ..options(&["all"])
        };
        assert_eq!(
            Policy::new(&label),
            Err(PolicyError::Label("team".to_owned()))
        );
    }

    #[test]
    fn groups_cover_every_route() {
        let groups = rule::GROUPS.iter().map(|(name, _)| *name);
        let everything = Policy::new(&options(&groups.collect::<Vec<_>>())).expect("a policy");
        let total = ROUTES
            .iter()
            .map(|route| route.methods.len())
            .sum::<usize>();
        assert_eq!(allowed(&everything).len(), total);
    }
}
