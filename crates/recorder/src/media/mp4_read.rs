//! What an mp4 file says of its video track, without decoding: every frame's place, time and kind.
//! Progressive and fragmented files, any codec.

use std::io;
use std::path::Path;

use crate::ReadError;
use crate::format::input::Input;

/// The index of an hour at 60 frames a second takes 1 MB.
const LARGEST_INDEX_BYTES: u64 = 64 << 20;
/// Days of video; bounds what a false count can make us reserve.
const MOST_FRAMES: u64 = 20_000_000;

/// One encoded frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sample {
    /// Where its bytes begin in the file.
    pub(crate) offset: u64,
    pub(crate) bytes: u32,
    /// When it is shown, in units of the timescale; 0 is the beginning of the video.
    pub(crate) shown_at: i64,
    pub(crate) duration: u32,
    /// Can be decoded alone.
    pub(crate) is_key: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct VideoIndex {
    /// The sample entry's type, such as `avc1` or `av01`.
    pub(crate) codec: String,
    /// The sample entry whole: codec, sizes and what a decoder has to be told first.
    pub(crate) sample_entry: Vec<u8>,
    pub(crate) width: u16,
    pub(crate) height: u16,
    /// Units of time in a second.
    pub(crate) timescale: u32,
    /// In decoding order.
    pub(crate) samples: Vec<Sample>,
    /// Where in `samples` the frames are, in the order in which they are shown.
    pub(crate) shown: Vec<u32>,
    /// Whether the index comes before the frames.
    pub(crate) index_first: bool,
}

impl VideoIndex {
    pub(crate) fn frames(&self) -> u64 {
        self.shown.len() as u64
    }

    /// When frame `frame`, in the order in which frames are shown, is shown.
    pub(crate) fn seconds(&self, frame: u64) -> Option<f64> {
        let sample = self.samples.get(*self.shown.get(frame as usize)? as usize)?;
        Some(sample.shown_at as f64 / f64::from(self.timescale))
    }

    /// The frame that is shown nearest to `seconds`.
    pub(crate) fn nearest(&self, seconds: f64) -> Option<u64> {
        let time = |frame: u64| self.seconds(frame).unwrap_or(f64::INFINITY);
        let frames = self.frames();
        let after =
            self.shown.partition_point(|sample| self.samples[*sample as usize].shown_at as f64 / f64::from(self.timescale) < seconds);
        let after = after as u64;
        let candidates = [after.checked_sub(1), Some(after).filter(|after| *after < frames)];
        candidates.into_iter().flatten().min_by(|a, b| (time(*a) - seconds).abs().total_cmp(&(time(*b) - seconds).abs()))
    }

    /// The samples at which decoding can begin: key frames that no frame before them is shown after, and no
    /// frame after them before.
    pub(crate) fn keys(&self) -> Vec<u32> {
        let mut place = vec![0; self.samples.len()];
        for (at, sample) in self.shown.iter().enumerate() {
            place[*sample as usize] = at;
        }
        // So many samples are as many places, so the last place before a clean beginning is the sample's.
        let (mut keys, mut last) = (Vec::new(), 0);
        for (at, sample) in self.samples.iter().enumerate() {
            if sample.is_key && last == at {
                keys.push(at as u32);
            }
            last = last.max(place[at] + 1);
        }
        keys
    }
}

/// Reads the boxes of `path`, and checks that every frame lies within the file.
pub(crate) fn read_video(path: &Path) -> Result<VideoIndex, ReadError> {
    read_video_of(path, &Input::open(path)?)
}

