//! A teleoperator on a thread of its own, and the control thread's way to its newest action.

use std::io;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use sinew_core::{
    Clock, Observation, Pixels, Retarget, RobotDescription, TeleopStatus, Teleoperator, TeleoperatorError, Tick, Timestamp, Wanted,
};

use crate::beside::Beside;
use crate::{Fault, Realtime, RealtimeRequest};

/// An action older than this, and than three turns, is not what its teleoperator wants now; what is recorded meanwhile is marked.
const STALE: Duration = Duration::from_millis(100);
const STALE_TURNS: u32 = 3;
/// An action older than this is no action: the robot comes to rest.
const SILENT: Duration = Duration::from_millis(500);
/// A teleoperator that says nothing for so long ends the episode, where nobody says otherwise.
const LOST: Duration = Duration::from_secs(3);

/// A question and, on its way back, its answer.
struct Job {
    tick: Tick,
    /// Begin anew first.
    reset: bool,
    /// Somebody else acts: there is no action.
    follows: bool,
    observation: Observation,
    sent: Vec<f64>,
    wanted: Wanted,
    answer: Result<TeleopStatus, TeleoperatorError>,
    panic: Option<Fault>,
}

/// A teleoperator that has moved to a thread of its own, which it keeps from episode to episode. One that
/// never comes back from a call keeps its thread until the process ends, and nothing else.
pub struct TeleopThread {
    beside: Beside<Job>,
    /// What it wanted last. `None` before the first time since it took over.
    newest: Option<TeleopStatus>,
    wanted: Wanted,
    /// When it said something new last, or took over.
    heard_at: Option<Timestamp>,
    /// What it answered last is of the time before it took over.
    is_stale: bool,
    resets: bool,
    lost_after: Duration,
    /// Why it had nothing to say, the last time.
    trouble: Option<TeleoperatorError>,
}

/// What a teleoperator has for a turn.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Heard {
    Active,
    Done,
    /// What it wanted last, which is not new any more.
    Stale,
    /// Nothing that moves the robot: none yet since it took over, or that the robot is to stay.
    Nothing,
    /// Nothing new for too long, or it says itself that nobody leads.
    Silent,
}

