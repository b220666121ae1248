//! A dataset put together from episodes of others.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use serde_json::{Map, Value};

use super::columns::{batch, canonical, images, int64};
use super::meta::Meta;
use super::side::SideTables;
use super::videos::{CameraWriter, Source};
use super::{CameraWork, ToolError};
use crate::format::arrays::{batch_integers, numbers};
use crate::format::card;
use crate::format::schema::is_depth;
use crate::format::schema::{DATA, FileIndex, RIG};
use crate::format::stats::{FeatureStats, PictureCounts, PictureStats, sampled_frames};
use crate::format::table::{EpisodeRecord, VideoSpan};
use crate::media::picture::to_png;
use crate::progress::{Progress, step};
use crate::read::row_time_s;
use crate::tools::verify::of_feature;
use crate::write::files::{create_folder, io_error, write_synced};
use crate::{DatasetReader, ReadError, RecordError, Version};

/// An episode of the result: one of a source, or its first frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) source: usize,
    pub(crate) episode: u64,
    pub(crate) frames: u64,
}

/// What is to be made of which episodes.
#[derive(Clone)]
pub(crate) struct Assembly {
    pub(crate) sources: Vec<Arc<DatasetReader>>,
    pub(crate) parts: Vec<Part>,
    pub(crate) version: Version,
    pub(crate) features: Map<String, Value>,
    /// What happens to cameras that are not copied as they are.
    pub(crate) cameras: BTreeMap<String, CameraWork>,
    /// Instruction sentences that change.
    pub(crate) renamed_tasks: BTreeMap<String, String>,
    /// Tasks in an order that has to stay, be they used or not; others follow as they come.
    pub(crate) first_tasks: Vec<String>,
    /// Statistics of images are computed anew, and not taken over.
    pub(crate) recompute_images: bool,
}

impl Assembly {
    /// Every episode of one source as it is.
    pub(crate) fn of_all(source: Arc<DatasetReader>) -> Self {
        let parts = source.episodes().iter().map(|episode| Part { source: 0, episode: episode.episode_index, frames: episode.length });
        Self {
            parts: parts.collect(),
            version: source.version(),
            features: source.features().clone(),
            cameras: BTreeMap::new(),
            renamed_tasks: BTreeMap::new(),
            first_tasks: Vec::new(),
            recompute_images: false,
            sources: vec![source],
        }
    }

    pub(crate) fn frames(&self) -> u64 {
        self.parts.iter().map(|part| part.frames).sum()
    }

    /// The tasks of the result in `task_index` order.
    pub(crate) fn tasks(&self) -> Vec<String> {
        let renamed = |task: &String| self.renamed_tasks.get(task).unwrap_or(task).clone();
        let mut tasks: Vec<String> = Vec::new();
        let of_parts =
            self.parts.iter().flat_map(|part| self.sources[part.source].episodes()[part.episode as usize].tasks.iter().map(renamed));
        for task in self.first_tasks.iter().map(renamed).chain(of_parts) {
            if !tasks.contains(&task) {
                tasks.push(task);
            }
        }
        tasks
    }

