//! The one table of routes: the router, the answer to unknown paths and the compatibility table of
//! the documentation all come from it (spec engine-api §5).

use crate::call::Call;
use crate::handlers::{
    archive, attach, build, container, event, exec, image, image_transfer, logs, network,
    own_build, search, stats, system, volume,
};
use crate::respond::Answer;
use http::Method;
use std::future::Future;
use std::pin::Pin;

/// A handler, ready to run.
pub(crate) type Handler = fn(Call) -> Pin<Box<dyn Future<Output = Answer> + Send>>;

/// How close a route comes to docker's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    /// As docker.
    Works,
    /// Works, with the differences the note tells.
    Differs,
    /// Answers with a clear error.
    Missing,
}

impl Status {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Works => "works",
            Self::Differs => "differs",
            Self::Missing => "missing",
        }
    }
}

/// One route.
pub(crate) struct Route {
    /// Methods it answers.
    pub(crate) methods: &'static [Method],
    /// Path; `{name}` takes any text, slashes too.
    pub(crate) pattern: &'static str,
    /// API version that brought it.
    since: &'static str,
    status: Status,
    /// What differs or is missing.
    note: &'static str,
    /// What answers.
    pub(crate) handler: Handler,
}

impl Route {
    /// Returns the API version that brought it.
    pub(crate) fn since(&self) -> &'static str {
        self.since
    }

    /// Returns how close it comes to docker's, in a word.
    pub(crate) fn status_text(&self) -> &'static str {
        self.status.as_str()
    }

    /// Returns what differs or is missing.
    pub(crate) fn note(&self) -> &'static str {
        self.note
    }
}

impl std::fmt::Debug for Route {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{:?} {}", self.methods, self.pattern)
    }
}

macro_rules! route {
    ($($method:ident)|+ $pattern:literal $since:literal $status:ident $note:literal $handler:path) => {
        Route {
            methods: &[$(Method::$method),+],
            pattern: $pattern,
            since: $since,
            status: Status::$status,
            note: $note,
            handler: |call| Box::pin($handler(call)),
        }
    };
}