/// As [`read_video`], of `file`, which is the one at `path`.
pub(crate) fn read_video_of(path: &Path, file: &Input) -> Result<VideoIndex, ReadError> {
    let failed = |source| ReadError::Io { path: path.to_owned(), source };
    let invalid = |what: &str| ReadError::Invalid { path: path.to_owned(), what: what.to_owned() };
    let length = file.size_bytes().map_err(failed)?;
    let (mut at, mut index, mut index_first, mut seen_data) = (0, None, false, false);
    let mut fragments = Vec::new();
    while at < length {
        let (kind, header, size) = read_header(file, at, length).map_err(failed)?;
        if size < header || size > length - at {
            return Err(invalid(&format!("the box {} at byte {at} has {size} bytes, but the file ends at {length}", name(kind))));
        }
        match &kind {
            b"moov" | b"moof" if size > LARGEST_INDEX_BYTES => return Err(invalid(&format!("its index has {size} bytes"))),
            b"moov" | b"moof" => {
                let mut bytes = vec![0; (size - header) as usize];
                file.read_exact_at(at + header, &mut bytes).map_err(failed)?;
                if &kind == b"moof" {
                    fragments.push((at, bytes));
                } else {
                    index = Some(bytes);
                    index_first = !seen_data;
                }
            }
            b"mdat" => seen_data = true,
            _ => {}
        }
        at += size;
    }
    let index = index.ok_or_else(|| invalid("it has no index (moov); the recording was cut short"))?;
    let mut video = track(&index, length).ok_or_else(|| invalid("its index describes no video track that can be read"))?;
    video.index_first = index_first;
    let mut fragmented = Fragments::of(&index);
    for (at, fragment) in &fragments {
        fragmented.read(*at, fragment, &mut video.samples).ok_or_else(|| invalid("one of its fragments can't be read"))?;
    }
    if let Some((number, sample)) = video.samples.iter().enumerate().find(|(_, s)| s.offset.saturating_add(u64::from(s.bytes)) > length) {
        let end = sample.offset.saturating_add(u64::from(sample.bytes));
        return Err(invalid(&format!("frame {number} would end at byte {end}, but the file ends at {length}")));
    }
    let mut shown: Vec<u32> = (0..video.samples.len() as u32).collect();
    shown.sort_by_key(|sample| video.samples[*sample as usize].shown_at);
    video.shown = shown;
    Ok(video)
}

fn read_header(file: &Input, at: u64, length: u64) -> io::Result<([u8; 4], u64, u64)> {
    let mut bytes = [0; 8];
    file.read_exact_at(at, &mut bytes)?;
    let [a, b, c, d, kind @ ..] = bytes;
    Ok(match u32::from_be_bytes([a, b, c, d]) {
        0 => (kind, 8, length - at),
        1 => {
            file.read_exact_at(at.saturating_add(8), &mut bytes)?;
            (kind, 16, u64::from_be_bytes(bytes))
        }
        size => (kind, 8, u64::from(size)),
    })
}

fn name(kind: [u8; 4]) -> String {
    String::from_utf8_lossy(&kind).into_owned()
}

/// The boxes within `bytes`, as far as they are whole.
pub(crate) fn boxes(mut bytes: &[u8]) -> impl Iterator<Item = ([u8; 4], &[u8])> {
    std::iter::from_fn(move || {
        let size = word(bytes, 0)? as usize;
        let kind = *bytes.get(4..)?.first_chunk()?;
        let content = bytes.get(8..size)?;
        bytes = bytes.get(size..)?;
        Some((kind, content))
    })
}

pub(crate) fn child<'a>(bytes: &'a [u8], kind: &[u8; 4]) -> Option<&'a [u8]> {
    boxes(bytes).find(|(found, _)| found == kind).map(|(_, content)| content)
}

/// The contents of the box at the end of `path`, such as that of a sample entry's settings.
pub(crate) fn descend<'a>(bytes: &'a [u8], path: &[&[u8; 4]]) -> Option<&'a [u8]> {
    path.iter().try_fold(bytes, |bytes, kind| child(bytes, kind))
}

pub(crate) fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|word| u32::from_be_bytes(*word))
}

fn long(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().map(|long| u64::from_be_bytes(*long))
}

/// The words of a table of `width` words a row that begins, with the number of its rows, at `at`.
fn table(bytes: &[u8], at: usize, width: usize) -> Option<Vec<u32>> {
    let rows = word(bytes, at)? as usize;
    let words = bytes.get(at + 4..)?.chunks_exact(4).map(|word| u32::from_be_bytes([word[0], word[1], word[2], word[3]]));
    let words: Vec<u32> = words.take(rows.checked_mul(width)?).collect();
    (words.len() == rows * width).then_some(words)
}

/// The first value of each of `count` frames in a run-length table of `(frames, value)`.
fn expand(runs: Option<Vec<u32>>, count: usize) -> impl Iterator<Item = u32> {
    let runs = runs.unwrap_or_default();
    let pairs: Vec<(usize, u32)> = runs.chunks_exact(2).map(|run| (run[0] as usize, run[1])).collect();
    pairs.into_iter().flat_map(|(frames, value)| std::iter::repeat_n(value, frames)).take(count)
}

fn video_track(moov: &[u8]) -> Option<&[u8]> {
    let is_video = |track: &&[u8]| descend(track, &[b"mdia", b"hdlr"]).and_then(|hdlr| hdlr.get(8..12)) == Some(b"vide");
    boxes(moov).filter(|(kind, _)| kind == b"trak").map(|(_, track)| track).find(is_video)
}

