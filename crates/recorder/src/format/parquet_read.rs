//! Reads parquet files, whatever their bytes.

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use arrow::array::{RecordBatch, RecordBatchReader};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder, RowSelection, RowSelector};
use parquet::errors::ParquetError;
use parquet::file::metadata::ParquetStatisticsPolicy;

use super::input::Input;
use super::parquet_bounds::{check_footer, check_pages, most_bytes, place};
use crate::ReadError;

/// What `read` answers, which reads the file at `path`. Of some damaged pages the parquet crate panics
/// (58.4: `Decoder for dict should have been set`); that is an error like any other here.
///
/// # Errors
/// Those of `read`, and its panics.
pub(crate) fn guarded<T>(path: &Path, read: impl FnOnce() -> Result<T, ParquetError>) -> Result<T, ReadError> {
    let result = catch_unwind(AssertUnwindSafe(read)).unwrap_or_else(|panic| {
        let what = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
        Err(ParquetError::General(format!("its pages make no sense: {}", what.unwrap_or("the reader gave up"))))
    });
    result.map_err(|source| ReadError::Parquet { path: path.to_owned(), source })
}

/// The file at `path` and its footer, without the statistics of columns, which are most of it. Columns have the types
/// that parquet itself gives them: what its writer had them in (dictionaries, views, large or fixed-size lists)
/// makes no difference to what they hold.
///
/// # Errors
/// When it can't be read or has none.
pub(crate) fn footer(path: &Path) -> Result<(Input, ArrowReaderMetadata), ReadError> {
    let file = Input::open(path)?;
    let footer = footer_of(path, &file)?;
    Ok((file, footer))
}

/// The footer of `file`, which is the one at `path`; as [`footer`].
///
/// # Errors
/// As [`footer`].
pub(crate) fn footer_of(path: &Path, file: &Input) -> Result<ArrowReaderMetadata, ReadError> {
    let failed = |source| ReadError::Io { path: path.to_owned(), source };
    if let Some(bytes) = footer_bytes(file).map_err(failed)? {
        check_footer(&bytes).map_err(|what| ReadError::Invalid { path: path.to_owned(), what })?;
    }
    let options = ArrowReaderOptions::new()
        .with_skip_arrow_metadata(true)
        .with_column_stats_policy(ParquetStatisticsPolicy::SkipAll)
        .with_encoding_stats_policy(ParquetStatisticsPolicy::SkipAll)
        .with_size_stats_policy(ParquetStatisticsPolicy::SkipAll);
    guarded(path, || ArrowReaderMetadata::load(file, options))
}

/// Of the largest tables it has some MB.
const LARGEST_FOOTER_BYTES: u64 = 64 << 20;

/// The bytes before the length of the footer and the format's mark; `None` where the file has no room for
/// them, which the parquet crate has better words for.
fn footer_bytes(file: &Input) -> std::io::Result<Option<Vec<u8>>> {
    let length = file.size_bytes()?;
    let Some(end) = length.checked_sub(8) else { return Ok(None) };
    let mut tail = [0; 8];
    file.read_exact_at(end, &mut tail)?;
    let [a, b, c, d, ..] = tail;
    let bytes = u64::from(u32::from_le_bytes([a, b, c, d]));
    let Some(start) = end.checked_sub(bytes).filter(|_| tail.ends_with(b"PAR1")) else { return Ok(None) };
    if bytes > LARGEST_FOOTER_BYTES {
        return Err(std::io::Error::other(format!("its footer has {bytes} bytes, expected at most {LARGEST_FOOTER_BYTES}")));
    }
    let mut footer = vec![0; bytes as usize];
    file.read_exact_at(start, &mut footer)?;
    Ok(Some(footer))
}

/// The named columns of the file at `path`, those that it has.
///
/// # Errors
/// When it can't be read.
pub(crate) fn read_parquet(path: &Path, columns: &[&str]) -> Result<Vec<RecordBatch>, ReadError> {
    let (file, footer) = footer(path)?;
    read_rows(path, file, footer, None, Some(&|name| columns.contains(&name)))
}

