//! Episodes from reset to report.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;

use sinew_core::{Cameras, Clock, Environment, EpisodeSetup, EpisodeStart, Frame, FrameSink, Lease, Outcome, Pixels, Robot, Unwatched};

use crate::acting::Acting;
use crate::asking::Asking;
use crate::control::{Body, Control, Counted, Ended, Ending, Shared, Tally, positions_of};
use crate::frames::{FramePort, frames_like};
use crate::inference::{Client, PolicyThread, Setting};
use crate::judge::Judge;
use crate::ring::Receiver;
use crate::sinks::Sinks;
use crate::teleop::TeleopThread;
use crate::{EpisodeOutcome, EpisodeReport, Fault, Keep, Operator, Progress, SessionConfig, StopFlag};

/// The fastest that a loop may turn.
const MAX_RATE_HZ: u64 = 1000;

/// Where actions come from.
pub enum Source<'a> {
    Policy(&'a mut PolicyThread),
    Teleoperator(&'a mut TeleopThread),
    /// A policy, and a human who takes over when the [`Operator`] says so. The teleoperator is reset each
    /// time.
    Supervised(&'a mut PolicyThread, &'a mut TeleopThread),
}

/// Which episode to run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EpisodeRequest {
    /// Counts the session's attempts from 0.
    pub attempt: u64,
    pub seed: u64,
    /// The instruction sentence, where another than the scene's own is wanted.
    pub task: Option<String>,
}

/// What an episode is run on.
pub struct Rig<'a> {
    pub robot: &'a mut dyn Robot,
    pub cameras: &'a mut dyn Cameras,
    pub environment: &'a mut dyn Environment,
}

/// Runs episodes on one clock. Sessions share nothing, so many can run at once.
pub struct Session {
    config: SessionConfig,
    clock: Arc<dyn Clock>,
    stop: StopFlag,
    lease: Arc<dyn Lease>,
    operator: Operator,
    progress: Arc<Progress>,
    /// Buffers kept from episode to episode.
    frames: Vec<Box<Frame>>,
}

/// What an episode's threads work on.
struct Scene<'a> {
    rig: Rig<'a>,
    seed: u64,
    task: &'a str,
    setup: &'a EpisodeSetup,
}

impl Session {
    /// Real time comes from [`MonotonicClock`](crate::MonotonicClock); with a
    /// [`MockClock`](sinew_core::MockClock) an episode runs as fast as the machine can and repeatably.
    pub fn new(config: SessionConfig, clock: Arc<dyn Clock>, stop: StopFlag) -> Self {
        Self { config, clock, stop, lease: Arc::new(Unwatched), operator: Operator::new(), progress: Arc::default(), frames: Vec::new() }
    }

    /// A watchdog stands by, and the robot is written to only while it confirms the lease.
    #[must_use]
    pub fn watched_by(mut self, lease: Arc<dyn Lease>) -> Self {
        self.lease = lease;
        self
    }

    /// For the one who draws a live line.
    pub fn progress(&self) -> Arc<Progress> {
        self.progress.clone()
    }

    /// How further episodes are run.
    pub fn config_mut(&mut self) -> &mut SessionConfig {
        &mut self.config
    }

    pub fn stop(&self) -> &StopFlag {
        &self.stop
    }

    /// For those who hear what a human wants.
    pub fn operator(&self) -> Operator {
        self.operator.clone()
    }

    /// Runs one episode: resets the scene, begins the sinks, runs until the scene is decided, the
    /// time limit, a stop or a fault, ends in the robot's safe action, ends the sinks. Control, inference, the
    /// teleoperator, the judge and each sink have threads of their own. Sinks and judge are waited for: nothing is
    /// armed before the sinks have begun, and this returns when all have ended. A policy or a teleoperator that
    /// doesn't come back from a call is not waited for.
    pub fn run_episode(
        &mut self,
        request: &EpisodeRequest,
        rig: Rig<'_>,
        source: Source<'_>,
        sinks: &mut [&mut dyn FrameSink],
    ) -> EpisodeReport {
        self.run_beside(request, rig, source, sinks, None)
    }

