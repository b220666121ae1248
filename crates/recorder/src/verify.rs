//! Checks that the parts of a dataset agree.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{Float32Type, Float64Type};
use serde::Serialize;

use crate::ReadError;
use crate::files::{COMMIT, FOLDER};
use crate::info::{DatasetInfo, integers, parquet_files, read_parquet};
use crate::mp4_read::{VideoSummary, read_video};
use crate::schema::FileIndex;

/// Something in a dataset that is not as it must be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// The file at fault, relative to the dataset.
    pub path: PathBuf,
    pub what: String,
}

/// Where an episode says its parts are.
struct Span {
    episode: u64,
    length: u64,
    rows: (u64, u64),
    /// In the order of the cameras with videos.
    videos: Vec<(FileIndex, f64, f64)>,
}

/// Checks every row of the tables and the index of every video of the dataset in `root`: numbering,
/// times, lengths, and that each video has as many frames as its episodes have rows. No picture is
/// decoded. An empty answer is a good one.
///
/// # Errors
/// When it is no dataset or its tables cannot be read at all.
pub fn verify(root: &Path) -> Result<Vec<Fault>, ReadError> {
    let info = DatasetInfo::open(root)?;
    let mut faults = Vec::new();
    let pending = Path::new(FOLDER).join(COMMIT);
    if root.join(&pending).exists() {
        faults.push(Fault { path: pending, what: "a commit is not yet in place; recovering the dataset completes it".to_owned() });
    }
    if info.total_episodes == 0 {
        return Ok(faults);
    }
    let is_video = |key: &str| info.features.get(key).is_some_and(|feature| feature["dtype"] == "video");
    let keys: Vec<&str> = info.cameras.iter().map(|camera| camera.key.as_str()).filter(|key| is_video(key)).collect();
    let mut spans = read_spans(root, &keys)?;
    spans.truncate(info.episodes.len());
    check_spans(&spans, &mut faults);
    check_rows(root, &info, &spans, &mut faults)?;
    for (camera, key) in keys.iter().enumerate() {
        check_videos(root, &info, key, camera, &spans, &mut faults);
    }
    Ok(faults)
}

fn floats(batch: &RecordBatch, column: &str) -> Option<Vec<f64>> {
    let column = batch.column_by_name(column)?;
    let single = column.as_primitive_opt::<Float32Type>().map(|values| values.values().iter().map(|v| f64::from(*v)).collect());
    single.or_else(|| column.as_primitive_opt::<Float64Type>().map(|values| values.values().to_vec()))
}

fn read_spans(root: &Path, keys: &[&str]) -> Result<Vec<Span>, ReadError> {
    let plain = ["episode_index", "length", "dataset_from_index", "dataset_to_index"];
    let of_video = |key: &str| ["chunk_index", "file_index", "from_timestamp", "to_timestamp"].map(|what| format!("videos/{key}/{what}"));
    let names: Vec<String> = plain.iter().map(|name| (*name).to_owned()).chain(keys.iter().flat_map(|key| of_video(key))).collect();
    let mut spans = Vec::new();
    for path in parquet_files(&root.join("meta/episodes"))? {
        for batch in read_parquet(&path, &names.iter().map(String::as_str).collect::<Vec<_>>())? {
            let missing = |name: &str| ReadError::Invalid { path: path.clone(), what: format!("there is no usable column {name}") };
            let integer = |name: &str| integers(&batch, name).ok_or_else(|| missing(name));
            let seconds = |name: &str| floats(&batch, name).ok_or_else(|| missing(name));
            let [episodes, lengths, from, to] = [integer(plain[0])?, integer(plain[1])?, integer(plain[2])?, integer(plain[3])?];
            let mut videos = Vec::new();
            for key in keys {
                let [chunk, file, begin, end] = of_video(key);
                videos.push((integer(&chunk)?, integer(&file)?, seconds(&begin)?, seconds(&end)?));
            }
            spans.extend((0..batch.num_rows()).map(|row| {
                Span {
                    episode: episodes[row],
                    length: lengths[row],
                    rows: (from[row], to[row]),
                    videos: videos
                        .iter()
                        .map(|(chunk, file, begin, end)| (FileIndex { chunk: chunk[row], file: file[row] }, begin[row], end[row]))
                        .collect(),
                }
            }));
        }
    }
    Ok(spans)
}

fn check_spans(spans: &[Span], faults: &mut Vec<Fault>) {
    let mut next = 0;
    for span in spans {
        if span.rows != (next, next + span.length) {
            let what = format!("episode {} has rows {:?}, expected ({next}, {})", span.episode, span.rows, next + span.length);
            faults.push(Fault { path: "meta/episodes".into(), what });
        }
        next += span.length;
    }
}