/// All columns of the file at `path`.
///
/// # Errors
/// When it can't be read.
pub(crate) fn read_whole(path: &Path) -> Result<Vec<RecordBatch>, ReadError> {
    let (file, footer) = footer(path)?;
    read_rows(path, file, footer, None, None)
}

fn mask(footer: &ArrowReaderMetadata, wanted: Option<&dyn Fn(&str) -> bool>) -> ProjectionMask {
    let descriptor = footer.metadata().file_metadata().schema_descr();
    let Some(wanted) = wanted else { return ProjectionMask::all() };
    let roots = descriptor.root_schema().get_fields().iter().enumerate();
    ProjectionMask::roots(descriptor, roots.filter(|(_, field)| wanted(field.name())).map(|(at, _)| at))
}

/// The row groups that hold `rows`, or all; and the rows before the first of them.
fn groups(footer: &ArrowReaderMetadata, rows: Option<&Range<u64>>) -> (Vec<usize>, Option<u64>) {
    let (mut groups, mut before, mut skip) = (Vec::new(), 0u64, None);
    for (at, group) in footer.metadata().row_groups().iter().enumerate() {
        let after = before.saturating_add(group.num_rows().max(0) as u64);
        if rows.is_none_or(|rows| before < rows.end && after > rows.start) {
            groups.push(at);
            skip.get_or_insert(before);
        }
        before = after;
    }
    (groups, skip)
}

/// Where the wanted columns are in the row groups that hold `rows`.
pub(crate) fn places(footer: &ArrowReaderMetadata, rows: &Range<u64>, wanted: &dyn Fn(&str) -> bool) -> Vec<Range<u64>> {
    let (mask, metadata) = (mask(footer, Some(wanted)), footer.metadata());
    let groups = groups(footer, Some(rows)).0.into_iter().filter_map(|at| metadata.row_groups().get(at));
    let columns = groups.flat_map(|group| group.columns().iter().enumerate());
    // One that is nowhere is told when it is read.
    columns.filter(|(leaf, _)| mask.leaf_included(*leaf)).filter_map(|(_, column)| place(column).ok()).collect()
}

/// The rows `rows` of a file, those that it has, or all; the columns that are wanted, or all. There is a
/// batch at least, be it an empty one, where rows are named.
///
/// # Errors
/// When it can't be read, or would take far more memory than the file has bytes.
pub(crate) fn read_rows(
    path: &Path,
    file: Input,
    footer: ArrowReaderMetadata,
    rows: Option<Range<u64>>,
    wanted: Option<&dyn Fn(&str) -> bool>,
) -> Result<Vec<RecordBatch>, ReadError> {
    let metadata = footer.metadata().clone();
    let mask = mask(&footer, wanted);
    // Only the row groups that hold the rows, and in them only the rows.
    let (groups, skip) = groups(&footer, rows.as_ref());
    let invalid = |what| ReadError::Invalid { path: path.to_owned(), what };
    let at_once = check_pages(&file, &metadata, &groups, &|leaf| mask.leaf_included(leaf)).map_err(invalid)?;
    let most = most_bytes(file.size_bytes().map_err(|source| ReadError::Io { path: path.to_owned(), source })?);
    guarded(path, || {
        let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(file, footer).with_projection(mask).with_row_groups(groups);
        let reader = match &rows {
            Some(rows) => {
                let count = rows.end.saturating_sub(rows.start);
                let skipped = rows.start.saturating_sub(skip.unwrap_or(rows.start));
                let selection = vec![RowSelector::skip(skipped as usize), RowSelector::select(count as usize)];
                builder.with_row_selection(RowSelection::from(selection)).with_batch_size(at_once.min(count.max(1) as usize)).build()?
            }
            None => builder.with_batch_size(at_once.min(4096)).build()?,
        };
        let (schema, mut bytes, mut batches) = (reader.schema(), 0, Vec::new());
        for batch in reader {
            let batch = batch?;
            bytes += batch.get_array_memory_size() as u64;
            if bytes > most {
                let what = format!("its rows take more than {} MB in memory, which is too much for its size", most >> 20);
                return Err(ParquetError::General(what));
            }
            batches.push(batch);
        }
        if batches.is_empty() && rows.is_some() {
            batches.push(RecordBatch::new_empty(schema));
        }
        Ok(batches)
    })
}
