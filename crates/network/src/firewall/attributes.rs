//! Bytes of nfnetlink messages: headers, attributes, nests.
//!
//! Layout: `struct nlmsghdr`, `struct nfgenmsg` and `struct nlattr` of the kernel's
//! `netlink.h` and `nfnetlink.h`; everything is aligned to four bytes.

/// Marks an attribute whose value is attributes (`NLA_F_NESTED`).
const NESTED: u16 = 1 << 15;
/// Length of `struct nlmsghdr`.
const HEADER_BYTES: usize = 16;

/// A run of nfnetlink messages that goes to the kernel in one datagram.
#[derive(Debug, Default)]
pub(crate) struct Messages {
    bytes: Vec<u8>,
}

impl Messages {
    /// Adds a message: header, family, resource and attributes that `fill` writes.
    pub(crate) fn push(
        &mut self,
        (kind, flags, sequence): (u16, u16, u32),
        (family, resource): (u8, u16),
        fill: impl FnOnce(&mut Messages),
    ) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&0_u32.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(&flags.to_ne_bytes());
        self.bytes.extend_from_slice(&sequence.to_ne_bytes());
        self.bytes.extend_from_slice(&0_u32.to_ne_bytes());
        self.bytes.extend_from_slice(&[family, 0]);
        self.bytes.extend_from_slice(&resource.to_be_bytes());
        debug_assert_eq!(self.bytes.len() - start, HEADER_BYTES + 4);
        fill(self);
        let length = (self.bytes.len() - start) as u32;
        self.patch(start, &length.to_ne_bytes());
    }

    /// Adds an attribute.
    pub(crate) fn attribute(&mut self, kind: u16, value: &[u8]) {
        // Values of this room are names, addresses and numbers: far below 64 KiB.
        let length = (4 + value.len()) as u16;
        self.bytes.extend_from_slice(&length.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(value);
        self.align();
    }

    /// Adds a text attribute with its final zero byte.
    pub(crate) fn text(&mut self, kind: u16, text: &str) {
        let mut value = text.as_bytes().to_vec();
        value.push(0);
        self.attribute(kind, &value);
    }

    /// Adds an attribute made of the attributes that `fill` writes; at most 64 KiB.
    pub(crate) fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Messages)) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&0_u16.to_ne_bytes());
        self.bytes.extend_from_slice(&(kind | NESTED).to_ne_bytes());
        fill(self);
        let length = (self.bytes.len() - start) as u16;
        self.patch(start, &length.to_ne_bytes());
    }

    /// Returns the bytes of all messages.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn align(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    fn patch(&mut self, start: usize, value: &[u8]) {
        if let Some(place) = self.bytes.get_mut(start..start + value.len()) {
            place.copy_from_slice(value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_aligned_and_carry_their_lengths() {
        let mut messages = Messages::default();
        messages.push((0x0a0c, 5, 7), (2, 10), |message| {
            message.text(1, "ab");
            message.nest(3, |message| message.attribute(1, &[9; 5]));
        });
        let bytes = messages.as_bytes();
        let expected: [u8; 44] = [
            44, 0, 0, 0, 0x0c, 0x0a, 5, 0, 7, 0, 0, 0, 0, 0, 0, 0, // header
            2, 0, 0, 10, // family, version, resource
            7, 0, 1, 0, b'a', b'b', 0, 0, // text
            16, 0, 3, 0x80, 9, 0, 1, 0, 9, 9, 9, 9, 9, 0, 0, 0, // nest
        ];
        if cfg!(target_endian = "little") {
            assert_eq!(bytes, expected);
        }
    }
}
