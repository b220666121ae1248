//! The policy on a thread of its own, and the control thread's way to ask it.

use std::io;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use sinew_core::{ActionChunk, Clock, Continuation, Observation, Pixels, Policy, PolicyError, PolicyInfo, RobotDescription, Timestamp};

use crate::asking::WINDOW;
use crate::beside::Beside;
use crate::clock::HostTime;
use crate::realtime::{Role, place};
use crate::{Fault, Operator, StopFlag};

/// A policy that has moved to a thread of its own, which it keeps from episode to episode. A policy
/// that never comes back from a call keeps its thread until the process ends, and nothing else:
/// episodes end and return without it.
pub struct PolicyThread {
    info: PolicyInfo,
    can_continue: bool,
    most_delay_rows: Option<usize>,
    beside: Beside<Job>,
    warmed_up: bool,
    heard: Heard,
}

/// How often whoever leaves a policy alone looks whether to stop.
const LOOK: Duration = Duration::from_millis(5);
/// Until so many answers are known they say little of those to come.
const FEW_ANSWERS: usize = 4;
/// How long an answer may take while few are known.
const FIRST_DEADLINE_NS: i64 = 10_000_000_000;
/// How long it may take at least: spikes and a disk that stalls for two seconds are no end.
const LEAST_DEADLINE_NS: i64 = 3_000_000_000;
/// How many times longer than the longest that is known it may take.
const PATIENCE: i64 = 10;

/// How long a policy took for its last answers, by the system's clock.
#[derive(Default)]
struct Heard {
    /// For the first of all, which counts for nothing else.
    warm_up_ns: i64,
    answers: usize,
    last_ns: [i64; WINDOW],
}

impl Heard {
    fn record(&mut self, compute_ns: i64) {
        self.last_ns[self.answers % WINDOW] = compute_ns;
        self.answers += 1;
    }

    fn longest_ns(&self) -> i64 {
        self.last_ns.iter().copied().max().unwrap_or(0)
    }

    /// How long the next answer may take before the policy counts as hung.
    fn deadline_ns(&self) -> i64 {
        let least_ns =
            if self.answers < FEW_ANSWERS { FIRST_DEADLINE_NS.max(self.warm_up_ns.saturating_mul(2)) } else { LEAST_DEADLINE_NS };
        self.longest_ns().saturating_mul(PATIENCE).max(least_ns)
    }
}

impl PolicyThread {
    /// # Errors
    /// When the thread cannot be started.
    pub fn spawn(mut policy: impl Policy + 'static) -> io::Result<Self> {
        let (info, can_continue, most_delay_rows) = (policy.info().clone(), policy.can_continue(), policy.most_delay_rows());
        let mut has_place = false;
        // Kept here, so that whoever asks next is not the last to have it, and frees nothing.
        let nothing = Pixels::default();
        let beside = Beside::spawn("inference", Job::default(), move |job| {
            if !std::mem::replace(&mut has_place, true) {
                place(Role::Inference);
            }
            serve(&mut policy, job, &nothing)
        })?;
        Ok(Self { info, can_continue, most_delay_rows, beside, warmed_up: false, heard: Heard::default() })
    }

    /// The policy has answered before, so that its first answer is not slower than others: nobody lets it warm up.
    #[must_use]
    pub fn warm(self) -> Self {
        Self { warmed_up: true, ..self }
    }

    pub fn info(&self) -> &PolicyInfo {
        &self.info
    }
}

/// What all questions of an episode have in common.
pub(crate) struct Setting {
    /// The episode's.
    pub(crate) seed: u64,
    /// Where the operator has set no other.
    pub(crate) task: String,
    pub(crate) operator: Operator,
    pub(crate) robot: RobotDescription,
    pub(crate) clock: Arc<dyn Clock>,
}

/// A question and, on its way back, its answer. What an old answer holds is freed by the policy's thread.
#[derive(Default)]
struct Job {
    setting: Option<Arc<Setting>>,
    /// As many as the policy looks at, oldest first.
    observations: Vec<Observation>,
    asked_at: Timestamp,
    /// How many the operator had set: the last of them counts.
    instructions: u64,
    /// Forget the past first.
    reset: bool,
    continuing: Option<Continuation>,
    answer: Option<Result<Answer, Fault>>,
}

pub(crate) struct Answer {
    pub(crate) chunk: ActionChunk,
    /// From question to answer on the session's clock.
    pub(crate) latency_ns: i64,
    /// What the policy took by the system's clock.
    pub(crate) compute_ns: i64,
}

