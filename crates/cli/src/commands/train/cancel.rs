//! Ending a training from beside it, whatever it is doing.
//!
//! Only who holds the claim writes the state. Whoever holds it while something is started looks at the mark before and
//! after; so between them nothing is left that runs.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::json;
use sinew_hub::{Hub, HubError};

use super::run::{Run, Standing};
use super::state::{self, Claim, Stage, State};
use super::{CANCELLED, begin, finish, follow};
use crate::Done;
use crate::text::{self, say};

/// How long a start may take that is under way, in tenths of a second.
const TENTHS_TO_START: usize = 900;
/// How long who follows the training may take to see that it is over.
const TENTHS_TO_HEAR: usize = 100;
const TENTH: Duration = Duration::from_millis(100);

/// What came of it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Was {
    /// It ran, and does no longer.
    Ended,
    /// It was not to be ended any more.
    Over,
    /// It had not begun, and never will.
    NotBegun,
}

pub fn cancel(out: &Path, hub: &Hub, is_json: bool) -> anyhow::Result<Done> {
    let read = || State::read(out)?.with_context(|| format!("looking for a training in {}: there is none", out.display()));
    let cancelled = Stage::Failed(CANCELLED.to_owned());
    let before = read()?.stage;
    if before == Stage::Trained {
        return say_it(Was::Over, is_json);
    }
    state::mark_cancelled(out)?;
    let mut tenths = 0;
    let (claim, mut state) = loop {
        let claim = Claim::try_take(out)?;
        let state = read()?;
        if claim.is_some() || !matches!(state.stage, Stage::Preparing | Stage::Starting) {
            break (claim, state);
        }
        tenths += 1;
        ensure!(tenths < TENTHS_TO_START, "cancelling: another `sinew train` is starting it; end that, then cancel again");
        std::thread::sleep(TENTH);
    };
    // The mark of a cancel that failed would tell of every later end that it was this.
    let was = end(&mut state, hub, claim.is_some()).inspect_err(|_| state::unmark_cancelled(out))?;
    let mut claim = claim;
    for _ in 0..TENTHS_TO_HEAR {
        if claim.is_some() {
            break;
        }
        // Who follows it writes down how it ended.
        std::thread::sleep(TENTH);
        claim = Claim::try_take(out)?;
    }
    if claim.is_some() && was != Was::Over {
        let mut newest = read()?;
        if !matches!(newest.stage, Stage::Trained | Stage::Failed(_)) {
            newest.job = newest.job.or(state.job);
            newest.stage = Stage::Failed(CANCELLED.to_owned());
            newest.write(out)?;
        }
    }
    // Who was starting it saw the mark, and ended it.
    let was = if was == Was::Over && before != cancelled && read()?.stage == cancelled { Was::Ended } else { was };
    say_it(was, is_json)
}

fn say_it(was: Was, is_json: bool) -> anyhow::Result<Done> {
    let (event, words) = match was {
        Was::Ended => ("cancelled", "ended"),
        Was::Over => ("over", "it is over already"),
        Was::NotBegun => ("cancelled", "ended before it had begun"),
    };
    if is_json {
        text::print_json(&json!({ "event": event, "had_begun": was != Was::NotBegun }))?;
    } else {
        say!("{words}");
    }
    Ok(Done::Ok)
}

fn end(state: &mut State, hub: &Hub, is_ours: bool) -> anyhow::Result<Was> {
    if state.stage == Stage::Preparing {
        return Ok(Was::NotBegun);
    }
    match finish::run_of(state) {
        Some(run) => end_run(&run, state, is_ours),
        None => end_job(state, hub),
    }
}

fn end_run(run: &Run, state: &State, is_ours: bool) -> anyhow::Result<Was> {
    if is_ours && state.stage == Stage::Starting && run.standing()? == Standing::None && run.forbid()? {
        return Ok(Was::NotBegun);
    }
    let mut standing = run.standing()?;
    for _ in 0..TENTHS_TO_HEAR {
        if standing != Standing::Claimed {
            break;
        }
        std::thread::sleep(TENTH);
        standing = run.standing()?;
    }
    match standing {
        Standing::Running { .. } => {
            let after = run.stop()?;
            ensure!(!matches!(after, Standing::Running { .. }), "ending the training {}: it goes on", run.machine);
            Ok(Was::Ended)
        }
        Standing::Ended { .. } | Standing::Lost => Ok(Was::Over),
        // Who was to start it saw the mark before it had begun.
        Standing::None if matches!(&state.stage, Stage::Failed(why) if why == CANCELLED) => Ok(Was::Over),
        Standing::None => anyhow::bail!("{}", run.nothing_there()),
        Standing::Claimed => anyhow::bail!(
            "ending the training {}: somebody has begun it in {} and its process is not known; look for it there by `ps`",
            run.machine,
            run.folder
        ),
    }
}

fn end_job(state: &mut State, hub: &Hub) -> anyhow::Result<Was> {
    if let (None, Some(namespace)) = (&state.job, &state.namespace) {
        state.job = begin::find_job(state, namespace, hub)?.map(|job| job.id);
    }
    let Some(id) = &state.job else { return Ok(Was::NotBegun) };
    if hub.job(id)?.is_some_and(|job| job.stage.is_over()) {
        return Ok(Was::Over);
    }
    // Also where it is not seen: that may be a matter of the token, and it costs money.
    hub.cancel_job(id).map_err(|error| match error {
        HubError::Refused { status: 404, .. } | HubError::NoRepo { .. } => anyhow::Error::from(error).context(follow::unseen(id)),
        error => anyhow::Error::from(error).context(format!("ending the job {}/{}: it may go on", id.namespace, id.id)),
    })?;
    Ok(Was::Ended)
}
