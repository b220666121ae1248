//! The rows of episodes.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::PoisonError;

use arrow::array::RecordBatch;
use parquet::arrow::arrow_reader::ArrowReaderMetadata;

use super::{DatasetReader, recent::Recent};
use crate::ReadError;
use crate::format::arrays;
use crate::format::input::Input;
use crate::format::parquet_read;

/// The footers of data files that were read last; one of a file of many row groups takes some MB.
pub(super) type Footers = Recent<String, ArrowReaderMetadata>;

/// A row group is read again and again, for a few rows each time, as it can't be read from its middle. One of more
/// bytes, with images in it, comes with its whole file.
const MOST_STREAMED_BYTES: u64 = 48 << 20;

/// Footers are kept up to so many bytes.
pub(super) const FOOTER_BYTES: usize = 32 << 20;

impl DatasetReader {
    fn footer(&self, relative: &str, path: &Path, file: &Input) -> Result<ArrowReaderMetadata, ReadError> {
        let mut footers = self.footers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(footer) = footers.get(relative) {
            return Ok(footer.clone());
        }
        if file.is_elsewhere() {
            self.expect_footer(relative, file);
        }
        let footer = parquet_read::footer_of(path, file)?;
        footers.insert(relative.to_owned(), footer.clone(), footer.metadata().memory_size());
        Ok(footer)
    }

    /// The table `relative` with its footer. Where it lies elsewhere, `rows` of the columns that are wanted are under way.
    fn table(
        &self,
        relative: &str,
        rows: &Range<u64>,
        wanted: &dyn Fn(&str) -> bool,
    ) -> Result<(PathBuf, Input, ArrowReaderMetadata), ReadError> {
        let path = self.root.join(relative);
        if let Some(input) = self.elsewhere(relative)? {
            let footer = self.footer(relative, &path, &input)?;
            let places = parquet_read::places(&footer, rows, wanted);
            let bytes = places.iter().fold(0u64, |bytes, place| bytes.saturating_add(place.end - place.start));
            if bytes <= MOST_STREAMED_BYTES {
                input.expect(&places, true);
                return Ok((path, input, footer));
            }
        }
        let path = self.file(relative)?;
        let input = Input::open(&path)?;
        let footer = self.footer(relative, &path, &input)?;
        Ok((path, input, footer))
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
        let first = entry.rows_before.saturating_add(frames.start);
        let last = first.saturating_add(count);
        let wanted = |name: &str| name == "episode_index" || wanted(name);
        let (path, file, footer) = self.table(&entry.data_path, &(first..last), &wanted)?;
        let there = footer.metadata().row_groups().iter().fold(0u64, |rows, group| rows.saturating_add(group.num_rows().max(0) as u64));
        let short = || {
            let what = format!("it has {there} rows, but frames {frames:?} of episode {episode} would be rows {first} to {last}");
            ReadError::Invalid { path: path.clone(), what }
        };
        if there < last {
            return Err(short());
        }
        let batches = parquet_read::read_rows(&path, file, footer, Some(first..last), Some(&wanted))?;
        let schema = batches.first().map(RecordBatch::schema).ok_or_else(short)?;
        let batch = match batches.as_slice() {
            [batch] => batch.clone(),
            batches => parquet_read::guarded(&path, || Ok(arrow::compute::concat_batches(&schema, batches)?))?,
        };
        match arrays::integers(&batch, "episode_index") {
            Some(numbers) if numbers.len() as u64 != count => Err(short()),
            Some(numbers) => match numbers.iter().find(|number| **number != entry.episode_index) {
                None => Ok(batch),
                Some(other) => {
                    let what = format!("rows {first} to {last} are of episode {other}, expected {episode}");
                    Err(ReadError::Invalid { path, what })
                }
            },
            None => Err(ReadError::Invalid { path, what: "there is no usable column episode_index".to_owned() }),
        }
    }
}