/// What a policy says to a question.
pub(crate) enum Reply<'a> {
    Answer(&'a Answer),
    /// It has no answer to this one ([`PolicyError::Unavailable`]).
    Nothing,
}

/// The control thread's end, for one episode.
pub(crate) struct Client<'a> {
    thread: &'a mut PolicyThread,
    setting: Arc<Setting>,
    /// What was observed before now, oldest first; only the last `seen` of them are of this episode.
    past: Vec<Observation>,
    seen: usize,
    asked_tick: u64,
    asked_at: HostTime,
    /// When the first was asked of the questions that the policy had no answer to, since its last answer.
    unanswered_since: Option<HostTime>,
    /// What it said to the last of these.
    said: Option<PolicyError>,
    /// Without it, what was heard says how long an answer may take.
    deadline_s: Option<f64>,
}

impl<'a> Client<'a> {
    /// Answers take at most `deadline_s`, or what was measured says how long.
    pub(crate) fn new(thread: &'a mut PolicyThread, setting: Arc<Setting>, deadline_s: Option<f64>) -> Self {
        let past = vec![Observation::for_robot(&setting.robot); thread.info.n_obs_steps.max(1) - 1];
        Self { thread, setting, past, seen: 0, asked_tick: 0, asked_at: HostTime::now(), unanswered_since: None, said: None, deadline_s }
    }

    pub(crate) fn info(&self) -> &PolicyInfo {
        &self.thread.info
    }

    pub(crate) fn can_continue(&self) -> bool {
        self.thread.can_continue
    }

    pub(crate) fn most_delay_rows(&self) -> Option<usize> {
        self.thread.most_delay_rows
    }

    /// Whether the policy still has to answer once for nothing.
    pub(crate) fn is_cold(&self) -> bool {
        !self.thread.warmed_up
    }

    pub(crate) fn set_deadline(&mut self, deadline_s: Option<f64>) {
        self.deadline_s = deadline_s;
    }

    fn deadline_ns(&self) -> i64 {
        self.deadline_s.map_or_else(|| self.thread.heard.deadline_ns(), |seconds| (seconds * 1e9) as i64)
    }

    /// The answer that was just given was for nothing.
    pub(crate) fn warmed_up(&mut self) {
        self.thread.warmed_up = true;
        self.thread.heard = Heard { warm_up_ns: self.thread.heard.longest_ns(), ..Heard::default() };
    }

    /// Makes ready for an episode, once a question of the one before has been answered. To be called on
    /// the control thread, which answers will wake. `false` when a stop was asked for meanwhile.
    pub(crate) fn begin(&mut self, stop: &StopFlag) -> Result<bool, Fault> {
        self.asked_at = HostTime::now();
        if self.thread.beside.is_waiting() && self.take_answer(stop, true)?.is_none() {
            return Ok(false);
        }
        let Some(job) = self.thread.beside.job() else { return Ok(false) };
        let observations = vec![Observation::for_robot(&self.setting.robot); self.past.len() + 1];
        *job = Job { setting: Some(self.setting.clone()), observations, ..Job::default() };
        Ok(true)
    }

    /// Whether the policy looks at more than the observation of now.
    pub(crate) fn needs_past(&self) -> bool {
        !self.past.is_empty()
    }

    /// Keeps `observation` for the questions of later ticks.
    pub(crate) fn remember(&mut self, observation: &Observation) {
        if let [oldest, ..] = self.past.as_mut_slice() {
            oldest.copy_from(observation);
            self.past.rotate_left(1);
            self.seen = (self.seen + 1).min(self.past.len());
        }
    }

    /// What was observed before now is not to be shown any more.
    pub(crate) fn forget(&mut self) {
        self.seen = 0;
    }

    /// Asks without waiting, by when the operator had set so many `instructions`; `false` while an answer is
    /// outstanding. With `reset` the policy forgets the past first.
    pub(crate) fn ask(
        &mut self,
        observation: &Observation,
        now: Timestamp,
        instructions: u64,
        reset: bool,
        continuing: Option<Continuation>,
    ) -> bool {
        let Some(job) = self.thread.beside.job() else { return false };
        let Some((last, before)) = job.observations.split_last_mut() else { return false };
        last.copy_from(observation);
        // Until so much has been seen, the first observation stands for those before it.
        let first = self.past.len() - self.seen;
        for (i, slot) in before.iter_mut().enumerate() {
            slot.copy_from(self.past.get(i.max(first)).unwrap_or(observation));
        }
        self.asked_tick = observation.tick;
        self.asked_at = HostTime::now();
        job.asked_at = now;
        job.instructions = instructions;
        job.reset = reset;
        job.continuing = continuing;
        self.thread.beside.ask()
    }

