//! Refuses parquet files that would become far more in memory than they are on disk, before anything is
//! decoded. A page of a few bytes can say that it has 2^31 bytes or values, and a footer that it has as many
//! row groups.
//!
//! Footers and the headers of pages are structs in thrift's compact protocol
//! (<https://github.com/apache/parquet-format>, `parquet.thrift`).

use std::ops::Range;

use parquet::basic::Type;
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData};

use super::input::Input;

/// What any file may become.
const ALWAYS_BYTES: u64 = 48 << 20;
/// What it may become for each byte that it has. A column of row numbers, which every dataset has, takes
/// a byte a row or more, and a row has rarely more than some hundred bytes of constants.
const TIMES: u64 = 64;
/// Rows that are decoded at once have at most about so many bytes of text or images.
const BATCH_BYTES: u64 = 16 << 20;
/// Statistics stand in the header of a page, so it may have this size.
const LARGEST_HEADER_BYTES: usize = 1 << 20;
const DEEPEST: usize = 32;

/// What the columns of a file of `file_bytes` may become in memory.
pub(crate) fn most_bytes(file_bytes: u64) -> u64 {
    file_bytes.saturating_mul(TIMES).saturating_add(ALWAYS_BYTES)
}

/// Whether every list in a footer can have as many entries as it says.
pub(super) fn check_footer(bytes: &[u8]) -> Result<(), String> {
    Thrift { bytes, at: 0 }.skip_struct(DEEPEST).map(drop).ok_or_else(|| "its footer can't be read".to_owned())
}

/// How many rows of these row groups and columns may be decoded at once.
///
/// # Errors
/// What is wrong, when a page can't be read or the columns would become too much.
pub(super) fn check_pages(
    file: &Input,
    metadata: &ParquetMetaData,
    groups: &[usize],
    wants: &dyn Fn(usize) -> bool,
) -> Result<usize, String> {
    let file_bytes = file.size_bytes().map_err(|error| error.to_string())?;
    let most = most_bytes(file_bytes);
    let mut largest_dictionary = 0;
    for group in groups {
        let Some(group) = metadata.row_groups().get(*group) else { continue };
        for (_, column) in group.columns().iter().enumerate().filter(|(at, _)| wants(*at)) {
            let name = column.column_path().string();
            let pages = Pages::of(file, column).map_err(|what| format!("the column {name}: {what}"))?;
            if pages.decoded_bytes > most {
                let found = pages.decoded_bytes >> 20;
                return Err(format!(
                    "the column {name} would take {found} MB in memory, expected at most {} MB of a file of {file_bytes} bytes",
                    most >> 20
                ));
            }
            if column.column_type() == Type::BYTE_ARRAY {
                largest_dictionary = pages.dictionary_bytes.max(largest_dictionary);
            }
        }
    }
    Ok((BATCH_BYTES / largest_dictionary.max(1)).clamp(1, 1 << 16) as usize)
}

/// Where the pages of a column in a row group are.
///
/// # Errors
/// What is wrong with what the footer says of that.
pub(super) fn place(column: &ColumnChunkMetaData) -> Result<Range<u64>, &'static str> {
    let start = column.dictionary_page_offset().filter(|at| *at > 0 && *at < column.data_page_offset());
    let at = u64::try_from(start.unwrap_or(column.data_page_offset())).map_err(|_| "it begins before the file")?;
    let bytes = u64::try_from(column.compressed_size()).map_err(|_| "it has a negative size")?;
    Ok(at..at.saturating_add(bytes))
}

/// What the pages of a column in a row group become.
struct Pages {
    decoded_bytes: u64,
    dictionary_bytes: u64,
}

impl Pages {
    fn of(file: &Input, column: &ColumnChunkMetaData) -> Result<Self, String> {
        let Range { start: mut at, end } = place(column)?;
        let levels = u64::from(column.column_descr().max_def_level() > 0) + u64::from(column.column_descr().max_rep_level() > 0);
        let width = levels * 2
            + match column.column_type() {
                Type::BOOLEAN => 1,
                Type::INT32 | Type::FLOAT => 4,
                Type::INT64 | Type::DOUBLE => 8,
                Type::INT96 => 12,
                Type::BYTE_ARRAY => 16,
                Type::FIXED_LEN_BYTE_ARRAY => u64::try_from(column.column_descr().type_length()).unwrap_or(0),
            };
        let mut pages = Self { decoded_bytes: 0, dictionary_bytes: 0 };
        let mut room = Vec::new();
        while at < end {
            let header = Header::read(file, at, end, &mut room)?;
            let becomes = header.bytes.max(header.values.saturating_mul(width));
            pages.decoded_bytes = pages.decoded_bytes.saturating_add(becomes);
            if header.is_dictionary {
                pages.dictionary_bytes = pages.dictionary_bytes.max(header.bytes);
            }
            at = at.saturating_add(header.length).saturating_add(header.stored_bytes);
        }
        Ok(pages)
    }
}