    /// Writes the result into the folder `root`, which is empty.
    pub(crate) fn write(&self, root: &Path, progress: &mut Progress<'_>) -> Result<(), ToolError> {
        let stored: Vec<Option<Vec<Map<String, Value>>>> = match self.recompute_images {
            true => vec![None; self.sources.len()],
            false => self.sources.iter().map(|source| source.episode_stats()).collect::<Result<_, _>>()?,
        };
        let info = self.sources[0].info();
        let mut rows = RowsWriter::new(root, self.version, info.chunks_size, info.data_files_size_in_mb << 20);
        let mut cameras: Vec<CameraWriter> = self
            .features
            .iter()
            .filter(|(_, feature)| feature["dtype"] == "video")
            .map(|(key, _)| {
                CameraWriter::new(root, key, self.version, self.sources[0].fps(), info.chunks_size, info.video_files_size_in_mb << 20)
            })
            .collect();
        let mut side = SideTables::open(root, &self.sources)?;
        let mut tasks = self.tasks();
        let mut records: Vec<EpisodeRecord> = Vec::new();
        let mut first_index = 0;
        for (number, part) in self.parts.iter().enumerate() {
            step(progress, "writing episodes", number as u64, self.parts.len() as u64)?;
            let stored = stored[part.source].as_ref().and_then(|all| all.get(part.episode as usize));
            let mut record = self.episode(part, number as u64, first_index, stored, &mut tasks, &mut rows, progress)?;
            for camera in &mut cameras {
                let work = self.cameras.get(&camera.key).cloned().unwrap_or_default();
                let source = Source { reader: &self.sources[part.source], episode: part.episode, frames: part.frames };
                record.videos.push(camera.append(&source, &work, progress)?);
            }
            let old = self.sources[part.source].episode(part.episode)?.episode_index;
            side.append(part, old, number as u64, first_index)?;
            first_index += part.frames;
            records.push(record);
        }
        for camera in &mut cameras {
            step(progress, "writing videos", 0, 1)?;
            camera.finish()?;
        }
        rows.finish()?;
        side.finish()?;
        let keys: Vec<String> = cameras.into_iter().map(|camera| camera.key).collect();
        Meta { root, version: self.version, info, features: &self.features, tasks: &tasks, records: &mut records, video_keys: &keys }
            .write()?;
        // What the rig was, if it was the same throughout.
        let rigs: Vec<Option<Vec<u8>>> = self.sources.iter().map(|source| fs::read(source.root().join(RIG)).ok()).collect();
        if let Some(Some(rig)) = rigs.first().filter(|first| rigs.iter().all(|rig| rig == *first)) {
            write_synced(&root.join(RIG), rig)?;
        }
        // A card, a licence and what else lies beside the folders.
        let from = self.sources[0].root();
        for entry in fs::read_dir(from).map_err(io_error("reading the folder", from))? {
            let path = entry.map_err(io_error("reading the folder", from))?.path();
            if let (true, Some(name)) = (path.is_file(), path.file_name()) {
                fs::copy(&path, root.join(name)).map_err(io_error("copying", &path))?;
            }
        }
        if !root.join(card::CARD).exists() {
            write_synced(&root.join(card::CARD), card::TEXT.as_bytes())?;
        }
        step(progress, "writing episodes", self.parts.len() as u64, self.parts.len() as u64)?;
        Ok(())
    }

