//! Reachy Mini's turns.

use std::io::Write;
use std::time::Duration;

use sinew_core::{Door, Observation, Robot, RobotDescription, RobotError, SafeCommand, Sent, Tick, Timestamp};
#[cfg(unix)]
use sinew_core::{Lifeline, LifelinePort};

use super::channels::Targets;
use super::{LOOK_EVERY, ReachyMini};

/// How long the daemon has to take a target over before torque goes on: its loop turns 50 times a second.
const TAKEN_WITHIN: Duration = Duration::from_millis(60);
/// How long after an order the daemon's status may still be of before.
const STATUS_AFTER: Duration = Duration::from_millis(500);

const ENABLED: &[u8] = br#"{"type":"set_motor_mode","mode":"enabled"}"#;
const DISABLED: &[u8] = br#"{"type":"set_motor_mode","mode":"disabled"}"#;
const OBEYS: &[u8] = br#"{"type":"set_automatic_body_yaw","enabled":false}"#;

impl Robot for ReachyMini {
    fn description(&self) -> &RobotDescription {
        &self.robot
    }

    fn finish_read(&mut self, tick: &Tick, _: Timestamp, observation: &mut Observation) -> Result<(), RobotError> {
        self.look();
        let now = self.clock.now();
        (observation.tick, observation.time, observation.bus_retries) = (tick.turn, now, 0);
        self.reads.fill(&self.known, self.has_lost_torque, now, observation);
        if !self.link.line().is_open() {
            return Err(RobotError::transient(
                "reading Reachy Mini",
                format_args!("no daemon; it is tried again: {}", self.link.line().why()),
            ));
        }
        Ok(())
    }

    /// What is to hold does so by itself: the daemon goes on. Motors that are to lose their torque do so by a message on the
    /// connection that there is now; the watchdog has no part in one that is made later.
    #[cfg(unix)]
    fn lifeline(&mut self) -> Result<Lifeline, RobotError> {
        self.frames.clear();
        self.write_torque_off();
        let frame = self.frames.bytes().to_vec();
        if frame.is_empty() {
            return Ok(Lifeline::default());
        }
        let failed = |error| RobotError::transient("giving Reachy Mini's connection to the watchdog", error);
        let descriptor = self.link.line().descriptor().map_err(failed)?;
        Ok(Lifeline {
            ports: vec![LifelinePort {
                name: "reachy-mini".to_owned(),
                descriptor,
                frames: vec![frame],
                gap: Duration::ZERO,
                checks: Vec::new(),
            }],
        })
    }

    fn enable(&mut self, door: &Door, deadline: Timestamp) -> Result<(), RobotError> {
        const DOING: &str = "giving Reachy Mini torque";
        let transient = |what: &dyn std::fmt::Display| RobotError::transient(DOING, what);
        self.look();
        let since = self.oldest();
        let present = self.goals.present(&self.known, since).ok_or_else(|| transient(&"it was not heard lately where the robot is"))?;
        let opened = self.link.line().opened();
        self.frames.clear();
        self.frames.text(OBEYS);
        self.write_targets(&present);
        self.send(DOING)?;
        let taken = (self.clock.now() + TAKEN_WITHIN).min(deadline);
        self.wait(door, taken, |_| false).map_err(|Overtaken| transient(&"the watchdog has taken it over"))?;
        // From here on it may have torque, whatever is answered.
        self.enabled_at = Some(self.clock.now());
        (self.has_lost_torque, self.stopping, self.rested) = (false, None, opened);
        self.frames.clear();
        self.frames.text(ENABLED);
        let ping = self.ping();
        self.send(DOING)?;
        let confirmed = self
            .wait(door, deadline, |robot| robot.known.pong >= ping)
            .map_err(|Overtaken| transient(&"the watchdog has taken it over"))?;
        if confirmed { Ok(()) } else { Err(transient(&"the daemon did not confirm that it read this")) }
    }

