//! A dataset put together from episodes of others.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use serde_json::{Map, Value};

use super::columns::{batch, canonical, images, int64};
use super::keep::Sharing;
use super::meta::Meta;
use super::others::Others;
use super::rows::{RowsWriter, is_same};
use super::side::SideTables;
use super::state::Origin;
use super::videos::CameraWriter;
use super::whole::{WholeFile, has_no_other_rows, whole_files};
use super::{CameraWork, ToolError};
use crate::commit::write_synced;
use crate::format::arrays::{integers, numbers};
use crate::format::card;
use crate::format::schema::{FileIndex, is_depth};
use crate::format::stats::{FeatureStats, PictureCounts, PictureStats, sampled_frames};
use crate::format::table::{EpisodeRecord, VideoSpan};
use crate::media::picture::to_png;
use crate::progress::{Progress, Step, step};
use crate::read::row_time_s;
use crate::tools::verify::of_feature;
use crate::{DatasetReader, EpisodeStats, ReadError, Version};

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
    pub(crate) sources: Vec<Origin>,
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
    /// What is not the format's; found when the plan is made.
    pub(crate) others: Others,
}

impl Assembly {
    /// Every episode of one source as it is.
    pub(crate) fn of_all(source: Origin) -> Self {
        let parts = source.episodes().iter().map(|episode| Part { source: 0, episode: episode.episode_index, frames: episode.length });
        Self {
            parts: parts.collect(),
            version: source.version(),
            features: source.features().clone(),
            cameras: BTreeMap::new(),
            renamed_tasks: BTreeMap::new(),
            first_tasks: Vec::new(),
            recompute_images: false,
            others: Others::default(),
            sources: vec![source],
        }
    }

    pub(crate) fn frames(&self) -> u64 {
        self.parts.iter().map(|part| part.frames).sum()
    }

    /// The tasks of the result in `task_index` order.
    pub(crate) fn tasks(&self) -> Vec<String> {
        let mut tasks: Vec<String> = Vec::new();
        let of_parts = self.parts.iter().flat_map(|part| &self.sources[part.source].episodes()[part.episode as usize].tasks);
        for task in self.first_tasks.iter().chain(of_parts).chain(&self.others.tasks) {
            place(self.renamed(task), &mut tasks);
        }
        tasks
    }

    /// Whether it has every episode of one source, whole and in its place: no number changes.
    pub(crate) fn renumbers_nothing(&self) -> bool {
        let places = || self.parts.iter().zip(self.sources[0].episodes()).enumerate();
        let stays =
            |(number, (part, episode)): (usize, (&Part, &crate::Episode))| part.episode == number as u64 && part.frames == episode.length;
        self.sources.len() == 1 && self.parts.len() == self.sources[0].episodes().len() && places().all(stays)
    }

    /// Files of rows that may be taken over whole, by their first part: what is in them decides.
    pub(crate) fn whole_tables(&self) -> BTreeMap<usize, WholeFile> {
        let is_shared = |version: Version| version == Version::V30;
        if self.sources.len() > 1 || is_shared(self.version) != is_shared(self.sources[0].version()) {
            return BTreeMap::new();
        }
        let mut files = whole_files(self, |episode| Some(&episode.data_path));
        files.retain(|_, file| is_shared(self.version) || file.parts == 1);
        files
    }

