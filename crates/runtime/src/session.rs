//! Episodes from reset to report.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;

use sinew_core::{Clock, Environment, EpisodeEnd, EpisodeStart, Frame, FrameSink, Outcome, Robot, Teleoperator};

use crate::control::{Control, Ended, Ending, Shared};
use crate::frames::{FrameLink, FramePort, Sinks, frame_for};
use crate::hand_over::HandOver;
use crate::handoff::{Sender, ring};
use crate::inference::{Client, PolicyThread, Setting};
use crate::plan::{Plan, PolicyPlan};
use crate::supervision::Supervision;
use crate::{EpisodeOutcome, EpisodeReport, Fault, Keep, Operator, Progress, SessionConfig, StopFlag};

/// The fastest that a loop may turn.
const MAX_RATE_HZ: u64 = 1000;

/// Where actions come from.
pub enum Source<'a> {
    Policy(&'a mut PolicyThread),
    Teleoperator(&'a mut dyn Teleoperator),
    /// A policy, and a human who takes over when the [`Operator`] says so. The teleoperator is reset each
    /// time.
    Supervised(&'a mut PolicyThread, &'a mut dyn Teleoperator),
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

/// Runs episodes on one clock. Sessions share nothing, so many can run at once.
pub struct Session {
    config: SessionConfig,
    clock: Arc<dyn Clock>,
    stop: StopFlag,
    operator: Operator,
    progress: Arc<Progress>,
    /// Buffers kept from episode to episode.
    frames: Vec<Box<Frame>>,
}

/// What an episode's threads work on.
struct Scene<'a> {
    robot: &'a mut dyn Robot,
    environment: &'a mut dyn Environment,
    task: &'a str,
    max_ticks: u64,
}

impl Session {
    /// Real time comes from [`MonotonicClock`](crate::MonotonicClock); with a
    /// [`MockClock`](sinew_core::MockClock) an episode runs as fast as the machine can and repeatably.
    pub fn new(config: SessionConfig, clock: Arc<dyn Clock>, stop: StopFlag) -> Self {
        Self { config, clock, stop, operator: Operator::new(), progress: Arc::default(), frames: Vec::new() }
    }

    /// For the one who draws a live line.
    pub fn progress(&self) -> Arc<Progress> {
        self.progress.clone()
    }

    /// How further episodes are run.
    pub fn config_mut(&mut self) -> &mut SessionConfig {
        &mut self.config
    }

    /// For those who hear what a human wants.
    pub fn operator(&self) -> Operator {
        self.operator.clone()
    }

    /// Runs one episode: resets the scene, begins the sinks, runs until the scene is decided, the
    /// time limit, a stop or a fault, ends in the robot's safe action, ends the sinks. The sinks are
    /// driven on the calling thread; control and inference have threads of their own. A policy that
    /// doesn't come back from a call is not waited for.
    pub fn run_episode(
        &mut self,
        request: &EpisodeRequest,
        robot: &mut dyn Robot,
        environment: &mut dyn Environment,
        source: Source<'_>,
        sinks: &mut [&mut dyn FrameSink],
    ) -> EpisodeReport {
        if self.stop.is_requested() {
            return self.report(request, String::new(), Ended::early(Ending::Interrupted), false);
        }
        let setup = match environment.reset(request.seed) {
            Ok(setup) => setup,
            Err(source) => return self.report(request, String::new(), Ended::early(Ending::Fault(Fault::Reset(source))), false),
        };
        let task = request.task.clone().unwrap_or(setup.task);
        self.progress.begin(request.attempt, setup.max_ticks);
        // What was asked of the episode before is not asked of this one.
        self.operator.take_end();

        let start = EpisodeStart { attempt: request.attempt, seed: request.seed, task: task.clone() };
        let watched = !sinks.is_empty();
        let mut sinks = Sinks::begin(sinks, &start);
        let mut ended = if sinks.fault.is_some() {
            Ended::early(Ending::SinksFailed)
        } else {
            let scene = Scene { robot, environment, task: &task, max_ticks: setup.max_ticks };
            self.run_threads(scene, source, watched.then_some(&mut sinks))
        };
        self.progress.armed.store(false, Relaxed);

        if let Some(fault) = sinks.fault.take() {
            // What failed first is the cause, and a sink that fails ends an episode that hasn't.
            ended.ending = match ended.ending {
                Ending::Fault(cause) => {
                    ended.tally.faults.insert(0, fault);
                    Ending::Fault(cause)
                }
                _ => Ending::Fault(fault),
            };
        }
        let (outcome, keep) = match &ended.ending {
            Ending::Success => (Outcome::Success, true),
            Ending::Failure(reason) => (Outcome::Failure(reason.clone()), self.config.keep != Keep::Successes),
            Ending::Ended { keep } => (Outcome::Running, *keep),
            Ending::Interrupted => (Outcome::Running, self.config.keep == Keep::Everything),
            Ending::Fault(fault) => (Outcome::Failure(fault.chain()), sinks.is_whole && self.config.keep != Keep::Successes),
            Ending::SinksFailed => (Outcome::Running, false),
        };
        let keep = keep && sinks.taken > 0;
        let end = EpisodeEnd { outcome, keep, lost_frames: ended.tally.frames_lost };
        let whole = ended.tally.faults.len();
        sinks.end(&end, &mut ended.tally.faults);
        let kept = watched && keep && ended.tally.faults.len() == whole;
        self.report(request, task, ended, kept)
    }

    fn run_threads(&mut self, scene: Scene<'_>, source: Source<'_>, mut sinks: Option<&mut Sinks<'_, '_>>) -> Ended {
        let Scene { robot, environment, task, max_ticks } = scene;
        let description = robot.description().clone();
        let rate_hz = description.control_rate_hz.max(1);
        let turns_hz = u64::from(rate_hz) * u64::from(self.config.control_multiplier.max(1));
        if turns_hz > MAX_RATE_HZ {
            return Ended::early(Ending::Fault(Fault::Rate { rate_hz: turns_hz }));
        }
        let clock = &*self.clock;
        let shared = Shared {
            config: &self.config,
            clock,
            stop: &self.stop,
            operator: &self.operator,
            progress: &self.progress,
            period_ns: 1_000_000_000 / i64::from(rate_hz),
        };
        let sinks_failed = AtomicBool::new(false);

        let spare = if sinks.is_some() { self.config.frame_buffer.max(2) - 1 } else { 0 };
        let mut frames = std::mem::take(&mut self.frames);
        let template = frame_for(&description);
        // A robot that brings images of its own leaves those; nobody is to free them meanwhile.
        let _blank = template.observation.images.clone();
        frames.retain(|frame| same_shape(frame, &template));
        frames.resize(spare, template.clone());

        let setting = Arc::new(Setting {
            task: task.to_owned(),
            operator: self.operator.clone(),
            robot: description.clone(),
            clock: self.clock.clone(),
        });
        thread::scope(|scope| {
            let (filling, mut filled) = ring(spare + 1);
            let (mut freeing, free) = ring(spare + 1);
            for frame in frames {
                // The ring has room for all; were it full, the frame would be freed.
                let _ = freeing.push(frame);
            }
            let link = sinks.is_some().then(|| FrameLink { filled: Sender::new(filling, thread::current()), free });
            let port = FramePort { current: template, link, lossless: !clock.runs_by_itself(), sinks_failed: &sinks_failed, lost: 0 };
            let description = &description;
            let control = move || {
                let width = description.joints.len();
                let supervise = |policy, human| {
                    let client = Client::new(policy, setting, shared.config.answer_deadline_s);
                    Plan::Policy(Supervision::new(PolicyPlan::new(shared, client, width), human, shared.operator, &shared, width))
                };
                let plan = match source {
                    Source::Teleoperator(teleoperator) => {
                        Plan::Teleoperator(teleoperator, HandOver::new(&shared, width), shared.config.start_within_rad)
                    }
                    Source::Policy(policy) => supervise(policy, None),
                    Source::Supervised(policy, human) => supervise(policy, Some(human)),
                };
                Control::new(shared, description, max_ticks, plan, port).run(robot, environment)
            };
            let control = match thread::Builder::new().name("control".into()).spawn_scoped(scope, control) {
                Ok(control) => control,
                Err(source) => return Ended::early(Ending::Fault(Fault::Thread { who: "control", source })),
            };
            if let Some(sinks) = &mut sinks {
                sinks.drain(&mut filled, &mut Sender::new(freeing, control.thread().clone()), &sinks_failed);
            }
            match control.join() {
                Ok((ended, frames)) => {
                    self.frames = frames;
                    ended
                }
                Err(payload) => Ended::early(Ending::Fault(Fault::panic("control", &*payload))),
            }
        })
    }

    fn report(&self, request: &EpisodeRequest, task: String, ended: Ended, kept: bool) -> EpisodeReport {
        let Ended { ending, mut tally } = ended;
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
            outcome,
            reason,
            faults: tally.faults,
            kept,
            ticks: tally.cadence.ticks,
            missed_ticks: tally.missed_ticks,
            failed_ticks: tally.failed_ticks,
            starved_ticks: tally.starved_ticks,
            late_rows: tally.late_rows,
            interventions: tally.interventions,
            frames_lost: tally.frames_lost,
            realtime: tally.realtime,
            cadence: tally.cadence,
            inference: tally.inference,
            action_hash: tally.action_hash,
            state_hash: tally.state_hash,
        }
    }
}

fn same_shape(a: &Frame, b: &Frame) -> bool {
    a.wanted_rad.len() == b.wanted_rad.len()
        && a.observation.images.iter().map(|image| (image.width, image.height)).eq(b
            .observation
            .images
            .iter()
            .map(|image| (image.width, image.height)))
}
