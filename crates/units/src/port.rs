//! Ports of containers as people write them: `80`, `53/udp`, `8000-8010/tcp`.

use std::fmt;

use crate::UnitError;

const DEFAULT_PROTOCOL: &str = "tcp";

/// One port: `53/udp`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Port {
    /// The number.
    pub number: u16,
    /// The protocol in lower case; any word, whoever uses the port checks it.
    pub protocol: String,
}

/// Consecutive ports of one protocol: `8000-8010/tcp`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PortRange {
    /// The first number.
    pub first: u16,
    /// The last number, not below the first.
    pub last: u16,
    /// The protocol in lower case.
    pub protocol: String,
}

impl Port {
    /// Returns the port that a text names; without a protocol it is TCP (spec engine-api §7.2).
    ///
    /// # Errors
    /// docker's text for a number that is none or above 65535.
    pub fn parse(text: &str) -> Result<Self, UnitError> {
        let (number, protocol) = split(text);
        let number = number_of(number)
            .map_err(|why| UnitError(format!("invalid port '{number}': {why}")))?;
        Ok(Self { number, protocol })
    }
}

impl PortRange {
    /// Returns the range that a text names; a single port is a range of one.
    ///
    /// # Errors
    /// docker's text for an end that is no number or above 65535, or below the start.
    pub fn parse(text: &str) -> Result<Self, UnitError> {
        if text.is_empty() {
            return Err(UnitError("invalid port range: value is empty".to_owned()));
        }
        let (numbers, protocol) = split(text);
        let (first, last) = numbers.split_once('-').unwrap_or((numbers, numbers));
        let end = |what: &str, number: &str| {
            number_of(number)
                .map_err(|why| UnitError(format!("invalid {what} port '{number}': {why}")))
        };
        let (first, last) = (end("start", first)?, end("end", last)?);
        if last < first {
            return Err(UnitError(format!(
                "invalid port range '{numbers}': the end port is below the start port"
            )));
        }
        Ok(Self {
            first,
            last,
            protocol,
        })
    }

    /// Says whether a port is one of the range.
    #[must_use]
    pub fn contains(&self, port: &Port) -> bool {
        (self.first..=self.last).contains(&port.number) && self.protocol == port.protocol
    }
}

impl fmt::Display for Port {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.number, self.protocol)
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            write!(formatter, "{}/{}", self.first, self.protocol)
        } else {
            write!(formatter, "{}-{}/{}", self.first, self.last, self.protocol)
        }
    }
}

fn split(text: &str) -> (&str, String) {
    let (number, protocol) = text.split_once('/').unwrap_or((text, ""));
    let protocol = if protocol.is_empty() {
        DEFAULT_PROTOCOL.to_owned()
    } else {
        protocol.to_lowercase()
    };
    (number, protocol)
}

/// Reads a decimal number, or says what is wrong with it.
fn number_of(text: &str) -> Result<u16, &'static str> {
    if text.is_empty() {
        return Err("value is empty");
    }
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err("invalid syntax");
    }
    text.parse().map_err(|_| "value out of range")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_hold_their_ports() {
        let range = PortRange::parse("8000-8010/TCP").unwrap();
        assert_eq!(range.to_string(), "8000-8010/tcp");
        for (port, inside) in [
            ("8000", true),
            ("8010/tcp", true),
            ("8011", false),
            ("8000/udp", false),
        ] {
            assert_eq!(
                range.contains(&Port::parse(port).unwrap()),
                inside,
                "{port}"
            );
        }
        assert!(PortRange::parse("90-80").is_err());
    }
}
