//! Files that are not the format's.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, UInt32Array};
use arrow::compute::{concat_batches, take_record_batch};
use serde_json::Value;

use super::between;
use super::numbers::{Numbers, SUBTASKS};
use crate::commit::{create_folder, io_error, write_synced};
use crate::format::arrays::integers;
use crate::format::cast::cast;
use crate::format::input;
use crate::format::json::read_lines;
use crate::format::marks::LINES;
use crate::format::parquet_read::{footer, read_whole};
use crate::format::schema::{DATA, EPISODES, EPISODES_21, EPISODES_STATS_21, INFO, RIG, STATS, TASKS, TASKS_21, TICKS};
use crate::tools::ToolError;
use crate::tools::assembly::Assembly;
use crate::tools::columns::int64;
use crate::tools::keep::Sharing;
use crate::tools::rows::{close, table_writer};
use crate::tools::state::{CACHE, Found, Kind, files_of};
use crate::{ReadError, RecordError, Version};

/// A file of the result.
#[derive(Clone)]
pub(super) struct OtherFile {
    /// In the source and in the result.
    path: PathBuf,
    way: Way,
    /// The sources that have it.
    sources: Vec<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// As it is in the first of the sources.
    AsItIs,
    /// Lines of JSON with an `episode_index`, which is numbered anew; lines of episodes that are gone go.
    Lines,
    /// A table with a column `episode_index`, likewise.
    Table,
    /// Something in it says numbers of episodes, but nobody knows how to change them.
    Numbered,
    /// It says something of all rows together.
    Statistics,
    /// A link to what is not the dataset's, or to nothing: it stays a link.
    Link,
}

/// Larger files are not looked into.
const MOST_BYTES: u64 = 64 << 20;
/// The format's files below `meta`, and Sinew's own.
const KNOWN: [&str; 4] = [INFO, STATS, RIG, LINES];
const KNOWN_30: [&str; 1] = [TASKS];
const KNOWN_2: [&str; 3] = [TASKS_21, EPISODES_21, EPISODES_STATS_21];
/// What only goes with a dataset that stays in its place.
const OF_THE_PLACE: [&str; 2] = [".git", CACHE];

impl OtherFile {
    pub(super) fn write(&self, assembly: &Assembly, root: &Path, sharing: Sharing) -> Result<(), ToolError> {
        let to = root.join(&self.path);
        let is_of_the_place = self.way == Way::Link || OF_THE_PLACE.iter().any(|folder| self.path.starts_with(folder));
        if is_of_the_place && !sharing.in_place {
            return Ok(());
        }
        if let Some(parent) = to.parent() {
            create_folder(parent)?;
        }
        match self.way {
            Way::Link => {
                let from = assembly.sources[self.sources[0]].root().join(&self.path);
                let target = fs::read_link(&from).map_err(io_error("reading the link", &from))?;
                Ok(link(&target, &to).map_err(io_error("linking", &to))?)
            }
            // People write to such files, so no two names stand for one.
            Way::AsItIs => {
                let from = assembly.sources[self.sources[0]].root().join(&self.path);
                Sharing { links: false, ..sharing }.take(&from, &to)
            }
            Way::Lines => Ok(write_synced(&to, self.lines(assembly)?.as_bytes())?),
            Way::Table => self.write_table(assembly, &to),
            Way::Numbered | Way::Statistics => Ok(()),
        }
    }

    fn lines(&self, assembly: &Assembly) -> Result<String, ReadError> {
        let mut by_episode: BTreeMap<(usize, u64), Vec<Value>> = BTreeMap::new();
        for source in &self.sources {
            let path = assembly.sources[*source].root().join(&self.path);
            for line in read_lines::<Value>(&path)? {
                by_episode.entry((*source, line["episode_index"].as_u64().unwrap_or(u64::MAX))).or_default().push(line);
            }
        }
        let mut text = String::new();
        for (number, part) in assembly.parts.iter().enumerate() {
            let old = assembly.sources[part.source].episode(part.episode)?.episode_index;
            for line in by_episode.get(&(part.source, old)).into_iter().flatten() {
                let mut line = line.clone();
                line["episode_index"] = Value::from(number as u64);
                text.push_str(&line.to_string());
                text.push('\n');
            }
        }
        Ok(text)
    }