    /// Writes the result into the folder `root`, which is empty.
    pub(crate) fn write(&self, root: &Path, sharing: Sharing, progress: &mut Progress<'_>) -> Result<(), ToolError> {
        let mut stored: Vec<Option<EpisodeStats>> = match self.recompute_images {
            true => self.sources.iter().map(|_| None).collect(),
            false => self.sources.iter().map(|source| source.episode_stats()).collect::<Result<_, _>>()?,
        };
        let info = self.sources[0].info();
        let mut rows = RowsWriter::new(root, self.version, info.chunks_size, info.data_files_size_in_mb << 20);
        let mut whole = self.whole_tables();
        // The file whose episodes have been as they were so far, and the first part in it.
        let mut waiting: Option<(usize, WholeFile)> = None;
        let videos = self.features.iter().filter(|(_, feature)| feature["dtype"] == "video");
        let mut cameras: Vec<CameraWriter<'_>> = videos.map(|(key, _)| CameraWriter::new(self, root, key, sharing)).collect();
        let mut side = SideTables::open(root, self, sharing)?;
        let mut tasks = self.tasks();
        let mut records: Vec<EpisodeRecord> = Vec::new();
        let mut first_index = 0;
        for (number, part) in self.parts.iter().enumerate() {
            step(progress, "writing episodes", number as u64, self.parts.len() as u64)?;
            let rows_of_part = self.rows(number, first_index, &mut tasks, progress)?;
            let stored = stored[part.source].as_mut().map_or(Ok(None), |all| all.of(part.episode))?;
            let mut record = EpisodeRecord {
                episode_index: number as u64,
                tasks: rows_of_part.tasks.clone(),
                length: part.frames,
                data_file: FileIndex::default(),
                first_index,
                videos: Vec::<VideoSpan>::new(),
                stats: self.stats(part, &rows_of_part, stored.as_ref(), progress)?,
                episodes_file: FileIndex::default(),
                marks: None,
            };
            for camera in &mut cameras {
                record.videos.push(camera.append(number, progress)?);
            }
            records.push(record);
            if let Some(file) = whole.remove(&number).filter(|file| has_no_other_rows(self, number, file)) {
                waiting = Some((number, file));
            }
            match waiting.take() {
                Some((first, file)) if rows_of_part.is_unchanged && number + 1 == first + file.parts => {
                    let index = rows.take_over(&file.path, file.parts, sharing)?;
                    records[first..].iter_mut().for_each(|record| record.data_file = index);
                }
                Some(file) if rows_of_part.is_unchanged => waiting = Some(file),
                // One episode differs: those before it are to be written after all.
                Some((first, _)) => {
                    for (earlier, record) in records[..number].iter_mut().enumerate().skip(first) {
                        let again = self.rows(earlier, record.first_index, &mut tasks, progress)?;
                        record.data_file = rows.append(&again.batch)?;
                    }
                    records[number].data_file = rows.append(&rows_of_part.batch)?;
                }
                None => records[number].data_file = rows.append(&rows_of_part.batch)?,
            }
            let old = self.sources[part.source].episode(part.episode)?.episode_index;
            side.append(part, old, number as u64, first_index)?;
            first_index += part.frames;
        }
        for camera in &mut cameras {
            step(progress, "writing videos", 0, 1)?;
            camera.finish()?;
        }
        rows.finish()?;
        side.finish()?;
        let keys: Vec<String> = cameras.into_iter().map(|camera| camera.key).collect();
        self.others.write(self, root, sharing)?;
        Meta {
            root,
            version: self.version,
            info,
            features: &self.features,
            tasks: &tasks,
            records: &mut records,
            video_keys: &keys,
            others: &self.others,
        }
        .write()?;
        if !root.join(card::CARD).exists() {
            write_synced(&root.join(card::CARD), card::TEXT.as_bytes())?;
        }
        step(progress, "writing episodes", self.parts.len() as u64, self.parts.len() as u64)?;
        Ok(())
    }

    /// The rows of part `number`, which begin with row `first_index` of the result; tasks that are new
    /// join `tasks`.
    fn rows(&self, number: usize, first_index: u64, tasks: &mut Vec<String>, progress: &mut Progress<'_>) -> Result<Rows, ToolError> {
        let part = &self.parts[number];
        let reader = &self.sources[part.source];
        let entry = reader.episode(part.episode)?;
        let path = reader.root().join(&entry.data_path);
        let invalid = |what: String| ReadError::Invalid { path: path.clone(), what: format!("episode {}: {what}", part.episode) };
        let source = reader.rows(part.episode, 0..part.frames)?;
        let old_tasks = integers(&source, "task_index").ok_or_else(|| invalid("there is no usable column task_index".to_owned()))?;
        let mut task_index = Vec::with_capacity(old_tasks.len());
        let mut used: Vec<String> = Vec::new();
        for old in old_tasks {
            let task = self.renamed(reader.task_of(old)?);
            if !used.iter().any(|known| known == task) {
                used.push(task.to_owned());
            }
            task_index.push(place(task, tasks));
        }
        let mut columns: Vec<(String, ArrayRef)> = Vec::new();
        for (key, feature) in &self.features {
            let column: ArrayRef = match (key.as_str(), feature["dtype"].as_str().unwrap_or_default()) {
                (_, "video") => continue,
                (_, "image") => match source.column_by_name(key) {
                    Some(column) if reader.features()[key]["dtype"] == "image" => column.clone(),
                    _ => stills(reader, part, key, progress)?,
                },
                ("timestamp", _) => {
                    Arc::new((0..part.frames).map(|frame| row_time_s(frame, reader.fps()) as f32).collect::<arrow::array::Float32Array>())
                }
                ("frame_index", _) => int64(0..part.frames),
                ("episode_index", _) => int64((0..part.frames).map(|_| number as u64)),
                ("index", _) => int64(first_index..first_index + part.frames),
                ("task_index", _) => int64(task_index.iter().copied()),
                _ => {
                    let column = source.column_by_name(key).ok_or_else(|| invalid(format!("there is no column {key}")))?;
                    let column = canonical(column, feature).map_err(|what| invalid(format!("the column {key}: {what}")))?;
                    self.others.renumbered(self, part.source, key, column, tasks)?
                }
            };
            columns.push((key.clone(), column));
        }
        let is_unchanged =
            source.num_columns() == columns.len() && columns.iter().all(|(key, column)| is_same(source.column_by_name(key), column));
        let failed = |error: arrow::error::ArrowError| invalid(error.to_string());
        Ok(Rows { batch: batch(columns, &self.features).map_err(failed)?, tasks: used, is_unchanged })
    }

