//! Frames of one video file, in any order.

use std::ops::Range;
use std::path::{Path, PathBuf};

use sinew_core::Image;

use super::decode::FrameDecoder;
use super::decode_av1::Av1Stream;
use super::decode_ffmpeg::FfmpegStream;
use super::decode_h264::H264Stream;
use crate::ReadError;
use crate::format::input::Input;
use crate::media::mp4_read::{VideoIndex, read_video_of};
use crate::progress::{Waiting, patient};

/// A frame counts as found when its time in the file is this near to the row's (LeRobot's default).
pub(crate) const TOLERANCE_S: f64 = 1e-4;

/// What is asked for at first of the frames that follow.
const FIRST_AHEAD_BYTES: u64 = 256 << 10;

/// Decodes the frames of one mp4 file. Frames that follow each other cost one decoding each; any
/// other costs those since the last key frame as well.
///
/// H.264 and AV1 in 8-bit 4:2:0 are decoded in this process. Everything else takes an installed ffmpeg.
pub struct VideoReader {
    path: PathBuf,
    index: VideoIndex,
    file: Input,
    /// The samples before this one are under way or here, of a file that lies elsewhere.
    expected: usize,
    /// How many bytes of those that are shown next may be under way or here.
    ahead_bytes: u64,
    decoder: Decoder,
    /// The frame that the decoder gives next, if it runs.
    next: Option<u64>,
    /// Of the sample that it is fed next.
    next_sample: usize,
}

enum Decoder {
    BuiltIn {
        stream: Box<dyn FrameDecoder>,
        /// The samples at which decoding can begin: none before is shown after, and none after before.
        keys: Vec<u32>,
        bytes: Vec<u8>,
    },
    Ffmpeg {
        pixel_format: &'static str,
        running: Option<FfmpegStream>,
    },
}

impl VideoReader {
    /// Opens `path` and reads its index.
    ///
    /// # Errors
    /// When it is no mp4 file with video, or is cut short.
    pub fn open(path: &Path) -> Result<Self, ReadError> {
        Self::open_from(path, Input::open(path)?)
    }

    /// As [`Self::open`], of `file`, which is the one at `path`.
    pub(crate) fn open_from(path: &Path, file: Input) -> Result<Self, ReadError> {
        let index = read_video_of(path, &file)?;
        let failed = |what| ReadError::Decode { path: path.to_owned(), what };
        let keys = index.keys();
        // Without a beginning there would be frames that only ffmpeg makes something of.
        let stream: Option<Box<dyn FrameDecoder>> = if keys.first() != Some(&0) {
            None
        } else if H264Stream::knows(&index) {
            Some(Box::new(H264Stream::new(&index).map_err(failed)?))
        } else if Av1Stream::knows(&index) {
            Some(Box::new(Av1Stream::new(&index).map_err(failed)?))
        } else {
            None
        };
        let decoder = match stream {
            Some(stream) => Decoder::BuiltIn { stream, keys, bytes: Vec::new() },
            None => Decoder::Ffmpeg { pixel_format: "rgb24", running: None },
        };
        Ok(Self::with_decoder(path, index, file, decoder))
    }

    /// Opens `path` to read codes of 12 bits from its luma.
    pub(crate) fn open_depth(path: &Path) -> Result<Self, ReadError> {
        let file = Input::open(path)?;
        let index = read_video_of(path, &file)?;
        Ok(Self::with_decoder(path, index, file, Decoder::Ffmpeg { pixel_format: "gray12le", running: None }))
    }

    fn with_decoder(path: &Path, index: VideoIndex, file: Input, decoder: Decoder) -> Self {
        Self { path: path.to_owned(), index, file, expected: 0, ahead_bytes: 0, decoder, next: None, next_sample: 0 }
    }

    /// Whether it is decoded by a program that reads the file by its path.
    pub(crate) fn needs_path(&self) -> bool {
        matches!(self.decoder, Decoder::Ffmpeg { .. })
    }

    /// Whether the index comes before the frames.
    pub(crate) fn index_first(&self) -> bool {
        self.index.index_first
    }