    /// Writes the rows of an episode.
    #[expect(clippy::too_many_arguments, reason = "they are the state of one loop")]
    fn episode(
        &self,
        part: &Part,
        number: u64,
        first_index: u64,
        stored: Option<&Map<String, Value>>,
        tasks: &mut Vec<String>,
        rows: &mut RowsWriter,
        progress: &mut Progress<'_>,
    ) -> Result<EpisodeRecord, ToolError> {
        let reader = &self.sources[part.source];
        let entry = reader.episode(part.episode)?;
        let path = reader.root().join(&entry.data_path);
        let invalid = |what: String| ReadError::Invalid { path: path.clone(), what: format!("episode {}: {what}", part.episode) };
        let source = reader.rows(part.episode, 0..part.frames)?;
        let old_tasks = batch_integers(&source, "task_index").ok_or_else(|| invalid("there is no usable column task_index".to_owned()))?;
        let mut task_index = Vec::with_capacity(old_tasks.len());
        let mut used: Vec<String> = Vec::new();
        for old in old_tasks {
            let task = reader.task_of(old)?;
            let task = self.renamed_tasks.get(task).map_or(task, String::as_str);
            let at = tasks.iter().position(|known| known == task).unwrap_or_else(|| {
                tasks.push(task.to_owned());
                tasks.len() - 1
            });
            if !used.iter().any(|known| known == task) {
                used.push(task.to_owned());
            }
            task_index.push(at as u64);
        }
        let (mut columns, mut stats): (Vec<(String, ArrayRef)>, Vec<(String, FeatureStats)>) = (Vec::new(), Vec::new());
        for (key, feature) in &self.features {
            let dtype = feature["dtype"].as_str().unwrap_or_default();
            if matches!(dtype, "video" | "image") {
                let taken_over = stored.and_then(|stored| FeatureStats::from_json(stored.get(key)?));
                let taken_over = taken_over.filter(|_| !self.recompute_images && part.frames == entry.length);
                let of_images = match taken_over {
                    Some(stats) => stats,
                    None => image_stats(reader, part, key, progress)?,
                };
                stats.push((key.clone(), of_images));
                if dtype == "video" {
                    continue;
                }
                let column = match source.column_by_name(key) {
                    Some(column) if reader.features()[key]["dtype"] == "image" => column.clone(),
                    _ => stills(reader, part, key, progress)?,
                };
                columns.push((key.clone(), column));
                continue;
            }
            let column: ArrayRef = match key.as_str() {
                "timestamp" => {
                    Arc::new((0..part.frames).map(|frame| row_time_s(frame, reader.fps()) as f32).collect::<arrow::array::Float32Array>())
                }
                "frame_index" => int64(0..part.frames),
                "episode_index" => int64((0..part.frames).map(|_| number)),
                "index" => int64(first_index..first_index + part.frames),
                "task_index" => int64(task_index.iter().copied()),
                _ => {
                    let column = source.column_by_name(key).ok_or_else(|| invalid(format!("there is no column {key}")))?;
                    canonical(column, feature).map_err(|what| invalid(format!("the column {key}: {what}")))?
                }
            };
            if let Some((values, _)) = numbers(&column).filter(|_| !matches!(dtype, "string" | "language")) {
                stats.push((key.clone(), of_feature(key, feature, &values, reader.fps())));
            }
            columns.push((key.clone(), column));
        }
        let failed = |error: arrow::error::ArrowError| invalid(error.to_string());
        let data_file = rows.append(&batch(columns, &self.features).map_err(failed)?)?;
        Ok(EpisodeRecord {
            episode_index: number,
            tasks: used,
            length: part.frames,
            data_file,
            first_index,
            videos: Vec::<VideoSpan>::new(),
            stats,
            episodes_file: FileIndex::default(),
        })
    }
}

/// Statistics over the images that LeRobot would sample, decoded.
fn image_stats(reader: &DatasetReader, part: &Part, key: &str, progress: &mut Progress<'_>) -> Result<FeatureStats, ToolError> {
    let mut stats = PictureStats::new();
    let sampled = sampled_frames(part.frames);
    if is_depth(&reader.features()[key]) {
        return depth_stats(reader, part, key, &sampled, progress);
    }
    for (frame, image) in reader.images(part.episode, key, 0..part.frames)?.enumerate() {
        if frame % 64 == 0 {
            step(progress, "computing the statistics of images", frame as u64, part.frames)?;
        }
        let image = image?;
        if sampled.binary_search(&(frame as u64)).is_ok() {
            stats.add(&PictureCounts::of_rgb(&image.rgb, image.width as usize, image.height as usize));
        }
    }
    let path = reader.root().to_owned();
    stats.finish().ok_or_else(|| ReadError::Invalid { path, what: format!("episode {} has no image of {key}", part.episode) }.into())
}

/// Statistics of depth, in the unit it was recorded in.
fn depth_stats(
    reader: &DatasetReader,
    part: &Part,
    key: &str,
    sampled: &[u64],
    progress: &mut Progress<'_>,
) -> Result<FeatureStats, ToolError> {
    let mut stats = PictureStats::new();
    for frame in sampled {
        step(progress, "computing the statistics of depth", *frame, part.frames)?;
        let depth = reader.depth(part.episode, key, *frame)?;
        let bytes: Vec<u8> = depth.millimetres.iter().flat_map(|distance| (*distance as u16).to_le_bytes()).collect();
        stats.add(&PictureCounts::of_depth(&bytes, depth.width as usize, depth.height as usize));
    }
    let path = reader.root().to_owned();
    let mut stats =
        stats.finish().ok_or_else(|| ReadError::Invalid { path, what: format!("episode {} has no image of {key}", part.episode) })?;
    if reader.features()[key]["info"]["depth_unit"] == "m" {
        let lists = [&mut stats.min, &mut stats.max, &mut stats.mean, &mut stats.std].into_iter().chain(&mut stats.quantiles);
        lists.flatten().for_each(|value| *value /= 1000.0);
    }
    Ok(stats)
}

