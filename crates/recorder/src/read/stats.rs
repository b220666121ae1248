//! The statistics of episodes, one at a time: those of a large dataset take gigabytes together.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};

use arrow::array::{Array, RecordBatch};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Map, Value};

use super::DatasetReader;
use crate::ReadError;
use crate::format::arrays::to_json;
use crate::format::info::parquet_files;
use crate::format::input;
use crate::format::json;
use crate::format::layout::Version;
use crate::format::parquet_read::{footer, read_rows};
use crate::format::schema::EPISODES;
use crate::format::stats::KEYS;

/// Statistics of each episode by feature, which are read when they are asked for.
pub struct EpisodeStats {
    source: Source,
}

enum Source {
    /// v2.1: a line of JSON for each.
    Lines {
        path: PathBuf,
        file: File,
        /// Where the line of each episode is, in their order.
        lines: Vec<(u64, Range<u64>)>,
    },
    /// v3.0: columns of the table of episodes.
    Tables {
        features: Vec<String>,
        /// Each with the rows before its end.
        files: Vec<(PathBuf, u64)>,
        /// Those that were read last.
        rows: Range<u64>,
        batch: Option<RecordBatch>,
    },
}

/// So many rows of the table are read at once.
const ROWS_AT_ONCE: u64 = 64;

impl DatasetReader {
    /// Statistics of each episode by feature; `None` when this version keeps none.
    ///
    /// # Errors
    /// When the tables cannot be read.
    pub fn episode_stats(&self) -> Result<Option<EpisodeStats>, ReadError> {
        let root = self.root();
        let source = match self.version() {
            Version::V20 => return Ok(None),
            Version::V21 => {
                let path = root.join("meta/episodes_stats.jsonl");
                if !path.exists() {
                    return Ok(None);
                }
                let (file, lines) = find_lines(&path)?;
                Source::Lines { path, file, lines }
            }
            Version::V30 => {
                let (mut files, mut end) = (Vec::new(), 0);
                let tables = if self.episodes().is_empty() { Vec::new() } else { parquet_files(&root.join(EPISODES))? };
                for path in tables {
                    let rows = footer(&path)?.1.metadata().file_metadata().num_rows();
                    end += u64::try_from(rows).unwrap_or(0);
                    files.push((path, end));
                }
                Source::Tables { features: self.features().keys().cloned().collect(), files, rows: 0..0, batch: None }
            }
        };
        Ok(Some(EpisodeStats { source }))
    }
}

impl EpisodeStats {
    /// Those of an episode, as stats.json has them; `None` when there are none.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn of(&mut self, episode: u64) -> Result<Option<Map<String, Value>>, ReadError> {
        match &mut self.source {
            Source::Lines { path, file, lines } => match lines.binary_search_by_key(&episode, |(episode, _)| *episode) {
                Ok(at) => of_line(path, file, lines[at].1.clone()).map(Some),
                Err(_) => Ok(None),
            },
            Source::Tables { features, files, rows, batch } => {
                if !rows.contains(&episode) {
                    let Some(at) = files.iter().position(|(_, end)| episode < *end) else { return Ok(None) };
                    let before = at.checked_sub(1).and_then(|at| files.get(at)).map_or(0, |(_, end)| *end);
                    let (path, end) = &files[at];
                    *rows = episode..end.min(&(episode + ROWS_AT_ONCE)).to_owned();
                    *batch = Some(read_table(path, features, rows.start - before..rows.end - before)?);
                }
                Ok(batch.as_ref().map(|batch| of_row(batch, features, (episode - rows.start) as usize)))
            }
        }
    }
}

fn find_lines(path: &Path) -> Result<(File, Vec<(u64, Range<u64>)>), ReadError> {
    #[derive(Deserialize)]
    struct Line {
        episode_index: u64,
        #[serde(rename = "stats")]
        _stats: IgnoredAny,
    }
    let failed = |source| ReadError::Io { path: path.to_owned(), source };
    let file = input::open(path)?;
    let mut reader = BufReader::new(&file);
    let (mut text, mut at, mut lines) = (Vec::new(), 0, Vec::new());
    loop {
        text.clear();
        let bytes = reader.read_until(b'\n', &mut text).map_err(failed)? as u64;
        if bytes == 0 {
            break;
        }
        if !text.trim_ascii().is_empty() {
            let line: Line = json::line(path, &text)?;
            lines.push((line.episode_index, at..at + bytes));
        }
        at += bytes;
    }
    lines.sort_by_key(|(episode, _)| *episode);
    Ok((file, lines))
}

fn of_line(path: &Path, file: &mut File, line: Range<u64>) -> Result<Map<String, Value>, ReadError> {
    #[derive(Deserialize)]
    struct Line {
        stats: Map<String, Value>,
    }
    let mut text = vec![0; (line.end - line.start) as usize];
    let read: io::Result<()> = file.seek(SeekFrom::Start(line.start)).and_then(|_| file.read_exact(&mut text));
    read.map_err(|source| ReadError::Io { path: path.to_owned(), source })?;
    let line: Line = json::line(path, &text)?;
    Ok(line.stats)
}

fn column(feature: &str, key: &str) -> String {
    format!("stats/{feature}/{key}")
}

fn read_table(path: &Path, features: &[String], rows: Range<u64>) -> Result<RecordBatch, ReadError> {
    let names: Vec<String> = features.iter().flat_map(|feature| KEYS.map(|key| column(feature, key))).collect();
    let (file, footer) = footer(path)?;
    let wanted = |name: &str| name.starts_with("stats/") && names.iter().any(|wanted| wanted == name);
    let (count, batches) = (rows.end - rows.start, read_rows(path, file, footer, Some(rows), Some(&wanted))?);
    match batches.as_slice() {
        [batch] if batch.num_rows() as u64 == count => Ok(batch.clone()),
        batches => {
            let found: usize = batches.iter().map(RecordBatch::num_rows).sum();
            let what = format!("{found} of {count} rows came back");
            Err(ReadError::Invalid { path: path.to_owned(), what })
        }
    }
}

fn of_row(batch: &RecordBatch, features: &[String], row: usize) -> Map<String, Value> {
    let mut episode = Map::new();
    for feature in features {
        let values = KEYS.iter().filter_map(|key| {
            let column = batch.column_by_name(&column(feature, key))?;
            column.is_valid(row).then(|| ((*key).to_owned(), to_json(&column.slice(row, 1)).pop().unwrap_or(Value::Null)))
        });
        let values: Map<String, Value> = values.collect();
        if !values.is_empty() {
            episode.insert(feature.clone(), Value::Object(values));
        }
    }
    episode
}
