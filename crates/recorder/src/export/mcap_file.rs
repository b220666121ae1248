//! The container format MCAP, version 0 (<https://mcap.dev/spec>): messages in chunks, without
//! compression, and the index at the end by which readers jump.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use crate::RecordError;
use crate::commit::io_error;

const MAGIC: &[u8; 8] = b"\x89MCAP0\r\n";
/// A chunk is closed when it has so many bytes.
const CHUNK_BYTES: usize = 4 << 20;

const HEADER: u8 = 1;
const FOOTER: u8 = 2;
const SCHEMA: u8 = 3;
const CHANNEL: u8 = 4;
const MESSAGE: u8 = 5;
const CHUNK: u8 = 6;
const MESSAGE_INDEX: u8 = 7;
const CHUNK_INDEX: u8 = 8;
const STATISTICS: u8 = 11;
const DATA_END: u8 = 15;

/// A file that is being written. Messages come in the order of their times.
pub(super) struct McapFile {
    path: PathBuf,
    out: BufWriter<File>,
    offset: u64,
    /// Messages of each channel; channels and their schemas count from 1.
    counts: Vec<u64>,
    /// The schemas and channels, which are repeated at the end.
    definitions: Vec<u8>,
    chunk: Vec<u8>,
    /// Of the chunk's messages, by channel, the time and the place in it.
    indices: Vec<Vec<(u64, u64)>>,
    chunk_indices: Vec<u8>,
    chunks: u32,
    /// Of all messages, and of those in the chunk.
    times: Option<(u64, u64)>,
    chunk_times: Option<(u64, u64)>,
}

impl McapFile {
    /// Begins the new file `path`.
    pub(super) fn create(path: &Path) -> Result<Self, RecordError> {
        let file = File::create_new(path).map_err(io_error("creating", path))?;
        let mut new = Self {
            path: path.to_owned(),
            out: BufWriter::new(file),
            offset: 0,
            counts: Vec::new(),
            definitions: Vec::new(),
            chunk: Vec::new(),
            indices: Vec::new(),
            chunk_indices: Vec::new(),
            chunks: 0,
            times: None,
            chunk_times: None,
        };
        let mut header = Vec::new();
        put_text(&mut header, "");
        put_text(&mut header, concat!("sinew ", env!("CARGO_PKG_VERSION")));
        new.write(MAGIC)?;
        new.write(&record(HEADER, &header))?;
        Ok(new)
    }

    /// A channel with a schema of its own; before the first message. Answers its number.
    pub(super) fn channel(&mut self, topic: &str, encoding: &str, schema: (&str, &str, &[u8])) -> u16 {
        self.counts.push(0);
        self.indices.push(Vec::new());
        let id = self.counts.len() as u16;
        let (name, schema_encoding, data) = schema;
        let mut fields = id.to_le_bytes().to_vec();
        put_text(&mut fields, name);
        put_text(&mut fields, schema_encoding);
        put_bytes(&mut fields, data);
        self.definitions.extend(record(SCHEMA, &fields));
        let mut fields = [id.to_le_bytes(), id.to_le_bytes()].concat();
        put_text(&mut fields, topic);
        put_text(&mut fields, encoding);
        // No metadata.
        put_bytes(&mut fields, &[]);
        self.definitions.extend(record(CHANNEL, &fields));
        id
    }

    /// Adds a message of the time `time_ns`.
    pub(super) fn message(&mut self, channel: u16, time_ns: u64, data: &[u8]) -> Result<(), RecordError> {
        if self.chunk.is_empty() {
            // So that a file can be read even where its end is missing.
            self.chunk.extend_from_slice(&self.definitions);
        }
        let at = usize::from(channel) - 1;
        let mut fields = channel.to_le_bytes().to_vec();
        fields.extend((self.counts[at] as u32).to_le_bytes());
        fields.extend([time_ns.to_le_bytes(), time_ns.to_le_bytes()].concat());
        fields.extend_from_slice(data);
        self.indices[at].push((time_ns, self.chunk.len() as u64));
        self.counts[at] += 1;
        self.chunk.extend(record(MESSAGE, &fields));
        for times in [&mut self.times, &mut self.chunk_times] {
            *times = Some((times.map_or(time_ns, |(first, _)| first), time_ns));
        }
        if self.chunk.len() >= CHUNK_BYTES { self.close_chunk() } else { Ok(()) }
    }

