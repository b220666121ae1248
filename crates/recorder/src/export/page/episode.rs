//! What the page shows of an episode.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::{Value, json};
use sinew_core::Image;

use super::PageOptions;
use super::ticks::{AGE, Ticks};
use crate::export::walk::is_own;
use crate::export::{base64, names_of, to_jpeg, width_of};
use crate::format::arrays::numbers;
use crate::format::input;
use crate::format::schema::{ACTION, is_camera, is_depth};
use crate::media::mp4_read::{VideoIndex, descend, read_video};
use crate::media::video_reader::TOLERANCE_S;
use crate::progress::{Progress, step};
use crate::tools::mux::{self, Clip};
use crate::{DatasetReader, Episode, ReadError, ToolError};

const JPEG_QUALITY: u8 = 72;
/// Features with more numbers are no lines that anybody reads.
const MOST_LINES: usize = 64;
/// What Sinew says of each episode.
const LINES: &str = "meta/sinew_episodes.jsonl";

/// One episode.
pub(super) struct Shown {
    pub(super) length: u64,
    pub(super) task: String,
    /// "success", "failure", "undecided", or empty where nobody says.
    pub(super) outcome: String,
    pub(super) reason: String,
    /// Of each table its values row by row, in base64; null where the episode has none.
    tables: Vec<Value>,
    facts: Vec<(String, String)>,
    pub(super) cameras: Vec<Pictures>,
}

pub(super) enum Pictures {
    /// An mp4 file that browsers play.
    Video(Vec<u8>),
    /// JPEGs, of every so manyth row.
    Images { every: u64, images: Vec<Vec<u8>> },
    /// Why there are none.
    None(String),
}

impl Shown {
    pub(super) fn bytes(&self) -> u64 {
        let pictures = self.cameras.iter().map(|pictures| match pictures {
            Pictures::Video(bytes) => bytes.len(),
            Pictures::Images { images, .. } => images.iter().map(Vec::len).sum(),
            Pictures::None(why) => why.len(),
        });
        let tables = self.tables.iter().map(|table| table.as_str().map_or(0, str::len) * 3 / 4);
        pictures.chain(tables).sum::<usize>() as u64
    }

    /// All that the page needs beside its index.
    pub(super) fn with_cameras(&self, cameras: Vec<Value>) -> Value {
        json!({"tables": self.tables, "facts": self.facts, "cameras": cameras})
    }
}

/// A table of numbers that every episode has.
struct Table {
    key: String,
    names: Vec<String>,
    units: Vec<String>,
}

pub(super) struct Episodes<'a> {
    reader: &'a DatasetReader,
    options: &'a PageOptions,
    features: Vec<Table>,
    ticks: Ticks<'a>,
    cameras: Vec<&'a str>,
    notes: BTreeMap<u64, Value>,
    /// Of the file that each camera was read from last.
    indices: BTreeMap<String, (PathBuf, VideoIndex)>,
}

/// A camera as people call it.
pub(super) fn short(key: &str) -> &str {
    key.strip_prefix("observation.images.").unwrap_or(key)
}

impl<'a> Episodes<'a> {
    pub(super) fn open(reader: &'a DatasetReader, options: &'a PageOptions) -> Result<Self, ToolError> {
        let mut features = Vec::new();
        for (key, feature) in reader.features().iter().filter(|(key, feature)| is_own(key) && !is_camera(feature)) {
            if (1..=MOST_LINES as u64).contains(&width_of(feature)) && !matches!(feature["dtype"].as_str(), Some("string" | "language")) {
                let names = names_of(key, feature)?;
                let units = names.iter().map(|name| options.units.get(name).cloned().unwrap_or_default()).collect();
                features.push(Table { key: key.clone(), names, units });
            }
        }
        let cameras = reader.cameras().filter(|key| !is_depth(&reader.features()[*key])).collect();
        let notes = reader.file(LINES)?;
        let notes = if notes.exists() { input::read_text(&notes)? } else { String::new() };
        let notes = notes.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let notes = notes.filter_map(|note| Some((note["episode_index"].as_u64()?, note))).collect();
        Ok(Self { reader, options, features, ticks: Ticks::open(reader)?, cameras, notes, indices: BTreeMap::new() })
    }

    pub(super) fn cameras(&self) -> Vec<&str> {
        self.cameras.iter().map(|key| short(key)).collect()
    }

    /// What [`Shown::tables`] holds.
    pub(super) fn tables(&self) -> Vec<Value> {
        let of_features = self.features.iter().map(|table| json!({"key": table.key, "names": table.names, "units": table.units}));
        let action = self.features.iter().find(|table| table.key == ACTION);
        let of_ticks = self.ticks.tables.iter().map(|table| {
            let (names, units) = match (table.key, action) {
                ("sent", Some(action)) => (action.names.clone(), action.units.clone()),
                ("lateness", _) => {
                    let name = |column: &String| column.strip_prefix(AGE).map_or("tick".to_owned(), |camera| format!("age of {camera}"));
                    (table.columns.iter().map(name).collect(), vec!["ms".to_owned(); table.columns.len()])
                }
                _ => (table.columns.iter().map(|column| column.replace('_', " ")).collect(), vec![String::new(); table.columns.len()]),
            };
            json!({"key": format!("sinew/{}", table.key), "names": names, "units": units})
        });
        of_features.chain(of_ticks).collect()
    }

