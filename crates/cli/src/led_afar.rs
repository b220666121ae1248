//! A robot that somebody in another room leads, over zenoh.

use std::sync::Arc;

use anyhow::Context;
use sinew_core::{Brief, Clock, Identity, Observation, RobotDescription, TeleopStatus, Teleoperator, TeleoperatorError, Tick, Timestamp};
use sinew_remote::{FleetPlace, Follower, LinkInfo, RobotName};
use sinew_runtime::TeleopThread;

use crate::daemon::channels;
use crate::daemon::led_remotely::{Goals, LedRemotely};

/// What both ends have to agree on.
pub fn info(robot: &RobotDescription) -> LinkInfo {
    LinkInfo {
        robot: robot.name.clone(),
        rate_hz: robot.control_rate_hz,
        state: channels(&robot.state_channels(), robot),
        action: channels(&robot.action_channels(), robot),
    }
}

/// The thread of one who leads `robot` as `name`. He may come later, and go; the robot holds meanwhile.
///
/// # Errors
/// When the place is not reached, or another robot is led as `name`.
pub fn start(place: &FleetPlace, name: &RobotName, robot: &RobotDescription, clock: &Arc<dyn Clock>) -> anyhow::Result<TeleopThread> {
    let goals = Goals::default();
    let (put, at) = (goals.clone(), clock.clone());
    // As old as they may be: what came slowly is none the sooner.
    let led = move |age: std::time::Duration, wanted: &[f64]| put.put(before(at.now(), age), wanted);
    let link = Follower::open(place, name, &info(robot), led).with_context(|| format!("waiting for who leads {name}"))?;
    let width = robot.action_channels().len();
    let afar = LedAfar { inner: LedRemotely::new(goals, robot), link, sent: Vec::with_capacity(width) };
    TeleopThread::spawn(Box::new(afar), Identity { width }, robot).context("starting the teleoperator's thread")
}

fn before(now: Timestamp, age: std::time::Duration) -> Timestamp {
    Timestamp::from_nanos(now.as_nanos().saturating_sub(i64::try_from(age.as_nanos()).unwrap_or(i64::MAX)))
}

/// Does what comes from afar, and says how the robot is. Without anything fresh it wants the robot to stay where it was sent, says so
/// once, and then has nothing to say, so that what is recorded has these rows as led by nobody.
struct LedAfar {
    inner: LedRemotely,
    link: Follower,
    /// What the robot was sent last; empty before the first time.
    sent: Vec<f64>,
}

impl LedAfar {
    fn tell(&self, observation: &Observation) {
        let state = &observation.state;
        self.link.tell((0..state.width()).map(|i| state.get(i)), &self.sent);
    }

    fn was_sent(&mut self, sent: &[f64]) {
        self.sent.clear();
        self.sent.extend_from_slice(sent);
    }
}

impl Teleoperator for LedAfar {
    fn reset(&mut self, observation: &Observation) -> Result<(), TeleoperatorError> {
        self.sent.clear();
        self.tell(observation);
        self.inner.reset(observation)
    }

    fn action(&mut self, tick: &Tick, observation: &Observation, action: &mut [f64]) -> Result<TeleopStatus, TeleoperatorError> {
        self.tell(observation);
        let was_holding = self.inner.is_holding();
        let status = self.inner.action(tick, observation, action)?;
        if was_holding && self.inner.is_holding() {
            return Err(TeleoperatorError::Transient { doing: "being led from afar", what: Brief::of("no fresh command for 0.3 s") });
        }
        Ok(status)
    }

    fn feel(&mut self, sent: &[f64]) {
        self.was_sent(sent);
        self.inner.feel(sent);
    }

    fn follow(&mut self, tick: &Tick, observation: &Observation, sent: &[f64]) {
        self.was_sent(sent);
        self.tell(observation);
        self.inner.follow(tick, observation, sent);
    }
}

impl Drop for LedAfar {
    fn drop(&mut self) {
        let counts = self.link.counts();
        tracing::info!(?counts, "commands from afar");
    }
}
