//! Rows and images together, as training wants them.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::thread;

use sinew_core::Image;

use super::recent::Recent;
use super::stills::Stills;
use super::videos::OpenVideos;
use super::{DatasetReader, row_time_s};
use crate::ReadError;
use crate::format::arrays::{integers, numbers, strings};
use crate::format::schema::{is_camera, is_depth};

/// Which rows around an item's own are wanted of each feature, in seconds from it, as LeRobot's
/// `delta_timestamps`. A feature that is not named comes from the item's own row.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Windows {
    pub deltas_s: BTreeMap<String, Vec<f64>>,
    /// Leaves out the cameras that are not named here, if any is named; decoding is what costs.
    pub cameras: Option<Vec<String>>,
}

/// Values of one feature in an item, rows after one another.
#[derive(Clone, Debug, PartialEq)]
pub enum Values {
    /// `[rows, width]` row-major; booleans are 0 and 1. f64 holds f32 and any index exactly.
    Numbers {
        values: Vec<f64>,
        width: usize,
    },
    Text(Vec<String>),
}

/// One row of the dataset, with the windows around it.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    pub index: u64,
    pub episode_index: u64,
    pub frame_index: u64,
    pub timestamp_s: f64,
    pub task: String,
    pub values: BTreeMap<String, Values>,
    /// Of each camera.
    pub images: BTreeMap<String, Vec<Image>>,
    /// Of each feature with a window: which of its rows lie outside the episode, whose first or last
    /// row stands in for them (LeRobot's `<key>_is_pad`).
    pub is_pad: BTreeMap<String, Vec<bool>>,
}

/// An episode's columns of numbers and text.
struct Columns {
    values: BTreeMap<String, Values>,
    task_index: Vec<u64>,
}

/// Reads items of a dataset in any order, keeping what was read last.
pub struct Loader<'a> {
    reader: &'a DatasetReader,
    /// In rows.
    windows: BTreeMap<String, Vec<i64>>,
    cameras: Vec<String>,
    columns: Recent<u64, Arc<Columns>>,
    stills: Stills,
    videos: OpenVideos,
}

/// Columns of numbers and text are kept up to so many bytes.
const COLUMN_BYTES: usize = 64 << 20;
/// A delta has to be this near to a whole number of rows (LeRobot's default).
const DELTA_TOLERANCE_S: f64 = 1e-4;

impl<'a> Loader<'a> {
    /// # Errors
    /// When `windows` names a feature that is not there, or a delta that is no whole number of rows.
    pub fn new(reader: &'a DatasetReader, windows: &Windows) -> Result<Self, ReadError> {
        let missing = |what: String| ReadError::Missing { root: reader.root().to_owned(), what };
        let fps = f64::from(reader.fps());
        let mut rows = BTreeMap::new();
        for (key, deltas_s) in &windows.deltas_s {
            if !reader.features().contains_key(key) {
                return Err(missing(format!("the feature {key}, of which a window is wanted,")));
            }
            let whole = deltas_s.iter().map(|delta_s| {
                let delta = (delta_s * fps).round();
                let near = (delta_s * fps - delta).abs() / fps <= DELTA_TOLERANCE_S;
                near.then_some(delta as i64).ok_or_else(|| missing(format!("rows {delta_s} s away, which is no multiple of 1/{fps} s,")))
            });
            rows.insert(key.clone(), whole.collect::<Result<_, _>>()?);
        }
        let is_wanted = |key: &&str| windows.cameras.as_ref().is_none_or(|wanted| wanted.iter().any(|wanted| wanted == key));
        let rgb = |key: &&str| reader.features().get(*key).is_some_and(|feature| is_camera(feature) && !is_depth(feature));
        let cameras: Vec<String> = reader.cameras().filter(is_wanted).filter(rgb).map(str::to_owned).collect();
        if let Some(unknown) = windows.cameras.iter().flatten().find(|key| !cameras.contains(key)) {
            return Err(missing(format!("the colour camera {unknown}")));
        }
        Ok(Self {
            reader,
            windows: rows,
            stills: Stills::of(&cameras, reader),
            cameras,
            columns: Recent::new(COLUMN_BYTES),
            videos: OpenVideos::new(),
        })
    }

