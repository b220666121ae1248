//! Files of a source that hold episodes of the result and nothing else, in their order: they can be taken
//! over as they are.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::assembly::Assembly;
use crate::Episode;
use crate::format::parquet_read::footer;
use crate::media::mp4_read::{VideoIndex, read_video};
use crate::media::video_reader::TOLERANCE_S;

/// A file and how many parts of the result, one after another, are in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct WholeFile {
    pub(super) path: PathBuf,
    pub(super) parts: usize,
}

/// By the number of the first part, the files whose episodes, as `file_of` names them, all go into the
/// result whole and in their order. What else is in the files is not looked at.
pub(super) fn whole_files(assembly: &Assembly, file_of: impl Fn(&Episode) -> Option<&str>) -> BTreeMap<usize, WholeFile> {
    // Of each source and file its first episode, and how many there are.
    let mut files: BTreeMap<(usize, &str), (u64, u64)> = BTreeMap::new();
    for (number, source) in assembly.sources.iter().enumerate() {
        for episode in source.episodes() {
            if let Some(file) = file_of(episode) {
                files.entry((number, file)).or_insert((episode.episode_index, 0)).1 += 1;
            }
        }
    }
    let entry = |part: usize| {
        let part = assembly.parts.get(part)?;
        let episode = assembly.sources[part.source].episodes().get(part.episode as usize)?;
        (episode.length == part.frames).then_some((part.source, file_of(episode)?, part.episode))
    };
    let (mut found, mut at) = (BTreeMap::new(), 0);
    while at < assembly.parts.len() {
        let whole = entry(at).and_then(|(source, file, episode)| {
            let (first, count) = files.get(&(source, file)).copied()?;
            let all = (0..count).all(|step| entry(at + step as usize) == Some((source, file, episode + step)));
            (episode == first && all).then(|| (assembly.sources[source].root().join(file), count as usize))
        });
        match whole {
            Some((path, parts)) => {
                found.insert(at, WholeFile { path, parts });
                at += parts;
            }
            None => at += 1,
        }
    }
    found
}

/// Whether the table has the rows of these parts and no others.
pub(super) fn has_no_other_rows(assembly: &Assembly, first: usize, file: &WholeFile) -> bool {
    let rows: u64 = assembly.parts[first..first + file.parts].iter().map(|part| part.frames).sum();
    footer(&file.path).is_ok_and(|(_, footer)| footer.metadata().file_metadata().num_rows() == rows as i64)
}

/// The index of the video if it has the frames of these parts of the camera `key` and no others, each part
/// beginning where it can be decoded.
pub(super) fn without_other_frames(assembly: &Assembly, first: usize, file: &WholeFile, key: &str) -> Option<VideoIndex> {
    let video = read_video(&file.path).ok()?;
    let shown_at = |frame: u64, expected_s: f64| video.seconds(frame).is_some_and(|found| (found - expected_s).abs() < TOLERANCE_S);
    let mut frames = 0;
    for part in &assembly.parts[first..first + file.parts] {
        let reader = &assembly.sources[part.source];
        let second = |frame: u64| frame as f64 / f64::from(reader.fps());
        let span = reader.episodes().get(part.episode as usize)?.videos.iter().find(|span| span.key == key)?;
        let begins_alone = video.samples.get(*video.shown.get(frames as usize)? as usize)?.is_key;
        let end = frames + part.frames;
        if !begins_alone
            || (span.from_s - second(frames)).abs() >= TOLERANCE_S
            || !(frames..end).all(|frame| shown_at(frame, second(frame)))
        {
            return None;
        }
        frames = end;
    }
    (video.frames() == frames).then_some(video)
}
