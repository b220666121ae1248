//! The gate of one channel.

use super::feedback::Believed;
use super::interventions::LimitKind;
use super::motion::{Motion, MotionLimits};
use super::{FAULT_AFTER, GateFault, Impedance};
use crate::{Channel, ChannelSource, CommandMode, Limits, Observation, RobotDescription, Timestamp, Validity};

/// A part that was found outside its limits comes in at this share of its speed limit.
const RETURN_SHARE: f64 = 1.0 / 6.0;
/// Below this share of its effort ceiling a part may push on.
const RELIEVED_SHARE: f64 = 0.8;
/// A part that pushes harder is led to this share of its ceiling, not to all of it, where noise would count as too much.
const RELIEF_SHARE: f64 = 0.9;
/// In this time it is led most of the way, so slowly that effort, which answers late, can follow.
const RELIEF_S: f64 = 0.15;
/// The least and the most of the way that is its goal in a tick.
const RELIEF_PART: [f64; 2] = [0.08, 0.2];
/// Noise and resolution of a position, as a share of the step limit.
const NOISE_SHARE: f64 = 0.2;
/// What stands for the step limit, where there is none: the way that a part makes in this time.
const NOISE_STEP_S: f64 = 0.25;

/// What is known of a channel at a tick.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sensed {
    pub(super) position: Option<(f64, Timestamp)>,
    pub(super) effort: Option<f64>,
    pub(super) temperature_c: Option<f64>,
}

/// One channel's limits, and what was sent to it.
#[derive(Clone, Debug)]
pub(super) struct ChannelGate {
    pub(super) name: String,
    pub(super) source: ChannelSource,
    pub(super) mode: CommandMode,
    state: Option<usize>,
    motion: MotionLimits,
    step: f64,
    torque: f64,
    stiffness: f64,
    damping: f64,
    stale_ns: i64,
    effort: f64,
    temperature_c: f64,
    max_age_ns: i64,
    fault_age_ms: u32,
    /// What was sent last, as a motion.
    last: Motion,
    /// The position limits, as far as the part was found outside.
    room: [f64; 2],
    believed: Believed,
    sensed: Sensed,
    is_unknown: bool,
    /// Since when it has been pushing too hard, or too hot.
    pushing_since: Option<Timestamp>,
    hot_since: Option<Timestamp>,
}

impl ChannelGate {
    /// The gate of a channel of action whose value is the channel `state` of the state.
    pub(super) fn of(robot: &RobotDescription, channel: Channel, state: Option<usize>) -> Self {
        let mode = channel.mode.unwrap_or(CommandMode::Position);
        let none = Limits::default();
        let (limits, [lower, upper], velocity) = match (channel.source, &robot.base) {
            (ChannelSource::Base(axis), Some(base)) => {
                let limits = base.limits(axis);
                let like =
                    Limits { acceleration: limits.acceleration, jerk: limits.jerk, stale_ms: Some(base.stale_ms), ..Limits::default() };
                (&like.clone(), [f64::MIN, f64::MAX], limits.velocity)
            }
            (ChannelSource::Part(i), _) => {
                let part = &robot.parts[i];
                (&part.limits, part.position_limits(), part.limits.velocity.unwrap_or(1.0))
            }
            _ => (&none, [f64::MIN, f64::MAX], 1.0),
        };
        let step = limits.step.unwrap_or(f64::INFINITY);
        let most = |limit: Option<f64>| limit.unwrap_or(f64::INFINITY);
        let max_age_ns = i64::from(robot.feedback.max_age_ms) * 1_000_000;
        Self {
            name: channel.name,
            source: channel.source,
            mode,
            state,
            motion: MotionLimits { lower, upper, velocity, acceleration: limits.acceleration(velocity), jerk: limits.jerk(velocity) },
            step,
            torque: limits.torque.unwrap_or(0.0),
            stiffness: limits.stiffness.unwrap_or(0.0),
            damping: limits.damping.unwrap_or(0.0),
            stale_ns: limits.stale_ms.map_or(i64::MAX, |ms| i64::from(ms) * 1_000_000),
            effort: most(limits.effort),
            temperature_c: most(limits.temperature_c),
            max_age_ns,
            fault_age_ms: robot.feedback.fault_age_ms,
            last: Motion::default(),
            room: [lower, upper],
            believed: Believed::new(velocity, if step.is_finite() { NOISE_SHARE * step } else { velocity }, step, max_age_ns),
            sensed: Sensed::default(),
            is_unknown: false,
            pushing_since: None,
            hot_since: None,
        }
    }

    /// Whether what is commanded is where the part is to be.
    pub(super) fn is_position(&self) -> bool {
        matches!(self.mode, CommandMode::Position | CommandMode::Impedance)
    }

