//! A robot that somebody in another room leads, over zenoh.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use sinew_core::{Clock, Identity, Observation, RobotDescription, TeleopStatus, Teleoperator, TeleoperatorError, Tick};
use sinew_remote::{FleetPlace, Follower, LinkInfo, RobotName};
use sinew_runtime::TeleopThread;

use crate::daemon::channels;
use crate::daemon::led_remotely::{Goals, LedRemotely};

/// A row for which no goal has come for this time, nor for two ticks, shows what nobody wanted then.
const STALE: Duration = Duration::from_millis(100);
const STALE_TICKS: u32 = 2;

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
    let afar = LedAfar::open(place, name, robot, clock)?;
    TeleopThread::spawn(Box::new(afar), Identity { width: robot.action_channels().len() }, robot)
        .context("starting the teleoperator's thread")
}

/// Does what comes from afar, and says how the robot is. Without anything fresh it wants the robot to stay where it was sent. That nothing
/// new has come is said from the first tick on, so that what is recorded has these rows as led by nobody.
struct LedAfar {
    inner: LedRemotely,
    goals: Goals,
    link: Follower,
    /// What the robot was sent last; empty before the first time.
    sent: Vec<f64>,
}

impl LedAfar {
    fn open(place: &FleetPlace, name: &RobotName, robot: &RobotDescription, clock: &Arc<dyn Clock>) -> anyhow::Result<Self> {
        let goals = Goals::default();
        let (put, at) = (goals.clone(), clock.clone());
        // As old as they may be: what came slowly is none the sooner.
        let led = move |age: Duration, wanted: &[f64]| put.put_old(at.now(), age, wanted);
        let link = Follower::open(place, name, &info(robot), led).with_context(|| format!("waiting for who leads {name}"))?;
        let sent = Vec::with_capacity(robot.action_channels().len());
        Ok(Self { inner: LedRemotely::new(goals.clone(), robot), goals, link, sent })
    }

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
        let status = self.inner.action(tick, observation, action)?;
        let is_fresh = self.goals.came_within(STALE.max(tick.period * STALE_TICKS), tick.due);
        Ok(match status {
            TeleopStatus::Holding => TeleopStatus::Absent,
            status if is_fresh => status,
            _ => TeleopStatus::Stale,
        })
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

#[cfg(test)]
mod tests {
    use sinew_core::Timestamp;
    use sinew_remote::Leader;
    use sinew_runtime::MonotonicClock;

    use super::*;

    #[test]
    fn what_nobody_wanted_is_told_from_the_first_tick_on() {
        let robot = sinew_sim::robots::get("so101").unwrap().description;
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let (name, clock): (RobotName, Arc<dyn Clock>) = ("arm".parse().unwrap(), Arc::new(MonotonicClock::new()));
        let here = format!("listen:tcp/127.0.0.1:{port}").parse().unwrap();
        let mut led = LedAfar::open(&here, &name, &robot, &clock).unwrap();
        let mut observation = Observation::for_robot(&robot);
        observation.state.set_all(&[0.1; 6], Timestamp::ZERO);
        led.reset(&observation).unwrap();
        let mut leader = Leader::open(format!("tcp/127.0.0.1:{port}").parse().unwrap(), name).unwrap();
        let begun = std::time::Instant::now();
        while leader.feedback().is_none() {
            assert!(begun.elapsed() < Duration::from_secs(5));
            std::thread::sleep(Duration::from_millis(5));
        }
        let at = |led: &mut LedAfar, due: Timestamp| {
            let tick = Tick { turn: 1, due, period: Duration::from_millis(33), wants_images: false };
            let mut action = [9.0; 6];
            (led.action(&tick, &observation, &mut action).unwrap(), action[0])
        };
        assert_eq!(at(&mut led, clock.now()), (TeleopStatus::Absent, 0.1), "nobody has led yet");
        leader.send(&[0.5; 6]);
        let begun = std::time::Instant::now();
        while at(&mut led, clock.now()).0 != TeleopStatus::Active {
            assert!(begun.elapsed() < Duration::from_secs(5));
            std::thread::sleep(Duration::from_millis(1));
        }
        let came = clock.now();
        let later = |ms: u64| came + Duration::from_millis(ms);
        assert_eq!(at(&mut led, later(20)), (TeleopStatus::Active, 0.5));
        assert_eq!(at(&mut led, later(120)), (TeleopStatus::Stale, 0.5), "it follows the last goal, which is not new");
        assert_eq!(at(&mut led, later(320)), (TeleopStatus::Absent, 0.1), "and then holds where it was sent");
        assert_eq!(at(&mut led, later(2000)), (TeleopStatus::Absent, 0.1));
    }
}
