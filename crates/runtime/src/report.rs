//! What an episode came to.

use serde::{Serialize, Serializer};
use sinew_core::Interventions;

use crate::{Fault, Histogram, Realtime};

/// How an episode ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EpisodeOutcome {
    Success,
    /// The scene's judgement, the time limit, or a teleoperator that was done too early.
    Failure,
    /// [`StopFlag`](crate::StopFlag) ended it.
    Interrupted,
    /// The operator ended it, and wanted it to be kept.
    Ended,
    /// The operator ended it, and wanted it to be dropped.
    Dropped,
    /// Something broke: see [`EpisodeReport::faults`].
    Fault,
}

/// What a turn of the loop consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TurnPart {
    Read,
    Choose,
    Drive,
    Publish,
}

/// How many there are.
pub(crate) const PARTS: usize = 4;

/// How many ticks a [`Cadence`] remembers one by one.
const REMEMBERED: usize = 256;

/// When one tick was run and what it took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TickTimes {
    /// Counts the loop's turns.
    pub turn: u64,
    pub lateness_ns: i64,
    pub work_ns: i64,
    /// By [`TurnPart`], in its order.
    pub parts_ns: [i64; PARTS],
}

/// The newest ticks, oldest first, in fixed memory. Serialised as the slowest of them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RecentTicks {
    ring: Vec<TickTimes>,
    next: usize,
}

impl RecentTicks {
    /// Oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &TickTimes> {
        self.ring[self.next..].iter().chain(&self.ring[..self.next])
    }

    pub fn slowest(&self) -> Option<&TickTimes> {
        self.ring.iter().max_by_key(|tick| tick.work_ns)
    }

    /// Room for all there will be.
    pub(crate) fn reserve(&mut self) {
        self.ring.reserve_exact(REMEMBERED.saturating_sub(self.ring.len()));
    }

    fn push(&mut self, tick: TickTimes) {
        if self.ring.len() < REMEMBERED {
            self.ring.push(tick);
        } else {
            self.ring[self.next] = tick;
            self.next = (self.next + 1) % REMEMBERED;
        }
    }
}

impl Serialize for RecentTicks {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.slowest().serialize(serializer)
    }
}

/// How long each part of the ticks took.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct PartTimes {
    pub read: Histogram,
    pub choose: Histogram,
    pub drive: Histogram,
    pub publish: Histogram,
}

impl PartTimes {
    /// In the order of a tick.
    pub fn by_name(&self) -> [(&'static str, &Histogram); PARTS] {
        let Self { read, choose, drive, publish } = self;
        [("read", read), ("choose", choose), ("drive", drive), ("publish", publish)]
    }

    fn by_part(&mut self) -> [&mut Histogram; PARTS] {
        [&mut self.read, &mut self.choose, &mut self.drive, &mut self.publish]
    }
}

/// How the control thread kept its time, on the session's clock. A tick is a turn of the loop, of
/// which there may be several for each tick of the policy.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Cadence {
    pub target_rate_hz: f64,
    /// Ticks run a second from the first to the last; 0 with fewer than two.
    pub achieved_rate_hz: f64,
    /// Ticks run.
    pub ticks: u64,
    /// From the first tick's beginning to the last's.
    pub elapsed_ns: i64,
    /// What the control thread took of a processor for all ticks, the robot's and the scene's own work and going
    /// to sleep and waking included; `None` on a clock that doesn't run by itself.
    pub cpu_ns: Option<i64>,
    /// How long after it was due each tick began; where ticks were missed, how long after the first of them was due.
    pub lateness: Histogram,
    /// From a tick's beginning to its frame's publication.
    pub work: Histogram,
    pub parts: PartTimes,
    /// Ticks whose work took longer than there was time.
    pub overruns: u64,
    /// The part that had the longest time of all, once there was a tick.
    pub worst_part: Option<TurnPart>,
    /// The slowest of the last ticks.
    pub recent: RecentTicks,
}

impl Cadence {
    pub(crate) fn record(&mut self, tick: TickTimes, period_ns: i64) {
        self.ticks += 1;
        self.lateness.record(tick.lateness_ns);
        self.work.record(tick.work_ns);
        self.overruns += u64::from(tick.work_ns > period_ns);
        for (histogram, ns) in self.parts.by_part().into_iter().zip(tick.parts_ns) {
            histogram.record(ns);
        }
        self.recent.push(tick);
    }

    /// Works out what is told at the end.
    pub(crate) fn conclude(&mut self) {
        const ALL: [TurnPart; PARTS] = [TurnPart::Read, TurnPart::Choose, TurnPart::Drive, TurnPart::Publish];
        let longest = self.parts.by_part().map(|histogram| histogram.stats().max_ns);
        let worst = longest.iter().zip(ALL).max_by_key(|(ns, _)| **ns);
        self.worst_part = worst.filter(|_| self.ticks > 0).map(|(_, part)| part);
    }

    /// Adds another episode's; the rates become those of both together.
    pub fn merge(&mut self, other: &Self) {
        // An episode of n ticks has n - 1 intervals.
        let intervals = |cadence: &Self| (cadence.achieved_rate_hz * cadence.elapsed_ns as f64 * 1e-9).round();
        let total = intervals(self) + intervals(other);
        self.target_rate_hz = other.target_rate_hz;
        self.ticks += other.ticks;
        self.elapsed_ns += other.elapsed_ns;
        self.cpu_ns = self.cpu_ns.into_iter().chain(other.cpu_ns).reduce(|a, b| a + b);
        self.achieved_rate_hz = if self.elapsed_ns > 0 { total / (self.elapsed_ns as f64 * 1e-9) } else { 0.0 };
        self.lateness.merge(&other.lateness);
        self.work.merge(&other.work);
        let mut others = other.parts.clone();
        for (mine, theirs) in self.parts.by_part().into_iter().zip(others.by_part()) {
            mine.merge(theirs);
        }
        self.overruns += other.overruns;
        other.recent.iter().for_each(|tick| self.recent.push(*tick));
        self.conclude();
    }
}

