//! How much is sent of images: as they are, or as JPEGs of a quality for which the link has time. A chunk of actions lasts for a while;
//! what sends the next question is to take no more than a share of that, or the arm waits for the network.

use std::collections::VecDeque;
use std::time::Duration;

use crate::link::Legs;

/// The qualities of JPEGs, best first, and about how much of the best one's bytes each has, until that is known.
const STEPS: [(u8, f64); 5] = [(90, 1.0), (75, 0.6), (60, 0.45), (45, 0.36), (30, 0.27)];
/// About how many times the best JPEG's bytes an image has as it is, until that is known.
const RAW: f64 = 10.0;
/// The share of a chunk's time that sending may take, and the share of that which the next better step has to fit into.
const SHARE: f64 = 1.0 / 3.0;
const ROOM: f64 = 0.7;
/// So many answers are heard at a step before a better one is tried.
const PATIENCE: u32 = 5;
/// What the link gives is the median of so many answers.
const REMEMBERED: usize = 5;
/// Faster is not measured, milliseconds.
const SHORTEST_MS: f64 = 0.05;

/// Chooses a step by what answers took.
#[derive(Clone, Debug)]
pub(crate) struct Pace {
    steps: Vec<Step>,
    at: usize,
    /// How long sending may take, and how long the link takes with a single byte, milliseconds.
    budget_ms: f64,
    way_ms: f64,
    /// The shortest that an answer took of a server that does not say how long it thinks.
    least_ms: f64,
    /// Bytes a millisecond, the newest last.
    rates: VecDeque<f64>,
    heard: u32,
    lowest: usize,
}

/// How images are sent, and the newest size of a request that was sent so.
#[derive(Clone, Copy, Debug)]
struct Step {
    /// `None`: as they are, or as the key map says.
    most: Option<u8>,
    /// About, against the others.
    share: f64,
    bytes: Option<f64>,
}

impl Pace {
    /// For chunks that last for `chunk`, over a link whose connection took `way` to be made. `as_it_is` is the best quality of JPEGs
    /// that are sent where nothing presses, or nothing where images are sent as they are.
    pub fn new(as_it_is: Option<u8>, chunk: Duration, way: Duration) -> Self {
        let worse = STEPS.iter().filter(|(quality, _)| as_it_is.is_none_or(|most| *quality < most));
        let worse = worse.map(|(quality, share)| Step { most: Some(*quality), share: *share, bytes: None });
        let first = Step { most: None, share: if as_it_is.is_none() { RAW } else { 1.0 }, bytes: None };
        Self {
            steps: std::iter::once(first).chain(worse).collect(),
            at: 0,
            budget_ms: chunk.as_secs_f64() * 1e3 * SHARE,
            way_ms: way.as_secs_f64() * 1e3,
            least_ms: f64::INFINITY,
            rates: VecDeque::new(),
            heard: 0,
            lowest: 0,
        }
    }

    /// The best quality that JPEGs may have now; `None` where images are sent as they are.
    pub fn most(&self) -> Option<u8> {
        self.steps.get(self.at)?.most
    }

    /// The worst that there was.
    pub fn lowest(&self) -> Option<u8> {
        self.steps.get(self.lowest)?.most
    }

    /// What the link gives, bytes a second, where that is known.
    pub fn bytes_s(&self) -> Option<f64> {
        Some(self.rate()? * 1e3)
    }

    fn rate(&self) -> Option<f64> {
        let mut sorted: Vec<f64> = self.rates.iter().copied().collect();
        sorted.sort_by(f64::total_cmp);
        sorted.get(sorted.len() / 2).copied()
    }

    /// An answer came to a request of so many bytes.
    pub fn hear(&mut self, bytes: usize, legs: &Legs) {
        let took = legs.send + legs.wait;
        self.least_ms = self.least_ms.min(took);
        // A server that says nothing of itself is taken to think for as long as its quickest answer took, which has the way in it.
        let others = legs.server.map_or(self.least_ms, |server| server + self.way_ms);
        self.learn(bytes, (took - others).max(SHORTEST_MS));
        self.heard += 1;
        while self.at + 1 < self.steps.len() && self.expected_ms(self.at).is_some_and(|ms| ms > self.budget_ms) {
            self.go(self.at + 1);
        }
        let better = self.at.checked_sub(1).filter(|_| self.heard >= PATIENCE);
        if let Some(better) = better.filter(|better| self.expected_ms(*better).is_some_and(|ms| ms < self.budget_ms * ROOM)) {
            self.go(better);
        }
    }

    /// No answer came within `within`.
    pub fn miss(&mut self, within: Duration) {
        if let Some(bytes) = self.steps.get(self.at).and_then(|step| step.bytes) {
            self.learn(bytes as usize, within.as_secs_f64() * 1e3);
        }
        if self.at + 1 < self.steps.len() {
            self.go(self.at + 1);
        }
    }

    fn learn(&mut self, bytes: usize, ms: f64) {
        if let Some(step) = self.steps.get_mut(self.at) {
            step.bytes = Some(bytes as f64);
        }
        self.rates.push_back(bytes as f64 / ms);
        if self.rates.len() > REMEMBERED {
            self.rates.pop_front();
        }
    }

    fn go(&mut self, to: usize) {
        (self.at, self.heard) = (to, 0);
        self.lowest = self.lowest.max(to);
    }

