//! One joint's commanded motion under limits of position, velocity, acceleration and jerk.

use super::interventions::LimitKind;

/// Where a joint's goal is and how it moves, as commanded (not as measured).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Motion {
    pub(super) position: f64,
    pub(super) velocity: f64,
    pub(super) acceleration: f64,
    pub(super) target: f64,
}

impl Motion {
    pub(super) fn resting_at(position: f64) -> Self {
        Self { position, target: position, ..Self::default() }
    }

    /// The motion a tick later, with `acceleration` during that tick.
    fn after(&self, acceleration: f64, dt_s: f64) -> Self {
        let velocity = self.velocity + acceleration * dt_s;
        Self { position: self.position + velocity * dt_s, velocity, acceleration, target: self.target }
    }

    fn mirrored(&self) -> Self {
        Self { target: -self.target, position: -self.position, velocity: -self.velocity, acceleration: -self.acceleration }
    }
}

/// All above 0 and finite, `lower < upper`.
#[derive(Clone, Copy, Debug)]
pub(super) struct MotionLimits {
    pub(super) lower: f64,
    pub(super) upper: f64,
    pub(super) velocity: f64,
    pub(super) acceleration: f64,
    pub(super) jerk: f64,
}

/// What rounding may take from or add to a goal.
const ROUNDING_RAD: f64 = 1e-12;
/// What rounding of a goal may do to its derivatives.
const EASE: f64 = 1.0 + 1e-7;
/// Halvings in the search for an acceleration.
const HALVINGS: u32 = 20;

impl MotionLimits {
    /// The next motion on the way from `last` to `target_rad`, which lies within the position limits,
    /// and the limit that keeps it from being there after `dt_s`, if one does.
    ///
    /// A target that the limits let the joint have after `dt_s` is granted to the last bit, so a legal
    /// stream passes unchanged. The way to any other is taken so that the joint can stop at it, and
    /// whatever is granted leaves room to stop before the position limits.
    pub(super) fn towards(&self, last: &Motion, target_rad: f64, dt_s: f64) -> (Motion, Option<LimitKind>) {
        let change = self.jerk * dt_s;
        let lowest = (last.acceleration - change).max(-self.acceleration);
        let highest = (last.acceleration + change).min(self.acceleration);
        let held_by = match self.reached(last, target_rad, dt_s, lowest, highest) {
            Ok(motion) => return (motion, None),
            Err(kind) => kind,
        };
        let rises = target_rad > last.position || (target_rad == last.position && last.velocity > 0.0);
        let acceleration = if rises {
            self.rising(last, target_rad, dt_s, lowest, highest)
        } else {
            -self.mirrored().rising(&last.mirrored(), -target_rad, dt_s, -highest, -lowest)
        };
        (last.after(acceleration, dt_s), Some(held_by))
    }

    /// The motion that is at `target_rad` after `dt_s`, or the limit that forbids it.
    fn reached(&self, last: &Motion, target_rad: f64, dt_s: f64, lowest: f64, highest: f64) -> Result<Motion, LimitKind> {
        let way_rad = target_rad - last.position;
        let coasting_rad = last.velocity * dt_s;
        // How far an acceleration moves the goal in this tick.
        let push_rad = way_rad - coasting_rad;
        let within = |least: f64, most: f64| (least - ROUNDING_RAD..=most + ROUNDING_RAD).contains(&push_rad);
        let square_s2 = dt_s * dt_s;
        let acceleration = self.acceleration;
        if way_rad.abs() > self.velocity * dt_s + ROUNDING_RAD {
            return Err(LimitKind::Velocity);
        }
        if !within(-acceleration * square_s2, acceleration * square_s2) {
            return Err(LimitKind::Acceleration);
        }
        if !within(lowest * square_s2, highest * square_s2) {
            return Err(LimitKind::Jerk);
        }
        if dt_s == 0.0 {
            return Ok(Motion { position: target_rad, ..*last });
        }
        let motion = Motion {
            target: target_rad,
            position: target_rad,
            velocity: way_rad / dt_s,
            acceleration: (push_rad / square_s2).clamp(lowest, highest),
        };
        // What a search for the limits found must not be refused for how it is rounded.
        let eased = Self { velocity: self.velocity * EASE, acceleration: acceleration * EASE, jerk: self.jerk * EASE, ..*self };
        let can_stop = eased.can_stop(&motion, eased.upper, dt_s) && eased.mirrored().can_stop(&motion.mirrored(), -eased.lower, dt_s);
        if can_stop { Ok(motion) } else { Err(LimitKind::Position) }
    }

