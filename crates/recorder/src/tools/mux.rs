//! Frames of other video files put together into a new one, without decoding them.

use std::fs::File;
use std::io::{BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::ToolError;
use crate::ReadError;
use crate::files::io_error;
use crate::mp4::FRAME_DURATION;
use crate::mp4_read::VideoIndex;

/// Consecutive frames of a file that can be decoded without any other.
#[derive(Clone, Debug)]
pub(crate) struct Clip {
    pub(crate) path: PathBuf,
    pub(crate) sample_entry: Vec<u8>,
    pub(crate) size: (u16, u16),
    /// In decoding order.
    pub(crate) samples: Vec<ClipSample>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct ClipSample {
    pub(crate) offset: u64,
    pub(crate) bytes: u32,
    pub(crate) is_key: bool,
    /// Its place in the clip among the frames as they are shown.
    pub(crate) rank: u32,
}

impl Clip {
    /// Frames `first` to `first + frames` of the video at `path`; `Err` says why they can't be taken out.
    pub(crate) fn of(path: &Path, index: &VideoIndex, first: u64, frames: u64) -> Result<Self, ReadError> {
        let invalid = |what: String| ReadError::Invalid { path: path.to_owned(), what };
        let end = first.checked_add(frames).filter(|end| *end <= index.frames() && frames > 0);
        let end = end.ok_or_else(|| invalid(format!("it has {} frames, wanted are {frames} from {first} on", index.frames())))?;
        let shown = &index.shown[first as usize..end as usize];
        let start = shown.iter().copied().min().unwrap_or(0) as usize;
        let mut ranks = vec![None; shown.len()];
        for (rank, sample) in shown.iter().enumerate() {
            if let Some(place) = ranks.get_mut(*sample as usize - start) {
                *place = Some(rank as u32);
            }
        }
        let samples = index.samples.get(start..start + shown.len()).unwrap_or_default();
        if !samples.first().is_some_and(|sample| sample.is_key) || ranks.contains(&None) {
            return Err(invalid(format!("frames {first} to {end} can't be decoded without others; only re-encoding takes them out")));
        }
        let samples = samples.iter().zip(ranks.into_iter().flatten());
        let samples = samples.map(|(sample, rank)| ClipSample { offset: sample.offset, bytes: sample.bytes, is_key: sample.is_key, rank });
        let size = (index.width, index.height);
        Ok(Self { path: path.to_owned(), sample_entry: index.sample_entry.clone(), size, samples: samples.collect() })
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.samples.iter().map(|sample| u64::from(sample.bytes)).sum()
    }

    /// Whether both can be in one file.
    pub(crate) fn joins(&self, other: &Self) -> bool {
        self.sample_entry == other.sample_entry && self.size == other.size
    }
}

/// Writes the clips, which must join and not be none, one after another to a new file at `to`: index
/// first, frames at `fps` a second from 0 on.
pub(crate) fn write(clips: &[Clip], fps: u32, to: &Path) -> Result<(), ToolError> {
    let out = File::create(to).map_err(io_error("creating", to))?;
    let mut out = BufWriter::with_capacity(1 << 18, out);
    let kind = make_box(b"ftyp", &[b"isom", &512u32.to_be_bytes(), b"isomiso2avc1mp41"]);
    // The offset's width is fixed, so the index has the same length whatever it says.
    let data_offset = kind.len() + moov(clips, fps, 0).len() + 16;
    let data_bytes: u64 = clips.iter().map(Clip::bytes).sum();
    let mut head = kind;
    head.extend(moov(clips, fps, data_offset as u64));
    // Size 1 announces a 64-bit size after the type.
    head.extend(1u32.to_be_bytes());
    head.extend(b"mdat");
    head.extend((data_bytes + 16).to_be_bytes());
    out.write_all(&head).map_err(io_error("writing", to))?;
    let mut opened: Option<(&Path, File)> = None;
    for clip in clips {
        let failed = |source| ReadError::Io { path: clip.path.clone(), source };
        let mut file = match opened.take() {
            Some((path, file)) if path == clip.path => file,
            _ => File::open(&clip.path).map_err(failed)?,
        };
        let mut bytes = Vec::new();
        for run in runs(&clip.samples) {
            bytes.resize(run.1 as usize, 0);
            file.seek(SeekFrom::Start(run.0)).and_then(|_| file.read_exact(&mut bytes)).map_err(failed)?;
            out.write_all(&bytes).map_err(io_error("writing", to))?;
        }
        opened = Some((&clip.path, file));
    }
    let out = out.into_inner().map_err(|error| io_error("writing", to)(error.into_error()))?;
    Ok(out.sync_all().map_err(io_error("writing", to))?)
}

/// Offsets and lengths to read at once.
fn runs(samples: &[ClipSample]) -> Vec<(u64, u64)> {
    let mut runs: Vec<(u64, u64)> = Vec::new();
    for sample in samples {
        match runs.last_mut() {
            Some((offset, bytes)) if *offset + *bytes == sample.offset && *bytes < 4 << 20 => *bytes += u64::from(sample.bytes),
            _ => runs.push((sample.offset, u64::from(sample.bytes))),
        }
    }
    runs
}

fn make_box(kind: &[u8; 4], parts: &[&[u8]]) -> Vec<u8> {
    let size = 8 + parts.iter().map(|part| part.len()).sum::<usize>();
    let mut bytes = Vec::with_capacity(size);
    bytes.extend((size as u32).to_be_bytes());
    bytes.extend(kind);
    parts.iter().for_each(|part| bytes.extend(*part));
    bytes
}

fn full_box(kind: &[u8; 4], version: u8, flags: u32, parts: &[&[u8]]) -> Vec<u8> {
    let word = ((u32::from(version) << 24) | flags).to_be_bytes();
    let mut all: Vec<&[u8]> = vec![&word];
    all.extend(parts);
    make_box(kind, &all)
}

fn words(values: &[u32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_be_bytes()).collect()
}

const UNITY_MATRIX: [u32; 9] = [0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x4000_0000];

fn moov(clips: &[Clip], fps: u32, data_offset: u64) -> Vec<u8> {
    let samples: Vec<&ClipSample> = clips.iter().flat_map(|clip| &clip.samples).collect();
    let count = samples.len() as u32;
    // How much later each frame is shown than it is decoded, in frames, once all are late enough.
    let early = |(decoded, sample): (usize, &ClipSample)| i64::from(sample.rank) - decoded as i64;
    let shifts: Vec<i64> = clips.iter().flat_map(|clip| clip.samples.iter().enumerate().map(early)).collect();
    let delay = shifts.iter().map(|shift| -shift).max().unwrap_or(0).max(0);
    let (width, height) = clips.first().map_or((0, 0), |clip| clip.size);
    let entry = clips.first().map(|clip| clip.sample_entry.as_slice()).unwrap_or_default();

    let timescale = (fps * FRAME_DURATION).to_be_bytes();
    let duration = (u64::from(count) * u64::from(FRAME_DURATION)).to_be_bytes();
    let matrix = words(&UNITY_MATRIX);
    let no_dates = [0u8; 16];
    let rate = [&0x10000u32.to_be_bytes()[..], &0x100u16.to_be_bytes()].concat();
    let mvhd = full_box(b"mvhd", 1, 0, &[&no_dates, &timescale, &duration, &rate, &[0; 10], &matrix, &[0; 24], &2u32.to_be_bytes()]);
    let sides = words(&[u32::from(width) << 16, u32::from(height) << 16]);
    // Flags: enabled, in the movie.
    let tkhd = full_box(b"tkhd", 1, 3, &[&no_dates, &1u32.to_be_bytes(), &[0; 4], &duration, &[0; 16], &matrix, &sides]);
    // Language "und", packed five bits a letter.
    let mdhd = full_box(b"mdhd", 1, 0, &[&no_dates, &timescale, &duration, &0x55c4u16.to_be_bytes(), &[0; 2]]);
    let hdlr = full_box(b"hdlr", 0, 0, &[&[0; 4], b"vide", &[0; 12], b"video\0"]);
    let vmhd = full_box(b"vmhd", 0, 1, &[&[0; 8]]);
    // Flag 1: the data is in this file.
    let url = full_box(b"url ", 0, 1, &[]);
    let dinf = make_box(b"dinf", &[&full_box(b"dref", 0, 0, &[&1u32.to_be_bytes(), &url])]);

    let stsd = full_box(b"stsd", 0, 0, &[&1u32.to_be_bytes(), entry]);
    let stts = full_box(b"stts", 0, 0, &[&words(&[1, count, FRAME_DURATION])]);
    let ctts = if delay == 0 {
        Vec::new()
    } else {
        let late: Vec<u32> = shifts.iter().flat_map(|shift| [1, (shift + delay) as u32 * FRAME_DURATION]).collect();
        full_box(b"ctts", 0, 0, &[&count.to_be_bytes(), &words(&late)])
    };
    let keys: Vec<u32> = samples.iter().zip(1..).filter(|(sample, _)| sample.is_key).map(|(_, number)| number).collect();
    let stss = full_box(b"stss", 0, 0, &[&words(&[keys.len() as u32]), &words(&keys)]);
    // One chunk holds every frame.
    let stsc = full_box(b"stsc", 0, 0, &[&words(&[1, 1, count, 1])]);
    let sizes: Vec<u32> = samples.iter().map(|sample| sample.bytes).collect();
    let stsz = full_box(b"stsz", 0, 0, &[&words(&[0, count]), &words(&sizes)]);
    let co64 = full_box(b"co64", 0, 0, &[&1u32.to_be_bytes(), &data_offset.to_be_bytes()]);
    let stbl = make_box(b"stbl", &[&stsd, &stts, &ctts, &stss, &stsc, &stsz, &co64]);

    let minf = make_box(b"minf", &[&vmhd, &dinf, &stbl]);
    let mdia = make_box(b"mdia", &[&mdhd, &hdlr, &minf]);
    let edts = if delay == 0 {
        Vec::new()
    } else {
        // The presentation begins where the first frame is shown.
        let start = (delay as u64 * u64::from(FRAME_DURATION)).to_be_bytes();
        make_box(b"edts", &[&full_box(b"elst", 1, 0, &[&1u32.to_be_bytes(), &duration, &start, &0x10000u32.to_be_bytes()])])
    };
    let trak = make_box(b"trak", &[&tkhd, &edts, &mdia]);
    make_box(b"moov", &[&mvhd, &trak])
}