    /// Whether an answer is outstanding.
    pub(crate) fn is_waiting(&self) -> bool {
        self.thread.beside.is_waiting()
    }

    /// What the policy says, if it does by `until`.
    pub(crate) fn poll(&mut self, until: Timestamp) -> Result<Option<Reply<'_>>, Fault> {
        let PolicyThread { beside, heard, .. } = &mut *self.thread;
        match beside.poll_until(&*self.setting.clock, until).map(|job| job.accept(heard)) {
            Some(accepted) => accepted?,
            None if self.is_waiting() && self.is_overdue() => return Err(self.overdue()),
            None => return Ok(None),
        }
        self.reply()
    }

    /// Waits for what the policy says; `None` when a stop was asked for meanwhile.
    pub(crate) fn wait(&mut self, stop: &StopFlag) -> Result<Option<Reply<'_>>, Fault> {
        match self.take_answer(stop, false)? {
            Some(()) => self.reply(),
            None => Ok(None),
        }
    }

    /// The answer, or that there is none this time. That there was none for too long is a fault.
    fn reply(&mut self) -> Result<Option<Reply<'_>>, Fault> {
        if let Some(Job { answer: answer @ Some(Err(_)), .. }) = self.thread.beside.job() {
            if let Some(Err(Fault::Policy { source, .. })) = answer.take() {
                self.said = Some(source);
            }
            self.unanswered_since = self.unanswered_since.or(Some(self.asked_at));
            return if self.is_overdue() { Err(self.overdue()) } else { Ok(Some(Reply::Nothing)) };
        }
        self.unanswered_since = None;
        Ok(self.thread.beside.job().and_then(|job| job.answer.as_ref()?.as_ref().ok()).map(Reply::Answer))
    }

    /// Leaves the policy alone for a while; `false` when a stop was asked for meanwhile.
    pub(crate) fn pause(&self, ns: i64, stop: &StopFlag) -> bool {
        let since = HostTime::now();
        while !stop.is_requested() {
            let left_ns = ns - HostTime::now().nanos_since(since);
            if left_ns <= 0 {
                return true;
            }
            thread::park_timeout(LOOK.min(Duration::from_nanos(left_ns.unsigned_abs())));
        }
        false
    }

    /// Waits until the job is back. A fault in its answer is passed on unless it is of an `old` question.
    fn take_answer(&mut self, stop: &StopFlag, old: bool) -> Result<Option<()>, Fault> {
        let (since, deadline_ns) = (self.unanswered_since.unwrap_or(self.asked_at), self.deadline_ns());
        let patient = || !stop.is_requested() && HostTime::now().nanos_since(since) <= deadline_ns;
        let PolicyThread { beside, heard, .. } = &mut *self.thread;
        match beside.wait(patient).map(|job| if old { Ok(()) } else { job.accept(heard) }) {
            Some(accepted) => accepted.map(Some),
            None if stop.is_requested() => Ok(None),
            None if self.is_overdue() => Err(self.overdue()),
            None => Err(Fault::Panic { who: "policy", message: "its thread is gone".to_owned() }),
        }
    }

    /// For how long the policy owes an answer, nanoseconds.
    fn waited_ns(&self) -> i64 {
        HostTime::now().nanos_since(self.unanswered_since.unwrap_or(self.asked_at))
    }

    fn is_overdue(&self) -> bool {
        self.waited_ns() > self.deadline_ns()
    }

    fn overdue(&mut self) -> Fault {
        let (waited_s, deadline_s) = (self.waited_ns() as f64 * 1e-9, self.deadline_ns() as f64 * 1e-9);
        // What it said to a question before the last answer says nothing of this one.
        let source = self.said.take().filter(|_| self.unanswered_since.is_some());
        Fault::Unanswered { tick: self.asked_tick, waited_s, deadline_s, source }
    }
}

