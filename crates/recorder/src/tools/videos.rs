//! The videos of one camera of a result.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

use super::assembly::{Assembly, Part};
use super::keep::Sharing;
use super::mux::{self, Clip};
use super::whole::{WholeFile, whole_files, without_other_frames};
use super::{CameraWork, ToolError};
use crate::commit::{create_folder, io_error};
use crate::format::schema::{FileIndex, is_depth, video_path_21};
use crate::format::table::VideoSpan;
use crate::media::mp4_read::{VideoIndex, read_video};
use crate::progress::Progress;
use crate::{DatasetReader, Rate, ReadError, Version, VideoOptions};

/// The episode whose images are to be appended: its first `frames` frames.
pub(super) struct Source<'a> {
    pub(super) reader: &'a DatasetReader,
    pub(super) episode: u64,
    pub(super) frames: u64,
}

/// Appends episode by episode; a file is written when no further episode goes into it.
pub(super) struct CameraWriter<'a> {
    pub(super) key: String,
    assembly: &'a Assembly,
    root: PathBuf,
    sharing: Sharing,
    work: CameraWork,
    fps: Rate,
    chunks_size: u64,
    limit_bytes: u64,
    index: FileIndex,
    episodes: u64,
    /// Of the file that is being gathered, or taken over whole.
    clips: Vec<Clip>,
    frames: u64,
    /// Source files that are taken over as they are, by the first part in them.
    whole: BTreeMap<usize, WholeFile>,
    /// Parts that are still to come of the file that is being taken over.
    whole_left: usize,
    /// Of source files.
    indices: HashMap<PathBuf, VideoIndex>,
}

impl<'a> CameraWriter<'a> {
    pub(super) fn new(assembly: &'a Assembly, root: &Path, key: &str, sharing: Sharing) -> Self {
        let info = assembly.sources[0].info();
        Self {
            key: key.to_owned(),
            assembly,
            root: root.to_owned(),
            sharing,
            work: assembly.cameras.get(key).cloned().unwrap_or_default(),
            fps: assembly.sources[0].fps(),
            chunks_size: info.chunks_size,
            limit_bytes: info.video_files_size_in_mb << 20,
            index: FileIndex::default(),
            episodes: 0,
            clips: Vec::new(),
            frames: 0,
            whole: whole_videos(assembly, key),
            whole_left: 0,
            indices: HashMap::new(),
        }
    }

    /// Appends part `number` of the result.
    pub(super) fn append(&mut self, number: usize, progress: &mut Progress<'_>) -> Result<VideoSpan, ToolError> {
        let part = self.assembly.parts[number];
        let source = Source { reader: &self.assembly.sources[part.source], episode: part.episode, frames: part.frames };
        self.take_whole(number)?;
        if self.whole_left == 0 {
            let clip = match self.work.clone() {
                CameraWork::Copy => self.copied(&source, progress)?,
                CameraWork::Encode(options) => super::encode::clip(&source, &self.key, &options, &self.scratch()?, progress)?,
            };
            let full = self.clips.iter().map(Clip::bytes).sum::<u64>() + clip.bytes() > self.limit_bytes;
            if self.assembly.version != Version::V30 || full || !self.clips.first().is_none_or(|first| first.joins(&clip)) {
                self.finish()?;
            }
            self.clips.push(clip);
        }
        let seconds = |frame: u64| self.fps.seconds(frame);
        let span = VideoSpan { file: self.index, from_s: seconds(self.frames), to_s: seconds(self.frames + source.frames) };
        self.frames += source.frames;
        self.episodes += 1;
        if self.whole_left > 0 {
            self.whole_left -= 1;
            if self.whole_left == 0 {
                self.next_file();
            }
        }
        Ok(span)
    }

    /// Takes the file over that begins with part `number`, if there is one that can be.
    fn take_whole(&mut self, number: usize) -> Result<(), ToolError> {
        let Some(file) = self.whole.remove(&number) else { return Ok(()) };
        if without_other_frames(self.assembly, number, &file, &self.key).is_none() {
            return Ok(());
        }
        self.finish()?;
        self.sharing.take(&file.path, &self.root.join(self.path(self.episodes)))?;
        self.whole_left = file.parts;
        Ok(())
    }

    /// Where the file goes whose last episode is `episode`.
    fn path(&self, episode: u64) -> String {
        match self.assembly.version {
            Version::V30 => self.index.video_path(&self.key),
            _ => video_path_21(&self.key, episode, self.chunks_size),
        }
    }

    fn next_file(&mut self) {
        self.frames = 0;
        self.index = self.index.next(self.chunks_size);
    }

    /// Where encoded frames wait.
    fn scratch(&self) -> Result<PathBuf, ToolError> {
        let folder = self.root.join(".scratch");
        create_folder(&folder)?;
        Ok(folder.join(format!("{}-{}", self.key, self.episodes)))
    }

    /// The encoded frames as they are, or encoded anew where they need others that stay behind.
    fn copied(&mut self, source: &Source<'_>, progress: &mut Progress<'_>) -> Result<Clip, ToolError> {
        let part = Part { source: 0, episode: source.episode, frames: source.frames };
        let (path, clip) = taken_out(source.reader, &part, &self.key, &mut self.indices)?;
        match clip {
            Some(clip) => Ok(clip),
            None => {
                let index = &self.indices[&path];
                let invalid = |what| ReadError::Invalid { path: path.clone(), what };
                let options = encoder_like(&source.reader.features()[&self.key], index).map_err(invalid)?;
                super::encode::clip(source, &self.key, &options, &self.scratch()?, progress)
            }
        }
    }

