//! JPEGs as cameras send them: tables left out, padded behind, cut off, damaged on the way.

use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

use super::decode::{DecodeError, MOST_SIDE};

/// The Huffman tables of ITU-T T.81, K.3 to K.6, as one segment: what `MJPG` leaves out.
#[rustfmt::skip]
const TABLES: [u8; 420] = [
    0xff, 0xc4, 0x01, 0xa2, 0x00, 0x00, 0x01, 0x05, 0x01, 0x01, 0x01, 0x01, 0x01, 0x01, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    0x00, 0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, 0x09, 0x0a, 0x0b, 0x10, 0x00, 0x02, 0x01, 0x03, 0x03, 0x02,
    0x04, 0x03, 0x05, 0x05, 0x04, 0x04, 0x00, 0x00, 0x01, 0x7d, 0x01, 0x02, 0x03, 0x00, 0x04, 0x11, 0x05, 0x12, 0x21, 0x31,
    0x41, 0x06, 0x13, 0x51, 0x61, 0x07, 0x22, 0x71, 0x14, 0x32, 0x81, 0x91, 0xa1, 0x08, 0x23, 0x42, 0xb1, 0xc1, 0x15, 0x52,
    0xd1, 0xf0, 0x24, 0x33, 0x62, 0x72, 0x82, 0x09, 0x0a, 0x16, 0x17, 0x18, 0x19, 0x1a, 0x25, 0x26, 0x27, 0x28, 0x29, 0x2a,
    0x34, 0x35, 0x36, 0x37, 0x38, 0x39, 0x3a, 0x43, 0x44, 0x45, 0x46, 0x47, 0x48, 0x49, 0x4a, 0x53, 0x54, 0x55, 0x56, 0x57,
    0x58, 0x59, 0x5a, 0x63, 0x64, 0x65, 0x66, 0x67, 0x68, 0x69, 0x6a, 0x73, 0x74, 0x75, 0x76, 0x77, 0x78, 0x79, 0x7a, 0x83,
    0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8a, 0x92, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99, 0x9a, 0xa2, 0xa3, 0xa4, 0xa5,
    0xa6, 0xa7, 0xa8, 0xa9, 0xaa, 0xb2, 0xb3, 0xb4, 0xb5, 0xb6, 0xb7, 0xb8, 0xb9, 0xba, 0xc2, 0xc3, 0xc4, 0xc5, 0xc6, 0xc7,
    0xc8, 0xc9, 0xca, 0xd2, 0xd3, 0xd4, 0xd5, 0xd6, 0xd7, 0xd8, 0xd9, 0xda, 0xe1, 0xe2, 0xe3, 0xe4, 0xe5, 0xe6, 0xe7, 0xe8,
    0xe9, 0xea, 0xf1, 0xf2, 0xf3, 0xf4, 0xf5, 0xf6, 0xf7, 0xf8, 0xf9, 0xfa, 0x01, 0x00, 0x03, 0x01, 0x01, 0x01, 0x01, 0x01,
    0x01, 0x01, 0x01, 0x01, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, 0x09, 0x0a,
    0x0b, 0x11, 0x00, 0x02, 0x01, 0x02, 0x04, 0x04, 0x03, 0x04, 0x07, 0x05, 0x04, 0x04, 0x00, 0x01, 0x02, 0x77, 0x00, 0x01,
    0x02, 0x03, 0x11, 0x04, 0x05, 0x21, 0x31, 0x06, 0x12, 0x41, 0x51, 0x07, 0x61, 0x71, 0x13, 0x22, 0x32, 0x81, 0x08, 0x14,
    0x42, 0x91, 0xa1, 0xb1, 0xc1, 0x09, 0x23, 0x33, 0x52, 0xf0, 0x15, 0x62, 0x72, 0xd1, 0x0a, 0x16, 0x24, 0x34, 0xe1, 0x25,
    0xf1, 0x17, 0x18, 0x19, 0x1a, 0x26, 0x27, 0x28, 0x29, 0x2a, 0x35, 0x36, 0x37, 0x38, 0x39, 0x3a, 0x43, 0x44, 0x45, 0x46,
    0x47, 0x48, 0x49, 0x4a, 0x53, 0x54, 0x55, 0x56, 0x57, 0x58, 0x59, 0x5a, 0x63, 0x64, 0x65, 0x66, 0x67, 0x68, 0x69, 0x6a,
    0x73, 0x74, 0x75, 0x76, 0x77, 0x78, 0x79, 0x7a, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8a, 0x92, 0x93, 0x94,
    0x95, 0x96, 0x97, 0x98, 0x99, 0x9a, 0xa2, 0xa3, 0xa4, 0xa5, 0xa6, 0xa7, 0xa8, 0xa9, 0xaa, 0xb2, 0xb3, 0xb4, 0xb5, 0xb6,
    0xb7, 0xb8, 0xb9, 0xba, 0xc2, 0xc3, 0xc4, 0xc5, 0xc6, 0xc7, 0xc8, 0xc9, 0xca, 0xd2, 0xd3, 0xd4, 0xd5, 0xd6, 0xd7, 0xd8,
    0xd9, 0xda, 0xe2, 0xe3, 0xe4, 0xe5, 0xe6, 0xe7, 0xe8, 0xe9, 0xea, 0xf2, 0xf3, 0xf4, 0xf5, 0xf6, 0xf7, 0xf8, 0xf9, 0xfa,
];
/// Ones, each byte with the zero that follows it in coded data: no JPEG code consists of ones (T.81, C.2), so a picture that
/// ends too early runs into an error. A code and its value take 27 bits at most.
const ONES: [u8; 16] = [0xff, 0, 0xff, 0, 0xff, 0, 0xff, 0, 0xff, 0, 0xff, 0, 0xff, 0, 0xff, 0];

