//! From a container's log options to what its shim is told.

use super::log_options::{Driver, LogOptions, file_of};
use crate::error::{EngineError, ErrorKind, Result};
use crate::log_tag::{self, DEFAULT_TAG, LogFacts};
use crate::model::container::Container;
use std::collections::BTreeMap;
use std::net::ToSocketAddrs;
use std::path::{Path, PathBuf};
use wharf_runtime::{
    LogAddress, LogConfig, LogDriver, LogIdentity, LogTls, RemoteLog, SyslogConfig, SyslogFormat,
};

/// Port of syslog.
const SYSLOG_PORT: u16 = 514;
/// The kind of a syslog address with TLS.
const SECURE: &str = "tcp+tls";
/// Most bytes of a certificate's or key's file.
const MAX_PEM_BYTES: u64 = 1 << 20;
/// Where local syslog daemons listen.
const SYSLOG_SOCKETS: [&str; 3] = ["/dev/log", "/var/run/syslog", "/var/run/log"];

/// Returns how the output of a container that starts now is recorded; None when it is not.
///
/// # Errors
/// Options that cannot be carried out, a name of a log daemon that does not resolve.
pub(crate) fn plan(container: &Container) -> Result<Option<LogConfig>> {
    let options = LogOptions::parse(&container.host_config.log_config)?;
    let remote = remote(container, &options)?;
    let file = file_of(container, &options);
    if file.is_none() && remote.is_none() {
        return Ok(None);
    }
    let (path, driver) = match file {
        Some((path, Driver::JsonFile)) => (path, LogDriver::JsonFile),
        Some((path, _)) => (path, LogDriver::Local),
        None => (PathBuf::new(), LogDriver::None),
    };
    let mut attributes = BTreeMap::new();
    if options.driver == Driver::JsonFile {
        let given = &container.host_config.log_config.options;
        attributes = log_tag::attributes(given, &LogFacts::from(container))?;
    }
    Ok(Some(LogConfig {
        path,
        driver,
        max_size_bytes: options.max_size_bytes,
        max_files: options.max_files,
        compress: options.compress,
        attributes,
        remote,
        max_buffer_bytes: options.max_buffer_bytes,
    }))
}

fn remote(container: &Container, options: &LogOptions) -> Result<Option<RemoteLog>> {
    if !matches!(options.driver, Driver::Journald | Driver::Syslog) {
        return Ok(None);
    }
    let given = &container.host_config.log_config.options;
    let facts = LogFacts::from(container);
    let template = given.get("tag").filter(|template| !template.is_empty());
    let tag = log_tag::tag(template.map_or(DEFAULT_TAG, String::as_str), &facts)?;
    if options.driver == Driver::Journald {
        return Ok(Some(RemoteLog::Journald(journal_fields(
            container, &facts, tag,
        )?)));
    }
    let address = address(options.syslog_address.as_deref(), given)?;
    let is_rfc5424 = matches!(
        options.syslog_format,
        SyslogFormat::Rfc5424 | SyslogFormat::Rfc5424Micro
    );
    Ok(Some(RemoteLog::Syslog {
        config: SyslogConfig {
            facility: options.syslog_facility,
            format: options.syslog_format,
            tag,
            hostname: rustix::system::uname()
                .nodename()
                .to_string_lossy()
                .into_owned(),
            counts_octets: is_rfc5424 && matches!(address, LogAddress::Tls(..)),
        },
        address,
    }))
}

fn journal_fields(
    container: &Container,
    facts: &LogFacts,
    tag: String,
) -> Result<BTreeMap<String, String>> {
    let mut fields: BTreeMap<String, String> =
        log_tag::chosen_attributes(&container.host_config.log_config.options, facts)?
            .into_iter()
            .map(|(key, value)| (journal_name(&key), value))
            .filter(|(key, _)| !key.is_empty())
            .collect();
    let own = [
        ("CONTAINER_ID", container.short_id().to_owned()),
        ("CONTAINER_ID_FULL", container.id.clone()),
        ("CONTAINER_NAME", container.name.clone()),
        ("CONTAINER_TAG", tag.clone()),
        ("IMAGE_NAME", container.config.image.clone()),
        ("SYSLOG_IDENTIFIER", tag),
    ];
    fields.extend(own.map(|(key, value)| (key.to_owned(), value)));
    Ok(fields)
}

/// Turns a label into a journal's field name: capitals, digits and `_`, none of these in front but
/// capitals.
fn journal_name(key: &str) -> String {
    let name: String = key
        .chars()
        .map(|letter| match letter.to_ascii_uppercase() {
            letter @ ('A'..='Z' | '0'..='9') => letter,
            _ => '_',
        })
        .collect();
    name.trim_start_matches(|letter: char| !letter.is_ascii_uppercase())
        .to_owned()
}

/// Refuses a syslog address of a form that is not known, without resolving it.
pub(crate) fn check_address(text: &str) -> Result<()> {
    split_address(text).map(drop)
}

/// Splits `tcp://host:port` and the like.
fn split_address(text: &str) -> Result<(&str, &str)> {
    let odd = || {
        EngineError::invalid(format!(
            "invalid syslog-address {text:?}: expected unix://PATH, unixgram://PATH, udp://HOST:PORT, \
             tcp://HOST:PORT or tcp+tls://HOST:PORT"
        ))
    };
    let (kind, rest) = text.split_once("://").ok_or_else(odd)?;
    match kind {
        "unix" | "unixgram" if rest.starts_with('/') => Ok((kind, rest)),
        "udp" | "tcp" | SECURE if !rest.is_empty() => Ok((kind, rest)),
        _ => Err(odd()),
    }
}

