//! Where requests begin and end on a connection (RFC 9112 §6, §7.1).

/// What the next byte of a connection belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    /// The head of a request.
    Head,
    /// A body with this many bytes to come.
    Sized(u64),
    /// A body in chunks.
    Chunked(Chunk),
    /// Nothing that is understood: it is passed on to its end.
    Raw,
}

/// A place in a body in chunks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Chunk {
    /// In a chunk's size; the number so far.
    Size(u64),
    /// Behind a size, before the line's end.
    Extension(u64),
    /// In a chunk with this many bytes to come, its line end included.
    Data(u64),
    /// In the lines after the last chunk; whether this line is still empty.
    Trailer { is_empty: bool },
}

/// What a request's head says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// Whether it takes the connection over without an `Upgrade` header.
    pub(super) hijacks_plainly: bool,
    /// How its body is framed.
    pub(super) body: Framing,
}

/// Returns the length of a head with its empty line; none if that has not come yet.
pub(super) fn head_length(bytes: &[u8]) -> Option<usize> {
    let mut from = 0;
    loop {
        let line_end = from + bytes.get(from..)?.iter().position(|byte| *byte == b'\n')? + 1;
        let rest = bytes.get(line_end..)?;
        match rest {
            [b'\n', ..] => return Some(line_end + 1),
            [b'\r', b'\n', ..] => return Some(line_end + 2),
            _ => from = line_end,
        }
    }
}

impl Head {
    /// Reads a whole head. What is malformed is left to the HTTP library, which refuses it.
    pub(super) fn read(bytes: &[u8]) -> Self {
        let raw = Self {
            hijacks_plainly: false,
            body: Framing::Raw,
        };
        let Ok(text) = std::str::from_utf8(bytes) else {
            return raw;
        };
        let mut lines = text.lines();
        let mut body = Framing::Head;
        let mut words = lines.next().unwrap_or_default().split(' ');
        let (method, target) = (words.next(), words.next().unwrap_or_default());
        let mut upgrades = false;
        for line in lines {
            let Some((name, value)) = line.split_once(':') else {
                continue;
            };
            let value = value.trim();
            if name.eq_ignore_ascii_case("upgrade") {
                upgrades = true;
            } else if name.eq_ignore_ascii_case("transfer-encoding") {
                body = Framing::Chunked(Chunk::Size(0));
            } else if name.eq_ignore_ascii_case("content-length") && body == Framing::Head {
                match value.parse() {
                    Ok(0) => {}
                    Ok(length) => body = Framing::Sized(length),
                    Err(_) => return raw,
                }
            }
        }
        Self {
            hijacks_plainly: method == Some("POST") && !upgrades && is_stream(target),
            body,
        }
    }
}

/// Tells whether a request's target is one whose connection is taken over.
fn is_stream(target: &str) -> bool {
    let path = target.split('?').next().unwrap_or_default();
    (path.contains("/containers/") && path.ends_with("/attach"))
        || (path.contains("/exec/") && path.ends_with("/start"))
}

impl Framing {
    /// Goes over bytes of a body; returns how many belong to it. Once it has ended, the state is
    /// [`Framing::Head`].
    pub(super) fn advance(&mut self, bytes: &[u8]) -> usize {
        match self {
            Self::Head => 0,
            Self::Raw => bytes.len(),
            Self::Sized(left) => {
                let taken = bytes
                    .len()
                    .min(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= taken as u64;
                if *left == 0 {
                    *self = Self::Head;
                }
                taken
            }
            Self::Chunked(chunk) => {
                let (taken, ended) = chunk.advance(bytes);
                if ended {
                    *self = Self::Head;
                }
                taken
            }
        }
    }
}

impl Chunk {
    fn advance(&mut self, bytes: &[u8]) -> (usize, bool) {
        let mut taken = 0;
        while let Some(byte) = bytes.get(taken) {
            match self {
                Self::Data(left) => {
                    let rest = bytes.len() - taken;
                    let count = rest.min(usize::try_from(*left).unwrap_or(usize::MAX));
                    taken += count;
                    *left -= count as u64;
                    if *left == 0 {
                        *self = Self::Size(0);
                    }
                    continue;
                }
                Self::Size(size) | Self::Extension(size) if *byte == b'\n' => {
                    *self = match *size {
                        0 => Self::Trailer { is_empty: true },
                        size => Self::Data(size.saturating_add(2)),
                    };
                }
                Self::Size(size) => match char::from(*byte).to_digit(16) {
                    Some(digit) => *size = size.saturating_mul(16).saturating_add(digit.into()),
                    None => *self = Self::Extension(*size),
                },
                Self::Extension(_) => {}
                Self::Trailer { is_empty: true } if *byte == b'\n' => return (taken + 1, true),
                Self::Trailer { is_empty } => match byte {
                    b'\n' => *is_empty = true,
                    b'\r' => {}
                    _ => *is_empty = false,
                },
            }
            taken += 1;
        }
        (taken, false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads() {
        for (text, expected) in [
            ("GET / HTTP/1.1\r\n\r\nrest", Some(18)),
            ("GET / HTTP/1.1\n\nrest", Some(16)),
            ("GET / HTTP/1.1\r\nA: b\r\n\r\n", Some(24)),
            ("GET / HTTP/1.1\r\nA: b\r\n", None),
            ("", None),
        ] {
            assert_eq!(head_length(text.as_bytes()), expected, "{text:?}");
        }
    }

    #[test]
    fn what_hijacks() {
        for (line, expected) in [
            ("POST /containers/a/attach?stdin=1 HTTP/1.1", true),
            ("POST /v1.30/exec/a/start HTTP/1.1", true),
            ("GET /containers/a/attach HTTP/1.1", false),
            ("POST /containers/a/start HTTP/1.1", false),
            ("POST /containers/create?x=/attach HTTP/1.1", false),
        ] {
            let head = Head::read(format!("{line}\r\n\r\n").as_bytes());
            assert_eq!(head.hijacks_plainly, expected, "{line}");
            assert_eq!(head.body, Framing::Head);
        }
        let odd = Head::read(b"PUT / HTTP/1.1\r\nContent-Length: x\r\n\r\n");
        assert_eq!(odd.body, Framing::Raw);
    }

    #[test]
    fn chunks_end_where_they_end_however_they_are_cut() {
        let body = b"4\r\nabcd\r\nA;x=y\r\n0123456789\r\n0\r\nTrailer: x\r\n\r\nNEXT";
        for cut in 0..body.len() {
            let mut framing = Framing::Chunked(Chunk::Size(0));
            let (first, second) = body.split_at(cut);
            let mut taken = framing.advance(first);
            if framing != Framing::Head {
                taken += framing.advance(second);
            }
            assert_eq!((taken, framing), (body.len() - 4, Framing::Head), "{cut}");
        }
    }
}
