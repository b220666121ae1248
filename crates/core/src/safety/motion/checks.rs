//! What any law of motion must hold, over streams at random: shared by the tests and the soak.

use super::{Motion, MotionLimits};
use optimum::{fastest_gain, fastest_way};

mod optimum;

/// Figures of some episodes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Figures {
    pub(crate) ticks: u64,
    pub(crate) episodes: u64,
    /// Targets that stood still until they were reached.
    pub(crate) stands: u64,
    /// Those with one reversal of the direction, with two (which no law can avoid in such a state).
    pub(crate) reversals: [u64; 3],
    /// The longest way to a standing target beyond 4 ticks, as a share of the continuous optimum.
    pub(crate) arrival_ratio: f64,
    /// The most ticks beyond the continuous optimum where that is shorter than 10 ticks.
    pub(crate) arrival_ticks: f64,
    pub(crate) noise_gain: f64,
    /// Streams of noise without and with missed ticks, and how many of them come out more than 3 times as large.
    pub(crate) noises: [[u64; 2]; 2],
    /// The longest that a ramp took to be caught up with, beyond 8 ticks, as a share of the optimum.
    pub(crate) ramp_ratio: f64,
    /// The longest way to a standing velocity beyond 4 ticks, as a share of the optimum.
    pub(crate) velocity_ratio: f64,
    pub(crate) violations: u64,
    pub(crate) by_name: std::collections::BTreeMap<&'static str, (u64, String)>,
}

impl Figures {
    fn expect(&mut self, holds: bool, name: &'static str, words: impl FnOnce() -> String) {
        if !holds {
            self.violations += 1;
            let entry = self.by_name.entry(name).or_insert_with(|| (0, words()));
            entry.0 += 1;
        }
    }
}

/// Xorshift64*.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn from_seed(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub(crate) fn within(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    fn below(&mut self, count: u64) -> u64 {
        (self.next() >> 11) % count
    }
}

pub(crate) const RATES_HZ: [f64; 8] = [30.0, 50.0, 60.0, 90.0, 120.0, 200.0, 500.0, 1000.0];
pub(crate) const SO101: MotionLimits = MotionLimits { lower: -1.7, upper: 1.7, velocity: 3.0, acceleration: 180.0, jerk: 10_800.0 };
pub(crate) const GENTLE: MotionLimits = MotionLimits { acceleration: 15.0, jerk: 150.0, ..SO101 };

fn any_limits(random: &mut Random) -> MotionLimits {
    let velocity = random.within(0.2, 8.0);
    let acceleration = velocity / random.within(0.02, 0.5);
    let jerk = acceleration / random.within(0.005, 0.3);
    let limits = MotionLimits { lower: random.within(-2.0, -0.1), upper: random.within(0.1, 2.0), velocity, acceleration, jerk };
    match random.below(6) {
        0 => SO101,
        1 => GENTLE,
        _ => limits,
    }
}

/// The lengths of ticks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    dt_s: f64,
    jitter: f64,
    missed: bool,
}

impl Clock {
    pub(crate) fn even(rate_hz: f64) -> Self {
        Self { dt_s: 1.0 / rate_hz, jitter: 0.0, missed: false }
    }

    fn any(random: &mut Random, rate_hz: f64) -> Self {
        let (jitter, missed) = [(0.0, false), (0.3, false), (0.05, true), (0.3, true)][random.below(4) as usize];
        Self { dt_s: 1.0 / rate_hz, jitter, missed }
    }

    fn tick(&self, random: &mut Random) -> f64 {
        let times = if self.missed && random.below(30) == 0 { 2 + random.below(4) } else { 1 };
        self.dt_s * times as f64 * (1.0 + self.jitter * random.within(-1.0, 1.0))
    }
}

/// A stream through the law, each tick checked against every limit.
struct Stream<'a> {
    limits: &'a MotionLimits,
    last: Motion,
    /// The length of the tick before, and the acceleration in it as its positions have it.
    before: (f64, f64),
    /// What asks for what was granted, if that is checked.
    again: Option<Motion>,
}