const SOI: u8 = 0xd8;
const EOI: u8 = 0xd9;
const SOS: u8 = 0xda;
const DHT: u8 = 0xc4;

fn broken(what: impl Into<String>) -> DecodeError {
    DecodeError::Broken { format: "a JPEG", what: what.into() }
}

/// What its headers say of a JPEG.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Header {
    width: u32,
    height: u32,
    components: u8,
}

/// Width and height of a JPEG, by its header alone.
///
/// # Errors
/// Where it has none.
pub(super) fn size(bytes: &[u8]) -> Result<(u32, u32), DecodeError> {
    let mut at = begin(bytes)?;
    loop {
        let (marker, body, next) = segment(bytes, at)?;
        if let Some(header) = frame_header(marker, body)? {
            return Ok((header.width, header.height));
        }
        if marker == SOS {
            return Err(broken("expected a frame header before the scan, found none"));
        }
        at = next;
    }
}

/// Decodes baseline JPEGs into RGB.
#[derive(Debug, Default)]
pub(super) struct Jpeg {
    /// The picture that is decoded, made whole.
    whole: Vec<u8>,
}

impl Jpeg {
    /// Decodes `bytes`, whose [`size`] fits `rgb`, into it. What is behind the picture's end is left alone.
    ///
    /// # Errors
    /// When the picture is not whole, or no baseline JPEG. `rgb` may then hold a part of it.
    pub fn decode(&mut self, bytes: &[u8], rgb: &mut [u8]) -> Result<(), DecodeError> {
        self.make_whole(bytes)?;
        let options = DecoderOptions::new_fast()
            .set_strict_mode(true)
            .set_max_width(MOST_SIDE as usize)
            .set_max_height(MOST_SIDE as usize)
            .jpeg_set_out_colorspace(ColorSpace::RGB);
        let mut decoder = JpegDecoder::new_with_options(ZCursor::new(&self.whole), options);
        let failed = |error: zune_jpeg::errors::DecodeErrors| broken(error.to_string());
        decoder.decode_headers().map_err(failed)?;
        match decoder.output_buffer_size() {
            Some(size) if size == rgb.len() => decoder.decode_into(rgb).map_err(failed),
            Some(size) => Err(broken(format!("expected {} bytes of RGB, found {size}", rgb.len()))),
            None => Err(broken(format!("expected {} bytes of RGB, found a picture without a size", rgb.len()))),
        }
    }

