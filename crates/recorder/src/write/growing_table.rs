//! A parquet file that grows by one row group an episode.
//!
//! A parquet file ends with its index, so it can't grow in place without being unreadable for a while.
//! It has a twin: the file as it was one commit ago, which nobody reads. The twin gets what it lacks
//! (the last episode, and this one) and takes the file's place by a rename; the file becomes the twin.
//! So each episode is written twice, and none of those before is copied. Where the twin can't be kept
//! (a file system without hard links, a session that begins), the file is copied.

use std::path::Path;

use bytes::Bytes;
use parquet::errors::ParquetError;
use parquet::file::metadata::{FileMetaData, ParquetMetaData, ParquetMetaDataReader, ParquetMetaDataWriter, RowGroupMetaData};

use crate::RecordError;
use crate::format::schema::FileIndex;
use crate::write::files::{Change, OutFile, Staging};

/// How a parquet file begins.
const MAGIC: &[u8; 4] = b"PAR1";

/// The files of a table.
#[derive(Clone, Debug)]
pub(crate) struct GrowingTable {
    tree: &'static str,
    pub(crate) index: FileIndex,
    /// The file that may be added to.
    current: Option<TableFile>,
}

#[derive(Clone, Debug)]
struct TableFile {
    groups: Vec<RowGroupMetaData>,
    /// Bytes before the index, and how many they were one commit ago.
    end: u64,
    end_before: u64,
}

impl GrowingTable {
    pub(crate) fn new(tree: &'static str, index: FileIndex) -> Self {
        Self { tree, index, current: None }
    }

    /// Stages the file with the row groups of `episode`, a whole parquet file, added to it.
    pub(crate) fn append(
        &mut self,
        root: &Path,
        staging: &mut Staging,
        episode: Vec<u8>,
        (limit_bytes, chunks_size): (u64, u64),
    ) -> Result<Change, RecordError> {
        if self.current.as_ref().is_some_and(|file| file.end + episode.len() as u64 >= limit_bytes) {
            self.current = None;
            self.index = self.index.next(chunks_size);
        }
        let path = self.index.table_path(self.tree);
        let failed = |source| RecordError::Parquet { doing: "writing", path: root.join(&path), source };
        let episode = Bytes::from(episode);
        let metadata = ParquetMetaDataReader::new().parse_and_finish(&episode).map_err(failed)?;
        let rows = row_bytes(&episode).ok_or_else(|| failed(ParquetError::EOF("the index is cut short".to_owned())))?;

        let file = self.current.take().unwrap_or(TableFile { groups: Vec::new(), end: MAGIC.len() as u64, end_before: 0 });
        let mut out = match staging.stage_twin(&path)? {
            Some(twin) => {
                let mut out = OutFile::open(&twin)?;
                out.set_len(file.end_before)?;
                out.write_at(file.end_before, &[])?;
                out.copy_from(&root.join(&path), file.end_before, file.end)?;
                out
            }
            None => {
                let mut out = OutFile::create(&staging.path(&path)?)?;
                if file.groups.is_empty() {
                    out.append(MAGIC)?;
                } else {
                    out.copy_from(&root.join(&path), 0, file.end)?;
                }
                out
            }
        };
        out.append(rows)?;
        let shift = file.end as i64 - MAGIC.len() as i64;
        let mut groups = file.groups;
        for group in metadata.row_groups() {
            groups.push(moved(group, shift, groups.len()).map_err(failed)?);
        }
        let of_file = metadata.file_metadata();
        let of_file = FileMetaData::new(
            of_file.version(),
            groups.iter().map(RowGroupMetaData::num_rows).sum(),
            of_file.created_by().map(str::to_owned),
            of_file.key_value_metadata().cloned(),
            of_file.schema_descr_ptr(),
            of_file.column_orders().cloned(),
        );
        let mut index = Vec::new();
        ParquetMetaDataWriter::new(&mut index, &ParquetMetaData::new(of_file, groups.clone())).finish().map_err(failed)?;
        out.append(&index)?;
        out.sync()?;
        self.current = Some(TableFile { groups, end: file.end + rows.len() as u64, end_before: file.end });
        Ok(Change::Move { path })
    }
}

/// What is between the magic number and the index.
fn row_bytes(file: &Bytes) -> Option<&[u8]> {
    let (body, tail) = file.split_at_checked(file.len().checked_sub(8)?)?;
    let index = u32::from_le_bytes(*tail.first_chunk()?) as usize;
    body.get(MAGIC.len()..body.len().checked_sub(index)?)
}

/// A row group whose bytes lie `shift` further on.
fn moved(group: &RowGroupMetaData, shift: i64, ordinal: usize) -> Result<RowGroupMetaData, ParquetError> {
    let columns = group.columns().iter().map(|column| {
        let (data, dictionary) = (column.data_page_offset(), column.dictionary_page_offset());
        let builder = column.clone().into_builder().set_data_page_offset(data + shift);
        builder.set_dictionary_page_offset(dictionary.map(|at| at + shift)).build()
    });
    let columns = columns.collect::<Result<Vec<_>, _>>()?;
    let offset = group.file_offset().map(|at| at + shift);
    let builder = group.clone().into_builder().set_column_metadata(columns).set_ordinal(ordinal as i16);
    if let Some(offset) = offset { builder.set_file_offset(offset).build() } else { builder.build() }
}