impl<'a> Stream<'a> {
    /// One whose first tick had the usual length.
    fn resting_at(limits: &'a MotionLimits, clock: Clock, position: f64, replays: bool) -> Self {
        let last = Motion { shortest_s: clock.dt_s, ..Motion::resting_at(position) };
        Self { limits, last, before: (1.0, 0.0), again: replays.then_some(last) }
    }

    fn step(&mut self, target: f64, dt_s: f64, figures: &mut Figures) -> bool {
        let (limits, last) = (self.limits, self.last);
        let (now, held_by) = limits.towards(&last, target, dt_s);
        let velocity = (now.position - last.position) / dt_s;
        let acceleration = (velocity - last.velocity) / dt_s;
        let jerk = (acceleration - self.before.1) / dt_s;
        let shortest = dt_s.min(self.before.0);
        let bound = limits.lower.abs().max(limits.upper.abs());
        let within =
            |value: f64, limit: f64, order: i32| value.abs() <= limit * (1.0 + 1e-9) + 32.0 * f64::EPSILON * bound / shortest.powi(order);
        let words = |what: &str| format!("{what}: {limits:?}, {last:?} to {now:?} in {dt_s}, after {:?}", self.before);
        figures.expect(now.position >= limits.lower && now.position <= limits.upper, "position", || words("position"));
        figures.expect(within(velocity, limits.velocity, 1), "velocity", || words(&format!("{velocity}")));
        figures.expect(within(acceleration, limits.acceleration, 2), "acceleration", || words(&format!("{acceleration}")));
        figures.expect(within(jerk, limits.jerk, 3), "jerk", || words(&format!("{jerk}")));
        figures.expect(held_by.is_some() == (now.position != target), "held by", || words(&format!("{held_by:?}")));
        if let Some(again) = &mut self.again {
            let asked = *again;
            *again = limits.towards(&asked, now.position, dt_s).0;
            let same = again.position == now.position && again.velocity == now.velocity;
            figures.expect(same, "granted again", || format!("{limits:?}, {last:?} to {now:?} in {dt_s}, but {asked:?} to {again:?}"));
        }
        if self.again.is_some_and(|again| again.position != now.position) {
            self.again = None;
        }
        figures.ticks += 1;
        self.before = (dt_s, acceleration);
        self.last = now;
        now.position == target
    }
}

/// Lets `target` stand until it is reached and checks how.
fn stands(stream: &mut Stream, target: f64, clock: Clock, random: &mut Random, figures: &mut Figures) {
    let limits = stream.limits;
    // From when it has stood for a tick: before, nothing tells that it stands.
    for _ in 0..2 {
        stream.step(target, clock.tick(random), figures);
    }
    let start = stream.last;
    let (optimum_s, turns) = fastest_way(limits, &start, target, limits.velocity, -limits.velocity);
    let mut elapsed_s = 0.0;
    let mut lengths_s = [0.0; 4];
    let mut reversals = 0;
    let mut direction = start.velocity;
    let mut arrived = None;
    let mut settled = 0;
    let enough = (3.0 * optimum_s / clock.dt_s) as u64 + 400;
    let mut ticks = 0;
    while settled < 4 {
        let dt_s = clock.tick(random);
        let here = stream.step(target, dt_s, figures);
        let velocity = stream.last.velocity;
        if velocity.abs() * dt_s >= 1e-9 {
            reversals += u64::from(velocity * direction < 0.0);
            direction = velocity;
        }
        elapsed_s += dt_s;
        // The four longest, first the shortest of them.
        if dt_s > lengths_s[0] {
            lengths_s[0] = dt_s;
            lengths_s.sort_by(f64::total_cmp);
        }
        ticks += 1;
        let longest_s: f64 = lengths_s.iter().sum();
        if !here {
            arrived = None;
        } else if arrived.is_none() {
            arrived = Some((elapsed_s - longest_s, ticks));
        }
        settled = if here && velocity == 0.0 && stream.last.acceleration == 0.0 { settled + 1 } else { 0 };
        if ticks > enough {
            break;
        }
    }
    let words = |what: String| format!("{what}: {limits:?}, {clock:?}, {start:?} to {target}, optimum {optimum_s} s, {turns} reversals");
    figures.stands += 1;
    figures.expect(settled == 4, "arrives", || words(format!("{:?} after {ticks} ticks", stream.last)));
    let allowed = u64::from(turns.max(1));
    figures.expect(reversals <= allowed, "reversals", || words(format!("{reversals} reversals")));
    figures.reversals[reversals.min(2) as usize] += 1;
    if let Some((elapsed_s, ticks)) = arrived {
        figures.expect(elapsed_s <= 1.5 * optimum_s + 1e-9, "arrival", || words(format!("{elapsed_s} s + 4 ticks, {ticks} ticks")));
        if optimum_s > 1e-9 {
            figures.arrival_ratio = figures.arrival_ratio.max(elapsed_s / optimum_s);
        }
        if optimum_s < 10.0 * clock.dt_s {
            figures.arrival_ticks = figures.arrival_ticks.max((elapsed_s - optimum_s) / clock.dt_s + 4.0);
        }
    }
}