    /// Row `index` of the dataset.
    ///
    /// # Errors
    /// When there is no such row, or a part of it can't be read.
    pub fn item(&mut self, index: u64) -> Result<Item, ReadError> {
        let reader = self.reader;
        let missing = || ReadError::Missing { root: reader.root().to_owned(), what: format!("row {index} of {}", reader.total_frames()) };
        let episode = reader.episode_of(index).ok_or_else(missing)?;
        let frame = index - episode.first_index;
        let place = |delta: i64| {
            let wanted = frame as i64 + delta;
            let clamped = wanted.clamp(0, episode.length as i64 - 1);
            (clamped as u64, wanted != clamped)
        };
        let own = [0];
        let windows = self.windows.clone();
        let deltas = |key: &str| windows.get(key).map_or(&own[..], Vec::as_slice);
        let mut wanted: Vec<(&str, Vec<u64>, Vec<u64>)> = Vec::new();
        for key in &self.cameras {
            let frames: Vec<u64> = deltas(key).iter().map(|delta| place(*delta).0).collect();
            // Each is decoded once, in the order in which a video has them.
            let mut once = frames.clone();
            once.sort_unstable();
            once.dedup();
            wanted.push((key, frames, once));
        }
        let (stills, films): (Vec<_>, Vec<_>) = wanted.into_iter().partition(|(key, ..)| self.stills.has(key));
        let of_films: Vec<(&str, &[u64])> = films.iter().map(|(key, _, once)| (*key, once.as_slice())).collect();
        // Rows and images of an episode that is new come together, from different files.
        let (columns, images) = match self.columns.get(&episode.episode_index).cloned() {
            Some(columns) => (columns, self.videos.images(reader, episode, &of_films)),
            None => {
                let (columns, images) = thread::scope(|scope| {
                    let columns = scope.spawn(|| Columns::read(reader, episode.episode_index).map(Arc::new));
                    let images = self.videos.images(reader, episode, &of_films);
                    (columns.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)), images)
                });
                let columns = columns?;
                self.columns.insert(episode.episode_index, columns.clone(), columns.bytes());
                (columns, images)
            }
        };
        let mut images = images?;
        for (key, _, once) in &stills {
            let of_key = once.iter().map(|frame| self.stills.image(reader, episode, key, *frame));
            images.push(of_key.collect::<Result<_, _>>()?);
        }
        let mut item = Item {
            index,
            episode_index: episode.episode_index,
            frame_index: frame,
            timestamp_s: row_time_s(frame, reader.fps()),
            task: reader.task_of(columns.task_index[frame as usize])?.to_owned(),
            values: BTreeMap::new(),
            images: BTreeMap::new(),
            is_pad: BTreeMap::new(),
        };
        for (key, deltas) in &windows {
            item.is_pad.insert(key.clone(), deltas.iter().map(|delta| place(*delta).1).collect());
        }
        for (key, column) in &columns.values {
            let rows = deltas(key).iter().map(|delta| place(*delta).0 as usize);
            let values = match column {
                Values::Text(lines) => Values::Text(rows.map(|row| lines[row].clone()).collect()),
                Values::Numbers { values, width } => {
                    let values = rows.flat_map(|row| &values[row * width..(row + 1) * width]).copied().collect();
                    Values::Numbers { values, width: *width }
                }
            };
            item.values.insert(key.clone(), values);
        }
        for ((key, frames, once), images) in films.iter().chain(&stills).zip(images) {
            let place = |frame: &u64| once.partition_point(|earlier| earlier < frame);
            item.images.insert((*key).to_owned(), frames.iter().map(|frame| images[place(frame)].clone()).collect());
        }
        Ok(item)
    }

    /// Items in the order of `indices`, such as a shuffled one.
    pub fn items(&mut self, indices: impl IntoIterator<Item = u64>) -> impl Iterator<Item = Result<Item, ReadError>> {
        indices.into_iter().map(|index| self.item(index))
    }

    /// Lets the images of frames `frames` of an episode come while something else is done, of a dataset that lies
    /// elsewhere: of each camera whose video was read from before, some `most_bytes` at a time. Asked for again with
    /// frames further on, more come.
    ///
    /// # Errors
    /// When there is no such episode.
    pub fn expect(&mut self, episode: u64, frames: Range<u64>, most_bytes: u64) -> Result<(), ReadError> {
        let entry = self.reader.episode(episode)?;
        let (fps, last) = (self.reader.fps(), frames.end.min(entry.length).saturating_sub(1));
        let is_wanted = |key: &String| self.cameras.contains(key);
        for span in entry.videos.iter().filter(|span| is_wanted(&span.key) && frames.start <= last) {
            let seconds = span.from_s + row_time_s(frames.start, fps)..span.from_s + row_time_s(last, fps);
            self.videos.expect(&span.path, seconds, most_bytes);
        }
        Ok(())
    }
}

impl Columns {
    fn read(reader: &DatasetReader, episode: u64) -> Result<Self, ReadError> {
        let entry = reader.episode(episode)?;
        let is_still = |name: &str| reader.features().get(name).is_some_and(|feature| feature["dtype"] == "image");
        let batch = reader.columns(episode, 0..entry.length, &|name| !is_still(name))?;
        let path = reader.root().join(&entry.data_path);
        let invalid = |what: String| ReadError::Invalid { path: path.clone(), what };
        let task_index = integers(&batch, "task_index").ok_or_else(|| invalid("there is no usable column task_index".to_owned()))?;
        let mut values = BTreeMap::new();
        for (key, feature) in reader.features() {
            let dtype = feature["dtype"].as_str().unwrap_or_default();
            if matches!(dtype, "video" | "image" | "language") {
                continue;
            }
            let column = batch.column_by_name(key).ok_or_else(|| invalid(format!("there is no column {key}")))?;
            let unusable = || invalid(format!("the column {key} of episode {episode} is {} and no usable {dtype}", column.data_type()));
            match dtype {
                "string" => drop(values.insert(key.clone(), Values::Text(strings(column).ok_or_else(unusable)?))),
                _ => {
                    let (numbers, width) = numbers(column).ok_or_else(unusable)?;
                    values.insert(key.clone(), Values::Numbers { values: numbers, width });
                }
            }
        }
        Ok(Self { values, task_index })
    }

    fn bytes(&self) -> usize {
        let of_values = self.values.values().map(|values| match values {
            Values::Numbers { values, .. } => size_of_val(values.as_slice()),
            Values::Text(lines) => lines.iter().map(|line| line.len() + size_of::<String>()).sum(),
        });
        of_values.sum::<usize>() + size_of_val(self.task_index.as_slice())
    }
}
