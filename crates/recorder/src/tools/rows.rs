//! The tables of rows of a result.

use std::fs::File;
use std::path::{Path, PathBuf};

use arrow::array::{Array, ArrayRef, RecordBatch};
use arrow::datatypes::DataType;
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;

use super::ToolError;
use super::keep::Sharing;
use crate::commit::{create_folder, io_error};
use crate::format::cast::flattened;
use crate::format::schema::{DATA, FileIndex, data_path_21};
use crate::{RecordError, Version};

/// Writes files of rows, a row group an episode.
pub(super) struct RowsWriter {
    root: PathBuf,
    version: Version,
    chunks_size: u64,
    limit_bytes: u64,
    index: FileIndex,
    episodes: u64,
    open: Option<(PathBuf, ArrowWriter<File>)>,
}

impl RowsWriter {
    pub(super) fn new(root: &Path, version: Version, chunks_size: u64, limit_bytes: u64) -> Self {
        Self { root: root.to_owned(), version, chunks_size, limit_bytes, index: FileIndex::default(), episodes: 0, open: None }
    }

    /// Where the next episode's rows go.
    fn path(&self) -> PathBuf {
        self.root.join(match self.version {
            Version::V30 => self.index.table_path(DATA),
            _ => data_path_21(self.episodes, self.chunks_size),
        })
    }

    /// Appends an episode, and says in which file it is.
    pub(super) fn append(&mut self, rows: &RecordBatch) -> Result<FileIndex, ToolError> {
        let (path, mut writer) = match self.open.take() {
            Some(open) => open,
            None => {
                let path = self.path();
                (path.clone(), table_writer(&path, rows)?)
            }
        };
        let failed = |source| RecordError::Parquet { doing: "writing", path: path.clone(), source };
        writer.write(rows).and_then(|()| writer.flush()).map_err(failed)?;
        self.episodes += 1;
        let index = self.index;
        if self.version != Version::V30 || writer.bytes_written() as u64 >= self.limit_bytes {
            close(&path, writer)?;
            self.index = self.index.next(self.chunks_size);
        } else {
            self.open = Some((path, writer));
        }
        Ok(index)
    }

    /// Appends a file of so many episodes as it is, and says which it is.
    pub(super) fn take_over(&mut self, file: &Path, episodes: usize, sharing: Sharing) -> Result<FileIndex, ToolError> {
        if let Some((path, writer)) = self.open.take() {
            close(&path, writer)?;
            self.index = self.index.next(self.chunks_size);
        }
        sharing.take(file, &self.path())?;
        let index = self.index;
        self.episodes += episodes as u64;
        self.index = self.index.next(self.chunks_size);
        Ok(index)
    }

    pub(super) fn finish(&mut self) -> Result<(), ToolError> {
        self.open.take().map_or(Ok(()), |(path, writer)| close(&path, writer))
    }
}

/// Whether a column of the result says the same as that of its source, in the same types.
pub(super) fn is_same(source: Option<&ArrayRef>, result: &ArrayRef) -> bool {
    let Some(source) = source else { return false };
    // A table has lists of one kind only, whatever they are read as; their elements may be called otherwise.
    let is_list = |array: &ArrayRef| matches!(array.data_type(), DataType::List(_) | DataType::FixedSizeList(..));
    let same_kind = source.data_type().equals_datatype(result.data_type()) || (is_list(source) && is_list(result));
    if source.len() != result.len() || !same_kind {
        return false;
    }
    source == result || matches!((flattened(source), flattened(result)), (Ok(one), Ok(other)) if *one == *other)
}

/// A parquet file at `path` with the columns and metadata of `rows`.
pub(crate) fn table_writer(path: &Path, rows: &RecordBatch) -> Result<ArrowWriter<File>, ToolError> {
    if let Some(parent) = path.parent() {
        create_folder(parent)?;
    }
    let metadata = rows.schema().metadata().iter().map(|(key, value)| KeyValue::new(key.clone(), value.clone())).collect();
    let properties = WriterProperties::builder()
        .set_compression(Compression::SNAPPY)
        .set_max_row_group_row_count(None)
        .set_key_value_metadata(Some(metadata))
        .build();
    let file = File::create(path).map_err(io_error("creating", path))?;
    let failed = |source| RecordError::Parquet { doing: "writing", path: path.to_owned(), source };
    Ok(ArrowWriter::try_new(file, rows.schema(), Some(properties)).map_err(failed)?)
}

pub(crate) fn close(path: &Path, writer: ArrowWriter<File>) -> Result<(), ToolError> {
    let failed = |source| RecordError::Parquet { doing: "writing", path: path.to_owned(), source };
    let file = writer.into_inner().map_err(failed)?;
    Ok(file.sync_all().map_err(io_error("writing", path))?)
}
