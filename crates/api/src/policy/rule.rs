//! Naming calls in a policy.

use super::PolicyError;
use crate::routes::ROUTES;
use http::Method;

/// Groups of calls: name, and what their paths start with.
pub(super) const GROUPS: [(&str, &[&str]); 12] = [
    ("system", &["/_ping", "/version", "/info", "/system/"]),
    ("auth", &["/auth"]),
    ("events", &["/events"]),
    ("containers", &["/containers/", "/commit"]),
    ("exec", &["/exec/", "/containers/{name}/exec"]),
    ("images", &["/images/", "/wharf/images/"]),
    (
        "build",
        &[
            "/build",
            "/session",
            "/grpc",
            "/wharf/build",
            "/wharf/cache-mounts",
        ],
    ),
    ("networks", &["/networks", "/wharf/ports/"]),
    ("volumes", &["/volumes"]),
    ("distribution", &["/distribution/"]),
    ("plugins", &["/plugins"]),
    (
        "swarm",
        &[
            "/swarm",
            "/nodes",
            "/services",
            "/tasks",
            "/secrets",
            "/configs",
        ],
    ),
];

/// Calls that read by their method, and write all the same.
const WRITES: [&str; 1] = ["/containers/{name}/attach/ws"];

/// Whether an entry means a group's reads, its writes, or both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    Read,
    Write,
    Both,
}

/// One entry of a policy's list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Rule {
    /// A group's calls; None means all groups.
    Group {
        group: Option<&'static str>,
        access: Access,
    },
    /// One call.
    Call {
        method: String,
        pattern: &'static str,
    },
}

impl Rule {
    /// Returns the rule that allows every call.
    pub(super) fn everything() -> Self {
        Self::Group {
            group: None,
            access: Access::Both,
        }
    }

    /// Parses an entry.
    pub(super) fn parse(entry: &str) -> Result<Self, PolicyError> {
        let unknown = || PolicyError::UnknownEntry {
            entry: entry.to_owned(),
            groups: GROUPS.map(|(name, _)| name).join(", "),
        };
        if let Some((method, path)) = entry.split_once(' ') {
            let route = ROUTES.iter().find(|route| {
                route.pattern == path.trim()
                    && route.methods.iter().any(|known| known.as_str() == method)
            });
            return Ok(Self::Call {
                method: method.to_owned(),
                pattern: route.ok_or_else(unknown)?.pattern,
            });
        }
        let (group, access) = match entry.split_once(':') {
            None => (entry, Access::Both),
            Some((group, "read")) => (group, Access::Read),
            Some((group, "write")) => (group, Access::Write),
            Some(_) => return Err(unknown()),
        };
        let group = match group {
            "all" => None,
            group => Some(
                GROUPS
                    .iter()
                    .find(|(name, _)| *name == group)
                    .ok_or_else(unknown)?
                    .0,
            ),
        };
        Ok(Self::Group { group, access })
    }

    /// Tells whether the rule allows a call.
    pub(super) fn allows(&self, method: &Method, pattern: &str) -> bool {
        match self {
            Self::Call {
                method: own,
                pattern: own_pattern,
            } => {
                let same_method = own == method.as_str()
                    // A client may ask for the head of what it may get.
                    || (own == "GET" && method == Method::HEAD);
                same_method && *own_pattern == pattern
            }
            Self::Group { group, access } => {
                let reads =
                    matches!(*method, Method::GET | Method::HEAD) && !WRITES.contains(&pattern);
                let right_access = match access {
                    Access::Both => true,
                    Access::Read => reads,
                    Access::Write => !reads,
                };
                right_access && group.is_none_or(|group| group == group_of(pattern))
            }
        }
    }
}

/// Tells whether a path is about objects that wharf never has.
pub(super) fn is_absent(pattern: &str) -> bool {
    matches!(group_of(pattern), "plugins" | "swarm")
}

/// Returns the group of a path: the one with the longest beginning.
fn group_of(pattern: &str) -> &'static str {
    GROUPS
        .iter()
        .flat_map(|(name, starts)| starts.iter().map(move |start| (*name, *start)))
        .filter(|(_, start)| pattern.starts_with(start))
        .max_by_key(|(_, start)| start.len())
        .map_or("", |(name, _)| name)
}
