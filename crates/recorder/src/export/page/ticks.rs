//! The rows that Sinew keeps beside the data's, for one episode after another.

use std::collections::BTreeMap;

use arrow::array::RecordBatch;

use crate::format::arrays::{integers, numbers};
use crate::format::parquet_read::read_parquet;
use crate::format::schema::{FileIndex, TICKS};
use crate::{DatasetReader, ReadError};

/// A table of the page that is made of such columns, each times a factor.
pub(super) struct TickTable {
    pub(super) key: &'static str,
    pub(super) columns: Vec<String>,
    factor: f64,
}

/// Reads file by file and holds one of them, so episodes that are asked for in order are read once.
pub(super) struct Ticks<'a> {
    reader: &'a DatasetReader,
    next: FileIndex,
    ended: bool,
    rows: BTreeMap<u64, Vec<RecordBatch>>,
    pub(super) tables: Vec<TickTable>,
}

const SENT: &str = "sent_action";
const LATENESS: &str = "lateness_ns";
/// How old a camera's image was; its name follows.
pub(super) const AGE: &str = "age_ns.";
const COUNTS: [&str; 2] = ["limited_channels", "starved"];

impl<'a> Ticks<'a> {
    pub(super) fn open(reader: &'a DatasetReader) -> Result<Self, ReadError> {
        let mut ticks = Self { reader, next: FileIndex::default(), ended: false, rows: BTreeMap::new(), tables: Vec::new() };
        ticks.load()?;
        let Some(batch) = ticks.rows.values().flatten().next() else { return Ok(ticks) };
        let schema = batch.schema();
        let has = |name: &&str| schema.field_with_name(name).is_ok();
        let ages = schema.fields().iter().map(|field| field.name().clone()).filter(|name| name.starts_with(AGE));
        let late = [LATENESS].into_iter().filter(has).map(str::to_owned).chain(ages).collect();
        let named = |names: &[&str]| names.iter().copied().filter(|name| has(name)).map(str::to_owned).collect();
        let tables = [
            TickTable { key: "sent", columns: named(&[SENT]), factor: 1.0 },
            TickTable { key: "lateness", columns: late, factor: 1e-6 },
            TickTable { key: "gate", columns: named(&COUNTS), factor: 1.0 },
        ];
        ticks.tables = tables.into_iter().filter(|table| !table.columns.is_empty()).collect();
        Ok(ticks)
    }

    /// Holds the next file; says whether there was one.
    fn load(&mut self) -> Result<bool, ReadError> {
        let path = self.reader.file(&self.next.table_path(TICKS))?;
        if !path.exists() {
            self.ended = true;
            return Ok(false);
        }
        self.next = self.next.next(self.reader.info().chunks_size);
        self.rows.clear();
        let cameras: Vec<String> = self.reader.cameras().map(|key| format!("{AGE}{}", super::episode::short(key))).collect();
        let names = ["episode_index", SENT, LATENESS].into_iter().chain(COUNTS).chain(cameras.iter().map(String::as_str));
        for batch in read_parquet(&path, &names.collect::<Vec<_>>())? {
            let episodes = integers(&batch, "episode_index").unwrap_or_default();
            let mut first = 0;
            for run in episodes.chunk_by(|a, b| a == b) {
                self.rows.entry(run[0]).or_default().push(batch.slice(first, run.len()));
                first += run.len();
            }
        }
        Ok(true)
    }

    /// The values of each table in `length` rows of an episode, row by row; `None` where it has none.
    pub(super) fn of(&mut self, episode: u64, length: u64) -> Result<Vec<Option<Vec<f32>>>, ReadError> {
        if self.rows.keys().next().is_some_and(|first| episode < *first) {
            (self.next, self.ended) = (FileIndex::default(), false);
            self.rows.clear();
        }
        while !self.rows.contains_key(&episode) && !self.ended && self.load()? {}
        let batches = self.rows.get(&episode).map_or(&[][..], Vec::as_slice);
        Ok(self.tables.iter().map(|table| values(table, batches, length as usize)).collect())
    }
}

fn values(table: &TickTable, batches: &[RecordBatch], length: usize) -> Option<Vec<f32>> {
    let mut all = Vec::new();
    for batch in batches {
        let columns = table.columns.iter().map(|name| numbers(batch.column_by_name(name)?));
        let columns: Vec<(Vec<f64>, usize)> = columns.collect::<Option<_>>()?;
        for row in 0..batch.num_rows() {
            let row = columns.iter().flat_map(|(values, width)| values.get(row * width..(row + 1) * width).unwrap_or_default());
            all.extend(row.map(|value| (value * table.factor) as f32));
        }
    }
    let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
    (rows == length && rows > 0).then_some(all)
}