/// Targets at random: steps, noise, ramps, corners.
fn wanders(stream: &mut Stream, clock: Clock, random: &mut Random, figures: &mut Figures) {
    let limits = stream.limits;
    let mut target = stream.last.target;
    for _ in 0..1 + random.below(6) {
        let size = 10f64.powf(random.within(-3.0, 0.5));
        let kind = random.below(4);
        let speed = random.within(-1.2, 1.2) * limits.velocity;
        let middle = target;
        for tick in 0..random.below(40) {
            let dt_s = clock.tick(random);
            target = match kind {
                0 if tick == 0 => target + random.within(-size, size),
                1 => middle + random.within(-size, size),
                2 => target + speed * dt_s,
                3 if tick == 0 => random.within(-9.0, 9.0),
                _ => target,
            };
            target = target.clamp(limits.lower, limits.upper);
            stream.step(target, dt_s, figures);
        }
    }
}

fn noise(limits: &MotionLimits, clock: Clock, random: &mut Random, figures: &mut Figures) {
    const SIZE: f64 = 0.003;
    let limits = &MotionLimits { lower: limits.lower - 1.0, upper: limits.upper + 1.0, ..*limits };
    let mut stream = Stream::resting_at(limits, clock, random.within(-0.1, 0.1), random.below(2) == 0);
    let middle = stream.last.position;
    let (mut input, mut output) = ([f64::MAX, f64::MIN], [f64::MAX, f64::MIN]);
    let mut elapsed_s = 0.0;
    while elapsed_s < 10.0 {
        let dt_s = clock.tick(random);
        elapsed_s += dt_s;
        let target = middle + random.within(-SIZE, SIZE);
        stream.step(target, dt_s, figures);
        input = [input[0].min(target), input[1].max(target)];
        output = [output[0].min(stream.last.position), output[1].max(stream.last.position)];
    }
    let gain = (output[1] - output[0]) / (input[1] - input[0]);
    figures.expect(gain <= 3.0, "noise", || format!("gain {gain}: {limits:?}, {clock:?}"));
    let count = &mut figures.noises[usize::from(clock.missed)];
    count[0] += 1;
    count[1] += u64::from(gain > 3.0);
    figures.noise_gain = figures.noise_gain.max(gain);
    stands(&mut stream, middle, clock, random, figures);
}

