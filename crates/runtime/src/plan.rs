//! Which action is wanted at a tick, and when the policy is asked for more.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use sinew_core::{ActionQueue, Observation, PolicyInfo, TeleopStatus, Teleoperator, Tick};

use crate::control::Shared;
use crate::inference::Client;
use crate::{Fault, Inference, InferenceStats, Latency};

/// What a source of actions had for a tick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Choice {
    /// The wanted goals are filled in.
    Wanted,
    /// As `Wanted`, and it was the source's last word.
    Last,
    /// There was none.
    Starved,
    /// A stop was asked for while the loop waited for the policy.
    Interrupted,
}

/// A source of actions as the control thread sees it.
#[expect(clippy::large_enum_variant, reason = "there is one an episode, and it never moves")]
pub(crate) enum Plan<'a> {
    Teleoperator(&'a mut dyn Teleoperator),
    Policy(PolicyPlan<'a>),
}

impl Plan<'_> {
    /// Whether the observation of `tick` will be shown to the policy, now or later.
    pub(crate) fn looks_at(&mut self, tick: u64) -> Result<bool, Fault> {
        match self {
            Self::Teleoperator(_) => Ok(false),
            Self::Policy(plan) => plan.looks_at(tick),
        }
    }

    pub(crate) fn choose(&mut self, tick: &Tick, observation: &Observation, wanted_rad: &mut [f64]) -> Result<Choice, Fault> {
        match self {
            Self::Policy(plan) => plan.choose(tick.index, observation, wanted_rad),
            Self::Teleoperator(teleoperator) => {
                let status = teleoperator.action(tick, wanted_rad).map_err(|source| Fault::Teleoperator { tick: tick.index, source })?;
                Ok(if status == TeleopStatus::Done { Choice::Last } else { Choice::Wanted })
            }
        }
    }
}

/// How many latencies are remembered.
const WINDOW: usize = 16;

struct Pending {
    asked_tick: u64,
    /// The first tick at which the answer may be used.
    due_tick: u64,
}

/// Asks a policy and queues its answers' rows by the tick they are for. In synchronous inference the
/// rows of the newest answer are taken one after the other instead, so that none is skipped when the
/// loop has stood still.
pub(crate) struct PolicyPlan<'a> {
    shared: Shared<'a>,
    client: Client,
    queue: ActionQueue,
    /// Rows of an answer that are meant to be executed.
    n_action_steps: u64,
    pending: Option<Pending>,
    /// Answers since the first.
    answers: usize,
    latency_ticks: [u64; WINDOW],
    next_latency: usize,
    /// Asynchronous: the tick at which to ask again. Synchronous: the first row not to be taken.
    ask_at: u64,
    /// Synchronous: the next row to take.
    cursor: u64,
    pub(crate) late_rows: u64,
    /// Of the newest answer, on the session's clock.
    pub(crate) latency_ns: i64,
    pub(crate) stats: InferenceStats,
}

impl<'a> PolicyPlan<'a> {
    pub(crate) fn new(shared: Shared<'a>, client: Client, info: &PolicyInfo, width: usize) -> Self {
        let chunk_size = info.chunk_size.max(1);
        Self {
            shared,
            client,
            queue: ActionQueue::new(width, chunk_size),
            n_action_steps: info.n_action_steps.clamp(1, chunk_size) as u64,
            pending: None,
            answers: 0,
            latency_ticks: [0; WINDOW],
            next_latency: 0,
            ask_at: 0,
            cursor: 0,
            late_rows: 0,
            latency_ns: 0,
            stats: InferenceStats::default(),
        }
    }

    /// Lets the policy answer once for nothing, because first calls are slow, and forget it.
    /// `false` when a stop was asked for meanwhile.
    pub(crate) fn warm_up(&mut self, observation: &Observation) -> Result<bool, Fault> {
        self.client.ask(observation, self.shared.clock.now(), true);
        Ok(self.client.wait(self.shared.stop)?.is_some())
    }

    /// Waits for the actions from tick 0 on, the arm standing still. `false` when a stop was asked
    /// for meanwhile.
    pub(crate) fn first(&mut self, observation: &Observation) -> Result<bool, Fault> {
        self.ask(0, observation);
        // However long it took, or is scripted to take: the ticks have not begun.
        let arrived = self.receive(0, true)?;
        self.answers = 0;
        Ok(arrived)
    }

