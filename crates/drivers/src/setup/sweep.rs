//! From what an encoder says while somebody moves a joint to the joint's range: no motor, no clock.
//!
//! Answers get lost, and now and then one is wrong. What is returned is right or refused: a range that is a little too
//! small or a turn off is worse than none.

use std::fmt;
use std::time::Duration;

use sinew_core::Timestamp;

/// Turns a second that no hand exceeds on a geared motor. Anything faster is a wrong answer, or lost ones.
const FASTEST_TURNS: f64 = 1.5;
/// The longest without an answer. In it a hand makes much less than the half turn from which on the way round is not
/// known, and does not rest at an end.
const LONGEST_GAP: Duration = Duration::from_millis(250);
/// How old an answer may be when it is handed over, as those of motors that answered at once are while another one is asked
/// again.
pub(super) const LATEST: Duration = Duration::from_millis(40);
/// So many answers in a row make a place believed: an end where a joint rests for a moment, or one it jumped to.
const BELIEVED: usize = 3;
/// What noise may do beyond what is believed, as a share of a turn.
const NOISE_TURNS: f64 = 8.0 / 4096.0;
/// What a position may be off for rounding and noise when a speed is judged, as a share of a turn.
const SLACK_TURNS: f64 = 24.0 / 4096.0;

/// A joint that is to be moved through its range.
#[derive(Clone, Debug, PartialEq)]
pub struct SweepJoint {
    pub name: String,
    /// Ticks of a turn.
    pub resolution: u16,
    /// Whether what it says begins anew after a turn.
    pub wraps: bool,
    /// The least that it has to be moved, in ticks.
    pub least: i32,
}

/// The range of a joint, in the ticks that it was read in, over turns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Swept {
    pub lower: i32,
    pub upper: i32,
}

/// Why a range is not believed.
#[derive(Clone, Debug, PartialEq)]
pub enum Refusal {
    /// Degrees of the motor.
    TooLittle {
        joint: String,
        moved_deg: f64,
        least_deg: f64,
    },
    BeyondTurn {
        joint: String,
        moved_deg: f64,
    },
    /// It was at a place, and at its next answers at another.
    Jump {
        joint: String,
        by_deg: f64,
    },
    Gap {
        joint: String,
        gap: Duration,
    },
    /// It was seen beyond an end for a moment only, degrees beyond what is believed.
    NotHeld {
        joint: String,
        beyond_deg: f64,
    },
    /// Where it is now can't be in the range.
    Outside {
        joint: String,
        by_deg: f64,
    },
    Silent {
        joint: String,
    },
    /// It was to be held still.
    Moves {
        joint: String,
    },
    /// Two joints did the same all the time.
    Alike {
        joint: String,
        other: String,
    },
    /// Its encoder's zero lies in the range, and the model has no offset to move it, or is a Dynamixel, which forgets
    /// turns.
    Seam {
        joint: String,
        is_dynamixel: bool,
    },
    /// A Dynamixel that counts turns since it was switched on.
    Turned {
        joint: String,
        ticks: i32,
    },
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLittle { joint, moved_deg, least_deg } => {
                write!(f, "{joint} was moved by {moved_deg:.1} degrees, expected its whole range and at least {least_deg:.1}")
            }
            Self::BeyondTurn { joint, moved_deg } => {
                write!(f, "{joint} was moved by {moved_deg:.1} degrees, expected less than a turn of a joint that has ends")
            }
            Self::Jump { joint, by_deg } => {
                write!(f, "{joint} jumped by {by_deg:.1} degrees, faster than a hand moves it: answers were lost, move it more slowly")
            }
            Self::Gap { joint, gap } => write!(
                f,
                "{joint} did not answer for {:.2} s while it may have been moved, expected at most {:.2} s: check its cable",
                gap.as_secs_f64(),
                LONGEST_GAP.as_secs_f64()
            ),
            Self::NotHeld { joint, beyond_deg } => {
                write!(
                    f,
                    "{joint} was {beyond_deg:.1} degrees beyond its end for an instant only: move it to each end and hold it there for a moment"
                )
            }
            Self::Outside { joint, by_deg } => {
                write!(f, "{joint} is {by_deg:.1} degrees outside the range that it was moved through: move it through all of its range")
            }
            Self::Moves { joint } => write!(f, "{joint} moved: expected it to be held still"),
            Self::Silent { joint } => write!(f, "{joint} did not answer often enough: check its cable"),
            Self::Alike { joint, other } => {
                write!(f, "{joint} and {other} moved alike all the time: expected joints that move one by one, are two motors mixed up?")
            }
            Self::Seam { joint, is_dynamixel } => {
                let why = if *is_dynamixel { "reads a turn off when it is switched on beyond it" } else { "knows no offset" };
                write!(f, "{joint} passes its encoder's zero within its range, and its motor {why}: mount its horn otherwise")
            }
            Self::Turned { joint, ticks } => write!(
                f,
                "{joint} is at {ticks} ticks, turns away from where it will be when it is switched on again: \
                 turn it back, or switch its power off and on, then calibrate"
            ),
        }
    }
}