    /// Begins from what is observed, and gives the command that asks for nothing; `None` when that is not known.
    pub(super) fn start(&mut self, observed: &Observation) -> Option<f64> {
        self.sensed = Sensed::of(observed, self.state, self.source);
        (self.is_unknown, self.pushing_since, self.hot_since) = (false, None, None);
        if !self.is_position() {
            self.last = Motion::default();
            return Some(0.0);
        }
        // What stands from before says nothing of where the part is now.
        let is_fresh = |at: usize| matches!(observed.state.readings().get(at), Some(reading) if reading.validity != Validity::Repeated);
        let (position, time) = self.sensed.position.filter(|_| self.state.is_some_and(is_fresh))?;
        self.believed.begin(position, time);
        self.last = Motion::resting_at(position);
        self.make_room();
        Some(position)
    }

    /// Whether its position in `observed` is another than it began from last, but for noise.
    pub(super) fn moved(&self, observed: &Observation) -> bool {
        let noise = NOISE_SHARE * self.step.min(self.motion.velocity * NOISE_STEP_S);
        let position = Sensed::of(observed, self.state, self.source).position.filter(|_| self.is_position());
        position.is_some_and(|(position, _)| (position - self.last.position).abs() > noise)
    }

    /// Takes in what is observed at `now`.
    pub(super) fn feel(&mut self, observed: &Observation, now: Timestamp) -> Result<(), GateFault> {
        self.sensed = Sensed::of(observed, self.state, self.source);
        if self.is_position() {
            if let Some((position, time)) = self.sensed.position {
                self.believed.hear(position, time, now);
            }
            self.believed.not_after(now);
            let age_ns = self.believed.age_ns(now);
            self.is_unknown = age_ns > self.max_age_ns;
            if age_ns > i64::from(self.fault_age_ms) * 1_000_000 {
                let (channel, age_ms) = (self.name.clone(), age_ns / 1_000_000);
                return Err(GateFault::Silent { channel, age_ms, limit_ms: self.fault_age_ms });
            }
        }
        let pushes = self.sensed.effort.filter(|effort| effort.abs() > self.effort);
        let hot = self.sensed.temperature_c.filter(|celsius| *celsius > self.temperature_c);
        if let Some(found) = lasts(&mut self.pushing_since, pushes, now) {
            return Err(GateFault::Effort { channel: self.name.clone(), found, limit: self.effort });
        }
        if let Some(found) = lasts(&mut self.hot_since, hot, now) {
            return Err(GateFault::Temperature { channel: self.name.clone(), found, limit: self.temperature_c });
        }
        Ok(())
    }

    pub(super) fn is_unknown(&self) -> bool {
        self.is_unknown
    }

    /// The next motion towards `wanted`, or to rest without; it was wanted `age_ns` ago.
    pub(super) fn next(&self, wanted: Option<f64>, age_ns: i64, dt_s: f64) -> (Motion, Option<LimitKind>) {
        let is_hot = self.sensed.temperature_c.is_some_and(|celsius| celsius > self.temperature_c);
        let refused = match wanted {
            Some(wanted) if !wanted.is_finite() => Some(LimitKind::NonFinite),
            Some(_) if is_hot => Some(LimitKind::Temperature),
            Some(_) if age_ns > self.stale_ns => Some(LimitKind::Stale),
            _ => None,
        };
        let wanted = wanted.filter(|_| refused.is_none());
        let (motion, held_by) = match self.mode {
            CommandMode::Position | CommandMode::Impedance => self.next_position(wanted, dt_s),
            CommandMode::Velocity => {
                let most = self.motion.velocity;
                let target = wanted.unwrap_or(0.0).clamp(-most, most);
                let (motion, held_by) = self.motion.velocity_towards(&self.last, target, dt_s);
                (motion, wanted.filter(|wanted| wanted.abs() > most).map(|_| LimitKind::Velocity).or(held_by))
            }
            CommandMode::Effort => {
                let effort = wanted.unwrap_or(0.0).clamp(-self.torque, self.torque);
                (Motion { position: effort, ..Motion::default() }, wanted.filter(|wanted| *wanted != effort).map(|_| LimitKind::Torque))
            }
        };
        (motion, refused.or(held_by))
    }