    fn write_table(&self, assembly: &Assembly, to: &Path) -> Result<(), ToolError> {
        let failed = |error: arrow::error::ArrowError| RecordError::Parquet { doing: "writing", path: to.to_owned(), source: error.into() };
        let mut tables: BTreeMap<usize, (RecordBatch, BTreeMap<u64, Vec<u32>>)> = BTreeMap::new();
        for source in &self.sources {
            let batches = read_whole(&assembly.sources[*source].root().join(&self.path))?;
            let Some(first) = batches.first() else { continue };
            let table = concat_batches(&first.schema(), &batches).map_err(failed)?;
            let mut rows: BTreeMap<u64, Vec<u32>> = BTreeMap::new();
            for (row, episode) in integers(&table, "episode_index").unwrap_or_default().into_iter().enumerate() {
                rows.entry(episode).or_default().push(row as u32);
            }
            tables.insert(*source, (table, rows));
        }
        let (mut pieces, mut first_index) = (Vec::new(), 0);
        for (number, part) in assembly.parts.iter().enumerate() {
            let episode = assembly.sources[part.source].episode(part.episode)?;
            if let Some((table, rows)) = tables.get(&part.source) {
                let rows = UInt32Array::from(rows.get(&episode.episode_index).cloned().unwrap_or_default());
                let piece = take_record_batch(table, &rows).map_err(failed)?;
                pieces.push(renumbered(&piece, number as u64, (episode.first_index, first_index)).map_err(failed)?);
            }
            first_index += part.frames;
        }
        let Some(first) = pieces.first() else { return Ok(()) };
        let mut writer = table_writer(to, first)?;
        for piece in &pieces {
            writer.write(piece).map_err(|source| RecordError::Parquet { doing: "writing", path: to.to_owned(), source })?;
        }
        close(to, writer)
    }
}

/// Rows of one episode with its new number, and the numbers of the dataset's rows that go with it.
fn renumbered(piece: &RecordBatch, number: u64, (old_first, new_first): (u64, u64)) -> Result<RecordBatch, arrow::error::ArrowError> {
    let schema = piece.schema();
    let columns = schema.fields().iter().zip(piece.columns()).map(|(field, column)| {
        let moved: Option<ArrayRef> = match field.name().as_str() {
            "episode_index" => Some(int64((0..piece.num_rows()).map(|_| number))),
            "index" => integers(piece, "index").map(|old| int64(old.into_iter().map(|old| old.saturating_sub(old_first) + new_first))),
            _ => None,
        };
        moved.and_then(|moved| cast(&moved, column.data_type())).unwrap_or_else(|| Arc::clone(column))
    });
    RecordBatch::try_new(schema.clone(), columns.collect())
}

