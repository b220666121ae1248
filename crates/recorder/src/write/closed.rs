//! Which files of a dataset a recorder is through with.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// The folders that hold numbered files, below the dataset's.
const TREES: [&str; 4] = ["data", "meta/episodes", "sinew/ticks", "videos"];

/// The files below `root` that no recorder adds to any more, by their paths in there: of each row of numbered files all
/// but the last. What is written anew with each episode, such as `meta/info.json`, is never among them.
pub fn closed_files(root: &Path) -> Vec<String> {
    let mut rows: BTreeMap<String, Vec<(Vec<u64>, String)>> = BTreeMap::new();
    let mut folders: Vec<String> = TREES.iter().map(|tree| (*tree).to_owned()).collect();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(root.join(&folder)).into_iter().flatten().flatten() {
            let Ok(name) = entry.file_name().into_string() else { continue };
            let path = format!("{folder}/{name}");
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => folders.push(path),
                Ok(kind) if kind.is_file() => {
                    if let Some((row, numbers)) = numbered(&path) {
                        rows.entry(row).or_default().push((numbers, path));
                    }
                }
                _ => {}
            }
        }
    }
    let mut closed = Vec::new();
    for mut files in rows.into_values() {
        files.sort();
        files.pop();
        closed.extend(files.into_iter().map(|(_, path)| path));
    }
    closed
}

/// The row that a file is of, and its place in it: `data/chunk-000/file-002.parquet`, or the names of v2.1.
fn numbered(path: &str) -> Option<(String, Vec<u64>)> {
    let mut numbers = Vec::new();
    let mut row = Vec::new();
    for part in path.split('/') {
        let stem = part.split_once('.').map_or(part, |(stem, _)| stem);
        let digits = ["chunk-", "file-", "episode_"].iter().find_map(|begin| stem.strip_prefix(begin));
        match digits.and_then(|digits| digits.parse().ok()) {
            Some(number) => {
                numbers.push(number);
                row.push("*");
            }
            None => row.push(part),
        }
    }
    // A chunk and a file.
    (numbers.len() == 2).then(|| (row.join("/"), numbers))
}
