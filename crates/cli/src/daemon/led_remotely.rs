//! Somebody who leads a robot from afar, by goals that come now and then.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sinew_core::{CommandMode, Observation, RobotDescription, TeleopStatus, Teleoperator, TeleoperatorError, Tick, Timestamp};

/// Goals that are older than this are none.
const FRESH_NS: i64 = 300_000_000;

/// Where the newest goals lie. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Goals(Arc<Mutex<Option<Newest>>>);

#[derive(Debug)]
struct Newest {
    /// When they were wanted, and when they came.
    wanted: Timestamp,
    came: Timestamp,
    goals: Vec<f64>,
}

impl Goals {
    pub fn put(&self, now: Timestamp, goals: &[f64]) {
        self.put_old(now, Duration::ZERO, goals);
    }

    /// The same of goals that were on their way for as long as this.
    pub fn put_old(&self, now: Timestamp, age: Duration, goals: &[f64]) {
        let age_ns = i64::try_from(age.as_nanos()).unwrap_or(i64::MAX);
        let wanted = Timestamp::from_nanos(now.as_nanos().saturating_sub(age_ns));
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Newest { wanted, came: now, goals: goals.to_vec() });
    }

    /// Whether any have come within this time.
    pub fn came_within(&self, time: Duration, now: Timestamp) -> bool {
        let newest = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        newest.as_ref().is_some_and(|newest| now.nanos_since(newest.came) as f64 <= time.as_nanos() as f64)
    }

    /// None are left.
    pub fn forget(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn fresh(&self, now: Timestamp, action: &mut [f64]) -> bool {
        let newest = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(newest) = newest.as_ref().filter(|newest| now.nanos_since(newest.wanted) <= FRESH_NS) else { return false };
        action.copy_from_slice(&newest.goals);
        true
    }
}

/// Wants what lies there, and otherwise that the robot stays where it was sent.
pub struct LedRemotely {
    goals: Goals,
    /// What it was sent last; before the first time, where it is.
    sent: Vec<f64>,
    /// Of each channel of action, the channel of state of the same name; `None` for speeds, which come to 0.
    places: Vec<Option<usize>>,
}

impl LedRemotely {
    pub fn new(goals: Goals, robot: &RobotDescription) -> Self {
        let state = robot.state_channels();
        let channels = robot.action_channels();
        let places: Vec<_> = channels
            .iter()
            .map(|channel| match channel.mode {
                Some(CommandMode::Position | CommandMode::Impedance) => state.iter().position(|other| other.name == channel.name),
                _ => None,
            })
            .collect();
        let width = places.len();
        Self { goals, sent: vec![0.0; width], places }
    }

    /// What the robot was sent last; before the first time, where it was.
    pub fn sent(&self) -> &[f64] {
        &self.sent
    }
}

impl Teleoperator for LedRemotely {
    fn reset(&mut self, observation: &Observation) -> Result<(), TeleoperatorError> {
        // What was wanted before is of another time.
        self.goals.forget();
        for (sent, place) in self.sent.iter_mut().zip(&self.places) {
            *sent = match place {
                Some(place) => observation.state.get(*place).ok_or_else(|| TeleoperatorError::Transient {
                    doing: "taking over",
                    what: sinew_core::Brief::of("a joint's place is not known"),
                })?,
                None => 0.0,
            };
        }
        Ok(())
    }

    fn action(&mut self, tick: &Tick, _: &Observation, action: &mut [f64]) -> Result<TeleopStatus, TeleoperatorError> {
        if self.goals.fresh(tick.due, action) {
            return Ok(TeleopStatus::Active);
        }
        action.copy_from_slice(&self.sent);
        Ok(TeleopStatus::Holding)
    }

    fn feel(&mut self, sent: &[f64]) {
        self.sent.copy_from_slice(sent);
    }

    fn follow(&mut self, _: &Tick, _: &Observation, sent: &[f64]) {
        self.sent.copy_from_slice(sent);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn when_goals_stop_it_stays_where_it_was_sent() {
        let robot = sinew_sim::robots::get("so101").unwrap().description;
        let goals = Goals::default();
        let mut led = LedRemotely::new(goals.clone(), &robot);
        let mut observation = Observation::for_robot(&robot);
        assert!(led.reset(&observation).is_err(), "nobody knows where it is");
        observation.state.set_all(&[0.1; 6], Timestamp::ZERO);
        goals.put(Timestamp::ZERO, &[9.0; 6]);
        led.reset(&observation).unwrap();
        let mut action = [0.0; 6];
        let mut at = |led: &mut LedRemotely, ms: i64| {
            let tick = Tick { turn: 1, due: Timestamp::from_nanos(ms * 1_000_000), period: Duration::from_millis(10), wants_images: false };
            (led.action(&tick, &observation, &mut action).unwrap(), action[0])
        };
        assert_eq!(at(&mut led, 10), (TeleopStatus::Holding, 0.1), "what was put before it took over is forgotten");
        goals.put(Timestamp::from_nanos(20_000_000), &[0.5; 6]);
        assert_eq!(at(&mut led, 30), (TeleopStatus::Active, 0.5));
        led.feel(&[0.2; 6]);
        assert_eq!(at(&mut led, 320), (TeleopStatus::Active, 0.5));
        assert_eq!(at(&mut led, 321), (TeleopStatus::Holding, 0.2), "300 ms later it stays where the gate had let it come to");
        goals.put(Timestamp::from_nanos(500_000_000), &[0.7; 6]);
        assert_eq!(at(&mut led, 500), (TeleopStatus::Active, 0.7));
    }
}