/// Video as a column of images.
fn stills(reader: &DatasetReader, part: &Part, key: &str, progress: &mut Progress<'_>) -> Result<ArrayRef, ToolError> {
    let mut files = Vec::new();
    for (frame, image) in reader.images(part.episode, key, 0..part.frames)?.enumerate() {
        if frame % 16 == 0 {
            step(progress, "turning video into images", frame as u64, part.frames)?;
        }
        let failed = |error: image::ImageError| ReadError::Decode { path: reader.root().to_owned(), what: error.to_string() };
        files.push(to_png(&image?).map_err(failed)?);
    }
    Ok(images(&files).map_err(|error| ReadError::Invalid { path: reader.root().to_owned(), what: error.to_string() })?)
}

/// Writes files of rows, a row group an episode.
pub(super) struct RowsWriter {
    root: PathBuf,
    version: Version,
    chunks_size: u64,
    limit_bytes: u64,
    index: FileIndex,
    episodes: u64,
    open: Option<(PathBuf, ArrowWriter<File>)>,
}

impl RowsWriter {
    fn new(root: &Path, version: Version, chunks_size: u64, limit_bytes: u64) -> Self {
        Self { root: root.to_owned(), version, chunks_size, limit_bytes, index: FileIndex::default(), episodes: 0, open: None }
    }

    fn append(&mut self, rows: &RecordBatch) -> Result<FileIndex, ToolError> {
        let (path, mut writer) = match self.open.take() {
            Some(open) => open,
            None => {
                let relative = match self.version {
                    Version::V30 => self.index.table_path(DATA),
                    _ => format!("data/chunk-{:03}/episode_{:06}.parquet", self.episodes / self.chunks_size, self.episodes),
                };
                let path = self.root.join(relative);
                (path.clone(), table_writer(&path, rows)?)
            }
        };
        let failed = |source| RecordError::Parquet { doing: "writing", path: path.clone(), source };
        writer.write(rows).and_then(|()| writer.flush()).map_err(failed)?;
        self.episodes += 1;
        let index = self.index;
        if self.version != Version::V30 || writer.bytes_written() as u64 >= self.limit_bytes {
            close(&path, writer)?;
            self.index = self.index.next(self.chunks_size);
        } else {
            self.open = Some((path, writer));
        }
        Ok(index)
    }

    fn finish(&mut self) -> Result<(), ToolError> {
        self.open.take().map_or(Ok(()), |(path, writer)| close(&path, writer))
    }
}

/// A parquet file at `path` with the columns and metadata of `rows`.
pub(super) fn table_writer(path: &Path, rows: &RecordBatch) -> Result<ArrowWriter<File>, ToolError> {
    if let Some(parent) = path.parent() {
        create_folder(parent)?;
    }
    let metadata = rows.schema().metadata().iter().map(|(key, value)| KeyValue::new(key.clone(), value.clone())).collect();
    let properties = WriterProperties::builder()
        .set_compression(Compression::SNAPPY)
        .set_max_row_group_row_count(None)
        .set_key_value_metadata(Some(metadata))
        .build();
    let file = File::create(path).map_err(io_error("creating", path))?;
    let failed = |source| RecordError::Parquet { doing: "writing", path: path.to_owned(), source };
    Ok(ArrowWriter::try_new(file, rows.schema(), Some(properties)).map_err(failed)?)
}

pub(super) fn close(path: &Path, writer: ArrowWriter<File>) -> Result<(), ToolError> {
    let failed = |source| RecordError::Parquet { doing: "writing", path: path.to_owned(), source };
    let file = writer.into_inner().map_err(failed)?;
    Ok(file.sync_all().map_err(io_error("writing", path))?)
}
