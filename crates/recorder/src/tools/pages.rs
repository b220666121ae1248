//! Gives a parquet file its footer back: a writer that was killed leaves whole pages of data, but not
//! the index at the end without which nobody can read them.
//!
//! Pages stand back to back, each behind a header that says its kind, size and number of values. Which
//! column and row group they are of follows from the schema: columns come in its order, all of a row
//! group's have the same number of rows, and a row has a known number of values in each.

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::Arc;

use parquet::arrow::ArrowSchemaConverter;
use parquet::basic::{Compression, Encoding};
use parquet::errors::ParquetError;
use parquet::file::metadata::{ColumnChunkMetaData, FileMetaData, ParquetMetaData, ParquetMetaDataWriter, RowGroupMetaData};
use parquet::schema::types::SchemaDescPtr;

use super::ToolError;
use crate::RecordError;
use crate::commit::io_error;
use crate::format::input;

/// Bytes of a file that is mended: it is held in memory.
const LARGEST_TABLE: u64 = 4 << 30;

/// A column without lists below it, and its values a row.
struct Leaf {
    values_a_row: u64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Page {
    offset: u64,
    /// Of header and contents.
    bytes: u64,
    uncompressed_bytes: u64,
    values: u64,
    is_dictionary: bool,
}

/// A row group's pages by leaf, as ranges of all pages.
struct Group {
    rows: u64,
    leaves: Vec<std::ops::Range<usize>>,
}

/// Writes to `to` what can be read of the file at `from`, whose schema is `schema` and whose leaves have
/// so many values a row. Answers the rows of each row group.
pub(crate) fn restore(from: &Path, schema: &arrow::datatypes::Schema, values_a_row: &[u64], to: &Path) -> Result<Vec<u64>, ToolError> {
    let bytes = input::read(from, LARGEST_TABLE)?;
    let pages = pages(&bytes);
    let leaves: Vec<Leaf> = values_a_row.iter().map(|values_a_row| Leaf { values_a_row: *values_a_row }).collect();
    let groups = groups(&pages, &leaves);
    let rows: Vec<u64> = groups.iter().map(|group| group.rows).collect();
    let failed = |source: ParquetError| RecordError::Parquet { doing: "writing", path: to.to_owned(), source };
    let descriptor = Arc::new(ArrowSchemaConverter::new().convert(schema).map_err(failed)?);
    if groups.is_empty() {
        return Ok(rows);
    }
    let metadata = metadata(&pages, &groups, &descriptor).map_err(failed)?;
    let end =
        groups.last().and_then(|group| group.leaves.last()).map_or(4, |range| pages[range.end - 1].offset + pages[range.end - 1].bytes);
    let mut out = File::create(to).map_err(io_error("creating", to))?;
    out.write_all(&bytes[..end as usize]).map_err(io_error("writing", to))?;
    ParquetMetaDataWriter::new(&mut out, &metadata).finish().map_err(failed)?;
    out.sync_all().and_then(|()| out.seek(SeekFrom::Start(0))).map_err(io_error("writing", to))?;
    Ok(rows)
}

fn metadata(pages: &[Page], groups: &[Group], descriptor: &SchemaDescPtr) -> Result<ParquetMetaData, ParquetError> {
    let mut row_groups = Vec::new();
    for group in groups {
        let mut columns = Vec::new();
        let mut total = 0;
        for (leaf, range) in group.leaves.iter().enumerate() {
            let chunk = &pages[range.clone()];
            let dictionary = chunk.first().filter(|page| page.is_dictionary);
            let data = chunk.iter().find(|page| !page.is_dictionary);
            let sum = |value: fn(&Page) -> u64| chunk.iter().map(value).sum::<u64>() as i64;
            let values = chunk.iter().filter(|page| !page.is_dictionary).map(|page| page.values).sum::<u64>();
            total += sum(|page| page.uncompressed_bytes);
            let column = ColumnChunkMetaData::builder(descriptor.column(leaf))
                // What LeRobot writes.
                .set_compression(Compression::SNAPPY)
                .set_encodings(vec![Encoding::PLAIN, Encoding::RLE, Encoding::RLE_DICTIONARY])
                .set_num_values(values as i64)
                .set_total_compressed_size(sum(|page| page.bytes))
                .set_total_uncompressed_size(sum(|page| page.uncompressed_bytes))
                .set_data_page_offset(data.map_or(0, |page| page.offset as i64))
                .set_dictionary_page_offset(dictionary.map(|page| page.offset as i64))
                .build()?;
            columns.push(column);
        }
        let group = RowGroupMetaData::builder(descriptor.clone()).set_num_rows(group.rows as i64).set_total_byte_size(total);
        row_groups.push(group.set_column_metadata(columns).build()?);
    }
    let rows = groups.iter().map(|group| group.rows as i64).sum();
    let file = FileMetaData::new(2, rows, Some("sinew".to_owned()), None, descriptor.clone(), None);
    Ok(ParquetMetaData::new(file, row_groups))
}

/// The whole row groups that the pages make, from the first on. Where pages can be shared out in several
/// ways, the one that makes sense of most pages is right.
fn groups(pages: &[Page], leaves: &[Leaf]) -> Vec<Group> {
    // Of each page, how far one gets when a row group begins there, and the first one's rows.
    let mut reached: Vec<(usize, Option<u64>)> = (0..=pages.len()).map(|start| (start, None)).collect();
    for start in (0..pages.len()).rev() {
        for rows in candidates(pages, start, leaves) {
            let end = group(pages, start, leaves, rows).and_then(|group| Some(group.leaves.last()?.end));
            let far = end.map_or(start, |end| reached[end].0);
            if far > reached[start].0 {
                reached[start] = (far, Some(rows));
            }
        }
    }
    let (mut groups, mut at) = (Vec::new(), 0);
    while let Some(group) = reached[at].1.and_then(|rows| group(pages, at, leaves, rows)) {
        at = group.leaves.last().map_or(at, |range| range.end);
        groups.push(group);
    }
    groups
}

/// How many rows a row group that begins at page `start` may have: how many pages are of its first
/// column is not said.
fn candidates(pages: &[Page], start: usize, leaves: &[Leaf]) -> Vec<u64> {
    let Some(first) = leaves.first() else { return Vec::new() };
    let begin = start + usize::from(pages[start].is_dictionary);
    let data = pages[begin..].iter().take_while(|page| !page.is_dictionary);
    let sums = data.scan(0, |sum, page| {
        *sum += page.values;
        Some(*sum)
    });
    sums.filter(|values| *values > 0 && values.is_multiple_of(first.values_a_row)).map(|values| values / first.values_a_row).collect()
}

/// The row group of so many rows that begins at page `start`, if the pages make one.
fn group(pages: &[Page], start: usize, leaves: &[Leaf], rows: u64) -> Option<Group> {
    let (mut begin, mut ranges) = (start, Vec::new());
    for leaf in leaves {
        let end = chunk(pages, begin, rows.checked_mul(leaf.values_a_row)?)?;
        ranges.push(begin..end);
        begin = end;
    }
    Some(Group { rows, leaves: ranges })
}

/// Where the column that begins at page `begin` and has `wanted` values ends.
fn chunk(pages: &[Page], begin: usize, wanted: u64) -> Option<usize> {
    let mut at = begin + usize::from(pages.get(begin)?.is_dictionary);
    let mut values = 0;
    while values < wanted {
        values += pages.get(at).filter(|page| !page.is_dictionary)?.values;
        at += 1;
    }
    (values == wanted).then_some(at)
}

/// The pages from the beginning of the file on, as far as they are whole.
fn pages(bytes: &[u8]) -> Vec<Page> {
    let (mut pages, mut at) = (Vec::new(), 4);
    while let Some(page) =
        bytes.get(at..).and_then(|rest| page(rest, at as u64)).filter(|page| page.offset + page.bytes <= bytes.len() as u64)
    {
        at += page.bytes as usize;
        pages.push(page);
    }
    pages
}

fn page(bytes: &[u8], offset: u64) -> Option<Page> {
    let mut thrift = Thrift { bytes, at: 0 };
    let header = thrift.numbers(0)?;
    let number = |path: &[i16]| header.iter().find(|(known, _)| known == path).map(|(_, value)| *value);
    let contents = u64::try_from(number(&[3])?).ok()?;
    let uncompressed = u64::try_from(number(&[2])?).ok()?;
    // Data of version 1, a dictionary, data of version 2.
    let (is_dictionary, values) = match number(&[1])? {
        0 => (false, number(&[5, 1])?),
        2 => (true, number(&[7, 1])?),
        3 => (false, number(&[8, 1])?),
        _ => return None,
    };
    let header = thrift.at as u64;
    Some(Page {
        offset,
        bytes: header + contents,
        uncompressed_bytes: header + uncompressed,
        values: u64::try_from(values).ok()?,
        is_dictionary,
    })
}

/// Thrift's compact protocol, as far as headers of pages use it.
struct Thrift<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Thrift<'_> {
    fn byte(&mut self) -> Option<u8> {
        self.at += 1;
        self.bytes.get(self.at - 1).copied()
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 127) << shift;
            if byte < 128 {
                return Some(value);
            }
        }
        None
    }

    fn zigzag(&mut self) -> Option<i64> {
        let value = self.varint()?;
        Some((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    /// The integers of a struct with the numbers of their fields, those of structs in it too.
    fn numbers(&mut self, depth: usize) -> Option<Vec<(Vec<i16>, i64)>> {
        let mut found = Vec::new();
        let mut field = 0i16;
        loop {
            let head = self.byte()?;
            if head == 0 {
                return Some(found);
            }
            field = match head >> 4 {
                0 => i16::try_from(self.zigzag()?).ok()?,
                step => field.checked_add(i16::from(step))?,
            };
            match head & 15 {
                1 | 2 => {}
                3 => drop(self.byte()?),
                4..=6 => found.push((vec![field], self.zigzag()?)),
                7 => self.at += 8,
                8 => {
                    let length = usize::try_from(self.varint()?).ok()?;
                    self.at = self.at.checked_add(length).filter(|at| *at <= self.bytes.len())?;
                }
                12 if depth < 4 => {
                    let inner = self.numbers(depth + 1)?;
                    found.extend(inner.into_iter().map(|(path, value)| ([vec![field], path].concat(), value)));
                }
                _ => return None,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(values: u64, is_dictionary: bool) -> Page {
        Page { offset: 0, bytes: 1, uncompressed_bytes: 1, values, is_dictionary }
    }

    #[test]
    fn pages_are_told_apart_by_their_values() {
        // Two columns of 3 and 1 values a row, the second without a dictionary; groups of 4 and 2 rows,
        // the first with its first column in two pages; then one that was cut.
        let pages =
            [page(5, true), page(9, false), page(3, false), page(4, false), page(2, true), page(6, false), page(2, false), page(7, true)];
        let groups = groups(&pages, &[Leaf { values_a_row: 3 }, Leaf { values_a_row: 1 }]);
        let found: Vec<_> = groups.iter().map(|group| (group.rows, group.leaves.clone())).collect();
        assert_eq!(found, [(4, vec![0..3, 3..4]), (2, vec![4..6, 6..7])]);
    }
}
