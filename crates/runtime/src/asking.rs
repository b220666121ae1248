//! When a policy is asked, and which row of its answers is for which tick.

use std::sync::atomic::Ordering::Relaxed;

use sinew_core::{ActionQueue, Continuation, Observation, Timestamp};

use crate::control::{Moment, Shared};
use crate::inference::{Client, Reply};
use crate::interpolation::Interpolator;
use crate::{Fault, Inference, InferenceStats, Latency};

/// What a source of actions had for a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Choice {
    /// The wanted goals are filled in.
    Wanted,
    /// As `Wanted`, and it was the source's last word.
    Last,
    /// There was none.
    Starved,
    /// The robot stands still until the policy has answered (synchronous inference).
    Waiting,
    /// As `Wanted`, by who has said nothing new since; told as starved.
    Stale,
    /// Nobody is to act.
    Held,
    /// Who is to act has said nothing for too long: as `Held`, and told as starved.
    Silent,
    /// A stop was asked for while the loop waited for the policy.
    Interrupted,
}

/// How many latencies are remembered.
pub(crate) const WINDOW: usize = 16;
/// So many answers in a row may come too late to be used; LeRobot gives up there, too.
const MOST_UNUSED: u32 = 5;

/// How long an answer is waited for.
#[derive(Clone, Copy)]
enum Patience {
    /// Until it is there, or a stop is asked for.
    Endless,
    Until(Timestamp),
}

const AT_ONCE: Patience = Patience::Until(Timestamp::ZERO);

/// How long a policy is left alone that had no answer before the first tick, nanoseconds.
const SHORTEST_PAUSE_NS: i64 = 20_000_000;
const LONGEST_PAUSE_NS: i64 = 500_000_000;

struct Pending {
    asked_tick: u64,
    /// The first tick at which the answer may be used.
    due_tick: u64,
    /// The answer is of use if no more rows than these have been executed since it was asked for.
    most_delay_rows: Option<u64>,
    instructions: u64,
    /// The policy was to forget the past first.
    reset: bool,
}

/// Asks a policy and queues its answers' rows by the tick they are for. In synchronous inference the
/// rows of the newest answer are taken one after the other instead, so that none is skipped while the
/// robot stands still.
pub(crate) struct Asking<'a> {
    shared: Shared<'a>,
    client: Client<'a>,
    queue: ActionQueue,
    interpolator: Interpolator,
    /// Rows of an answer that are meant to be executed.
    n_action_steps: u64,
    pending: Option<Pending>,
    /// The pending answer is of no use any more.
    is_stale: bool,
    /// The policy is to forget the past before it answers next.
    resets: bool,
    /// How many instructions had been set when the policy was told the last.
    instructions: u64,
    /// The answer expected is the first, or the first after others have acted: nothing can be left.
    begins: bool,
    /// Answers since the first.
    answers: usize,
    /// Answers since the last that came in time to be used.
    unused: u32,
    latency_ticks: [u64; WINDOW],
    next_latency: usize,
    /// Asynchronous: the tick at which to ask again. Synchronous: the first row not to be taken.
    ask_at: u64,
    /// Synchronous: the next row to take.
    cursor: u64,
    /// Synchronous: there is no row for the tick that has begun, as the policy has yet to answer.
    waits: bool,
    pub(crate) late_rows: u64,
    /// Of the newest answer, on the session's clock.
    pub(crate) latency_ns: i64,
    pub(crate) stats: InferenceStats,
}

impl<'a> Asking<'a> {
    pub(crate) fn new(shared: Shared<'a>, client: Client<'a>, width: usize) -> Self {
        let chunk_size = client.info().chunk_size.max(1);
        let n_action_steps = client.info().n_action_steps.clamp(1, chunk_size) as u64;
        Self {
            shared,
            client,
            queue: ActionQueue::new(width, chunk_size),
            interpolator: Interpolator::new(shared.config.interpolation, width),
            n_action_steps,
            pending: None,
            is_stale: false,
            resets: false,
            instructions: shared.operator.instructions(),
            begins: true,
            answers: 0,
            unused: 0,
            latency_ticks: [0; WINDOW],
            next_latency: 0,
            ask_at: 0,
            cursor: 0,
            waits: false,
            late_rows: 0,
            latency_ns: 0,
            stats: InferenceStats::default(),
        }
    }

