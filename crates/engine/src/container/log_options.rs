//! Options of the json-file log driver (spec runtime §7).

use crate::error::{EngineError, Result};
use crate::log_tag::{self, ATTRIBUTE_OPTIONS, LogFacts};
use crate::model::host_config::LogConfig;

/// Bytes a log file grows to before it is rotated, when nothing is asked for: output never fills a
/// disk by default.
pub(crate) const DEFAULT_MAX_SIZE_BYTES: u64 = 20 * 1024 * 1024;
/// Log files kept when nothing is asked for.
pub(crate) const DEFAULT_MAX_FILES: u32 = 5;

/// What the json-file driver is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LogOptions {
    pub max_size_bytes: Option<u64>,
    pub max_files: u32,
    pub compress: bool,
}

impl LogOptions {
    /// Reads the driver's options.
    ///
    /// # Errors
    /// Docker's text for an unknown option; a clear one for a value that is none.
    pub(crate) fn parse(config: &LogConfig) -> Result<Self> {
        let mut options = Self {
            max_size_bytes: Some(DEFAULT_MAX_SIZE_BYTES),
            max_files: DEFAULT_MAX_FILES,
            compress: false,
        };
        let invalid = |key: &str, value: &str| {
            EngineError::invalid(format!("invalid value for {key}: {value:?}"))
        };
        for (key, value) in &config.options {
            match key.as_str() {
                "max-size" => {
                    options.max_size_bytes = if value == "-1" {
                        None
                    } else {
                        Some(parse_size(value).ok_or_else(|| invalid(key, value))?)
                    }
                }
                "max-file" => {
                    options.max_files = value
                        .parse()
                        .ok()
                        .filter(|count| *count > 0)
                        .ok_or_else(|| invalid(key, value))?
                }
                "compress" => options.compress = value.parse().map_err(|_| invalid(key, value))?,
                "mode" if value == "blocking" => {}
                // What they choose is known when the container starts; a mistake in them is told now.
                key if ATTRIBUTE_OPTIONS.contains(&key) => {}
                _ => {
                    return Err(EngineError::invalid(format!(
                        "unknown log opt '{key}' for {} log driver",
                        if config.driver.is_empty() {
                            "json-file"
                        } else {
                            &config.driver
                        }
                    )));
                }
            }
        }
        log_tag::attributes(&config.options, &LogFacts::default())?;
        Ok(options)
    }
}

/// Reads a size such as `10m`, which is ten million bytes as in docker.
fn parse_size(text: &str) -> Option<u64> {
    let size = wharf_units::size_in_bytes(text).ok()?;
    u64::try_from(size).ok().filter(|size| *size > 0)
}
