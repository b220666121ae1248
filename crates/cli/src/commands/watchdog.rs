//! `sinew watchdog`, which other verbs start beside themselves.

use sinew_runtime::{Realtime, RealtimeRequest, WATCHDOG_PATIENCE, Watched, watch};

use crate::Done;

/// Listens on standard input until the process at its other end has ended in order, or does for it what
/// it can't any more.
pub fn run(robot: &str, priority: Option<u8>) -> anyhow::Result<Done> {
    Realtime::ask(&RealtimeRequest { priority, ..RealtimeRequest::default() });
    let description = sinew_sim::robots::get(robot)?.description;
    // A simulated arm is gone with its process; the safe action of a real one goes here, over its bus.
    let watched = watch(std::io::stdin(), WATCHDOG_PATIENCE, || Ok::<(), anyhow::Error>(()))?;
    let why = match watched {
        Watched::Ended => return Ok(Done::Ok),
        Watched::Gone => "was gone while torque was on",
        Watched::Frozen => "said nothing for 0.1 s while torque was on",
    };
    crate::text::note!("watchdog: the process that drove {} {why}; the simulated arm needs no safe action", description.title);
    Ok(Done::Refused)
}