/// A stream whose own derivatives stay within half of the limits and that could stop before the
/// position limits passes to the last bit.
fn slow_stream(limits: &MotionLimits, clock: Clock, random: &mut Random, figures: &mut Figures) {
    let start = random.within(limits.lower, limits.upper);
    let mut stream = Stream::resting_at(limits, clock, start, false);
    let half =
        MotionLimits { velocity: limits.velocity / 2.0, acceleration: limits.acceleration / 2.0, jerk: limits.jerk / 2.0, ..*limits };
    // A motion that wanders within half of the limits, made by its own jerks, not by the law.
    let mut own = Motion::resting_at(start);
    let mut ticks = 0;
    let mut jerk = 0.0;
    for _ in 0..300 {
        let dt_s = clock.tick(random);
        if ticks == 0 {
            ticks = 1 + random.below(30);
            jerk = random.within(-1.0, 1.0) * half.jerk;
        }
        ticks -= 1;
        let next = |acceleration: f64| {
            let acceleration = acceleration.clamp(-half.acceleration, half.acceleration);
            let velocity = own.velocity + acceleration * dt_s;
            Motion { position: own.position + velocity * dt_s, velocity, acceleration, ..Motion::resting_at(0.0) }
        };
        let legal = |motion: &Motion| {
            let rest = half.stop_from(motion);
            let peak = motion.velocity + motion.acceleration * motion.acceleration.abs() / (2.0 * half.jerk);
            rest <= limits.upper && rest >= limits.lower && peak.abs() <= half.velocity && motion.velocity.abs() <= half.velocity
        };
        let tries = [jerk, -half.jerk * own.acceleration.signum(), half.jerk, -half.jerk];
        let mut tries = tries.iter().map(|jerk| next(own.acceleration + jerk * dt_s));
        let Some(motion) = tries.find(|motion| legal(motion)) else { return };
        own = motion;
        let passed = stream.step(own.position, dt_s, figures);
        figures.expect(passed, "slow stream", || format!("{limits:?}, {clock:?}, {own:?}, {:?}", stream.last));
        if !passed {
            return;
        }
    }
}

fn ramp(limits: &MotionLimits, clock: Clock, random: &mut Random, figures: &mut Figures) {
    let limits = &MotionLimits { lower: -1e3, upper: 1e3, ..*limits };
    let mut stream = Stream::resting_at(limits, clock, random.within(-1.0, 1.0), random.below(2) == 0);
    if random.below(2) == 0 {
        wanders(&mut stream, clock, random, figures);
    }
    let speed = random.within(-0.9, 0.9) * limits.velocity;
    let mut target = stream.last.target + if random.below(2) == 0 { 0.0 } else { random.within(-0.5, 0.5) };
    // From when it has moved steadily for four ticks.
    for _ in 0..4 {
        let dt_s = clock.tick(random);
        target += speed * dt_s;
        stream.step(target, dt_s, figures);
    }
    let start = target;
    let Motion { position, velocity, acceleration, .. } = stream.last;
    let seen = Motion { position: position - start, velocity: velocity - speed, acceleration, ..Motion::resting_at(0.0) };
    let (optimum_s, _) = fastest_way(limits, &seen, 0.0, limits.velocity - speed, -limits.velocity - speed);
    let mut elapsed_s = 0.0;
    let mut on_it = 0;
    let mut lengths_s = [0.0; 8];
    let (mut first_s, mut left) = (0.0, 0);
    while on_it < 20 && elapsed_s < 10.0 * optimum_s + 200.0 * clock.dt_s {
        let dt_s = clock.tick(random);
        elapsed_s += dt_s;
        target = start + speed * elapsed_s;
        lengths_s.rotate_left(1);
        lengths_s[7] = dt_s;
        if stream.step(target, dt_s, figures) {
            if on_it == 0 {
                first_s = elapsed_s - lengths_s.iter().sum::<f64>();
            }
            on_it += 1;
        } else {
            left += u32::from(on_it > 2);
            on_it = 0;
        }
    }
    let words = || format!("{limits:?}, {clock:?}, {speed}, optimum {optimum_s}, first {first_s}, {seen:?}, {:?}", stream.last);
    figures.expect(on_it == 20, "ramp", words);
    figures.expect(left == 0, "ramp left", words);
    let ratio = first_s / optimum_s.max(1e-9);
    figures.expect(ratio <= 2.0, "ramp late", words);
    figures.ramp_ratio = figures.ramp_ratio.max(ratio);
    target = target.clamp(limits.lower, limits.upper);
    stands(&mut stream, target, clock, random, figures);
}

