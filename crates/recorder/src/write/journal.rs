//! What is known of the episode that is being recorded, appended to one file as it becomes known: its
//! beginning, its rows, and of each encoded frame where it is and what its picture's levels are.
//!
//! A record is its length in four bytes, a digest of eight, a byte for its kind, and its content. What
//! follows the last whole record is what a killed process did not finish.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sinew_core::Fnv1a;

use crate::commit::{OutFile, inside, io_error};
use crate::{Rate, ReadError, RecordError};

/// In the folder of the episode.
pub(crate) const JOURNAL: &str = "journal";
const HEADER_BYTES: usize = 13;
const LARGEST_RECORD_BYTES: usize = 64 << 20;

/// How the journal begins.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Beginning {
    pub(crate) version: u32,
    /// The episode that it will be. When the dataset has it already, the journal is done with.
    pub(crate) episode_index: u64,
    pub(crate) fps: Rate,
    /// Of the table and the side table, as in info.json.
    pub(crate) features: Map<String, Value>,
    pub(crate) side: Map<String, Value>,
    /// What the recorder says of the episode.
    pub(crate) note: Map<String, Value>,
    /// Where the frames of each camera are, relative to the dataset, and from which byte on.
    pub(crate) cameras: Vec<(String, u64)>,
}

pub(crate) const VERSION: u32 = 1;

/// A record but the first.
#[derive(Debug)]
pub(crate) enum Record<'a> {
    /// The values of a row in the order of the features, as [`crate::columns`] has them.
    Row(&'a [u8]),
    /// What a decoder has to know of a camera's frames.
    Entry {
        camera: u16,
        entry: &'a [u8],
    },
    Frame {
        camera: u16,
        frame: FrameMark,
        counts: &'a [u8],
    },
}

/// An encoded frame; they lie one after another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FrameMark {
    pub(crate) size: u32,
    pub(crate) is_key: bool,
    /// Of its bytes.
    pub(crate) digest: u64,
}

pub(crate) fn digest(bytes: &[u8]) -> u64 {
    let mut digest = Fnv1a::default();
    digest.write(bytes);
    digest.finish()
}

/// The journal of the running episode; several threads append to it.
pub(crate) struct Journal {
    path: PathBuf,
    file: Mutex<(OutFile, u64)>,
}

impl Journal {
    pub(crate) fn create(path: &Path, beginning: &Beginning) -> Result<Self, RecordError> {
        Self::in_file(OutFile::create(path)?, beginning)
    }

    /// In a file that is empty.
    pub(crate) fn in_file(file: OutFile, beginning: &Beginning) -> Result<Self, RecordError> {
        let journal = Self { path: file.path().to_owned(), file: Mutex::new((file, 0)) };
        // Serialising plain fields to memory cannot fail.
        journal.append(0, &[&serde_json::to_vec(beginning).unwrap_or_default()])?;
        Ok(journal)
    }

    /// Where the record's content begins.
    fn append(&self, kind: u8, parts: &[&[u8]]) -> Result<u64, RecordError> {
        let length: usize = parts.iter().map(|part| part.len()).sum();
        let mut bytes = Vec::with_capacity(HEADER_BYTES + length);
        bytes.extend((length as u32).to_le_bytes());
        let mut check = Fnv1a::default();
        check.write(&[kind]);
        parts.iter().for_each(|part| check.write(part));
        bytes.extend(check.finish().to_le_bytes());
        bytes.push(kind);
        parts.iter().for_each(|part| bytes.extend(*part));
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let at = file.1 + HEADER_BYTES as u64;
        file.0.append(&bytes)?;
        file.1 += bytes.len() as u64;
        Ok(at)
    }

    pub(crate) fn row(&self, values: &[u8]) -> Result<(), RecordError> {
        self.append(1, &[values]).map(|_| ())
    }

    pub(crate) fn entry(&self, camera: u16, entry: &[u8]) -> Result<(), RecordError> {
        self.append(2, &[&camera.to_le_bytes(), entry]).map(|_| ())
    }

    /// Answers where in the journal the counts are.
    pub(crate) fn frame(&self, camera: u16, frame: FrameMark, counts: &[u8]) -> Result<u64, RecordError> {
        let FrameMark { size, is_key, digest } = frame;
        let fixed = [&camera.to_le_bytes()[..], &size.to_le_bytes(), &[u8::from(is_key)], &digest.to_le_bytes()].concat();
        self.append(3, &[&fixed, counts]).map(|at| at + fixed.len() as u64)
    }

    /// For a thread that sees it onto the disk.
    pub(crate) fn again(&self) -> Result<OutFile, RecordError> {
        self.file.lock().unwrap_or_else(PoisonError::into_inner).0.again()
    }

