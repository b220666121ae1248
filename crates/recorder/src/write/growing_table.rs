//! Files that grow by an episode at a time: tables, by one row group, and lists of lines.
//!
//! A parquet file ends with its index, so it can't grow in place without being unreadable for a while, and a reader
//! of lines may come between two halves of one. Such a file has a twin: the file as it was one commit ago, which
//! nobody reads. The twin gets what it lacks (the last episode, and this one) and takes the file's place by a rename;
//! the file becomes the twin. So each episode is written twice, and none of those before is copied. Where the twin
//! can't be kept (a file system that can't exchange files, a session that begins), the file is copied.
//!
//! A table's index is written anew with each episode, so a file takes no more episodes once its index has come to
//! [`LARGEST_INDEX_BYTES`].

use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use bytes::Bytes;
use parquet::errors::ParquetError;
use parquet::file::metadata::{FileMetaData, ParquetMetaData, ParquetMetaDataReader, ParquetMetaDataWriter, RowGroupMetaData};

use crate::RecordError;
use crate::commit::{Change, OutFile, Staging, io_error};
use crate::format::schema::FileIndex;

/// How a parquet file begins.
const MAGIC: &[u8; 4] = b"PAR1";
/// The index of a table's file; of a robot's with two cameras it is some 2 kB an episode.
const LARGEST_INDEX_BYTES: u64 = 64 << 10;

/// A file that grows, as far as it is known.
#[derive(Clone, Copy, Debug)]
struct Grown {
    /// Bytes that stay as they are, and how many they were one commit ago.
    end: u64,
    end_before: u64,
}

impl Grown {
    /// A staged file that holds what `relative` has up to its end, to be appended to.
    fn stage(self, root: &Path, staging: &mut Staging, relative: &str) -> Result<OutFile, RecordError> {
        let (mut out, is_twin) = staging.stage_growing(relative)?;
        let from = if is_twin { self.end_before } else { 0 };
        if is_twin {
            out.set_len(from)?;
            out.write_at(from, &[])?;
        }
        if from < self.end {
            out.copy_from(&root.join(relative), from, self.end)?;
        }
        Ok(out)
    }

    /// After `bytes` more.
    fn by(self, bytes: u64) -> Self {
        Self { end: self.end + bytes, end_before: self.end }
    }
}

/// A file of lines.
#[derive(Clone, Debug)]
pub(crate) struct GrowingLines {
    path: &'static str,
    grown: Grown,
    /// Whether the last line has no end; somebody else wrote it.
    is_open: bool,
}

impl GrowingLines {
    /// One that is not there yet.
    pub(crate) fn new(path: &'static str) -> Self {
        Self { path, grown: Grown { end: 0, end_before: 0 }, is_open: false }
    }

    /// What there is of it in the dataset `root`, if anything.
    pub(crate) fn open(root: &Path, path: &'static str) -> Result<Self, RecordError> {
        let at = root.join(path);
        if !at.exists() {
            return Ok(Self::new(path));
        }
        let last = || {
            let mut file = std::fs::File::open(&at)?;
            let end = file.seek(SeekFrom::End(0))?;
            let mut last = [b'\n'];
            if end > 0 {
                file.seek(SeekFrom::End(-1))?;
                file.read_exact(&mut last)?;
            }
            Ok((end, last != [b'\n']))
        };
        let (end, is_open) = last().map_err(io_error("reading", &at))?;
        Ok(Self { path, grown: Grown { end, end_before: 0 }, is_open })
    }

    /// Stages the file with `lines` added, each with its end.
    pub(crate) fn append(&mut self, root: &Path, staging: &mut Staging, lines: &str) -> Result<Change, RecordError> {
        let mut staged = self.grown.stage(root, staging, self.path)?;
        let end = if std::mem::take(&mut self.is_open) { "\n" } else { "" };
        staged.append(format!("{end}{lines}").as_bytes())?;
        self.grown = self.grown.by((end.len() + lines.len()) as u64);
        Ok(Change::Put { path: self.path.to_owned(), staged })
    }
}

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
    /// But for the index.
    grown: Grown,
    index_bytes: u64,
    episodes: u64,
}

impl TableFile {
    fn is_full(&self, episode_bytes: u64, limit_bytes: u64, limit_episodes: u64) -> bool {
        self.episodes >= limit_episodes
            || self.index_bytes >= LARGEST_INDEX_BYTES
            || self.grown.end + self.index_bytes + episode_bytes >= limit_bytes
    }
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
        (limit_bytes, limit_episodes, chunks_size): (u64, u64, u64),
    ) -> Result<Change, RecordError> {
        if self.current.as_ref().is_some_and(|file| file.is_full(episode.len() as u64, limit_bytes, limit_episodes)) {
            staging.forget_twin(&self.index.table_path(self.tree));
            self.current = None;
            self.index = self.index.next(chunks_size);
        }
        let path = self.index.table_path(self.tree);
        let failed = |source| RecordError::Parquet { doing: "writing", path: root.join(&path), source };
        let episode = Bytes::from(episode);
        let metadata = ParquetMetaDataReader::new().parse_and_finish(&episode).map_err(failed)?;
        let rows = row_bytes(&episode).ok_or_else(|| failed(ParquetError::EOF("the index is cut short".to_owned())))?;

        let begins = Grown { end: 0, end_before: 0 };
        let TableFile { mut groups, mut grown, episodes, .. } =
            self.current.take().unwrap_or(TableFile { groups: Vec::new(), grown: begins, index_bytes: 0, episodes: 0 });
        let mut staged = grown.stage(root, staging, &path)?;
        if grown.end == 0 {
            staged.append(MAGIC)?;
            grown.end = MAGIC.len() as u64;
        }
        staged.append(rows)?;
        let shift = grown.end as i64 - MAGIC.len() as i64;
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
        staged.append(&index)?;
        let grown = grown.by(rows.len() as u64);
        self.current = Some(TableFile { groups, grown, index_bytes: index.len() as u64, episodes: episodes + 1 });
        Ok(Change::Put { path, staged })
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
