//! Columns of the episodes table, or keys of its lines, that are not the format's.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Float64Array, Int64Array, StringArray, UInt32Array, new_null_array};
use arrow::compute::{concat, take};
use arrow::datatypes::DataType;
use serde_json::{Value, json};

use crate::format::arrays::{integers, strings, to_json};
use crate::format::info::parquet_files;
use crate::format::json::read_lines;
use crate::format::marks::{self, Marks};
use crate::format::parquet_read::{footer, read_parquet};
use crate::format::schema::EPISODES;
use crate::format::stats::KEYS;
use crate::tools::assembly::Assembly;
use crate::{DatasetReader, ReadError, Version};

/// A column of the result's episodes.
#[derive(Clone)]
pub(super) struct EpisodeColumn {
    name: String,
    values: Values,
}

#[derive(Clone)]
enum Values {
    Table(ArrayRef),
    Lines(Vec<Value>),
}

impl EpisodeColumn {
    pub(super) fn rows(&self, first: usize, end: usize) -> Option<(String, ArrayRef)> {
        let Values::Table(values) = &self.values else { return None };
        Some((self.name.clone(), values.slice(first, end - first)))
    }

    pub(super) fn value(&self, episode: usize) -> Option<(String, Value)> {
        let Values::Lines(values) = &self.values else { return None };
        Some((self.name.clone(), values.get(episode).filter(|value| !value.is_null())?.clone()))
    }
}

/// Whether the format, or a writer of it, makes the column anew.
fn is_known(name: &str) -> bool {
    const NAMES: [&str; 5] = ["episode_index", "tasks", "length", "dataset_from_index", "dataset_to_index"];
    const PLACES: [&str; 4] = ["chunk_index", "file_index", "from_timestamp", "to_timestamp"];
    let last = name.rsplit('/').next().unwrap_or_default();
    NAMES.contains(&name)
        || ["data/", "videos/", "meta/episodes/"].iter().any(|tree| name.starts_with(tree)) && PLACES.contains(&last)
        || name.starts_with("stats/") && KEYS.contains(&last)
}

/// Whether the column speaks of a feature that is not in the result.
fn is_of_what_goes(name: &str, assembly: &Assembly) -> bool {
    let of = name.strip_prefix("stats/").or_else(|| name.strip_prefix("videos/")).and_then(|rest| rest.rsplit_once('/'));
    of.is_some_and(|(feature, _)| !assembly.features.contains_key(feature))
}

/// The columns of all parts of `assembly` in the form of its version.
pub(super) fn of(assembly: &Assembly, notes: &mut Vec<String>) -> Vec<EpisodeColumn> {
    let mut sources: Vec<BTreeMap<String, Values>> = Vec::new();
    for source in &assembly.sources {
        // A dataset that is to be repaired may have none that can be read.
        let mut columns = of_source(source, notes).unwrap_or_else(|error| {
            notes.push(format!("what others keep in the episodes table is left out: {error}"));
            BTreeMap::new()
        });
        if assembly.version == Version::V30 {
            add_marks(source, &mut columns);
        }
        sources.push(columns);
    }
    let mut names: Vec<&String> = sources.iter().flat_map(BTreeMap::keys).collect();
    names.retain(|name| !is_of_what_goes(name, assembly));
    names.sort_unstable();
    names.dedup();
    let mut columns = Vec::new();
    for name in names {
        let of_sources: Vec<Option<&Values>> = sources.iter().map(|source| source.get(name)).collect();
        let values = match assembly.version {
            Version::V30 => as_table(assembly, &of_sources).map(Values::Table),
            _ => as_lines(assembly, &of_sources).map(Values::Lines),
        };
        match values {
            Some(values) => columns.push(EpisodeColumn { name: name.clone(), values }),
            None => notes.push(format!("{name} of the episodes is left out: its values have no one type in format {}", assembly.version)),
        }
    }
    columns
}

fn of_source(source: &DatasetReader, notes: &mut Vec<String>) -> Result<BTreeMap<String, Values>, ReadError> {
    if source.version() == Version::V30 { of_tables(source, notes) } else { of_lines(source) }
}

fn of_tables(source: &DatasetReader, notes: &mut Vec<String>) -> Result<BTreeMap<String, Values>, ReadError> {
    let paths = parquet_files(&source.root().join(EPISODES)).unwrap_or_default();
    let mut types: BTreeMap<String, DataType> = BTreeMap::new();
    for path in &paths {
        // A table that can't be read has no columns; of what can be repaired there may be some.
        let Ok((_, footer)) = footer(path) else { return Ok(BTreeMap::new()) };
        for field in footer.schema().fields().iter().filter(|field| !is_known(field.name())) {
            types.entry(field.name().clone()).or_insert_with(|| field.data_type().clone());
        }
    }
    if types.is_empty() {
        return Ok(BTreeMap::new());
    }
    let names: Vec<&str> = types.keys().map(String::as_str).chain(["episode_index"]).collect();
    let (mut numbers, mut pieces): (Vec<u64>, BTreeMap<&str, Vec<ArrayRef>>) = (Vec::new(), BTreeMap::new());
    for path in &paths {
        for batch in read_parquet(path, &names)? {
            let Some(of) = integers(&batch, "episode_index") else { return Ok(BTreeMap::new()) };
            numbers.extend(of);
            for (name, data_type) in &types {
                // A file of another writer may have no such column.
                let piece = batch.column_by_name(name).cloned().unwrap_or_else(|| new_null_array(data_type, batch.num_rows()));
                pieces.entry(name).or_default().push(piece);
            }
        }
    }
    let place: BTreeMap<u64, u32> = numbers.iter().enumerate().map(|(row, number)| (*number, row as u32)).collect();
    let order: UInt32Array = source.episodes().iter().map(|episode| place.get(&episode.episode_index).copied()).collect();
    let mut columns = BTreeMap::new();
    for (name, pieces) in pieces {
        let pieces: Vec<&dyn Array> = pieces.iter().map(AsRef::as_ref).collect();
        match concat(&pieces).and_then(|all| take(&all, &order, None)) {
            Ok(values) => drop(columns.insert(name.to_owned(), Values::Table(values))),
            Err(error) => notes.push(format!("{name} of the episodes is left out: {error}")),
        }
    }
    Ok(columns)
}

