//! How much room a result takes.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::CameraWork;
use super::assembly::{Assembly, place};
use super::keep::Sharing;
use super::state::files_of;
use super::videos::whole_videos;
use super::whole::WholeFile;
use crate::format::schema::DATA;
use crate::{Episode, ReadError};

/// The room that a plan's results take, about, and what there is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Space {
    /// Without what is shared with the source.
    pub needed_bytes: u64,
    /// `None` where the system does not say.
    pub free_bytes: Option<u64>,
}

impl Space {
    pub(super) fn is_enough(&self) -> bool {
        self.free_bytes.is_none_or(|free| self.needed_bytes <= free)
    }
}

/// Bytes as "1.2 MB".
pub fn bytes_in_words(n: u64) -> String {
    match n {
        0..1_000 => format!("{n} B"),
        1_000..1_000_000 => format!("{:.1} kB", n as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", n as f64 / 1e6),
        _ => format!("{:.2} GB", n as f64 / 1e9),
    }
}

impl fmt::Display for Space {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let free = self.free_bytes.unwrap_or(0);
        let [mut needed, mut there] = [self.needed_bytes, free].map(bytes_in_words);
        // In numbers that show the difference.
        if needed == there && self.needed_bytes != free {
            [needed, there] = [self.needed_bytes, free].map(|bytes| format!("{bytes} B"));
        }
        write!(f, "about {needed} are needed there, but {there} are free")
    }
}

/// About how many bytes are written for `assembly`.
pub(super) fn needed_bytes(assembly: &Assembly, sharing: Sharing) -> Result<u64, ReadError> {
    let mut bytes = 0;
    let shared = |mut whole: BTreeMap<usize, WholeFile>| {
        whole.retain(|_, file| sharing.shares(&file.path));
        whole
    };
    for (key, feature) in &assembly.features {
        let pixels: u64 = feature["shape"].as_array().into_iter().flatten().filter_map(serde_json::Value::as_u64).product();
        let was_video = assembly.sources[0].features()[key.as_str()]["dtype"] == "video";
        bytes += match feature["dtype"].as_str() {
            Some("video") if was_video => {
                let of_camera = |episode: &Episode| Some(episode.videos.iter().find(|span| span.key == *key)?.path.clone());
                shares(assembly, &shared(whole_videos(assembly, key)), of_camera)
            }
            // Video has a tenth of a bit a value, still images half a byte.
            Some("video") => assembly.frames() * pixels / 80,
            Some("image") if was_video => assembly.frames() * pixels / 2,
            _ => 0,
        };
        if let Some(CameraWork::Encode(_)) = assembly.cameras.get(key) {
            bytes += assembly.frames() * pixels / 80;
        }
    }
    let mut tables = shared(assembly.whole_tables());
    let unchanged = keeps_rows(assembly);
    tables.retain(|first, file| unchanged(*first) && unchanged(*first + file.parts - 1));
    bytes += shares(assembly, &tables, |episode| Some(episode.data_path.clone()));
    for source in &assembly.sources {
        let small = files_of(source.root())?.into_iter().filter(|found| !found.path.starts_with(DATA) && !found.path.starts_with("videos"));
        bytes += small.map(|found| found.bytes()).sum::<u64>();
    }
    Ok(bytes)
}

/// The bytes of the parts' shares of the files that `file_of` names, but for those that are shared.
fn shares(assembly: &Assembly, shared: &BTreeMap<usize, WholeFile>, file_of: impl Fn(&Episode) -> Option<String>) -> u64 {
    let mut files: BTreeMap<PathBuf, (u64, u64)> = BTreeMap::new();
    let length = |path: &Path| fs::metadata(path).map_or(0, |metadata| metadata.len());
    for source in &assembly.sources {
        for episode in source.episodes() {
            let Some(path) = file_of(episode).map(|path| source.root().join(path)) else { continue };
            let bytes = length(&path);
            files.entry(path).or_insert((bytes, 0)).1 += episode.length;
        }
    }
    let (mut sum, mut at) = (0, 0);
    while let Some(part) = assembly.parts.get(at) {
        if let Some(file) = shared.get(&at) {
            at += file.parts;
            continue;
        }
        let source = &assembly.sources[part.source];
        let path = source.episodes().get(part.episode as usize).and_then(&file_of).map(|path| source.root().join(path));
        if let Some((bytes, frames)) = path.and_then(|path| files.get(&path).copied()) {
            sum += (u128::from(bytes) * u128::from(part.frames) / u128::from(frames.max(1))) as u64;
        }
        at += 1;
    }
    sum
}

/// Of a part's number, whether its rows are expected to be what they are in the source.
fn keeps_rows(assembly: &Assembly) -> impl Fn(usize) -> bool {
    let source = &assembly.sources[0];
    let columns = |features: &serde_json::Map<String, serde_json::Value>| {
        features.iter().filter(|(_, feature)| feature["dtype"] != "video").map(|(key, _)| key.clone()).collect::<Vec<_>>()
    };
    let same_columns = columns(source.features()) == columns(&assembly.features);
    let mut tasks = assembly.tasks();
    let numbers: Vec<u64> = source.tasks().iter().map(|task| place(assembly.renamed(task), &mut tasks)).collect();
    let same_tasks = source.episodes().iter().map(|episode| {
        let stays = |task: &String| source.tasks().iter().position(|known| known == task).is_some_and(|at| numbers[at] == at as u64);
        episode.tasks.iter().all(stays)
    });
    let same_tasks: Vec<bool> = same_tasks.collect();
    // Numbers are what they were up to the first episode that goes.
    let in_place = assembly.parts.iter().enumerate().take_while(|(number, part)| part.episode == *number as u64).count();
    move |number| same_columns && number < in_place && same_tasks.get(number).copied().unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_can_be_told_from_what_is_there() {
        let said = |needed_bytes, free| Space { needed_bytes, free_bytes: Some(free) }.to_string();
        assert_eq!(said(40_100, 12_288), "about 40.1 kB are needed there, but 12.3 kB are free");
        assert_eq!(said(2_000_010, 2_000_000), "about 2000010 B are needed there, but 2000000 B are free");
    }
}
