//! The videos of one camera of a result.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::mux::{self, Clip};
use super::{CameraWork, ToolError};
use crate::format::schema::{FileIndex, video_path_21};
use crate::format::table::VideoSpan;
use crate::media::mp4_read::{VideoIndex, read_video};
use crate::progress::Progress;
use crate::commit::{create_folder, io_error};
use crate::{DatasetReader, Rate, ReadError, Version};

/// The episode whose images are to be appended: its first `frames` frames.
pub(super) struct Source<'a> {
    pub(super) reader: &'a DatasetReader,
    pub(super) episode: u64,
    pub(super) frames: u64,
}

/// Appends episode by episode; a file is written when no further episode goes into it.
pub(super) struct CameraWriter {
    pub(super) key: String,
    root: PathBuf,
    version: Version,
    fps: Rate,
    chunks_size: u64,
    limit_bytes: u64,
    index: FileIndex,
    episodes: u64,
    /// Of the file that is being gathered.
    clips: Vec<Clip>,
    frames: u64,
    /// Of source files.
    indices: HashMap<PathBuf, VideoIndex>,
}

impl CameraWriter {
    pub(super) fn new(root: &Path, key: &str, version: Version, fps: Rate, chunks_size: u64, limit_bytes: u64) -> Self {
        Self {
            key: key.to_owned(),
            root: root.to_owned(),
            version,
            fps,
            chunks_size,
            limit_bytes,
            index: FileIndex::default(),
            episodes: 0,
            clips: Vec::new(),
            frames: 0,
            indices: HashMap::new(),
        }
    }

    pub(super) fn append(&mut self, source: &Source<'_>, work: &CameraWork, progress: &mut Progress<'_>) -> Result<VideoSpan, ToolError> {
        let clip = match work {
            CameraWork::Copy => self.copied(source)?,
            CameraWork::Encode(options) => super::encode::clip(source, &self.key, options, &self.scratch()?, progress)?,
        };
        let full = self.clips.iter().map(Clip::bytes).sum::<u64>() + clip.bytes() > self.limit_bytes;
        if self.version != Version::V30 || full || !self.clips.first().is_none_or(|first| first.joins(&clip)) {
            self.finish()?;
        }
        let seconds = |frame: u64| self.fps.seconds(frame);
        let span = VideoSpan { file: self.index, from_s: seconds(self.frames), to_s: seconds(self.frames + source.frames) };
        self.frames += source.frames;
        self.clips.push(clip);
        self.episodes += 1;
        Ok(span)
    }

    /// Where encoded frames wait.
    fn scratch(&self) -> Result<PathBuf, ToolError> {
        let folder = self.root.join(".scratch");
        create_folder(&folder)?;
        Ok(folder.join(format!("{}-{}", self.key, self.episodes)))
    }

    fn copied(&mut self, source: &Source<'_>) -> Result<Clip, ToolError> {
        let entry = source.reader.episode(source.episode)?;
        let span = entry.videos.iter().find(|span| span.key == self.key);
        let missing = || ReadError::Missing { root: source.reader.root().to_owned(), what: format!("the video of {}", self.key) };
        let span = span.ok_or_else(missing)?;
        let path = source.reader.root().join(&span.path);
        if !self.indices.contains_key(&path) {
            // Sources are read in order; the last files are enough.
            if self.indices.len() > 8 {
                self.indices.clear();
            }
            self.indices.insert(path.clone(), read_video(&path)?);
        }
        let index = &self.indices[&path];
        let first = index.nearest(span.from_s).unwrap_or(0);
        let found = index.seconds(first).unwrap_or(f64::INFINITY);
        if (found - span.from_s).abs() >= crate::media::video_reader::TOLERANCE_S {
            let what = format!("episode {} begins at {} s, where no frame is shown", source.episode, span.from_s);
            return Err(ReadError::Invalid { path, what }.into());
        }
        Ok(Clip::of(&path, index, first, source.frames)?)
    }

    /// Writes what was gathered.
    pub(super) fn finish(&mut self) -> Result<(), ToolError> {
        if self.clips.is_empty() {
            return Ok(());
        }
        let relative = match self.version {
            Version::V30 => self.index.video_path(&self.key),
            _ => video_path_21(&self.key, self.episodes - 1, self.chunks_size),
        };
        let path = self.root.join(relative);
        if let Some(parent) = path.parent() {
            create_folder(parent)?;
        }
        mux::write(&self.clips, self.fps, &path)?;
        for clip in self.clips.drain(..).filter(|clip| clip.path.starts_with(self.root.join(".scratch"))) {
            fs::remove_file(&clip.path).map_err(io_error("removing", &clip.path))?;
        }
        self.frames = 0;
        self.index = self.index.next(self.chunks_size);
        Ok(())
    }
}
