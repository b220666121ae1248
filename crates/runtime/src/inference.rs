//! The policy on a thread of its own, and the control thread's way to ask it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread::{self, Thread};

use sinew_core::{ActionChunk, Clock, Observation, Policy, RobotDescription, Timestamp};

use crate::handoff::{Receiver, Sender};
use crate::{Fault, MonotonicClock, StopFlag};

/// A question and, on its way back, its answer. There is one, and it goes to and fro; what an old
/// answer holds is freed by the policy's thread.
pub(crate) struct Job {
    asker: Thread,
    /// As many as the policy looks at, oldest first.
    observations: Vec<Observation>,
    asked_at: Timestamp,
    warm_up: bool,
    answer: Option<Result<Answer, Fault>>,
}

pub(crate) struct Answer {
    pub(crate) chunk: ActionChunk,
    /// From question to answer on the session's clock.
    pub(crate) latency_ns: i64,
    /// What the policy took by the system's clock.
    pub(crate) compute_ns: i64,
}

/// The control thread's end.
pub(crate) struct Client {
    questions: Sender<Box<Job>>,
    answers: Receiver<Box<Job>>,
    /// `None` while the policy has it.
    job: Option<Box<Job>>,
    /// What was observed before now, oldest first; only the last `seen` of them are of this episode.
    past: Vec<Observation>,
    seen: usize,
}

impl Client {
    /// To be called on the control thread, which answers will wake.
    pub(crate) fn new(questions: Sender<Box<Job>>, answers: Receiver<Box<Job>>, robot: &RobotDescription, n_obs_steps: usize) -> Self {
        let observations = vec![Observation::for_robot(robot); n_obs_steps.max(1)];
        let past = observations[1..].to_vec();
        let job = Job { asker: thread::current(), observations, asked_at: Timestamp::ZERO, warm_up: false, answer: None };
        Self { questions, answers, job: Some(Box::new(job)), past, seen: 0 }
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

    /// Asks without waiting; `false` while an answer is outstanding.
    pub(crate) fn ask(&mut self, observation: &Observation, now: Timestamp, warm_up: bool) -> bool {
        let Some(mut job) = self.job.take() else { return false };
        let Some((last, before)) = job.observations.split_last_mut() else { return false };
        last.copy_from(observation);
        // Until so much has been seen, the first observation stands for those before it.
        let first = self.past.len() - self.seen;
        for (i, slot) in before.iter_mut().enumerate() {
            slot.copy_from(self.past.get(i.max(first)).unwrap_or(observation));
        }
        job.asked_at = now;
        job.warm_up = warm_up;
        self.job = self.questions.try_send(job).err();
        self.job.is_none()
    }

    /// The answer, if it is there.
    pub(crate) fn poll(&mut self) -> Result<Option<&Answer>, Fault> {
        match self.answers.try_recv() {
            Some(job) => self.accept(job),
            None => Ok(None),
        }
    }

    /// Waits for the answer; `None` when a stop was asked for meanwhile.
    pub(crate) fn wait(&mut self, stop: &StopFlag) -> Result<Option<&Answer>, Fault> {
        match self.answers.recv_while(|| !stop.is_requested()) {
            Some(job) => self.accept(job),
            None if stop.is_requested() => Ok(None),
            None => Err(Fault::Panic { who: "policy", message: "its thread is gone".to_owned() }),
        }
    }

    fn accept(&mut self, mut job: Box<Job>) -> Result<Option<&Answer>, Fault> {
        if let Some(Err(_)) = &job.answer
            && let Some(Err(fault)) = job.answer.take()
        {
            return Err(fault);
        }
        let job = self.job.insert(job);
        Ok(job.answer.as_ref().and_then(|answer| answer.as_ref().ok()))
    }
}

/// The policy thread's life: answers until nobody can ask any more, or until it fails.
pub(crate) fn serve(policy: &mut dyn Policy, task: &str, robot: &RobotDescription, clock: &dyn Clock, mut ring: Service) {
    let host = MonotonicClock::new();
    let mut broken = guarded(|| policy.reset()).err();
    while let Some(mut job) = ring.questions.recv() {
        let started = host.now();
        let chunk = match broken.take() {
            Some(fault) => Err(fault),
            None => guarded(|| policy.infer(&job.observations, task)).and_then(|answer| {
                let tick = job.observations.last().map_or(0, |now| now.tick);
                let chunk = answer.map_err(|source| Fault::Policy { tick, source })?;
                check(&chunk, tick, policy.info().chunk_size, robot)?;
                Ok(chunk)
            }),
        };
        let compute_ns = host.now().nanos_since(started);
        let failed = chunk.is_err();
        if job.warm_up && !failed {
            broken = guarded(|| policy.reset()).err();
        }
        let latency_ns = clock.now().nanos_since(job.asked_at);
        job.answer = Some(chunk.map(|chunk| Answer { chunk, latency_ns, compute_ns }));
        let asker = job.asker.clone();
        let nobody_listens = ring.answers.push(job).is_err();
        asker.unpark();
        if nobody_listens || failed {
            return;
        }
    }
}

/// The policy thread's ends of the rings.
pub(crate) struct Service {
    pub(crate) questions: Receiver<Box<Job>>,
    pub(crate) answers: rtrb::Producer<Box<Job>>,
}

fn guarded<T>(call: impl FnOnce() -> T) -> Result<T, Fault> {
    // A policy that panicked is not called again.
    catch_unwind(AssertUnwindSafe(call)).map_err(|payload| Fault::panic("policy", &*payload))
}

/// What the loop relies on: rows of the robot's width for the tick that was asked about, all finite.
fn check(chunk: &ActionChunk, tick: u64, chunk_size: usize, robot: &RobotDescription) -> Result<(), Fault> {
    let width = robot.joints.len();
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
        if let Some(joint) = goals.iter().position(|goal| !goal.is_finite()) {
            return fault(format!("{} for joint {} in row {row}, expected a finite number", goals[joint], robot.joints[joint].name));
        }
    }
    Ok(())
}