    /// How long sending is expected to take at a step: by its own bytes, else by those of the nearest step that has some.
    fn expected_ms(&self, at: usize) -> Option<f64> {
        let step = self.steps.get(at)?;
        let known = |distance: usize| {
            let of = |i: usize| self.steps.get(i).and_then(|step| Some((step.bytes?, step.share)));
            of(at + distance).or_else(|| of(at.checked_sub(distance)?))
        };
        let (bytes, share) = (0..self.steps.len()).find_map(known)?;
        Some(bytes * step.share / share / self.rate()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHUNK: Duration = Duration::from_millis(500);

    /// A link of so many bytes a second and a server that thinks for 20 ms, with images whose raw bytes are `raw`.
    fn legs(bytes: usize, bytes_s: f64, way_ms: f64, says: bool) -> Legs {
        let sending = bytes as f64 / bytes_s * 1e3;
        Legs { prepare: 1.0, send: sending / 4.0, wait: sending * 3.0 / 4.0 + 20.0 + way_ms, server: says.then_some(20.0), read: 0.1 }
    }

    fn bytes_at(most: Option<u8>) -> usize {
        match most {
            None => 1_800_000,
            Some(90) => 250_000,
            Some(75) => 150_000,
            Some(60) => 110_000,
            Some(45) => 90_000,
            Some(_) => 70_000,
        }
    }

    fn run(pace: &mut Pace, answers: usize, bytes_s: f64, way_ms: f64) -> Vec<Option<u8>> {
        let mut seen = Vec::new();
        for _ in 0..answers {
            let bytes = bytes_at(pace.most());
            pace.hear(bytes, &legs(bytes, bytes_s, way_ms, true));
            seen.push(pace.most());
        }
        seen
    }

    #[test]
    fn a_fast_link_sends_images_as_they_are_and_a_slow_one_what_fits() {
        let mut pace = Pace::new(None, CHUNK, Duration::ZERO);
        assert!(run(&mut pace, 50, 500e6, 0.0).iter().all(Option::is_none));
        for (bytes_s, expected) in [(20e6, None), (2e6, Some(90)), (1.2e6, Some(75)), (0.6e6, Some(45)), (0.1e6, Some(30))] {
            let mut pace = Pace::new(None, CHUNK, Duration::ZERO);
            let seen = run(&mut pace, 30, bytes_s, 0.0);
            assert_eq!(seen.last(), Some(&expected), "{bytes_s}: {seen:?}");
            let took = bytes_at(pace.most()) as f64 / bytes_s;
            assert!(took <= CHUNK.as_secs_f64() * SHARE + 1e-9 || pace.most() == Some(30), "{took}");
            assert!((pace.bytes_s().unwrap() / bytes_s - 1.0).abs() < 0.01);
        }
    }

    #[test]
    fn it_does_not_swing() {
        // Just too slow for the better step, and with answers that scatter.
        for bytes_s in [0.62e6, 0.9e6, 1.5e6, 1.6e6] {
            let mut pace = Pace::new(None, CHUNK, Duration::ZERO);
            let mut seen = Vec::new();
            for i in 0..200_u32 {
                let scatter = 1.0 + 0.15 * (f64::from(i) * 1.7).sin();
                let bytes = bytes_at(pace.most());
                pace.hear(bytes, &legs(bytes, bytes_s * scatter, 0.0, true));
                seen.push(pace.most());
            }
            let changes = seen.windows(2).skip(20).filter(|pair| pair[0] != pair[1]).count();
            assert!(changes <= 2, "{bytes_s}: {changes} changes, {seen:?}");
        }
    }

    #[test]
    fn a_link_that_gets_slower_and_faster_is_followed() {
        let mut pace = Pace::new(None, CHUNK, Duration::ZERO);
        run(&mut pace, 10, 100e6, 0.0);
        assert_eq!(pace.most(), None);
        let slow = run(&mut pace, 5, 0.5e6, 0.0);
        assert!(slow[2].is_some(), "within three answers: {slow:?}");
        run(&mut pace, 20, 0.5e6, 0.0);
        assert!(matches!(pace.most(), Some(30 | 45)));
        let fast = run(&mut pace, 60, 100e6, 0.0);
        assert_eq!((pace.most(), fast.len()), (None, 60));
        assert!(matches!(pace.lowest(), Some(30 | 45)));
    }

    #[test]
    fn neither_a_long_way_nor_a_slow_server_makes_images_worse() {
        let mut pace = Pace::new(None, CHUNK, Duration::from_millis(300));
        assert!(run(&mut pace, 30, 100e6, 300.0).iter().all(Option::is_none));
        // One that does not say how long it thinks.
        let mut pace = Pace::new(Some(90), CHUNK, Duration::ZERO);
        for thinks in [400.0, 410.0, 395.0, 420.0].into_iter().cycle().take(30) {
            pace.hear(60_000, &Legs { wait: thinks, ..Legs::default() });
            assert_eq!(pace.most(), None, "{pace:?}");
        }
    }

    #[test]
    fn what_comes_too_late_makes_images_worse_at_once_and_the_key_maps_quality_is_the_best() {
        let mut pace = Pace::new(Some(70), CHUNK, Duration::ZERO);
        let mut seen = vec![pace.most()];
        for _ in 0..5 {
            pace.miss(CHUNK);
            seen.push(pace.most());
        }
        assert_eq!(seen, [None, Some(60), Some(45), Some(30), Some(30), Some(30)]);
        assert_eq!(pace.lowest(), Some(30));
    }
}
