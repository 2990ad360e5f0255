//! Log drivers and their options (spec runtime §7).

use crate::error::{EngineError, Result};
use crate::log_tag::{self, ATTRIBUTE_OPTIONS, LogFacts};
use crate::model::container::Container;
use crate::model::host_config::LogConfig;
use std::path::{Path, PathBuf};
use wharf_runtime::SyslogFormat;

/// Bytes a log file grows to before it is rotated, when nothing is asked for: output never fills a
/// disk by default.
pub(crate) const DEFAULT_MAX_SIZE_BYTES: u64 = 20 * 1024 * 1024;
/// Log files kept when nothing is asked for.
pub(crate) const DEFAULT_MAX_FILES: u32 = 5;
/// Bytes that may wait for a log daemon in mode `non-blocking`.
const DEFAULT_MAX_BUFFER_BYTES: u64 = 1024 * 1024;
/// Facility of syslog messages: `daemon`.
const DEFAULT_FACILITY: u8 = 3;

/// Names of the log drivers, as docker lists them (without `none`).
pub const DRIVERS: [&str; 4] = ["journald", "json-file", "local", "syslog"];

/// Syslog facilities by number (RFC 5424 §6.2.1); what is not named here has no name in docker.
const FACILITIES: [(&str, u8); 20] = [
    ("kern", 0),
    ("user", 1),
    ("mail", 2),
    ("daemon", 3),
    ("auth", 4),
    ("syslog", 5),
    ("lpr", 6),
    ("news", 7),
    ("uucp", 8),
    ("cron", 9),
    ("authpriv", 10),
    ("ftp", 11),
    ("local0", 16),
    ("local1", 17),
    ("local2", 18),
    ("local3", 19),
    ("local4", 20),
    ("local5", 21),
    ("local6", 22),
    ("local7", 23),
];

/// Where output goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Driver {
    JsonFile,
    Local,
    None,
    Journald,
    Syslog,
}

impl Driver {
    const fn name(self) -> &'static str {
        match self {
            Self::JsonFile => "json-file",
            Self::Local => "local",
            Self::None => "none",
            Self::Journald => "journald",
            Self::Syslog => "syslog",
        }
    }

    /// Tells whether lines go to a daemon, and to a file only so that they can be read here.
    const fn is_remote(self) -> bool {
        matches!(self, Self::Journald | Self::Syslog)
    }
}

/// What a log driver is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LogOptions {
    pub driver: Driver,
    pub max_size_bytes: Option<u64>,
    pub max_files: u32,
    pub compress: bool,
    /// False when lines for a daemon are not kept here too.
    pub cache: bool,
    /// Bytes that may wait before the oldest are dropped; None means that the container waits.
    pub max_buffer_bytes: Option<u64>,
    pub syslog_address: Option<String>,
    pub syslog_facility: u8,
    pub syslog_format: SyslogFormat,
}

impl LogOptions {
    fn of(driver: Driver) -> Self {
        Self {
            driver,
            max_size_bytes: Some(DEFAULT_MAX_SIZE_BYTES),
            max_files: DEFAULT_MAX_FILES,
            compress: driver != Driver::JsonFile,
            cache: true,
            max_buffer_bytes: None,
            syslog_address: None,
            syslog_facility: DEFAULT_FACILITY,
            syslog_format: SyslogFormat::Unix,
        }
    }

    /// Reads a driver's name and options.
    ///
    /// # Errors
    /// Docker's texts for an unknown driver or option; a clear one for a value that is none.
    pub(crate) fn parse(config: &LogConfig) -> Result<Self> {
        let driver = match config.driver.as_str() {
            "" | "json-file" => Driver::JsonFile,
            "local" => Driver::Local,
            "none" => Driver::None,
            "journald" => Driver::Journald,
            "syslog" => Driver::Syslog,
            other => {
                return Err(EngineError::invalid(format!(
                    "error looking up logging plugin {other}: plugin \"{other}\" not found"
                )));
            }
        };
        let mut options = Self::of(driver);
        if driver == Driver::None {
            // Docker does not look at them either.
            return Ok(options);
        }
        for (key, value) in &config.options {
            if !options.set(key, value)? {
                return Err(EngineError::invalid(unknown_option(driver, key)));
            }
        }
        let buffer = config.options.get("max-buffer-size");
        match config
            .options
            .get("mode")
            .map_or("blocking", String::as_str)
        {
            "" | "blocking" if buffer.is_some() => {
                return Err(EngineError::invalid(
                    "logger: max-buffer-size option is only supported with 'mode=non-blocking'",
                ));
            }
            "" | "blocking" => {}
            "non-blocking" => {
                let size = buffer.map(String::as_str).map(buffer_size).transpose();
                let size = size.map_err(|error| {
                    EngineError::invalid(format!(
                        "error parsing option max-buffer-size: {}",
                        error.message()
                    ))
                })?;
                options.max_buffer_bytes = Some(size.unwrap_or(DEFAULT_MAX_BUFFER_BYTES));
            }
            other => {
                return Err(EngineError::invalid(format!(
                    "logger: logging mode not supported: {other}"
                )));
            }
        }
        let rotates = options.max_size_bytes.is_some() && options.max_files >= 2;
        if options.compress && !rotates {
            if config.options.contains_key("compress") {
                return Err(EngineError::invalid(
                    "compress cannot be true when max-file is less than 2 or max-size is not set",
                ));
            }
            options.compress = false;
        }
        // What they choose is known when the container starts; a mistake in them is told now.
        log_tag::attributes(&config.options, &LogFacts::default())?;
        Ok(options)
    }