    pub(super) fn episode(&mut self, number: u64, progress: &mut Progress<'_>) -> Result<Shown, ToolError> {
        let reader = self.reader;
        let episode = reader.episode(number)?;
        let rows = reader.rows(number, 0..episode.length)?;
        let mut tables = Vec::new();
        for table in &self.features {
            let values = rows.column_by_name(&table.key).and_then(numbers);
            let values = values.filter(|(_, width)| *width == table.names.len());
            tables.push(values.map_or(Value::Null, |(values, _)| packed(values.into_iter().map(|value| value as f32))));
        }
        let ticks = self.ticks.of(number, episode.length)?;
        tables.extend(ticks.into_iter().map(|values| values.map_or(Value::Null, |values| packed(values.into_iter()))));
        let mut cameras = Vec::new();
        for key in self.cameras.clone() {
            cameras.push(match self.pictures(episode, key, progress) {
                Err(error @ ToolError::Stopped) => return Err(error),
                Err(error) => Pictures::None(chain(&error)),
                Ok(pictures) => pictures,
            });
        }
        let (outcome, reason, facts) = self.notes.get(&number).map(told).unwrap_or_default();
        Ok(Shown { length: episode.length, task: episode.tasks.join("; "), outcome, reason, tables, facts, cameras })
    }

    fn pictures(&mut self, episode: &Episode, key: &str, progress: &mut Progress<'_>) -> Result<Pictures, ToolError> {
        if let Some(clip) = self.clip(episode, key)? {
            let mut bytes = Vec::new();
            mux::write_to(&[clip], self.reader.fps(), &self.reader.root().join(key), &mut bytes)?;
            return Ok(Pictures::Video(bytes));
        }
        let every = episode.length.div_ceil(self.options.images.max(1)).max(1);
        let mut images = Vec::new();
        for (frame, image) in self.reader.images(episode.episode_index, key, 0..episode.length)?.enumerate() {
            step(progress, "decoding images", frame as u64, episode.length)?;
            let image = image?;
            if (frame as u64).is_multiple_of(every) {
                let failed = |error: image::ImageError| ReadError::Decode { path: self.reader.root().to_owned(), what: error.to_string() };
                images.push(to_jpeg(&thinned(&image, self.options.image_width), JPEG_QUALITY).map_err(failed)?);
            }
        }
        Ok(Pictures::Images { every, images })
    }

    /// The episode's part of a camera's file, where a browser can play it as it is stored.
    fn clip(&mut self, episode: &Episode, key: &str) -> Result<Option<Clip>, ToolError> {
        let Some(span) = episode.videos.iter().find(|span| span.key == key) else { return Ok(None) };
        let path = self.reader.file(&span.path)?;
        if self.indices.get(key).is_none_or(|(known, _)| *known != path) {
            self.indices.insert(key.to_owned(), (path.clone(), read_video(&path)?));
        }
        let Some((_, index)) = self.indices.get(key).filter(|(_, index)| is_playable(index)) else { return Ok(None) };
        let Some(first) = index.nearest(span.from_s) else { return Ok(None) };
        if (index.seconds(first).unwrap_or(f64::INFINITY) - span.from_s).abs() >= TOLERANCE_S {
            return Ok(None);
        }
        // Where it begins between key frames it has to be decoded.
        Ok(Clip::of(&path, index, first, episode.length)?)
    }
}

/// Whether every browser of today plays it: H.264 or AV1 with 8 bits in 4:2:0.
fn is_playable(index: &VideoIndex) -> bool {
    let boxes = index.sample_entry.get(8 + 78..).unwrap_or_default();
    match index.codec.as_str() {
        "avc1" => matches!(descend(boxes, &[b"avcC"]).and_then(|avcc| avcc.get(1)), Some(66 | 77 | 88 | 100)),
        // Profile 0; neither of the bits that say more than 8 bits.
        "av01" => descend(boxes, &[b"av1C"]).is_some_and(|av1c| av1c.len() >= 4 && av1c[1] >> 5 == 0 && av1c[2] & 0x60 == 0),
        _ => false,
    }
}

fn packed(values: impl Iterator<Item = f32>) -> Value {
    Value::String(base64(&values.flat_map(f32::to_le_bytes).collect::<Vec<u8>>()))
}

/// The outcome, its reason and the rest of what Sinew says of an episode.
fn told(note: &Value) -> (String, String, Vec<(String, String)>) {
    let text = |key: &str| note[key].as_str().unwrap_or_default().to_owned();
    let mut facts = Vec::new();
    for (key, label) in [
        ("seed", "seed"),
        ("missing_ticks", "missing ticks"),
        ("lost_frames", "lost frames"),
        ("dropped_ticks", "dropped ticks"),
        ("starved_ticks", "starved ticks"),
    ] {
        facts.extend(note[key].as_u64().filter(|count| key == "seed" || *count > 0).map(|count| (label.to_owned(), count.to_string())));
    }
    for (key, count) in note.as_object().into_iter().flatten() {
        let count = count.as_u64().filter(|count| *count > 0);
        facts.extend(key.strip_prefix("limited_").zip(count).map(|(kind, count)| (format!("held back by {kind}"), count.to_string())));
    }
    (text("outcome"), text("failure"), facts)
}

fn chain(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), |source| format!("{error}: {}", chain(source)))
}

/// Every so many pixels in each direction.
fn thinned(image: &Image, width: u32) -> Image {
    let stride = image.width.div_ceil(width.max(1)).max(1) as usize;
    if stride == 1 {
        return image.clone();
    }
    let rows = image.rgb.chunks_exact(image.width as usize * 3).step_by(stride);
    let rgb: Vec<u8> = rows.flat_map(|row| row.chunks_exact(3).step_by(stride).flatten().copied()).collect();
    let (width, height) = (image.width.div_ceil(stride as u32), image.height.div_ceil(stride as u32));
    Image { width, height, rgb: rgb.into(), ..Image::default() }
}
