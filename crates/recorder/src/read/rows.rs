//! The rows of episodes.

use std::ops::Range;
use std::path::Path;
use std::sync::PoisonError;

use arrow::array::RecordBatch;
use parquet::arrow::arrow_reader::ArrowReaderMetadata;

use super::{DatasetReader, recent::Recent};
use crate::ReadError;
use crate::format::arrays;
use crate::format::input;
use crate::format::parquet_read;

/// The footers of data files that were read last; one of a file of many row groups takes some MB.
pub(super) type Footers = Recent<String, ArrowReaderMetadata>;

/// Footers are kept up to so many bytes.
pub(super) const FOOTER_BYTES: usize = 32 << 20;

impl DatasetReader {
    fn footer(&self, relative: &str, path: &Path) -> Result<ArrowReaderMetadata, ReadError> {
        let mut footers = self.footers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(footer) = footers.get(relative) {
            return Ok(footer.clone());
        }
        let (_, footer) = parquet_read::footer(path)?;
        footers.insert(relative.to_owned(), footer.clone(), footer.metadata().memory_size());
        Ok(footer)
    }

    /// The rows of frames `frames` of an episode, all columns of the file.
    ///
    /// # Errors
    /// When the table can't be read, or does not have these rows of this episode at this place.
    pub fn rows(&self, episode: u64, frames: Range<u64>) -> Result<RecordBatch, ReadError> {
        self.columns(episode, frames, &|_| true)
    }

    /// The rows of frames `frames` of an episode, of the columns that are wanted, and `episode_index`.
    pub(super) fn columns(&self, episode: u64, frames: Range<u64>, wanted: &dyn Fn(&str) -> bool) -> Result<RecordBatch, ReadError> {
        let entry = self.episode(episode)?;
        let count = frames.end.saturating_sub(frames.start);
        if frames.end > entry.length || count == 0 {
            let what = format!("frames {frames:?} of episode {episode}, which has {}", entry.length);
            return Err(ReadError::Missing { root: self.root.clone(), what });
        }
        let path = self.file(&entry.data_path)?;
        let file = input::open(&path)?;
        let footer = self.footer(&entry.data_path, &path)?;
        let first = entry.rows_before.saturating_add(frames.start);
        let last = first.saturating_add(count);
        let there = footer.metadata().row_groups().iter().fold(0u64, |rows, group| rows.saturating_add(group.num_rows().max(0) as u64));
        let short = || {
            let what = format!("it has {there} rows, but frames {frames:?} of episode {episode} would be rows {first} to {last}");
            ReadError::Invalid { path: path.clone(), what }
        };
        if there < last {
            return Err(short());
        }
        let batches =
            parquet_read::read_rows(&path, file, footer, Some(first..last), Some(&|name| name == "episode_index" || wanted(name)))?;
        let schema = batches.first().map(RecordBatch::schema).ok_or_else(short)?;
        let batch = match batches.as_slice() {
            [batch] => batch.clone(),
            batches => parquet_read::guarded(&path, || Ok(arrow::compute::concat_batches(&schema, batches)?))?,
        };
        match arrays::integers(&batch, "episode_index") {
            Some(numbers) if numbers.len() as u64 != count => Err(short()),
            Some(numbers) if numbers.iter().all(|number| *number == entry.episode_index) => Ok(batch),
            Some(numbers) => {
                let other = numbers.iter().find(|number| **number != entry.episode_index);
                let what = format!("rows {first} to {last} are of episode {other:?}, expected {episode}");
                Err(ReadError::Invalid { path, what })
            }
            None => Err(ReadError::Invalid { path, what: "there is no usable column episode_index".to_owned() }),
        }
    }
}
