//! One channel's commanded motion under limits of position, velocity, acceleration and jerk.
//!
//! A tick gives a motion one acceleration: velocity changes by it, and position by the new velocity.
//! All that is decided here rests on one figure, where a motion would come to rest if it braked as
//! hard as it may in continuous time ([`MotionLimits::rest_from`]). Because the position of a tick
//! moves with the velocity that is new in it, braking tick by tick ends no further than that, whatever
//! the lengths of the ticks are; and the figure rises with the acceleration. So the acceleration that
//! puts it on the target leads there as fast as the limits allow, and past the target only where
//! nothing could help it.

use super::interventions::LimitKind;

/// Where a channel's goal is and how it moves, as commanded (not as measured).
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Motion {
    /// rad or m.
    pub(super) position: f64,
    /// rad/s or m/s.
    pub(super) velocity: f64,
    /// rad/s² or m/s².
    pub(super) acceleration: f64,
    /// What was wanted last, as `position`; for a channel that is led by its velocity, as `velocity`.
    pub(super) target: f64,
    /// How `target` moved, as `velocity`.
    pub(super) target_velocity: f64,
    /// Whether it moved about so in the tick before, too.
    pub(super) target_is_steady: bool,
    /// The shortest tick of late.
    pub(super) shortest_s: f64,
}

impl Motion {
    pub(super) fn resting_at(position: f64) -> Self {
        Self {
            position,
            velocity: 0.0,
            acceleration: 0.0,
            target: position,
            target_velocity: 0.0,
            target_is_steady: false,
            shortest_s: FIRST_S,
        }
    }
}

impl Default for Motion {
    fn default() -> Self {
        Self::resting_at(0.0)
    }
}

/// All above 0 and finite, `lower < upper`; rad or m, and seconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct MotionLimits {
    pub(super) lower: f64,
    pub(super) upper: f64,
    pub(super) velocity: f64,
    pub(super) acceleration: f64,
    pub(super) jerk: f64,
}

/// How many times shorter than the shortest of late the next tick may be, and the channel can stand in it.
const SHORTER: f64 = 5.0;
/// The same at a limit of position or velocity, for a stream that was followed: one that comes to its end there.
const SHORTER_AT_LIMIT: f64 = 2.0;
/// How much longer the shortest tick of late grows in a tick.
const FORGETS: f64 = 1.03;
/// The shortest tick before the first: the first will be it.
const FIRST_S: f64 = f64::INFINITY;
/// How far a steady target may change its velocity in a tick: a share of that velocity, and of what the
/// limits would let a channel change.
const STEADY: f64 = 0.05;
/// The most steps in the search for an acceleration, and how many of them may be Newton's.
const STEPS: u32 = 60;
const NEWTON_STEPS: u32 = 12;
/// What rounding takes from a target or adds to it, at most, as a share of the furthest position.
const ROUNDING: f64 = 8.0 * f64::EPSILON;

/// A tick: the motion before it, its length, what is wanted in it and how that moves, and the
/// accelerations that the limits of acceleration and jerk leave to it.
struct Tick<'a> {
    last: &'a Motion,
    dt_s: f64,
    target: f64,
    target_velocity: f64,
    target_is_steady: bool,
    shortest_s: f64,
    lowest: f64,
    highest: f64,
}

impl Tick<'_> {
    /// The motion that is at `position` after it.
    fn at(&self, position: f64) -> Motion {
        let velocity = (position - self.last.position) / self.dt_s;
        let acceleration = ((velocity - self.last.velocity) / self.dt_s).clamp(self.lowest, self.highest);
        let &Self { target, target_velocity, target_is_steady, shortest_s, .. } = self;
        Motion { position, velocity, acceleration, target, target_velocity, target_is_steady, shortest_s }
    }
}

