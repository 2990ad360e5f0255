//! What the server counts, in the text form that Prometheus reads.

use crate::respond::Body;
use http::{Method, StatusCode};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;
use tokio::net::TcpListener;
use wharf_engine::Engine;
use wharf_safefs::trusted;

/// Upper ends of the classes request durations are sorted into, in seconds.
const DURATION_BUCKETS: [f64; 9] = [0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0];
/// Content type of the text form.
const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// Bytes of a request's head.
const MAX_HEAD_BYTES: usize = 16 * 1024;
/// How long one connection is served; a scraper that stays connects again.
const CONNECTION_LIMIT: Duration = Duration::from_secs(300);
/// Bytes of a file of `/proc` that are read.
const MAX_PROC_BYTES: u64 = 64 * 1024;

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct RequestLabels {
    method: &'static str,
    route: &'static str,
    code: u16,
}

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct RouteLabels {
    method: &'static str,
    route: &'static str,
}

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ActionLabels {
    action: &'static str,
}

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct StateLabels {
    state: &'static str,
}

/// Counts requests; shared by the server and whoever prints the numbers.
pub struct Metrics {
    requests: Family<RequestLabels, Counter>,
    durations: Family<RouteLabels, Histogram, fn() -> Histogram>,
    actions: Family<ActionLabels, Histogram, fn() -> Histogram>,
    connections: Gauge<u64, AtomicU64>,
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

fn histogram() -> Histogram {
    Histogram::new(DURATION_BUCKETS)
}

impl Metrics {
    /// Makes a set of counters, all at zero.
    pub fn new() -> Self {
        Self {
            requests: Family::default(),
            durations: Family::new_with_constructor(histogram),
            actions: Family::new_with_constructor(histogram),
            connections: Gauge::default(),
        }
    }

    /// Counts a request that was answered; streams count when their answer begins.
    pub(crate) fn answered(
        &self,
        method: &Method,
        route: &'static str,
        code: StatusCode,
        took: Duration,
    ) {
        let method = method_name(method);
        let seconds = took.as_secs_f64();
        self.requests
            .get_or_create(&RequestLabels {
                method,
                route,
                code: code.as_u16(),
            })
            .inc();
        self.durations
            .get_or_create(&RouteLabels { method, route })
            .observe(seconds);
        if let Some(action) = action_of(method, route) {
            self.actions
                .get_or_create(&ActionLabels { action })
                .observe(seconds);
        }
    }

    /// Counts an open connection until the guard is dropped.
    pub(crate) fn connected(self: &Arc<Self>) -> Connected {
        self.connections.inc();
        Connected(Arc::clone(self))
    }

    /// Returns all numbers in the text form.
    pub fn text(&self, engine: &Engine) -> String {
        let mut registry = Registry::default();
        registry.register(
            "wharf_api_requests",
            "Requests answered",
            self.requests.clone(),
        );
        registry.register(
            "wharf_api_request_duration_seconds",
            "Time until an answer began",
            self.durations.clone(),
        );
        registry.register(
            "wharf_api_connections",
            "Connections open now",
            self.connections.clone(),
        );
        registry.register(
            "engine_daemon_container_actions_seconds",
            "Time that container actions took",
            self.actions.clone(),
        );
        register_engine(&mut registry, engine);
        register_process(&mut registry);
        let mut text = String::new();
        // Writing to a text cannot fail.
        let _ = text::encode(&mut text, &registry);
        text
    }
}

/// Keeps a connection counted.
pub(crate) struct Connected(Arc<Metrics>);

impl Drop for Connected {
    fn drop(&mut self) {
        self.0.connections.dec();
    }
}

/// A method's name as a label; methods that no route has count as one.
fn method_name(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "HEAD" => "HEAD",
        "POST" => "POST",
        "PUT" => "PUT",
        "DELETE" => "DELETE",
        "OPTIONS" => "OPTIONS",
        _ => "other",
    }
}

/// Docker's name of the actions it measures.
fn action_of(method: &str, route: &str) -> Option<&'static str> {
    match (method, route) {
        ("POST", "/containers/create") => Some("create"),
        ("POST", "/containers/{name}/start") => Some("start"),
        ("POST", "/commit") => Some("commit"),
        ("GET", "/containers/{name}/changes") => Some("changes"),
        ("DELETE", "/containers/{name}") => Some("delete"),
        _ => None,
    }
}