/// Everything that is not the format's in the sources of `assembly`.
pub(super) fn of(assembly: &Assembly, numbers: &Numbers, notes: &mut Vec<String>) -> Result<Vec<OtherFile>, ReadError> {
    let mut found: BTreeMap<PathBuf, Vec<usize>> = BTreeMap::new();
    let (mut stray, mut links): (Vec<String>, BTreeSet<PathBuf>) = (Vec::new(), BTreeSet::new());
    for (number, source) in assembly.sources.iter().enumerate() {
        let videos = |episode: &'_ crate::Episode| episode.videos.iter().map(|span| span.path.clone()).collect::<Vec<_>>();
        let known: BTreeSet<String> =
            source.episodes().iter().flat_map(|episode| videos(episode).into_iter().chain([episode.data_path.clone()])).collect();
        // What has no footer any more is read from a copy, and told of where it is repaired.
        let is_mended = source.episodes().iter().any(|episode| Path::new(&episode.data_path).is_absolute());
        let of_version: &[&str] = if source.version() == Version::V30 { &KNOWN_30 } else { &KNOWN_2 };
        for Found { path, kind, .. } in files_of(source.root())? {
            let name = path.to_string_lossy().into_owned();
            let is_table = path.extension().is_some_and(|kind| kind == "parquet");
            let is_known = known.contains(&name)
                || KNOWN.contains(&name.as_str())
                || of_version.contains(&name.as_str())
                || is_table && [TICKS, EPISODES].iter().any(|tree| path.starts_with(tree))
                || ["data", "videos", "meta"].contains(&name.as_str());
            if is_known {
                continue;
            }
            if kind != Kind::File {
                if source.root().join(&path).is_symlink() {
                    links.insert(path.clone());
                    found.entry(path).or_default().push(number);
                } else {
                    notes.push(format!("{name} is left out: it is no file"));
                }
                continue;
            }
            let of_rows = path.starts_with(DATA) || path.starts_with("videos");
            if of_rows && is_mended {
                continue;
            }
            if of_rows && path.extension().is_some_and(|kind| kind == "parquet" || kind == "mp4") {
                stray.push(name);
            } else {
                found.entry(path).or_default().push(number);
            }
        }
    }
    if let Some(first) = stray.first() {
        let more = if stray.len() > 1 { format!(" and {} more files are", stray.len() - 1) } else { " is".to_owned() };
        notes.push(format!("{first}{more} left out: no episode is in it"));
    }
    let mut files = Vec::new();
    let mut opaque: Vec<String> = Vec::new();
    for (path, sources) in found {
        let name = path.display().to_string();
        if numbers.writes(&path) {
            continue;
        }
        let way = if links.contains(&path) { Way::Link } else { way(assembly, &path, &sources) };
        match way {
            Way::Lines | Way::Table => notes.push(format!("{name} is numbered anew with the episodes")),
            Way::Link => notes.push(format!("{name} is a link out of the dataset: it stays one in place, and is left out elsewhere")),
            Way::Numbered => {
                notes.push(format!("{name} is left out: it speaks of episodes by number, which change, in a form that is not known"))
            }
            Way::Statistics => notes.push(format!("{name} is left out: it speaks of all rows together, which change")),
            Way::AsItIs => {
                if let Some(why) = differs(assembly, &path, &sources)? {
                    // A card or a licence is the first one's.
                    let is_card = path.components().count() == 1;
                    notes.push(if is_card {
                        format!("{name} is the first dataset's: {why}")
                    } else {
                        format!("{name} is left out: {why}")
                    });
                    if !is_card || sources[0] != 0 {
                        continue;
                    }
                }
                opaque_or_named(assembly, &path, &sources, &mut opaque, notes);
            }
        }
        files.push(OtherFile { path, way, sources });
    }
    if !opaque.is_empty() {
        let more = if opaque.len() > 5 { format!(" and {} more", opaque.len() - 5) } else { String::new() };
        let named = opaque.iter().take(5).cloned().collect::<Vec<_>>().join(", ");
        notes.push(format!("kept as they are, whatever they say of episodes by number: {named}{more}"));
    }
    Ok(files)
}

/// What has to be done with a file.
fn way(assembly: &Assembly, path: &Path, sources: &[usize]) -> Way {
    if assembly.renumbers_nothing() {
        return Way::AsItIs;
    }
    let of_first = assembly.sources[sources[0]].root().join(path);
    let kind = path.extension().map(|kind| kind.to_string_lossy().to_lowercase()).unwrap_or_default();
    let is_of_meta = path.starts_with("meta");
    if is_of_meta && path.file_name().is_some_and(|name| name.to_string_lossy().contains("stats")) {
        return Way::Statistics;
    }
    let is_small = fs::metadata(&of_first).is_ok_and(|metadata| metadata.len() <= MOST_BYTES);
    match kind.as_str() {
        "parquet" if footer(&of_first).is_ok_and(|(_, footer)| footer.schema().field_with_name("episode_index").is_ok()) => Way::Table,
        "jsonl" if is_small => {
            let are_numbered = |source: &usize| {
                let lines = read_lines::<Value>(&assembly.sources[*source].root().join(path)).unwrap_or_default();
                !lines.is_empty() && lines.iter().all(|line| line["episode_index"].is_u64())
            };
            if sources.iter().all(are_numbered) { Way::Lines } else { Way::AsItIs }
        }
        "json" if is_small && path.components().count() > 1 => {
            let text = input::read_text(&of_first).unwrap_or_default();
            let value: Value = serde_json::from_str(&text).unwrap_or_default();
            if speaks_of_episodes(&value) { Way::Numbered } else { Way::AsItIs }
        }
        _ => Way::AsItIs,
    }
}