    /// Lets the frames that are shown from `seconds.start` to `seconds.end` come while something else is done, some
    /// `most_bytes` of them at a time, where the file lies elsewhere.
    pub(crate) fn expect(&mut self, seconds: Range<f64>, most_bytes: u64) {
        let (Decoder::BuiltIn { keys, .. }, true) = (&self.decoder, self.file.is_elsewhere()) else { return };
        let sample = |seconds| self.index.shown.get(self.index.nearest(seconds)? as usize).map(|sample| *sample as usize);
        let (Some(first), Some(last)) = (sample(seconds.start), sample(seconds.end)) else { return };
        let (first, end) = (group_of(keys, first, &self.index).start, group_of(keys, last, &self.index).end);
        if self.expected == end {
            return;
        }
        let mut begin = self.expected;
        if self.ahead_bytes == 0 || !(first..end).contains(&begin) {
            (begin, self.ahead_bytes) = (first, FIRST_AHEAD_BYTES.min(most_bytes));
        }
        let bytes = |samples: Range<usize>| self.index.samples[samples].iter().map(|sample| u64::from(sample.bytes)).sum::<u64>();
        let mut ahead = bytes(first..begin);
        // In few large requests, not in many small ones.
        if ahead > self.ahead_bytes / 2 {
            return;
        }
        let mut to = begin;
        while to < end && ahead < self.ahead_bytes {
            let group = to..group_of(keys, to, &self.index).end.max(to + 1);
            ahead += bytes(group.clone());
            to = group.end;
        }
        // Little at first, as the next frame waits for all that is asked for with it.
        self.ahead_bytes = (2 * self.ahead_bytes).min(most_bytes);
        self.file.expect(&places(&self.index, begin..to), false);
        self.expected = to;
    }

    /// How many there are.
    pub fn frames(&self) -> u64 {
        self.index.frames()
    }

    /// Of the index in memory.
    pub(crate) fn index_bytes(&self) -> usize {
        size_of_val(self.index.samples.as_slice()) + 2 * size_of_val(self.index.shown.as_slice())
    }

    fn failed(&self, what: String) -> ReadError {
        ReadError::Decode { path: self.path.clone(), what }
    }

    /// The number of the frame that is shown at `seconds`.
    pub(crate) fn number_at(&self, seconds: f64) -> Result<u64, ReadError> {
        let nearest = self.index.nearest(seconds).ok_or_else(|| self.failed("it has no frame".to_owned()))?;
        let found = self.index.seconds(nearest).unwrap_or(f64::INFINITY);
        if (found - seconds).abs() >= TOLERANCE_S {
            return Err(self.failed(format!("no frame is shown at {seconds:.6} s; the nearest is at {found:.6} s")));
        }
        Ok(nearest)
    }

    /// The image that is shown at `seconds`.
    ///
    /// # Errors
    /// When no frame is within 0.1 ms of that, or it can't be decoded.
    pub fn frame_at(&mut self, seconds: f64) -> Result<Image, ReadError> {
        let number = self.number_at(seconds)?;
        self.frame(number)
    }

    /// As [`Self::frame_at`], for as long as `waiting` wants to wait.
    pub(crate) fn frame_at_while(&mut self, seconds: f64, waiting: &mut Waiting<'_>) -> Result<Image, ReadError> {
        let number = self.number_at(seconds)?;
        self.frame_while(number, waiting)
    }

    /// Frame `number` in the order in which frames are shown.
    ///
    /// # Errors
    /// When there is no such frame, or it can't be decoded.
    pub fn frame(&mut self, number: u64) -> Result<Image, ReadError> {
        self.frame_while(number, &mut patient)
    }

    fn frame_while(&mut self, number: u64, waiting: &mut Waiting<'_>) -> Result<Image, ReadError> {
        if number >= self.frames() {
            return Err(self.failed(format!("it has no frame {number}, but {}", self.frames())));
        }
        let image = match self.decoder {
            Decoder::BuiltIn { .. } => self.built_in(number, waiting),
            Decoder::Ffmpeg { .. } => {
                let (width, height) = self.size();
                let mut image = Image::black(width, height);
                self.by_ffmpeg(number, &mut image.rgb, waiting).map(|()| image)
            }
        };
        match image {
            Ok(image) if (image.width, image.height) == self.size() => Ok(image),
            Ok(image) => {
                self.next = None;
                let (width, height) = self.size();
                Err(self.failed(format!("frame {number} is {}x{}, expected {width}x{height}", image.width, image.height)))
            }
            Err(error) => {
                // What the decoder would say next means nothing.
                self.next = None;
                Err(error)
            }
        }
    }

