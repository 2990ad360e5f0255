//! Taking apart the multiplexed stream of attach, exec and logs (engine-api.md §2.1).

use crate::error::{CliError, Result};

const HEADER_LENGTH: usize = 8;
/// Largest frame that is accepted, in bytes; daemons write at most 64 KiB at once.
pub const FRAME_LIMIT_BYTES: usize = 16 * 1024 * 1024;

/// Which of the container's streams a piece of output belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Channel {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// Collects bytes of the stream and gives out whole frames.
#[derive(Default)]
pub struct Demultiplexer {
    pending: Vec<u8>,
}

impl Demultiplexer {
    /// Takes the next bytes of the stream and hands every frame that is now complete to `sink`.
    pub fn push(
        &mut self,
        bytes: &[u8],
        mut sink: impl FnMut(Channel, &[u8]) -> Result<()>,
    ) -> Result<()> {
        self.pending.extend_from_slice(bytes);
        let mut start = 0;
        while let Some(header) = self.pending.get(start..start + HEADER_LENGTH) {
            let kind = header[0];
            let length = u32::from_be_bytes([header[4], header[5], header[6], header[7]]) as usize;
            if kind > 3 {
                return Err(broken(format!("unrecognized stream: {kind}")));
            }
            if length > FRAME_LIMIT_BYTES {
                return Err(broken(format!(
                    "frame of {length} bytes is larger than {FRAME_LIMIT_BYTES}"
                )));
            }
            let payload_start = start + HEADER_LENGTH;
            let Some(payload) = self.pending.get(payload_start..payload_start + length) else {
                break;
            };
            match kind {
                3 => {
                    let text = String::from_utf8_lossy(payload);
                    return Err(broken(format!("error from daemon in stream: {text}")));
                }
                2 => sink(Channel::Stderr, payload)?,
                _ => sink(Channel::Stdout, payload)?,
            }
            start = payload_start + length;
        }
        self.pending.drain(..start);
        Ok(())
    }
}

fn broken(what: String) -> CliError {
    CliError::Stream {
        code: None,
        message: what,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_may_arrive_in_any_pieces() {
        let stream = b"\x02\0\0\0\0\0\0\x03hi\n\x01\0\0\0\0\0\0\x01x";
        for piece in 1..stream.len() {
            let (mut demultiplexer, mut found) = (Demultiplexer::default(), Vec::new());
            for chunk in stream.chunks(piece) {
                demultiplexer
                    .push(chunk, |channel, bytes| {
                        found.push((channel, bytes.to_vec()));
                        Ok(())
                    })
                    .unwrap();
            }
            assert_eq!(
                found,
                [
                    (Channel::Stderr, b"hi\n".to_vec()),
                    (Channel::Stdout, b"x".to_vec())
                ]
            );
        }
    }

    #[test]
    fn a_frame_over_the_limit_is_refused() {
        let header = |length: usize| {
            let mut header = vec![1, 0, 0, 0];
            header.extend_from_slice(&(length as u32).to_be_bytes());
            header
        };
        assert!(
            Demultiplexer::default()
                .push(&header(FRAME_LIMIT_BYTES), |_, _| Ok(()))
                .is_ok()
        );
        assert!(
            Demultiplexer::default()
                .push(&header(FRAME_LIMIT_BYTES + 1), |_, _| Ok(()))
                .is_err()
        );
    }
}
