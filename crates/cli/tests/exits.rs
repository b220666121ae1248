//! Every way out, at every phase of a tick, whoever acts: the simulated arm, which gravity pulls at, ends
//! in its declared safe action once, and neither darts nor drops.

#![allow(clippy::unwrap_used, clippy::panic, reason = "what fails here fails the test")]

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use sinew_core::{
    ActionChunk, Actor, Brief, CameraError, Cameras, Continuation, Door, EpisodeEnd, EpisodeStart, Frame, FrameSink, Identity, Image,
    MockClock, Observation, Policy, PolicyError, PolicyInfo, Robot, RobotDescription, RobotError, SafeCommand, Sent, SinkError,
    TeleopStatus, Teleoperator, TeleoperatorError, Tick, Timestamp,
};
use sinew_runtime::{
    EpisodeOutcome, EpisodeRequest, Inference, Latency, Operator, PolicyThread, ReturnToRest, Rig, Session, SessionConfig, Source,
    StopFlag, StopLevel, TeleopThread,
};
use sinew_sim::{SharedWorld, SimCameras, SimEnvironment, SimRobot, World, robots, tasks};

/// When things go wrong: the arm is then lifted and on its way.
const AT: u64 = 45;

/// What ends the episode.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Way {
    /// One signal, or two, as `StopFlag` counts them.
    Signals(u8),
    Emergency,
    /// The operator's word.
    Ended,
    /// The bus fails for good, or for longer than is borne.
    Lost,
    Silent,
    /// A camera freezes, or is gone.
    Stale,
    CameraLost,
    Panic,
    PolicyNan,
    PolicyPanic,
    SinkFails,
    SinkPanics,
}

/// Where in a tick.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Phase {
    Observe,
    Apply,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Driver {
    Policy(Inference),
    Human,
    Nobody,
    Teleoperator,
}

const WAYS: [Way; 13] = [
    Way::Signals(1),
    Way::Signals(2),
    Way::Emergency,
    Way::Ended,
    Way::Lost,
    Way::Silent,
    Way::Stale,
    Way::CameraLost,
    Way::Panic,
    Way::PolicyNan,
    Way::PolicyPanic,
    Way::SinkFails,
    Way::SinkPanics,
];

const DRIVERS: [Driver; 6] = [
    Driver::Policy(Inference::Sync),
    Driver::Policy(Inference::Async),
    Driver::Policy(Inference::Rtc),
    Driver::Human,
    Driver::Nobody,
    Driver::Teleoperator,
];

/// The goals of everybody here: a wide swing of the lifted arm.
fn swing(tick: u64, goals_rad: &mut [f64]) {
    let phase = tick as f64 / 30.0 * 2.0;
    let wanted = [0.8 * phase.sin(), -0.6 + 0.3 * phase.sin(), 0.5, 0.4, phase.sin(), 0.5];
    goals_rad.copy_from_slice(&wanted);
}

struct Swinger {
    info: PolicyInfo,
    way: Way,
}

impl Policy for Swinger {
    fn info(&self) -> &PolicyInfo {
        &self.info
    }

    fn reset(&mut self, _: u64) {}

    fn infer(&mut self, observations: &[Observation], _: &str) -> Result<ActionChunk, PolicyError> {
        let tick = observations.last().unwrap().tick;
        let mut goals = vec![0.0; 20 * 6];
        for (row, goals) in (tick..).zip(goals.chunks_mut(6)) {
            swing(row, goals);
        }
        match self.way {
            Way::PolicyNan if tick >= AT - 10 => goals[7] = f64::NAN,
            Way::PolicyPanic if tick >= AT - 10 => panic!("a bug of the policy"),
            _ => {}
        }
        Ok(ActionChunk::new(tick, 6, goals).unwrap())
    }

    fn infer_continuing(&mut self, observations: &[Observation], task: &str, _: Continuation) -> Result<ActionChunk, PolicyError> {
        self.infer(observations, task)
    }

    fn can_continue(&self) -> bool {
        true
    }
}

struct Hand;

impl Teleoperator for Hand {
    fn reset(&mut self, _: &Observation) -> Result<(), TeleoperatorError> {
        Ok(())
    }

    fn action(&mut self, tick: &Tick, _: &Observation, action: &mut [f64]) -> Result<TeleopStatus, TeleoperatorError> {
        swing(tick.turn, action);
        Ok(TeleopStatus::Active)
    }
}

/// What the arm did, measured on the true state.
#[derive(Default)]
struct Watch {
    fastest_rad_per_s: f64,
    lowest_m: f64,
    stops: u64,
    enables: u64,
}

impl Watch {
    fn look(&mut self, world: &SharedWorld) {
        let world = world.lock();
        for joint in 0..6 {
            self.fastest_rad_per_s = self.fastest_rad_per_s.max(world.velocity(joint).abs());
        }
        self.lowest_m = self.lowest_m.min(world.world_from_tool().translation.vector.z);
    }
}