fn track(moov: &[u8], file_bytes: u64) -> Option<VideoIndex> {
    let track = video_track(moov)?;
    let mdhd = descend(track, &[b"mdia", b"mdhd"])?;
    // Version 1 has dates of 64 bits.
    let timescale = word(mdhd, if mdhd.first()? == &1 { 20 } else { 12 })?;
    let tables = descend(track, &[b"mdia", b"minf", b"stbl"])?;
    let entries = child(tables, b"stsd")?.get(8..)?;
    let (codec, entry) = boxes(entries).next()?;
    let side = |at: usize| entry.get(at..)?.first_chunk().map(|side| u16::from_be_bytes(*side));
    let sizes = sizes(child(tables, b"stsz")?, file_bytes)?;
    let offsets = offsets(tables, &sizes)?;
    let count = sizes.len();
    let durations = expand(table(child(tables, b"stts")?, 4, 2), count);
    let shifts = expand(child(tables, b"ctts").and_then(|ctts| table(ctts, 4, 2)), count).chain(std::iter::repeat(0));
    let key_frames = child(tables, b"stss").map(|stss| table(stss, 4, 1)).map_or(Some(None), |table| table.map(Some))?;
    let mut is_key = vec![key_frames.is_none(); count];
    for frame in key_frames.into_iter().flatten() {
        *is_key.get_mut((frame as usize).checked_sub(1)?)? = true;
    }
    let start = media_start(moov, track, timescale);
    let mut samples = Vec::with_capacity(count);
    let mut decoded_at = 0i64;
    for ((((bytes, offset), is_key), duration), shift) in sizes.into_iter().zip(offsets).zip(is_key).zip(durations).zip(shifts) {
        // Version 0 of the table has unsigned shifts, which are small as well.
        samples.push(Sample { offset, bytes, shown_at: decoded_at + i64::from(shift as i32) - start, duration, is_key });
        decoded_at += i64::from(duration);
    }
    (samples.len() == count && timescale > 0).then_some(VideoIndex {
        codec: name(codec),
        sample_entry: entries.get(..entry.len() + 8)?.to_vec(),
        width: side(24)?,
        height: side(26)?,
        timescale,
        samples,
        shown: Vec::new(),
        index_first: false,
    })
}

fn sizes(stsz: &[u8], file_bytes: u64) -> Option<Vec<u32>> {
    let (fixed, frames) = (word(stsz, 4)?, word(stsz, 8)?);
    match fixed {
        0 => table(stsz, 8, 1),
        // Frames of equal size fit into the file, so their number is bounded by it.
        _ => (u64::from(fixed) * u64::from(frames) <= file_bytes).then(|| vec![fixed; frames as usize]),
    }
}

/// Where each frame begins: frames follow each other within a chunk.
fn offsets(tables: &[u8], sizes: &[u32]) -> Option<Vec<u64>> {
    let chunks: Vec<u64> = match child(tables, b"stco") {
        Some(stco) => table(stco, 4, 1)?.into_iter().map(u64::from).collect(),
        None => table(child(tables, b"co64")?, 4, 2)?.chunks_exact(2).map(|pair| (u64::from(pair[0]) << 32) | u64::from(pair[1])).collect(),
    };
    let runs = table(child(tables, b"stsc")?, 4, 3)?;
    let runs: Vec<&[u32]> = runs.chunks_exact(3).collect();
    let mut offsets = Vec::with_capacity(sizes.len());
    for (number, run) in runs.iter().enumerate() {
        let first = (run[0] as usize).checked_sub(1)?;
        let end = runs.get(number + 1).map_or(chunks.len(), |next| (next[0] as usize).saturating_sub(1));
        for start in chunks.get(first..end)? {
            let mut offset = *start;
            for _ in 0..run[1] {
                let Some(size) = sizes.get(offsets.len()) else { break };
                offsets.push(offset);
                offset = offset.checked_add(u64::from(*size))?;
            }
        }
    }
    (offsets.len() == sizes.len()).then_some(offsets)
}

/// The time in the media that is time 0 of the presentation: an edit list skips what frames that are
/// shown late leave empty in front.
fn media_start(moov: &[u8], track: &[u8], timescale: u32) -> i64 {
    let Some(elst) = descend(track, &[b"edts", b"elst"]) else { return 0 };
    let movie_timescale = child(moov, b"mvhd").and_then(|mvhd| word(mvhd, if mvhd.first()? == &1 { 20 } else { 12 })).unwrap_or(timescale);
    let wide = elst.first() == Some(&1);
    let (row, entries) = (if wide { 20 } else { 12 }, word(elst, 4).unwrap_or(0));
    let mut empty = 0i64;
    for entry in 0..entries.min(8) as usize {
        let at = 8 + entry * row;
        let read = if wide {
            long(elst, at).zip(long(elst, at + 8)).map(|(duration, time)| (duration as i64, time as i64))
        } else {
            word(elst, at).zip(word(elst, at + 4)).map(|(duration, time)| (i64::from(duration), i64::from(time as i32)))
        };
        let Some((duration, time)) = read else { return 0 };
        if time >= 0 {
            return time.saturating_sub(empty);
        }
        empty = empty.saturating_add((i128::from(duration) * i128::from(timescale) / i128::from(movie_timescale.max(1))) as i64);
    }
    0
}

