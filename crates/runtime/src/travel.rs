//! Ways that are no part of an episode: to its start, and to rest.

use sinew_core::{Armed, Cameras, ChannelSource, Part};

use crate::control::Control;
use crate::{Fault, StopLevel};

/// A place counts as reached when every goal is so near.
const TOLERANCE: f64 = 1e-6;
/// How much longer than planned a way may take.
const GRACE_S: f64 = 2.0;

impl Control<'_> {
    /// Brings the robot slowly to a policy's first action where that is far away, and asks the policy anew.
    /// `false` when a stop was asked for on the way.
    pub(crate) fn go_to_start(&mut self, armed: &mut Armed<'_>, cameras: &mut dyn Cameras) -> Result<bool, Fault> {
        let first = self.acting.policy.as_ref().and_then(|policy| policy.first_goals());
        let Some(start) = first.map(|goals| goals.iter().map(|goal| Some(*goal)).collect::<Vec<_>>()) else { return Ok(true) };
        let start = self.within_limits(start);
        if self.furthest(armed.commanded(), &start) <= self.shared.config.start_within {
            return Ok(true);
        }
        if !self.travel(armed, &start, StopLevel::Stop, "the start")? {
            return Ok(false);
        }
        // The policy answers anew from here; until then the robot is looked after at every turn.
        let mut has_asked = false;
        loop {
            let turn = self.wait();
            if self.shared.stop.is_requested() {
                return Ok(false);
            }
            let tick = self.tick_of(0, turn.due, !has_asked);
            self.read(armed, &tick, 0)?;
            if !has_asked {
                cameras.newest(&tick, &mut self.frames.current.observation.images).map_err(Fault::Camera)?;
            }
            self.drive(armed, false, 0)?;
            let Some(policy) = &mut self.acting.policy else { return Ok(true) };
            if !std::mem::replace(&mut has_asked, true) {
                self.frames.current.observation.tick = 0;
                policy.ask_first(&self.frames.current.observation);
            }
            match policy.first(!self.shared.clock.runs_by_itself())? {
                None => return Ok(false),
                Some(true) => return Ok(true),
                Some(false) => has_asked = policy.is_expecting(),
            }
        }
    }

    /// Moves to the rest position, unless the stop becomes urgent.
    pub(crate) fn rest(&mut self, armed: &mut Armed<'_>) -> Result<(), Fault> {
        let rest = self.within_limits(self.robot.rest());
        self.travel(armed, &rest, StopLevel::Now, "the rest position").map(|_| ())
    }

    /// Where the limits let `goals` be.
    fn within_limits(&self, mut goals: Vec<Option<f64>>) -> Vec<Option<f64>> {
        let channels = self.robot.action_channels();
        for ((goal, channel), is_position) in goals.iter_mut().zip(&channels).zip(&self.positions) {
            *goal = goal.filter(|_| *is_position);
            if let (Some(goal), ChannelSource::Part(part)) = (goal, channel.source) {
                let [lower, upper] = self.robot.parts.get(part).map_or([f64::MIN, f64::MAX], Part::position_limits);
                *goal = goal.clamp(lower, upper);
            }
        }
        goals
    }

    /// How far ahead of each channel's command its goal may be, so that it comes to `speed` and no more: what it needs to
    /// come to a stop.
    fn leads(&self, speed: f64) -> Vec<f64> {
        let lead = |source| {
            let ChannelSource::Part(part) = source else { return 0.0 };
            let limits = self.robot.parts.get(part).map(|part| &part.limits);
            let Some((limits, velocity)) = limits.and_then(|limits| Some((limits, limits.velocity?))) else { return 0.0 };
            let (acceleration, jerk) = (limits.acceleration(velocity), limits.jerk(velocity));
            if speed * jerk < acceleration * acceleration {
                speed * (speed / jerk).sqrt()
            } else {
                speed / 2.0 * (speed / acceleration + acceleration / jerk)
            }
        };
        self.robot.action_channels().iter().map(|channel| lead(channel.source)).collect()
    }

    fn furthest(&self, commanded: &[f64], goals: &[Option<f64>]) -> f64 {
        commanded.iter().zip(goals).filter_map(|(commanded, goal)| Some((commanded - (*goal)?).abs())).fold(0.0, f64::max)
    }

    /// Moves from the last command to `goals` at the speed for rest, until it is there; a channel without a goal stays
    /// where it is, and one that is no position comes to a stop. `false` when a stop of the level `until` was asked for
    /// on the way. Nothing of it is published.
    fn travel(&mut self, armed: &mut Armed<'_>, goals: &[Option<f64>], until: StopLevel, to: &'static str) -> Result<bool, Fault> {
        let (turn_s, speed) = (self.shared.turn_s(), self.shared.config.rest_velocity_per_s);
        let stride = speed * turn_s;
        if !(stride > 0.0 && stride.is_finite()) {
            return Ok(true);
        }
        let far = self.furthest(armed.commanded(), goals);
        let leads = self.leads(speed);
        let most_lead = leads.iter().copied().fold(0.0, f64::max);
        let limit_ticks = (((far + most_lead) / speed + GRACE_S) / turn_s) as u64;
        let (mut first_turn, mut was_there) = (None, false);
        // Where the goal that moves has come to.
        let mut at = armed.commanded().to_vec();
        loop {
            if self.shared.stop.level() >= until {
                return Ok(false);
            }
            let turn = self.wait();
            let ticks = turn.index - *first_turn.get_or_insert(turn.index);
            if self.shared.stop.level() >= until {
                return Ok(false);
            }
            let left = self.furthest(armed.commanded(), goals);
            // Twice, so that it stands there.
            if std::mem::replace(&mut was_there, left <= TOLERANCE) && was_there {
                return Ok(true);
            }
            if ticks >= limit_ticks {
                return Err(Fault::NotThere { to, left, after_s: ticks as f64 * turn_s });
            }
            let tick = self.tick_of(turn.index, turn.due, false);
            self.read(armed, &tick, turn.index)?;
            self.wanted.time = self.shared.clock.now();
            for (i, (wanted, commanded)) in self.wanted.goals.iter_mut().zip(armed.commanded()).enumerate() {
                *wanted = match goals[i] {
                    Some(goal) => {
                        // What is held up is not hurried on.
                        let lead = leads[i] + stride;
                        at[i] = (at[i] + (goal - at[i]).clamp(-stride, stride)).clamp(commanded - lead, commanded + lead);
                        at[i]
                    }
                    None if self.positions[i] => *commanded,
                    None => 0.0,
                };
            }
            self.drive(armed, true, turn.index)?;
        }
    }
}
