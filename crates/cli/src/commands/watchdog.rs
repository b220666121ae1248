//! `sinew watchdog`, which other verbs start beside themselves.

use std::os::fd::AsFd;

use anyhow::Context;
use sinew_runtime::{Realtime, RealtimeRequest, WATCHDOG_PATIENCE, Watched, check_lifeline, watch, write_lifeline};

use crate::Done;

/// Listens on standard input until the process at its other end has ended in order, or does for it what
/// it can't any more.
pub fn run(title: &str, priority: Option<u8>) -> anyhow::Result<Done> {
    Realtime::ask(&RealtimeRequest { priority, ..RealtimeRequest::default() });
    let socket = std::io::stdin().as_fd().try_clone_to_owned().context("standing by: finding the process to watch")?;
    let mut checked = (0, 0);
    let watched = watch(socket, WATCHDOG_PATIENCE, |lifeline| {
        write_lifeline(lifeline)?;
        checked = check_lifeline(lifeline);
        Ok::<(), sinew_runtime::PortError>(())
    })?;
    let why = match watched {
        Watched::Ended => return Ok(Done::Ok),
        Watched::Gone => "was gone while torque was on",
        Watched::Frozen => "made no progress for 0.1 s while torque was on",
    };
    let holds = match checked {
        (_, 0) => String::new(),
        (sure, all) if sure == all => format!("; all {all} motors that are to hold say that they have torque"),
        (sure, all) => format!("; only {sure} of {all} motors that are to hold say that they have torque"),
    };
    crate::text::note!("watchdog: the process that drove {title} {why}; its safe action was done{holds}");
    Ok(Done::Refused)
}