/// Waypoints at 30 Hz with straight lines between them.
fn corners(limits: &MotionLimits, clock: Clock, random: &mut Random, figures: &mut Figures) {
    let start = random.within(limits.lower, limits.upper);
    let mut stream = Stream::resting_at(limits, clock, start, true);
    let (mut from, mut to, mut speed, mut elapsed_s) = (start, start, 0.0, 0.0);
    let wild = random.within(0.05, 1.5);
    let mut target = start;
    for _ in 0..200 {
        let dt_s = clock.tick(random);
        elapsed_s += dt_s * 30.0;
        while elapsed_s >= 1.0 {
            elapsed_s -= 1.0;
            speed = (speed + random.within(-1.0, 1.0) * wild * limits.velocity).clamp(-limits.velocity, limits.velocity);
            from = to;
            to = (to + speed / 30.0).clamp(limits.lower, limits.upper);
        }
        target = (from + (to - from) * elapsed_s).clamp(limits.lower, limits.upper);
        stream.step(target, dt_s, figures);
    }
    stands(&mut stream, target, clock, random, figures);
}

/// Stalls of up to a second: every limit holds. Ticks of any length: those of position and velocity do.
fn stalls(limits: &MotionLimits, clock: Clock, random: &mut Random, figures: &mut Figures) {
    let start = random.within(limits.lower, limits.upper);
    let mut stream = Stream::resting_at(limits, clock, start, false);
    let mut last = Motion::resting_at(start);
    let mut target = start;
    for _ in 0..200 {
        if random.below(5) == 0 {
            target = [random.within(limits.lower, limits.upper), limits.lower, limits.upper][random.below(3) as usize];
        }
        let any_s = 10f64.powf(random.within(-3.5, 0.0));
        let dt_s = clock.tick(random);
        stream.step(target, if random.below(8) == 0 { dt_s.max(any_s) } else { dt_s }, figures);
        let (now, _) = limits.towards(&last, target, any_s);
        let legal = now.position >= limits.lower && now.position <= limits.upper && now.velocity.abs() <= limits.velocity * (1.0 + 1e-9);
        figures.expect(legal, "any ticks", || format!("{limits:?}, {last:?} to {now:?} in {any_s}"));
        last = now;
        figures.ticks += 1;
    }
}