    /// The same; with `have_begun` nobody waits until the sinks have begun, which may have to commit another episode first:
    /// what they can't take yet stands in their rings. It is called once they have, unless the episode ends before.
    pub(crate) fn run_beside(
        &mut self,
        request: &EpisodeRequest,
        rig: Rig<'_>,
        source: Source<'_>,
        sinks: &mut [&mut dyn FrameSink],
        have_begun: Option<&mut dyn FnMut()>,
    ) -> EpisodeReport {
        if self.stop.is_requested() {
            return self.report(request, String::new(), Ended::early(Ending::Interrupted), false);
        }
        let Rig { robot, cameras, environment } = rig;
        let setup = match environment.reset(request.seed) {
            Ok(setup) => setup,
            Err(source) => return self.report(request, String::new(), Ended::early(Ending::Fault(Fault::Reset(source))), false),
        };
        let task = request.task.clone().unwrap_or_else(|| setup.task.clone());
        self.progress.begin(request.attempt, setup.max_ticks);
        // What was asked of the episode before is not asked of this one.
        self.operator.take_end();

        let start = EpisodeStart { attempt: request.attempt, seed: request.seed, task: task.clone() };
        thread::scope(|scope| {
            let mut sinks = Sinks::begin(scope, sinks, &start);
            if have_begun.is_none() {
                sinks.have_begun();
            }
            let (mut ended, free) = if sinks.have_failed() {
                (Ended::early(Ending::SinksFailed), Vec::new())
            } else {
                let rig = Rig { robot, cameras, environment: &mut *environment };
                let (mut ended, free) =
                    self.run_control(Scene { rig, seed: request.seed, task: &task, setup: &setup }, source, &mut sinks, have_begun);
                ended.tally.state_hash = environment.state_hash();
                (ended, free)
            };
            self.progress.armed.store(false, Relaxed);

            let mut faults = sinks.settle();
            let is_whole = faults.is_empty();
            // What failed first is the cause, and a sink that fails ends an episode that hasn't.
            if !is_whole && !matches!(ended.ending, Ending::Fault(_)) {
                ended.ending = Ending::Fault(faults.remove(0));
            }
            ended.tally.faults.splice(0..0, faults);
            let (outcome, keep) = self.judge(&ended.ending, is_whole);
            let keep = keep && sinks.have_frames();
            let faults = sinks.end(&outcome, keep);
            let kept = keep && sinks.is_recorded() && faults.is_empty();
            ended.tally.faults.extend(faults);
            self.frames = free.into_iter().flat_map(|mut free| std::iter::from_fn(move || free.try_recv())).collect();
            let keeps = sinks.is_recorded() && is_whole;
            let earlier = self.earlier(request, &task, &mut ended.tally, keeps);
            let task = self.operator.task_of(ended.tally.instructions).unwrap_or(task);
            let report = self.report(request, task, ended, kept);
            EpisodeReport { earlier, lost: sinks.lost(), detached: sinks.detached(), ..report }
        })
    }

    /// What the sinks are told of an ending, and whether to keep the episode.
    fn judge(&self, ending: &Ending, is_whole: bool) -> (Outcome, bool) {
        match ending {
            Ending::Success => (Outcome::Success, true),
            Ending::Failure(reason) => (Outcome::Failure(reason.clone()), self.config.keep != Keep::Successes),
            Ending::Ended { keep } => (Outcome::Running, *keep),
            Ending::Interrupted => (Outcome::Running, self.config.keep == Keep::Everything),
            Ending::Fault(fault) => (Outcome::Failure(fault.chain()), is_whole && self.config.keep != Keep::Successes),
            Ending::SinksFailed => (Outcome::Running, false),
        }
    }

