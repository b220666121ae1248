//! What an episode came to.

use serde::{Serialize, Serializer};
use sinew_core::Interventions;

use crate::{Fault, Histogram};

/// How an episode ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EpisodeOutcome {
    Success,
    /// The scene's judgement, the time limit, or a teleoperator that was done too early.
    Failure,
    /// [`StopFlag`](crate::StopFlag) ended it.
    Interrupted,
    /// Something broke: see [`EpisodeReport::faults`].
    Fault,
}

/// How the control thread kept its time, on the session's clock.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Cadence {
    pub target_rate_hz: f64,
    /// Ticks run a second from the first to the last; 0 with fewer than two.
    pub achieved_rate_hz: f64,
    /// Ticks run.
    pub ticks: u64,
    /// From the first tick's beginning to the last's.
    pub elapsed_ns: i64,
    /// How long after it was due each tick began.
    pub lateness: Histogram,
    /// From a tick's beginning to its frame's publication.
    pub work: Histogram,
}

impl Cadence {
    /// Adds another episode's; the rates become those of both together.
    pub fn merge(&mut self, other: &Self) {
        // An episode of n ticks has n - 1 intervals.
        let intervals = |cadence: &Self| (cadence.achieved_rate_hz * cadence.elapsed_ns as f64 * 1e-9).round();
        let total = intervals(self) + intervals(other);
        self.target_rate_hz = other.target_rate_hz;
        self.ticks += other.ticks;
        self.elapsed_ns += other.elapsed_ns;
        self.achieved_rate_hz = if self.elapsed_ns > 0 { total / (self.elapsed_ns as f64 * 1e-9) } else { 0.0 };
        self.lateness.merge(&other.lateness);
        self.work.merge(&other.work);
    }
}

/// How the policy answered. Warm-up doesn't count.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct InferenceStats {
    /// From the question to the answer, on the session's clock: what the arm felt.
    pub latency: Histogram,
    /// What the policy took by the system's monotonic clock, also where the session's stands still.
    pub compute: Histogram,
}

impl InferenceStats {
    pub fn merge(&mut self, other: &Self) {
        self.latency.merge(&other.latency);
        self.compute.merge(&other.compute);
    }
}

/// One episode as it went. All but `inference.compute` is repeatable on a mock clock.
#[derive(Debug, Serialize)]
pub struct EpisodeReport {
    pub attempt: u64,
    pub seed: u64,
    pub task: String,
    pub outcome: EpisodeOutcome,
    /// Why it failed or broke, in words.
    pub reason: Option<String>,
    /// Everything that went wrong, the first being the cause. A success has one when its recording
    /// could not be committed or the safe action failed.
    pub faults: Vec<Fault>,
    /// Whether the sinks were told to keep it and none of them failed.
    pub kept: bool,
    /// Ticks that were run; those missed are not among them.
    pub ticks: u64,
    /// Ticks skipped because the loop was late.
    pub missed_ticks: u64,
    /// Ticks given up because the robot failed transiently.
    pub failed_ticks: u64,
    /// Ticks for which no action was queued.
    pub starved_ticks: u64,
    /// Rows of the policy's answers whose tick had passed when they arrived.
    pub late_rows: u64,
    pub interventions: Interventions,
    /// Frames that the sinks could not take in time.
    pub frames_lost: u64,
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