    /// The largest acceleration between `lowest` and `highest` from which the joint can stop at
    /// `target_rad`, which lies above it, without passing the lower limit either.
    fn rising(&self, last: &Motion, target_rad: f64, dt_s: f64, lowest: f64, highest: f64) -> f64 {
        let mirrored = self.mirrored();
        let wanted = largest(lowest, highest, |a| self.can_stop(&last.after(a, dt_s), target_rad, dt_s)).unwrap_or(lowest);
        let falls_short = |a: f64| mirrored.can_stop(&last.after(a, dt_s).mirrored(), -self.lower, dt_s);
        if falls_short(wanted) {
            return wanted;
        }
        largest(-highest, -wanted, |a| falls_short(-a)).map_or(highest, |a| -a)
    }

    /// Whether a joint in `motion` can come to a stop at `limit_rad` without leaving its velocity
    /// limit upwards on the way.
    fn can_stop(&self, motion: &Motion, limit_rad: f64, dt_s: f64) -> bool {
        let Motion { position, velocity, acceleration, .. } = *motion;
        // What velocity still rises while acceleration falls to 0 in steps of the jerk limit, the last of
        // which may be smaller.
        let step = self.jerk * dt_s;
        let ramp = if acceleration <= step { 0.0 } else { acceleration - step / 2.0 };
        let peak = velocity + ramp * ramp / (2.0 * self.jerk);
        peak <= self.velocity && position + self.stopping_distance(velocity, acceleration, dt_s) <= limit_rad + ROUNDING_RAD
    }

    /// How far upwards a joint still goes when it brakes as hard as it may: acceleration falls at the
    /// jerk limit, stays at the acceleration limit, and rises to 0 at the jerk limit. What holds in
    /// continuous time is widened by a tick, because acceleration changes from tick to tick only. 0 when
    /// it can stand still by the next tick.
    fn stopping_distance(&self, velocity: f64, acceleration: f64, dt_s: f64) -> f64 {
        let (most, jerk) = (self.acceleration, self.jerk);
        let ramp_s = acceleration.abs() / jerk;
        let (at_once, change) = (velocity / dt_s, jerk * dt_s);
        if at_once <= most && at_once <= change && acceleration + at_once <= change && -at_once - acceleration <= change {
            return 0.0;
        }
        // The velocity at which acceleration is, or was, 0; and the way from there.
        let velocity_0 = velocity + acceleration * acceleration / (2.0 * jerk);
        if velocity_0 <= 0.0 || (acceleration <= 0.0 && velocity <= 0.0) {
            return 0.0;
        }
        let way_0 = if acceleration > 0.0 {
            velocity * ramp_s + acceleration * ramp_s * ramp_s / 3.0
        } else {
            jerk * ramp_s * ramp_s * ramp_s / 6.0 - velocity_0 * ramp_s
        };
        let braking_s = if velocity_0 * jerk >= most * most { velocity_0 / most + most / jerk } else { 2.0 * (velocity_0 / jerk).sqrt() };
        (way_0 + velocity_0 * braking_s / 2.0).max(0.0) + velocity_0 * dt_s
    }

    /// Where a joint in `motion` stands when it has braked as hard as it may.
    pub(super) fn stop_from(&self, motion: &Motion, dt_s: f64) -> f64 {
        let Motion { position, velocity, acceleration, .. } = *motion;
        if velocity >= 0.0 {
            position + self.stopping_distance(velocity, acceleration, dt_s)
        } else {
            position - self.stopping_distance(-velocity, -acceleration, dt_s)
        }
    }

    pub(super) fn velocity_towards(&self, last: &Motion, wanted: f64, dt_s: f64) -> (Motion, Option<LimitKind>) {
        let most = self.acceleration * dt_s;
        let velocity = last.velocity + (wanted - last.velocity).clamp(-most, most);
        (Motion { velocity, ..*last }, (velocity != wanted).then_some(LimitKind::Acceleration))
    }

    fn mirrored(&self) -> Self {
        Self { lower: -self.upper, upper: -self.lower, ..*self }
    }
}