    /// Copies the picture: with tables where it has none, and with [`ONES`] before each end of coded data.
    fn make_whole(&mut self, bytes: &[u8]) -> Result<(), DecodeError> {
        let (mut at, mut header, mut has_tables) = (begin(bytes)?, None, false);
        self.whole.clear();
        self.whole.extend([0xff, SOI]);
        let components = loop {
            let (marker, body, next) = segment(bytes, at)?;
            header = frame_header(marker, body)?.or(header);
            has_tables |= marker == DHT;
            if marker == SOS {
                if !has_tables {
                    self.whole.extend_from_slice(&TABLES);
                }
                self.whole.extend_from_slice(&bytes[at..next]);
                at = next;
                break body.first().copied().unwrap_or(0);
            }
            self.whole.extend_from_slice(&bytes[at..next]);
            at = next;
        };
        let header = header.ok_or_else(|| broken("expected a frame header before the scan, found none"))?;
        if components != header.components {
            return Err(broken(format!("expected all {} components in one scan, found {components}", header.components)));
        }
        loop {
            let end = coded_until(bytes, at).ok_or_else(|| broken("it ends in the middle"))?;
            self.whole.extend_from_slice(&bytes[at..end]);
            self.whole.extend_from_slice(&ONES);
            let marker = bytes[end + 1];
            self.whole.extend([0xff, marker]);
            at = end + 2;
            match marker {
                EOI => return Ok(()),
                0xd0..=0xd7 => {}
                other => return Err(broken(format!("the marker {other:#04x} is in the middle of it"))),
            }
        }
    }
}

/// Where the first segment begins.
fn begin(bytes: &[u8]) -> Result<usize, DecodeError> {
    match bytes {
        [0xff, SOI, ..] => Ok(2),
        [] => Err(broken("expected a picture, found nothing")),
        _ => Err(broken(format!("expected it to begin with ff d8, found {:02x?}", &bytes[..bytes.len().min(4)]))),
    }
}

/// The segment at `at`: its marker, what it holds, and where the next one begins.
fn segment(bytes: &[u8], at: usize) -> Result<(u8, &[u8], usize), DecodeError> {
    let cut = || broken("it ends within its headers");
    let mut marker_at = at;
    // Bytes ff may fill up before a marker.
    while bytes.get(marker_at + 1) == Some(&0xff) && bytes.get(marker_at) == Some(&0xff) {
        marker_at += 1;
    }
    let (first, marker) = (*bytes.get(marker_at).ok_or_else(cut)?, *bytes.get(marker_at + 1).ok_or_else(cut)?);
    if first != 0xff || matches!(marker, 0 | 1 | 0xd0..=EOI) {
        return Err(broken(format!("expected a header, found {first:02x} {marker:02x}")));
    }
    let length: [u8; 2] = bytes.get(marker_at + 2..marker_at + 4).and_then(|bytes| bytes.try_into().ok()).ok_or_else(cut)?;
    let next = marker_at + 2 + usize::from(u16::from_be_bytes(length));
    let body = bytes.get(marker_at + 4..next).ok_or_else(cut)?;
    Ok((marker, body, next))
}

/// What a segment says of the frame; `None` where it is about something else.
fn frame_header(marker: u8, body: &[u8]) -> Result<Option<Header>, DecodeError> {
    match marker {
        0xc0 | 0xc1 => {}
        0xc2..=0xcf if marker != DHT && marker != 0xc8 && marker != 0xcc => {
            return Err(broken(format!("expected a baseline JPEG, found one of kind {marker:#04x}")));
        }
        _ => return Ok(None),
    }
    let [8, h1, h0, w1, w0, components, ..] = *body else {
        return Err(broken("expected 8 bits a sample and a size, found another frame header"));
    };
    let (width, height) = (u32::from(u16::from_be_bytes([w1, w0])), u32::from(u16::from_be_bytes([h1, h0])));
    if !(1..=MOST_SIDE).contains(&width) || !(1..=MOST_SIDE).contains(&height) {
        return Err(broken(format!("expected a size from 1 to {MOST_SIDE}, found {width} by {height}")));
    }
    if components != 1 && components != 3 {
        return Err(broken(format!("expected colours or greys, found {components} components")));
    }
    Ok(Some(Header { width, height, components }))
}

/// Where coded data that begin at `at` end: at the next marker. `None` where none comes.
fn coded_until(bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
        at += bytes.get(at..)?.iter().position(|byte| *byte == 0xff)?;
        match bytes.get(at + 1)? {
            0 => at += 2,
            0xff => at += 1,
            _ => return Some(at),
        }
    }
}
