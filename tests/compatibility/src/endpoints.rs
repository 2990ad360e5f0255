//! Docker's endpoints against the table of routes.

use wharf_api::Endpoint;

use crate::{DOCKER_ENDPOINTS, Entry, Status};

/// Returns how the table stands to each of docker's endpoints, in docker's order.
pub(crate) fn entries() -> Vec<Entry> {
    let table = wharf_api::compatibility_table();
    recorded()
        .map(|(method, path)| entry(method, path, &table))
        .collect()
}

/// Returns the routes that docker's documentation does not list.
pub(crate) fn own_routes() -> Vec<Entry> {
    let answers = |route: &Endpoint| recorded().any(|(method, path)| matches(route, method, path));
    let table = wharf_api::compatibility_table();
    let own = table.iter().filter(|route| !answers(route));
    own.map(|route| Entry {
        name: format!("{} {}", route.methods.join(", "), route.pattern),
        status: status(route),
        note: route.note.to_owned(),
    })
    .collect()
}

fn recorded() -> impl Iterator<Item = (&'static str, &'static str)> {
    let lines = DOCKER_ENDPOINTS
        .lines()
        .filter(|line| !line.starts_with('#'));
    lines.filter_map(|line| line.split_once(' '))
}

fn entry(method: &str, path: &str, table: &[Endpoint]) -> Entry {
    let name = format!("{method} {path}");
    match table.iter().find(|route| matches(route, method, path)) {
        Some(route) => Entry {
            name,
            status: status(route),
            note: route.note.to_owned(),
        },
        None => Entry {
            name,
            status: Status::Missing,
            note: String::new(),
        },
    }
}

fn status(route: &Endpoint) -> Status {
    match route.status {
        "works" => Status::Works,
        "differs" => Status::Differs,
        _ => Status::Missing,
    }
}

fn matches(route: &Endpoint, method: &str, path: &str) -> bool {
    route.methods.contains(&method) && fits(route.pattern, path)
}

/// Tells whether a pattern takes a documented path; `{name}` takes any text, slashes too.
fn fits(pattern: &str, path: &str) -> bool {
    let Some((head, tail)) = pattern.split_once('{') else {
        return pattern == path;
    };
    let tail = tail.split_once('}').map_or("", |(_, tail)| tail);
    let Some(rest) = path.strip_prefix(head) else {
        return false;
    };
    let mut ends = rest.char_indices().map(|(at, c)| at + c.len_utf8());
    ends.any(|end| fits(tail, &rest[end..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_take_names_with_slashes() {
        assert!(fits("/images/{name}/json", "/images/{name}/json"));
        assert!(fits("/swarm/{name}", "/swarm/a/b"));
        assert!(!fits("/images/{name}/json", "/images/json"));
        assert!(!fits("/images/{name}/json", "/images/{name}/history"));
    }
}