/// What a fragmented file says in its index of all fragments.
struct Fragments {
    track: u32,
    start: i64,
    duration: u32,
    bytes: u32,
    flags: u32,
}

/// A sample's flag: it depends on others.
const NOT_KEY: u32 = 0x1_0000;

impl Fragments {
    fn of(moov: &[u8]) -> Self {
        let number = |at| {
            let trex = descend(moov, &[b"mvex", b"trex"])?;
            word(trex, at)
        };
        let track = video_track(moov);
        let id = track.and_then(|track| child(track, b"tkhd")).and_then(|tkhd| word(tkhd, if tkhd.first()? == &1 { 20 } else { 12 }));
        let scale = track
            .and_then(|track| descend(track, &[b"mdia", b"mdhd"]))
            .and_then(|mdhd| word(mdhd, if mdhd.first()? == &1 { 20 } else { 12 }));
        let start = track.map_or(0, |track| media_start(moov, track, scale.unwrap_or(1)));
        let [duration, bytes, flags] = [12, 16, 20].map(|at| number(at).unwrap_or(0));
        Self { track: id.unwrap_or(1), start, duration, bytes, flags }
    }

    /// Adds the frames of the fragment whose box begins at byte `at`.
    fn read(&mut self, at: u64, moof: &[u8], samples: &mut Vec<Sample>) -> Option<()> {
        for (_, traf) in boxes(moof).filter(|(kind, _)| kind == b"traf") {
            let tfhd = child(traf, b"tfhd")?;
            if word(tfhd, 4)? != self.track {
                continue;
            }
            let flags = word(tfhd, 0)?;
            let mut cursor = 8;
            let mut next = |present: bool, width: usize| {
                present.then(|| {
                    cursor += width;
                    cursor - width
                })
            };
            let base = next(flags & 1 != 0, 8).map_or(Some(at), |place| long(tfhd, place))?;
            next(flags & 2 != 0, 4);
            let duration = next(flags & 8 != 0, 4).map_or(Some(self.duration), |place| word(tfhd, place))?;
            let bytes = next(flags & 16 != 0, 4).map_or(Some(self.bytes), |place| word(tfhd, place))?;
            let default_flags = next(flags & 32 != 0, 4).map_or(Some(self.flags), |place| word(tfhd, place))?;
            let last = samples.last().map_or(0, |last| last.shown_at + i64::from(last.duration) + self.start);
            let mut decoded_at = match child(traf, b"tfdt") {
                Some(tfdt) if tfdt.first() == Some(&1) => long(tfdt, 4)? as i64,
                Some(tfdt) => i64::from(word(tfdt, 4)?),
                None => last,
            };
            let mut offset = base;
            for (_, trun) in boxes(traf).filter(|(kind, _)| kind == b"trun") {
                let run_flags = word(trun, 0)?;
                let count = word(trun, 4)?;
                if samples.len() as u64 + u64::from(count) > MOST_FRAMES {
                    return None;
                }
                let mut at = 8;
                let mut take = |present: bool| -> Option<Option<u32>> {
                    if !present {
                        return Some(None);
                    }
                    at += 4;
                    word(trun, at - 4).map(Some)
                };
                if let Some(shift) = take(run_flags & 1 != 0)? {
                    offset = base.checked_add_signed(i64::from(shift as i32))?;
                }
                let mut first_flags = take(run_flags & 4 != 0)?;
                for _ in 0..count {
                    let duration = take(run_flags & 0x100 != 0)?.unwrap_or(duration);
                    let bytes = take(run_flags & 0x200 != 0)?.unwrap_or(bytes);
                    let own_flags = take(run_flags & 0x400 != 0)?;
                    let shift = take(run_flags & 0x800 != 0)?.unwrap_or(0);
                    let flags = first_flags.take().or(own_flags).unwrap_or(default_flags);
                    let shown_at = decoded_at.checked_add(i64::from(shift as i32))?.checked_sub(self.start)?;
                    samples.push(Sample { offset, bytes, shown_at, duration, is_key: flags & NOT_KEY == 0 });
                    offset = offset.checked_add(u64::from(bytes))?;
                    decoded_at = decoded_at.checked_add(i64::from(duration))?;
                }
            }
        }
        Some(())
    }
}
