//! A stream of goals that means ill, and a watch over what is made of it.

/// What a channel may do, in its own unit and seconds. An infinite limit is none.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bounds {
    pub lower: f64,
    pub upper: f64,
    pub velocity: f64,
    pub acceleration: f64,
    pub jerk: f64,
}

/// Goals that are no numbers, far outside, at the limits, jumping, chattering or calm: each channel has another manner for a
/// while. The same for the same seed.
#[derive(Clone, Debug)]
pub struct Adversary {
    seed: u64,
    ranges: Vec<[f64; 2]>,
    manners: Vec<(u32, u32)>,
}

impl Adversary {
    /// Over such ranges, a channel each.
    pub fn new(seed: u64, ranges: Vec<[f64; 2]>) -> Self {
        Self { seed, manners: vec![(0, 0); ranges.len()], ranges }
    }

    /// In 0..1.
    pub fn random(&mut self) -> f64 {
        self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.seed >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Puts the goals of the next tick into `goals`, a channel each.
    pub fn next(&mut self, goals: &mut [f64]) {
        for i in 0..self.ranges.len().min(goals.len()) {
            let [lower, upper] = self.ranges[i];
            let (mut manner, mut left) = self.manners[i];
            if left == 0 {
                manner = (self.random() * 10.0) as u32;
                left = 1 + (self.random() * 40.0) as u32;
            }
            self.manners[i] = (manner, left - 1);
            let (middle, half) = ((lower + upper) / 2.0, (upper - lower) / 2.0);
            let anywhere = lower + (upper - lower) * self.random();
            goals[i] = match manner {
                0 => f64::NAN,
                1 => [f64::INFINITY, f64::NEG_INFINITY][left as usize % 2],
                2 => [f64::MAX, -1e300, 1e18][left as usize % 3],
                3 => lower,
                4 => upper,
                5 => [lower, upper][left as usize % 2],
                6 => middle + half * (4.0 * self.random() - 2.0),
                7 => anywhere,
                8 => middle + half * 0.5 * (f64::from(left) / 10.0).sin(),
                // Stays about where it was.
                _ if goals[i].is_finite() => goals[i].clamp(lower, upper) + half * 1e-3 * (self.random() - 0.5),
                _ => middle,
            };
        }
    }
}

/// Sees what is sent to a channel, and says what of its bounds it breaks.
#[derive(Clone, Copy, Debug)]
pub struct Watch {
    bounds: Bounds,
    last: f64,
    velocity: f64,
    acceleration: f64,
    /// How far it has been.
    pub reach: [f64; 2],
}

impl Watch {
    /// The channel rests at `start`.
    pub fn new(bounds: Bounds, start: f64) -> Self {
        Self { bounds, last: start, velocity: 0.0, acceleration: 0.0, reach: [start, start] }
    }

    /// `goal` is sent, `dt_s` after the last one.
    ///
    /// # Errors
    /// What it breaks, in words.
    pub fn see(&mut self, goal: f64, dt_s: f64) -> Result<(), String> {
        let Bounds { lower, upper, .. } = self.bounds;
        let velocity = (goal - self.last) / dt_s;
        let acceleration = (velocity - self.velocity) / dt_s;
        let jerk = (acceleration - self.acceleration) / dt_s;
        let from = self.last;
        (self.last, self.velocity, self.acceleration) = (goal, velocity, acceleration);
        self.reach = [self.reach[0].min(goal), self.reach[1].max(goal)];
        if !goal.is_finite() || goal < lower - 1e-9 || goal > upper + 1e-9 {
            return Err(format!("{goal}, expected {lower} to {upper}"));
        }
        // Beside the limits, what rounding makes of differences.
        let rounding = 1e-12 * (1.0 + goal.abs());
        for (what, found, most, times) in [
            ("velocity", velocity, self.bounds.velocity, 1),
            ("acceleration", acceleration, self.bounds.acceleration, 2),
            ("jerk", jerk, self.bounds.jerk, 3),
        ] {
            if found.abs() > most * (1.0 + 1e-6) + rounding / dt_s.powi(times) {
                return Err(format!("{what} {found} from {from} to {goal} in {dt_s} s, expected at most {most}"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watch_sees_each_bound_broken() {
        let bounds = Bounds { lower: -1.0, upper: 1.0, velocity: 1.0, acceleration: 10.0, jerk: 1000.0 };
        let see = |goals: &[f64]| {
            let mut watch = Watch::new(bounds, 0.0);
            goals.iter().map(|goal| watch.see(*goal, 0.1)).find_map(Result::err).unwrap_or_default()
        };
        assert_eq!(see(&[0.05, 0.1, 0.15]), "");
        for (goals, word) in
            [(&[f64::NAN][..], "NaN"), (&[1.1], "expected -1 to 1"), (&[0.09, 0.2], "velocity"), (&[0.09, 0.09, -0.09], "velocity")]
        {
            assert!(see(goals).contains(word), "{goals:?}: {}", see(goals));
        }
        assert!(see(&[0.09, 0.0]).contains("acceleration"));
        let mut watch = Watch::new(Bounds { jerk: 10.0, ..bounds }, 0.0);
        assert!(watch.see(0.05, 0.1).unwrap_err().contains("jerk"));
    }

    #[test]
    fn an_adversary_tries_everything_and_the_same_again() {
        let stream = |seed| {
            let mut adversary = Adversary::new(seed, vec![[-1.0, 2.0]; 4]);
            let mut goals = [0.0; 4];
            (0..1000).flat_map(|_| (adversary.next(&mut goals), goals).1).collect::<Vec<f64>>()
        };
        let found = stream(1);
        let count = |what: fn(&f64) -> bool| found.iter().filter(|goal| what(goal)).count();
        assert!(count(|goal| goal.is_nan()) > 50 && count(|goal| goal.is_infinite()) > 50 && count(|goal| goal.abs() > 1e10) > 150);
        assert!(count(|goal| *goal == 2.0) > 50 && count(|goal| (-1.0..2.0).contains(goal)) > 500);
        assert_eq!(
            found.iter().map(|goal| goal.to_bits()).collect::<Vec<_>>(),
            stream(1).iter().map(|goal| goal.to_bits()).collect::<Vec<_>>()
        );
        assert_ne!(
            found.iter().map(|goal| goal.to_bits()).collect::<Vec<_>>(),
            stream(2).iter().map(|goal| goal.to_bits()).collect::<Vec<_>>()
        );
    }
}
