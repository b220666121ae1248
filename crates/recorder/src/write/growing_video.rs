//! One camera's mp4 file, which grows in place by whole episodes.
//!
//! The file is a row of boxes: its type, then places for an index and boxes of frames in the order in
//! which they were needed. While an episode is recorded its frames are appended behind the header of a
//! box that readers skip and that lasts to the end of the file: to every reader the file is as it was.
//! The index with the episode in it is then written to a place that is not in use, itself within a
//! skipped box. What is left is to change three headers of boxes, of 8 or 16 bytes each: that is done
//! by the dataset's commit. Nothing that is committed is moved, copied or written to.
//!
//! When two indices are marked as such for the moment between two of these changes, both are whole and
//! readers take the first.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use crate::RecordError;
use crate::commit::disk::{remove_file, sync_folder};
use crate::commit::{Change, OutFile, create_folder, entries, io_error};
use crate::media::mp4::{Samples, Track, data_header, file_type, moov, skipped_header};

/// The two first places for an index lie before the first frame and end here and there: each is enough
/// for 40 s at 30 fps. Each further place has twice the bytes that it is made for.
const FIRST_PLACES_END: [u64; 2] = [8 << 10, 16 << 10];
/// Headers are aligned to their length, so that none crosses a sector.
const ALIGNMENT: u64 = 16;
/// An index that has come to this has the next episode begin a new file: so an episode costs no more in a large
/// dataset than in a small one. It is of some 10 000 frames.
const LARGEST_INDEX_BYTES: u64 = 64 << 10;
const DATA_HEADER_BYTES: u64 = 16;

/// A file of which the committed part and the episode that is being appended are known.
#[derive(Debug)]
pub(crate) struct GrowingVideo {
    relative: String,
    out: OutFile,
    track: Track,
    /// Empty before the first episode.
    entry: Vec<u8>,
    samples: Samples,
    places: Vec<Place>,
    /// Which place holds the committed index, and how that begins.
    in_use: Option<(usize, Vec<u8>)>,
    /// Bytes of the committed index, which is written anew with each episode.
    index_bytes: u64,
    /// Bytes of the committed part.
    end: u64,
    /// Bytes of frames of the episode that is being appended.
    episode_bytes: u64,
    last_episode_bytes: u64,
    /// Episodes that are committed.
    episodes: u64,
}

/// Bytes of the file that are set aside for an index.
#[derive(Clone, Copy, Debug)]
struct Place {
    at: u64,
    bytes: u64,
}

impl GrowingVideo {
    /// A new file at `relative` in the dataset `root`, of which nothing is committed.
    pub(crate) fn create(root: &Path, relative: String, track: Track) -> Result<Self, RecordError> {
        let path = root.join(&relative);
        if let Some(parent) = path.parent() {
            create_folder(parent)?;
        }
        let mut out = OutFile::create_new(&path)?;
        let kind = file_type();
        out.append(&kind)?;
        let (mut end, mut places) = (kind.len() as u64, Vec::new());
        for place_end in FIRST_PLACES_END {
            let place = Place { at: end, bytes: place_end - end };
            out.write_at(place.at, &skipped_header(place.bytes as u32))?;
            places.push(place);
            end = place_end;
        }
        out.set_len(end)?;
        // Its name too has to be on the disk when an episode in it is committed.
        path.parent().map_or(Ok(()), sync_folder)?;
        let samples = Samples::default();
        Ok(Self {
            relative,
            out,
            track,
            entry: Vec::new(),
            samples,
            places,
            in_use: None,
            index_bytes: 0,
            end,
            episode_bytes: 0,
            last_episode_bytes: 0,
            episodes: 0,
        })
    }

    pub(crate) fn relative(&self) -> &str {
        &self.relative
    }

    /// Frames that are committed.
    pub(crate) fn frames(&self) -> u64 {
        self.samples.sizes.len() as u64
    }

    /// Whether it has `limit_episodes`, another episode like the last one would exceed `limit_bytes`, or what is written anew with each
    /// episode has become too much.
    pub(crate) fn is_full(&self, limit_bytes: u64, limit_episodes: u64) -> bool {
        let has_episodes = self.episodes >= limit_episodes;
        self.in_use.is_some()
            && (has_episodes || self.end + self.last_episode_bytes >= limit_bytes || self.index_bytes >= LARGEST_INDEX_BYTES)
    }

    fn uses(&self, place: usize) -> bool {
        self.in_use.as_ref().is_some_and(|(in_use, _)| *in_use == place)
    }

    /// Where the first frame of the next episode goes.
    pub(crate) fn next_offset(&self) -> u64 {
        self.end + DATA_HEADER_BYTES
    }

    /// Begins an episode.
    pub(crate) fn begin(&mut self) -> Result<(), RecordError> {
        self.out.write_at(self.end, &open_header())?;
        self.episode_bytes = 0;
        Ok(())
    }

    /// Appends a frame of the episode.
    pub(crate) fn append(&mut self, frame: &[u8]) -> Result<(), RecordError> {
        self.out.append(frame)?;
        self.episode_bytes += frame.len() as u64;
        Ok(())
    }

    /// Whether frames that need `entry` can be in this file.
    pub(crate) fn takes(&self, entry: &[u8]) -> bool {
        self.entry.is_empty() || self.entry == entry
    }