/// All routes; the first that matches answers.
pub(crate) static ROUTES: &[Route] = &[
    // System
    route!(GET | HEAD "/_ping" "1.24" Differs "Builder-Version is 1: builds go without a session" system::ping),
    route!(GET "/version" "1.24" Works "" system::version),
    route!(GET "/info" "1.24" Works "" system::info),
    route!(GET "/events" "1.24" Works "" event::events),
    route!(GET "/system/df" "1.25" Works "" system::disk_usage),
    route!(POST "/auth" "1.24" Works "" system::auth),
    route!(POST "/session" "1.31" Missing "BuildKit sessions" system::session),
    route!(POST "/grpc" "1.39" Missing "BuildKit's gRPC" system::grpc),
    route!(GET "/distribution/{name}/json" "1.30" Works "" system::distribution),
    // Containers
    route!(GET "/containers/json" "1.24" Works "" container::list),
    route!(POST "/containers/create" "1.24" Works "" container::create),
    route!(POST "/containers/prune" "1.25" Works "" container::prune),
    route!(GET "/containers/{name}/json" "1.24" Works "" container::inspect),
    route!(GET "/containers/{name}/spec" "1.51" Works "the engine's own: the OCI runtime spec" container::spec),
    route!(GET "/containers/{name}/top" "1.24" Works "" container::top),
    route!(GET "/containers/{name}/logs" "1.24" Works "" logs::logs),
    route!(GET "/containers/{name}/changes" "1.24" Works "" container::changes),
    route!(GET "/containers/{name}/export" "1.24" Works "" container::export),
    route!(GET "/containers/{name}/stats" "1.24" Works "" stats::stats),
    route!(POST "/containers/{name}/resize" "1.24" Works "" container::resize),
    route!(POST "/containers/{name}/start" "1.24" Differs "no checkpoints" container::start),
    route!(POST "/containers/{name}/stop" "1.24" Works "" container::stop),
    route!(POST "/containers/{name}/restart" "1.24" Works "" container::restart),
    route!(POST "/containers/{name}/kill" "1.24" Works "" container::kill),
    route!(POST "/containers/{name}/update" "1.24" Works "" container::update),
    route!(POST "/containers/{name}/rename" "1.24" Works "" container::rename),
    route!(POST "/containers/{name}/pause" "1.24" Works "" container::pause),
    route!(POST "/containers/{name}/unpause" "1.24" Works "" container::unpause),
    route!(POST "/containers/{name}/attach" "1.24" Works "" attach::attach),
    route!(GET "/containers/{name}/attach/ws" "1.24" Works "" attach::web_socket),
    route!(POST "/containers/{name}/wait" "1.24" Works "" container::wait),
    route!(DELETE "/containers/{name}" "1.24" Works "" container::remove),
    route!(HEAD "/containers/{name}/archive" "1.24" Works "" archive::stat),
    route!(GET "/containers/{name}/archive" "1.24" Works "" archive::get),
    route!(PUT "/containers/{name}/archive" "1.24" Works "" archive::put),
    route!(POST | GET "/containers/{name}/checkpoints" "1.25" Missing "" container::checkpoints),
    route!(POST "/containers/{name}/exec" "1.24" Works "" exec::create),
    route!(POST "/exec/{name}/start" "1.24" Works "" exec::start),
    route!(POST "/exec/{name}/resize" "1.24" Works "" exec::resize),
    route!(GET "/exec/{name}/json" "1.24" Works "" exec::inspect),
    route!(POST "/commit" "1.24" Works "" container::commit),
    // Images
    route!(GET "/images/json" "1.24" Differs "no Manifests" image::list),
    route!(GET "/images/search" "1.24" Works "" search::search),
    route!(GET "/images/get" "1.24" Works "" image_transfer::save_many),
    route!(POST "/images/create" "1.24" Works "" image_transfer::create),
    route!(POST "/images/load" "1.24" Works "" image_transfer::load),
    route!(POST "/images/prune" "1.25" Works "" image::prune),
    route!(GET "/images/{name}/json" "1.24" Differs "no Descriptor" image::inspect),
    route!(GET "/images/{name}/history" "1.24" Works "" image::history),
    route!(GET "/images/{name}/get" "1.24" Works "" image_transfer::save_one),
    route!(POST "/images/{name}/push" "1.24" Works "" image_transfer::push),
    route!(POST "/images/{name}/tag" "1.24" Works "" image::tag),
    route!(DELETE "/images/{name}" "1.24" Works "" image::remove),
    // Builds
    route!(POST "/build" "1.24" Differs "version 1 only; contextdir, dockerfileinline, dockerfileshown and dockerignoreinline are wharf's own" build::build),
    route!(POST "/build/prune" "1.31" Works "" build::prune),
    route!(POST "/build/cancel" "1.39" Works "" build::cancel),
    // Builds, as wharf's own client asks for them
    route!(POST "/wharf/build" "1.51" Works "wharf's own" own_build::build),
    route!(GET "/wharf/builds" "1.51" Works "wharf's own" own_build::list),
    route!(GET "/wharf/build/record" "1.51" Works "wharf's own" own_build::record),
    route!(POST "/wharf/build/release" "1.51" Works "wharf's own" own_build::release),
    route!(GET "/wharf/build/logs" "1.51" Works "wharf's own" own_build::logs),
    route!(GET "/wharf/build/cache" "1.51" Works "wharf's own" own_build::export_cache),
    route!(GET "/wharf/build/failed" "1.51" Works "wharf's own" own_build::failed),
    route!(GET "/wharf/cache-mounts" "1.51" Works "wharf's own" own_build::cache_mounts),
    route!(DELETE "/wharf/cache-mounts" "1.51" Works "wharf's own" own_build::remove_cache_mount),
    route!(GET "/wharf/cache-mounts/archive" "1.51" Works "wharf's own" own_build::export_cache_mount),
    route!(PUT "/wharf/cache-mounts/archive" "1.51" Works "wharf's own" own_build::import_cache_mount),
    route!(GET "/wharf/images/{name}/files" "1.51" Works "wharf's own" own_build::image_files),
    // Volumes
    route!(GET "/volumes" "1.24" Works "" volume::list),
    route!(POST "/volumes/create" "1.24" Differs "no cluster volumes" volume::create),
    route!(POST "/volumes/prune" "1.25" Works "" volume::prune),
    route!(GET "/volumes/{name}" "1.24" Works "" volume::inspect),
    route!(PUT "/volumes/{name}" "1.42" Missing "no swarms" volume::update),
    route!(DELETE "/volumes/{name}" "1.24" Works "" volume::remove),
    // Networks
    route!(GET "/networks" "1.24" Works "" network::list),
    route!(POST "/networks/create" "1.24" Differs "drivers bridge, macvlan and ipvlan; no swarm" network::create),
    route!(POST "/networks/prune" "1.25" Works "" network::prune),
    route!(POST "/networks/{name}/connect" "1.24" Works "" network::connect),
    route!(POST "/networks/{name}/disconnect" "1.24" Works "" network::disconnect),
    route!(GET "/networks/{name}" "1.24" Works "" network::inspect),
    route!(DELETE "/networks/{name}" "1.24" Works "" network::remove),
    route!(GET "/wharf/ports/{name}" "1.24" Works "wharf's own: explains a published port" network::explain),
    // Plugins
    route!(GET "/plugins" "1.25" Works "there are none" system::plugins),
    route!(GET "/plugins/privileges" "1.25" Missing "" system::no_plugins),
    route!(GET "/plugins/{name}/json" "1.25" Works "there are none" system::plugin),
    route!(POST | DELETE "/plugins/{name}" "1.25" Missing "" system::no_plugins),
    // Swarm
    route!(GET "/swarm" "1.24" Missing "no swarms" system::no_swarm),
    route!(POST "/swarm/init" "1.24" Missing "no swarms" system::no_new_swarm),
    route!(POST "/swarm/join" "1.24" Missing "no swarms" system::no_new_swarm),
    route!(POST "/swarm/leave" "1.24" Missing "no swarms" system::no_swarm_to_leave),
    route!(GET | POST "/swarm/{name}" "1.24" Missing "no swarms" system::no_swarm),
    route!(GET "/nodes" "1.24" Missing "no swarms" system::no_swarm),
    route!(GET | POST | DELETE "/nodes/{name}" "1.24" Missing "no swarms" system::no_swarm),
    route!(GET "/services" "1.24" Missing "no swarms" system::no_swarm),
    route!(GET | POST | DELETE "/services/{name}" "1.24" Missing "no swarms" system::no_swarm),
    route!(GET "/tasks" "1.24" Missing "no swarms" system::no_swarm),
    route!(GET "/tasks/{name}" "1.24" Missing "no swarms" system::no_swarm),
    route!(GET "/secrets" "1.25" Missing "no swarms" system::no_swarm),
    route!(GET | POST | DELETE "/secrets/{name}" "1.25" Missing "no swarms" system::no_swarm),
    route!(GET "/configs" "1.30" Missing "no swarms" system::no_swarm),
    route!(GET | POST | DELETE "/configs/{name}" "1.30" Missing "no swarms" system::no_swarm),
];

/// One row of the compatibility table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Methods it answers.
    pub methods: Vec<&'static str>,
    /// Path; `{name}` takes any text, slashes too.
    pub pattern: &'static str,
    /// API version that brought it.
    pub since: &'static str,
    /// `works`, `differs` or `missing`.
    pub status: &'static str,
    /// What differs or is missing; may be empty.
    pub note: &'static str,
}

/// Returns what is answered and how far it agrees with docker, for the documentation.
#[must_use]
pub fn compatibility_table() -> Vec<Endpoint> {
    let endpoint = |route: &Route| Endpoint {
        methods: route.methods.iter().map(Method::as_str).collect(),
        pattern: route.pattern,
        since: route.since,
        status: route.status.as_str(),
        note: route.note,
    };
    ROUTES.iter().map(endpoint).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_says_how() {
        for route in ROUTES
            .iter()
            .filter(|route| route.status == Status::Differs)
        {
            assert!(!route.note.is_empty(), "{}", route.pattern);
        }
    }
}
