//! `sinew dataset`

mod edit;
mod info;
mod show;
mod unfinished;
mod watch;

use std::path::Path;

use sinew_recorder::{
    CameraForm, Conversion, ShortVideo, plan_convert, plan_delete, plan_merge, plan_remove_features, plan_rename_task, plan_repair,
    plan_split, plan_split_by_share, plan_stats,
};

pub use unfinished::settle;

use crate::args::{DatasetCommand, EditArgs, HowArgs, Part, PartOf};
use crate::text::say;
use crate::{Done, text};
use edit::Edit;
use watch::Answer;

pub fn run(command: &DatasetCommand) -> anyhow::Result<Done> {
    match command {
        DatasetCommand::Info { dir, json } => info::info(dir, *json),
        DatasetCommand::Verify { dir, deep, json } => info::verify(dir, *deep, *json),
        DatasetCommand::Repair { dir, cut_rows, edit } => repair(dir, *cut_rows, edit),
        DatasetCommand::View { dir, html, connect, episodes, json } => {
            show::view(dir, html.as_deref(), connect.as_deref(), episodes.as_ref(), *json)
        }
        DatasetCommand::Export { dir, rrd, mcap, episodes, json } => {
            show::export(dir, rrd.as_deref(), mcap.as_deref(), episodes.as_ref(), *json)
        }
        DatasetCommand::Delete { dir, episodes, edit } => Edit::of(edit)?.run(|_| plan_delete(dir, &episodes.0)),
        DatasetCommand::Split { dir, parts, out, how } => {
            let (shares, lists) = by_kind(parts)?;
            Edit::to(out, how)?.run(|_| if lists.is_empty() { plan_split_by_share(dir, &shares) } else { plan_split(dir, &lists) })
        }
        DatasetCommand::Merge { dirs, out, how } => Edit::to(out, how)?.run(|_| plan_merge(dirs)),
        DatasetCommand::Convert { dir, to, images, video, edit } => {
            let cameras = if *images { Some(CameraForm::Images) } else { video.given().map(CameraForm::Video) };
            let conversion = Conversion { version: to.map(Into::into), cameras };
            Edit::of(edit)?.run(|_| plan_convert(dir, &conversion))
        }
        DatasetCommand::Stats { dir, edit } => Edit::of(edit)?.run(|_| plan_stats(dir)),
        DatasetCommand::RemoveFeature { dir, names, edit } => Edit::of(edit)?.run(|_| plan_remove_features(dir, names)),
        DatasetCommand::RenameTask { dir, from, to, edit } => Edit::of(edit)?.run(|_| plan_rename_task(dir, from, to)),
        DatasetCommand::Undo { dir, how } => edit::undo(dir, how),
        DatasetCommand::Recover { dir, how } => unfinished::recover(dir, how),
        DatasetCommand::Discard { dir, how } => unfinished::discard(dir, how),
    }
}

fn repair(dir: &Path, cut_rows: bool, edit: &EditArgs) -> anyhow::Result<Done> {
    let short_video = if cut_rows { ShortVideo::CutRows } else { ShortVideo::DropEpisode };
    let nothing = format!("{}: whole, nothing to repair", dir.display());
    Edit::of(edit)?.run_if_any(|progress| plan_repair(dir, short_video, progress), &nothing)
}

/// The parts of a split by kind.
type Parts = (Vec<(String, f64)>, Vec<(String, Vec<u64>)>);

fn by_kind(parts: &[Part]) -> anyhow::Result<Parts> {
    let (mut shares, mut lists) = (Vec::new(), Vec::new());
    for Part { name, what } in parts {
        match what {
            PartOf::Share(share) => shares.push((name.clone(), *share)),
            PartOf::Episodes(episodes) => lists.push((name.clone(), episodes.clone())),
        }
    }
    anyhow::ensure!(shares.is_empty() || lists.is_empty(), "splitting: give every --part a share, or every one its episodes");
    Ok((shares, lists))
}

/// How an operation without a plan of its own ends.
fn finish(answer: Option<Answer>, how: &HowArgs, dir: &Path) -> anyhow::Result<Done> {
    if how.json {
        text::print_json(&serde_json::json!({"root": dir, "done": answer == Some(Answer::Yes)}))?;
    } else if answer == Some(Answer::Yes) {
        say!("done: {}", dir.display());
    }
    Ok(match answer {
        None | Some(Answer::Yes) => Done::Ok,
        Some(Answer::No) => Done::Refused,
        Some(Answer::Interrupted) => Done::Interrupted,
    })
}