    /// Takes one option; false if the driver has none of that name.
    fn set(&mut self, key: &str, value: &str) -> Result<bool> {
        let remote = self.driver.is_remote();
        let has_details = self.driver != Driver::Local;
        match (key, self.driver) {
            ("mode" | "max-buffer-size", _) => {}
            ("max-size", Driver::Local) => {
                self.max_size_bytes = max_size(value).map_err(|error| {
                    EngineError::invalid(format!(
                        "invalid value for max-size: {value}: {}",
                        error.message()
                    ))
                })?;
            }
            ("max-size", _) if !remote => self.max_size_bytes = max_size(value)?,
            ("cache-max-size", _) if remote => self.max_size_bytes = max_size(value)?,
            ("max-file", _) if !remote => self.max_files = max_files(key, value)?,
            ("cache-max-file", _) if remote => self.max_files = max_files(key, value)?,
            ("compress", _) if !remote => self.compress = flag(value)?,
            ("cache-compress", _) if remote => self.compress = flag(value)?,
            ("cache-disabled", _) if remote => self.cache = !flag(value)?,
            (key, _) if has_details && ATTRIBUTE_OPTIONS.contains(&key) => {}
            ("syslog-address", Driver::Syslog) => {
                super::log_plan::check_address(value)?;
                self.syslog_address = some(value);
            }
            ("syslog-facility", Driver::Syslog) => self.syslog_facility = facility(value)?,
            ("syslog-format", Driver::Syslog) => self.syslog_format = format(value)?,
            (
                "syslog-tls-ca-cert"
                | "syslog-tls-cert"
                | "syslog-tls-key"
                | "syslog-tls-skip-verify",
                Driver::Syslog,
            ) => {}
            _ => return Ok(false),
        }
        Ok(true)
    }
}

/// Returns the file that a container's lines are kept in and the driver that writes it; None when
/// they are not kept.
pub(crate) fn file_of(container: &Container, options: &LogOptions) -> Option<(PathBuf, Driver)> {
    let directory = Path::new(&container.directory);
    match options.driver {
        Driver::JsonFile => {
            let name = format!("{}-json.log", container.id);
            Some((directory.join(name), Driver::JsonFile))
        }
        Driver::Local => Some((directory.join("local-logs/container.log"), Driver::Local)),
        Driver::Journald | Driver::Syslog if options.cache => {
            Some((directory.join("container-cached.log"), Driver::Local))
        }
        Driver::Journald | Driver::Syslog | Driver::None => None,
    }
}

fn unknown_option(driver: Driver, key: &str) -> String {
    match driver {
        Driver::Local => format!("unknown log opt '{key}' for log driver local"),
        driver => format!("unknown log opt '{key}' for {} log driver", driver.name()),
    }
}

fn invalid(key: &str, value: &str) -> EngineError {
    EngineError::invalid(format!("invalid value for {key}: {value:?}"))
}

fn max_size(value: &str) -> Result<Option<u64>> {
    match value {
        "-1" => Ok(None),
        value => size(value).map(Some),
    }
}

/// Reads a file's size: `10m` is ten million bytes, as in docker.
fn size(value: &str) -> Result<u64> {
    positive(wharf_units::size_in_bytes(value).ok(), value)
}

/// Reads a buffer's size: `4m` is 4 MiB, as in docker.
fn buffer_size(value: &str) -> Result<u64> {
    positive(wharf_units::ram_in_bytes(value).ok(), value)
}

fn positive(size: Option<i64>, value: &str) -> Result<u64> {
    if size == Some(0) {
        return Err(EngineError::invalid("max-size must be a positive number"));
    }
    size.and_then(|size| u64::try_from(size).ok())
        .filter(|size| *size > 0)
        .ok_or_else(|| EngineError::invalid(format!("invalid size: '{value}'")))
}

