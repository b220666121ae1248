//! Encoders of an installed ffmpeg: a process that is fed raw pictures through a pipe and answers
//! fragments of an mp4, a frame each.

use std::collections::BTreeMap;
use std::io::{self, BufReader, ErrorKind, Read, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use crate::media::depth::DepthRange;
use crate::media::encode::{PictureEncoder, Ready};
use crate::media::mp4_read::{boxes, child, word};
use crate::write::options::VideoOptions;
use crate::{Rate, RecordError};

/// The environment's name for the program, where it is not `ffmpeg`.
const PROGRAM: &str = "FFMPEG";
/// x265's preset for depth.
pub(crate) const DEPTH_PRESET: &str = "ultrafast";
/// A frame or an index larger than this is taken for nonsense.
const LARGEST_BOX_BYTES: u64 = 256 << 20;

/// The program that is run, to encode and to decode.
pub(crate) fn program() -> PathBuf {
    std::env::var_os(PROGRAM).map_or_else(|| "ffmpeg".into(), PathBuf::from)
}

/// A command that is quiet, asks nothing and prints errors only.
pub(crate) fn command() -> Command {
    let mut command = Command::new(program());
    command.args(["-hide_banner", "-nostdin", "-v", "error"]);
    command
}

/// One episode of one camera in an ffmpeg process.
pub(crate) struct FfmpegEncoder {
    camera: String,
    encoder: String,
    process: Child,
    pictures: Option<ChildStdin>,
    frames: Receiver<Frame>,
    reader: Option<JoinHandle<io::Result<()>>>,
    messages: Option<JoinHandle<String>>,
    entry: Vec<u8>,
    /// For depth: the code of each number of millimetres.
    codes: Option<Vec<u16>>,
    scratch: Vec<u8>,
}

enum Frame {
    Entry(Vec<u8>),
    Picture { bytes: Vec<u8>, is_key: bool },
}

impl FfmpegEncoder {
    pub(crate) fn colour(camera: &str, width: u32, height: u32, fps: Rate, video: &VideoOptions) -> Result<Self, RecordError> {
        let VideoOptions { encoder, quality, keyframe_interval, pixel_format, preset } = video;
        let mut options = vec!["-pix_fmt".to_owned(), pixel_format.clone(), "-g".to_owned(), keyframe_interval.to_string()];
        let quality_option = match encoder.as_str() {
            name if name.contains("nvenc") => "-qp",
            name if name.contains("vaapi") => "-qp",
            name if name.contains("qsv") => "-global_quality",
            name if name.contains("videotoolbox") => "-q:v",
            _ => "-crf",
        };
        options.extend([quality_option.to_owned(), quality.to_string()]);
        if let Some(preset) = preset {
            options.extend(["-preset".to_owned(), preset.clone()]);
        }
        match encoder.as_str() {
            "libsvtav1" => options.extend(["-svtav1-params".to_owned(), "fast-decode=0".to_owned()]),
            "libx265" => options.extend(["-x265-params".to_owned(), "bframes=0:open-gop=0:log-level=error".to_owned()]),
            _ => options.extend(["-bf".to_owned(), "0".to_owned()]),
        }
        Self::start(camera, encoder, ("rgb24", width, height, fps), &options, None)
    }

    /// Depth as LeRobot writes it: 12-bit codes in lossless HEVC. Being lossless, speed costs nothing but bytes: a noisy scene of
    /// 640x480 takes 32 ms of a processor a frame for 258 kB, 128 ms for 189 kB as LeRobot has it, without a preset (x265 3.5).
    pub(crate) fn depth(camera: &str, width: u32, height: u32, fps: Rate, range: &DepthRange) -> Result<Self, RecordError> {
        let x265 = "lossless=1:ctu=16:bframes=0:open-gop=0:log-level=error";
        let options = ["-pix_fmt", "gray12le", "-g", "2", "-preset", DEPTH_PRESET, "-x265-params", x265].map(str::to_owned);
        Self::start(camera, "libx265", ("gray12le", width, height, fps), &options, Some(range.table()))
    }

    fn start(
        camera: &str,
        encoder: &str,
        (format, width, height, fps): (&str, u32, u32, Rate),
        options: &[String],
        codes: Option<Vec<u16>>,
    ) -> Result<Self, RecordError> {
        let fault = |what: String| RecordError::Encoder { camera: camera.to_owned(), encoder: format!("ffmpeg's {encoder}"), what };
        let mut command = command();
        let (frames, seconds) = fps.fraction();
        let fps = if seconds == 1 { frames.to_string() } else { format!("{frames}/{seconds}") };
        command.args(["-f", "rawvideo", "-pix_fmt", format]);
        command.args(["-s", &format!("{width}x{height}"), "-r", &fps, "-i", "pipe:0", "-an", "-c:v", encoder]);
        command.args(options);
        command.args(["-f", "mp4", "-movflags", "+frag_every_frame+empty_moov+default_base_moof", "-flush_packets", "1", "pipe:1"]);
        // What SVT-AV1 says of itself goes to the same place as ffmpeg's errors.
        command.env("SVT_LOG", "1").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = command.spawn().map_err(|error| {
            let name = program();
            fault(format!(
                "{} could not be started: {error}; install ffmpeg, name it by {PROGRAM}, or choose another encoder",
                name.display()
            ))
        })?;
        let (sender, frames) = channel();
        let (Some(pictures), Some(output), Some(mut errors)) = (process.stdin.take(), process.stdout.take(), process.stderr.take()) else {
            return Err(fault("its pipes are missing".to_owned()));
        };
        let reader = std::thread::spawn(move || read_fragments(BufReader::with_capacity(1 << 16, output), &sender));
        let messages = std::thread::spawn(move || {
            let mut text = Vec::new();
            // What cannot be read cannot be shown either.
            let _ = errors.read_to_end(&mut text);
            String::from_utf8_lossy(&text).into_owned()
        });
        Ok(Self {
            camera: camera.to_owned(),
            encoder: encoder.to_owned(),
            process,
            pictures: Some(pictures),
            frames,
            reader: Some(reader),
            messages: Some(messages),
            entry: Vec::new(),
            codes,
            scratch: Vec::new(),
        })
    }

    fn take(&mut self, frame: Frame, ready: &mut Ready<'_>) -> Result<(), RecordError> {
        match frame {
            Frame::Entry(entry) => {
                self.entry = entry;
                Ok(())
            }
            Frame::Picture { bytes, is_key } => ready(&self.entry, &bytes, is_key),
        }
    }

    /// Ends the process and says what became of it.
    fn end(&mut self, problem: Option<String>) -> Result<(), RecordError> {
        self.pictures = None;
        let read = self.reader.take().map(JoinHandle::join);
        let status = self.process.wait();
        let said = self.messages.take().and_then(|thread| thread.join().ok()).unwrap_or_default();
        let problem = match (problem, read, status) {
            (Some(problem), ..) => Some(problem),
            (_, _, Err(error)) => Some(format!("waiting for it: {error}")),
            (_, _, Ok(status)) if !status.success() => Some(format!("it ended with {status}")),
            (_, Some(Ok(Err(error))), _) => Some(format!("reading what it wrote: {error}")),
            (_, Some(Err(_)), _) => Some("reading what it wrote failed".to_owned()),
            _ => None,
        };
        let Some(problem) = problem else { return Ok(()) };
        let said = said.trim();
        let what = if said.is_empty() { problem } else { format!("{problem}; ffmpeg said: {said}") };
        Err(RecordError::Encoder { camera: self.camera.clone(), encoder: format!("ffmpeg's {}", self.encoder), what })
    }
}

impl PictureEncoder for FfmpegEncoder {
    fn push(&mut self, picture: &[u8], ready: &mut Ready<'_>) -> Result<(), RecordError> {
        let bytes = match &self.codes {
            None => picture,
            Some(codes) => {
                self.scratch.clear();
                let pixels = picture.chunks_exact(2).map(|pixel| usize::from(u16::from_le_bytes([pixel[0], pixel[1]])));
                self.scratch.extend(pixels.flat_map(|millimetres| codes[millimetres].to_le_bytes()));
                &self.scratch
            }
        };
        let written = self.pictures.as_mut().map_or(Err(io::Error::from(ErrorKind::BrokenPipe)), |pipe| pipe.write_all(bytes));
        if let Err(error) = written {
            return self.end(Some(format!("it takes no more pictures: {error}")));
        }
        while let Ok(frame) = self.frames.try_recv() {
            self.take(frame, ready)?;
        }
        Ok(())
    }

    fn finish(&mut self, ready: &mut Ready<'_>) -> Result<(), RecordError> {
        self.pictures = None;
        while let Ok(frame) = self.frames.recv() {
            self.take(frame, ready)?;
        }
        self.end(None)
    }
}

impl Drop for FfmpegEncoder {
    fn drop(&mut self) {
        if self.messages.is_some() {
            self.pictures = None;
            // An episode that is dropped: whether the process ends well no longer matters.
            let _ = self.process.kill();
            let _ = self.process.wait();
        }
    }
}

/// Reads a fragmented mp4 to its end.
fn read_fragments(mut input: impl Read, frames: &Sender<Frame>) -> io::Result<()> {
    let invalid = |what: &str| io::Error::new(ErrorKind::InvalidData, what.to_owned());
    let mut runs: Vec<(u32, bool)> = Vec::new();
    loop {
        let mut header = [0; 8];
        match input.read(&mut header[..1])? {
            0 => return Ok(()),
            _ => input.read_exact(&mut header[1..])?,
        }
        let [a, b, c, d, kind @ ..] = header;
        let size = match u32::from_be_bytes([a, b, c, d]) {
            1 => {
                let mut large = [0; 8];
                input.read_exact(&mut large)?;
                u64::from_be_bytes(large).saturating_sub(16)
            }
            size => u64::from(size).saturating_sub(8),
        };
        if size > LARGEST_BOX_BYTES {
            return Err(invalid("a box is too large"));
        }
        let mut content = vec![0; size as usize];
        input.read_exact(&mut content)?;
        match &kind {
            b"moov" => {
                let entry = sample_entry(&content).ok_or_else(|| invalid("the index has no sample entry"))?;
                // The receiver is gone when the episode is dropped.
                let _ = frames.send(Frame::Entry(entry));
            }
            b"moof" => runs = fragment_runs(&content).ok_or_else(|| invalid("a fragment's index cannot be read"))?,
            b"mdat" => {
                let mut rest = content.as_slice();
                for (size, is_key) in runs.drain(..) {
                    let (bytes, after) = rest.split_at_checked(size as usize).ok_or_else(|| invalid("a fragment is cut short"))?;
                    rest = after;
                    let _ = frames.send(Frame::Picture { bytes: bytes.to_vec(), is_key });
                }
            }
            _ => {}
        }
    }
}

/// The first sample entry of the index, without the box of bit rates, which differs between episodes.
fn sample_entry(moov: &[u8]) -> Option<Vec<u8>> {
    /// Of a visual sample entry, before its boxes.
    const FIXED_BYTES: usize = 78;
    let table = child(child(child(child(moov, b"trak")?, b"mdia")?, b"minf")?, b"stbl")?;
    let (kind, entry) = boxes(child(table, b"stsd")?.get(8..)?).next()?;
    let mut content = entry.get(..FIXED_BYTES)?.to_vec();
    for (kind, inner) in boxes(&entry[FIXED_BYTES..]).filter(|(kind, _)| kind != b"btrt") {
        content.extend((inner.len() as u32 + 8).to_be_bytes());
        content.extend(kind);
        content.extend(inner);
    }
    Some([&(content.len() as u32 + 8).to_be_bytes()[..], &kind, &content].concat())
}

/// The size of each frame of a fragment, and whether it can be decoded alone.
fn fragment_runs(moof: &[u8]) -> Option<Vec<(u32, bool)>> {
    /// In a frame's flags: other frames are needed.
    const DEPENDS: u32 = 0x1_0000;
    let fragment = child(moof, b"traf")?;
    let header = child(fragment, b"tfhd")?;
    let flags = word(header, 0)? & 0xff_ffff;
    // Optional words in this order after the track's number.
    let mut at = 8;
    let mut defaults = BTreeMap::new();
    for (flag, bytes) in [(0x1, 8), (0x2, 4), (0x8, 4), (0x10, 4), (0x20, 4)] {
        if flags & flag != 0 {
            defaults.insert(flag, word(header, at)?);
            at += bytes;
        }
    }
    let mut frames = Vec::new();
    for (_, run) in boxes(fragment).filter(|(kind, _)| kind == b"trun") {
        let (flags, count) = (word(run, 0)? & 0xff_ffff, word(run, 4)?);
        let mut at = 8 + if flags & 1 != 0 { 4 } else { 0 };
        let first = if flags & 4 != 0 { Some(word(run, at)?) } else { None };
        at += if flags & 4 != 0 { 4 } else { 0 };
        for number in 0..count {
            let mut field = |flag: u32| -> Option<Option<u32>> {
                if flags & flag == 0 {
                    return Some(None);
                }
                let value = word(run, at)?;
                at += 4;
                Some(Some(value))
            };
            field(0x100)?;
            let size = field(0x200)?.or_else(|| defaults.get(&0x10).copied())?;
            let own = field(0x400)?;
            field(0x800)?;
            let flags = if number == 0 { first.or(own) } else { own };
            let flags = flags.or_else(|| defaults.get(&0x20).copied()).unwrap_or(0);
            frames.push((size, flags & DEPENDS == 0));
        }
    }
    Some(frames)
}
