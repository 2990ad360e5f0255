//! Framing that carries standard output and error on one stream (spec engine-api §2.1).
//!
//! A frame is `[stream, 0, 0, 0]`, the payload's length as big-endian u32, and the payload.

use bytes::{BufMut, Bytes, BytesMut};

/// Bytes of a frame's header.
pub const HEADER_BYTES: usize = 8;
/// Bytes one frame may carry before a decoder refuses it.
pub const MAX_FRAME_BYTES: usize = 64 << 20;

/// Names the stream of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard input; readers take it for output.
    Input,
    /// Standard output.
    Output,
    /// Standard error.
    Error,
    /// The daemon's own error text; readers fail with it.
    System,
}

impl Stream {
    const fn code(self) -> u8 {
        match self {
            Self::Input => 0,
            Self::Output => 1,
            Self::Error => 2,
            Self::System => 3,
        }
    }

    fn from_code(code: u8) -> Result<Self, FrameError> {
        match code {
            0 => Ok(Self::Input),
            1 => Ok(Self::Output),
            2 => Ok(Self::Error),
            3 => Ok(Self::System),
            _ => Err(FrameError::UnknownStream(code)),
        }
    }
}

/// Tells why bytes are not a framed stream.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The first byte of a header names no stream.
    #[error("unrecognized stream: {0}")]
    UnknownStream(u8),
    /// A frame's length is past [`MAX_FRAME_BYTES`].
    #[error("frame of {0} bytes is larger than the limit of {MAX_FRAME_BYTES}")]
    TooLarge(usize),
    /// The writer reported an error in the stream.
    #[error("error from daemon in stream: {0}")]
    Daemon(String),
}

/// Returns one frame; payloads past u32 are cut into several.
pub fn encode(stream: Stream, payload: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(HEADER_BYTES + payload.len());
    for part in payload.chunks(MAX_FRAME_BYTES) {
        frame.put_u8(stream.code());
        frame.put_bytes(0, 3);
        // `part` is at most MAX_FRAME_BYTES long, which fits.
        frame.put_u32(part.len() as u32);
        frame.put_slice(part);
    }
    frame.freeze()
}

/// Takes framed bytes in pieces of any size and gives whole frames.
#[derive(Debug, Default)]
pub struct Decoder {
    buffer: BytesMut,
}

impl Decoder {
    /// Adds bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Returns the next frame, or None until more bytes come.
    ///
    /// # Errors
    /// Fails for an unknown stream, a frame past the limit, and an error the writer reports.
    pub fn next_frame(&mut self) -> Result<Option<(Stream, Bytes)>, FrameError> {
        let Some(&[code, _, _, _, a, b, c, d]) = self.buffer.first_chunk::<HEADER_BYTES>() else {
            return Ok(None);
        };
        let stream = Stream::from_code(code)?;
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        if length > MAX_FRAME_BYTES {
            return Err(FrameError::TooLarge(length));
        }
        if self.buffer.len() < HEADER_BYTES + length {
            return Ok(None);
        }
        let mut frame = self.buffer.split_to(HEADER_BYTES + length);
        let payload = frame.split_off(HEADER_BYTES).freeze();
        if stream == Stream::System {
            return Err(FrameError::Daemon(
                String::from_utf8_lossy(&payload).into_owned(),
            ));
        }
        Ok(Some((stream, payload)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encodes_the_example_of_the_specification() {
        assert_eq!(
            &encode(Stream::Error, b"hi\n")[..],
            b"\x02\0\0\0\0\0\0\x03hi\n"
        );
        assert_eq!(encode(Stream::Output, b""), Bytes::new());
    }

    #[test]
    fn waits_for_whole_frames() {
        let frame = encode(Stream::Output, b"hello");
        let mut decoder = Decoder::default();
        for byte in &frame[..frame.len() - 1] {
            decoder.push(std::slice::from_ref(byte));
            assert_eq!(decoder.next_frame(), Ok(None));
        }
        decoder.push(&frame[frame.len() - 1..]);
        assert_eq!(
            decoder.next_frame(),
            Ok(Some((Stream::Output, Bytes::from_static(b"hello"))))
        );
    }

    #[test]
    fn refuses_a_frame_past_the_limit() {
        let header = |length: usize| {
            let mut bytes = vec![1, 0, 0, 0];
            bytes.extend_from_slice(&(length as u32).to_be_bytes());
            bytes
        };
        let mut decoder = Decoder::default();
        decoder.push(&header(MAX_FRAME_BYTES));
        assert_eq!(decoder.next_frame(), Ok(None));
        let mut decoder = Decoder::default();
        decoder.push(&header(MAX_FRAME_BYTES + 1));
        assert_eq!(
            decoder.next_frame(),
            Err(FrameError::TooLarge(MAX_FRAME_BYTES + 1))
        );
    }
}