/// Makes columns of what is known of how episodes ended, where a dataset has it beside its tables only.
fn add_marks(source: &DatasetReader, columns: &mut BTreeMap<String, Values>) {
    let known = marks::marks(source.root()).unwrap_or_default();
    if known.is_empty() || columns.contains_key(marks::SUCCESS) || columns.contains_key(marks::REASON) {
        return;
    }
    let of_episodes: Vec<Marks> =
        source.episodes().iter().map(|episode| known.get(&episode.episode_index).cloned().unwrap_or_default()).collect();
    columns.extend(marks::columns(of_episodes.iter()).into_iter().map(|(name, values)| (name, Values::Table(values))));
}

fn of_lines(source: &DatasetReader) -> Result<BTreeMap<String, Values>, ReadError> {
    let path = source.root().join("meta/episodes.jsonl");
    let mut columns: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for line in read_lines::<Value>(&path)? {
        let (Some(line), Some(number)) = (line.as_object(), line["episode_index"].as_u64()) else { continue };
        for (key, value) in line.iter().filter(|(key, _)| !is_known(key)) {
            let values = columns.entry(key.clone()).or_insert_with(|| vec![Value::Null; source.episodes().len()]);
            if let Some(place) = values.get_mut(number as usize) {
                *place = value.clone();
            }
        }
    }
    Ok(columns.into_iter().map(|(key, values)| (key, Values::Lines(values))).collect())
}

/// One column of a table; `None` where the values have no one type.
fn as_table(assembly: &Assembly, sources: &[Option<&Values>]) -> Option<ArrayRef> {
    let arrays: Vec<Option<ArrayRef>> = sources
        .iter()
        .map(|values| match values {
            None => Some(None),
            Some(Values::Table(values)) => Some(Some(Arc::clone(values))),
            Some(Values::Lines(values)) => Some(Some(from_json(values)?)),
        })
        .collect::<Option<_>>()?;
    let data_type = arrays.iter().flatten().next()?.data_type().clone();
    let nothing = new_null_array(&data_type, 1);
    let pieces = assembly.parts.iter().map(|part| match &arrays[part.source] {
        Some(values) => values.slice(part.episode as usize, 1),
        None => Arc::clone(&nothing),
    });
    let pieces: Vec<ArrayRef> = pieces.collect();
    let pieces: Vec<&dyn Array> = pieces.iter().map(AsRef::as_ref).collect();
    concat(&pieces).ok()
}

fn as_lines(assembly: &Assembly, sources: &[Option<&Values>]) -> Option<Vec<Value>> {
    let values: Vec<Option<Vec<Value>>> = sources
        .iter()
        .map(|values| match values {
            None => Some(None),
            Some(Values::Lines(values)) => Some(Some(values.clone())),
            Some(Values::Table(values)) => Some(Some(as_json(values)?)),
        })
        .collect::<Option<_>>()?;
    let value = |part: &crate::tools::assembly::Part| {
        values[part.source].as_ref().and_then(|values| values.get(part.episode as usize)).cloned().unwrap_or_default()
    };
    Some(assembly.parts.iter().map(value).collect())
}

/// Values of one plain type, or nothing.
fn from_json(values: &[Value]) -> Option<ArrayRef> {
    let all = |is: fn(&Value) -> bool| values.iter().all(|value| value.is_null() || is(value));
    Some(if all(Value::is_boolean) {
        Arc::new(values.iter().map(Value::as_bool).collect::<BooleanArray>())
    } else if all(Value::is_string) {
        Arc::new(values.iter().map(Value::as_str).collect::<StringArray>())
    } else if all(Value::is_i64) {
        Arc::new(values.iter().map(Value::as_i64).collect::<Int64Array>())
    } else if all(Value::is_number) {
        Arc::new(values.iter().map(Value::as_f64).collect::<Float64Array>())
    } else {
        return None;
    })
}

/// Text, truth values, numbers and lists of numbers.
fn as_json(values: &ArrayRef) -> Option<Vec<Value>> {
    let valid = |row: usize, value: Value| if values.is_valid(row) { value } else { Value::Null };
    Some(match values.data_type() {
        DataType::Boolean => values.as_boolean().iter().map(|value| json!(value)).collect(),
        DataType::Null => vec![Value::Null; values.len()],
        DataType::List(field) | DataType::FixedSizeList(field, _) if !field.data_type().is_numeric() => return None,
        data_type if data_type.is_numeric() || matches!(data_type, DataType::List(_) | DataType::FixedSizeList(..)) => {
            to_json(values).into_iter().enumerate().map(|(row, value)| valid(row, value)).collect()
        }
        _ => strings(values)?.into_iter().enumerate().map(|(row, text)| valid(row, text.into())).collect(),
    })
}
