//! The parquet files of a dataset.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use arrow::array::FixedSizeListArray;
use arrow::array::{Array, ArrayRef, BooleanArray, Float32Array, Float64Array, Int64Array, ListArray, RecordBatch, StringArray};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, Schema};
use arrow::error::ArrowError;
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::column::writer::ColumnCloseResult;
use parquet::errors::ParquetError;
use parquet::file::metadata::{KeyValue, PageIndexPolicy, ParquetMetaData, ParquetMetaDataReader};
use parquet::file::properties::WriterProperties;
use parquet::file::reader::ChunkReader;
use parquet::file::writer::SerializedFileWriter;
use serde_json::{Map, json};

use crate::RecordError;
use crate::files::{checkpoint, io_error};
use crate::schema::{ACTION, FileIndex, STATE};
use crate::stats::{FeatureStats, KEYS};

/// The rows of one episode, joints in the dataset's units, `[frames, joints]` row-major.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct EpisodeRows {
    pub(crate) action: Vec<f32>,
    pub(crate) state: Vec<f32>,
    pub(crate) ticks: TickRows,
}

/// What became of each row's action; LeRobot has no columns for it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct TickRows {
    pub(crate) tick: Vec<u64>,
    pub(crate) lateness_ns: Vec<i64>,
    pub(crate) applied_action: Vec<f32>,
    pub(crate) limited_joints: Vec<u64>,
    pub(crate) starved: Vec<bool>,
}

/// What the episodes table says of one episode.
#[derive(Clone, Debug)]
pub(crate) struct EpisodeRecord {
    pub(crate) episode_index: u64,
    pub(crate) task: String,
    pub(crate) length: u64,
    pub(crate) data_file: FileIndex,
    pub(crate) first_index: u64,
    /// In the order of the cameras.
    pub(crate) videos: Vec<VideoSpan>,
    /// In the order of the features.
    pub(crate) stats: Vec<(String, FeatureStats)>,
    pub(crate) episodes_file: FileIndex,
}

/// Where an episode's images are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct VideoSpan {
    pub(crate) file: FileIndex,
    pub(crate) from_s: f64,
    pub(crate) to_s: f64,
}

fn properties(metadata: Option<Vec<KeyValue>>) -> WriterProperties {
    WriterProperties::builder().set_compression(Compression::SNAPPY).set_key_value_metadata(metadata).build()
}

fn int64(values: impl IntoIterator<Item = u64>) -> ArrayRef {
    Arc::new(values.into_iter().map(|value| value as i64).collect::<Int64Array>())
}

