//! One camera's video: an episode is gathered in a scratch file, and joins an mp4 when it is kept.

use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Seek, SeekFrom, Write, copy};
use std::path::{Path, PathBuf};

use sinew_core::Image;

use crate::RecordError;
use crate::files::{checkpoint, io_error};
use crate::h264::{EncodedFrame, FrameEncoder};
use crate::mp4::{Samples, Track, head};
use crate::stats::{FeatureStats, ImageHistogram, ImageStats, sampled_frames};

/// An episode of one camera while it is recorded. Memory does not grow with its length but for five
/// bytes a frame: pictures and histograms go to two scratch files.
pub(crate) struct EpisodeVideo {
    encoder: FrameEncoder,
    frame: EncodedFrame,
    pictures: ScratchFile,
    histograms: ScratchFile,
    samples: Samples,
}

struct ScratchFile {
    path: PathBuf,
    writer: BufWriter<File>,
}

impl ScratchFile {
    fn create(path: PathBuf) -> Result<Self, RecordError> {
        let file = File::options().read(true).write(true).create(true).truncate(true).open(&path).map_err(io_error("creating", &path))?;
        Ok(Self { writer: BufWriter::with_capacity(1 << 16, file), path })
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), RecordError> {
        self.writer.write_all(bytes).map_err(io_error("writing", &self.path))
    }

    /// The file, rewound for reading.
    fn rewind(&mut self) -> Result<&mut File, RecordError> {
        self.writer.flush().map_err(io_error("writing", &self.path))?;
        let file = self.writer.get_mut();
        file.rewind().map_err(io_error("reading", &self.path))?;
        Ok(file)
    }
}

impl EpisodeVideo {
    /// Scratch files go to `scratch`, named after `camera`.
    pub(crate) fn begin(scratch: &Path, camera: &str, encoder: FrameEncoder) -> Result<Self, RecordError> {
        Ok(Self {
            encoder,
            frame: EncodedFrame::default(),
            pictures: ScratchFile::create(scratch.join(format!("{camera}.h264")))?,
            histograms: ScratchFile::create(scratch.join(format!("{camera}.histograms")))?,
            samples: Samples::default(),
        })
    }

    pub(crate) fn push(&mut self, image: &Image) -> Result<(), RecordError> {
        self.encoder.encode(image, &mut self.frame)?;
        self.pictures.write(&self.frame.bytes)?;
        self.histograms.write(&ImageHistogram::of(image).to_bytes())?;
        self.samples.push(self.frame.bytes.len() as u32, self.frame.is_key);
        Ok(())
    }

    /// Statistics over the frames that LeRobot would sample; `None` before the first frame.
    pub(crate) fn stats(&mut self) -> Result<Option<FeatureStats>, RecordError> {
        let frames = self.samples.sizes.len() as u64;
        if frames == 0 {
            return Ok(None);
        }
        let path = self.histograms.path.clone();
        let file = self.histograms.rewind()?;
        let mut stats = ImageStats::new();
        let mut bytes = [0; ImageHistogram::BYTES];
        for frame in sampled_frames(frames) {
            file.seek(SeekFrom::Start(frame * ImageHistogram::BYTES as u64)).map_err(io_error("reading", &path))?;
            file.read_exact(&mut bytes).map_err(io_error("reading", &path))?;
            stats.add(&ImageHistogram::from_bytes(&bytes));
        }
        Ok(stats.finish())
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.samples.total_bytes()
    }
}

/// An mp4 file that is committed, as far as appending needs to know it.
#[derive(Clone, Debug)]
pub(crate) struct VideoFile {
    track: Track,
    samples: Samples,
}

impl VideoFile {
    /// Frames in the file.
    pub(crate) fn frames(&self) -> u64 {
        self.samples.sizes.len() as u64
    }

    /// Whether `episode` can be appended and the file stays within `limit_bytes`.
    pub(crate) fn has_room(&self, episode: &EpisodeVideo, limit_bytes: u64) -> bool {
        let same = self.track.sps == episode.frame.sps && self.track.pps == episode.frame.pps;
        same && self.samples.total_bytes() + episode.bytes() <= limit_bytes
    }

    /// Writes `before`'s frames (from the file at its path) and then the episode's to a new file at
    /// `to`. `width`, `height` and `fps` are the episode's.
    pub(crate) fn write(
        before: Option<(&Self, &Path)>,
        episode: &mut EpisodeVideo,
        (width, height, fps): (u32, u32, u32),
        to: &Path,
    ) -> Result<Self, RecordError> {
        let EncodedFrame { sps, pps, .. } = &episode.frame;
        let track = Track { width: width as u16, height: height as u16, fps, sps: sps.clone(), pps: pps.clone() };
        let mut samples = before.map(|(file, _)| file.samples.clone()).unwrap_or_default();
        samples.extend(&episode.samples);

        let out = File::create(to).map_err(io_error("creating", to))?;
        let mut out = BufWriter::with_capacity(1 << 18, out);
        out.write_all(&head(&track, &samples)).map_err(io_error("writing", to))?;
        if let Some((file, path)) = before {
            let mut old = File::open(path).map_err(io_error("reading", path))?;
            let skip = head(&file.track, &file.samples).len() as u64;
            old.seek(SeekFrom::Start(skip)).map_err(io_error("reading", path))?;
            copy_exactly(old, file.samples.total_bytes(), &mut out, path, to)?;
        }
        let (bytes, path) = (episode.bytes(), episode.pictures.path.clone());
        copy_exactly(episode.pictures.rewind()?, bytes, &mut out, &path, to)?;
        let out = out.into_inner().map_err(|error| io_error("writing", to)(error.into_error()))?;
        out.sync_all().map_err(io_error("writing", to))?;
        checkpoint();
        Ok(Self { track, samples })
    }
}

fn copy_exactly(from: impl Read, bytes: u64, out: &mut impl Write, from_path: &Path, to: &Path) -> Result<(), RecordError> {
    let copied = copy(&mut BufReader::new(from).take(bytes), out).map_err(io_error("writing", to))?;
    if copied != bytes {
        let what = format!("{bytes} bytes expected, {copied} found");
        let source = std::io::Error::new(std::io::ErrorKind::UnexpectedEof, what);
        return Err(RecordError::Io { doing: "reading", path: from_path.to_owned(), source });
    }
    Ok(())
}
