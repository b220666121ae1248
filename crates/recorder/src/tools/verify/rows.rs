//! The tables.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use arrow::array::RecordBatch;
use serde_json::Value;

use super::{Mend, Report};
use crate::format::arrays::{floats, integers, numbers, strings};
use crate::format::info::parquet_files;
use crate::format::parquet_read::{footer, read_parquet};
use crate::format::schema::{EPISODES, EPISODES_21, INFO, TICKS};
use crate::format::stats::FeatureStats;
use crate::read::row_time_s;
use crate::tools::quoted;
use crate::{DatasetReader, Episode, Rate, ReadError, Version};

/// Statistics of an episode's features of numbers, computed from its rows.
pub(super) type Computed = Vec<(String, FeatureStats)>;

/// Whether the files of rows hold the dataset's rows and columns and no others.
pub(super) fn check_files(reader: &DatasetReader, report: &mut Report) -> Result<(), ReadError> {
    let root = reader.root();
    let mut total = 0;
    for path in parquet_files(&root.join("data"))? {
        let (_, footer) = footer(&path)?;
        total += footer.metadata().file_metadata().num_rows().max(0) as u64;
        for field in footer.schema().fields().iter().filter(|field| !reader.features().contains_key(field.name())) {
            let path = path.strip_prefix(root).unwrap_or(&path);
            report.fault(path, format!("its column {} is no feature of info.json", field.name()));
        }
    }
    let expected = reader.total_frames();
    if total > expected {
        report.fault("data", format!("there are more rows than total_frames: {total}, expected {expected}"));
    }
    let (known, declared) = (reader.tasks().len() as u64, reader.info().total_tasks);
    if known != declared {
        report.warn(INFO, format!("total_tasks is {declared}, but the tasks table has {known} rows"), Mend::Repair);
    }
    check_side_table(reader, report)
}

/// Whether each table of rows can be opened, and those that episodes name have their rows. No row is read.
pub(super) fn check_tables(reader: &DatasetReader, report: &mut Report) -> Result<(), ReadError> {
    let root = reader.root();
    // By path, how many rows it must have.
    let mut tables: BTreeMap<PathBuf, u64> = BTreeMap::new();
    for folder in ["data", TICKS].map(|folder| root.join(folder)).iter().filter(|folder| folder.exists()) {
        tables.extend(parquet_files(folder)?.into_iter().map(|path| (path, 0)));
    }
    for episode in reader.episodes() {
        *tables.entry(root.join(&episode.data_path)).or_default() += episode.length;
    }
    for (path, expected) in tables {
        let shown = path.strip_prefix(root).unwrap_or(&path);
        let found = match footer(&path) {
            Ok((_, footer)) => footer.metadata().file_metadata().num_rows().max(0) as u64,
            Err(ReadError::Io { source, .. }) => {
                report.fault(shown, format!("it cannot be read: {source}"));
                continue;
            }
            Err(error) => {
                report.fault(shown, error.to_string());
                continue;
            }
        };
        if found < expected {
            report.fault(shown, format!("it has {found} rows, but its episodes have {expected}"));
        }
    }
    Ok(())
}

/// Whether each episode has as many rows in the side table as in the data, or none: it may have been recorded
/// without them, or by LeRobot.
fn check_side_table(reader: &DatasetReader, report: &mut Report) -> Result<(), ReadError> {
    let tree = reader.root().join(TICKS);
    if !tree.exists() {
        return Ok(());
    }
    let mut rows: BTreeMap<u64, u64> = BTreeMap::new();
    for path in parquet_files(&tree)? {
        for batch in read_parquet(&path, &["episode_index"])? {
            let Some(episodes) = integers(&batch, "episode_index") else {
                let path = path.strip_prefix(reader.root()).unwrap_or(&path);
                report.fault(path, "there is no usable column episode_index");
                continue;
            };
            episodes.into_iter().for_each(|episode| *rows.entry(episode).or_default() += 1);
        }
    }
    for (number, found) in rows {
        let length = reader.episodes().get(number as usize).map(|episode| episode.length);
        if length != Some(found) {
            let expected = length.map_or("that there is no such episode".to_owned(), |length| length.to_string());
            report.fault(TICKS, format!("episode {number} has {found} rows, expected {expected}"));
        }
    }
    Ok(())
}