/// The header of a page.
struct Header {
    /// Of itself.
    length: u64,
    stored_bytes: u64,
    /// When they are not compressed any more.
    bytes: u64,
    values: u64,
    is_dictionary: bool,
}

impl Header {
    fn read(file: &Input, at: u64, end: u64, room: &mut Vec<u8>) -> Result<Self, String> {
        let mut size = 128;
        loop {
            let wanted = usize::try_from(end - at).unwrap_or(usize::MAX).min(size);
            room.resize(wanted, 0);
            let found = file.read_at(at, room).map_err(|error| error.to_string())?;
            match Self::of(&room[..found]) {
                Some(header) => return Ok(header),
                None if found < wanted || wanted < size || size >= LARGEST_HEADER_BYTES => {
                    return Err(format!("the header of its page at byte {at} can't be read"));
                }
                None => size *= 8,
            }
        }
    }

    fn of(bytes: &[u8]) -> Option<Self> {
        let mut thrift = Thrift { bytes, at: 0 };
        let mut header = Self { length: 0, stored_bytes: 0, bytes: 0, values: 0, is_dictionary: false };
        let mut field = 0;
        while let Some((id, kind)) = thrift.field(field)? {
            field = id;
            match (id, kind) {
                (1, 5) => header.is_dictionary = thrift.integer()? == 2,
                (2, 5) => header.bytes = u64::try_from(thrift.integer()?).ok()?,
                (3, 5) => header.stored_bytes = u64::try_from(thrift.integer()?).ok()?,
                // Those of a page of data, of a dictionary, and of a page of data in version 2.
                (5 | 7 | 8, 12) => {
                    let mut inner = 0;
                    while let Some((id, kind)) = thrift.field(inner)? {
                        inner = id;
                        match (id, kind) {
                            (1, 5) => header.values = u64::try_from(thrift.integer()?).ok()?,
                            _ => thrift.skip(kind, DEEPEST)?,
                        }
                    }
                }
                _ => thrift.skip(kind, DEEPEST)?,
            }
        }
        header.length = thrift.at as u64;
        Some(header)
    }
}

/// Reads thrift's compact protocol.
struct Thrift<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Thrift<'_> {
    fn byte(&mut self) -> Option<u8> {
        let byte = *self.bytes.get(self.at)?;
        self.at += 1;
        Some(byte)
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    fn integer(&mut self) -> Option<i64> {
        let value = self.varint()?;
        Some((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    /// The number and kind of the field that follows field `last`; `Some(None)` at the end of a struct.
    fn field(&mut self, last: i64) -> Option<Option<(i64, u8)>> {
        let byte = self.byte()?;
        let kind = byte & 15;
        Some(match (byte >> 4, kind) {
            (_, 0) => None,
            (0, kind) => Some((self.integer()?, kind)),
            (step, kind) => Some((last.checked_add(i64::from(step))?, kind)),
        })
    }

    fn skip_struct(&mut self, deepest: usize) -> Option<()> {
        let mut last = 0;
        while let Some((id, kind)) = self.field(last)? {
            last = id;
            self.skip(kind, deepest)?;
        }
        Some(())
    }

    fn skip(&mut self, kind: u8, deepest: usize) -> Option<()> {
        let deeper = deepest.checked_sub(1)?;
        match kind {
            // Truth values are their own kinds.
            1 | 2 => {}
            3 => {
                self.byte()?;
            }
            4..=6 => {
                self.varint()?;
            }
            7 => self.jump(8)?,
            8 => {
                let length = self.varint()?;
                self.jump(length)?;
            }
            9 | 10 => {
                let first = self.byte()?;
                let count = if first >> 4 == 15 { self.varint()? } else { u64::from(first >> 4) };
                // Each has a byte at least.
                if count > (self.bytes.len() - self.at) as u64 {
                    return None;
                }
                for _ in 0..count {
                    match first & 15 {
                        1 | 2 => {
                            self.byte()?;
                        }
                        kind => self.skip(kind, deeper)?,
                    }
                }
            }
            12 => self.skip_struct(deeper)?,
            _ => return None,
        }
        Some(())
    }

    fn jump(&mut self, count: u64) -> Option<()> {
        self.at = self.at.checked_add(usize::try_from(count).ok()?).filter(|at| *at <= self.bytes.len())?;
        Some(())
    }
}