    /// Statistics of a part by feature, those of images taken over from `stored` where they are there.
    fn stats(
        &self,
        part: &Part,
        rows: &Rows,
        stored: Option<&Map<String, Value>>,
        progress: &mut Progress<'_>,
    ) -> Result<Vec<(String, FeatureStats)>, ToolError> {
        let reader = &self.sources[part.source];
        let is_whole = part.frames == reader.episode(part.episode)?.length;
        let mut stats: Vec<(String, FeatureStats)> = Vec::new();
        for (key, feature) in &self.features {
            let dtype = feature["dtype"].as_str().unwrap_or_default();
            if matches!(dtype, "video" | "image") {
                let taken_over = stored.and_then(|stored| FeatureStats::from_json(stored.get(key)?));
                let of_images = match taken_over.filter(|_| !self.recompute_images && is_whole) {
                    Some(stats) => stats,
                    None => image_stats(reader, part, key, progress)?,
                };
                stats.push((key.clone(), of_images));
            } else if let Some((values, _)) =
                rows.batch.column_by_name(key).and_then(numbers).filter(|_| !matches!(dtype, "string" | "language"))
            {
                stats.push((key.clone(), of_feature(key, feature, &values, reader.fps())));
            }
        }
        Ok(stats)
    }

    /// The words of a task in the result.
    pub(crate) fn renamed<'a>(&'a self, task: &'a str) -> &'a str {
        self.renamed_tasks.get(task).map_or(task, String::as_str)
    }
}

/// An episode's rows as they are in the result.
struct Rows {
    batch: RecordBatch,
    /// In the order in which they come up.
    tasks: Vec<String>,
    /// Whether they are what they are in the source, every column.
    is_unchanged: bool,
}

/// The number of a task, which may be a new one.
pub(super) fn place(task: &str, tasks: &mut Vec<String>) -> u64 {
    let known = tasks.iter().position(|known| known == task);
    known.unwrap_or_else(|| {
        tasks.push(task.to_owned());
        tasks.len() - 1
    }) as u64
}

/// Statistics over the images that LeRobot would sample, decoded.
fn image_stats(reader: &DatasetReader, part: &Part, key: &str, progress: &mut Progress<'_>) -> Result<FeatureStats, ToolError> {
    let mut stats = PictureStats::new();
    let sampled = sampled_frames(part.frames);
    if is_depth(&reader.features()[key]) {
        return depth_stats(reader, part, key, &sampled, progress);
    }
    let mut images = reader.images(part.episode, key, 0..part.frames)?;
    for frame in 0..part.frames {
        let doing = "computing the statistics of images";
        if frame.is_multiple_of(64) {
            step(progress, doing, frame, part.frames)?;
        }
        let now = Step { doing, done: frame, total: part.frames };
        let Some(image) = images.next_while(&mut || progress(now)) else { break };
        let image = image?;
        if sampled.binary_search(&frame).is_ok() {
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
        let now = Step { doing: "computing the statistics of depth", done: *frame, total: part.frames };
        let depth = reader.depth_while(part.episode, key, *frame, &mut || progress(now))?;
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
    let mut pictures = reader.images(part.episode, key, 0..part.frames)?;
    for frame in 0..part.frames {
        let doing = "turning video into images";
        if frame.is_multiple_of(16) {
            step(progress, doing, frame, part.frames)?;
        }
        let now = Step { doing, done: frame, total: part.frames };
        let Some(image) = pictures.next_while(&mut || progress(now)) else { break };
        let failed = |error: image::ImageError| ReadError::Decode { path: reader.root().to_owned(), what: error.to_string() };
        files.push(to_png(&image?).map_err(failed)?);
    }
    Ok(images(&files).map_err(|error| ReadError::Invalid { path: reader.root().to_owned(), what: error.to_string() })?)
}
