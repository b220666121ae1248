//! The parquet files of a dataset.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BinaryArray, Float32Array, Float64Array, Int64Array, ListArray, RecordBatch, StringArray, StructArray,
};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{Field, Schema};
use arrow::error::ArrowError;
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use serde_json::{Map, Value, json};

use crate::format::marks::{self, Marks};
use crate::format::rate::Rate;
use crate::format::schema::{DEFAULT_FEATURES, FileIndex};
use crate::format::stats::{FeatureStats, KEYS};

/// What the episodes table says of one episode.
#[derive(Clone, Debug)]
pub(crate) struct EpisodeRecord {
    pub(crate) episode_index: u64,
    pub(crate) tasks: Vec<String>,
    pub(crate) length: u64,
    pub(crate) data_file: FileIndex,
    pub(crate) first_index: u64,
    /// In the order of the cameras.
    pub(crate) videos: Vec<VideoSpan>,
    /// In the order of the features.
    pub(crate) stats: Vec<(String, FeatureStats)>,
    pub(crate) episodes_file: FileIndex,
    /// Of every record of a dataset, or of none.
    pub(crate) marks: Option<Marks>,
}

/// Where an episode's images are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct VideoSpan {
    pub(crate) file: FileIndex,
    pub(crate) from_s: f64,
    pub(crate) to_s: f64,
}

fn properties(metadata: Option<Vec<KeyValue>>) -> WriterProperties {
    // Without indices of pages, so that row groups can be moved between files as they are.
    let builder = WriterProperties::builder().set_statistics_enabled(EnabledStatistics::Chunk).set_offset_index_disabled(true);
    builder.set_max_row_group_row_count(None).set_compression(Compression::SNAPPY).set_key_value_metadata(metadata).build()
}

fn int64(values: impl IntoIterator<Item = u64>) -> ArrayRef {
    Arc::new(values.into_iter().map(|value| value as i64).collect::<Int64Array>())
}

fn list(values: ArrayRef, lengths: impl IntoIterator<Item = usize>) -> Result<ArrayRef, ArrowError> {
    let element = Arc::new(Field::new("element", values.data_type().clone(), true));
    Ok(Arc::new(ListArray::try_new(element, OffsetBuffer::from_lengths(lengths), values, None)?))
}

fn batch(columns: Vec<(String, ArrayRef)>, metadata: &[(&str, String)]) -> Result<RecordBatch, ArrowError> {
    let fields: Vec<Field> = columns.iter().map(|(name, values)| Field::new(name, values.data_type().clone(), true)).collect();
    let metadata = metadata.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect();
    let schema = Schema::new(fields).with_metadata(metadata);
    RecordBatch::try_new(Arc::new(schema), columns.into_iter().map(|(_, values)| values).collect())
}

fn to_parquet(batch: &RecordBatch) -> Result<Vec<u8>, ParquetError> {
    // Arrow's schema metadata goes to the file's own, where pandas and datasets look for theirs.
    let metadata = batch.schema().metadata().iter().map(|(key, value)| KeyValue::new(key.clone(), value.clone())).collect();
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), Some(properties(Some(metadata))))?;
    writer.write(batch)?;
    writer.into_inner()
}

/// An episode's rows as a parquet file of one row group: each column with its name and, for the
/// `datasets` library, its description.
pub(crate) fn rows_file(columns: Vec<(String, ArrayRef, Option<Value>)>) -> Result<Vec<u8>, ParquetError> {
    let features: Map<String, Value> = columns.iter().filter_map(|(name, _, feature)| Some((name.clone(), feature.clone()?))).collect();
    let metadata = json!({"info": {"features": features}}).to_string();
    let metadata = if features.is_empty() { Vec::new() } else { vec![("huggingface", metadata)] };
    to_parquet(&batch(columns.into_iter().map(|(name, values, _)| (name, values)).collect(), &metadata)?)
}

/// The columns that LeRobot gives every row: of an episode whose rows are of these tasks.
pub(crate) fn default_columns(fps: Rate, episode_index: u64, first_index: u64, tasks: &[u64]) -> Vec<(String, ArrayRef, Option<Value>)> {
    let length = tasks.len() as u64;
    let timestamps: Float32Array = (0..length).map(|frame| fps.seconds(frame) as f32).collect();
    let columns: [ArrayRef; 5] = [
        Arc::new(timestamps),
        int64(0..length),
        int64((0..length).map(|_| episode_index)),
        int64(first_index..first_index + length),
        int64(tasks.iter().copied()),
    ];
    let described = DEFAULT_FEATURES.iter().zip(columns);
    described.map(|((name, dtype), values)| ((*name).to_owned(), values, Some(json!({"dtype": dtype, "_type": "Value"})))).collect()
}

/// What a row of the side table belongs to.
pub(crate) fn side_columns(episode_index: u64, first_index: u64, length: u64) -> Vec<(String, ArrayRef, Option<Value>)> {
    vec![
        ("index".to_owned(), int64(first_index..first_index + length), None),
        ("episode_index".to_owned(), int64((0..length).map(|_| episode_index)), None),
    ]
}