    fn close_chunk(&mut self) -> Result<(), RecordError> {
        let Some((first, last)) = self.chunk_times.take() else { return Ok(()) };
        let records = std::mem::take(&mut self.chunk);
        let mut fields = numbers(&[first, last, records.len() as u64]);
        // No checksum, no compression.
        fields.extend(0u32.to_le_bytes());
        put_text(&mut fields, "");
        fields.extend((records.len() as u64).to_le_bytes());
        fields.extend(&records);
        let chunk = record(CHUNK, &fields);
        let (start, length) = (self.offset, chunk.len() as u64);
        self.write(&chunk)?;
        let indices_start = self.offset;
        let mut offsets = Vec::new();
        for (at, index) in std::mem::replace(&mut self.indices, vec![Vec::new(); self.counts.len()]).into_iter().enumerate() {
            if index.is_empty() {
                continue;
            }
            let id = (at as u16 + 1).to_le_bytes();
            offsets.extend(id);
            offsets.extend(self.offset.to_le_bytes());
            let mut fields = id.to_vec();
            put_bytes(&mut fields, &index.iter().flat_map(|(time, place)| numbers(&[*time, *place])).collect::<Vec<u8>>());
            self.write(&record(MESSAGE_INDEX, &fields))?;
        }
        let mut fields = numbers(&[first, last, start, length]);
        put_bytes(&mut fields, &offsets);
        fields.extend((self.offset - indices_start).to_le_bytes());
        put_text(&mut fields, "");
        fields.extend(numbers(&[records.len() as u64, records.len() as u64]));
        self.chunk_indices.extend(record(CHUNK_INDEX, &fields));
        self.chunks += 1;
        Ok(())
    }

    /// Writes the index and sees all of it onto the disk.
    pub(super) fn finish(mut self) -> Result<(), RecordError> {
        self.close_chunk()?;
        // Checksums of 0 are none.
        self.write(&record(DATA_END, &0u32.to_le_bytes()))?;
        let summary = self.offset;
        let channels = self.counts.len() as u16;
        let (first, last) = self.times.unwrap_or_default();
        let mut fields = numbers(&[self.counts.iter().sum()]);
        fields.extend(channels.to_le_bytes());
        for count in [u32::from(channels), 0, 0, self.chunks] {
            fields.extend(count.to_le_bytes());
        }
        fields.extend(numbers(&[first, last]));
        let counts = self.counts.iter().enumerate().flat_map(|(at, count)| {
            let id = (at as u16 + 1).to_le_bytes();
            id.into_iter().chain(count.to_le_bytes())
        });
        put_bytes(&mut fields, &counts.collect::<Vec<u8>>());
        let parts = [std::mem::take(&mut self.definitions), record(STATISTICS, &fields), std::mem::take(&mut self.chunk_indices)];
        self.write(&parts.concat())?;
        let mut fields = numbers(&[summary, 0]);
        fields.extend(0u32.to_le_bytes());
        self.write(&record(FOOTER, &fields))?;
        self.write(MAGIC)?;
        let failed = io_error("writing", &self.path);
        let file = match self.out.into_inner() {
            Ok(file) => file,
            Err(error) => return Err(failed(error.into_error())),
        };
        file.sync_all().map_err(failed)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), RecordError> {
        self.offset += bytes.len() as u64;
        self.out.write_all(bytes).map_err(io_error("writing", &self.path))
    }
}

fn record(kind: u8, fields: &[u8]) -> Vec<u8> {
    let mut record = vec![kind];
    record.extend((fields.len() as u64).to_le_bytes());
    record.extend_from_slice(fields);
    record
}

fn numbers(values: &[u64]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn put_bytes(fields: &mut Vec<u8>, bytes: &[u8]) {
    fields.extend((bytes.len() as u32).to_le_bytes());
    fields.extend_from_slice(bytes);
}

fn put_text(fields: &mut Vec<u8>, text: &str) {
    put_bytes(fields, text.as_bytes());
}