fn check_rows(root: &Path, info: &DatasetInfo, spans: &[Span], faults: &mut Vec<Fault>) -> Result<(), ReadError> {
    let columns = ["index", "frame_index", "episode_index", "task_index", "timestamp"];
    let mut expected = spans.iter().flat_map(|span| (0..span.length).map(move |frame| (span.episode, frame)));
    let mut rows = 0u64;
    for path in parquet_files(&root.join("data"))? {
        let relative = path.strip_prefix(root).unwrap_or(&path).to_owned();
        for batch in read_parquet(&path, &columns)? {
            let missing = |name: &str| ReadError::Invalid { path: path.clone(), what: format!("there is no usable column {name}") };
            let integer = |name: &str| integers(&batch, name).ok_or_else(|| missing(name));
            let [index, frame, episode, task] = [integer(columns[0])?, integer(columns[1])?, integer(columns[2])?, integer(columns[3])?];
            let times = floats(&batch, columns[4]).ok_or_else(|| missing(columns[4]))?;
            for row in 0..batch.num_rows() {
                let what = match expected.next() {
                    None => format!("there are more rows than total_frames, {}", info.total_frames),
                    Some(place) if (episode[row], frame[row]) != place => {
                        format!("row {rows} is frame {} of episode {}, expected frame {} of {}", frame[row], episode[row], place.1, place.0)
                    }
                    _ if index[row] != rows => format!("row {rows} has index {}", index[row]),
                    _ if task[row] >= info.total_tasks => {
                        format!("row {rows} has task_index {}, but there are {} tasks", task[row], info.total_tasks)
                    }
                    _ if (times[row] - frame[row] as f64 / f64::from(info.fps)).abs() > 1e-4 => {
                        format!("row {rows} has timestamp {}, expected frame {} / {} fps", times[row], frame[row], info.fps)
                    }
                    _ => {
                        rows += 1;
                        continue;
                    }
                };
                // One fault a file: what follows is shifted, and would repeat it row by row.
                faults.push(Fault { path: relative, what });
                return Ok(());
            }
        }
    }
    if rows < info.total_frames {
        faults.push(Fault { path: "data".into(), what: format!("there are {rows} rows, but total_frames is {}", info.total_frames) });
    }
    Ok(())
}

fn check_videos(root: &Path, info: &DatasetInfo, key: &str, camera: usize, spans: &[Span], faults: &mut Vec<Fault>) {
    let fps = f64::from(info.fps);
    // Frames that the episodes claim of each file, in episode order.
    let mut files: BTreeMap<FileIndex, u64> = BTreeMap::new();
    for span in spans {
        let (file, from_s, to_s) = span.videos[camera];
        let frames = files.entry(file).or_default();
        let (begin, end) = (*frames as f64 / fps, (*frames + span.length) as f64 / fps);
        if (from_s - begin).abs() > 1e-4 || (to_s - end).abs() > 1e-4 {
            let what = format!("episode {} is at {from_s} s to {to_s} s, expected {begin} s to {end} s", span.episode);
            faults.push(Fault { path: file.video_path(key).into(), what });
        }
        *frames += span.length;
    }
    let shape = info.cameras.iter().find(|camera| camera.key == key);
    for (file, frames) in files {
        let path = file.video_path(key);
        let what = match read_video(&root.join(&path)) {
            Err(ReadError::Io { source, .. }) => Some(format!("it cannot be read: {source}")),
            Err(ReadError::Invalid { what, .. }) => Some(what),
            Err(error) => Some(error.to_string()),
            Ok(video) => shape.and_then(|shape| video_fault(&video, frames, info.fps, (shape.width, shape.height))),
        };
        faults.extend(what.map(|what| Fault { path: path.into(), what }));
    }
}

fn video_fault(video: &VideoSummary, frames: u64, fps: u32, size: (u64, u64)) -> Option<String> {
    if (u64::from(video.width), u64::from(video.height)) != size {
        return Some(format!("its pictures are {}x{}, expected {}x{}", video.width, video.height, size.0, size.1));
    }
    // One more episode may be there when a commit is being put into place.
    if video.frames < frames {
        return Some(format!("it has {} frames, but its episodes have {frames} rows", video.frames));
    }
    if video.frame_bytes > video.data_bytes {
        return Some(format!("its frames take {} bytes, but it holds {}", video.frame_bytes, video.data_bytes));
    }
    let frame_s = |duration: u32| f64::from(duration) / f64::from(video.timescale);
    let uneven = video.durations.iter().find(|(_, duration)| (frame_s(*duration) * f64::from(fps) - 1.0).abs() > 1e-3);
    uneven.map(|(_, duration)| format!("a frame lasts {} s, expected 1/{fps} s", frame_s(*duration)))
}
