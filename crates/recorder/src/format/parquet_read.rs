//! Reads parquet files, whatever their bytes.

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use arrow::array::RecordBatch;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
use parquet::errors::ParquetError;

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

/// The file at `path` and its footer. Columns have the types that parquet itself gives them: what its writer
/// had them in (dictionaries, views, large or fixed-size lists) makes no difference to what they hold.
///
/// # Errors
/// When it can't be read or has none.
pub(crate) fn footer(path: &Path) -> Result<(File, ArrowReaderMetadata), ReadError> {
    let file = File::open(path).map_err(|source| ReadError::Io { path: path.to_owned(), source })?;
    let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
    let footer = guarded(path, || ArrowReaderMetadata::load(&file, options))?;
    Ok((file, footer))
}

/// The named columns of the file at `path`, those that it has.
///
/// # Errors
/// When it can't be read.
pub(crate) fn read_parquet(path: &Path, columns: &[&str]) -> Result<Vec<RecordBatch>, ReadError> {
    read(path, Some(columns))
}

/// All columns of the file at `path`.
///
/// # Errors
/// When it can't be read.
pub(crate) fn read_whole(path: &Path) -> Result<Vec<RecordBatch>, ReadError> {
    read(path, None)
}

fn read(path: &Path, columns: Option<&[&str]>) -> Result<Vec<RecordBatch>, ReadError> {
    let (file, footer) = footer(path)?;
    guarded(path, || {
        let mut builder = ParquetRecordBatchReaderBuilder::new_with_metadata(file, footer);
        if let Some(columns) = columns {
            let roots = builder.parquet_schema().root_schema().get_fields().iter().enumerate();
            let wanted = roots.filter(|(_, field)| columns.contains(&field.name())).map(|(at, _)| at);
            let mask = ProjectionMask::roots(builder.parquet_schema(), wanted);
            builder = builder.with_projection(mask);
        }
        Ok(builder.build()?.collect::<Result<_, _>>()?)
    })
}
