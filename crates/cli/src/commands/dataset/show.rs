//! `sinew dataset view` and `export`: a dataset in the form of another program.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};

use sinew_core::{Channel, ChannelSource, CommandMode, DatasetUnit, PartKind, RobotDescription};
use sinew_recorder::{DatasetReader, PageOptions, recorded_robot, show_in_rerun, write_html, write_mcap, write_rrd};

use crate::args::{Episodes, Misuse};
use crate::text::{note, say};
use crate::watch::Watch;
use crate::{Done, source, text};

/// Episodes on a page of a dataset that has to be fetched, and in the viewer, where nobody says which.
const FETCHED: u64 = 50;
const IN_RERUN: u64 = 10;

/// The episodes that were asked for, else the first so many.
fn chosen(reader: &DatasetReader, asked: Option<&Episodes>, first: u64) -> Vec<u64> {
    let all = reader.episodes().len() as u64;
    asked.map_or_else(|| (0..all.min(first)).collect(), |episodes| episodes.0.clone())
}

/// Of one episode on the Hub only the parts that it needs come.
fn open(dir: &Path, asked: Option<&Episodes>) -> anyhow::Result<DatasetReader> {
    match asked {
        Some(Episodes(one)) if one.len() == 1 => source::open_dataset_streaming(dir),
        _ => source::open_dataset(dir),
    }
}

pub fn view(dir: &Path, html: Option<&Path>, connect: Option<&str>, episodes: Option<&Episodes>, json: bool) -> anyhow::Result<Done> {
    // A page takes its videos as they are stored, so it needs their files.
    let reader = if html.is_some() { source::open_dataset(dir)? } else { open(dir, episodes)? };
    let watch = Watch::start()?;
    let on_a_page = if dir.is_dir() { u64::MAX } else { FETCHED };
    let shown = chosen(&reader, episodes, if html.is_some() { on_a_page } else { IN_RERUN });
    if let Some(path) = html {
        let options = PageOptions { units: units(&reader), ..PageOptions::default() };
        let done = watch.run(|progress| write_html(&reader, &shown, &options, path, progress))?;
        return finish(done, path, &reader, &shown, json);
    }
    if let Some(address) = connect {
        let done = watch.run(|progress| show_in_rerun(&reader, &shown, address, progress))?;
        return finish(done, Path::new(address), &reader, &shown, json);
    }
    let claim = text::Claim::file("outputs", "view-", ".rrd")?;
    let path = claim.path();
    let done = watch.run(|progress| write_rrd(&reader, &shown, path, progress))?;
    if done.is_some() {
        open_viewer(path);
    }
    finish(done, path, &reader, &shown, json)
}

/// The units of the channels of the robot that a dataset was recorded with, where it is one of ours; of others nobody
/// says them.
pub fn units(reader: &DatasetReader) -> BTreeMap<String, String> {
    let Some(Ok(model)) = recorded_robot(reader).map(|name| sinew_sim::robots::get(&name)) else { return BTreeMap::new() };
    let robot = &model.description;
    let channels = robot.state_channels().into_iter().chain(robot.action_channels());
    channels.filter_map(|channel| unit(robot, &channel).map(|unit| (channel.name, unit))).collect()
}

fn unit(robot: &RobotDescription, channel: &Channel) -> Option<String> {
    let (of, is_velocity) = match channel.source {
        ChannelSource::Part(_) if channel.mode == Some(CommandMode::Effort) => return Some("of stall torque".to_owned()),
        ChannelSource::Part(part) => {
            let part = robot.parts.get(part)?;
            let of = match part.unit {
                DatasetUnit::Degrees => "°",
                DatasetUnit::Range0To100 | DatasetUnit::RangeM100To100 => "%",
                DatasetUnit::Si if part.kind == PartKind::Prismatic => "m",
                DatasetUnit::Si => "rad",
            };
            (of, channel.mode == Some(CommandMode::Velocity))
        }
        // In degrees they have another scale than 1.
        ChannelSource::Base(2) => (if channel.scale_offset.0 == 1.0 { "rad" } else { "°" }, true),
        ChannelSource::Base(_) => ("m", true),
        ChannelSource::Sensor(..) => return None,
    };
    Some(if is_velocity { format!("{of}/s") } else { of.to_owned() })
}

/// Starts the viewer where it is installed, and else says how it is had.
fn open_viewer(path: &Path) {
    let viewer = Command::new("rerun").arg(path).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    if viewer.is_err() {
        note!("open it with: rerun {}", path.display());
        note!("  (the viewer: cargo install rerun-cli --locked, or pip install rerun-sdk)");
    }
}

/// To the one of the files that is named.
pub fn export(dir: &Path, rrd: Option<&Path>, mcap: Option<&Path>, episodes: Option<&Episodes>, json: bool) -> anyhow::Result<Done> {
    let to = rrd.or(mcap).ok_or_else(|| Misuse("exporting: name a file with --rrd or --mcap".to_owned()))?;
    let reader = open(dir, episodes)?;
    let watch = Watch::start()?;
    let shown = chosen(&reader, episodes, u64::MAX);
    let done = match rrd {
        Some(path) => watch.run(|progress| write_rrd(&reader, &shown, path, progress))?,
        None => watch.run(|progress| write_mcap(&reader, &shown, to, progress))?,
    };
    finish(done, to, &reader, &shown, json)
}

fn finish(done: Option<()>, to: &Path, reader: &DatasetReader, shown: &[u64], json: bool) -> anyhow::Result<Done> {
    if done.is_none() {
        return Ok(Done::Interrupted);
    }
    if json {
        text::print_json(&serde_json::json!({"to": to, "episodes": shown}))?;
    } else {
        say!("{} of {} episodes: {}", shown.len(), reader.episodes().len(), to.display());
    }
    Ok(Done::Ok)
}
