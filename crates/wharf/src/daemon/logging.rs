//! What the daemon tells of itself: lines on standard error, as text or JSON.

use tracing::level_filters::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Registry, fmt};

/// Form of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// `TIME LEVEL TARGET: MESSAGE key=value`
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Changes the level while the daemon runs.
pub struct Level(reload::Handle<LevelFilter, Registry>);

/// Starts the log.
pub fn start(level: LevelFilter, format: Format) -> Level {
    let (filter, handle) = reload::Layer::new(level);
    let registry = tracing_subscriber::registry().with(filter);
    let lines = fmt::layer().with_writer(std::io::stderr).with_ansi(false);
    // Fails only where a log was started already, which then serves.
    let _ = match format {
        Format::Text => registry.with(lines).try_init(),
        Format::Json => registry.with(lines.json().flatten_event(true)).try_init(),
    };
    Level(handle)
}

impl Level {
    /// Logs from another level on.
    pub fn set(&self, level: LevelFilter) {
        // Fails only when the log is gone.
        let _ = self.0.reload(level);
    }
}

/// Parses a level by docker's names.
pub fn parse_level(text: &str) -> Result<LevelFilter, String> {
    match text {
        "trace" => Ok(LevelFilter::TRACE),
        "debug" => Ok(LevelFilter::DEBUG),
        "info" => Ok(LevelFilter::INFO),
        "warn" | "warning" => Ok(LevelFilter::WARN),
        "error" | "fatal" | "panic" => Ok(LevelFilter::ERROR),
        other => Err(format!(
            "log-level: {other:?} is none of trace, debug, info, warn, error"
        )),
    }
}

/// Parses a form.
pub fn parse_format(text: &str) -> Result<Format, String> {
    match text {
        "text" => Ok(Format::Text),
        "json" => Ok(Format::Json),
        other => Err(format!("log-format: {other:?} is neither text nor json")),
    }
}