/// The simulated arm, to which things happen.
struct Arm {
    inner: SimRobot,
    world: SharedWorld,
    way: Way,
    phase: Phase,
    stop: StopFlag,
    operator: Operator,
    driver: Driver,
    tick: u64,
    watch: Arc<Mutex<Watch>>,
}

fn broken(is_lost: bool) -> RobotError {
    let (doing, what) = ("talking to the arm", "no answer");
    if is_lost { RobotError::lost(doing, what) } else { RobotError::transient(doing, what) }
}

/// The cameras beside it, one of which may freeze.
struct Eyes {
    inner: SimCameras,
    way: Way,
}

impl Cameras for Eyes {
    fn newest(&mut self, tick: &Tick, images: &mut [Image]) -> Result<(), CameraError> {
        if self.way == Way::Stale && tick.turn >= AT {
            // What was there stands.
            return Ok(());
        }
        if self.way == Way::CameraLost && tick.turn >= AT {
            return Err(CameraError { camera: Brief::of("front"), what: Brief::of("unplugged") });
        }
        self.inner.newest(tick, images)
    }
}

impl Arm {
    fn happen(&self, phase: Phase) -> Result<(), RobotError> {
        if phase != self.phase || self.tick < AT {
            return Ok(());
        }
        match self.way {
            Way::Signals(count) if self.tick == AT => (0..count).for_each(|_| self.stop.escalate()),
            Way::Emergency if self.tick == AT => self.stop.emergency(),
            Way::Ended if self.tick == AT => self.operator.end_episode(true),
            Way::Lost => return Err(broken(true)),
            Way::Silent => return Err(broken(false)),
            Way::Panic if self.tick == AT => panic!("a bug of the driver"),
            _ => {}
        }
        Ok(())
    }
}

impl Robot for Arm {
    fn description(&self) -> &RobotDescription {
        self.inner.description()
    }

    fn finish_read(&mut self, tick: &Tick, deadline: Timestamp, observation: &mut Observation) -> Result<(), RobotError> {
        self.tick = tick.turn;
        match self.driver {
            Driver::Human if tick.turn == 5 => self.operator.set_actor(Actor::Human),
            Driver::Nobody if tick.turn == 30 => self.operator.set_actor(Actor::Nobody),
            _ => {}
        }
        // What fails has read nothing.
        self.happen(Phase::Observe)?;
        self.inner.finish_read(tick, deadline, observation)?;
        self.watch.lock().unwrap().look(&self.world);
        Ok(())
    }

    fn enable(&mut self, door: &Door, deadline: Timestamp) -> Result<(), RobotError> {
        self.watch.lock().unwrap().enables += 1;
        self.inner.enable(door, deadline)
    }

    fn write(&mut self, door: &Door, command: &SafeCommand, deadline: Timestamp, sent: &mut Sent) -> Result<(), RobotError> {
        self.happen(Phase::Apply)?;
        self.inner.write(door, command, deadline, sent)
    }

    fn stop(&mut self, door: &Door, deadline: Timestamp) -> Result<(), RobotError> {
        self.watch.lock().unwrap_or_else(PoisonError::into_inner).stops += 1;
        self.inner.stop(door, deadline)
    }
}

struct Sink(Way);

impl FrameSink for Sink {
    fn name(&self) -> &str {
        "recorder"
    }

    fn begin(&mut self, _: &EpisodeStart) -> Result<(), SinkError> {
        Ok(())
    }

    fn frame(&mut self, frame: &Frame) -> Result<(), SinkError> {
        match self.0 {
            Way::SinkFails if frame.tick >= AT => {
                Err(SinkError { doing: "writing".into(), source: Box::new(io::Error::other("the disk is full")) })
            }
            Way::SinkPanics if frame.tick >= AT => panic!("a bug of the encoder"),
            _ => Ok(()),
        }
    }

    fn end(&mut self, _: &EpisodeEnd) -> Result<(), SinkError> {
        Ok(())
    }
}

