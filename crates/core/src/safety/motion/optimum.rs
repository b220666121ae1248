//! The fastest ways in continuous time, as a measure for those that a law takes.

use super::{Motion, MotionLimits};

/// How long the fastest way takes in continuous time from a motion to rest at a target, and how
/// often it reverses. `most` and `least` are the limits of velocity.
pub(crate) fn fastest_way(limits: &MotionLimits, start: &Motion, target: f64, most: f64, least: f64) -> (f64, u32) {
    let brake_s = |velocity: f64, acceleration: f64| {
        let ahead = velocity + acceleration * acceleration.abs() / (2.0 * limits.jerk);
        let (velocity, acceleration) = if ahead < 0.0 { (-velocity, -acceleration) } else { (velocity, acceleration) };
        let crest = (velocity + acceleration * acceleration / (2.0 * limits.jerk)).max(0.0);
        let full = limits.acceleration;
        let from_crest_s =
            if crest * limits.jerk >= full * full { crest / full + full / limits.jerk } else { 2.0 * (crest / limits.jerk).sqrt() };
        from_crest_s + acceleration / limits.jerk
    };
    let rest = limits.stop_from(start);
    let sign = if rest <= target { 1.0 } else { -1.0 };
    let most = if sign > 0.0 { most } else { -least };
    let (way, velocity, acceleration) = (sign * (target - start.position), sign * start.velocity, sign * start.acceleration);
    let jerk = limits.jerk;
    // Phases of pushing: the jerk and how long.
    let crest = velocity + acceleration * acceleration.abs() / (2.0 * jerk);
    let mut phases = [(0.0, 0.0); 4];
    if crest < most {
        // Up to a highest acceleration, there, and back to 0 at the limit of velocity.
        let square = jerk * (most - velocity) + acceleration * acceleration / 2.0;
        let highest = square.max(0.0).sqrt().min(limits.acceleration).max(acceleration);
        let up_s = (highest - acceleration) / jerk;
        let down_s = highest / jerk;
        let gained = velocity + (acceleration + highest) / 2.0 * up_s + highest / 2.0 * down_s;
        phases = [(jerk, up_s), (0.0, ((most - gained) / highest).max(0.0)), (-jerk, down_s), (0.0, f64::INFINITY)];
    } else {
        phases[0] = (if acceleration > 0.0 { -jerk } else { jerk }, acceleration.abs() / jerk);
        phases[3] = (0.0, f64::INFINITY);
    }
    let mut state = (0.0, velocity, acceleration);
    let mut spent_s = 0.0;
    let after =
        |(x, v, a): (f64, f64, f64), j: f64, t: f64| (x + (v + (a / 2.0 + j * t / 6.0) * t) * t, v + (a + j * t / 2.0) * t, a + j * t);
    let rest =
        |(x, v, a): (f64, f64, f64)| limits.stop_from(&Motion { position: x, velocity: v, acceleration: a, ..Motion::resting_at(0.0) });
    // Velocity is least where acceleration comes to 0.
    let mut least_velocity = if acceleration < 0.0 { velocity - acceleration * acceleration / (2.0 * jerk) } else { velocity };
    for (j, length_s) in phases {
        let length_s = if length_s.is_finite() { length_s } else { (2.0 * way.abs() + 20.0) / most };
        let end = after(state, j, length_s);
        if rest(end) < way {
            least_velocity = f64::min(least_velocity, end.1);
            state = end;
            spent_s += length_s;
            continue;
        }
        let (mut low, mut high) = (0.0, length_s);
        for _ in 0..60 {
            let middle = f64::midpoint(low, high);
            if rest(after(state, j, middle)) < way { low = middle } else { high = middle }
        }
        state = after(state, j, high);
        spent_s += high;
        break;
    }
    // It reverses if it sets out backwards, and if it cannot but pass the target.
    let backwards = velocity < 0.0;
    let ends_backwards = state.1 + state.2 * state.2.abs() / (2.0 * jerk) < 0.0;
    let turns = match (backwards, ends_backwards) {
        (false, true) => 1,
        (true, true) => 0,
        (true, false) => 1,
        // Forwards all the way, or backwards in between.
        (false, false) => 2 * u32::from(least_velocity < 0.0),
    };
    (spent_s + brake_s(state.1, state.2), turns)
}

/// How long velocity takes in continuous time to gain `gain`, which acceleration alone would not bring.
pub(crate) fn fastest_gain(limits: &MotionLimits, gain: f64, acceleration: f64) -> f64 {
    let peak = (limits.jerk * gain + acceleration * acceleration / 2.0).max(0.0).sqrt();
    let most = peak.min(limits.acceleration);
    let hold_s = (peak * peak - most * most) / (limits.jerk * limits.acceleration);
    (2.0 * most - acceleration) / limits.jerk + hold_s
}
