//! Records episodes of made-up frames whose images carry their own episode and frame number as
//! black and white squares, so that a reader can tell whether it got the right one.
//!
//! ```text
//! cargo run --release -p sinew-recorder --example record_synthetic -- DIR [EPISODES] [FRAMES] [ROBOT]
//! ```
//!
//! ROBOT is a robot.toml, such as `two_arms.toml` or `rover.toml` beside this file; without it, it is
//! `two_joint_arm.toml`.

#![allow(clippy::print_stdout, reason = "it is a command")]

use std::error::Error;
use std::path::PathBuf;

use sinew_core::{EpisodeEnd, EpisodeStart, Frame, FrameSink, Image, Outcome, RobotDescription, Timestamp};
use sinew_recorder::{DatasetRecorder, RecorderOptions};

const ROBOT: &str = include_str!("two_joint_arm.toml");

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let folder = PathBuf::from(arguments.next().ok_or("which folder should the dataset go to?")?);
    let episodes: u64 = arguments.next().map_or(Ok(5), |text| text.parse())?;
    let frames: u64 = arguments.next().map_or(Ok(45), |text| text.parse())?;

    let robot = match arguments.next() {
        Some(file) => RobotDescription::from_toml(&file, &std::fs::read_to_string(&file)?)?,
        None => RobotDescription::from_toml("two_joint_arm.toml", ROBOT)?,
    };
    let mut recorder = DatasetRecorder::create(&folder, &robot, 30, RecorderOptions::default())?;
    for attempt in 0..episodes + episodes / 3 {
        // Every fourth attempt fails and is dropped, as in a real session.
        let keep = attempt % 4 != 3;
        let task = ["Put the cube into the bin", "Touch the marker"][(attempt % 2) as usize];
        recorder.begin(&EpisodeStart { attempt, seed: attempt, task: task.to_owned() })?;
        let episode = recorder.totals().episodes;
        // Lengths differ, and are odd at times: a key frame then follows a key frame.
        for tick in 0..frames + 7 * (attempt % 5) {
            recorder.frame(&frame(&robot, episode, tick))?;
        }
        let outcome = if keep { Outcome::Success } else { Outcome::Failure("time is up".to_owned()) };
        recorder.end(&EpisodeEnd { outcome, keep, lost_frames: 0 })?;
    }
    let totals = recorder.totals();
    println!("{} episodes with {} frames are in {}", totals.episodes, totals.frames, folder.display());
    Ok(())
}

fn frame(robot: &RobotDescription, episode: u64, tick: u64) -> Frame {
    let mut frame = Frame { tick, ..Frame::for_robot(robot) };
    let phase = tick as f64 * 0.05 + episode as f64;
    let waves = |phase: f64, width| (0..width).map(|at| 0.5 + 0.5 * (phase + at as f64).sin()).collect::<Vec<f64>>();
    frame.wanted = waves(phase + 0.1, frame.wanted.len());
    frame.sent.clone_from(&frame.wanted);
    frame.observation.tick = tick;
    let state = &mut frame.observation.state;
    state.set_all(&waves(phase, state.width()), Timestamp::ZERO);
    for image in &mut frame.observation.images {
        paint(image, episode, tick);
    }
    frame
}

/// A moving colour gradient; on top a row of 16 squares of 6 pixels, white for a 1: 6 bits of the
/// episode, then 10 of the frame, least significant first.
fn paint(image: &mut Image, episode: u64, tick: u64) {
    let width = image.width as usize;
    for (at, pixel) in image.rgb.chunks_exact_mut(3).enumerate() {
        let (x, y) = (at % width, at / width);
        let number = (episode & 63) | (tick & 1023) << 6;
        let bit = x / 6;
        if y < 6 && bit < 16 {
            pixel.fill(if number >> bit & 1 == 1 { 255 } else { 0 });
        } else {
            let shift = tick as usize * 2;
            pixel.copy_from_slice(&[((x + shift) % 256) as u8, (y * 2 % 256) as u8, (200 - (x + y) / 2 % 200) as u8]);
        }
    }
}