fn leave(way: Way, phase: Phase, driver: Driver) -> (EpisodeOutcome, String) {
    let model = robots::get("so101").unwrap();
    let world = SharedWorld::new(World::new(&model).unwrap());
    let stop = StopFlag::new();
    let config = SessionConfig {
        inference: if let Driver::Policy(inference) = driver { inference } else { Inference::Async },
        latency: Latency::ScriptedTicks(vec![2]),
        return_to_rest: ReturnToRest::WhenInterrupted,
        ..SessionConfig::default()
    };
    let mut session = Session::new(config, Arc::new(MockClock::new()), stop.clone());
    let watch = Arc::new(Mutex::new(Watch { lowest_m: f64::INFINITY, ..Watch::default() }));
    let mut arm = Arm {
        inner: SimRobot::new(world.clone()),
        world: world.clone(),
        way,
        phase,
        stop: stop.clone(),
        operator: session.operator(),
        driver,
        tick: 0,
        watch: watch.clone(),
    };
    let mut environment = SimEnvironment::new(world.clone(), tasks::get("sort").unwrap());
    let info = PolicyInfo { family: "swinger".into(), parameters: 0, n_obs_steps: 1, chunk_size: 20, n_action_steps: 10 };
    let mut hand = TeleopThread::spawn(Box::new(Hand), Identity { width: 6 }, &model.description).unwrap();
    let (mut policy, mut sink) = (PolicyThread::spawn(Swinger { info, way }).unwrap(), Sink(way));
    let mut eyes = Eyes { inner: SimCameras::in_step(world.clone()), way };
    let source = match driver {
        Driver::Teleoperator => Source::Teleoperator(&mut hand),
        Driver::Policy(_) => Source::Policy(&mut policy),
        Driver::Human | Driver::Nobody => Source::Supervised(&mut policy, &mut hand),
    };
    // Without a sink nothing is rendered but for the policy.
    let mut sinks: Vec<&mut dyn FrameSink> = Vec::new();
    if matches!(way, Way::SinkFails | Way::SinkPanics | Way::Stale | Way::CameraLost) {
        sinks.push(&mut sink);
    }
    let report = session.run_episode(
        &EpisodeRequest::default(),
        Rig { robot: &mut arm, cameras: &mut eyes, environment: &mut environment },
        source,
        &mut sinks,
    );
    let what = format!("{way:?} at {phase:?} while {driver:?} acts: {:?} {:?}", report.outcome, report.faults);

    // The arm is left to gravity and its servos for a second.
    let mut watch = watch.lock().unwrap_or_else(PoisonError::into_inner);
    let height_m = || world.lock().world_from_tool().translation.vector.z;
    let left_m = height_m();
    for _ in 0..200 {
        let mut world_now = world.lock();
        let next_s = world_now.time_s() + 0.005;
        world_now.advance_to(next_s).unwrap();
        drop(world_now);
        watch.look(&world);
    }
    assert_eq!((watch.enables, watch.stops), (1, 1), "{what}: the safe action is done once");
    // The gate's 3 rad/s and what a servo overshoots by: it reaches 4.4 behind such goals when nothing goes wrong.
    assert!(watch.fastest_rad_per_s < 4.5, "{what}: {} rad/s", watch.fastest_rad_per_s);
    assert!(watch.lowest_m > -0.01, "{what}: the tip was at {} m", watch.lowest_m);
    let sank_m = left_m - height_m();
    assert!(sank_m.abs() < 0.05, "{what}: the tip went {sank_m} m down after the safe action");
    let rest = model.description.rest();
    let world = world.lock();
    let from_rest = rest.iter().enumerate().map(|(joint, rest)| (world.value(joint) - rest.unwrap()).abs()).fold(0.0, f64::max);
    let goes_to_rest = matches!(way, Way::Signals(1) | Way::Ended);
    assert_eq!(from_rest < 0.1, goes_to_rest, "{what}: {from_rest} rad from the rest position");
    (report.outcome, what)
}

#[test]
fn every_way_out_ends_in_the_safe_action_once() {
    for way in WAYS {
        for driver in DRIVERS {
            let asks_policy = matches!(driver, Driver::Policy(_) | Driver::Human | Driver::Nobody);
            let is_policys = matches!(way, Way::PolicyNan | Way::PolicyPanic);
            // Only who is asked can fail.
            if is_policys && !matches!(driver, Driver::Policy(_)) {
                continue;
            }
            assert!(asks_policy || !is_policys);
            for phase in [Phase::Observe, Phase::Apply] {
                let is_phased = !is_policys && !matches!(way, Way::SinkFails | Way::SinkPanics | Way::Stale | Way::CameraLost);
                if phase == Phase::Apply && !is_phased {
                    continue;
                }
                let (outcome, what) = leave(way, phase, driver);
                let expected = match way {
                    Way::Signals(_) | Way::Emergency => EpisodeOutcome::Interrupted,
                    Way::Ended => EpisodeOutcome::Ended,
                    _ => EpisodeOutcome::Fault,
                };
                assert_eq!(outcome, expected, "{what}");
            }
        }
    }
}

#[test]
fn an_emergency_is_not_left_by_running_again() {
    let stop = StopFlag::new();
    stop.emergency();
    let model = robots::get("so101").unwrap();
    let world = SharedWorld::new(World::new(&model).unwrap());
    let mut session = Session::new(SessionConfig::default(), Arc::new(MockClock::new()), stop.clone());
    let mut environment = SimEnvironment::new(world.clone(), tasks::get("reach").unwrap());
    let mut hand = TeleopThread::spawn(Box::new(Hand), Identity { width: 6 }, &model.description).unwrap();
    let mut run = || {
        let (mut robot, mut cameras) = (SimRobot::new(world.clone()), SimCameras::in_step(world.clone()));
        let rig = Rig { robot: &mut robot, cameras: &mut cameras, environment: &mut environment };
        session.run_episode(&EpisodeRequest::default(), rig, Source::Teleoperator(&mut hand), &mut [])
    };
    assert_eq!((run().ticks, stop.level()), (0, StopLevel::Emergency));
    assert!(stop.clear_emergency());
    assert!(run().ticks > 0);
}
