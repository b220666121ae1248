//! Requests in one piece of memory, which is used again for the next. As a WebSocket frame (RFC 6455, section 5.2) the payload
//! is written behind room for the header, and masked where it stands. `tungstenite` would copy it.

/// The longest header of a client's frame: 2 bytes, a length of 8, a mask of 4.
const ROOM: usize = 14;

const BINARY: u8 = 0x82;
const MASKED: u8 = 0x80;

/// A message to be sent.
#[derive(Debug)]
pub(crate) struct Frame {
    bytes: Vec<u8>,
}

impl Frame {
    pub fn new() -> Self {
        Self { bytes: vec![0; ROOM] }
    }

    /// Begins anew with what `write` appends to the bytes that it is given.
    ///
    /// # Errors
    /// That of `write`; the message is empty then.
    pub fn write(&mut self, write: impl FnOnce(Vec<u8>) -> Result<Vec<u8>, String>) -> Result<(), String> {
        let mut bytes = std::mem::take(&mut self.bytes);
        bytes.truncate(ROOM);
        bytes.resize(ROOM, 0);
        self.bytes = write(bytes).inspect_err(|_| self.bytes = vec![0; ROOM])?;
        Ok(())
    }

    /// The message as it was written; not behind [`seal`](Self::seal).
    pub fn payload(&self) -> &[u8] {
        &self.bytes[ROOM..]
    }

    /// How long the message is.
    pub fn payload_bytes(&self) -> usize {
        self.bytes.len() - ROOM
    }

    /// Masks the message, once, and puts the header in front; what is to be sent.
    pub fn seal(&mut self, mask: u32) -> &[u8] {
        let mask = mask.to_ne_bytes();
        let (head, payload) = self.bytes.split_at_mut(ROOM);
        let wide = u64::from_ne_bytes([mask[0], mask[1], mask[2], mask[3], mask[0], mask[1], mask[2], mask[3]]);
        let (words, rest) = payload.as_chunks_mut::<8>();
        words.iter_mut().for_each(|word| *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes());
        rest.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
        let length = payload.len();
        let start = match length {
            0..126 => {
                head[8..10].copy_from_slice(&[BINARY, MASKED | length as u8]);
                8
            }
            126..0x1_0000 => {
                head[6..8].copy_from_slice(&[BINARY, MASKED | 126]);
                head[8..10].copy_from_slice(&(length as u16).to_be_bytes());
                6
            }
            _ => {
                head[..2].copy_from_slice(&[BINARY, MASKED | 127]);
                head[2..10].copy_from_slice(&(length as u64).to_be_bytes());
                0
            }
        };
        head[10..].copy_from_slice(&mask);
        &self.bytes[start..]
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use tungstenite::protocol::{Role, WebSocket};

    use super::*;
    use crate::codec::Packer;

    #[test]
    fn a_server_reads_what_was_packed() {
        let mut frame = Frame::new();
        for length in [0, 1, 100, 125 - 2, 130, 65_000, 65_535, 65_536, 200_003] {
            let payload: Vec<u8> = (0..length).map(|i| (i * 7) as u8).collect();
            let packed = frame.write(|bytes| {
                let mut packer = Packer::after(bytes);
                packer.bin(&payload);
                Ok(packer.into_bytes())
            });
            packed.unwrap();
            let sealed = frame.seal(0xa1b2_c3d4).to_vec();
            let mut socket = WebSocket::from_raw_socket(Cursor::new(sealed), Role::Server, None);
            let message = socket.read().unwrap().into_data();
            assert_eq!(crate::codec::decode(&message, crate::codec::Limits::default()), Ok(crate::codec::Value::Bin(&payload)), "{length}");
        }
    }
}
