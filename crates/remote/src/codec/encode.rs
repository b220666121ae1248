//! Writing messages.

use super::{Dtype, npy};

/// Writes values one after the other, each in its shortest form, as Python's `msgpack` does.
#[derive(Clone, Debug, Default)]
pub struct Packer {
    bytes: Vec<u8>,
}

impl Packer {
    /// Goes on behind `bytes`.
    pub fn after(bytes: Vec<u8>) -> Self {
        Self { bytes }
    }

    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    pub fn nil(&mut self) {
        self.bytes.push(0xc0);
    }

    pub fn bool(&mut self, value: bool) {
        self.bytes.push(if value { 0xc3 } else { 0xc2 });
    }

    pub fn int(&mut self, value: i64) {
        let bytes = &mut self.bytes;
        match value {
            -32..=0x7f => bytes.push(value as u8),
            0x80..=0xff => bytes.extend([0xcc, value as u8]),
            0x100..=0xffff => {
                bytes.push(0xcd);
                bytes.extend((value as u16).to_be_bytes());
            }
            0x1_0000..=0xffff_ffff => {
                bytes.push(0xce);
                bytes.extend((value as u32).to_be_bytes());
            }
            0x1_0000_0000.. => {
                bytes.push(0xcf);
                bytes.extend((value as u64).to_be_bytes());
            }
            -0x80..=-33 => bytes.extend([0xd0, value as u8]),
            -0x8000..=-0x81 => {
                bytes.push(0xd1);
                bytes.extend((value as i16).to_be_bytes());
            }
            -0x8000_0000..=-0x8001 => {
                bytes.push(0xd2);
                bytes.extend((value as i32).to_be_bytes());
            }
            ..=-0x8000_0001 => {
                bytes.push(0xd3);
                bytes.extend(value.to_be_bytes());
            }
        }
    }

    pub fn float(&mut self, value: f64) {
        self.bytes.push(0xcb);
        self.bytes.extend(value.to_be_bytes());
    }

    pub fn str(&mut self, text: &str) {
        match text.len() {
            length @ 0..32 => self.bytes.push(0xa0 | length as u8),
            length => self.head(length, [Some(0xd9), Some(0xda), Some(0xdb)]),
        }
        self.bytes.extend(text.as_bytes());
    }

    pub fn bin(&mut self, bytes: &[u8]) {
        self.bin_head(bytes.len());
        self.bytes.extend(bytes);
    }

    /// That `length` values follow.
    pub fn list(&mut self, length: usize) {
        match length {
            0..16 => self.bytes.push(0x90 | length as u8),
            _ => self.head(length, [None, Some(0xdc), Some(0xdd)]),
        }
    }

    /// That `length` keys, each with its value, follow.
    pub fn map(&mut self, length: usize) {
        match length {
            0..16 => self.bytes.push(0x80 | length as u8),
            _ => self.head(length, [None, Some(0xde), Some(0xdf)]),
        }
    }

    /// Begins a list of a length that [`close`](Self::close) says.
    pub(super) fn open_list(&mut self) -> usize {
        self.bytes.extend([0xdd, 0, 0, 0, 0]);
        self.bytes.len()
    }

    /// Begins a map, likewise.
    pub(super) fn open_map(&mut self) -> usize {
        self.bytes.extend([0xdf, 0, 0, 0, 0]);
        self.bytes.len()
    }

    /// The list or map that began at `at` has `length` values, or keys with a value.
    pub(super) fn close(&mut self, at: usize, length: u32) {
        self.bytes[at - 4..at].copy_from_slice(&length.to_be_bytes());
    }

    /// An array, whose little-endian elements `write` appends.
    pub fn tensor(&mut self, dtype: Dtype, shape: &[usize], write: impl FnOnce(&mut Vec<u8>)) {
        self.map(4);
        self.bin(b"__ndarray__");
        self.bool(true);
        self.bin(b"data");
        self.bin_of(shape.iter().product::<usize>() * dtype.bytes(), write);
        self.bin(b"dtype");
        self.str(dtype.name());
        self.bin(b"shape");
        self.list(shape.len());
        shape.iter().for_each(|dimension| self.int(*dimension as i64));
    }

    /// The same as GR00T's service reads it: a file as numpy saves it, inside a map that says so.
    pub fn npy(&mut self, dtype: Dtype, shape: &[usize], write: impl FnOnce(&mut Vec<u8>)) {
        self.map(2);
        self.str("__ndarray_class__");
        self.bool(true);
        self.str("as_npy");
        let header = npy::header(dtype, shape);
        let length = header.len() + shape.iter().product::<usize>() * dtype.bytes();
        self.bin_of(length, |out| {
            out.extend(header);
            write(out);
        });
    }

    /// Bytes that `write` appends, `length` of them.
    pub(crate) fn bin_of(&mut self, length: usize, write: impl FnOnce(&mut Vec<u8>)) {
        self.bin_head(length);
        let end = self.bytes.len() + length;
        write(&mut self.bytes);
        debug_assert_eq!(self.bytes.len(), end, "an array of the shape that was said");
        self.bytes.resize(end, 0);
    }

    fn bin_head(&mut self, length: usize) {
        self.head(length, [Some(0xc4), Some(0xc5), Some(0xc6)]);
    }

    /// A length behind the marker of its width: of one, two or four bytes.
    fn head(&mut self, length: usize, markers: [Option<u8>; 3]) {
        match (length, markers) {
            (0..=0xff, [Some(marker), ..]) => self.bytes.extend([marker, length as u8]),
            (0..=0xffff, [_, Some(marker), _]) => {
                self.bytes.push(marker);
                self.bytes.extend((length as u16).to_be_bytes());
            }
            (_, [.., marker]) => {
                self.bytes.extend(marker);
                self.bytes.extend((length as u32).to_be_bytes());
            }
        }
    }
}