    /// Ends the episode of `frames` and waits until it is on the disk; the changes, once made, commit
    /// it. From here on the file counts it as committed.
    pub(crate) fn finish(&mut self, frames: &Samples, entry: &[u8]) -> Result<Vec<Change>, RecordError> {
        self.entry = entry.to_vec();
        self.samples.extend(frames, self.next_offset());
        self.last_episode_bytes = self.episode_bytes;
        self.episodes += 1;
        let data_end = align(self.next_offset() + self.episode_bytes);
        let padding = data_end - self.next_offset() - self.episode_bytes;
        self.out.append(&vec![0; padding as usize])?;

        let index = moov(&self.track, &self.entry, &self.samples);
        // A place is filled by the index and one more box, whose header takes 8 bytes.
        let needed = index.len() as u64 + 8;
        let free = (0..self.places.len()).find(|place| !self.uses(*place) && self.places[*place].bytes >= needed);
        let chosen = free.unwrap_or_else(|| {
            self.places.push(Place { at: data_end, bytes: align(2 * needed) });
            self.places.len() - 1
        });
        let Place { at, bytes } = self.places[chosen];
        let mut content = index[8..].to_vec();
        content.extend(skipped_header((bytes - index.len() as u64) as u32));
        if free.is_none() {
            self.out.append(&skipped_header(bytes as u32))?;
            self.out.append(&content)?;
            self.out.set_len(at + bytes)?;
        } else {
            self.out.write_at(at + 8, &content)?;
        }
        self.out.sync()?;

        let patch = |at: u64, before: Vec<u8>, after: Vec<u8>| Change::Patch { path: self.relative.clone(), at, before, after };
        let header = index[..8].to_vec();
        let mut changes =
            vec![patch(self.end, open_header(), data_header(data_end - self.end)), patch(at, skipped_header(bytes as u32), header.clone())];
        if let Some((old, header)) = self.in_use.replace((chosen, header)) {
            let Place { at, bytes } = self.places[old];
            changes.push(patch(at, header, skipped_header(bytes as u32)));
        }
        self.index_bytes = index.len() as u64;
        self.end = if free.is_none() { at + bytes } else { data_end };
        Ok(changes)
    }

    /// Drops the episode that is being appended. `None` when nothing is left of the file.
    pub(crate) fn discard(mut self) -> Result<Option<Self>, RecordError> {
        if self.in_use.is_none() {
            let path = self.out.path().to_owned();
            drop(self);
            remove_file(&path).map_err(io_error("removing", &path))?;
            return Ok(None);
        }
        self.out.set_len(self.end)?;
        Ok(Some(self))
    }

    /// For a thread that sees the file onto the disk.
    pub(crate) fn again(&self) -> Result<OutFile, RecordError> {
        self.out.again()
    }
}

/// How a box begins that is skipped to the end of the file, with room for the header of a box of frames.
fn open_header() -> Vec<u8> {
    let mut header = skipped_header(0);
    header.resize(DATA_HEADER_BYTES as usize, 0);
    header
}

fn align(at: u64) -> u64 {
    at.next_multiple_of(ALIGNMENT)
}

/// Cuts from the videos of the dataset `root` what was appended and never committed, and removes those
/// of which nothing was. `keep` are files to be left alone.
pub(crate) fn cut_tails(root: &Path, keep: &[String]) -> Result<(), RecordError> {
    let mut folders = vec![(root.join("videos"), 0)];
    while let Some((folder, depth)) = folders.pop() {
        for path in entries(&folder)? {
            // Links are not followed.
            if path.is_symlink() || keep.iter().any(|kept| root.join(kept) == path) {
                continue;
            }
            if path.is_dir() && depth < 4 {
                folders.push((path, depth + 1));
            } else if path.extension().is_some_and(|extension| extension == "mp4") {
                cut_tail(&path)?;
            }
        }
    }
    Ok(())
}

fn cut_tail(path: &Path) -> Result<(), RecordError> {
    let failed = io_error("reading", path);
    let (tail, kinds, length) = boxes_of(path).map_err(failed)?;
    // One that was killed before its first episode has nothing but its type and places that are free.
    let is_empty = kinds.iter().all(|kind| matches!(kind, b"ftyp" | b"free")) && kinds.first().is_none_or(|kind| kind == b"ftyp");
    if is_empty && (tail.is_some() || length <= FIRST_PLACES_END[1]) {
        return remove_file(path).map_err(io_error("removing", path));
    }
    match tail {
        Some(at) => OutFile::open(path)?.set_len(at),
        None => Ok(()),
    }
}

/// Where in a file the box begins that is skipped to the end of the file, if there is one; the kinds of
/// the boxes before it; and the file's length.
fn boxes_of(path: &Path) -> std::io::Result<(Option<u64>, Vec<[u8; 4]>, u64)> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    let (mut at, mut kinds) = (0, Vec::new());
    while at + 8 <= length {
        let mut header = [0; 8];
        file.seek(SeekFrom::Start(at))?;
        file.read_exact(&mut header)?;
        let [a, b, c, d, kind @ ..] = header;
        let size = match u32::from_be_bytes([a, b, c, d]) {
            // The header of an episode that was begun, or zeros where it did not reach the disk.
            0 if &kind == b"free" || kind == [0; 4] => return Ok((Some(at), kinds, length)),
            1 if at + 16 <= length => {
                file.read_exact(&mut header)?;
                u64::from_be_bytes(header)
            }
            size => u64::from(size),
        };
        kinds.push(kind);
        if size < 8 {
            break;
        }
        at = at.saturating_add(size);
    }
    Ok((None, kinds, length))
}