/// What is known of a joint that moves.
#[derive(Clone, Debug)]
struct Track {
    joint: SweepJoint,
    last: Option<(Timestamp, i32)>,
    first: i32,
    /// The newest that were accepted.
    recent: [i32; BELIEVED],
    count: usize,
    /// What was seen once, and what was seen [`BELIEVED`] times in a row.
    seen: Swept,
    believed: Swept,
    /// A place that it can't have come to, when, and how often it was seen there.
    pending: Option<(Timestamp, i32, usize)>,
    fault: Option<Refusal>,
}

/// What joints do while somebody moves them.
#[derive(Clone, Debug)]
pub struct Sweep {
    tracks: Vec<Track>,
    /// When it was told of joints first.
    began: Option<Timestamp>,
    /// For each pair the farthest that their ways since the start were apart.
    apart: Vec<(usize, usize, i32)>,
}

impl SweepJoint {
    fn degrees(&self, ticks: i32) -> f64 {
        f64::from(ticks) * 360.0 / f64::from(self.resolution)
    }

    fn share(&self, turns: f64) -> f64 {
        turns * f64::from(self.resolution)
    }

    /// The way from a place to what was read, the shorter one where what is read begins anew after a turn.
    fn way(&self, from: i32, raw: i32) -> i32 {
        let way = raw.saturating_sub(from);
        if !self.wraps {
            return way;
        }
        let turn = i32::from(self.resolution);
        (way + turn / 2).rem_euclid(turn) - turn / 2
    }

    fn can_move(&self, way: i32, time: Duration) -> bool {
        f64::from(way).abs() <= self.share(SLACK_TURNS + FASTEST_TURNS * (time + LATEST).as_secs_f64())
    }
}

fn since(later: Timestamp, earlier: Timestamp) -> Duration {
    Duration::from_nanos(u64::try_from(later.nanos_since(earlier)).unwrap_or(0))
}

impl Track {
    fn new(joint: SweepJoint) -> Self {
        let none = Swept { lower: i32::MAX, upper: i32::MIN };
        Self { joint, last: None, first: 0, recent: [0; BELIEVED], count: 0, seen: none, believed: none, pending: None, fault: None }
    }

    /// `true` when it was believed.
    fn take(&mut self, at: Timestamp, raw: i32) -> bool {
        let Some((then, place)) = self.last else {
            self.begin(at, raw);
            return true;
        };
        let (way, time) = (self.joint.way(place, raw), since(at, then));
        if time > LONGEST_GAP {
            self.fault.get_or_insert(Refusal::Gap { joint: self.joint.name.clone(), gap: time });
        }
        if self.joint.can_move(way, time.min(LONGEST_GAP)) {
            self.pending = None;
            self.accept(at, place + way);
            return true;
        }
        if self.count < BELIEVED {
            // Nothing says that it was the first one that was right.
            self.begin(at, raw);
            return false;
        }
        let seen = match self.pending {
            Some((then, other, seen)) if self.joint.can_move(self.joint.way(other, raw), since(at, then)) => seen + 1,
            _ => 1,
        };
        self.pending = Some((at, raw, seen));
        if seen >= BELIEVED {
            self.fault.get_or_insert(Refusal::Jump { joint: self.joint.name.clone(), by_deg: self.joint.degrees(way.abs()) });
            self.pending = None;
            self.accept(at, place + way);
        }
        false
    }

    fn begin(&mut self, at: Timestamp, raw: i32) {
        self.count = 0;
        self.first = raw;
        (self.seen, self.believed) = (Swept { lower: i32::MAX, upper: i32::MIN }, Swept { lower: i32::MAX, upper: i32::MIN });
        self.accept(at, raw);
    }

    fn accept(&mut self, at: Timestamp, place: i32) {
        self.last = Some((at, place));
        self.recent[self.count % BELIEVED] = place;
        self.count += 1;
        self.seen = Swept { lower: self.seen.lower.min(place), upper: self.seen.upper.max(place) };
        if self.count >= BELIEVED {
            let least = self.recent.iter().copied().fold(i32::MAX, i32::min);
            let most = self.recent.iter().copied().fold(i32::MIN, i32::max);
            self.believed = Swept { lower: self.believed.lower.min(most), upper: self.believed.upper.max(least) };
        }
    }

