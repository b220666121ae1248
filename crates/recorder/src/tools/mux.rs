//! Frames of other video files put together into a new one, without decoding them.

use std::fs::File;
use std::io::{BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::ToolError;
use crate::commit::io_error;
use crate::format::input;
use crate::media::mp4::{Samples, Track, data_header, file_type, moov};
use crate::media::mp4_read::VideoIndex;
use crate::{Rate, ReadError};

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
    /// Frames `first` to `first + frames` of the video at `path`; `None` where they can't be decoded without
    /// others.
    pub(crate) fn of(path: &Path, index: &VideoIndex, first: u64, frames: u64) -> Result<Option<Self>, ReadError> {
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
            return Ok(None);
        }
        let samples = samples.iter().zip(ranks.into_iter().flatten());
        let samples = samples.map(|(sample, rank)| ClipSample { offset: sample.offset, bytes: sample.bytes, is_key: sample.is_key, rank });
        let size = (index.width, index.height);
        Ok(Some(Self { path: path.to_owned(), sample_entry: index.sample_entry.clone(), size, samples: samples.collect() }))
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
pub(crate) fn write(clips: &[Clip], fps: Rate, to: &Path) -> Result<(), ToolError> {
    let out = File::create(to).map_err(io_error("creating", to))?;
    let mut out = BufWriter::with_capacity(1 << 18, out);
    write_to(clips, fps, to, &mut out)?;
    let out = out.into_inner().map_err(|error| io_error("writing", to)(error.into_error()))?;
    Ok(out.sync_all().map_err(io_error("writing", to))?)
}

/// The same to whatever takes bytes; `to` is what errors call it.
pub(crate) fn write_to(clips: &[Clip], fps: Rate, to: &Path, out: &mut impl Write) -> Result<(), ToolError> {
    let Some(first) = clips.first() else { return Ok(()) };
    let track = Track { width: first.size.0, height: first.size.1, fps };
    let index = |offset| moov(&track, &first.sample_entry, &samples_of(clips, offset));
    let (kind, data) = (file_type(), data_header(clips.iter().map(Clip::bytes).sum::<u64>() + 16));
    // The offset's width is fixed, so the index has the same length whatever it says.
    let offset = kind.len() + index(0).len() + data.len();
    out.write_all(&[kind, index(offset as u64), data].concat()).map_err(io_error("writing", to))?;
    let mut opened: Option<(&Path, File)> = None;
    for clip in clips {
        let failed = |source| ReadError::Io { path: clip.path.clone(), source };
        let mut file = match opened.take() {
            Some((path, file)) if path == clip.path => file,
            _ => input::open(&clip.path)?,
        };
        let mut bytes = Vec::new();
        for run in runs(&clip.samples) {
            bytes.resize(run.1 as usize, 0);
            file.seek(SeekFrom::Start(run.0)).and_then(|_| file.read_exact(&mut bytes)).map_err(failed)?;
            out.write_all(&bytes).map_err(io_error("writing", to))?;
        }
        opened = Some((&clip.path, file));
    }
    Ok(())
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

/// The index's tables, of frames that lie back to back from `offset` on.
fn samples_of(clips: &[Clip], offset: u64) -> Samples {
    let mut samples = Samples::default();
    for sample in clips.iter().flat_map(|clip| &clip.samples) {
        samples.push(sample.bytes, sample.is_key);
    }
    samples.runs.push((offset, samples.sizes.len() as u32));
    // How much later each frame is shown than it is decoded, in frames; then all are made late enough.
    let late = |(decoded, sample): (usize, &ClipSample)| i64::from(sample.rank) - decoded as i64;
    let late: Vec<i64> = clips.iter().flat_map(|clip| clip.samples.iter().enumerate().map(late)).collect();
    let delay = late.iter().map(|late| -late).max().unwrap_or(0);
    if delay > 0 {
        samples.late = late.into_iter().map(|late| (late + delay) as u32).collect();
    }
    samples
}
