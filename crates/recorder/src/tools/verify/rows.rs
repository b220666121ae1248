//! The tables.

use std::collections::BTreeSet;

use arrow::array::RecordBatch;
use serde_json::Value;

use super::Fault;
use crate::format::arrays::{batch_integers, floats, numbers, strings};
use crate::format::info::parquet_files;
use crate::format::parquet_read::footer;
use crate::format::schema::TICKS;
use crate::format::stats::FeatureStats;
use crate::read::row_time_s;
use crate::{DatasetReader, Episode, Rate, ReadError};

/// Statistics of an episode's features of numbers, computed from its rows.
pub(super) type Computed = Vec<(String, FeatureStats)>;

/// Whether the files of rows hold the dataset's rows and columns and no others.
pub(super) fn check_files(reader: &DatasetReader, faults: &mut Vec<Fault>) -> Result<(), ReadError> {
    let root = reader.root();
    let mut total = 0;
    for path in parquet_files(&root.join("data"))? {
        let (_, footer) = footer(&path)?;
        total += footer.metadata().file_metadata().num_rows().max(0) as u64;
        for field in footer.schema().fields().iter().filter(|field| !reader.features().contains_key(field.name())) {
            let path = path.strip_prefix(root).unwrap_or(&path).to_owned();
            faults.push(Fault { path, what: format!("its column {} is no feature of info.json", field.name()) });
        }
    }
    let expected = reader.total_frames();
    if total > expected {
        faults.push(Fault { path: "data".into(), what: format!("there are more rows than total_frames: {total}, expected {expected}") });
    }
    if root.join(TICKS).exists() {
        let mut rows = 0;
        for path in parquet_files(&root.join(TICKS))? {
            rows += footer(&path)?.1.metadata().file_metadata().num_rows().max(0) as u64;
        }
        if rows != expected {
            faults.push(Fault { path: TICKS.into(), what: format!("there are {rows} rows, expected total_frames, {expected}") });
        }
    }
    Ok(())
}

/// Every row of an episode.
pub(super) fn check_episode(reader: &DatasetReader, episode: &Episode, faults: &mut Vec<Fault>) -> Result<Computed, ReadError> {
    let mut fault = |what: String| faults.push(Fault { path: episode.data_path.clone().into(), what });
    let number = episode.episode_index;
    if episode.length == 0 {
        fault(format!("episode {number} has no rows"));
        return Ok(Vec::new());
    }
    let batch = match reader.rows(number, 0..episode.length) {
        Ok(batch) => batch,
        Err(ReadError::Invalid { what, .. }) => {
            fault(what);
            return Ok(Vec::new());
        }
        Err(error) => return Err(error),
    };
    if let Some(what) = row_fault(reader, episode, &batch) {
        fault(format!("episode {number}: {what}"));
    }
    let mut computed = Vec::new();
    for (key, feature) in reader.features() {
        let dtype = feature["dtype"].as_str().unwrap_or_default();
        if dtype == "video" {
            continue;
        }
        let Some(column) = batch.column_by_name(key) else {
            fault(format!("episode {number}: there is no column {key}"));
            continue;
        };
        let shape = feature["shape"].as_array().map(Vec::as_slice).unwrap_or_default();
        let width: u64 = shape.iter().filter_map(|size| size.as_u64()).product();
        let usable = match dtype {
            "language" | "image" => arrow::array::Array::null_count(column) == 0,
            "string" => strings(column).is_some() && arrow::array::Array::null_count(column) == 0,
            _ => match numbers(column) {
                Some((values, found)) if found as u64 == width => {
                    if let Some(at) = values.iter().position(|value| !value.is_finite()) {
                        fault(format!("episode {number}: {key} of frame {} is {}", at / found.max(1), values[at]));
                    } else if width > 0 {
                        computed.push((key.clone(), of_feature(key, feature, &values, reader.fps())));
                    }
                    true
                }
                _ => false,
            },
        };
        if !usable {
            let shape = &feature["shape"];
            fault(format!("episode {number}: the column {key} is {}, expected {dtype} of shape {shape} without nulls", column.data_type()));
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
fn row_fault(reader: &DatasetReader, episode: &Episode, batch: &RecordBatch) -> Option<String> {
    let integers = |name: &str| batch_integers(batch, name);
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
        match reader.tasks().get(task[row] as usize) {
            Some(task) => tasks.insert(task.as_str()),
            None => return Some(format!("row {row} has task_index {}, but there are {} tasks", task[row] as i64, reader.tasks().len())),
        };
    }
    let listed: BTreeSet<&str> = episode.tasks.iter().map(String::as_str).collect();
    (tasks != listed).then(|| format!("its rows are of the tasks {tasks:?}, but the episodes table says {listed:?}"))
}
