//! `sinew dataset`

mod edit;
mod info;
mod show;
pub use show::units;
mod unfinished;

use std::path::Path;

use sinew_recorder::{
    CameraForm, Condition, Conversion, ShortVideo, ToolError, plan_convert, plan_delete, plan_merge, plan_remove_features,
    plan_rename_task, plan_repair, plan_split, plan_split_chosen, plan_stats, select_episodes,
};

pub use unfinished::settle;

use crate::args::{DatasetCommand, EditArgs, HowArgs, Misuse, Part, PartOf};
use crate::text::say;
use crate::watch::Answer;
use crate::{Done, text};
use edit::Edit;

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
        DatasetCommand::Delete { dir, episodes, conditions, edit } => {
            Edit::of(edit)?.run(|_| plan_delete(dir, &chosen(dir, episodes.as_ref().map(|episodes| &episodes.0[..]), conditions)?))
        }
        DatasetCommand::Split { dir, parts, conditions, out, how } => {
            let shares = shares(parts)?;
            Edit::to(out, how)?.run(|_| match &shares {
                Some(shares) => plan_split_chosen(dir, shares, &chosen(dir, None, conditions)?),
                None => plan_split(dir, &lists(dir, parts, conditions)?),
            })
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
        DatasetCommand::Undo { dir, forget: true, how, .. } => edit::forget(dir, how),
        DatasetCommand::Undo { dir, lose_newer, how, .. } => edit::undo(dir, *lose_newer, how),
        DatasetCommand::Recover { dir, how } => unfinished::recover(dir, how),
        DatasetCommand::Discard { dir, how } => unfinished::discard(dir, how),
    }
}

fn repair(dir: &Path, cut_rows: bool, edit: &EditArgs) -> anyhow::Result<Done> {
    let short_video = if cut_rows { ShortVideo::CutRows } else { ShortVideo::DropEpisode };
    let nothing = format!("{}: whole, nothing to repair", dir.display());
    Edit::of(edit)?.run_if_any(|progress| plan_repair(dir, short_video, progress), &nothing)
}

/// Those of `among`, or of all episodes, of which `conditions` hold.
fn chosen(dir: &Path, among: Option<&[u64]>, conditions: &[Condition]) -> Result<Vec<u64>, ToolError> {
    match among {
        Some(episodes) if conditions.is_empty() => Ok(episodes.to_vec()),
        _ => {
            let mut chosen = select_episodes(dir, conditions)?;
            chosen.retain(|episode| among.is_none_or(|among| among.contains(episode)));
            if chosen.is_empty() {
                let what = conditions.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and ");
                return Err(ToolError::Plan { what: format!("choose episodes with {what}"), why: "there is none".to_owned() });
            }
            Ok(chosen)
        }
    }
}

/// The parts of a split by share; `None` where none is.
fn shares(parts: &[Part]) -> anyhow::Result<Option<Vec<(String, f64)>>> {
    let share = |part: &Part| if let PartOf::Share(share) = part.what { Some((part.name.clone(), share)) } else { None };
    let shares: Vec<(String, f64)> = parts.iter().filter_map(share).collect();
    anyhow::ensure!(
        shares.is_empty() || shares.len() == parts.len(),
        Misuse("splitting: give every --part a share, or every one its episodes or a condition".to_owned())
    );
    Ok((!shares.is_empty()).then_some(shares))
}

/// The parts of a split by episodes or by condition.
fn lists(dir: &Path, parts: &[Part], conditions: &[Condition]) -> Result<Vec<(String, Vec<u64>)>, ToolError> {
    let episodes = |part: &Part| match &part.what {
        PartOf::Where(condition) => chosen(dir, None, &[conditions, std::slice::from_ref(condition)].concat()),
        PartOf::Episodes(episodes) => chosen(dir, Some(episodes), conditions),
        PartOf::Share(_) => Ok(Vec::new()),
    };
    parts.iter().map(|part| Ok((part.name.clone(), episodes(part)?))).collect()
}

/// How an operation without a plan of its own ends.
fn finish(answer: Option<Answer>, how: &HowArgs, dir: &Path) -> anyhow::Result<Done> {
    if how.json {
        text::print_json(&serde_json::json!({"root": dir, "done": answer == Some(Answer::Yes)}))?;
    } else if answer == Some(Answer::Yes) {
        say!("done: {}", dir.display());
    }
    Ok(ended(answer))
}

fn ended(answer: Option<Answer>) -> Done {
    match answer {
        None | Some(Answer::Yes) => Done::Ok,
        Some(Answer::No) => Done::Refused,
        Some(Answer::Interrupted) => Done::Interrupted,
    }
}
