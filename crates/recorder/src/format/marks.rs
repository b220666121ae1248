//! What is known of an episode beside its rows: whether it was a success, and why it ended.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, StringArray};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::ReadError;
use crate::format::arrays::{integers, strings};
use crate::format::info::parquet_files;
use crate::format::json::read_lines;
use crate::format::parquet_read::{footer, read_parquet};
use crate::format::schema::{EPISODES, EPISODES_21};

/// Sinew's own file: a line an episode.
pub(crate) const LINES: &str = "meta/sinew_episodes.jsonl";
/// Columns of the episodes table, which LeRobot reads over. Its first file must have them where a later one
/// has, or LeRobot cannot open the dataset.
pub(crate) const SUCCESS: &str = "sinew/success";
pub(crate) const REASON: &str = "sinew/reason";

/// How an episode ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Marks {
    /// `None` where nobody decided.
    pub(crate) success: Option<bool>,
    /// Of a failure.
    pub(crate) reason: Option<String>,
}

impl Marks {
    /// Of what a recorder notes of an episode; `None` where it notes no outcome.
    pub(crate) fn of_note(note: &Map<String, Value>) -> Option<Self> {
        let success = match note.get("outcome")?.as_str()? {
            "success" => Some(true),
            "failure" => Some(false),
            _ => None,
        };
        Some(Self { success, reason: note.get("failure").and_then(Value::as_str).map(str::to_owned) })
    }
}

/// The columns of the episodes table that say so of all episodes.
pub(crate) fn columns<'a>(marks: impl Iterator<Item = &'a Marks> + Clone) -> Vec<(String, ArrayRef)> {
    let success: BooleanArray = marks.clone().map(|marks| marks.success).collect();
    let reason: StringArray = marks.map(|marks| marks.reason.as_deref()).collect();
    vec![(SUCCESS.to_owned(), Arc::new(success)), (REASON.to_owned(), Arc::new(reason))]
}

/// Whether the episodes table has the columns: what its first file has decides, as for LeRobot.
pub(crate) fn has_columns(root: &Path) -> bool {
    let first = parquet_files(&root.join(EPISODES)).ok().and_then(|files| files.into_iter().next());
    let footer = first.and_then(|path| footer(&path).ok());
    footer.is_some_and(|(_, footer)| [SUCCESS, REASON].iter().all(|name| footer.schema().field_with_name(name).is_ok()))
}

/// What Sinew's own file says of each episode.
///
/// # Errors
/// When it can't be read.
pub(crate) fn notes(root: &Path) -> Result<BTreeMap<u64, Map<String, Value>>, ReadError> {
    let path = root.join(LINES);
    if !path.exists() {
        return Ok(BTreeMap::new());
    }
    let lines: Vec<Map<String, Value>> = read_lines(&path)?;
    Ok(lines.into_iter().filter_map(|line| Some((line.get("episode_index")?.as_u64()?, line))).collect())
}

/// What the older versions' table of episodes says, where the columns have become keys.
fn of_lines(root: &Path) -> Result<BTreeMap<u64, Marks>, ReadError> {
    #[derive(Deserialize)]
    struct Line {
        episode_index: u64,
        #[serde(rename = "sinew/success")]
        success: Option<bool>,
        #[serde(rename = "sinew/reason")]
        reason: Option<String>,
    }
    let path = root.join(EPISODES_21);
    let lines: Vec<Line> = if path.exists() { read_lines(&path)? } else { Vec::new() };
    let marked = lines.into_iter().filter(|line| line.success.is_some() || line.reason.is_some());
    Ok(marked.map(|line| (line.episode_index, Marks { success: line.success, reason: line.reason })).collect())
}

/// How each episode of the dataset in the folder `root` ended, as far as that is known. The table counts
/// before the file, since other programs carry its columns along.
///
/// # Errors
/// When a table can't be read.
pub(crate) fn marks(root: &Path) -> Result<BTreeMap<u64, Marks>, ReadError> {
    let noted = notes(root)?.into_iter().filter_map(|(episode, note)| Some((episode, Marks::of_note(&note)?)));
    let mut marks: BTreeMap<u64, Marks> = noted.collect();
    if !root.join(EPISODES).exists() {
        marks.extend(of_lines(root)?);
        return Ok(marks);
    }
    for path in parquet_files(&root.join(EPISODES))? {
        for batch in read_parquet(&path, &["episode_index", SUCCESS, REASON])? {
            let success = batch.column_by_name(SUCCESS).and_then(|column| column.as_boolean_opt());
            let reason = batch.column_by_name(REASON).and_then(|column| Some((column, strings(column)?)));
            let (Some(success), Some((column, reason))) = (success, reason) else { continue };
            for (row, episode) in integers(&batch, "episode_index").unwrap_or_default().into_iter().enumerate() {
                let success = success.is_valid(row).then(|| success.value(row));
                let reason = column.is_valid(row).then(|| reason[row].clone());
                // A row that another program has added says nothing.
                if success.is_some() || reason.is_some() {
                    marks.insert(episode, Marks { success, reason });
                }
            }
        }
    }
    Ok(marks)
}