/// The numbers that docker's daemon publishes of itself, by docker's names.
fn register_engine(registry: &mut Registry, engine: &Engine) {
    let info = engine.info();
    let states = Family::<StateLabels, Gauge>::default();
    let (running, paused, stopped) = info.containers;
    for (state, count) in [
        ("running", running),
        ("paused", paused),
        ("stopped", stopped),
    ] {
        states
            .get_or_create(&StateLabels { state })
            .set(i64::try_from(count).unwrap_or(i64::MAX));
    }
    registry.register(
        "engine_daemon_container_states_containers",
        "Containers by state",
        states,
    );
    let number = |value: u64| {
        let gauge: Gauge<u64, AtomicU64> = Gauge::default();
        gauge.set(value);
        gauge
    };
    for (name, help, value) in [
        (
            "engine_daemon_engine_cpus_cpus",
            "CPUs of the host",
            info.cpus as u64,
        ),
        (
            "engine_daemon_engine_memory_bytes",
            "Memory of the host",
            info.memory_bytes,
        ),
        ("wharf_images", "Images", info.images as u64),
        (
            "wharf_event_listeners",
            "Clients that follow the events",
            info.event_listeners as u64,
        ),
    ] {
        registry.register(name, help, number(value));
    }
    registry.register(
        "engine_daemon_engine",
        "What runs here",
        prometheus_client::metrics::info::Info::new(vec![
            ("version", crate::version::ENGINE_VERSION.to_owned()),
            ("wharf", env!("CARGO_PKG_VERSION").to_owned()),
            ("kernel", info.kernel_version),
            ("os", info.operating_system),
            ("architecture", info.architecture),
            ("daemon_id", info.id),
        ]),
    );
}

/// The numbers that every Prometheus client publishes of its process.
fn register_process(registry: &mut Registry) {
    let read = |path: &str| trusted::read_to_string(path, MAX_PROC_BYTES).unwrap_or_default();
    let status = read("/proc/self/status");
    let kibibytes = |key: &str| {
        let line = status.lines().find(|line| line.starts_with(key));
        line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok())
            .unwrap_or(0)
    };
    let files = trusted::read_dir_sorted("/proc/self/fd").map_or(0, |entries| entries.len() as u64);
    for (name, help, value) in [
        (
            "process_resident_memory_bytes",
            "Memory that the process has in RAM",
            kibibytes("VmRSS:") * 1024,
        ),
        (
            "process_virtual_memory_bytes",
            "Address space of the process",
            kibibytes("VmSize:") * 1024,
        ),
        ("process_open_fds", "Open file descriptors", files),
        ("process_threads", "Threads", kibibytes("Threads:")),
    ] {
        let gauge: Gauge<u64, AtomicU64> = Gauge::default();
        gauge.set(value);
        registry.register(name, help, gauge);
    }
}

/// Answers `GET /metrics` on an address of its own until the future is dropped.
pub async fn serve_metrics(listener: TcpListener, engine: Arc<Engine>, metrics: Arc<Metrics>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let (engine, metrics) = (engine.clone(), metrics.clone());
        let service = service_fn(move |request: http::Request<Incoming>| {
            let response = match (request.method(), request.uri().path()) {
                (&Method::GET, "/metrics") => {
                    let text = metrics.text(&engine);
                    let mut response = http::Response::new(Body::Whole(text.into()));
                    crate::respond::set_content_type(&mut response, CONTENT_TYPE);
                    response
                }
                _ => crate::respond::status(StatusCode::NOT_FOUND),
            };
            async move { Ok::<_, Infallible>(response) }
        });
        tokio::spawn(async move {
            let connection = hyper::server::conn::http1::Builder::new()
                .max_buf_size(MAX_HEAD_BYTES)
                .timer(hyper_util::rt::TokioTimer::new())
                .serve_connection(TokioIo::new(stream), service);
            // A broken connection concerns nobody but its client.
            let _ = tokio::time::timeout(CONNECTION_LIMIT, connection).await;
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_counted_while_they_last() {
        let metrics = Arc::new(Metrics::new());
        let guard = metrics.connected();
        assert_eq!(metrics.connections.get(), 1);
        drop(guard);
        assert_eq!(metrics.connections.get(), 0);
    }
}