    fn next_position(&self, wanted: Option<f64>, dt_s: f64) -> (Motion, Option<LimitKind>) {
        let last = &self.last;
        let mut limits = self.motion;
        if last.position < limits.lower || last.position > limits.upper {
            limits.velocity *= RETURN_SHARE;
        }
        [limits.lower, limits.upper] = self.room;
        let mut goal = wanted.unwrap_or_else(|| self.stop_from(last));
        // The first bound that held the goal back, and the last.
        let (mut held_by, mut bound_by) = (None, None);
        let mut hold = |lower: f64, upper: f64, kind: LimitKind| {
            let held = goal.max(lower).min(upper);
            if held != goal {
                goal = held;
                held_by.get_or_insert(kind);
                bound_by = Some(kind);
            }
        };
        let present = self.believed.position();
        if wanted.is_some() {
            hold(self.motion.lower, self.motion.upper, LimitKind::Position);
            if let Some(present) = present {
                hold(present - self.step, present + self.step, LimitKind::Step);
            }
        }
        if let (Some(present), Some(effort), false) = (present, self.sensed.effort, self.is_unknown)
            && effort.abs() > RELIEVED_SHARE * self.effort
        {
            // As a spring: what it pushes with goes with how far the command is ahead of the part.
            let ahead = last.position - present;
            let relieved = if ahead * effort > 0.0 { present + ahead * RELIEF_SHARE * self.effort / effort.abs() } else { last.position };
            let bound = last.position + (relieved - last.position) * (dt_s / RELIEF_S).clamp(RELIEF_PART[0], RELIEF_PART[1]);
            if effort > 0.0 {
                hold(f64::NEG_INFINITY, bound, LimitKind::Effort);
            } else {
                hold(bound, f64::INFINITY, LimitKind::Effort);
            }
        }
        if wanted.is_none() && held_by.is_none() {
            return (limits.braking(last, dt_s), None);
        }
        // A part that is outside stays where it is, or comes in.
        let target = goal.max(self.motion.lower.min(last.position)).min(self.motion.upper.max(last.position));
        // A bound that goes along with the part is no goal that moves: the goal behind it stands, and is to be stopped at.
        let last =
            if bound_by == Some(LimitKind::Step) { Motion { target: f64::INFINITY, target_is_steady: false, ..*last } } else { *last };
        let (motion, limited_by) = limits.towards(&last, target, dt_s);
        (motion, held_by.or(limited_by.filter(|_| wanted.is_some())))
    }

    /// Where it would come to rest after `motion`.
    pub(super) fn stop_from(&self, motion: &Motion) -> f64 {
        self.motion.stop_from(motion)
    }

    /// The motion that comes to rest as fast as it may.
    pub(super) fn braking(&self, dt_s: f64) -> Motion {
        self.next_position(None, dt_s).0
    }

    pub(super) fn last_position(&self) -> f64 {
        self.last.position
    }

    /// What `motion` commands.
    pub(super) fn goal(&self, motion: &Motion) -> f64 {
        if self.mode == CommandMode::Velocity { motion.velocity } else { motion.position }
    }

    /// What was sent last.
    pub(super) fn sent(&self) -> f64 {
        self.goal(&self.last)
    }

    pub(super) fn impedance(&self, asked: Option<Impedance>) -> Impedance {
        if self.mode != CommandMode::Impedance {
            return Impedance::default();
        }
        // Without a wish the part is held as stiffly as it may be, and pushes nowhere.
        let Impedance { stiffness, damping, torque } =
            asked.unwrap_or(Impedance { stiffness: self.stiffness, damping: self.damping, torque: 0.0 });
        let within = |value: f64, most: f64, otherwise: f64| if value.is_finite() { value.clamp(0.0, most) } else { otherwise };
        Impedance {
            stiffness: within(stiffness, self.stiffness, self.stiffness),
            damping: within(damping, self.damping, self.damping),
            torque: if torque.is_finite() { torque.clamp(-self.torque, self.torque) } else { 0.0 },
        }
    }

    /// `motion` was proposed, and `sent` is what the motor was sent of it.
    pub(super) fn commit(&mut self, motion: &Motion, sent: Option<f64>) {
        self.last = match sent.filter(|sent| sent.is_finite()) {
            Some(sent) if sent == self.goal(motion) => *motion,
            // The robot made something else of it.
            Some(sent) if self.mode == CommandMode::Velocity => Motion { velocity: sent, ..Motion::default() },
            Some(sent) => Motion::resting_at(sent),
            None if self.mode == CommandMode::Velocity => Motion { acceleration: 0.0, ..self.last },
            // Nothing moved the register: it stood still.
            None => Motion::resting_at(self.last.position),
        };
        self.make_room();
    }

    /// A part that is outside may be there. While it comes in the room behind it stays, as a motion that brakes may
    /// swing back a little.
    fn make_room(&mut self) {
        let MotionLimits { lower, upper, .. } = self.motion;
        let Motion { position, velocity, acceleration, .. } = self.last;
        let rests = velocity == 0.0 && acceleration == 0.0;
        let swing = self.motion.velocity * (self.motion.velocity / self.motion.acceleration + self.motion.acceleration / self.motion.jerk);
        if rests || (position - lower).min(upper - position) > swing {
            self.room = [lower, upper];
        }
        self.room = [self.room[0].min(position), self.room[1].max(position)];
    }
}

/// Keeps since when something has been `found`, and gives it when it has lasted too long.
fn lasts(since: &mut Option<Timestamp>, found: Option<f64>, now: Timestamp) -> Option<f64> {
    let Some(value) = found else {
        *since = None;
        return None;
    };
    let began = *since.get_or_insert(now);
    (now.nanos_since(began) > FAULT_AFTER.as_nanos() as i64).then_some(value)
}
