//! Random sequences of everything that changes a dataset, against a model in memory.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use sinew_core::{FrameSink, RobotDescription};

use super::{assert_whole, finish, frame, start};
use crate::{
    Conversion, DatasetReader, DatasetRecorder, Output, Plan, RecorderOptions, Values, Version, Windows, plan_convert, plan_delete,
    plan_merge, plan_rename_task, plan_split, plan_stats, undo,
};

/// An episode as it must be read: of each frame the task, the numbers, and a hash of the images.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Episode {
    task: String,
    /// `[frames]` of action, then state.
    rows: Vec<Vec<f64>>,
    images: Vec<u64>,
}

impl Episode {
    /// Its first frames.
    pub(crate) fn rows_cut(&self, frames: usize) -> (Vec<Vec<f64>>, Vec<u64>) {
        (self.rows[..frames].to_vec(), self.images[..frames].to_vec())
    }
}

pub(crate) fn go_on(_: crate::Step<'_>) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

pub(crate) fn small_robot() -> RobotDescription {
    let mut robot = super::robot();
    for camera in &mut robot.cameras {
        (camera.width, camera.height) = (32, 32);
    }
    robot
}

/// All that is in the dataset.
pub(crate) fn read(root: &Path) -> Vec<Episode> {
    let reader = DatasetReader::open(root).unwrap();
    let mut loader = crate::Loader::new(&reader, &Windows::default()).unwrap();
    let mut episodes = Vec::new();
    for entry in reader.episodes() {
        let (mut rows, mut images, mut task) = (Vec::new(), Vec::new(), String::new());
        for item in loader.items(entry.first_index..entry.first_index + entry.length).map(Result::unwrap) {
            let numbers = ["action", "observation.state"].map(|key| match &item.values[key] {
                Values::Numbers { values, .. } => values.clone(),
                Values::Text(_) => panic!(),
            });
            rows.push(numbers.concat());
            let mut hasher = DefaultHasher::new();
            item.images.values().for_each(|images| images[0].rgb.hash(&mut hasher));
            images.push(hasher.finish());
            task = item.task;
        }
        episodes.push(Episode { task, rows, images });
    }
    episodes
}

/// Records episodes of these lengths; their contents depend on `seed`.
pub(crate) fn record(root: &Path, seed: u64, lengths: &[u64]) {
    let robot = small_robot();
    let options = RecorderOptions::default();
    let mut recorder = match root.join("meta").exists() {
        true => DatasetRecorder::resume(root, &robot, 30, options).unwrap(),
        false => DatasetRecorder::create(root, &robot, 30, options).unwrap(),
    };
    for (at, length) in lengths.iter().enumerate() {
        let number = seed * 7 + at as u64;
        recorder.begin(&start(number, ["Push the cube", "Touch the marker", "Wave"][number as usize % 3])).unwrap();
        for tick in 0..*length {
            recorder.frame(&frame(&robot, number, tick)).unwrap();
        }
        recorder.end(&finish(true)).unwrap();
    }
}

#[derive(Clone, Debug)]
enum Operation {
    Record(u64, Vec<u64>),
    Delete(Vec<u64>),
    /// Goes on with the second part, which begins with this episode.
    Split(usize),
    /// With episodes recorded elsewhere, before or after.
    Merge(u64, Vec<u64>, bool),
    Convert(Version),
    Rename(usize, &'static str),
    Stats,
    DeleteAndUndo(u64),
}

fn lengths(random: &mut fastrand::Rng) -> Vec<u64> {
    (0..random.usize(1..4)).map(|_| random.u64(1..7)).collect()
}

/// An operation on a dataset of so many episodes.
fn operation(random: &mut fastrand::Rng, episodes: usize) -> Operation {
    let episode = random.usize(0..episodes);
    match random.u32(0..14) {
        0..3 => Operation::Record(random.u64(0..50), lengths(random)),
        3 | 4 => Operation::Delete((0..episodes as u64).filter(|_| random.u32(0..3) == 0).collect()),
        5 => Operation::Split(episode),
        6 | 7 => Operation::Merge(random.u64(50..99), lengths(random), random.bool()),
        8..11 => Operation::Convert([Version::V20, Version::V21, Version::V30][random.usize(0..3)]),
        11 => Operation::Rename(episode, ["Wave", "Fold the cloth"][random.usize(0..2)]),
        12 => Operation::Stats,
        _ => Operation::DeleteAndUndo(episode as u64),
    }
}

fn in_place(plan: Result<Plan, crate::ToolError>) {
    plan.unwrap().run(&Output::InPlace, &mut go_on).unwrap();
}

fn to_version(root: &Path, version: Version) {
    if DatasetReader::open(root).unwrap().version() != version {
        in_place(plan_convert(root, &Conversion { version: Some(version), cameras: None }));
    }
}

fn apply(folder: &Path, root: &mut PathBuf, model: &mut Vec<Episode>, number: usize, operation: &Operation) {
    let fresh = |what: &str| folder.join(format!("{what}{number}"));
    match operation {
        Operation::Record(seed, lengths) => {
            to_version(root, Version::V30);
            let before = model.len();
            record(root, *seed, lengths);
            let all = read(root);
            assert_eq!(all[..before], model[..], "what was there before recording");
            assert_eq!(all[before..].iter().map(|episode| episode.rows.len() as u64).collect::<Vec<_>>(), *lengths);
            *model = all;
        }
        Operation::Delete(gone) => {
            let plan = plan_delete(root, gone);
            if gone.len() == model.len() {
                assert!(plan.is_err());
                return;
            }
            in_place(plan);
            for episode in gone.iter().rev() {
                model.remove(*episode as usize);
            }
        }
        Operation::Split(at) => {
            let at = *at;
            if at == 0 {
                return;
            }
            let range = |from: usize, to: usize| (from as u64..to as u64).collect::<Vec<u64>>();
            let parts = [("one".to_owned(), range(0, at)), ("two".to_owned(), range(at, model.len()))];
            let made = plan_split(root, &parts).unwrap().run(&Output::Folder(fresh("split")), &mut go_on).unwrap();
            assert_eq!(read(&made[0]), model[..at]);
            *root = made[1].clone();
            model.drain(..at);
        }
        Operation::Merge(seed, lengths, first) => {
            let other = fresh("other");
            record(&other, *seed, lengths);
            let more = read(&other);
            let roots = if *first { [other, root.clone()] } else { [root.clone(), other] };
            let target = fresh("merged");
            plan_merge(&roots).unwrap().run(&Output::Folder(target.clone()), &mut go_on).unwrap();
            *root = target;
            *model = if *first { [more, model.clone()].concat() } else { [model.clone(), more].concat() };
        }
        Operation::Convert(version) => to_version(root, *version),
        Operation::Rename(at, to) => {
            let from = model[*at].task.clone();
            in_place(plan_rename_task(root, &from, to));
            model.iter_mut().filter(|episode| episode.task == from).for_each(|episode| episode.task = (*to).to_owned());
        }
        Operation::Stats => in_place(plan_stats(root)),
        Operation::DeleteAndUndo(at) => {
            if model.len() > 1 {
                in_place(plan_delete(root, &[*at]));
                undo(root).unwrap();
            }
        }
    }
}

#[test]
fn a_dataset_is_what_was_done_to_it() {
    for seed in 0..cases() {
        let mut random = fastrand::Rng::with_seed(seed);
        let folder = tempfile::tempdir().unwrap();
        let mut root = folder.path().join("dataset");
        record(&root, seed, &lengths(&mut random));
        let mut model = read(&root);
        for number in 0..random.usize(1..7) {
            let operation = operation(&mut random, model.len());
            apply(folder.path(), &mut root, &mut model, number, &operation);
            assert_whole(&root);
            assert_eq!(read(&root), model, "seed {seed}, after operation {number}, {operation:?}");
        }
    }
}

/// More with the environment's `SINEW_MODEL_CASES`.
fn cases() -> u64 {
    std::env::var("SINEW_MODEL_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(12)
}