fn max_files(key: &str, value: &str) -> Result<u32> {
    match value.parse::<i64>().map(u32::try_from) {
        Ok(Ok(count @ 1..)) => Ok(count),
        Ok(Err(_)) if !value.starts_with('-') => Err(invalid(key, value)),
        Ok(_) => Err(EngineError::invalid(format!("{key} cannot be less than 1"))),
        Err(_) => Err(invalid(key, value)),
    }
}

/// Reads a flag as Go's `strconv.ParseBool` does.
fn flag(value: &str) -> Result<bool> {
    match value {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(EngineError::invalid(format!(
            "strconv.ParseBool: parsing {value:?}: invalid syntax"
        ))),
    }
}

fn some(value: &str) -> Option<String> {
    (!value.is_empty()).then(|| value.to_owned())
}

fn facility(value: &str) -> Result<u8> {
    let named = FACILITIES.iter().find(|(name, _)| *name == value);
    named
        .map(|(_, number)| *number)
        .or_else(|| value.parse().ok().filter(|number| *number <= 23))
        .ok_or_else(|| EngineError::invalid("invalid syslog facility"))
}

fn format(value: &str) -> Result<SyslogFormat> {
    match value {
        "" => Ok(SyslogFormat::Unix),
        "rfc3164" => Ok(SyslogFormat::Rfc3164),
        "rfc5424" => Ok(SyslogFormat::Rfc5424),
        "rfc5424micro" => Ok(SyslogFormat::Rfc5424Micro),
        _ => Err(EngineError::invalid("Invalid syslog format")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(driver: &str, options: &[(&str, &str)]) -> std::result::Result<LogOptions, String> {
        let options = options
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        let config = LogConfig {
            driver: driver.to_owned(),
            options: options.collect(),
        };
        LogOptions::parse(&config).map_err(|error| error.message().to_owned())
    }

    #[test]
    fn logs_are_bounded_unless_asked_otherwise() {
        let options = parse("", &[]).unwrap();
        let bounds = (options.max_size_bytes, options.max_files, options.compress);
        assert_eq!(bounds, (Some(20 << 20), 5, false));
        assert!(parse("local", &[]).unwrap().compress);
        let unbounded = parse("local", &[("max-size", "-1")]).unwrap();
        assert_eq!(
            (unbounded.max_size_bytes, unbounded.compress),
            (None, false)
        );
        let buffered = parse(
            "syslog",
            &[("mode", "non-blocking"), ("max-buffer-size", "4m")],
        );
        assert_eq!(buffered.unwrap().max_buffer_bytes, Some(4 << 20));
    }

    #[test]
    fn errors_are_dockers() {
        for (driver, key, value, expected) in [
            (
                "asdf",
                "",
                "",
                "error looking up logging plugin asdf: plugin \"asdf\" not found",
            ),
            (
                "json-file",
                "foo",
                "1",
                "unknown log opt 'foo' for json-file log driver",
            ),
            (
                "local",
                "tag",
                "x",
                "unknown log opt 'tag' for log driver local",
            ),
            (
                "journald",
                "max-size",
                "1m",
                "unknown log opt 'max-size' for journald log driver",
            ),
            (
                "json-file",
                "mode",
                "x",
                "logger: logging mode not supported: x",
            ),
            (
                "json-file",
                "max-buffer-size",
                "1m",
                "logger: max-buffer-size option is only supported with 'mode=non-blocking'",
            ),
            (
                "json-file",
                "max-file",
                "0",
                "max-file cannot be less than 1",
            ),
            (
                "json-file",
                "max-file",
                "-1",
                "max-file cannot be less than 1",
            ),
            (
                "json-file",
                "max-size",
                "0",
                "max-size must be a positive number",
            ),
            (
                "local",
                "max-size",
                "x",
                "invalid value for max-size: x: invalid size: 'x'",
            ),
            (
                "json-file",
                "compress",
                "maybe",
                "strconv.ParseBool: parsing \"maybe\": invalid syntax",
            ),
            ("syslog", "syslog-facility", "x", "invalid syslog facility"),
            ("syslog", "syslog-format", "x", "Invalid syslog format"),
        ] {
            let options: &[(&str, &str)] = if key.is_empty() { &[] } else { &[(key, value)] };
            assert_eq!(parse(driver, options).unwrap_err(), expected);
        }
        let buffered = [("mode", "non-blocking"), ("max-buffer-size", "x")];
        assert_eq!(
            parse("json-file", &buffered).unwrap_err(),
            "error parsing option max-buffer-size: invalid size: 'x'"
        );
        let compressed = parse("json-file", &[("compress", "true"), ("max-file", "1")]);
        assert!(
            compressed
                .unwrap_err()
                .starts_with("compress cannot be true")
        );
    }
}
