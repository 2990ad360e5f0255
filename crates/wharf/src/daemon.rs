//! The daemon: opens an engine, serves its API on sockets, stops on a signal.

use std::path::{Path, PathBuf};
use tokio::signal::unix::{SignalKind, signal};
use wharf_api::{ApiError, ServeOptions};
use wharf_cli::{DEFAULT_SOCKET, DaemonArgs};
use wharf_engine::{DEFAULT_ROOT, Engine, EngineError, EngineOptions};

/// State directory of the default root.
const DEFAULT_RUN_DIR: &str = "/run/wharf";
/// Where docker's own clients look.
const DOCKER_SOCKET: &str = "/var/run/docker.sock";

#[derive(Debug, thiserror::Error)]
enum DaemonError {
    #[error("cannot start the daemon's threads: {0}")]
    Threads(#[source] std::io::Error),
    #[error("{0}")]
    Engine(#[from] EngineError),
    #[error("{0}")]
    Api(#[from] ApiError),
    #[error("cannot listen for signals: {0}")]
    Signals(#[source] std::io::Error),
}

/// Runs the daemon until SIGTERM or SIGINT and returns its exit code.
pub fn run(args: &DaemonArgs) -> i32 {
    match serve(args) {
        Ok(()) => 0,
        Err(error) => {
            complain(&error);
            1
        }
    }
}

#[expect(clippy::print_stderr, reason = "the daemon's last word")]
fn complain(error: &DaemonError) {
    eprintln!("error: {error}");
}

fn serve(args: &DaemonArgs) -> Result<(), DaemonError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(DaemonError::Threads)?;
    runtime.block_on(async {
        let options = options(args);
        let engine = Engine::open(options).await?;
        let mut listeners = Vec::new();
        for socket in sockets(args) {
            listeners.push(wharf_api::bind_unix(&socket, args.group.as_deref())?);
        }
        let serving = wharf_api::serve(
            engine.clone(),
            listeners,
            ServeOptions::until(stop_signal()?),
        );
        serving.await?;
        engine.shutdown().await;
        Ok(())
    })
}

fn options(args: &DaemonArgs) -> EngineOptions {
    let root = args
        .root
        .clone()
        .unwrap_or_else(|| PathBuf::from(DEFAULT_ROOT));
    let run_dir = args
        .run_dir
        .clone()
        .unwrap_or_else(|| default_run_dir(&root));
    EngineOptions {
        root,
        run_dir,
        cache_limit_bytes: args.cache_limit,
        shim_exe: None,
    }
}

/// A root of one's own keeps its state beside the default one, under a name made of its path.
fn default_run_dir(root: &Path) -> PathBuf {
    if root == Path::new(DEFAULT_ROOT) {
        return PathBuf::from(DEFAULT_RUN_DIR);
    }
    Path::new("/run").join(wharf_engine::instance_name(root))
}

fn sockets(args: &DaemonArgs) -> Vec<PathBuf> {
    let mut sockets: Vec<PathBuf> = args.sockets.iter().chain(&args.hosts).cloned().collect();
    if sockets.is_empty() {
        sockets.push(PathBuf::from(DEFAULT_SOCKET));
    }
    if args.docker_socket {
        sockets.push(PathBuf::from(DOCKER_SOCKET));
    }
    sockets
}

/// Returns a future that ends at SIGTERM or SIGINT.
fn stop_signal() -> Result<impl Future<Output = ()> + Send + 'static, DaemonError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(DaemonError::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(DaemonError::Signals)?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}
