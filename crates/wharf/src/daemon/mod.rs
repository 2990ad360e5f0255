//! The daemon: reads its configuration, opens an engine, serves its API on sockets, reads the
//! configuration again at SIGHUP, stops at SIGTERM. Containers go on without it.

mod configuration;
mod defaults;
mod file;
mod logging;
mod notify;
mod sockets;

use configuration::Configuration;
use logging::Level;
use std::sync::Arc;
use tokio::signal::unix::{Signal, SignalKind, signal};
use wharf_api::{ApiError, Metrics, PolicyHandle, ServeOptions};
use wharf_cli::DaemonArgs;
use wharf_engine::{Engine, EngineError, EngineOptions};
use wharf_safefs::{FsError, trusted};

/// Exit status at a second signal, which ends the daemon at once.
const EXIT_IMPATIENT: i32 = 130;
/// Threads that serve requests; what blocks has threads of its own.
const MAX_WORKERS: usize = 4;

#[derive(Debug, thiserror::Error)]
enum DaemonError {
    #[error("{0}")]
    Configuration(String),
    #[error("cannot start the daemon's threads: {0}")]
    Threads(#[source] std::io::Error),
    #[error("{0}")]
    Engine(#[from] EngineError),
    #[error("{0}")]
    Api(#[from] ApiError),
    #[error("{0}")]
    Sockets(#[from] sockets::SocketError),
    #[error("cannot write the process ID: {0}")]
    PidFile(#[from] FsError),
    #[error("cannot listen for signals: {0}")]
    Signals(#[source] std::io::Error),
}

/// Runs the daemon until SIGTERM or SIGINT and returns its exit code.
pub fn run(args: &DaemonArgs) -> i32 {
    let result = if args.print_openapi {
        print(&wharf_api::openapi());
        Ok(())
    } else {
        serve(args)
    };
    match result {
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

#[expect(clippy::print_stdout, reason = "a command's data")]
fn print(text: &str) {
    println!("{text}");
}

fn serve(args: &DaemonArgs) -> Result<(), DaemonError> {
    let configuration = Configuration::load(args).map_err(DaemonError::Configuration)?;
    if args.validate {
        for warning in &configuration.warnings {
            complain(&DaemonError::Configuration(format!("warning: {warning}")));
        }
        print("configuration OK");
        return Ok(());
    }
    defaults::export_proxies(&configuration.engine.proxies);
    let level = logging::start(configuration.log_level, configuration.log_format);
    for warning in &configuration.warnings {
        tracing::warn!("{warning}");
    }
    let workers = std::thread::available_parallelism().map_or(2, usize::from);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(workers.min(MAX_WORKERS))
        .enable_all()
        .build()
        .map_err(DaemonError::Threads)?;
    runtime.block_on(live(args, configuration, level))
}

async fn live(
    args: &DaemonArgs,
    configuration: Configuration,
    level: Level,
) -> Result<(), DaemonError> {
    let mut signals = Signals::new()?;
    let engine = Engine::open(engine_options(&configuration)).await?;
    for warning in engine.warnings() {
        tracing::warn!("{warning}");
    }
    for failure in engine.network_failures() {
        tracing::warn!("network: {failure}");
    }
    let opened = sockets::open(&configuration).await?;
    if let Some(path) = &configuration.pidfile {
        let text = format!("{}\n", std::process::id());
        trusted::write_atomic(path, text.as_bytes(), 0o644, false)?;
    }
    let metrics = Arc::new(Metrics::new());
    if let Some(address) = &configuration.metrics_address {
        let listener = wharf_api::bind_tcp(address).await?;
        tracing::info!(%address, "serving metrics");
        tokio::spawn(wharf_api::serve_metrics(
            listener,
            engine.clone(),
            metrics.clone(),
        ));
    }
    let (stop, stopping) = tokio::sync::oneshot::channel::<()>();
    let options = ServeOptions {
        // The sender is only dropped when this function ends, which is a stop too.
        stop: Box::pin(async move { drop(stopping.await) }),
        metrics,
    };
    let serving = tokio::spawn(wharf_api::serve(engine.clone(), opened.listeners, options));
    notify::ready();
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        root = %configuration.root.display(),
        "daemon is ready"
    );
    let mut reloader = Reloader {
        args,
        engine: engine.clone(),
        current: configuration,
        policies: opened.policies,
        level,
    };
    tokio::pin!(serving);
    let ended = loop {
        tokio::select! {
            _ = signals.hang_up.recv() => reloader.reload(),
            () = stop_signal(&mut signals.terminate, &mut signals.interrupt) => break None,
            ended = &mut serving => break Some(ended),
        }
    };
    notify::stopping();
    tracing::info!("stopping; containers go on running");
    tokio::spawn(async move {
        stop_signal(&mut signals.terminate, &mut signals.interrupt).await;
        std::process::exit(EXIT_IMPATIENT);
    });
    // Nobody receives any more when the server ended by itself.
    let _ = stop.send(());
    let ended = match ended {
        Some(ended) => ended,
        None => serving.await,
    };
    sockets::remove(&opened.paths);
    engine.shutdown().await;
    if let Some(path) = &reloader.current.pidfile {
        sockets::remove(&[path]);
    }
    ended.unwrap_or(Ok(())).map_err(DaemonError::Api)
}

fn engine_options(configuration: &Configuration) -> EngineOptions {
    EngineOptions {
        root: configuration.root.clone(),
        run_dir: configuration.run_dir.clone(),
        cache_limit_bytes: configuration.cache_limit_bytes,
        shim_exe: None,
        settings: configuration.engine.clone(),
    }
}

/// The signals that the daemon acts on.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Signals {
    fn new() -> Result<Self, DaemonError> {
        let listen = |kind| signal(kind).map_err(DaemonError::Signals);
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            hang_up: listen(SignalKind::hangup())?,
        })
    }
}

/// Waits for SIGTERM or SIGINT.
async fn stop_signal(terminate: &mut Signal, interrupt: &mut Signal) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

/// Reads the configuration again and puts in force what can change.
struct Reloader<'a> {
    args: &'a DaemonArgs,
    engine: Arc<Engine>,
    current: Configuration,
    policies: Vec<PolicyHandle>,
    level: Level,
}

impl Reloader<'_> {
    /// A configuration with a mistake in it changes nothing.
    fn reload(&mut self) {
        notify::reloading();
        if let Err(error) = self.try_reload() {
            tracing::error!("the configuration is not reloaded, the old one stays: {error}");
        }
        notify::ready();
    }

    fn try_reload(&mut self) -> Result<(), String> {
        let new = Configuration::load(self.args)?;
        for warning in &new.warnings {
            tracing::warn!("{warning}");
        }
        self.engine
            .reload(new.engine.clone())
            .map_err(|error| error.message().to_owned())?;
        self.level.set(new.log_level);
        for name in self.current.fixed_differences(&new) {
            tracing::warn!("{name} changed: this counts from the next start on");
        }
        // A policy belongs to its address: those of addresses that are new have no socket yet.
        for (old, handle) in self.current.sockets.iter().zip(&self.policies) {
            let same = new.sockets.iter().find(|new| new.address == old.address);
            if let Some(same) = same {
                handle.replace(same.policy.clone());
            }
        }
        self.current.engine = new.engine;
        tracing::info!("configuration reloaded");
        Ok(())
    }
}
