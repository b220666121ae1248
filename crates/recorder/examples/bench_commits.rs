//! What committing an episode costs a dataset that is small, and one that has grown.
//!
//! ```text
//! cargo run --release -p sinew-recorder --example bench_commits -- DIR [NAME=VALUE...]
//! ```
//!
//! `episodes=10000` of `frames=30` and one camera of `size=64x48` are recorded as fast as it goes, for each of LeRobot's
//! versions 3.0 and 2.1. Prints a JSON line for each: the time of `save_episode` and the bytes that the process wrote
//! meanwhile, averaged over the hundred episodes after the first ten and over the last hundred, and their ratios.

#![allow(clippy::print_stdout, reason = "it is a command")]

mod options;

use std::error::Error;
use std::time::Instant;

use options::Options;
use serde_json::{Map, json};
use sinew_core::Pixels;
use sinew_recorder::{DatasetSchema, DatasetWriter, Dtype, Feature, Layout, Overload, RecorderOptions, Row, Value};

/// Episodes that a figure is the mean of: files roll over within them, so that its cost is in it.
const WINDOW: usize = 100;
const FIRST: usize = 10;

fn main() -> Result<(), Box<dyn Error>> {
    let given = Options::read()?;
    let (episodes, frames) = (given.number("episodes", "10000")?, given.number("frames", "30")?);
    let (width, height) = given.size("64x48")?;
    if (episodes as usize) < FIRST + 2 * WINDOW {
        return Err(format!("{episodes} episodes are too few, expected {} or more", FIRST + 2 * WINDOW).into());
    }
    for (name, layout) in [("3.0", Layout::V30), ("2.1", Layout::V21)] {
        let root = given.folder.join(name);
        let channels = |name: &str| Feature::numbers(name, Dtype::F32, &[6]);
        let features = vec![channels("action"), channels("observation.state"), Feature::video("observation.images.front", width, height)];
        let side = vec![Feature::numbers("tick", Dtype::I64, &[1]), channels("sent_action")];
        let options = RecorderOptions { layout, on_overload: Overload::Wait, ..RecorderOptions::default() };
        let mut writer = DatasetWriter::create(&root, &DatasetSchema { side, ..DatasetSchema::new(30, features) }, options)?;
        let mut costs = Vec::new();
        for episode in 0..episodes {
            writer.begin_episode(Map::new())?;
            for frame in 0..frames {
                let wave = [((frame + episode) as f32 * 0.05).sin(); 6];
                let picture = Pixels::from(vec![(frame + episode) as u8; width as usize * height as usize * 3]);
                let side = [Value::from(&[i64::from(frame)][..]), Value::from(&wave[..])];
                let values = [Value::from(&wave[..]), Value::from(&wave[..]), Value::Rgb(&picture)];
                writer.add_row(&Row { task: "Bench", values: &values, side: &side })?;
            }
            let (begun, before) = (Instant::now(), written()?);
            writer.save_episode(Map::new())?;
            costs.push((begun.elapsed().as_secs_f64() * 1e3, (written()? - before) as f64));
        }
        drop(writer);
        let mean = |costs: &[(f64, f64)], of: fn(&(f64, f64)) -> f64| costs.iter().map(of).sum::<f64>() / costs.len() as f64;
        let [small, grown] = [&costs[FIRST..FIRST + WINDOW], &costs[costs.len() - WINDOW..]].map(|costs| {
            let worst = costs.iter().map(|(_, bytes)| *bytes).fold(0.0, f64::max);
            [mean(costs, |(ms, _)| *ms), mean(costs, |(_, bytes)| *bytes), worst]
        });
        let ratios = [0, 1, 2].map(|at| (grown[at] / small[at] * 100.0).round() / 100.0);
        println!(
            "{}",
            json!({"version": name, "episodes": episodes, "small": figures(small), "grown": figures(grown), "grown_over_small": figures(ratios)})
        );
    }
    Ok(())
}

fn figures([ms, bytes, worst_bytes]: [f64; 3]) -> serde_json::Value {
    let rounded = |value: f64| (value * 100.0).round() / 100.0;
    json!({"ms": rounded(ms), "bytes": rounded(bytes), "worst_bytes": rounded(worst_bytes)})
}

/// Bytes that this process has handed to write calls so far.
fn written() -> Result<u64, Box<dyn Error>> {
    let io = std::fs::read_to_string("/proc/self/io")?;
    let line = io.lines().find_map(|line| line.strip_prefix("wchar: ")).ok_or("/proc/self/io has no line wchar")?;
    Ok(line.trim().parse()?)
}
