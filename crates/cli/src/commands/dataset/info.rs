//! `sinew dataset info` and `verify`: they only look.

use std::io::Write;
use std::path::Path;

use sinew_recorder::{DatasetInfo, verify_with};

use super::watch::Watch;
use crate::text::say;
use crate::{Done, source, text};

pub fn info(dir: &Path, json: bool) -> anyhow::Result<Done> {
    let info = DatasetInfo::open(source::open_dataset(dir)?.root())?;
    if json {
        text::print_json(&info)?;
        return Ok(Done::Ok);
    }
    let mut out = text::stdout();
    let seconds = if info.fps > 0 { info.total_frames as f64 / f64::from(info.fps) } else { 0.0 };
    writeln!(out, "{}", dir.display())?;
    writeln!(out, "  codebase_version  {}", info.codebase_version)?;
    writeln!(out, "  robot_type        {}", text::in_line(info.robot_type.as_deref().unwrap_or("–")))?;
    writeln!(out, "  fps               {}", info.fps)?;
    writeln!(out, "  total_episodes    {}", info.total_episodes)?;
    writeln!(out, "  total_frames      {} ({:.0} min {:.0} s)", info.total_frames, (seconds / 60.0).floor(), seconds % 60.0)?;
    writeln!(out, "  size on disk      {}", text::bytes(info.size_on_disk_bytes))?;
    let mut lengths: Vec<u64> = info.episodes.iter().map(|episode| episode.length).collect();
    lengths.sort_unstable();
    if let (Some(shortest), Some(longest)) = (lengths.first(), lengths.last()) {
        writeln!(out, "  episode length    {shortest} to {longest} frames, median {}", lengths[lengths.len() / 2])?;
    }
    writeln!(out, "  total_tasks       {}", info.total_tasks)?;
    for task in &info.tasks {
        writeln!(out, "    {}", text::in_line(task))?;
    }
    writeln!(out, "  features")?;
    for (name, feature) in &info.features {
        let field = |key: &str| feature.get(key).map_or_else(|| "–".to_owned(), ToString::to_string);
        let codec = info.cameras.iter().find(|camera| camera.key == *name).and_then(|camera| camera.codec.as_deref());
        writeln!(
            out,
            "    {:<28} {} {}{}",
            text::in_line(name),
            field("dtype").trim_matches('"'),
            field("shape"),
            codec.map_or(String::new(), |codec| format!(" {codec}"))
        )?;
    }
    if info.unfinished {
        writeln!(out, "  a recorder is at work here, or was killed; what is listed above is whole")?;
    }
    Ok(Done::Ok)
}

pub fn verify(dir: &Path, deep: bool, json: bool) -> anyhow::Result<Done> {
    let watch = Watch::start()?;
    let Some(faults) = watch.run(|progress| verify_with(dir, deep, progress))? else { return Ok(Done::Interrupted) };
    for fault in &faults {
        if json {
            text::print_json(fault)?;
        } else {
            say!("{}: {}", fault.path.display(), text::in_line(&fault.what));
        }
    }
    anyhow::ensure!(faults.is_empty(), "verifying {}: {} faults", dir.display(), faults.len());
    if !json {
        say!("{}: whole{}", dir.display(), if deep { ", and every picture decodes" } else { "" });
    }
    Ok(Done::Ok)
}