    fn write(&mut self, _: &Door, command: &SafeCommand, _: Timestamp, sent: &mut Sent) -> Result<(), RobotError> {
        const DOING: &str = "sending targets to Reachy Mini";
        if self.has_lost_torque {
            return Err(RobotError::transient(
                DOING,
                "its daemon says that the motors are not enabled, and they are not switched on again",
            ));
        }
        let opened = self.link.line().opened();
        let rests = opened != self.rested;
        let targets = if rests {
            // Since it was connected again: what was heard before is of another time.
            let since = self.known.since.unwrap_or(Timestamp::ZERO).max(self.oldest());
            let unknown = || RobotError::transient(DOING, "it is connected again, and was not heard yet where the robot is");
            self.goals.present(&self.known, since).ok_or_else(unknown)?
        } else {
            self.goals.of_command(command, &self.known)
        };
        self.frames.clear();
        if rests {
            self.frames.text(OBEYS);
        }
        self.write_targets(&targets);
        self.send(DOING)?;
        if rests {
            self.rested = opened;
            self.goals.each(&targets, &self.known, |channel, value| sent.reach(channel, value));
        } else {
            sent.reach_all(command);
        }
        Ok(())
    }

    fn stop(&mut self, _: &Door, deadline: Timestamp) -> Result<(), RobotError> {
        const DOING: &str = "stopping Reachy Mini";
        self.look();
        self.frames.clear();
        self.write_torque_off();
        let held = self.goals.present(&self.known, self.known.since.unwrap_or(Timestamp::ZERO)).map(|present| self.goals.held(present));
        if let Some(held) = held.filter(|held| *held != Targets::default()) {
            self.write_targets(&held);
        }
        let ping = self.ping();
        // An answer to an earlier try says the same.
        let ping = *self.stopping.get_or_insert(ping);
        self.send(DOING)?;
        while self.known.pong < ping {
            let now = self.clock.now();
            if now >= deadline {
                return Err(RobotError::transient(DOING, "the daemon did not confirm in time that it read this"));
            }
            self.clock.sleep_until((now + Duration::from_millis(1)).min(deadline));
            self.shared.copy_to(&mut self.known);
        }
        self.enabled_at = None;
        Ok(())
    }
}

/// The watchdog has acted.
struct Overtaken;

impl ReachyMini {
    /// Takes over what was heard.
    fn look(&mut self) {
        self.shared.copy_to(&mut self.known);
        if let Some(enabled_at) = self.enabled_at {
            let is_off = self.known.is_enabled.since(enabled_at + STATUS_AFTER) == Some(&false);
            self.has_lost_torque |= is_off;
        }
    }

    /// What was heard before this is too old to begin with.
    fn oldest(&self) -> Timestamp {
        let max_age_ns = i64::from(self.robot.feedback.max_age_ms) * 1_000_000;
        Timestamp::from_nanos(self.clock.now().as_nanos().saturating_sub(max_age_ns))
    }

    fn write_targets(&mut self, targets: &Targets) {
        targets.write(&mut self.text);
        self.frames.text(&self.text);
    }

    /// Nothing where all motors keep their torque.
    fn write_torque_off(&mut self) {
        if self.goals.all_limp {
            self.frames.text(DISABLED);
        } else if !self.goals.limp.is_empty() {
            self.text.clear();
            // Into memory, which takes everything.
            let _ = write!(self.text, r#"{{"type":"set_torque","on":false,"ids":["#);
            for (i, motor) in self.goals.limp.iter().enumerate() {
                let _ = write!(self.text, r#"{}"{motor}""#, if i == 0 { "" } else { "," });
            }
            let _ = write!(self.text, "]}}");
            self.frames.text(&self.text);
        }
    }

    fn ping(&mut self) -> u64 {
        self.pings += 1;
        self.frames.ping(self.pings);
        self.pings
    }

    fn send(&self, doing: &'static str) -> Result<(), RobotError> {
        self.link.line().send(self.frames.bytes()).map_err(|error| RobotError::transient(doing, error))
    }

    /// Waits until `deadline`, or until it `is_done`; says whether it was.
    fn wait(&mut self, door: &Door, deadline: Timestamp, is_done: impl Fn(&Self) -> bool) -> Result<bool, Overtaken> {
        loop {
            self.look();
            if is_done(self) {
                return Ok(true);
            }
            let now = self.clock.now();
            if now >= deadline {
                return Ok(false);
            }
            if !door.alive() {
                return Err(Overtaken);
            }
            self.clock.sleep_until((now + LOOK_EVERY).min(deadline));
        }
    }
}