impl TeleopThread {
    /// `retarget` makes commands for `robot` of what the teleoperator says.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn spawn(teleoperator: Box<dyn Teleoperator>, retarget: impl Retarget + 'static, robot: &RobotDescription) -> io::Result<Self> {
        Self::spawn_first(teleoperator, retarget, robot, None)
    }

    /// The same, for a teleoperator that is a device with a clock of its own: its thread asks for SCHED_FIFO at `priority`,
    /// below which the control thread should not be. What is refused is logged.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn spawn_first(
        mut teleoperator: Box<dyn Teleoperator>,
        mut retarget: impl Retarget + 'static,
        robot: &RobotDescription,
        priority: Option<u8>,
    ) -> io::Result<Self> {
        let mut request = priority.map(|priority| RealtimeRequest { priority: Some(priority), ..RealtimeRequest::default() });
        let mut action = vec![0.0; retarget.action_width()];
        // Kept here, so that whoever asks next is not the last to have it, and frees nothing.
        let nothing = Pixels::default();
        let mut observation = Observation::for_robot(robot);
        observation.images.iter_mut().for_each(|image| image.let_go(&nothing));
        let job = Job {
            tick: Tick { turn: 0, due: Timestamp::ZERO, period: Duration::ZERO, wants_images: false },
            reset: false,
            follows: false,
            observation,
            sent: vec![0.0; robot.action_channels().len()],
            wanted: Wanted::for_robot(robot),
            answer: Ok(TeleopStatus::Active),
            panic: None,
        };
        let beside = Beside::spawn("teleoperator", job, move |job| {
            if let Some(request) = request.take() {
                Realtime::ask_for("teleoperator", &request);
            }
            let answered = catch_unwind(AssertUnwindSafe(|| {
                if job.follows {
                    teleoperator.follow(&job.tick, &job.observation, &job.sent);
                    return Ok(TeleopStatus::Active);
                }
                if job.reset {
                    teleoperator.reset(&job.observation)?;
                    retarget.reset();
                    job.reset = false;
                } else {
                    teleoperator.feel(&job.sent);
                }
                let status = teleoperator.action(&job.tick, &job.observation, &mut action)?;
                retarget.retarget(&action, &job.observation, &mut job.wanted)?;
                Ok(status)
            }));
            // Who makes its images in place may write to these again.
            job.observation.images.iter_mut().for_each(|image| image.let_go(&nothing));
            match answered {
                Ok(answer) => {
                    job.answer = answer;
                    ControlFlow::Continue(())
                }
                Err(payload) => {
                    job.panic = Some(Fault::panic("teleoperator", &*payload));
                    ControlFlow::Break(())
                }
            }
        })?;
        Ok(Self {
            beside,
            newest: None,
            wanted: Wanted::for_robot(robot),
            heard_at: None,
            is_stale: false,
            resets: true,
            lost_after: LOST,
            trouble: None,
        })
    }

    /// The episode ends when it has said nothing for `lost_after`; meanwhile the robot is at rest.
    #[must_use]
    pub fn patient(self, lost_after: Duration) -> Self {
        Self { lost_after, ..self }
    }

    /// It takes over: what it said before is forgotten.
    pub(crate) fn begin(&mut self) {
        (self.newest, self.heard_at, self.resets) = (None, None, true);
        self.is_stale = self.beside.is_waiting();
    }

    /// Asks for the next action, unless it still works on the one before.
    pub(crate) fn ask(&mut self, tick: &Tick, clock: &dyn Clock, observation: &Observation, sent: &[f64]) -> Result<(), Fault> {
        // What it has said since the last turn is taken first, or it would be asked at every other one.
        if clock.runs_by_itself() {
            self.listen(observation.tick, clock.now(), false)?;
        }
        let resets = self.resets;
        if let Some(job) = self.fill(tick, observation, sent) {
            (job.reset, job.follows) = (resets, false);
            self.resets = false;
            self.beside.ask();
        }
        Ok(())
    }

    /// Somebody else acts: it follows the robot, if it can, unless it is still busy with that.
    pub(crate) fn follow(&mut self, tick: &Tick, clock: &dyn Clock, observation: &Observation, sent: &[f64]) -> Result<(), Fault> {
        self.hear_follower(false)?;
        if let Some(job) = self.fill(tick, observation, sent) {
            (job.reset, job.follows) = (false, true);
            self.beside.ask();
        }
        // Where waiting costs no time, who takes over next never finds it busy.
        if clock.runs_by_itself() { Ok(()) } else { self.hear_follower(true) }
    }

    /// What it said while somebody else acts is no action.
    fn hear_follower(&mut self, waits: bool) -> Result<(), Fault> {
        let job = if waits { self.beside.wait(|| true) } else { self.beside.poll() };
        job.and_then(|job| job.panic.take()).map_or(Ok(()), Err)
    }

    /// The question, while it is not worked on.
    fn fill(&mut self, tick: &Tick, observation: &Observation, sent: &[f64]) -> Option<&mut Job> {
        let job = self.beside.job()?;
        job.tick = *tick;
        job.observation.copy_from(observation);
        job.sent.copy_from_slice(sent);
        Some(job)
    }

    /// Takes what it has said, or waits until it says something; whether it is gone instead.
    fn listen(&mut self, tick: u64, now: Timestamp, waits: bool) -> Result<bool, Fault> {
        let was_waiting = self.beside.is_waiting();
        let Some(job) = (if waits { self.beside.wait(|| true) } else { self.beside.poll() }) else { return Ok(waits && was_waiting) };
        if let Some(fault) = job.panic.take() {
            return Err(fault);
        }
        let is_stale = std::mem::take(&mut self.is_stale);
        // One that could not begin anew is told so once more.
        self.resets |= job.reset && !is_stale;
        match std::mem::replace(&mut job.answer, Ok(TeleopStatus::Active)) {
            _ if is_stale => {}
            Ok(status) => {
                self.wanted.goals.copy_from_slice(&job.wanted.goals);
                self.wanted.impedance.clone_from(&job.wanted.impedance);
                self.wanted.time = now;
                (self.newest, self.trouble) = (Some(status), None);
                if !matches!(status, TeleopStatus::Stale | TeleopStatus::Absent) {
                    self.heard_at = Some(now);
                }
            }
            Err(trouble @ TeleoperatorError::Transient { .. }) => self.trouble = Some(trouble),
            Err(source) => return Err(Fault::Teleoperator { tick, source }),
        }
        Ok(false)
    }

    /// Whether it has said anything since it took over; its action goes to `wanted`.
    pub(crate) fn has_spoken(&mut self, clock: &dyn Clock, wanted: &mut Wanted) -> Result<bool, Fault> {
        self.newest(0, 0.0, clock, wanted)?;
        Ok(self.newest.is_some())
    }

    /// Its newest action, in `wanted`, in a turn of `turn_s`. On a clock that doesn't run by itself it is waited for.
    pub(crate) fn newest(&mut self, tick: u64, turn_s: f64, clock: &dyn Clock, wanted: &mut Wanted) -> Result<Heard, Fault> {
        let now = clock.now();
        let is_gone = self.listen(tick, now, !clock.runs_by_itself())?;
        let silent_ns = now.nanos_since(*self.heard_at.get_or_insert(now));
        if silent_ns > self.lost_after.as_nanos() as i64 || is_gone {
            return Err(Fault::Silent { tick, silent_s: silent_ns as f64 * 1e-9, source: self.trouble.clone() });
        }
        wanted.goals.copy_from_slice(&self.wanted.goals);
        wanted.impedance.clone_from(&self.wanted.impedance);
        wanted.time = self.wanted.time;
        let fresh_ns = (STALE.as_nanos() as f64).max(f64::from(STALE_TURNS) * turn_s * 1e9);
        Ok(match self.newest {
            _ if silent_ns > SILENT.as_nanos() as i64 => Heard::Silent,
            None | Some(TeleopStatus::Holding) => Heard::Nothing,
            Some(TeleopStatus::Absent) => Heard::Silent,
            Some(TeleopStatus::Stale) => Heard::Stale,
            Some(_) if silent_ns as f64 > fresh_ns => Heard::Stale,
            Some(TeleopStatus::Active) => Heard::Active,
            Some(TeleopStatus::Done) => Heard::Done,
        })
    }
}