    /// Reads pieces of what was appended.
    pub(crate) fn reader(&self) -> Result<impl FnMut(u64, usize) -> Result<Vec<u8>, RecordError> + use<>, RecordError> {
        let path = self.path.clone();
        let mut file = File::open(&path).map_err(io_error("reading", &path))?;
        Ok(move |at: u64, length: usize| {
            let mut bytes = vec![0; length];
            file.seek(SeekFrom::Start(at)).and_then(|_| file.read_exact(&mut bytes)).map_err(io_error("reading", &path))?;
            Ok(bytes)
        })
    }
}

/// The beginning of the journal in `folder`, which is of the dataset `root`, and the bytes of the whole of it.
/// `None` when there is no journal, or it has no whole beginning and thus no row.
pub(crate) fn read(root: &Path, folder: &Path) -> Result<Option<(Beginning, Vec<u8>)>, ReadError> {
    let path = folder.join(JOURNAL);
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(ReadError::Io { path, source }),
    };
    let Some((0, content, _)) = whole_record(&bytes) else { return Ok(None) };
    let beginning: Beginning = serde_json::from_slice(content).map_err(|source| ReadError::Json { path: path.clone(), source })?;
    if beginning.version != VERSION {
        return Err(ReadError::Invalid { path, what: format!("its version is {}, expected {VERSION}", beginning.version) });
    }
    for (camera, _) in &beginning.cameras {
        inside(root, camera).map_err(|what| ReadError::Invalid { path: path.clone(), what })?;
    }
    Ok(Some((beginning, bytes)))
}

/// The whole records after the beginning.
pub(crate) fn records(bytes: &[u8]) -> impl Iterator<Item = Record<'_>> {
    let mut rest = whole_record(bytes).map_or(&[][..], |(_, _, rest)| rest);
    std::iter::from_fn(move || {
        let (kind, content, after) = whole_record(rest)?;
        rest = after;
        let camera = || content.first_chunk().map(|bytes| u16::from_le_bytes(*bytes));
        match kind {
            1 => Some(Record::Row(content)),
            2 => Some(Record::Entry { camera: camera()?, entry: content.get(2..)? }),
            3 => {
                let size = u32::from_le_bytes(*content.get(2..)?.first_chunk()?);
                let digest = u64::from_le_bytes(*content.get(7..)?.first_chunk()?);
                let frame = FrameMark { size, is_key: *content.get(6)? != 0, digest };
                Some(Record::Frame { camera: camera()?, frame, counts: content.get(15..)? })
            }
            _ => None,
        }
    })
}

/// The first record's kind and content, and what follows it.
fn whole_record(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let length = u32::from_le_bytes(*bytes.first_chunk()?) as usize;
    let check = u64::from_le_bytes(*bytes.get(4..)?.first_chunk()?);
    let kind = *bytes.get(12)?;
    let (content, rest) = bytes.get(HEADER_BYTES..)?.split_at_checked(length.min(LARGEST_RECORD_BYTES + 1))?;
    let mut found = Fnv1a::default();
    found.write(&[kind]);
    found.write(content);
    (length <= LARGEST_RECORD_BYTES && found.finish() == check).then_some((kind, content, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_records_are_read_and_a_torn_or_spoilt_one_ends_the_journal() {
        let folder = tempfile::tempdir().unwrap();
        let cameras = vec![("videos/a.mp4".to_owned(), 16)];
        let (features, side, note) = (Map::new(), Map::new(), Map::new());
        let beginning = Beginning { version: VERSION, episode_index: 7, fps: 30.into(), features, side, note, cameras };
        let journal = Journal::create(&folder.path().join(JOURNAL), &beginning).unwrap();
        journal.row(b"first").unwrap();
        journal.entry(3, b"entry").unwrap();
        let frame = FrameMark { size: 9, is_key: true, digest: digest(b"picture") };
        let at = journal.frame(3, frame, b"counts").unwrap();
        assert_eq!(journal.reader().unwrap()(at, 6).unwrap(), b"counts");
        journal.row(b"second").unwrap();
        let (found, bytes) = read(folder.path(), folder.path()).unwrap().unwrap();
        assert_eq!((found.episode_index, found.cameras[0].1), (7, 16));
        let kinds = |bytes: &[u8]| {
            let text = |record: Record<'_>| match record {
                Record::Row(values) => String::from_utf8_lossy(values).into_owned(),
                Record::Entry { camera, .. } => format!("entry {camera}"),
                Record::Frame { camera, frame: found, counts } => {
                    assert_eq!((found, counts), (frame, &b"counts"[..]));
                    format!("frame {camera}")
                }
            };
            records(bytes).map(text).collect::<Vec<_>>()
        };
        assert_eq!(kinds(&bytes), ["first", "entry 3", "frame 3", "second"]);
        for cut in 1..6 + HEADER_BYTES {
            assert_eq!(kinds(&bytes[..bytes.len() - cut]), ["first", "entry 3", "frame 3"], "{cut} bytes are missing");
        }
        let mut spoilt = bytes.clone();
        *spoilt.last_mut().unwrap() ^= 1;
        assert_eq!(kinds(&spoilt).len(), 3);
    }
}