/// How the policy answered. Warm-up doesn't count.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct InferenceStats {
    /// From the question to the answer, on the session's clock: what the arm felt.
    pub latency: Histogram,
    /// What the policy took by the system's monotonic clock, also where the session's stands still.
    pub compute: Histogram,
    /// Beside the loop: the most ticks before the end of an answer's rows that the next was asked for.
    pub lead_ticks_max: u64,
    /// Beside the loop: the fewest rows that were left when an answer arrived; 0 means that the queue
    /// ran dry or was about to.
    pub reserve_rows_min: Option<u64>,
    /// Real-time chunking with a policy that is given the rows to be executed meanwhile: answers that
    /// came later than those rows lasted, and so were not used.
    pub unused_answers: u64,
    /// Questions that a policy had no answer to, as one on the network may.
    pub unanswered: u64,
}

impl InferenceStats {
    pub(crate) fn record_reserve(&mut self, rows: u64) {
        self.reserve_rows_min = Some(self.reserve_rows_min.map_or(rows, |least| least.min(rows)));
    }

    pub fn merge(&mut self, other: &Self) {
        self.lead_ticks_max = self.lead_ticks_max.max(other.lead_ticks_max);
        self.unused_answers += other.unused_answers;
        self.unanswered += other.unanswered;
        self.reserve_rows_min = self.reserve_rows_min.into_iter().chain(other.reserve_rows_min).min();
        self.latency.merge(&other.latency);
        self.compute.merge(&other.compute);
    }
}

/// One episode as it went. All but `inference.compute` is repeatable on a mock clock.
#[derive(Debug, Serialize)]
pub struct EpisodeReport {
    pub attempt: u64,
    pub seed: u64,
    /// The instruction.
    pub task: String,
    /// The episodes before it in the same scene, each of which ended when the policy was given another instruction. They
    /// have their counts; cadence, inference and hashes are of the whole time in the scene, and stand in the last.
    /// [`Session::run_series`](crate::Session::run_series) lists them as episodes of their own.
    #[serde(skip)]
    pub earlier: Vec<EpisodeReport>,
    pub outcome: EpisodeOutcome,
    /// Why it failed or broke, in words.
    pub reason: Option<String>,
    /// Everything that went wrong, the first being the cause. A success has one when its recording
    /// could not be committed or the safe action failed.
    pub faults: Vec<Fault>,
    /// Whether those sinks whose failure is fatal kept it; without such a sink nothing is.
    pub kept: bool,
    /// Turns of the loop that were run; those missed are not among them.
    pub ticks: u64,
    /// Ticks skipped because the loop was late.
    pub missed_ticks: u64,
    /// Turns in which the robot could not be read or not be commanded.
    pub failed_ticks: u64,
    /// Ticks in which the robot stood still because its policy had yet to answer (synchronous inference).
    pub waiting_ticks: u64,
    /// Ticks for which no action was queued.
    pub starved_ticks: u64,
    /// Rows of the policy's answers whose tick had passed when they arrived.
    pub late_rows: u64,
    pub interventions: Interventions,
    /// Frames that a sink whose failure is fatal could not take in time: the most of any.
    pub frames_lost: u64,
    /// Every sink's name, in their order, and the frames that it could not take in time.
    pub lost: Vec<(String, u64)>,
    /// The sinks that failed and were left behind, each by its name and why: see
    /// [`OnFailure::Detach`](sinew_core::OnFailure::Detach). The episode is what it would have been without them.
    pub detached: Vec<String>,
    /// What the control thread asked of the system, and what it got.
    pub realtime: Realtime,
    pub cadence: Cadence,
    pub inference: InferenceStats,
    /// FNV-1a 64 over each tick's index and the bits of the goals that were sent. Written in hex.
    #[serde(serialize_with = "hex")]
    pub action_hash: u64,
    /// [`Environment::state_hash`](sinew_core::Environment::state_hash) after the last tick. Written
    /// in hex.
    #[serde(serialize_with = "hex")]
    pub state_hash: u64,
}

impl EpisodeReport {
    pub fn is_success(&self) -> bool {
        self.outcome == EpisodeOutcome::Success
    }

    /// Whether it was carried through: one that somebody ended or dropped, or that broke, says nothing of who acted.
    pub fn is_judged(&self) -> bool {
        matches!(self.outcome, EpisodeOutcome::Success | EpisodeOutcome::Failure)
    }

    pub fn was_interrupted(&self) -> bool {
        self.outcome == EpisodeOutcome::Interrupted
    }
}

fn hex<S: Serializer>(value: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&format!("{value:016x}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merged_cadence_has_the_rate_of_both() {
        let of = |ticks: u64, elapsed_ns: i64| Cadence {
            target_rate_hz: 10.0,
            achieved_rate_hz: (ticks - 1) as f64 / (elapsed_ns as f64 * 1e-9),
            ticks,
            elapsed_ns,
            ..Cadence::default()
        };
        let mut cadence = of(11, 1_000_000_000);
        cadence.merge(&of(11, 3_000_000_000));
        assert_eq!((cadence.ticks, cadence.achieved_rate_hz), (22, 5.0));
    }
}