/// PNG images as the `datasets` library has them.
pub(crate) fn image_column(images: &[Vec<u8>]) -> Result<ArrayRef, ArrowError> {
    let bytes: ArrayRef = Arc::new(BinaryArray::from_iter_values(images));
    let paths: ArrayRef = Arc::new(StringArray::from_iter_values((0..images.len()).map(|frame| format!("frame-{frame:06}.png"))));
    let field = |name, values: &ArrayRef| Arc::new(Field::new(name, values.data_type().clone(), true));
    Ok(Arc::new(StructArray::from(vec![(field("bytes", &bytes), bytes), (field("path", &paths), paths)])))
}

/// The tasks table; task `i` is row `i`.
pub(crate) fn tasks_file(tasks: &[String]) -> Result<Vec<u8>, ParquetError> {
    numbered_tasks_file((0..).zip(tasks.iter().map(String::as_str)))
}

/// The tasks table: `task_index` and sentence of each. pandas finds in the metadata that `task` is the index,
/// without which LeRobot answers numbers for sentences.
pub(crate) fn numbered_tasks_file<'a>(tasks: impl Iterator<Item = (u64, &'a str)>) -> Result<Vec<u8>, ParquetError> {
    let (indices, words): (Vec<u64>, Vec<&str>) = tasks.unzip();
    let columns: Vec<(String, ArrayRef)> =
        vec![("task_index".to_owned(), int64(indices)), ("task".to_owned(), Arc::new(StringArray::from_iter_values(words)))];
    let pandas = json!({
        "index_columns": ["task"],
        "column_indexes": [
            {"name": null, "field_name": null, "pandas_type": "unicode", "numpy_type": "object", "metadata": {"encoding": "UTF-8"}},
        ],
        "columns": [
            {"name": "task_index", "field_name": "task_index", "pandas_type": "int64", "numpy_type": "int64", "metadata": null},
            {"name": "task", "field_name": "task", "pandas_type": "unicode", "numpy_type": "object", "metadata": null},
        ],
        "creator": {"library": "sinew", "version": env!("CARGO_PKG_VERSION")},
        "pandas_version": "2.2.3",
    });
    to_parquet(&batch(columns, &[("pandas", pandas.to_string())])?)
}

/// The episodes table with columns that are not LeRobot's at its end. Every record has the same cameras
/// and statistics.
pub(crate) fn episodes_file(
    records: &[EpisodeRecord],
    camera_keys: &[String],
    more: Vec<(String, ArrayRef)>,
) -> Result<Vec<u8>, ParquetError> {
    let column = |value: fn(&EpisodeRecord) -> u64| int64(records.iter().map(value));
    let tasks = StringArray::from_iter_values(records.iter().flat_map(|record| &record.tasks).collect::<Vec<_>>());
    let mut columns: Vec<(String, ArrayRef)> = vec![
        ("episode_index".to_owned(), column(|r| r.episode_index)),
        ("tasks".to_owned(), list(Arc::new(tasks), records.iter().map(|record| record.tasks.len()))?),
        ("length".to_owned(), column(|r| r.length)),
        ("data/chunk_index".to_owned(), column(|r| r.data_file.chunk)),
        ("data/file_index".to_owned(), column(|r| r.data_file.file)),
        ("dataset_from_index".to_owned(), column(|r| r.first_index)),
        ("dataset_to_index".to_owned(), column(|r| r.first_index + r.length)),
    ];
    for (camera, key) in camera_keys.iter().enumerate() {
        let spans = || records.iter().map(move |record| record.videos[camera]);
        let seconds = |value: fn(VideoSpan) -> f64| -> ArrayRef { Arc::new(spans().map(value).collect::<Float64Array>()) };
        columns.push((format!("videos/{key}/chunk_index"), int64(spans().map(|span| span.file.chunk))));
        columns.push((format!("videos/{key}/file_index"), int64(spans().map(|span| span.file.file))));
        columns.push((format!("videos/{key}/from_timestamp"), seconds(|span| span.from_s)));
        columns.push((format!("videos/{key}/to_timestamp"), seconds(|span| span.to_s)));
    }
    let features = records.first().map_or(&[][..], |record| &record.stats);
    for (at, (feature, first)) in features.iter().enumerate() {
        let all = || records.iter().map(move |record| &record.stats[at].1);
        for key in KEYS {
            let values: ArrayRef = if first.values(key).is_none() {
                list(int64(all().map(|stats| stats.count)), records.iter().map(|_| 1))?
            } else {
                let values: Float64Array = all().flat_map(|stats| stats.values(key).unwrap_or_default()).copied().collect();
                let n = values.len();
                let mut values: ArrayRef = Arc::new(values);
                if first.is_image {
                    values = list(list(values, std::iter::repeat_n(1, n))?, std::iter::repeat_n(1, n))?;
                }
                list(values, records.iter().map(|_| first.mean.len()))?
            };
            columns.push((format!("stats/{feature}/{key}"), values));
        }
    }
    columns.push(("meta/episodes/chunk_index".to_owned(), column(|r| r.episodes_file.chunk)));
    columns.push(("meta/episodes/file_index".to_owned(), column(|r| r.episodes_file.file)));
    let marks = records.iter().filter_map(|record| record.marks.as_ref());
    if marks.clone().count() == records.len() {
        columns.extend(marks::columns(marks));
    }
    columns.extend(more);
    to_parquet(&batch(columns, &[])?)
}
