//! Times the recorder at a camera's pace or as fast as it goes: three cameras of 640×480 by default.
//!
//! ```text
//! cargo run --release -p sinew-recorder --example bench_recording -- DIR [NAME=VALUE...]
//! ```
//!
//! `cameras=3`, `fps=30`, `frames=1800` an episode, `episodes=3`, `size=640x480`, `encoder=h264`, `gop=2`,
//! `quality=24`, `overload=drop` (or `wait`: as fast as it goes, in no time of its own), `pace=0` (with `wait`:
//! the last so many seconds of an episode come at the camera's pace all the same, so that an hour fits into
//! twenty minutes), `dump=FILE` for the raw pictures of one round, which a camera shows from its 7th times
//! its number on. Prints, as one JSON line: CPU seconds for each recorded second, dropped rows, the time of
//! `save_episode` (all of them, milliseconds), the process's memory at the end of each episode and the most
//! that it had (the pictures included).

#![allow(clippy::print_stdout, reason = "it is a command")]

mod options;

use std::error::Error;
use std::time::{Duration, Instant};

use options::Options;
use serde_json::{Map, json};
use sinew_core::Pixels;
use sinew_recorder::{DatasetSchema, DatasetWriter, Dtype, Feature, Overload, RecorderOptions, Row, Taken, Value, VideoOptions};

/// Pictures that are made before the clock starts: a texture, an arm that moves over it, and noise.
const PICTURES: usize = 60;

fn main() -> Result<(), Box<dyn Error>> {
    let given = Options::read()?;
    let (cameras, fps, frames, episodes) =
        (given.number("cameras", "3")?, given.number("fps", "30")?, given.number("frames", "1800")?, given.number("episodes", "3")?);
    let (width, height) = given.size("640x480")?;
    let may_drop = given.text("overload", "drop") == "drop";
    // The first row of an episode that comes at the camera's pace.
    let paced = if may_drop { 0 } else { frames.saturating_sub(given.number("pace", "0")? * fps) };

    let mut features = vec![Feature::numbers("action", Dtype::F32, &[6]), Feature::numbers("observation.state", Dtype::F32, &[6])];
    features.extend((0..cameras).map(|camera| Feature::video(&format!("observation.images.camera{camera}"), width, height)));
    let video = VideoOptions::of_encoder(&given.text("encoder", "h264"));
    let quality = given.text("quality", &video.quality.to_string()).parse()?;
    let video = VideoOptions { keyframe_interval: given.number("gop", "2")?, quality, ..video };
    let on_overload = if may_drop { Overload::DropTick } else { Overload::Wait };
    let options = RecorderOptions { video, on_overload, ..RecorderOptions::default() };
    let mut writer = DatasetWriter::create(&given.folder, &DatasetSchema::new(fps, features), options)?;

    let pictures: Vec<Pixels> = (0..PICTURES).map(|frame| paint(width, height, frame).into()).collect();
    if let Some(file) = given.get("dump") {
        std::fs::write(file, pictures.iter().flat_map(|picture| picture.iter().copied()).collect::<Vec<_>>())?;
    }
    let (mut saves_ms, mut resident_mb, mut dropped, mut cpu_s) = (Vec::new(), Vec::new(), 0, 0.0);
    for _ in 0..episodes {
        let (begun, cpu_before) = (Instant::now(), cpu_seconds());
        writer.begin_episode(Map::new())?;
        let mut paced_from = begun;
        for frame in 0..frames {
            if frame == paced {
                paced_from = Instant::now();
            }
            let wave = [(frame as f32 * 0.05).sin(); 6];
            let mut values = vec![Value::from(&wave[..]), Value::from(&wave[..])];
            values.extend((0..cameras as usize).map(|camera| Value::Rgb(&pictures[(frame as usize + camera * 7) % PICTURES])));
            dropped += u32::from(writer.add_row(&Row { task: "Bench", values: &values, side: &[] })? == Taken::Dropped);
            if frame >= paced {
                let due = paced_from + Duration::from_secs_f64(f64::from(frame + 1 - paced) / f64::from(fps));
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
            }
        }
        let saving = Instant::now();
        writer.save_episode(Map::new())?;
        saves_ms.push((saving.elapsed().as_secs_f64() * 1e4).round() / 10.0);
        cpu_s += cpu_seconds() - cpu_before;
        resident_mb.push(memory_mb_of("VmRSS:"));
    }
    let recorded_s = f64::from(episodes * frames) / f64::from(fps);
    let report = json!({
        "cpu_s_per_recorded_s": cpu_s / recorded_s, "recorded_s": recorded_s, "dropped_rows": dropped, "save_ms": saves_ms,
        "resident_mb": resident_mb, "peak_mb": memory_mb_of("VmHWM:"), "pictures_mb": pictures.iter().map(|picture| picture.len()).sum::<usize>() >> 20,
    });
    println!("{report}");
    Ok(())
}

fn paint(width: u32, height: u32, frame: usize) -> Vec<u8> {
    let mut state = 12_345u32 + frame as u32;
    let mut noise = move || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as i32 % 9 - 4
    };
    let arm = (frame * 5 % width as usize) as i32;
    let pixels = (0..height as i32).flat_map(|y| (0..width as i32).map(move |x| (x, y)));
    let colour = |(x, y): (i32, i32)| {
        let is_arm = (x - arm - y / 3).abs() < 40;
        let texture = (x / 16 * 37 + y / 16 * 91) % 60;
        let base = if is_arm { [200, 90, 40] } else { [90 + texture, 110 + texture / 2, 100 + texture] };
        base.map(|level| (level + noise()).clamp(0, 255) as u8)
    };
    pixels.map(colour).collect::<Vec<[u8; 3]>>().concat()
}

/// CPU time of all threads of this process, and of the children that it has waited for.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<f64> = stat.rsplit(") ").next().unwrap_or_default().split(' ').map(|field| field.parse().unwrap_or(0.0)).collect();
    // Of the fields after the name; a hundred ticks a second.
    fields.get(11..15).map_or(0.0, |times| times.iter().sum::<f64>() / 100.0)
}

/// What the system says of this process's memory under `name`, 0 where it says nothing.
fn memory_mb_of(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    line.split_whitespace().next().and_then(|kilobytes| kilobytes.parse::<u64>().ok()).unwrap_or(0) / 1024
}