/// Whether some key says that numbers of episodes follow.
fn speaks_of_episodes(value: &Value) -> bool {
    match value {
        Value::Object(map) => map.iter().any(|(key, value)| key.to_lowercase().contains("episode") || speaks_of_episodes(value)),
        Value::Array(values) => values.iter().any(speaks_of_episodes),
        _ => false,
    }
}

fn same_bytes(one: &Path, other: &Path) -> Result<bool, ReadError> {
    const PIECE: u64 = 1 << 20;
    let (mut first, mut second) = (input::open(one)?, input::open(other)?);
    let (mut left, mut right) = (Vec::new(), Vec::new());
    loop {
        for (path, file, bytes) in [(one, &mut first, &mut left), (other, &mut second, &mut right)] {
            bytes.clear();
            file.take(PIECE).read_to_end(bytes).map_err(|source| ReadError::Io { path: path.to_owned(), source })?;
        }
        if left != right || left.is_empty() {
            return Ok(left == right);
        }
    }
}

#[cfg(unix)]
fn link(target: &Path, at: &Path) -> std::io::Result<()> {
    std::os::unix::fs::symlink(target, at)
}

#[cfg(not(unix))]
fn link(_: &Path, _: &Path) -> std::io::Result<()> {
    Err(std::io::ErrorKind::Unsupported.into())
}

/// In which sources a file is not the same; `None` where it is in all.
fn differs(assembly: &Assembly, path: &Path, sources: &[usize]) -> Result<Option<String>, ReadError> {
    if let Some(without) = (0..assembly.sources.len()).find(|number| !sources.contains(number)) {
        return Ok(Some(format!("{} has none", assembly.sources[without].root().display())));
    }
    let full = |source: usize| assembly.sources[source].root().join(path);
    let length = |path: &Path| fs::metadata(path).map(|metadata| metadata.len()).ok();
    for other in &sources[1..] {
        let (one, two) = (full(sources[0]), full(*other));
        if length(&one) != length(&two) || !same_bytes(&one, &two)? {
            return Ok(Some(format!("it is not the same in {}", between(assembly, sources[0], *other))));
        }
    }
    Ok(None)
}

/// As `episode_000003.json` has.
fn name_has_a_number(path: &Path) -> bool {
    path.file_stem().is_some_and(|stem| stem.to_string_lossy().contains(|c: char| c.is_ascii_digit()))
}

/// Below the root there are data of any kind; beside a card and a licence there may be tables.
fn kind_may_number(path: &Path) -> bool {
    const TABLES: [&str; 5] = ["csv", "tsv", "jsonl", "parquet", "json"];
    let kind = path.extension().map(|kind| kind.to_string_lossy().to_lowercase()).unwrap_or_default();
    path.components().count() > 1 || TABLES.contains(&kind.as_str())
}

/// Says of a file that is kept as it is what may not be right in it any more.
fn opaque_or_named(assembly: &Assembly, path: &Path, sources: &[usize], opaque: &mut Vec<String>, notes: &mut Vec<String>) {
    let source = &assembly.sources[sources[0]];
    let name = path.display().to_string();
    let is_json = path.extension().is_some_and(|kind| kind == "json");
    if is_json {
        let text = input::read_text(&source.root().join(path)).unwrap_or_default();
        let gone = source.features().keys().filter(|key| !assembly.features.contains_key(*key));
        for key in gone.filter(|key| text.contains(key.as_str())) {
            notes.push(format!("{name} is kept as it is, and names {key}, which goes"));
        }
    }
    // What is in words for people, and what an index into a list of words says, speaks of no episode.
    let is_of_data =
        (!is_json || name_has_a_number(path)) && kind_may_number(path) && !OF_THE_PLACE.iter().any(|folder| path.starts_with(folder));
    if is_of_data && path != Path::new(SUBTASKS) && !assembly.renumbers_nothing() {
        opaque.push(name);
    }
}