fn address(text: Option<&str>, options: &BTreeMap<String, String>) -> Result<LogAddress> {
    let Some(text) = text else {
        let found = SYSLOG_SOCKETS
            .iter()
            .find(|path| wharf_safefs::trusted::exists(Path::new(path)).unwrap_or(false));
        return found.map(|path| LogAddress::Unix(path.into())).ok_or_else(|| {
            EngineError::internal(
                "failed to initialize logging driver: Unix syslog delivery error: no syslog daemon listens at /dev/log",
            )
        });
    };
    let (kind, rest) = split_address(text)?;
    if kind.starts_with("unix") {
        return Ok(LogAddress::Unix(rest.into()));
    }
    let has_port = rest
        .rsplit_once(':')
        .is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    let host = match rest.rsplit_once(':') {
        Some((host, _)) if has_port => host,
        _ => rest,
    };
    let host = host.trim_matches(['[', ']']);
    let tls = match kind {
        SECURE => Some(Box::new(tls(host, options)?)),
        _ => None,
    };
    let resolved = if has_port {
        rest.to_socket_addrs()
    } else {
        (host, SYSLOG_PORT).to_socket_addrs()
    };
    let failed = |text: String| cannot_start(&format!("dial {kind}: {text}"));
    let found = resolved.map_err(|error| failed(error.to_string()))?.next();
    let found = found.ok_or_else(|| failed(format!("{rest} has no address")))?;
    Ok(match (kind, tls) {
        (_, Some(tls)) => LogAddress::Tls(found, tls),
        ("udp", None) => LogAddress::Udp(found),
        (_, None) => LogAddress::Tcp(found),
    })
}

/// Reads what `syslog-tls-*` names. Any value of `skip-verify` counts, and without a check nobody is asked for
/// authorities, as in docker.
fn tls(host: &str, options: &BTreeMap<String, String>) -> Result<LogTls> {
    let file = |key: &str| options.get(key).filter(|path| !path.is_empty());
    let skips_verification = options.contains_key("syslog-tls-skip-verify");
    let authorities = match file("syslog-tls-ca-cert").filter(|_| !skips_verification) {
        None => None,
        Some(path) => Some(read_pem(path).map_err(|text| {
            cannot_start(&format!("could not read CA certificate {path:?}: {text}"))
        })?),
    };
    let pair = [file("syslog-tls-cert"), file("syslog-tls-key")];
    let identity = if pair == [None, None] {
        None
    } else {
        let [certificate, key] = pair.map(|path| {
            read_pem(path.map_or("", String::as_str))
                .map_err(|text| cannot_start(&format!("Could not load X509 key pair: {text}")))
        });
        Some(LogIdentity {
            certificate: certificate?,
            key: key?,
        })
    };
    Ok(LogTls {
        server_name: host.to_owned(),
        authorities,
        identity,
        skips_verification,
    })
}

fn read_pem(path: &str) -> std::result::Result<String, String> {
    wharf_safefs::trusted::read_to_string(path, MAX_PEM_BYTES).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => format!("open {path}: no such file or directory"),
        _ => error.to_string(),
    })
}

fn cannot_start(text: &str) -> EngineError {
    EngineError::new(
        ErrorKind::Internal,
        format!("failed to initialize logging driver: {text}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let address = |text| address(text, &BTreeMap::new());
        for (text, expected) in [
            ("unix:///dev/log", LogAddress::Unix("/dev/log".into())),
            (
                "udp://127.0.0.1:1514",
                LogAddress::Udp(([127, 0, 0, 1], 1514).into()),
            ),
            (
                "tcp://127.0.0.1",
                LogAddress::Tcp(([127, 0, 0, 1], 514).into()),
            ),
            (
                "tcp+tls://[::1]:6514",
                LogAddress::Tls(
                    ([0, 0, 0, 0, 0, 0, 0, 1], 6514).into(),
                    Box::new(LogTls {
                        server_name: "::1".to_owned(),
                        authorities: None,
                        identity: None,
                        skips_verification: false,
                    }),
                ),
            ),
        ] {
            assert_eq!(address(Some(text)).unwrap(), expected, "{text}");
        }
        for text in ["", "x", "unix://relative", "http://a:1", "tcp+tls://"] {
            assert!(check_address(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_tls_needs_is_read_at_the_start() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.pem");
        wharf_safefs::trusted::write_atomic(&path, b"pem", 0o600, false).unwrap();
        let path = path.to_str().unwrap();
        let read = |options: &[(&str, &str)]| {
            let options = options
                .iter()
                .map(|(key, value)| (format!("syslog-tls-{key}"), (*value).to_owned()));
            tls("h", &options.collect()).map_err(|error| error.message().to_owned())
        };
        let found = read(&[("ca-cert", path), ("cert", path), ("key", path)]).unwrap();
        assert_eq!(found.authorities.as_deref(), Some("pem"));
        assert_eq!(found.identity.map(|pair| pair.key).as_deref(), Some("pem"));
        let found = read(&[("ca-cert", "/nosuch"), ("skip-verify", "false")]).unwrap();
        assert!(found.skips_verification);
        for (options, expected) in [
            (
                &[("ca-cert", "/nosuch")][..],
                "could not read CA certificate \"/nosuch\": open /nosuch: no such file or directory",
            ),
            (
                &[("cert", "/nosuch")],
                "Could not load X509 key pair: open /nosuch: no such file or directory",
            ),
            (
                &[("cert", path)],
                "Could not load X509 key pair: open : no such file or directory",
            ),
        ] {
            let expected = format!("failed to initialize logging driver: {expected}");
            assert_eq!(read(options), Err(expected));
        }
    }

    #[test]
    fn names_of_the_journal() {
        assert_eq!(journal_name("com.example-1"), "COM_EXAMPLE_1");
        assert_eq!(journal_name("_1a"), "A");
    }
}