    fn finish(&self, now: Timestamp) -> Result<Swept, Refusal> {
        let joint = || self.joint.name.clone();
        let degrees = |ticks: i32| self.joint.degrees(ticks);
        let Some((then, place)) = self.last.filter(|_| self.count >= BELIEVED) else { return Err(Refusal::Silent { joint: joint() }) };
        if let Some(fault) = &self.fault {
            return Err(fault.clone());
        }
        let gap = since(now, then);
        if gap > LONGEST_GAP {
            return Err(Refusal::Gap { joint: joint(), gap });
        }
        let Swept { lower, upper } = self.believed;
        let moved = upper.saturating_sub(lower).max(0);
        let beyond = (lower - self.seen.lower).max(self.seen.upper - upper);
        if moved < self.joint.least {
            return Err(Refusal::TooLittle { joint: joint(), moved_deg: degrees(moved), least_deg: degrees(self.joint.least) });
        }
        if moved > i32::from(self.joint.resolution) - 2 {
            return Err(Refusal::BeyondTurn { joint: joint(), moved_deg: degrees(moved) });
        }
        if f64::from(beyond) > self.joint.share(NOISE_TURNS) {
            return Err(Refusal::NotHeld { joint: joint(), beyond_deg: degrees(beyond) });
        }
        let outside = (lower - place).max(place - upper);
        if f64::from(outside) > self.joint.share(NOISE_TURNS) {
            return Err(Refusal::Outside { joint: joint(), by_deg: degrees(outside) });
        }
        Ok(self.believed)
    }
}

impl Sweep {
    pub fn new(joints: Vec<SweepJoint>) -> Self {
        let count = joints.len();
        let apart = (0..count).flat_map(|i| (i + 1..count).map(move |j| (i, j, 0))).collect();
        Self { tracks: joints.into_iter().map(Track::new).collect(), began: None, apart }
    }

    /// What each joint said at a time; `None` for one that did not answer.
    pub fn take(&mut self, at: Timestamp, positions: &[Option<i32>]) {
        self.began.get_or_insert(at);
        let mut is_new = Vec::with_capacity(self.tracks.len());
        for (track, raw) in self.tracks.iter_mut().zip(positions) {
            // No motor counts so far.
            is_new.push(raw.filter(|raw| raw.unsigned_abs() < 1 << 24).is_some_and(|raw| track.take(at, raw)));
        }
        for (i, j, apart) in &mut self.apart {
            let way = |i: usize| {
                let track = self.tracks.get(i)?;
                track.last.filter(|_| is_new.get(i) == Some(&true)).map(|(_, place)| place - track.first)
            };
            if let (Some(a), Some(b)) = (way(*i), way(*j)) {
                *apart = (*apart).max((a - b).abs());
            }
        }
    }

    /// Why no range can come of it any more, whatever is moved now, where that is so at `now`.
    pub fn spoilt(&self, now: Timestamp) -> Option<Refusal> {
        let began = self.began?;
        self.tracks.iter().find_map(|track| {
            let joint = || track.joint.name.clone();
            let gap = since(now, track.last.map_or(began, |(then, _)| then));
            match (&track.fault, track.last) {
                (Some(fault), _) => Some(fault.clone()),
                (None, Some(_)) if gap > LONGEST_GAP => Some(Refusal::Gap { joint: joint(), gap }),
                (None, None) if gap > LONGEST_GAP => Some(Refusal::Silent { joint: joint() }),
                _ => None,
            }
        })
    }

    /// Of each joint its place now and what it was moved through, in degrees of its motor from where it began.
    pub fn degrees(&self) -> Vec<Option<[f64; 3]>> {
        let of = |track: &Track| {
            let (_, place) = track.last.filter(|_| track.count >= BELIEVED)?;
            let from_first = |ticks: i32| track.joint.degrees(ticks - track.first);
            Some([from_first(place), from_first(track.believed.lower.min(place)), from_first(track.believed.upper.max(place))])
        };
        self.tracks.iter().map(of).collect()
    }

    /// Whether each joint was moved enough.
    pub fn is_enough(&self, joint: usize) -> bool {
        let enough = |track: &Track| track.believed.upper.saturating_sub(track.believed.lower) >= track.joint.least;
        self.tracks.get(joint).is_some_and(enough)
    }

    /// How far each joint has to be moved, in degrees of its motor.
    pub fn least_degrees(&self) -> Vec<f64> {
        self.tracks.iter().map(|track| track.joint.degrees(track.joint.least)).collect()
    }

    /// The range of each joint, when somebody says at `now` that all were moved.
    ///
    /// # Errors
    /// When one of them can't be right; the first reason.
    pub fn finish(&self, now: Timestamp) -> Result<Vec<Swept>, Refusal> {
        let ranges = self.tracks.iter().map(|track| track.finish(now)).collect::<Result<Vec<_>, _>>()?;
        for (i, j, apart) in &self.apart {
            let (a, b) = (&self.tracks[*i].joint, &self.tracks[*j].joint);
            if f64::from(*apart) <= 2.0 * a.share(NOISE_TURNS) {
                return Err(Refusal::Alike { joint: a.name.clone(), other: b.name.clone() });
            }
        }
        Ok(ranges)
    }
}