    /// Writes what was gathered.
    pub(super) fn finish(&mut self) -> Result<(), ToolError> {
        if self.clips.is_empty() {
            return Ok(());
        }
        let path = self.root.join(self.path(self.episodes - 1));
        if let Some(parent) = path.parent() {
            create_folder(parent)?;
        }
        mux::write(&self.clips, self.fps, &path)?;
        for clip in self.clips.drain(..).filter(|clip| clip.path.starts_with(self.root.join(".scratch"))) {
            fs::remove_file(&clip.path).map_err(io_error("removing", &clip.path))?;
        }
        self.next_file();
        Ok(())
    }
}

/// Files of the camera `key` that may be taken over whole, by their first part; none where its video is
/// encoded anew.
pub(super) fn whole_videos(assembly: &Assembly, key: &str) -> BTreeMap<usize, WholeFile> {
    if !matches!(assembly.cameras.get(key), None | Some(CameraWork::Copy)) {
        return BTreeMap::new();
    }
    let mut files = whole_files(assembly, |episode| episode.videos.iter().find(|span| span.key == key).map(|span| span.path.as_str()));
    let limit_bytes = assembly.sources[0].info().video_files_size_in_mb << 20;
    let stays_apart = assembly.sources.len() == 1 && assembly.sources[0].version() == Version::V30;
    files.retain(|_, file| match assembly.version {
        // Many small files become one, but for those that are one dataset's already.
        Version::V30 => stays_apart || fs::metadata(&file.path).is_ok_and(|metadata| metadata.len() * 2 >= limit_bytes),
        _ => file.parts == 1,
    });
    files
}

/// The file with the images of a part, and its encoded frames where they can be taken out.
fn taken_out(
    reader: &DatasetReader,
    part: &Part,
    key: &str,
    indices: &mut HashMap<PathBuf, VideoIndex>,
) -> Result<(PathBuf, Option<Clip>), ReadError> {
    let entry = reader.episode(part.episode)?;
    let span = entry.videos.iter().find(|span| span.key == key);
    let missing = || ReadError::Missing { root: reader.root().to_owned(), what: format!("the video of {key}") };
    let span = span.ok_or_else(missing)?;
    let path = reader.root().join(&span.path);
    if !indices.contains_key(&path) {
        // Sources are read in order; the last files are enough.
        if indices.len() > 8 {
            indices.clear();
        }
        indices.insert(path.clone(), read_video(&path)?);
    }
    let index = &indices[&path];
    let first = index.nearest(span.from_s).unwrap_or(0);
    let found = index.seconds(first).unwrap_or(f64::INFINITY);
    if (found - span.from_s).abs() >= crate::media::video_reader::TOLERANCE_S {
        let what = format!("episode {} begins at {} s, where no frame is shown", part.episode, span.from_s);
        return Err(ReadError::Invalid { path, what });
    }
    let clip = Clip::of(&path, index, first, part.frames)?;
    Ok((path, clip))
}

/// How many parts of each camera begin or end between key frames, so that they have to be encoded anew, and
/// by which encoder; `Err` says why that can't be done. What can't be read is found when it is.
pub(super) fn between_key_frames(assembly: &Assembly) -> Result<BTreeMap<String, (u64, String)>, String> {
    let mut found: BTreeMap<String, (u64, String)> = BTreeMap::new();
    for (key, feature) in assembly.features.iter().filter(|(_, feature)| feature["dtype"] == "video") {
        if !matches!(assembly.cameras.get(key), None | Some(CameraWork::Copy)) {
            continue;
        }
        let mut indices = HashMap::new();
        for part in &assembly.parts {
            let reader = &assembly.sources[part.source];
            // In the older versions every episode has a file of its own, of which it is the beginning.
            if reader.version() != Version::V30 {
                continue;
            }
            if let Ok((path, None)) = taken_out(reader, part, key, &mut indices) {
                let options = encoder_like(feature, &indices[&path]);
                let options =
                    options.map_err(|why| format!("episode {} of {key} begins or ends between key frames: {why}", part.episode))?;
                found.entry(key.clone()).or_insert((0, options.encoder)).0 += 1;
            }
        }
    }
    Ok(found)
}

/// What encodes images like the video of `index`, which `feature` describes; `Err` says why nothing does.
fn encoder_like(feature: &serde_json::Value, index: &VideoIndex) -> Result<VideoOptions, String> {
    if is_depth(feature) {
        return Err("depth is not encoded anew".to_owned());
    }
    let said = |what: &str| [&feature["info"][what], &feature["video_info"][what]].into_iter().find(|value| !value.is_null());
    let pixel_format = said("video.pix_fmt").and_then(|value| value.as_str()).unwrap_or("yuv420p");
    let is_even = index.width.is_multiple_of(2) && index.height.is_multiple_of(2);
    let encoder = match index.codec.as_str() {
        "avc1" | "avc3" if pixel_format == "yuv420p" && is_even => VideoOptions::OPENH264,
        "avc1" | "avc3" => "libx264",
        "av01" => "libsvtav1",
        "hvc1" | "hev1" => "libx265",
        other => return Err(format!("nothing here encodes {other}")),
    };
    let keyframe_interval = said("video.g").and_then(serde_json::Value::as_u64).and_then(|every| u32::try_from(every).ok());
    let options = VideoOptions::of_encoder(encoder);
    Ok(VideoOptions {
        // Finer than what is recorded with, since it is encoded for the second time.
        quality: options.quality.saturating_sub(8).max(12),
        keyframe_interval: keyframe_interval.filter(|every| (1..=250).contains(every)).unwrap_or(2),
        pixel_format: if encoder == VideoOptions::OPENH264 { "yuv420p" } else { pixel_format }.to_owned(),
        ..options
    })
}
