//! Messages for syslog (RFC 3164, RFC 5424).

use super::time::{format_micros, stamp};
use super::{Line, LogStream};
use crate::request::{SyslogConfig, SyslogFormat};

/// Severities of the two streams (RFC 5424 §6.2.1).
const INFORMATION: u8 = 6;
const ERROR: u8 = 3;

/// Returns one message with a line end.
pub(super) fn encode(config: &SyslogConfig, line: &Line<'_>) -> Vec<u8> {
    let severity = match line.stream {
        LogStream::Stdout => INFORMATION,
        LogStream::Stderr => ERROR,
    };
    let priority = u32::from(config.facility) * 8 + u32::from(severity);
    let (tag, host, process) = (&config.tag, &config.hostname, std::process::id());
    let head = match config.format {
        SyslogFormat::Unix => format!("<{priority}>{} {tag}[{process}]: ", stamp(line.time_ns)),
        SyslogFormat::Rfc3164 => {
            format!(
                "<{priority}>{} {host} {tag}[{process}]: ",
                stamp(line.time_ns)
            )
        }
        SyslogFormat::Rfc5424 | SyslogFormat::Rfc5424Micro => {
            let seconds_only = line.time_ns - line.time_ns % 1_000_000_000;
            let time = match config.format {
                SyslogFormat::Rfc5424Micro => format_micros(line.time_ns),
                _ => super::format_time(seconds_only),
            };
            format!("<{priority}>1 {time} {host} {tag} {process} {tag} - ")
        }
    };
    let mut message = head.into_bytes();
    message.extend_from_slice(line.text());
    message.push(b'\n');
    if config.counts_octets {
        let mut counted = format!("{} ", message.len()).into_bytes();
        counted.append(&mut message);
        return counted;
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats() {
        let line = Line {
            stream: LogStream::Stderr,
            bytes: b"hi\n",
            time_ns: 1_714_557_600_123_456_000,
            part: None,
        };
        let process = std::process::id();
        let config = |format, counts_octets| SyslogConfig {
            facility: 3,
            format,
            tag: "t".into(),
            hostname: "h".into(),
            counts_octets,
        };
        for (format, expected) in [
            (
                SyslogFormat::Unix,
                format!("<27>May  1 10:00:00 t[{process}]: hi\n"),
            ),
            (
                SyslogFormat::Rfc3164,
                format!("<27>May  1 10:00:00 h t[{process}]: hi\n"),
            ),
            (
                SyslogFormat::Rfc5424,
                format!("<27>1 2024-05-01T10:00:00Z h t {process} t - hi\n"),
            ),
            (
                SyslogFormat::Rfc5424Micro,
                format!("<27>1 2024-05-01T10:00:00.123456Z h t {process} t - hi\n"),
            ),
        ] {
            let message = encode(&config(format, false), &line);
            assert_eq!(String::from_utf8(message).unwrap(), expected);
            let message = encode(&config(format, true), &line);
            let counted = format!("{} {expected}", expected.len());
            assert_eq!(String::from_utf8(message).unwrap(), counted);
        }
    }
}
