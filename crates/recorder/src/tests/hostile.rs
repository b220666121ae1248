//! Damaged files, and files made to do damage: whatever their bytes, everything that reads a dataset
//! answers or refuses, in bounded time and memory, and writes nothing outside.
//!
//! The test command tries some of them. For longer:
//! `SINEW_HOSTILE_SECONDS=600 cargo test --release hostile -- --nocapture`.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use fastrand::Rng;
use serde_json::{Value, json};

use super::contents;
use super::model::{go_on, record, small_robot};
use super::reading::{golden, has_ffmpeg};
use crate::{
    Conversion, DatasetReader, DatasetRecorder, Loader, Output, PageOptions, RecorderOptions, ShortVideo, Version, Windows, plan_convert,
    plan_delete, plan_repair, undo, unfinished, verify_with, write_html,
};

const SECONDS: &str = "SINEW_HOSTILE_SECONDS";
/// How many mutants the test command tries.
const SAMPLE: u64 = 50;
/// No operation on datasets this small takes longer, but one that runs away.
const LONGEST: Duration = Duration::from_secs(30);
/// Nor more memory, in kB.
const MOST_MEMORY_KB: u64 = 1 << 20;

#[test]
fn what_is_damaged_is_refused_or_read() {
    let folder = tempfile::tempdir().unwrap();
    let recorded = folder.path().join("recorded");
    record(&recorded, 3, &[3, 5, 2]);
    let older = folder.path().join("older");
    let conversion = Conversion { version: Some(Version::V21), cameras: None };
    plan_convert(&recorded, &conversion).unwrap().run(&Output::Folder(older.clone()), &mut go_on).unwrap();
    let mut subjects = vec![recorded, older, golden("h264"), golden("killed")];
    if has_ffmpeg() {
        subjects.push(golden("mixed"));
    }
    let seconds = std::env::var(SECONDS).ok().map(|seconds| seconds.parse().unwrap());
    let end = Instant::now() + Duration::from_secs(seconds.unwrap_or(3600));
    let memory_before = peak_memory_kb();
    let (mut tried, mut answered, mut refused) = (0, 0, 0);
    for seed in (0..).take_while(|seed| if seconds.is_some() { Instant::now() < end } else { *seed < SAMPLE }) {
        let mut random = Rng::with_seed(seed);
        let room = folder.path().join("room");
        let root = room.join("dataset");
        copy(random.choice(&subjects).unwrap(), &root);
        let what = format!("mutant {seed}, {}", mutate(&mut random, &root));
        let outside = contents(folder.path()).into_keys().filter(|path| !path.starts_with("room")).collect::<Vec<_>>();
        for (operation, run) in OPERATIONS {
            let begin = Instant::now();
            match catch_unwind(AssertUnwindSafe(|| run(&root, &room.join("result")))) {
                Ok(true) => answered += 1,
                Ok(false) => refused += 1,
                Err(_) => panic!("{operation} of {what}"),
            }
            assert!(begin.elapsed() < LONGEST, "{operation} of {what} took {:?}", begin.elapsed());
            tried += 1;
        }
        let memory = peak_memory_kb().saturating_sub(memory_before);
        assert!(memory < MOST_MEMORY_KB, "{what}: {memory} kB");
        let left: Vec<_> = fs::read_dir(&room).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        let ours = |name: &std::ffi::OsString| {
            ["dataset", "result", "result.html", ".dataset.undo", ".dataset.undo.json"].iter().any(|ours| name == ours)
        };
        assert!(left.iter().all(ours), "{what} left {left:?}");
        assert_eq!(outside, contents(folder.path()).into_keys().filter(|path| !path.starts_with("room")).collect::<Vec<_>>(), "{what}");
        fs::remove_dir_all(&room).unwrap();
    }
    println!("{tried} operations: {answered} answered, {refused} refused");
    assert!(answered > tried / 10 && refused > tried / 10, "{answered} and {refused} of {tried}");
}

/// What is done to a dataset, and whether it was answered.
type Operation = fn(&Path, &Path) -> bool;

const OPERATIONS: [(&str, Operation); 8] = [
    ("reading", |root, _| {
        let Ok(reader) = DatasetReader::open(root) else { return false };
        let mut all = reader.stats().is_ok() & reader.episode_stats().is_ok();
        for episode in reader.episodes().iter().take(8) {
            let frames = 0..episode.length.min(20);
            all &= reader.rows(episode.episode_index, frames.clone()).is_ok();
            for camera in reader.cameras().take(4) {
                all &= reader
                    .images(episode.episode_index, camera, frames.clone())
                    .is_ok_and(|images| images.take(20).all(|image| image.is_ok()));
            }
        }
        all
    }),
    ("loading", |root, _| {
        let Ok(reader) = DatasetReader::open(root) else { return false };
        let Ok(mut loader) = Loader::new(&reader, &Windows::default()) else { return false };
        let last = reader.total_frames().saturating_sub(1);
        [0, last / 2, last].into_iter().all(|index| loader.item(index).is_ok())
    }),
    ("verifying", |root, _| verify_with(root, true, &mut go_on).is_ok()),
    ("showing", |root, result| {
        let Ok(reader) = DatasetReader::open(root) else { return false };
        write_html(&reader, &[0], &PageOptions::default(), &result.with_extension("html"), &mut go_on).is_ok()
    }),
    ("looking for what is unfinished", |root, _| unfinished(root).is_ok()),
    ("resuming", |root, _| DatasetRecorder::resume(root, &small_robot(), 30, RecorderOptions::default()).is_ok()),
    ("deleting", |root, result| plan_delete(root, &[0]).is_ok_and(|plan| plan.run(&Output::Folder(result.to_owned()), &mut go_on).is_ok())),
    ("repairing", |root, _| {
        let Ok(Some(plan)) = plan_repair(root, ShortVideo::CutRows, &mut go_on) else { return false };
        let is_mended = plan.run(&Output::InPlace, &mut go_on).is_ok();
        if is_mended {
            assert_eq!(verify_with(root, false, &mut go_on).unwrap(), [], "after the repair");
            undo(root).unwrap();
        }
        is_mended
    }),
];

