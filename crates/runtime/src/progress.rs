//! What a session shows of itself while it runs.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, Ordering::Relaxed};

/// One session's live state, written by the control thread without waiting for anybody and read by
/// whoever draws a line of it. Numbers of one snapshot may be of two neighbouring ticks.
#[derive(Debug, Default)]
pub struct Progress {
    pub(crate) attempt: AtomicU64,
    pub(crate) tick: AtomicU64,
    pub(crate) max_ticks: AtomicU64,
    pub(crate) total_ticks: AtomicU64,
    pub(crate) rate_mhz: AtomicU64,
    pub(crate) lateness_ns: AtomicI64,
    pub(crate) inference_ns: AtomicI64,
    pub(crate) queued: AtomicU32,
    pub(crate) interventions: AtomicU32,
    pub(crate) missed_ticks: AtomicU64,
    pub(crate) starved_ticks: AtomicU64,
    pub(crate) frames_lost: AtomicU64,
    pub(crate) armed: AtomicBool,
}

/// One reading of a [`Progress`]. Counts are of the running episode but for `total_ticks`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ProgressSnapshot {
    pub attempt: u64,
    pub tick: u64,
    /// The episode's time limit.
    pub max_ticks: u64,
    /// Ticks run since the session was made: two readings give the rate on the reader's clock.
    pub total_ticks: u64,
    /// Ticks a second on the session's clock, over about the last second; 0 until known.
    pub rate_hz: f64,
    pub lateness_ns: i64,
    /// How long the newest inference computed, by the system's clock; 0 before the first and in
    /// teleoperation.
    pub inference_ns: i64,
    /// Actions queued.
    pub queued: u32,
    /// Joint goals that the gate changed.
    pub interventions: u32,
    pub missed_ticks: u64,
    pub starved_ticks: u64,
    pub frames_lost: u64,
    /// Whether torque is on. A process that is told to stop may exit at once when it is not.
    pub armed: bool,
}

impl Progress {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn snapshot(&self) -> ProgressSnapshot {
        ProgressSnapshot {
            attempt: self.attempt.load(Relaxed),
            tick: self.tick.load(Relaxed),
            max_ticks: self.max_ticks.load(Relaxed),
            total_ticks: self.total_ticks.load(Relaxed),
            rate_hz: self.rate_mhz.load(Relaxed) as f64 * 1e-3,
            lateness_ns: self.lateness_ns.load(Relaxed),
            inference_ns: self.inference_ns.load(Relaxed),
            queued: self.queued.load(Relaxed),
            interventions: self.interventions.load(Relaxed),
            missed_ticks: self.missed_ticks.load(Relaxed),
            starved_ticks: self.starved_ticks.load(Relaxed),
            frames_lost: self.frames_lost.load(Relaxed),
            armed: self.armed.load(Relaxed),
        }
    }

    pub(crate) fn begin(&self, attempt: u64, max_ticks: u64) {
        self.attempt.store(attempt, Relaxed);
        self.max_ticks.store(max_ticks, Relaxed);
        for counter in [&self.tick, &self.rate_mhz, &self.missed_ticks, &self.starved_ticks, &self.frames_lost] {
            counter.store(0, Relaxed);
        }
        self.lateness_ns.store(0, Relaxed);
        self.inference_ns.store(0, Relaxed);
        self.queued.store(0, Relaxed);
        self.interventions.store(0, Relaxed);
    }
}
