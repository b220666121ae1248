//! Ways that are no part of an episode: to its start, and to rest.

use sinew_core::{Armed, Tick};

use crate::control::{Control, Shared, finite, is_transient};
use crate::plan::Plan;
use crate::supervision::Supervision;
use crate::{Fault, StopLevel};

/// A place counts as reached when every goal is so near.
const TOLERANCE_RAD: f64 = 1e-6;
/// How much longer than planned a way may take.
const GRACE_S: f64 = 2.0;

impl Control<'_> {
    /// Brings the arm to a policy's first action where that is far away, and asks the policy anew.
    /// `false` when a stop was asked for on the way.
    pub(crate) fn go_to_start(&mut self, armed: &mut Armed<'_>) -> Result<bool, Fault> {
        let Plan::Policy(Supervision { policy, .. }) = &self.plan else { return Ok(true) };
        let Some(start_rad) = policy.first_goals().map(<[f64]>::to_vec) else { return Ok(true) };
        let present_rad = &self.frames.current.observation.position_rad;
        let far_rad = present_rad.iter().zip(&start_rad).map(|(present, start)| (present - start).abs()).fold(0.0, f64::max);
        if far_rad <= self.shared.config.start_within_rad {
            return Ok(true);
        }
        // What the gate leaves of the first action is where the arm can go.
        let start_rad = self.gate.hold(&start_rad).goals_rad().to_vec();
        self.command = Some(self.gate.hold(present_rad));
        self.travel(armed, &start_rad, StopLevel::Stop)?;
        if self.shared.stop.is_requested() {
            return Ok(false);
        }
        let observation = &mut self.frames.current.observation;
        let tick = Tick { index: 0, due: self.shared.clock.now(), period: self.schedule.period(), wants_images: true };
        armed.observe(&tick, observation).map_err(|source| Fault::Observe { tick: 0, source })?;
        observation.tick = 0;
        finite(observation, armed.description())?;
        match &mut self.plan {
            Plan::Policy(supervision) => supervision.policy.first(observation),
            Plan::Teleoperator(..) => Ok(true),
        }
    }

    /// Moves to the rest position, unless the stop becomes urgent.
    pub(crate) fn rest(&mut self, armed: &mut Armed<'_>) -> Result<(), Fault> {
        let rest_rad = armed.description().stop.rest_rad.clone();
        self.travel(armed, &rest_rad, StopLevel::Now)
    }

    /// Moves from the last command to `goals_rad` at the speed for rest, until it is there, it has taken
    /// far too long, or a stop of the level `until` is asked for. Nothing of it is published.
    fn travel(&mut self, armed: &mut Armed<'_>, goals_rad: &[f64], until: StopLevel) -> Result<(), Fault> {
        let Shared { config, clock, stop, .. } = self.shared;
        let Some(command) = &mut self.command else { return Ok(()) };
        let dt_s = self.shared.turn_ns() as f64 * 1e-9;
        let stride_rad = config.rest_velocity_rad_per_s * dt_s;
        if !(stride_rad > 0.0 && stride_rad.is_finite()) {
            return Ok(());
        }
        let far_rad = command.goals_rad().iter().zip(goals_rad).map(|(goal, there)| (goal - there).abs()).fold(0.0, f64::max);
        let limit_ticks = ((far_rad / config.rest_velocity_rad_per_s + GRACE_S) / dt_s) as u64;
        let frame = &mut *self.frames.current;
        let mut failures_in_a_row = 0;
        let mut first_tick = None;
        loop {
            let turn = self.schedule.wait(clock);
            let ticks = turn.index - *first_tick.get_or_insert(turn.index);
            let there = command.goals_rad().iter().zip(goals_rad).all(|(goal, there)| (goal - there).abs() <= TOLERANCE_RAD);
            if there || ticks >= limit_ticks || stop.level() >= until {
                return Ok(());
            }
            let tick = Tick { index: turn.index, due: turn.due, period: self.schedule.period(), wants_images: false };
            for ((wanted, goal), there) in self.wanted_rad.iter_mut().zip(command.goals_rad()).zip(goals_rad) {
                *wanted = goal + (there - goal).clamp(-stride_rad, stride_rad);
            }
            let moved =
                armed.observe(&tick, &mut frame.observation).map_err(|source| Fault::Observe { tick: turn.index, source }).and_then(|()| {
                    self.gate.advance(command, &self.wanted_rad, &frame.observation, dt_s);
                    armed.apply(command, &mut frame.applied_rad).map_err(|source| Fault::Apply { tick: turn.index, source })
                });
            match moved {
                Ok(()) => failures_in_a_row = 0,
                Err(fault) if is_transient(&fault) && failures_in_a_row < config.transient_ticks => failures_in_a_row += 1,
                Err(fault) => return Err(fault),
            }
        }
    }
}