    /// Makes ready for an episode; `false` when a stop was asked for meanwhile.
    pub(crate) fn begin(&mut self) -> Result<bool, Fault> {
        if self.shared.config.inference == Inference::Rtc && !self.client.can_continue() {
            return Err(Fault::NoContinuation { family: self.client.info().family.clone() });
        }
        self.client.begin(self.shared.stop)
    }

    /// Whether first calls may still be slow. On a clock that doesn't run by itself they cost nothing.
    pub(crate) fn is_cold(&self) -> bool {
        self.shared.clock.runs_by_itself() && self.client.is_cold()
    }

    /// Lets the policy answer once for nothing, because first calls are slow, and forget it. It counts
    /// for no figure. `false` when a stop was asked for meanwhile.
    pub(crate) fn warm_up(&mut self, observation: &Observation) -> Result<bool, Fault> {
        self.client.set_deadline(Some(self.shared.config.warm_up_deadline_s));
        let mut pause_ns = 0;
        let answered = loop {
            self.client.ask(observation, self.shared.clock.now(), self.instructions, true, None);
            match self.client.wait(self.shared.stop)? {
                Some(Reply::Nothing) => {}
                reply => break reply.is_some(),
            }
            if !self.back_off(&mut pause_ns) {
                break false;
            }
        };
        self.client.set_deadline(self.shared.config.answer_deadline_s);
        if answered {
            self.client.warmed_up();
        }
        Ok(answered)
    }

    /// Leaves a policy alone that had no answer, each time for longer than before; `false` when a stop was asked for meanwhile.
    pub(crate) fn back_off(&self, pause_ns: &mut i64) -> bool {
        *pause_ns = (*pause_ns * 2).clamp(SHORTEST_PAUSE_NS, LONGEST_PAUSE_NS);
        self.client.pause(*pause_ns, self.shared.stop)
    }

    /// Asks for the actions from tick 0 on.
    pub(crate) fn ask_first(&mut self, observation: &Observation) {
        self.queue.clear();
        self.ask(0, observation, true);
    }

    /// Whether the actions from tick 0 on are there. Without `wait` only looks; with it, `None` says that a stop was
    /// asked for meanwhile. Where they are not and nothing [is expected](Self::is_expecting), ask again.
    pub(crate) fn first(&mut self, wait: bool) -> Result<Option<bool>, Fault> {
        // However long it takes, or is scripted to take: the ticks have not begun.
        if !self.receive(0, if wait { Patience::Endless } else { AT_ONCE })? {
            return Ok(None);
        }
        let is_there = self.pending.is_none() && self.first_goals().is_some();
        if is_there {
            self.answers = 0;
        }
        Ok(Some(is_there))
    }

    /// Whether an answer is on its way.
    pub(crate) fn is_expecting(&self) -> bool {
        self.pending.is_some()
    }

    /// Where waiting costs no time, lets an answer that nobody will use come back before the episode ends:
    /// the policy is then the same after every run.
    pub(crate) fn settle(&mut self) {
        if self.client.is_waiting() && !self.shared.clock.runs_by_itself() {
            // It comes too late to matter, whatever it is.
            drop(self.client.wait(self.shared.stop));
        }
    }

    /// Begins anew from `tick` on, after somebody else has acted.
    pub(crate) fn resume(&mut self, tick: u64) {
        self.queue.clear();
        self.interpolator.clear();
        self.client.forget();
        self.is_stale = self.pending.is_some();
        (self.resets, self.begins, self.unused) = (true, true, 0);
        (self.ask_at, self.cursor) = (tick, tick);
    }

    /// With another instruction than the last the policy is asked at `tick` even if there are rows left.
    pub(crate) fn instruct(&mut self, instructions: u64, tick: u64) {
        if std::mem::replace(&mut self.instructions, instructions) == instructions {
            return;
        }
        self.ask_at = match self.shared.config.inference {
            Inference::Sync => self.cursor,
            Inference::Async | Inference::Rtc => self.ask_at.min(tick),
        };
    }

