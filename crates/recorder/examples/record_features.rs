//! Records a dataset of many kinds of features, for checking that LeRobot reads it. Images carry their
//! own episode and frame number as squares, as in `record_synthetic`.
//!
//! ```text
//! cargo run --release -p sinew-recorder --example record_features -- DIR [NAME=VALUE...]
//! ```
//!
//! `fps=30`, `lengths=20,1,33` (frames of each episode), `cameras=2`, `size=128x96`, `kind=video` (or
//! `image`, `depth`), `encoder=h264` (or `av1`, `hevc`, or an encoder's name in ffmpeg), `pixels=yuv420p`,
//! `features=plain` (or `all`), `tasks=1` (or more, which change within an episode), `layout=v3.0` (or
//! `v2.1`).

#![allow(clippy::print_stdout, reason = "it is a command")]

mod options;

use std::error::Error;

use options::Options;
use serde_json::Map;
use sinew_recorder::{DatasetSchema, DatasetWriter, Dtype, Feature, Layout, RecorderOptions, Row, Value, VideoOptions};

fn main() -> Result<(), Box<dyn Error>> {
    let given = Options::read()?;
    let (fps, cameras, tasks) = (given.number("fps", "30")?, given.number("cameras", "2")?, given.number("tasks", "1")?);
    let lengths = given.text("lengths", "20,1,33").split(',').map(str::parse::<u32>).collect::<Result<Vec<_>, _>>()?;
    let (width, height) = given.size("128x96")?;
    let kind = given.text("kind", "video");
    let with_all = given.text("features", "plain") == "all";

    let mut features = vec![
        Feature::numbers("action", Dtype::F32, &[6]),
        Feature { names: ["x", "y", "z"].as_slice().into(), ..Feature::numbers("observation.state", Dtype::F32, &[3]) },
    ];
    if with_all {
        features.extend([
            Feature::numbers("next.reward", Dtype::F32, &[1]),
            Feature::numbers("next.done", Dtype::Bool, &[1]),
            Feature::numbers("pressed", Dtype::Bool, &[4]),
            Feature::numbers("matrix", Dtype::F64, &[2, 3]),
            Feature::numbers("tensor", Dtype::F32, &[2, 2, 3]),
            Feature::numbers("counter", Dtype::I64, &[1]),
            Feature::numbers("ticks", Dtype::U16, &[2]),
            Feature::numbers("small", Dtype::I8, &[3]),
            Feature::text("note"),
        ]);
    }
    for camera in 0..cameras {
        let name = format!("observation.images.camera{camera}");
        features.push(match kind.as_str() {
            "image" => Feature::image(&name, width, height),
            "depth" => Feature::depth(&name, width, height),
            _ => Feature::video(&name, width, height),
        });
    }
    let schema = DatasetSchema { robot_type: Some("made_up".to_owned()), ..DatasetSchema::new(fps, features) };
    let layout = if given.text("layout", "v3.0") == "v2.1" { Layout::V21 } else { Layout::V30 };
    let usual = VideoOptions::of_encoder(&given.text("encoder", "h264"));
    let video = VideoOptions { pixel_format: given.text("pixels", "yuv420p"), ..usual };
    let options = RecorderOptions { layout, video, ..RecorderOptions::default() };
    let mut writer = DatasetWriter::create(&given.folder, &schema, options)?;
    for (episode, length) in lengths.into_iter().enumerate() {
        writer.begin_episode(Map::new())?;
        for frame in 0..length {
            add(&mut writer, (episode as u32, frame), tasks, (width, height), with_all)?;
        }
        writer.save_episode(Map::new())?;
    }
    let totals = writer.totals();
    println!("{} episodes with {} frames are in {}", totals.episodes, totals.frames, given.folder.display());
    Ok(())
}

fn add(
    writer: &mut DatasetWriter,
    (episode, frame): (u32, u32),
    tasks: u32,
    (width, height): (u32, u32),
    with_all: bool,
) -> Result<(), Box<dyn Error>> {
    let phase = frame as f32 * 0.05 + episode as f32;
    let wave = |steps: usize| (0..steps).map(|at| (phase + at as f32 * 0.7).sin()).collect::<Vec<f32>>();
    let (rgb, depth) = (paint(width, height, episode, frame).into(), paint_depth(width, height, episode, frame).into());
    let note = format!("frame {frame} of episode {episode}: é");
    let mut values = vec![Value::from(&wave(6)[..]), Value::from(&wave(3)[..])];
    if with_all {
        let pressed = [0, 1, 2, 3].map(|bit| sinew_recorder::Truth(frame >> bit & 1 == 1));
        let matrix: Vec<f64> = wave(6).iter().map(|value| f64::from(*value) * 100.0).collect();
        values.extend([
            Value::from(&[phase.cos()][..]),
            Value::from(frame % 3 == 0),
            Value::from(&pressed[..]),
            Value::from(&matrix[..]),
            Value::from(&wave(12)[..]),
            Value::from(&[i64::from(frame) * 1_000_003][..]),
            Value::from(&[frame as u16, 65_535 - frame as u16][..]),
            Value::from(&[frame as i8, -3, 7][..]),
            Value::Text(&note),
        ]);
    }
    for feature in &writer.schema().features[values.len()..] {
        let is_depth = matches!(feature.kind, sinew_recorder::FeatureKind::Depth { .. });
        values.push(if is_depth { Value::DepthMm(&depth) } else { Value::Rgb(&rgb) });
    }
    let task = format!("Task number {}", if tasks > 1 { (frame / 7 + episode) % tasks } else { 0 });
    writer.add_row(&Row { task: &task, values: &values, side: &[] })?;
    Ok(())
}

/// Which square of the number a pixel is in, and whether it is a 1.
fn bit(x: u32, y: u32, episode: u32, frame: u32) -> Option<bool> {
    let number = (episode & 63) | (frame & 1023) << 6;
    (y < 6 && x / 6 < 16).then(|| number >> (x / 6) & 1 == 1)
}

fn paint(width: u32, height: u32, episode: u32, frame: u32) -> Vec<u8> {
    let pixels = (0..height).flat_map(|y| (0..width).map(move |x| (x, y)));
    let colour = |(x, y)| match bit(x, y, episode, frame) {
        Some(bit) => [if bit { 255 } else { 0 }; 3],
        None => [((x + frame * 2) % 256) as u8, (y * 2 % 256) as u8, (200 - (x + y) / 2 % 200) as u8],
    };
    pixels.flat_map(colour).collect()
}

/// Millimetres: the number's squares are near or far, the rest is a slope.
fn paint_depth(width: u32, height: u32, episode: u32, frame: u32) -> Vec<u8> {
    let pixels = (0..height).flat_map(|y| (0..width).map(move |x| (x, y)));
    let depth = |(x, y)| match bit(x, y, episode, frame) {
        Some(bit) => 1000 + 2000 * u16::from(bit),
        None => (400 + 3 * x + 5 * y + 10 * frame) as u16,
    };
    pixels.map(depth).flat_map(u16::to_le_bytes).collect()
}