impl MotionLimits {
    /// The next motion on the way from `last` to `target`, which lies within the position limits, and
    /// the limit that keeps it from being there after `dt_s`, if one does.
    ///
    /// A channel that was where it was wanted for two ticks goes on so as long as the limits allow: a
    /// legal stream passes to the last bit. Any other target is granted only if the channel can stand
    /// at it from the next tick on (or move along with it, if it moves steadily), else a target that
    /// jumps to and fro would swing the channel ever further. Whatever is granted leaves room to stop
    /// before the position limits.
    pub(super) fn towards(&self, last: &Motion, target: f64, dt_s: f64) -> (Motion, Option<LimitKind>) {
        if dt_s <= 0.0 {
            return (Motion { target, ..*last }, (target != last.position).then_some(LimitKind::Velocity));
        }
        let tick = self.tick(last, target, dt_s);
        // One that jumps about moves steadily by chance, but hardly for two ticks in a row.
        let frame = if tick.target_is_steady && last.target_is_steady { tick.target_velocity } else { 0.0 };
        match self.granted(&tick, frame) {
            Ok(motion) => (motion, None),
            Err(kind) => (self.on_the_way(&tick, frame), Some(kind)),
        }
    }

    /// The next motion of a channel that is led by its velocity (a wheel, a base), and the limit that
    /// keeps it from moving at `wanted_velocity` after `dt_s`, if one does. Position plays no part.
    pub(super) fn velocity_towards(&self, last: &Motion, wanted_velocity: f64, dt_s: f64) -> (Motion, Option<LimitKind>) {
        let target = wanted_velocity.clamp(-self.velocity, self.velocity);
        let change = target - last.velocity;
        let beyond = (wanted_velocity != target).then_some(LimitKind::Velocity);
        if dt_s <= 0.0 {
            return (Motion { target: wanted_velocity, ..*last }, beyond.or((change != 0.0).then_some(LimitKind::Acceleration)));
        }
        let Tick { lowest, highest, shortest_s, .. } = self.tick(last, target, dt_s);
        let at_once = change / dt_s;
        // What the next tick can take back, even if it is shorter.
        let least_change = self.jerk * shortest_s / SHORTER;
        if at_once.abs() <= least_change && (lowest..=highest).contains(&at_once) {
            return (Motion { velocity: target, acceleration: at_once, target: wanted_velocity, shortest_s, ..*last }, beyond);
        }
        let acceleration = (self.gaining(change.abs(), dt_s).copysign(change)).clamp(lowest, highest);
        let velocity = (last.velocity + acceleration * dt_s).clamp(-self.velocity, self.velocity);
        let held_by = if at_once.abs() > self.acceleration { LimitKind::Acceleration } else { LimitKind::Jerk };
        (Motion { velocity, acceleration, target: wanted_velocity, shortest_s, ..*last }, beyond.or(Some(held_by)))
    }

    /// The next motion of a channel that comes to rest as fast as it may, wherever that is.
    pub(super) fn braking(&self, last: &Motion, dt_s: f64) -> Motion {
        let motion = self.velocity_towards(last, 0.0, dt_s).0;
        let position = (last.position + motion.velocity * dt_s.max(0.0)).clamp(self.lower, self.upper);
        Motion { position, target: position, target_velocity: 0.0, target_is_steady: false, ..motion }
    }

    /// Where a channel in `motion` stands when it has braked as hard as it may, at the furthest; for
    /// ticks of any length.
    pub(super) fn stop_from(&self, motion: &Motion) -> f64 {
        self.rest_from(motion.position, motion.velocity, motion.acceleration, 0.0).0
    }