/// A channel that is led by its velocity: every limit, and the way to each velocity that is wanted.
fn velocities(limits: &MotionLimits, clock: Clock, random: &mut Random, figures: &mut Figures) {
    let mut last = Motion::resting_at(0.0);
    let mut wanted = 0.0;
    for _ in 0..10 {
        let size = 10f64.powf(random.within(-4.0, 0.3));
        wanted = (wanted + random.within(-size, size) * limits.velocity).clamp(-limits.velocity, limits.velocity);
        let ahead = last.velocity + last.acceleration * last.acceleration.abs() / (2.0 * limits.jerk);
        let sign = if ahead <= wanted { 1.0 } else { -1.0 };
        let optimum_s = fastest_gain(limits, sign * (wanted - last.velocity), sign * last.acceleration);
        // Passing it is no fault only where acceleration would lead past it anyway.
        let passes = (wanted - last.velocity) * (wanted - ahead) < 0.0;
        let start = last;
        let whole = random.below(3) > 0;
        let (mut elapsed_s, mut longest_s, mut turns, mut ticks, mut side) = (0.0, 0.0f64, 0, 0, wanted - last.velocity);
        while ticks < if whole { 100_000 } else { 10 } && (last.velocity != wanted || last.acceleration != 0.0) {
            let dt_s = clock.tick(random);
            let (now, held_by) = limits.velocity_towards(&last, wanted, dt_s);
            let acceleration = (now.velocity - last.velocity) / dt_s;
            let jerk = (acceleration - last.acceleration) / dt_s;
            let words = || format!("{limits:?}, {last:?} to {now:?} in {dt_s}");
            let within = |value: f64, limit: f64, order: i32| {
                value.abs() <= limit * (1.0 + 1e-9) + 32.0 * f64::EPSILON * limits.velocity / dt_s.powi(order)
            };
            let legal =
                within(now.velocity, limits.velocity, 0) && within(acceleration, limits.acceleration, 1) && within(jerk, limits.jerk, 2);
            figures.expect(legal, "velocity: limits", words);
            figures.expect(held_by.is_some() == (now.velocity != wanted), "velocity: held by", words);
            turns += u32::from((wanted - now.velocity) * side < 0.0);
            if now.velocity != wanted {
                side = wanted - now.velocity;
                elapsed_s += dt_s;
                longest_s = longest_s.max(dt_s);
            }
            last = now;
            ticks += 1;
            figures.ticks += 1;
        }
        let words = || {
            format!("{limits:?}, {clock:?}, {start:?} to {wanted}, {turns} turns, {elapsed_s} s for {optimum_s}, {ticks} ticks, {last:?}")
        };
        figures.expect(turns <= u32::from(passes), "velocity: passes", words);
        figures.expect(elapsed_s <= 1.5 * optimum_s + 4.0 * longest_s, "velocity: late", words);
        if optimum_s > 1e-9 {
            figures.velocity_ratio = figures.velocity_ratio.max((elapsed_s - 4.0 * longest_s) / optimum_s);
        }
    }
}

/// A step from rest.
pub(crate) fn step(limits: &MotionLimits, clock: Clock, size: f64, random: &mut Random, figures: &mut Figures) {
    let mut stream = Stream::resting_at(limits, clock, 0.0, true);
    stands(&mut stream, size, clock, random, figures);
}

/// What a stream does.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    Noise,
    Slow,
    Ramp,
    Corners,
    Stalls,
    Velocity,
    Stand,
}

/// One stream, of `kind` or any, at `rate_hz` or any, under limits at random.
pub(crate) fn episode(kind: Option<Kind>, rate_hz: Option<f64>, random: &mut Random, figures: &mut Figures) {
    let rate_hz = rate_hz.unwrap_or_else(|| RATES_HZ[random.below(8) as usize]);
    let limits = any_limits(random);
    let clock = Clock::any(random, rate_hz);
    figures.episodes += 1;
    let any = match random.below(42) {
        0 => Kind::Noise,
        1..5 => Kind::Slow,
        5..10 => Kind::Ramp,
        10..14 => Kind::Corners,
        14..16 => Kind::Velocity,
        16..18 => Kind::Stalls,
        _ => Kind::Stand,
    };
    match kind.unwrap_or(any) {
        Kind::Noise => noise(&limits, clock, random, figures),
        Kind::Slow => slow_stream(&limits, clock, random, figures),
        Kind::Ramp => ramp(&limits, clock, random, figures),
        Kind::Corners => corners(&limits, clock, random, figures),
        Kind::Stalls => stalls(&limits, clock, random, figures),
        Kind::Velocity => velocities(&limits, clock, random, figures),
        Kind::Stand => {
            let start = random.within(limits.lower, limits.upper);
            let mut stream = Stream::resting_at(&limits, clock, start, random.below(3) == 0);
            for _ in 0..3 {
                wanders(&mut stream, clock, random, figures);
                let size = 10f64.powf(random.within(-4.0, 0.5));
                let near = stream.last.position + random.within(-size, size);
                let target = [stream.last.target, near, limits.upper, limits.lower, near, near][random.below(6) as usize];
                stands(&mut stream, target.clamp(limits.lower, limits.upper), clock, random, figures);
            }
        }
    }
}