fn joints(values: &[f32], width: usize) -> Result<ArrayRef, ArrowError> {
    let element = Arc::new(Field::new("element", DataType::Float32, true));
    Ok(Arc::new(FixedSizeListArray::try_new(element, width as i32, Arc::new(Float32Array::from(values.to_vec())), None)?))
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

/// The rows as a parquet file of one row group.
pub(crate) fn data_file(
    rows: &EpisodeRows,
    width: usize,
    fps: u32,
    (episode_index, first_index, task_index): (u64, u64, u64),
) -> Result<Vec<u8>, ParquetError> {
    let length = (rows.action.len() / width) as u64;
    let timestamps: Float32Array = (0..length).map(|frame| (frame as f64 / f64::from(fps)) as f32).collect();
    let columns: Vec<(String, ArrayRef)> = vec![
        (ACTION.to_owned(), joints(&rows.action, width)?),
        (STATE.to_owned(), joints(&rows.state, width)?),
        ("timestamp".to_owned(), Arc::new(timestamps)),
        ("frame_index".to_owned(), int64(0..length)),
        ("episode_index".to_owned(), int64((0..length).map(|_| episode_index))),
        ("index".to_owned(), int64(first_index..first_index + length)),
        ("task_index".to_owned(), int64((0..length).map(|_| task_index))),
    ];
    let mut features = Map::new();
    for (name, values) in &columns {
        let feature = match values.data_type() {
            DataType::FixedSizeList(..) => json!({"feature": {"dtype": "float32", "_type": "Value"}, "length": width, "_type": "List"}),
            DataType::Float32 => json!({"dtype": "float32", "_type": "Value"}),
            _ => json!({"dtype": "int64", "_type": "Value"}),
        };
        features.insert(name.clone(), feature);
    }
    let huggingface = json!({"info": {"features": features}}).to_string();
    to_parquet(&batch(columns, &[("huggingface", huggingface)])?)
}

/// What became of the rows' actions, as a parquet file of one row group.
pub(crate) fn ticks_file(rows: &TickRows, width: usize, episode_index: u64, first_index: u64) -> Result<Vec<u8>, ParquetError> {
    let length = rows.tick.len() as u64;
    let columns: Vec<(String, ArrayRef)> = vec![
        ("index".to_owned(), int64(first_index..first_index + length)),
        ("episode_index".to_owned(), int64((0..length).map(|_| episode_index))),
        ("tick".to_owned(), int64(rows.tick.iter().copied())),
        ("lateness_ns".to_owned(), Arc::new(Int64Array::from(rows.lateness_ns.clone()))),
        ("applied_action".to_owned(), joints(&rows.applied_action, width)?),
        ("limited_joints".to_owned(), int64(rows.limited_joints.iter().copied())),
        ("starved".to_owned(), Arc::new(BooleanArray::from(rows.starved.clone()))),
    ];
    to_parquet(&batch(columns, &[])?)
}

/// The tasks table; task `i` is row `i`. pandas finds in the metadata that `task` is the index,
/// without which LeRobot answers numbers for sentences.
pub(crate) fn tasks_file(tasks: &[String]) -> Result<Vec<u8>, ParquetError> {
    let columns: Vec<(String, ArrayRef)> =
        vec![("task_index".to_owned(), int64(0..tasks.len() as u64)), ("task".to_owned(), Arc::new(StringArray::from_iter_values(tasks)))];
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

/// The episodes table. Every record has the same cameras and statistics.
pub(crate) fn episodes_file(records: &[EpisodeRecord], camera_keys: &[String]) -> Result<Vec<u8>, ParquetError> {
    let column = |value: fn(&EpisodeRecord) -> u64| int64(records.iter().map(value));
    let tasks = StringArray::from_iter_values(records.iter().map(|record| &record.task));
    let mut columns: Vec<(String, ArrayRef)> = vec![
        ("episode_index".to_owned(), column(|r| r.episode_index)),
        ("tasks".to_owned(), list(Arc::new(tasks), records.iter().map(|_| 1))?),
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
    to_parquet(&batch(columns, &[])?)
}

/// Writes to `to` the row groups of the parquet file at `before`, as they are, and then those of
/// `episode`, a parquet file of the same schema.
pub(crate) fn append_row_groups(before: Option<&Path>, episode: Vec<u8>, to: &Path) -> Result<(), RecordError> {
    let failed = |source| RecordError::Parquet { doing: "writing", path: to.to_owned(), source };
    let episode = bytes::Bytes::from(episode);
    let last = metadata(&episode).map_err(failed)?;
    let out = File::create(to).map_err(io_error("creating", to))?;
    let key_values = last.file_metadata().key_value_metadata().cloned();
    let schema = last.file_metadata().schema_descr().root_schema_ptr();
    let mut writer = SerializedFileWriter::new(out, schema, Arc::new(properties(key_values))).map_err(failed)?;
    if let Some(path) = before {
        let unreadable = |source| RecordError::Parquet { doing: "reading", path: path.to_owned(), source };
        let file = File::open(path).map_err(io_error("reading", path))?;
        let first = metadata(&file).map_err(unreadable)?;
        copy_row_groups(&file, &first, &mut writer).map_err(failed)?;
    }
    copy_row_groups(&episode, &last, &mut writer).map_err(failed)?;
    let out = writer.into_inner().map_err(failed)?;
    out.sync_all().map_err(io_error("writing", to))?;
    checkpoint();
    Ok(())
}

fn metadata<R: ChunkReader>(input: &R) -> Result<ParquetMetaData, ParquetError> {
    ParquetMetaDataReader::new().with_page_index_policy(PageIndexPolicy::Optional).parse_and_finish(input)
}

fn copy_row_groups<R: ChunkReader>(
    input: &R,
    metadata: &ParquetMetaData,
    writer: &mut SerializedFileWriter<File>,
) -> Result<(), ParquetError> {
    for (at, group) in metadata.row_groups().iter().enumerate() {
        let mut out = writer.next_row_group()?;
        for (column, chunk) in group.columns().iter().enumerate() {
            let closed = ColumnCloseResult {
                bytes_written: chunk.compressed_size() as u64,
                rows_written: group.num_rows() as u64,
                metadata: chunk.clone(),
                bloom_filter: None,
                column_index: metadata.column_index().and_then(|all| all.get(at)?.get(column).cloned()),
                offset_index: metadata.offset_index().and_then(|all| all.get(at)?.get(column).cloned()),
            };
            out.append_column(input, closed)?;
        }
        out.close()?;
    }
    Ok(())
}
