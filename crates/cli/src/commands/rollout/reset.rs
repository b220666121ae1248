//! The time between two episodes, in which a human sets up the next: LeRobot's reset phase.

use std::time::Duration;

use sinew_core::Teleoperator;
use sinew_runtime::{EpisodeOutcome, EpisodeReport, EpisodeRequest, ReturnToRest, Session, Source};

use crate::desk::{BETWEEN, Desk};
use crate::rig::{AsItIs, Rig};
use crate::text::note;

/// How it went.
pub(super) struct Reset {
    /// Whether the human wants to have the episode before again.
    pub(super) again: bool,
    /// Of the teleoperator's way, where there is one.
    pub(super) report: Option<EpisodeReport>,
}

/// Waits `seconds`, or until the human goes on. With a teleoperator the arm follows it meanwhile, and stays where it
/// leaves it; nothing is recorded.
pub(super) fn reset(
    session: &mut Session,
    rig: &mut Rig,
    human: Option<&mut dyn Teleoperator>,
    desk: &Desk,
    (seconds, fps): (f64, u32),
) -> Reset {
    let ticks = (seconds * f64::from(fps)).ceil() as u64;
    if ticks == 0 {
        return Reset { again: false, report: None };
    }
    let Some(human) = human else {
        return Reset { again: desk.wait_between(Duration::from_secs_f64(seconds)), report: None };
    };
    note!("{BETWEEN}");
    let before = std::mem::replace(&mut session.config_mut().return_to_rest, ReturnToRest::WhenStopped);
    let report =
        session.run_episode(&EpisodeRequest::default(), &mut rig.robot, &mut AsItIs { ticks }, Source::Teleoperator(human), &mut []);
    session.config_mut().return_to_rest = before;
    Reset { again: report.outcome == EpisodeOutcome::Dropped, report: Some(report) }
}