    /// The control thread from beginning to end. Gives back where the frames arrive that the sinks have done with.
    fn run_control(
        &mut self,
        scene: Scene<'_>,
        source: Source<'_>,
        sinks: &mut Sinks,
        have_begun: Option<&mut dyn FnMut()>,
    ) -> (Ended, Vec<Receiver<Box<Frame>>>) {
        let Scene { rig: Rig { robot, cameras, environment }, seed, task, setup } = scene;
        let early = |fault| (Ended::early(Ending::Fault(fault)), Vec::new());
        let description = robot.description().clone();
        let rate_hz = description.control_rate_hz.max(1);
        let turns_hz = u64::from(rate_hz) * u64::from(self.config.control_multiplier.max(1));
        if turns_hz > MAX_RATE_HZ {
            return early(Fault::Rate { rate_hz: turns_hz });
        }
        let clock = &*self.clock;
        let shared = Shared {
            config: &self.config,
            clock,
            lease: &*self.lease,
            stop: &self.stop,
            operator: &self.operator,
            progress: &self.progress,
            period_ns: 1_000_000_000 / i64::from(rate_hz),
        };

        let template = Box::new(Frame::for_robot(&description));
        // Cameras that bring images of their own leave those, and the first copy to a frame what is in it; nobody is to
        // free them meanwhile.
        let (_blank, nothing) = (template.observation.images.clone(), Pixels::default());
        let count = self.config.frame_buffer.max(2) * sinks.takers();
        let frames = frames_like(&template, count, std::mem::take(&mut self.frames), &nothing);
        let lossless = !clock.runs_by_itself();
        let (feeds, sinks_ends) = sinks.rings(frames);
        let port = FramePort { current: template, feeds, lossless };

        let setting = Arc::new(Setting {
            seed,
            task: task.to_owned(),
            operator: self.operator.clone(),
            robot: description.clone(),
            clock: self.clock.clone(),
        });
        thread::scope(|scope| {
            let mut judge = match Judge::start(scope, environment) {
                Ok(judge) => judge,
                Err(source) => return early(Fault::Thread { who: "judge", source }),
            };
            let description = &description;
            let control = move || {
                let positions = positions_of(description);
                let width = positions.len();
                let asking = |policy| Asking::new(shared, Client::new(policy, setting, shared.config.answer_deadline_s), width);
                let (policy, human) = match source {
                    Source::Teleoperator(human) => (None, Some(human)),
                    Source::Policy(policy) => (Some(asking(policy)), None),
                    Source::Supervised(policy, human) => (Some(asking(policy)), Some(human)),
                };
                let acting = Acting::new(policy, human, &shared, positions);
                let (ended, frames) = Control::new(shared, description, setup, acting, port).run(Body { robot, cameras }, &mut judge);
                (ended, frames.close())
            };
            let control = match thread::Builder::new().name("control".into()).spawn_scoped(scope, control) {
                Ok(control) => control,
                Err(source) => return early(Fault::Thread { who: "control", source }),
            };
            sinks.have_begun();
            sinks.feed(sinks_ends, control.thread(), lossless);
            if let Some(tell) = have_begun {
                tell();
            }
            control.join().unwrap_or_else(|payload| early(Fault::panic("control", &*payload)))
        })
    }

    /// The episodes that ended because the policy was given another instruction. What was counted under the last one, and
    /// before it under the same words, stays in `tally`.
    fn earlier(&self, request: &EpisodeRequest, task: &str, tally: &mut Tally, kept: bool) -> Vec<EpisodeReport> {
        let mut parts: Vec<(String, Counted)> = Vec::new();
        for (instructions, counted) in std::mem::take(&mut tally.before).into_iter().chain([(tally.instructions, tally.counted)]) {
            let task = self.operator.task_of(instructions).unwrap_or_else(|| task.to_owned());
            match parts.last_mut().filter(|(last, _)| *last == task) {
                Some((_, sum)) => *sum += counted,
                None => parts.push((task, counted)),
            }
        }
        tally.counted = parts.pop().map(|(_, counted)| counted).unwrap_or_default();
        let report = |(task, counted)| {
            let ended = Ended { ending: Ending::Ended { keep: true }, tally: Tally { counted, ..Tally::default() } };
            self.report(request, task, ended, kept)
        };
        parts.into_iter().map(report).collect()
    }

    fn report(&self, request: &EpisodeRequest, task: String, ended: Ended, kept: bool) -> EpisodeReport {
        let Ended { ending, mut tally } = ended;
        let Counted { ticks, missed_ticks, failed_ticks, waiting_ticks, starved_ticks, interventions } = tally.counted;
        let (outcome, reason) = match ending {
            Ending::Success => (EpisodeOutcome::Success, None),
            Ending::Failure(reason) => (EpisodeOutcome::Failure, Some(reason)),
            Ending::Interrupted => (EpisodeOutcome::Interrupted, None),
            Ending::Ended { keep: true } => (EpisodeOutcome::Ended, None),
            Ending::Ended { keep: false } => (EpisodeOutcome::Dropped, None),
            Ending::SinksFailed => (EpisodeOutcome::Fault, None),
            Ending::Fault(fault) => {
                let reason = fault.chain();
                tally.faults.insert(0, fault);
                (EpisodeOutcome::Fault, Some(reason))
            }
        };
        EpisodeReport {
            attempt: request.attempt,
            seed: request.seed,
            task,
            earlier: Vec::new(),
            outcome,
            reason,
            faults: tally.faults,
            kept,
            ticks,
            missed_ticks,
            failed_ticks,
            waiting_ticks,
            starved_ticks,
            late_rows: tally.late_rows,
            interventions,
            frames_lost: tally.frames_lost,
            lost: Vec::new(),
            detached: Vec::new(),
            realtime: tally.realtime,
            cadence: tally.cadence,
            inference: tally.inference,
            action_hash: tally.action_hash,
            state_hash: tally.state_hash,
        }
    }
}