    /// The goals of the first row, once they are there.
    pub(crate) fn first_goals(&self) -> Option<&[f64]> {
        self.queue.peek(0)
    }

    pub(crate) fn queued(&self, next_tick: u64) -> usize {
        match self.shared.config.inference {
            Inference::Sync => self.ask_at.saturating_sub(self.cursor) as usize,
            Inference::Async | Inference::Rtc => self.queue.remaining(next_tick),
        }
    }

    pub(crate) fn looks_at(&mut self, tick: u64) -> Result<bool, Fault> {
        self.receive_due(tick, AT_ONCE)?;
        Ok(self.wants_to_ask(tick) || self.client.needs_past())
    }

    fn wants_to_ask(&self, tick: u64) -> bool {
        match self.shared.config.inference {
            Inference::Sync => self.pending.is_none() && self.cursor >= self.ask_at,
            Inference::Async | Inference::Rtc => self.pending.is_none() && tick >= self.ask_at,
        }
    }

    pub(crate) fn choose(&mut self, now: &Moment, observation: &Observation, wanted: &mut [f64]) -> Result<Choice, Fault> {
        let tick = now.tick;
        let mut patience = AT_ONCE;
        if self.wants_to_ask(tick) {
            let reset = std::mem::take(&mut self.resets);
            self.ask(tick, observation, reset);
            // One that is quick costs no tick.
            if self.shared.config.inference == Inference::Sync {
                patience = Patience::Until(now.until);
            }
        }
        self.waits = false;
        if !self.receive_due(tick, patience)? {
            return Ok(Choice::Interrupted);
        }
        let row = match self.shared.config.inference {
            Inference::Async | Inference::Rtc => tick,
            Inference::Sync if self.pending.is_some() => {
                self.waits = true;
                return Ok(Choice::Waiting);
            }
            Inference::Sync => {
                self.cursor += 1;
                self.cursor - 1
            }
        };
        self.client.remember(observation);
        let found = self.queue.take(row).is_some_and(|goals| {
            self.interpolator.advance(goals);
            true
        });
        if !found {
            self.interpolator.clear();
            return Ok(Choice::Starved);
        }
        // In synchronous inference rows beyond those to be executed are not on the way.
        let is_ahead = |row: u64| self.shared.config.inference != Inference::Sync || row < self.ask_at;
        let ahead = |row: u64| self.queue.peek(row).filter(|_| is_ahead(row));
        self.interpolator.look_ahead(ahead(row + 1), ahead(row + 2));
        self.interpolator.at(now.share, wanted);
        Ok(Choice::Wanted)
    }

    /// Between two rows.
    pub(crate) fn between(&self, now: &Moment, wanted: &mut [f64]) -> Choice {
        match self.waits {
            true => Choice::Waiting,
            false if self.interpolator.at(now.share, wanted) => Choice::Wanted,
            false => Choice::Starved,
        }
    }

    fn ask(&mut self, tick: u64, observation: &Observation, reset: bool) {
        let due_tick = tick + self.scripted_ticks().unwrap_or(0);
        let rows_left = self.queue.remaining(tick);
        let continues = self.shared.config.inference == Inference::Rtc && !reset && rows_left > 0;
        let most = self.most_delay_rows().filter(|_| continues).map(|most| most.min(rows_left));
        let delay_rows = (self.delay_ticks() as usize).min(most.unwrap_or(usize::MAX));
        let continuing = continues.then_some(Continuation { rows_left, delay_rows, newest_is_unused: self.unused > 0 });
        if self.client.ask(observation, self.shared.clock.now(), self.instructions, reset, continuing) {
            let most_delay_rows = most.map(|_| delay_rows as u64);
            self.resets &= !reset;
            self.pending = Some(Pending { asked_tick: tick, due_tick, most_delay_rows, instructions: self.instructions, reset });
        }
    }

    /// The most that an answer may be late to follow from the one before, where there is such a limit.
    fn most_delay_rows(&self) -> Option<usize> {
        self.client.most_delay_rows().filter(|_| self.shared.config.inference == Inference::Rtc)
    }