    /// The codes of frame `number` of a depth video, `[height, width]`.
    pub(crate) fn codes(&mut self, number: u64, waiting: &mut Waiting<'_>) -> Result<Vec<u16>, ReadError> {
        let (width, height) = self.size();
        let mut bytes = vec![0; width as usize * height as usize * 2];
        self.by_ffmpeg(number, &mut bytes, waiting)?;
        Ok(bytes.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]])).collect())
    }

    pub(crate) fn size(&self) -> (u32, u32) {
        (self.index.width.into(), self.index.height.into())
    }

    fn built_in(&mut self, number: u64, waiting: &mut Waiting<'_>) -> Result<Image, ReadError> {
        let Self { path, index, file, decoder, next, next_sample, .. } = self;
        let failed = |what: String| ReadError::Decode { path: path.clone(), what: format!("frame {number}: {what}") };
        let Decoder::BuiltIn { stream, keys, bytes } = decoder else { return Err(failed("it is decoded by ffmpeg".to_owned())) };
        let wanted = index.shown.get(number as usize).copied().ok_or_else(|| failed("there is no such frame".to_owned()))?;
        let key = keys.partition_point(|key| *key <= wanted).checked_sub(1).and_then(|at| keys.get(at));
        let key = *key.ok_or_else(|| failed("no frame up to it can be decoded alone".to_owned()))? as usize;
        if !next.is_some_and(|next| next <= number && key <= *next_sample) {
            stream.restart().map_err(failed)?;
            (*next, *next_sample) = (Some(key as u64), key);
        }
        loop {
            let shown = next.unwrap_or(number);
            if let Some(picture) = stream.next() {
                *next = Some(shown + 1);
                match picture {
                    Some(image) if shown == number => return Ok(image),
                    None if shown == number => return Err(failed("the decoder gave another picture for it".to_owned())),
                    _ => continue,
                }
            }
            if waiting().is_break() {
                return Err(ReadError::Stopped { path: path.clone() });
            }
            if file.is_elsewhere() && (*next_sample == key || keys.binary_search(&(*next_sample as u32)).is_ok()) {
                file.expect(&places(index, group_of(keys, *next_sample, index)), true);
            }
            let Some(sample) = index.samples.get(*next_sample) else {
                stream.finish().map_err(failed)?;
                match stream.next() {
                    Some(Some(image)) if shown == number => {
                        *next = Some(shown + 1);
                        return Ok(image);
                    }
                    Some(_) => *next = Some(shown + 1),
                    None => return Err(failed("the decoder gave no picture for it".to_owned())),
                }
                continue;
            };
            *next_sample += 1;
            bytes.resize(sample.bytes as usize, 0);
            file.read_exact_at(sample.offset, bytes).map_err(|source| ReadError::Io { path: path.clone(), source })?;
            stream.feed(bytes, sample.is_key, shown == number).map_err(failed)?;
        }
    }

    fn by_ffmpeg(&mut self, number: u64, picture: &mut [u8], waiting: &mut Waiting<'_>) -> Result<(), ReadError> {
        // Half a frame before, so that rounding never picks a neighbour.
        let seconds = |frame| self.index.seconds(frame).unwrap_or(0.0);
        let frame_s = if number == 0 { 0.0 } else { seconds(number) - seconds(number - 1) };
        let from_s = if number == 0 { 0.0 } else { seconds(number) - frame_s / 2.0 };
        let Decoder::Ffmpeg { pixel_format, running } = &mut self.decoder else {
            return Err(self.failed("it is not decoded by ffmpeg".to_owned()));
        };
        // A few frames are read faster than a process is started.
        let near = self.next.filter(|next| *next <= number && number - next <= 32);
        if near.is_none() || running.is_none() {
            *running = Some(FfmpegStream::begin(&self.path, &self.index.codec, from_s, pixel_format, picture.len())?);
        }
        let Some(stream) = running else { return Ok(()) };
        for _ in near.unwrap_or(number)..=number {
            if let Err(error) = stream.next(picture, waiting) {
                // What it would say next is of another frame.
                *running = None;
                return Err(error);
            }
        }
        self.next = Some(number + 1);
        Ok(())
    }
}

/// The samples from the key frame at or before sample `sample` to the next: its group of pictures.
fn group_of(keys: &[u32], sample: usize, index: &VideoIndex) -> Range<usize> {
    let after = keys.partition_point(|key| *key as usize <= sample);
    let start = after.checked_sub(1).and_then(|at| keys.get(at)).map_or(sample, |key| *key as usize);
    start..keys.get(after).map_or(index.samples.len(), |key| *key as usize)
}

/// Where samples are in the file.
fn places(index: &VideoIndex, samples: Range<usize>) -> Vec<Range<u64>> {
    let samples = index.samples.get(samples).unwrap_or_default();
    samples.iter().map(|sample| sample.offset..sample.offset.saturating_add(u64::from(sample.bytes))).collect()
}
