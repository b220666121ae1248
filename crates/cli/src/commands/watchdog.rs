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
    let (mut ports, mut checked) = (0, (0, 0));
    let watched = watch(socket, WATCHDOG_PATIENCE, |lifeline| {
        ports = lifeline.ports.len();
        write_lifeline(lifeline)?;
        checked = check_lifeline(lifeline);
        Ok::<(), sinew_runtime::PortError>(())
    })?;
    let why = match watched {
        Watched::Ended => return Ok(Done::Ok),
        Watched::Gone => "ended before its motors were in their safe state",
        Watched::Frozen => "made no progress for 0.1 s while torque was on",
    };
    crate::text::note!("watchdog: the process that drove {title} {why}; {}", what_was_done(ports, checked));
    Ok(Done::Refused)
}

/// The safe action's packets went to so many `ports`; of the motors that are to hold, so many said that they do, and so many
/// were asked.
fn what_was_done(ports: usize, (sure, all): (usize, usize)) -> String {
    match (ports, all) {
        (0, _) => "nothing could be done from here, as it has no motors on a port of this machine: over a network its host or daemon \
                   stops it by itself"
            .to_owned(),
        (_, 0) => "its safe action was done".to_owned(),
        _ if sure == 0 => format!(
            "its safe action was sent, and none of the {all} motors that are to hold answered: check the cable and the power. Until they \
             hear it they go on with their last goal"
        ),
        _ if sure == all => format!("its safe action was done; all {all} motors that are to hold say that they have torque"),
        _ => format!("its safe action was done; only {sure} of {all} motors that are to hold say that they have torque"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_safe_action_that_nobody_could_do_is_not_claimed() {
        let nothing = what_was_done(0, (0, 0));
        assert!(!nothing.contains("was done") && nothing.contains("its host or daemon stops it by itself"), "{nothing}");
        assert_eq!(what_was_done(1, (0, 0)), "its safe action was done");
        assert_eq!(what_was_done(2, (5, 6)), "its safe action was done; only 5 of 6 motors that are to hold say that they have torque");
        let deaf = what_was_done(1, (0, 6));
        assert!(!deaf.contains("was done") && deaf.contains("none of the 6 motors that are to hold answered"), "{deaf}");
        assert_eq!(what_was_done(1, (6, 6)), "its safe action was done; all 6 motors that are to hold say that they have torque");
    }
}