impl Job {
    /// Takes note of how long the answer took; its fault, if it is one. That there is none this time stays where it is.
    fn accept(&mut self, heard: &mut Heard) -> Result<(), Fault> {
        match &self.answer {
            Some(Err(Fault::Policy { source: PolicyError::Unavailable { .. }, .. })) => Ok(()),
            Some(Err(_)) => self.answer.take().and_then(Result::err).map_or(Ok(()), Err),
            Some(Ok(answer)) => {
                heard.record(answer.compute_ns);
                Ok(())
            }
            None => Ok(()),
        }
    }
}

/// Answers one question. A policy that panicked is not called again.
fn serve(policy: &mut impl Policy, job: &mut Job, nothing: &Pixels) -> ControlFlow<()> {
    let Some(setting) = job.setting.clone() else { return ControlFlow::Break(()) };
    let task = setting.operator.task_of(job.instructions);
    let task = task.as_deref().unwrap_or(&setting.task);
    let started = HostTime::now();
    let answer = catch_unwind(AssertUnwindSafe(|| {
        if job.reset {
            policy.reset(setting.seed);
        }
        match job.continuing {
            None => policy.infer(&job.observations, task),
            Some(continuing) => policy.infer_continuing(&job.observations, task, continuing),
        }
    }));
    let compute_ns = HostTime::now().nanos_since(started);
    let panicked = answer.is_err();
    let tick = job.observations.last().map_or(0, |now| now.tick);
    let chunk = match answer {
        Err(payload) => Err(Fault::panic("policy", &*payload)),
        Ok(Err(source)) => Err(Fault::Policy { tick, source }),
        Ok(Ok(chunk)) => check(chunk, tick, policy.info().chunk_size, &setting.robot),
    };
    // Who makes its images in place may write to these again.
    for image in job.observations.iter_mut().flat_map(|observation| &mut observation.images) {
        image.let_go(nothing);
    }
    let latency_ns = setting.clock.now().nanos_since(job.asked_at);
    job.answer = Some(chunk.map(|chunk| Answer { chunk, latency_ns, compute_ns }));
    if panicked { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
}

/// What the loop relies on: rows of the action's width for the tick that was asked about, all finite.
fn check(chunk: ActionChunk, tick: u64, chunk_size: usize, robot: &RobotDescription) -> Result<ActionChunk, Fault> {
    let channels = robot.action_channels();
    let width = channels.len();
    let fault = |what| Err(Fault::Answer { tick, what });
    if chunk.width() != width {
        return fault(format!("{} values a row, expected {width}", chunk.width()));
    }
    if chunk.first_tick() != tick {
        return fault(format!("rows from tick {} on, expected {tick}", chunk.first_tick()));
    }
    if chunk.is_empty() || chunk.len() > chunk_size {
        return fault(format!("{} rows, expected 1 to {chunk_size}", chunk.len()));
    }
    for (row, goals) in chunk.rows().enumerate() {
        if let Some(at) = goals.iter().position(|goal| !goal.is_finite()) {
            return fault(format!("{} for {} in row {row}, expected a finite number", goals[at], channels[at].name));
        }
    }
    Ok(chunk)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: i64 = 1_000_000;

    fn heard(answers_ms: &[i64]) -> Heard {
        let mut heard = Heard::default();
        answers_ms.iter().for_each(|ms| heard.record(ms * MS));
        heard
    }

    #[test]
    fn a_policy_counts_as_hung_by_what_is_known_of_it() {
        assert_eq!(Heard::default().deadline_ns(), 10_000 * MS);
        assert_eq!(heard(&[80; 3]).deadline_ns(), 10_000 * MS);
        assert_eq!(heard(&[80; 4]).deadline_ns(), 3_000 * MS);
        // A slow one, slow from the first.
        assert_eq!(heard(&[4_000]).deadline_ns(), 40_000 * MS);
        // A spike is remembered, and then forgotten.
        let mut spiked = heard(&[[80; 4], [80, 1_500, 80, 80]].concat());
        assert_eq!(spiked.deadline_ns(), 15_000 * MS);
        (0..WINDOW).for_each(|_| spiked.record(80 * MS));
        assert_eq!(spiked.deadline_ns(), 3_000 * MS);
        // The warm-up says how slow the first may be, and nothing of those after.
        let mut warm = Heard { warm_up_ns: 30_000 * MS, ..Heard::default() };
        assert_eq!(warm.deadline_ns(), 60_000 * MS);
        (0..FEW_ANSWERS).for_each(|_| warm.record(80 * MS));
        assert_eq!(warm.deadline_ns(), 3_000 * MS);
    }
}