/// The largest value for which `holds`, which holds up to some value and not beyond; `None` when it
/// doesn't even for `lowest`.
fn largest(lowest: f64, highest: f64, holds: impl Fn(f64) -> bool) -> Option<f64> {
    if holds(highest) {
        return Some(highest);
    }
    if !holds(lowest) {
        return None;
    }
    let (mut good, mut bad) = (lowest, highest);
    for _ in 0..HALVINGS {
        let middle = f64::midpoint(good, bad);
        if holds(middle) {
            good = middle;
        } else {
            bad = middle;
        }
    }
    Some(good)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMITS: MotionLimits = MotionLimits { lower: -1.0, upper: 1.5, velocity: 3.0, acceleration: 60.0, jerk: 3000.0 };

    /// The motions on the way through `targets`, checked against every limit.
    fn stream(limits: &MotionLimits, start: f64, targets: impl IntoIterator<Item = f64>, dt_s: f64) -> Result<Vec<Motion>, TestCaseError> {
        let mut last = Motion::resting_at(start);
        let mut motions = Vec::new();
        for target in targets {
            let (now, _) = limits.towards(&last, target.clamp(limits.lower, limits.upper), dt_s);
            let velocity = (now.position - last.position) / dt_s;
            let acceleration = (velocity - last.velocity) / dt_s;
            let jerk = (now.acceleration - last.acceleration) / dt_s;
            // Rounding of a goal, as it shows in its derivatives.
            let slack = |order: i32| 1.0 + 1e-9 + 1e-11 / dt_s.powi(order);
            prop_assert!(now.position >= limits.lower - 1e-9 && now.position <= limits.upper + 1e-9, "{last:?} to {now:?}");
            prop_assert!(velocity.abs() <= limits.velocity * slack(1), "velocity {velocity}: {last:?} to {now:?}");
            prop_assert!(acceleration.abs() <= limits.acceleration * slack(2), "{acceleration}: {last:?} to {now:?}");
            prop_assert!(jerk.abs() <= limits.jerk * slack(3), "jerk {jerk}: {last:?} to {now:?}");
            let again = limits.towards(&last, now.position, dt_s).0;
            prop_assert!((again.position - now.position).abs() < 1e-9, "asking for what is granted grants the same: {now:?}, {again:?}");
            motions.push(now);
            last = now;
        }
        Ok(motions)
    }

    fn any_limits() -> impl Strategy<Value = MotionLimits> {
        (-2.0..-0.1, 0.1..2.0, 0.2..8.0, 0.02..0.5, 0.005..0.3).prop_map(|(lower, upper, velocity, to_velocity_s, to_most_s)| {
            let acceleration = velocity / to_velocity_s;
            MotionLimits { lower, upper, velocity: velocity, acceleration, jerk: acceleration / to_most_s }
        })
    }

    fn any_target() -> impl Strategy<Value = f64> {
        prop_oneof![-3.0..3.0, prop::sample::select(vec![-9.0, 9.0, 0.0])]
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn no_stream_leaves_any_limit(
            limits in any_limits(),
            dt_s in prop::sample::select(vec![1.0, 0.1, 1.0 / 30.0, 0.02, 0.005, 0.001]),
            targets in prop::collection::vec((any_target(), 1usize..40), 1..12),
        ) {
            let targets = targets.into_iter().flat_map(|(target, times)| std::iter::repeat_n(target, times));
            stream(&limits, 0.0, targets, dt_s)?;
        }

        #[test]
        fn a_target_that_stands_is_reached_and_hardly_passed(
            limits in any_limits(),
            dt_s in prop::sample::select(vec![0.1, 1.0 / 30.0, 0.02, 0.005]),
            before in prop::collection::vec(any_target(), 0..20),
            target in -2.0..2.0f64,
        ) {
            let moved = stream(&limits, 0.0, before.iter().copied(), dt_s)?;
            let target = target.clamp(limits.lower, limits.upper);
            let motions = stream(&limits, 0.0, before.into_iter().chain(std::iter::repeat_n(target, (60.0 / dt_s) as usize)), dt_s)?;
            prop_assert_eq!(motions.last().unwrap().position, target);
            if moved.is_empty() {
                let furthest = motions.iter().map(|motion| (motion.position - target) * target.signum()).fold(0.0, f64::max);
                let tick_rad = limits.acceleration * dt_s * dt_s + limits.jerk * dt_s * dt_s * dt_s;
                prop_assert!(furthest <= 2.0 * tick_rad.min(limits.velocity * dt_s), "passed by {furthest}, a tick is {tick_rad}");
            }
        }
    }

    #[test]
    fn a_step_takes_about_the_time_that_its_limits_need() {
        let motions = stream(&LIMITS, 0.0, std::iter::repeat_n(1.0, 200), 0.005).unwrap();
        let arrived = motions.iter().position(|motion| (motion.position - 1.0).abs() < 1e-3).unwrap() as f64 * 0.005;
        // 1 rad at 3 rad/s, 0.05 s to gain or lose the speed and 0.02 s to begin doing so.
        assert!((0.39..0.55).contains(&arrived), "{arrived} s");
        let fastest = motions.iter().map(|motion| motion.velocity).fold(0.0, f64::max);
        assert!(fastest > 2.9, "{fastest}");
    }
}
