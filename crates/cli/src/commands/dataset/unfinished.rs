//! The episode that was being recorded when a recorder was killed.

use std::path::Path;

use sinew_recorder::{DatasetRecorder, Unfinished};

use super::edit::may_go_on;
use crate::Done;
use crate::args::{HowArgs, UnfinishedChoice};
use crate::text::say;
use crate::watch::{Answer, Watch};

/// Completes a commit that a killed process left, which is an episode already, and answers the one that
/// was not committed.
fn find(dir: &Path, how: &HowArgs) -> anyhow::Result<Option<Unfinished>> {
    if !how.dry_run {
        sinew_recorder::recover(dir)?;
    }
    Ok(sinew_recorder::unfinished(dir)?)
}

fn describe(episode: &Unfinished) -> String {
    let Unfinished { episode_index, rows, duration_s, tasks, .. } = episode;
    format!("episode {episode_index} was not finished: {rows} rows, {duration_s:.1} s, {}", crate::text::in_line(&tasks.join("; ")))
}

pub fn recover(dir: &Path, how: &HowArgs) -> anyhow::Result<Done> {
    change(dir, how, "make it an episode", |dir| sinew_recorder::recover_unfinished(dir).map(drop))
}

pub fn discard(dir: &Path, how: &HowArgs) -> anyhow::Result<Done> {
    change(dir, how, "remove it", sinew_recorder::discard_unfinished)
}

fn change(
    dir: &Path,
    how: &HowArgs,
    what: &str,
    work: impl FnOnce(&Path) -> Result<(), sinew_recorder::RecordError>,
) -> anyhow::Result<Done> {
    let watch = Watch::start()?;
    let Some(episode) = find(dir, how)? else {
        if how.json {
            return super::finish(None, how, dir);
        }
        say!("{}: no episode waits", dir.display());
        return Ok(Done::Ok);
    };
    if !how.json {
        say!("{}: {}\n  {what}", dir.display(), describe(&episode));
    }
    let answer = may_go_on(&watch, how)?;
    if answer == Some(Answer::Yes) {
        work(dir)?;
    }
    super::finish(answer, how, dir)
}

/// Has the user settle what becomes of the unfinished episode before another is recorded.
pub fn settle(recorder: &mut DatasetRecorder, choice: Option<UnfinishedChoice>) -> anyhow::Result<()> {
    let Some(episode) = recorder.unfinished() else { return Ok(()) };
    let found = describe(episode);
    let choice = match choice {
        Some(choice) => choice,
        None => {
            let watch = Watch::start()?;
            let question = format!("{}: {found}\nRecover it, discard it, or stop here? [r/d/S]", recorder.root().display());
            match watch.choose(&question, &['r', 'd', 's'], "--unfinished recover or --unfinished discard says it")? {
                Some('r') => UnfinishedChoice::Recover,
                Some('d') => UnfinishedChoice::Discard,
                _ => anyhow::bail!("resuming {}: {found}; it waits, and nothing was changed", recorder.root().display()),
            }
        }
    };
    match choice {
        UnfinishedChoice::Recover => recorder.recover_unfinished().map(drop)?,
        UnfinishedChoice::Discard => recorder.discard_unfinished()?,
    }
    Ok(())
}
