//! What an mp4 file says of its video track, without decoding: frames, their times, and whether all
//! of them are there.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use crate::ReadError;

/// The index of an hour at 60 frames a second takes 1 MB.
const LARGEST_INDEX_BYTES: u64 = 64 << 20;

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct VideoSummary {
    /// The sample entry's type, such as `avc1` or `av01`.
    pub(crate) codec: String,
    pub(crate) width: u16,
    pub(crate) height: u16,
    pub(crate) frames: u64,
    pub(crate) timescale: u32,
    /// Frames and the duration of each, in units of the timescale, run-length coded.
    pub(crate) durations: Vec<(u32, u32)>,
    /// Frames that can be decoded alone, from 1; empty when all can.
    pub(crate) key_frames: Vec<u32>,
    /// Bytes of all frames.
    pub(crate) frame_bytes: u64,
    /// Bytes of the boxes that hold frames.
    pub(crate) data_bytes: u64,
    /// Whether the index comes before the frames.
    pub(crate) index_first: bool,
}

/// Reads the boxes of `path`.
pub(crate) fn read_video(path: &Path) -> Result<VideoSummary, ReadError> {
    let failed = |source| ReadError::Io { path: path.to_owned(), source };
    let invalid = |what: &str| ReadError::Invalid { path: path.to_owned(), what: what.to_owned() };
    let mut file = File::open(path).map_err(failed)?;
    let length = file.metadata().map_err(failed)?.len();
    let (mut at, mut index, mut data_bytes, mut index_first) = (0, None, 0, false);
    while at < length {
        let (kind, header, size) = read_header(&mut file, at, length).map_err(failed)?;
        if size < header || at + size > length {
            return Err(invalid(&format!("the box {} at byte {at} has {size} bytes, but the file ends at {length}", name(kind))));
        }
        match &kind {
            b"moov" if size > LARGEST_INDEX_BYTES => return Err(invalid(&format!("its index has {size} bytes"))),
            b"moov" => {
                let mut bytes = vec![0; (size - header) as usize];
                file.seek(SeekFrom::Start(at + header)).and_then(|_| file.read_exact(&mut bytes)).map_err(failed)?;
                index = Some(bytes);
                index_first = data_bytes == 0;
            }
            b"mdat" => data_bytes += size - header,
            _ => {}
        }
        at += size;
    }
    let index = index.ok_or_else(|| invalid("it has no index (moov); the recording was cut short"))?;
    let summary = summary(&index).ok_or_else(|| invalid("its index describes no video track"))?;
    Ok(VideoSummary { data_bytes, index_first, ..summary })
}

fn read_header(file: &mut File, at: u64, length: u64) -> io::Result<([u8; 4], u64, u64)> {
    let mut bytes = [0; 8];
    file.seek(SeekFrom::Start(at))?;
    file.read_exact(&mut bytes)?;
    let [a, b, c, d, kind @ ..] = bytes;
    Ok(match u32::from_be_bytes([a, b, c, d]) {
        0 => (kind, 8, length - at),
        1 => {
            file.read_exact(&mut bytes)?;
            (kind, 16, u64::from_be_bytes(bytes))
        }
        size => (kind, 8, u64::from(size)),
    })
}

fn name(kind: [u8; 4]) -> String {
    String::from_utf8_lossy(&kind).into_owned()
}

/// The boxes within `bytes`, as far as they are whole.
fn boxes(mut bytes: &[u8]) -> impl Iterator<Item = ([u8; 4], &[u8])> {
    std::iter::from_fn(move || {
        let size = u32::from_be_bytes(*bytes.first_chunk()?) as usize;
        let kind = *bytes.get(4..)?.first_chunk()?;
        let content = bytes.get(8..size)?;
        bytes = bytes.get(size..)?;
        Some((kind, content))
    })
}

fn child<'a>(bytes: &'a [u8], kind: &[u8; 4]) -> Option<&'a [u8]> {
    boxes(bytes).find(|(found, _)| found == kind).map(|(_, content)| content)
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|word| u32::from_be_bytes(*word))
}

/// The words of a table of `width` words a row that begins, with the number of its rows, at `at`.
fn table(bytes: &[u8], at: usize, width: usize) -> Option<Vec<u32>> {
    let rows = word(bytes, at)? as usize;
    let words = bytes.get(at + 4..)?.chunks_exact(4).map(|word| u32::from_be_bytes([word[0], word[1], word[2], word[3]]));
    let words: Vec<u32> = words.take(rows.checked_mul(width)?).collect();
    (words.len() == rows * width).then_some(words)
}

fn summary(moov: &[u8]) -> Option<VideoSummary> {
    let is_video = |media: &&[u8]| child(media, b"hdlr").and_then(|hdlr| hdlr.get(8..12)) == Some(b"vide");
    let media = boxes(moov).filter(|(kind, _)| kind == b"trak").filter_map(|(_, track)| child(track, b"mdia")).find(is_video)?;
    let mdhd = child(media, b"mdhd")?;
    // Version 1 has dates of 64 bits.
    let timescale = word(mdhd, if mdhd.first()? == &1 { 20 } else { 12 })?;
    let samples = child(child(media, b"minf")?, b"stbl")?;
    let (codec, entry) = boxes(child(samples, b"stsd")?.get(8..)?).next()?;
    let side = |at: usize| entry.get(at..)?.first_chunk().map(|side| u16::from_be_bytes(*side));
    let stsz = child(samples, b"stsz")?;
    let (fixed, frames) = (u64::from(word(stsz, 4)?), u64::from(word(stsz, 8)?));
    let frame_bytes = if fixed > 0 { fixed.checked_mul(frames)? } else { table(stsz, 8, 1)?.iter().map(|size| u64::from(*size)).sum() };
    Some(VideoSummary {
        codec: name(codec),
        width: side(24)?,
        height: side(26)?,
        frames,
        timescale,
        durations: table(child(samples, b"stts")?, 4, 2)?.chunks_exact(2).map(|run| (run[0], run[1])).collect(),
        key_frames: child(samples, b"stss").map_or(Some(Vec::new()), |stss| table(stss, 4, 1))?,
        frame_bytes,
        data_bytes: 0,
        index_first: false,
    })
}
