//! What Sinew keeps beside LeRobot's tables: a row for each row, and a line for each episode.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use arrow::array::{BooleanArray, RecordBatch};
use arrow::datatypes::SchemaRef;
use serde_json::{Map, Value};

use super::ToolError;
use super::assembly::{Assembly, Part};
use super::columns::int64;
use super::keep::Sharing;
use super::rows::{close, table_writer};
use super::state::Origin;
use crate::commit::{create_folder, io_error};
use crate::format::arrays::integers;
use crate::format::info::parquet_files;
use crate::format::marks::notes;
use crate::format::parquet_read::{footer, read_whole};
use crate::format::schema::{LOG, TICKS};
use crate::{ReadError, RecordError};

/// The side tables of the sources, and those of the result while they are written.
pub(super) struct SideTables {
    root: PathBuf,
    /// Of each source its rows by episode; none unless every source has them in the same columns.
    rows: Option<Vec<BTreeMap<u64, RecordBatch>>>,
    lines: Vec<BTreeMap<u64, Map<String, Value>>>,
    new_rows: Vec<RecordBatch>,
    new_lines: String,
    /// Files of rows that go with the result as they are, and how.
    whole: Vec<PathBuf>,
    source: PathBuf,
    sharing: Sharing,
}

/// Whether the rows beside the tables of all sources can be kept.
pub(super) fn keeps_rows(assembly: &Assembly) -> Result<bool, ReadError> {
    Ok(whole_files(assembly)?.is_some() || read_all(&assembly.sources)?.is_some())
}

/// The files of rows of a dataset that stays as it is, if they have a row for each of its rows.
fn whole_files(assembly: &Assembly) -> Result<Option<Vec<PathBuf>>, ReadError> {
    let tree = assembly.sources[0].root().join(TICKS);
    if !assembly.renumbers_nothing() || !tree.exists() {
        return Ok(None);
    }
    let (paths, mut rows) = (parquet_files(&tree)?, 0);
    for path in &paths {
        rows += footer(path)?.1.metadata().file_metadata().num_rows().max(0) as u64;
    }
    Ok((rows == assembly.frames()).then_some(paths))
}

fn read_all(sources: &[Origin]) -> Result<Option<Vec<BTreeMap<u64, RecordBatch>>>, ReadError> {
    let mut all = Vec::new();
    let mut schema: Option<SchemaRef> = None;
    for source in sources {
        let tree = source.root().join(TICKS);
        if !tree.exists() {
            return Ok(None);
        }
        let mut episodes: BTreeMap<u64, RecordBatch> = BTreeMap::new();
        for path in parquet_files(&tree)? {
            for batch in read_whole(&path)? {
                if schema.get_or_insert_with(|| batch.schema()).fields() != batch.schema().fields() {
                    return Ok(None);
                }
                let failed = |error: arrow::error::ArrowError| ReadError::Parquet { path: path.clone(), source: error.into() };
                let Some(of) = integers(&batch, "episode_index") else { return Ok(None) };
                let mut numbers = of.clone();
                numbers.dedup();
                for number in numbers {
                    let mask: BooleanArray = of.iter().map(|of| Some(*of == number)).collect();
                    let rows = arrow::compute::filter_record_batch(&batch, &mask).map_err(failed)?;
                    let rows = match episodes.remove(&number) {
                        Some(before) => arrow::compute::concat_batches(&batch.schema(), [&before, &rows]).map_err(failed)?,
                        None => rows,
                    };
                    episodes.insert(number, rows);
                }
            }
        }
        let whole = source
            .episodes()
            .iter()
            .all(|episode| episodes.get(&episode.episode_index).is_none_or(|rows| rows.num_rows() as u64 == episode.length));
        if !whole {
            return Ok(None);
        }
        all.push(episodes);
    }
    Ok(Some(all))
}

impl SideTables {
    pub(super) fn open(root: &Path, assembly: &Assembly, sharing: Sharing) -> Result<Self, ToolError> {
        let sources = &assembly.sources;
        let lines = sources.iter().map(|source| notes(source.root())).collect::<Result<_, _>>()?;
        let keeps = assembly.others.keeps_ticks;
        let whole = if keeps { whole_files(assembly)? } else { None };
        Ok(Self {
            root: root.to_owned(),
            rows: if whole.is_some() || !keeps { None } else { read_all(sources)? },
            lines,
            new_rows: Vec::new(),
            new_lines: String::new(),
            whole: whole.unwrap_or_default(),
            source: sources[0].root().to_owned(),
            sharing,
        })
    }

    /// Adds the episode that a source calls `old` as episode `number` of the result.
    pub(super) fn append(&mut self, part: &Part, old: u64, number: u64, first_index: u64) -> Result<(), ToolError> {
        if let Some(line) = self.lines[part.source].get(&old) {
            let mut line = line.clone();
            line.insert("episode_index".to_owned(), Value::from(number));
            self.new_lines.push_str(&Value::Object(line).to_string());
            self.new_lines.push('\n');
        }
        let Some(rows) = self.rows.as_ref().and_then(|all| all[part.source].get(&old)) else { return Ok(()) };
        let rows = rows.slice(0, part.frames as usize);
        let schema = rows.schema();
        let columns = schema.fields().iter().zip(rows.columns()).map(|(field, column)| match field.name().as_str() {
            "index" => int64(first_index..first_index + part.frames),
            "episode_index" => int64((0..part.frames).map(|_| number)),
            _ => column.clone(),
        });
        let path = self.root.join(TICKS);
        let failed = |error: arrow::error::ArrowError| RecordError::Parquet { doing: "writing", path: path.clone(), source: error.into() };
        self.new_rows.push(RecordBatch::try_new(schema.clone(), columns.collect()).map_err(failed)?);
        Ok(())
    }

    pub(super) fn finish(self) -> Result<(), ToolError> {
        if !self.new_lines.is_empty() {
            let path = self.root.join(LOG);
            create_folder(&self.root.join("meta"))?;
            fs::write(&path, &self.new_lines).map_err(io_error("writing", &path))?;
        }
        for path in &self.whole {
            self.sharing.take(path, &self.root.join(path.strip_prefix(&self.source).unwrap_or(path)))?;
        }
        let Some(first) = self.new_rows.first() else { return Ok(()) };
        let path = self.root.join(crate::format::schema::FileIndex::default().table_path(TICKS));
        let mut writer = table_writer(&path, first)?;
        for rows in &self.new_rows {
            let failed = |source| RecordError::Parquet { doing: "writing", path: path.clone(), source };
            writer.write(rows).and_then(|()| writer.flush()).map_err(failed)?;
        }
        close(&path, writer)
    }
}
