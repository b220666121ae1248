//! `sinew dataset info` and `verify`: they only look.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use serde::Serialize;
use sinew_recorder::{DatasetInfo, Kept, Report, examine, kept_for_undo};

use crate::text::say;
use crate::watch::Watch;
use crate::{Done, source, text};

/// What `--json` prints: LeRobot's keys, and what is beside the dataset.
#[derive(Serialize)]
struct Described {
    #[serde(flatten)]
    info: DatasetInfo,
    kept_for_undo: Option<Kept>,
}

pub fn info(dir: &Path, json: bool) -> anyhow::Result<Done> {
    let reader = source::open_dataset(dir)?;
    let info = DatasetInfo::open(reader.root())?;
    let kept = kept_for_undo(reader.root())?;
    if json {
        text::print_json(&Described { info, kept_for_undo: kept })?;
        return Ok(Done::Ok);
    }
    let mut out = text::stdout();
    let seconds = info.fps.seconds(info.total_frames);
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
    let ended = |success| info.episodes.iter().filter(move |episode| episode.success == success);
    if info.episodes.iter().any(|episode| episode.success.is_some() || episode.reason.is_some()) {
        let [good, bad, open] = [Some(true), Some(false), None].map(|success| ended(success).count());
        writeln!(out, "  success           {good} of {}, {bad} failed, {open} not decided", info.total_episodes)?;
        let mut reasons: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
        for episode in ended(Some(false)) {
            reasons.entry(episode.reason.as_deref().unwrap_or("no reason given")).or_default().push(episode.episode_index);
        }
        for (reason, episodes) in reasons {
            let shown = episodes.iter().take(8).map(u64::to_string).collect::<Vec<_>>().join(", ");
            writeln!(out, "    {reason}: {} ({shown}{})", episodes.len(), if episodes.len() > 8 { ", …" } else { "" })?;
        }
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
    if let Some(kept) = kept {
        let what = kept.operation.map_or(String::new(), |operation| format!(", before: {operation}"));
        writeln!(out, "  kept for undo     {}, {}{what}", kept.contents, text::bytes(kept.own_bytes))?;
    }
    if info.unfinished {
        writeln!(out, "  a recorder is at work here, or was killed; what is listed above is whole")?;
    }
    Ok(Done::Ok)
}

pub fn verify(dir: &Path, deep: bool, json: bool) -> anyhow::Result<Done> {
    let watch = Watch::start()?;
    let Some(Report { faults, warnings }) = watch.run(|progress| examine(dir, deep, progress))? else { return Ok(Done::Interrupted) };
    for fault in &faults {
        if json {
            text::print_json(fault)?;
        } else {
            say!("{}: {}", fault.path.display(), text::in_line(&fault.what));
        }
    }
    for warning in &warnings {
        if json {
            text::print_json(&serde_json::json!({"warning": warning}))?;
        } else {
            say!("warning: {warning}");
        }
    }
    if json {
        text::print_json(
            &serde_json::json!({"root": dir, "whole": faults.is_empty(), "deep": deep, "faults": faults.len(), "warnings": warnings.len()}),
        )?;
    }
    anyhow::ensure!(faults.is_empty(), "verifying {}: {}", dir.display(), text::plural(faults.len() as u64, "fault"));
    if !json {
        say!("{}: whole{}", dir.display(), if deep { ", and every picture decodes" } else { "" });
    }
    Ok(Done::Ok)
}