fn copy(from: &Path, to: &Path) {
    for (path, bytes) in contents(from) {
        let target = to.join(path);
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        fs::write(target, bytes).unwrap();
    }
}

/// Damages a file of a dataset, and says how.
fn mutate(random: &mut Rng, root: &Path) -> String {
    let files: Vec<PathBuf> = contents(root).into_keys().collect();
    let file = &files[random.usize(0..files.len())];
    let path = root.join(file);
    let mut bytes = fs::read(&path).unwrap();
    let is_json = file.extension().is_some_and(|extension| extension == "json");
    if is_json && random.u32(0..8) > 0 {
        let mut whole: Value = serde_json::from_slice(&bytes).unwrap();
        let changes: Vec<String> = (0..random.usize(1..3)).map(|_| mutate_json(random, &mut whole)).collect();
        fs::write(&path, serde_json::to_vec(&whole).unwrap()).unwrap();
        return format!("{} with {}", file.display(), changes.join(" and "));
    }
    let place = random.usize(0..bytes.len().max(1));
    let run = random.usize(1..64).min(bytes.len() - place);
    let how = match random.u32(0..8) {
        0..3 => {
            let count = random.usize(1..9);
            // Of a table the end tells where everything is.
            let from = if random.bool() { bytes.len().saturating_sub(600) } else { 0 };
            for _ in 0..count {
                let place = random.usize(from..bytes.len());
                bytes[place] ^= 1 << random.u32(0..8);
            }
            format!("{count} bits flipped")
        }
        3 => {
            bytes[place..place + run].fill(if random.bool() { 0xff } else { 0 });
            format!("{run} bytes wiped at {place}")
        }
        4 => {
            bytes.truncate(place);
            format!("cut to {place} bytes")
        }
        5 => {
            bytes.drain(place..place + run);
            format!("{run} bytes dropped at {place}")
        }
        6 => {
            let again = bytes[place..place + run].to_vec();
            bytes.splice(place..place, again);
            format!("{run} bytes doubled at {place}")
        }
        _ => {
            let other = random.choice(&files).unwrap();
            bytes = fs::read(root.join(other)).unwrap();
            format!("the bytes of {}", other.display())
        }
    };
    fs::write(&path, bytes).unwrap();
    format!("{} with {how}", file.display())
}

/// Puts something that does not belong there somewhere into `whole`, and says what.
fn mutate_json(random: &mut Rng, whole: &mut Value) -> String {
    let mut paths = Vec::new();
    pointers(whole, String::new(), &mut paths);
    let at = random.choice(&paths).unwrap().clone();
    let extremes = [
        json!(-1),
        json!(0),
        json!(1),
        json!(3),
        json!(1u64 << 20),
        json!(u64::from(u32::MAX) + 1),
        json!(i64::MAX),
        json!(u64::MAX),
        json!(1e300),
        json!(-0.5),
        json!(null),
        json!(true),
        json!(""),
        json!("../../outside"),
        json!("/tmp/outside"),
        json!("{video_key}{chunk_index}"),
        json!("video"),
        json!("float32"),
        json!([]),
        json!([u64::MAX, u64::MAX]),
        json!({}),
        json!({"dtype": "image", "shape": [1u64 << 31, 1u64 << 31, 3]}),
    ];
    let value = random.choice(&extremes).unwrap().clone();
    let text = format!("{value} at {at:?}");
    if let Some(place) = whole.pointer_mut(&at) {
        match place {
            Value::Object(entries) if random.bool() => drop(entries.insert("../more".to_owned(), value)),
            Value::Array(entries) if random.bool() => entries.push(value),
            place => *place = value,
        }
    }
    text
}

/// The JSON pointers of all values.
fn pointers(value: &Value, at: String, all: &mut Vec<String>) {
    let escaped = |key: &str| key.replace('~', "~0").replace('/', "~1");
    match value {
        Value::Object(entries) => entries.iter().for_each(|(key, value)| pointers(value, format!("{at}/{}", escaped(key)), all)),
        Value::Array(entries) => entries.iter().enumerate().for_each(|(key, value)| pointers(value, format!("{at}/{key}"), all)),
        _ => {}
    }
    all.push(at);
}

/// Of this process, where the system tells.
fn peak_memory_kb() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok()).unwrap_or(0)
}