/// Every row of an episode.
pub(super) fn check_episode(reader: &DatasetReader, episode: &Episode, report: &mut Report) -> Result<Computed, ReadError> {
    let path = &episode.data_path;
    let number = episode.episode_index;
    if episode.length == 0 {
        report.fault(path, format!("episode {number} has no rows"));
        return Ok(Vec::new());
    }
    let batch = match reader.rows(number, 0..episode.length) {
        Ok(batch) => batch,
        Err(ReadError::Invalid { what, .. }) => {
            report.fault(path, what);
            return Ok(Vec::new());
        }
        Err(error) => return Err(error),
    };
    if let Some(what) = row_fault(reader, episode, &batch, report) {
        report.fault(path, format!("episode {number}: {what}"));
    }
    let mut computed = Vec::new();
    for (key, feature) in reader.features() {
        let dtype = feature["dtype"].as_str().unwrap_or_default();
        if dtype == "video" {
            continue;
        }
        let Some(column) = batch.column_by_name(key) else {
            report.fault(path, format!("episode {number}: there is no column {key}"));
            continue;
        };
        let shape = feature["shape"].as_array().map(Vec::as_slice).unwrap_or_default();
        let width: u64 = shape.iter().filter_map(|size| size.as_u64()).product();
        let usable = match dtype {
            "language" | "image" => arrow::array::Array::null_count(column) == 0,
            "string" => {
                let nulls = arrow::array::Array::null_count(column);
                if nulls > 0 {
                    report.warn(path, format!("episode {number}: {key} has no text in {nulls} rows, which is read as an empty one"), None);
                }
                strings(column).is_some()
            }
            _ => match numbers(column) {
                Some((values, found)) if found as u64 == width => {
                    if let Some(at) = values.iter().position(|value| !value.is_finite()) {
                        report.warn(path, format!("episode {number}: {key} of frame {} is {}", at / found.max(1), values[at]), None);
                    }
                    if width > 0 {
                        computed.push((key.clone(), of_feature(key, feature, &values, reader.fps())));
                    }
                    true
                }
                _ => false,
            },
        };
        if !usable {
            let shape = &feature["shape"];
            let found = column.data_type();
            report.fault(path, format!("episode {number}: the column {key} is {found}, expected {dtype} of shape {shape} without nulls"));
        }
    }
    Ok(computed)
}

/// Statistics of a feature's values over an episode as LeRobot computes them: over all axes but the last.
pub(crate) fn of_feature(key: &str, feature: &Value, values: &[f64], fps: Rate) -> FeatureStats {
    let shape = feature["shape"].as_array().map(Vec::as_slice).unwrap_or_default();
    let width = shape.last().and_then(Value::as_u64).unwrap_or(1).max(1) as usize;
    let values_a_row: u64 = shape.iter().filter_map(Value::as_u64).product();
    let rows = values.len() as u64 / values_a_row.max(1);
    match feature["dtype"].as_str() {
        // The recorder has the time before it is rounded to f32.
        _ if key == "timestamp" => FeatureStats::of_f64(&(0..rows).map(|frame| fps.seconds(frame)).collect::<Vec<f64>>(), 1, rows),
        // Small enough for numpy to take them as f32.
        Some("float32" | "bool" | "int8" | "uint8" | "int16" | "uint16") => {
            FeatureStats::of_f32(&values.iter().map(|value| *value as f32).collect::<Vec<f32>>(), width, rows)
        }
        _ => FeatureStats::of_f64(values, width, rows),
    }
}

/// The first of an episode's rows that is not as its place demands.
fn row_fault(reader: &DatasetReader, episode: &Episode, batch: &RecordBatch, report: &mut Report) -> Option<String> {
    let integers = |name: &str| integers(batch, name);
    let (Some(index), Some(frame), Some(task), Some(time)) =
        (integers("index"), integers("frame_index"), integers("task_index"), floats(batch, "timestamp"))
    else {
        return Some("index, frame_index, task_index or timestamp is no usable column".to_owned());
    };
    let mut tasks = BTreeSet::new();
    for row in 0..batch.num_rows() {
        let (expected_index, expected_s) = (episode.first_index + row as u64, row_time_s(row as u64, reader.fps()));
        if frame[row] != row as u64 {
            return Some(format!("row {row} has frame_index {}", frame[row] as i64));
        }
        if index[row] != expected_index {
            return Some(format!("row {row} has index {}, expected {expected_index}", index[row] as i64));
        }
        if (time[row] - expected_s).abs() > 1e-4 {
            return Some(format!("row {row} has timestamp {}, expected frame {row} / {} fps", time[row], reader.fps()));
        }
        match reader.task_of(task[row]) {
            Ok(task) => tasks.insert(task),
            Err(_) => {
                return Some(format!("row {row} has task_index {}, which is none of the {} tasks", task[row] as i64, reader.tasks().len()));
            }
        };
    }
    let listed: BTreeSet<&str> = episode.tasks.iter().map(String::as_str).collect();
    if tasks != listed {
        let (found, listed) = (quoted(&tasks), quoted(&listed));
        let what = format!("episode {}: its rows are of the tasks {found}, the table says {listed}", episode.episode_index);
        report.warn(if reader.version() == Version::V30 { EPISODES } else { EPISODES_21 }, what, Mend::Repair);
    }
    None
}