    /// How many ticks the next answer is expected to take: the longest of the last [`WINDOW`].
    fn delay_ticks(&self) -> u64 {
        self.latency_ticks.iter().max().copied().unwrap_or(0)
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
    fn receive_due(&mut self, now: u64, patience: Patience) -> Result<bool, Fault> {
        match &self.pending {
            Some(pending) if pending.due_tick <= now => {
                self.receive(now, if self.shared.clock.runs_by_itself() { patience } else { Patience::Endless })
            }
            _ => Ok(true),
        }
    }

    /// `now` is the first tick not yet acted on.
    fn receive(&mut self, now: u64, patience: Patience) -> Result<bool, Fault> {
        let Some(Pending { asked_tick, most_delay_rows, instructions, reset, .. }) = self.pending else { return Ok(true) };
        let scripted_ns = self.scripted_ticks().map(|ticks| self.shared.period_ns.saturating_mul(ticks.cast_signed()));
        let (answer, went_on) = match patience {
            Patience::Endless => (self.client.wait(self.shared.stop)?, false),
            Patience::Until(until) => (self.client.poll(until)?, true),
        };
        let Some(reply) = answer else { return Ok(went_on) };
        self.pending = None;
        let was_stale = std::mem::take(&mut self.is_stale);
        let answer = match reply {
            Reply::Answer(answer) => answer,
            Reply::Nothing => {
                self.stats.unanswered += 1;
                self.resets |= reset;
                self.ask_at = if self.shared.config.inference == Inference::Sync { self.cursor } else { now };
                return Ok(true);
            }
        };
        if was_stale {
            return Ok(true);
        }
        let chunk = &answer.chunk;
        self.latency_ns = scripted_ns.unwrap_or(answer.latency_ns);
        self.stats.latency.record(self.latency_ns);
        self.stats.compute.record(answer.compute_ns);
        self.shared.progress.inference_ns.store(answer.compute_ns, Relaxed);
        let ticks = self.latency_ns.max(0).cast_unsigned().div_ceil(self.shared.period_ns.cast_unsigned());
        let delay = ticks.max(now.saturating_sub(asked_tick));
        self.latency_ticks[self.next_latency] = delay;
        self.next_latency = (self.next_latency + 1) % WINDOW;
        self.answers += 1;
        if most_delay_rows.is_some_and(|most| delay > most) {
            return self.leave_unused(now, delay).map(|()| true);
        }
        self.unused = 0;
        match self.shared.config.inference {
            Inference::Async | Inference::Rtc => {
                if !std::mem::take(&mut self.begins) {
                    self.stats.record_reserve(self.queue.remaining(now) as u64);
                }
                self.late_rows += self.queue.splice(chunk, now).late_rows as u64;
                // Where an answer may come too late to be used there is time for another.
                let tries = if self.most_delay_rows().is_some() { 2 } else { 1 };
                let lead = tries * (self.delay_ticks() + 1);
                self.stats.lead_ticks_max = self.stats.lead_ticks_max.max(lead);
                // An answer to what is no longer asked for is used until the next is there.
                let is_current = instructions == self.instructions;
                self.ask_at = if is_current { asked_tick + self.n_action_steps.saturating_sub(lead).max(1) } else { now };
            }
            Inference::Sync => {
                self.queue.clear();
                self.queue.splice(chunk, asked_tick);
                self.cursor = asked_tick;
                self.ask_at = asked_tick + self.n_action_steps.min(chunk.len() as u64);
            }
        }
        Ok(true)
    }

    /// Passes over an answer that took `delay` ticks, which is longer than the rows that it was told would
    /// be executed meanwhile: it doesn't follow from those executed since. The next is asked for at once.
    fn leave_unused(&mut self, now: u64, delay: u64) -> Result<(), Fault> {
        self.unused += 1;
        self.stats.unused_answers += 1;
        self.ask_at = now;
        if self.unused < MOST_UNUSED {
            return Ok(());
        }
        Err(Fault::Outrun {
            family: self.client.info().family.clone(),
            tick: now,
            in_a_row: self.unused,
            delay_rows: delay,
            most: self.most_delay_rows().unwrap_or_default(),
        })
    }
}