    fn tick<'a>(&self, last: &'a Motion, target: f64, dt_s: f64) -> Tick<'a> {
        let (most, change) = (self.acceleration, self.jerk * dt_s);
        let target_velocity = (target - last.target) / dt_s;
        let steadily = STEADY * target_velocity.abs().min(most.min(change) * dt_s);
        Tick {
            last,
            dt_s,
            target,
            target_velocity,
            target_is_steady: target_velocity.abs() <= self.velocity && (target_velocity - last.target_velocity).abs() <= steadily,
            shortest_s: dt_s.min(FORGETS * last.shortest_s),
            lowest: (last.acceleration - change).clamp(-most, most),
            highest: (last.acceleration + change).clamp(-most, most),
        }
    }

    /// The motion that is at the target after the tick, or the limit that forbids it. The target is
    /// met as one that moves at `frame`.
    fn granted(&self, tick: &Tick, frame: f64) -> Result<Motion, LimitKind> {
        let &Tick { last, dt_s, target, lowest, highest, .. } = tick;
        let rounding = ROUNDING * self.furthest();
        let square_s2 = dt_s * dt_s;
        let way = target - last.position;
        // How far an acceleration moves the channel in this tick.
        let push = way - last.velocity * dt_s;
        if way.abs() > self.velocity * dt_s + rounding {
            return Err(LimitKind::Velocity);
        }
        if push.abs() > self.acceleration * square_s2 + rounding {
            return Err(LimitKind::Acceleration);
        }
        if push < lowest * square_s2 - rounding || push > highest * square_s2 + rounding {
            return Err(LimitKind::Jerk);
        }
        let motion = tick.at(target);
        let (rest, per_acceleration_s2) = self.rest_from(target, motion.velocity, motion.acceleration, dt_s);
        let slack = rounding * (1.0 + per_acceleration_s2 / square_s2);
        // Velocity when acceleration is back at 0.
        let crest = motion.velocity + motion.acceleration * motion.acceleration.abs() / (2.0 * self.jerk);
        let rises = motion.acceleration.abs() > self.jerk * motion.shortest_s / SHORTER_AT_LIMIT;
        if rises && motion.velocity * motion.acceleration > 0.0 && crest.abs() > self.velocity + slack / dt_s {
            return Err(LimitKind::Velocity);
        }
        if self.can_stand(&motion, 0.0, SHORTER).is_ok() {
            return Ok(motion);
        }
        let leads_out = rest > self.upper + slack || rest < self.lower - slack;
        if leads_out && self.can_stand(&motion, 0.0, SHORTER_AT_LIMIT).is_err() {
            return Err(LimitKind::Position);
        }
        let followed = last.position == last.target && last.velocity == last.target_velocity;
        let stood = target == last.target && last.target_velocity == 0.0;
        if followed && !stood {
            return Ok(motion);
        }
        if leads_out { Err(LimitKind::Position) } else { self.can_stand(&motion, frame, SHORTER).map(|()| motion) }
    }

    /// Whether a channel in `motion` can stand, in a frame that moves at `frame`, from the next tick on,
    /// even if that is so many times `shorter` than the shortest of late, or which limit forbids it.
    fn can_stand(&self, motion: &Motion, frame: f64, shorter: f64) -> Result<(), LimitKind> {
        let next_s = motion.shortest_s / shorter;
        let brake = (frame - motion.velocity) / next_s;
        let change = self.jerk * next_s;
        if brake.abs() > self.acceleration {
            Err(LimitKind::Acceleration)
        } else if brake.abs() > change || (brake - motion.acceleration).abs() > change {
            Err(LimitKind::Jerk)
        } else {
            Ok(())
        }
    }

    /// The motion after the tick that leads to the target fastest, met as one that moves at `frame`.
    fn on_the_way(&self, tick: &Tick, frame: f64) -> Motion {
        let &Tick { last, dt_s, target, lowest, highest, .. } = tick;
        let mut acceleration = self.resting(tick, target, frame);
        if frame != 0.0 {
            let velocity = last.velocity + acceleration * dt_s;
            let (rest, _) = self.rest_from(last.position + velocity * dt_s, velocity, acceleration, dt_s);
            if rest > self.upper || rest < self.lower {
                acceleration = self.resting(tick, rest.clamp(self.lower, self.upper), 0.0);
            }
        }
        // Neither over the limit of velocity, now or later, nor over that of position in this tick.
        let most = |velocity: f64, room: f64| self.fastest(velocity, dt_s).min((room / dt_s - velocity) / dt_s);
        let upwards = most(last.velocity, self.upper - last.position);
        let downwards = most(-last.velocity, last.position - self.lower);
        let acceleration = acceleration.min(upwards).max(-downwards).clamp(lowest, highest);
        let stride = self.velocity * dt_s;
        let position = last.position + (last.velocity + acceleration * dt_s) * dt_s;
        tick.at(position.clamp(last.position - stride, last.position + stride).clamp(self.lower, self.upper))
    }

    /// The largest acceleration in a tick after which `velocity` need not rise over its limit.
    fn fastest(&self, velocity: f64, dt_s: f64) -> f64 {
        let room = self.velocity - velocity;
        if room <= 0.0 { room / dt_s } else { self.gaining(room, dt_s) }
    }

    /// The acceleration in a tick from which velocity has gained `gain`, 0 or above, when acceleration is
    /// back at 0.
    fn gaining(&self, gain: f64, dt_s: f64) -> f64 {
        // a dt + a² / (2 jerk) = gain, solved in the form that keeps its digits.
        2.0 * gain / (dt_s + (dt_s * dt_s + 2.0 * gain / self.jerk).sqrt())
    }

    /// The acceleration in this tick from which the channel comes to rest at `target`, both seen from
    /// a frame that moves at `frame`; else the nearest there is.
    fn resting(&self, tick: &Tick, target: f64, frame: f64) -> f64 {
        let &Tick { last, dt_s, lowest, highest, .. } = tick;
        let miss = |acceleration: f64| {
            let velocity = last.velocity + acceleration * dt_s;
            let (rest, per_acceleration_s2) = self.rest_from(last.position + velocity * dt_s, velocity - frame, acceleration, dt_s);
            (rest - target, per_acceleration_s2)
        };
        if miss(lowest).0 >= 0.0 {
            return lowest;
        }
        let (over, per_acceleration_s2) = miss(highest);
        if over <= 0.0 {
            return highest;
        }
        let rounding = f64::EPSILON * self.furthest();
        let (mut low, mut high) = (lowest, highest);
        let mut guess = highest - over / per_acceleration_s2;
        for step in 0..STEPS {
            if step >= NEWTON_STEPS || !(low < guess && guess < high) {
                guess = f64::midpoint(low, high);
            }
            let (over, per_acceleration_s2) = miss(guess);
            if over.abs() <= rounding {
                return guess;
            }
            if over > 0.0 {
                high = guess;
            } else {
                low = guess;
            }
            let better = guess - over / per_acceleration_s2;
            if (better - guess).abs() <= f64::EPSILON * self.acceleration {
                return guess;
            }
            guess = better;
        }
        f64::midpoint(low, high)
    }

    /// Where a motion comes to rest when it brakes as hard as it may in continuous time: acceleration
    /// goes at the jerk limit to where it brakes best, and back to 0. With it, how that place changes
    /// with the acceleration of a tick of `dt_s` that ends in this motion (s²).
    fn rest_from(&self, position: f64, velocity: f64, acceleration: f64, dt_s: f64) -> (f64, f64) {
        // The velocity when acceleration is back at 0 tells which way it goes.
        let ahead = velocity + acceleration * acceleration.abs() / (2.0 * self.jerk);
        let sign = if ahead < 0.0 { -1.0 } else { 1.0 };
        let (velocity, acceleration) = (sign * velocity, sign * acceleration);
        // When acceleration will be 0, or was if below 0, and the velocity there.
        let ramp_s = acceleration / self.jerk;
        let crest = (velocity + acceleration * ramp_s / 2.0).max(0.0);
        let full = self.acceleration;
        // How far braking from there leads, and how that changes with the velocity.
        let (braking, per_velocity_s) = if crest * self.jerk >= full * full {
            (crest * (crest / full + full / self.jerk) / 2.0, crest / full + full / (2.0 * self.jerk))
        } else {
            let half_s = (crest / self.jerk).sqrt();
            (crest * half_s, 1.5 * half_s)
        };
        let way = (velocity + acceleration * ramp_s / 3.0) * ramp_s + braking;
        let later_s = ramp_s + per_velocity_s;
        (position + sign * way, velocity / self.jerk + ramp_s * later_s + dt_s * (dt_s + later_s))
    }

    /// How far from 0 a position may be.
    fn furthest(&self) -> f64 {
        self.lower.abs().max(self.upper.abs())
    }
}

#[cfg(test)]
#[path = "motion/tests.rs"]
mod tests;
