//! Tests of the crate as a whole, and what they share.

mod committing;
mod crash;
mod dataset;
mod depth;
mod editing;
mod export;
mod features;
mod golden;
mod hostile;
pub(crate) mod injected;
mod model;
mod odd;
mod overload;
mod placing;
mod power;
mod reading;
mod repairing;
mod robots;
mod tools;
mod view;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use sinew_core::{EpisodeEnd, EpisodeStart, Frame, FrameSink, Observation, Outcome, RobotDescription, SinkError, Timestamp};

use crate::{DatasetRecorder, RecorderOptions, verify};

pub(crate) fn robot() -> RobotDescription {
    RobotDescription::from_toml("two_joint_arm.toml", include_str!("../../examples/two_joint_arm.toml")).unwrap()
}

/// A frame that differs from every other in its images and state.
pub(crate) fn frame(robot: &RobotDescription, episode: u64, tick: u64) -> Frame {
    let mut observation = Observation { tick, ..Observation::for_robot(robot) };
    observation.state.set_all(&[(tick as f64 * 0.1).sin(), 0.5 + 0.01 * episode as f64], Timestamp::ZERO);
    for (camera, image) in observation.images.iter_mut().enumerate() {
        let width = image.width as usize;
        for (at, pixel) in image.rgb.chunks_exact_mut(3).enumerate() {
            let (x, y) = (at % width, at / width);
            let shift = tick as usize * 3 + episode as usize * 20 + camera * 40;
            pixel.copy_from_slice(&[((x + shift) % 256) as u8, ((y * 2 + shift) % 256) as u8, (x / 8 * 16 + y) as u8]);
        }
    }
    Frame { tick, wanted: vec![0.3, 0.4 + tick as f64 * 1e-3], sent: vec![0.3, 0.4], observation, ..Frame::default() }
}

pub(crate) fn start(attempt: u64, task: &str) -> EpisodeStart {
    EpisodeStart { attempt, seed: attempt + 100, task: task.to_owned() }
}

pub(crate) fn finish(keep: bool) -> EpisodeEnd {
    EpisodeEnd { outcome: if keep { Outcome::Success } else { Outcome::Failure("time is up".to_owned()) }, keep, lost_frames: 0 }
}

/// Records one attempt of `frames` frames.
pub(crate) fn attempt(recorder: &mut DatasetRecorder, number: u64, frames: u64, keep: bool) -> Result<(), SinkError> {
    recorder.begin(&start(number, if number.is_multiple_of(2) { "Push the cube" } else { "Touch the marker" }))?;
    for tick in 0..frames {
        recorder.frame(&frame(&robot(), number, tick))?;
    }
    recorder.end(&finish(keep))
}

pub(crate) fn create(root: &Path) -> DatasetRecorder {
    DatasetRecorder::create(root, &robot(), 30, RecorderOptions::default()).unwrap()
}

/// Every file under `root` with its contents.
pub(crate) fn contents(root: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                files.insert(path.strip_prefix(root).unwrap().to_owned(), fs::read(&path).unwrap());
            }
        }
    }
    files
}

pub(crate) fn assert_whole(root: &Path) {
    assert_eq!(verify(root).unwrap(), []);
}

/// The message of an error and of all that caused it.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", chain(source)),
        None => error.to_string(),
    }
}