    pub(crate) fn queued(&self, next_tick: u64) -> usize {
        match self.shared.config.inference {
            Inference::Sync => self.ask_at.saturating_sub(self.cursor) as usize,
            Inference::Async => self.queue.remaining(next_tick),
        }
    }

    fn looks_at(&mut self, tick: u64) -> Result<bool, Fault> {
        self.receive_due(tick)?;
        Ok(self.wants_to_ask(tick) || self.client.needs_past())
    }

    fn wants_to_ask(&self, tick: u64) -> bool {
        match self.shared.config.inference {
            Inference::Sync => self.cursor >= self.ask_at,
            Inference::Async => self.pending.is_none() && tick >= self.ask_at,
        }
    }

    fn choose(&mut self, tick: u64, observation: &Observation, wanted_rad: &mut [f64]) -> Result<Choice, Fault> {
        if self.wants_to_ask(tick) {
            self.ask(tick, observation);
        }
        self.client.remember(observation);
        let row = match self.shared.config.inference {
            Inference::Async => {
                if !self.receive_due(tick)? {
                    return Ok(Choice::Interrupted);
                }
                tick
            }
            Inference::Sync => {
                if self.pending.is_some() && !self.receive(tick, true)? {
                    return Ok(Choice::Interrupted);
                }
                self.cursor += 1;
                self.cursor - 1
            }
        };
        let Some(goals) = self.queue.take(row) else { return Ok(Choice::Starved) };
        wanted_rad.copy_from_slice(goals);
        Ok(Choice::Wanted)
    }

    fn ask(&mut self, tick: u64, observation: &Observation) {
        let due_tick = tick + self.scripted_ticks().unwrap_or(0);
        if self.client.ask(observation, self.shared.clock.now(), false) {
            self.pending = Some(Pending { asked_tick: tick, due_tick });
        }
    }

    /// What the script says of the answer now expected.
    fn scripted_ticks(&self) -> Option<u64> {
        match &self.shared.config.latency {
            Latency::Measured => None,
            Latency::ScriptedTicks(ticks) if ticks.is_empty() => Some(0),
            Latency::ScriptedTicks(ticks) => Some(ticks[self.answers % ticks.len()]),
        }
    }

    /// Takes in an answer that may be used from `now` on or before; `false` when a stop was asked for
    /// while waiting for one.
    fn receive_due(&mut self, now: u64) -> Result<bool, Fault> {
        match &self.pending {
            Some(pending) if pending.due_tick <= now => self.receive(now, !self.shared.clock.runs_by_itself()),
            _ => Ok(true),
        }
    }

    /// `now` is the first tick not yet acted on.
    fn receive(&mut self, now: u64, wait: bool) -> Result<bool, Fault> {
        let Some(Pending { asked_tick, .. }) = self.pending else { return Ok(true) };
        let scripted_ns = self.scripted_ticks().map(|ticks| self.shared.period_ns.saturating_mul(ticks.cast_signed()));
        let answer = if wait { self.client.wait(self.shared.stop)? } else { self.client.poll()? };
        let Some(answer) = answer else { return Ok(!wait) };
        let chunk = &answer.chunk;
        let clock = self.shared.clock;
        self.latency_ns = scripted_ns.unwrap_or(answer.latency_ns);
        self.stats.latency.record(self.latency_ns);
        self.stats.compute.record(answer.compute_ns);
        self.shared.progress.inference_ns.store(answer.compute_ns, Relaxed);
        self.latency_ticks[self.next_latency] = self.latency_ns.max(0).cast_unsigned().div_ceil(self.shared.period_ns.cast_unsigned());
        self.next_latency = (self.next_latency + 1) % WINDOW;
        self.answers += 1;
        self.pending = None;
        match self.shared.config.inference {
            Inference::Async => {
                self.late_rows += self.queue.splice(chunk, now).late_rows as u64;
                let lead = self.latency_ticks.iter().max().map_or(1, |ticks| ticks + 1);
                self.ask_at = asked_tick + self.n_action_steps.saturating_sub(lead).max(1);
            }
            Inference::Sync => {
                self.queue.clear();
                self.queue.splice(chunk, asked_tick);
                self.cursor = asked_tick;
                self.ask_at = asked_tick + self.n_action_steps.min(chunk.len() as u64);
                if let Some(scripted_ns) = scripted_ns {
                    clock.sleep_until(clock.now() + Duration::from_nanos(scripted_ns.unsigned_abs()));
                }
            }
        }
        Ok(true)
    }
}
