//! Interface counters of a container, for its statistics.

use crate::error::NetworkError;
use crate::sysctl::read_text;

/// Counters of one interface inside a container's namespace since it was made.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct InterfaceCounters {
    /// The interface's name inside the namespace, such as `eth0`.
    pub name: String,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Packets received.
    pub rx_packets: u64,
    /// Packets received in error.
    pub rx_errors: u64,
    /// Received packets dropped.
    pub rx_dropped: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Packets sent.
    pub tx_packets: u64,
    /// Packets that failed to be sent.
    pub tx_errors: u64,
    /// Packets dropped before they were sent.
    pub tx_dropped: u64,
}

/// Reads the counters of every interface but `lo` in the network namespace of `pid`.
///
/// `/proc/<pid>/net` shows the namespace of that process, so nobody has to enter it.
pub(crate) fn of_process(pid: u32) -> Result<Vec<InterfaceCounters>, NetworkError> {
    let text = read_text(&format!("/proc/{pid}/net/dev"))
        .map_err(|source| NetworkError::Counters { pid, source })?;
    Ok(parse(&text))
}

/// Parses `/proc/net/dev`: two header lines, then `name: 8 receive counters 8 transmit counters`.
fn parse(text: &str) -> Vec<InterfaceCounters> {
    text.lines()
        .skip(2)
        .filter_map(parse_line)
        .filter(|counters| counters.name != "lo")
        .collect()
}

fn parse_line(line: &str) -> Option<InterfaceCounters> {
    let (name, numbers) = line.rsplit_once(':')?;
    let numbers: Vec<u64> = numbers
        .split_ascii_whitespace()
        .map(str::parse)
        .collect::<Result<_, _>>()
        .ok()?;
    let &[
        rx_bytes,
        rx_packets,
        rx_errors,
        rx_dropped,
        _,
        _,
        _,
        _,
        tx_bytes,
        tx_packets,
        tx_errors,
        tx_dropped,
        ..,
    ] = numbers.as_slice()
    else {
        return None;
    };
    Some(InterfaceCounters {
        name: name.trim().to_owned(),
        rx_bytes,
        rx_packets,
        rx_errors,
        rx_dropped,
        tx_bytes,
        tx_packets,
        tx_errors,
        tx_dropped,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_parsed_and_loopback_left_out() {
        let text = "Inter-|   Receive                            |  Transmit\n \
             face |bytes    packets errs drop fifo frame compressed multicast|bytes packets errs drop fifo colls carrier compressed\n    \
             lo:       0       0    0    0    0     0          0         0        0       0    0    0    0     0       0          0\n  \
             eth0:     1       2    3    4    5     6          7         8        9      10   11   12   13    14      15         16\n\
             short: 1 2\nno colon\n";
        assert_eq!(
            parse(text),
            [InterfaceCounters {
                name: "eth0".into(),
                rx_bytes: 1,
                rx_packets: 2,
                rx_errors: 3,
                rx_dropped: 4,
                tx_bytes: 9,
                tx_packets: 10,
                tx_errors: 11,
                tx_dropped: 12,
            }]
        );
    }

    #[test]
    fn a_process_that_is_gone_is_an_error() {
        assert!(matches!(
            of_process(u32::MAX),
            Err(NetworkError::Counters { .. })
        ));
    }
}
