//! Robots of any description, made of servos that follow with a lag and wheels that roll, and those who drive them.

use std::path::Path;
use std::sync::Arc;

use sinew_core::{
    ActionChunk, CameraError, Cameras, ChannelSource, DescriptionError, Door, Environment, EnvironmentError, EpisodeSetup, Identity, Image,
    ImageBuffers, MockClock, Observation, Outcome, Policy, PolicyError, PolicyInfo, Robot, RobotDescription, RobotError, SafeCommand, Sent,
    TeleopStatus, Teleoperator, TeleoperatorError, Tick, Timestamp,
};
use sinew_recorder::{DatasetRecorder, RecorderOptions};
use sinew_runtime::{
    EpisodeReport, Fault, Inference, Latency, PolicyThread, Selection, Series, Session, SessionConfig, Stage, StopFlag, Strategy,
    TeleopThread,
};

/// Who drives a robot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Driver {
    Policy,
    Human,
}

/// Two robots, and who drives them here.
pub const ROBOTS: [(&str, &str, Driver); 2] = [
    ("two_arms", include_str!("../../../recorder/examples/two_arms.toml"), Driver::Human),
    ("rover", include_str!("../../../recorder/examples/rover.toml"), Driver::Policy),
];

pub fn robot(name: &str, toml: &str) -> Result<RobotDescription, DescriptionError> {
    RobotDescription::from_toml(name, toml)
}

/// A part or a wheel as it is, and what its motor was told.
#[derive(Clone, Copy, Debug, Default)]
struct Servo {
    value: f64,
    speed: f64,
    goal: f64,
}

/// A robot of any description. Parts go a third of the way to their goals in each tick; each bus is read in turn, and
/// its first answer of a hundred is lost.
pub struct Fake {
    description: RobotDescription,
    servos: Vec<Servo>,
    /// What the base was told, turned into speeds of wheels and back.
    wheels: Vec<f64>,
    reads: u64,
    pub is_on: bool,
    due: Option<Timestamp>,
}

impl Fake {
    pub fn new(description: &RobotDescription) -> Self {
        let wheels = description.base.as_ref().map_or(0, |base| base.wheels.len());
        Self {
            servos: vec![Servo::default(); description.parts.len()],
            description: description.clone(),
            wheels: vec![0.0; wheels],
            reads: 0,
            is_on: false,
            due: None,
        }
    }

    fn move_until(&mut self, due: Timestamp) {
        let passed_s = self.due.replace(due).map_or(0.0, |before| due.nanos_since(before) as f64 * 1e-9);
        if passed_s <= 0.0 {
            return;
        }
        for servo in &mut self.servos {
            let before = servo.value;
            if self.is_on {
                servo.value += (servo.goal - servo.value) / 3.0;
            }
            servo.speed = (servo.value - before) / passed_s;
        }
    }
}

impl Robot for Fake {
    fn description(&self) -> &RobotDescription {
        &self.description
    }

    fn begin_read(&mut self, tick: &Tick) -> Result<(), RobotError> {
        self.move_until(tick.due);
        self.reads += 1;
        Ok(())
    }

    fn finish_read(&mut self, tick: &Tick, _: Timestamp, observation: &mut Observation) -> Result<(), RobotError> {
        observation.time = tick.due;
        let motion = self.description.base.as_ref().map(|base| base.motion(&self.wheels));
        for (at, channel) in self.description.state_channels().into_iter().enumerate() {
            match channel.source {
                ChannelSource::Part(part) => {
                    let bus = self.description.parts[part].motor.as_ref().map(|motor| &motor.bus);
                    let turn = self.description.buses.iter().position(|other| Some(&other.name) == bus).unwrap_or(0) as u64;
                    if (self.reads + 50 * turn).is_multiple_of(100) {
                        observation.state.miss(at);
                    } else {
                        observation.state.set(at, self.servos[part].value, tick.due);
                    }
                }
                ChannelSource::Base(axis) => observation.state.set(at, motion.map_or(0.0, |motion| motion[axis]), tick.due),
                ChannelSource::Sensor(..) => observation.state.set(at, 12.4, tick.due),
            }
        }
        for (part, servo) in self.servos.iter().enumerate() {
            observation.velocity.set(part, servo.speed, tick.due);
        }
        Ok(())
    }

    fn enable(&mut self, door: &Door, _: Timestamp) -> Result<(), RobotError> {
        for servo in &mut self.servos {
            servo.goal = servo.value;
            if !door.alive() {
                return Err(RobotError::lost("switching torque on", "the watchdog has taken the robot over"));
            }
        }
        self.wheels.fill(0.0);
        self.is_on = true;
        Ok(())
    }

    fn write(&mut self, _: &Door, command: &SafeCommand, _: Timestamp, sent: &mut Sent) -> Result<(), RobotError> {
        let mut motion = [0.0; 3];
        for (at, channel) in self.description.action_channels().iter().enumerate() {
            match channel.source {
                ChannelSource::Part(part) => self.servos[part].goal = command.goals()[at],
                ChannelSource::Base(axis) => motion[axis] = command.goals()[at],
                ChannelSource::Sensor(..) => {}
            }
        }
        if let Some(base) = &self.description.base {
            base.wheel_velocities(motion, &mut self.wheels);
        }
        sent.reach_all(command);
        Ok(())
    }

    fn stop(&mut self, _: &Door, _: Timestamp) -> Result<(), RobotError> {
        for servo in &mut self.servos {
            servo.goal = servo.value;
        }
        self.wheels.fill(0.0);
        Ok(())
    }
}

/// Cameras that show how many images they have taken.
struct Counting {
    buffers: Vec<ImageBuffers>,
    count: u64,
}

impl Counting {
    fn new(robot: &RobotDescription) -> Self {
        let buffers = robot.cameras.iter().map(|camera| ImageBuffers::new(64, camera.width as usize * camera.height as usize * 3));
        Self { buffers: buffers.collect(), count: 0 }
    }
}

impl Cameras for Counting {
    fn newest(&mut self, tick: &Tick, images: &mut [Image]) -> Result<(), CameraError> {
        self.count += 1;
        for (image, buffers) in images.iter_mut().zip(&mut self.buffers) {
            let shade = (self.count * 3 % 251) as u8;
            image.rgb = buffers.fill(|rgb| rgb.iter_mut().enumerate().for_each(|(i, byte)| *byte = shade.wrapping_add((i / 512) as u8)));
            (image.captured_at, image.sequence) = (tick.due, self.count);
        }
        Ok(())
    }
}

/// Lasts so many ticks.
struct Lasting(u64);

impl Environment for Lasting {
    fn reset(&mut self, _: u64) -> Result<EpisodeSetup, EnvironmentError> {
        Ok(EpisodeSetup { task: "Wave, and drive about.".to_owned(), max_ticks: self.0, is_judged: true, is_set_up: true })
    }

    fn outcome(&mut self) -> Outcome {
        Outcome::Running
    }

    fn state_hash(&self) -> u64 {
        0
    }
}

/// What both drivers want at a tick: each channel swings in its own time.
pub fn wave(tick: u64, goals: &mut [f64]) {
    for (i, goal) in goals.iter_mut().enumerate() {
        *goal = 0.3 * (tick as f64 / (12.0 + 3.0 * i as f64)).sin();
    }
}

struct Leader;

impl Teleoperator for Leader {
    fn reset(&mut self, _: &Observation) -> Result<(), TeleoperatorError> {
        Ok(())
    }

    fn action(&mut self, tick: &Tick, _: &Observation, action: &mut [f64]) -> Result<TeleopStatus, TeleoperatorError> {
        wave(tick.turn, action);
        Ok(TeleopStatus::Active)
    }
}

struct Waver {
    info: PolicyInfo,
    width: usize,
}

impl Policy for Waver {
    fn info(&self) -> &PolicyInfo {
        &self.info
    }

    fn reset(&mut self, _: u64) {}

    fn infer(&mut self, observations: &[Observation], _: &str) -> Result<ActionChunk, PolicyError> {
        let first = observations.last().map_or(0, |now| now.tick);
        let mut rows = vec![0.0; self.width * self.info.chunk_size];
        for (tick, row) in (first..).zip(rows.chunks_mut(self.width)) {
            wave(tick, row);
        }
        Ok(ActionChunk::new(first, self.width, rows)?)
    }
}

/// Runs `episodes` of `ticks` each on a fake of `robot` and records them to `root`.
pub fn record(robot: &RobotDescription, driver: Driver, root: &Path, episodes: u64, ticks: u64) -> anyhow::Result<Vec<EpisodeReport>> {
    let width = robot.action_channels().len();
    let mut recorder = DatasetRecorder::create(root, robot, robot.control_rate_hz, RecorderOptions::default())?;
    let config = SessionConfig { inference: Inference::Async, latency: Latency::ScriptedTicks(vec![2]), ..SessionConfig::default() };
    let mut session = Session::new(config, Arc::new(MockClock::new()), StopFlag::new());
    let info = PolicyInfo { family: "waver".to_owned(), parameters: 0, n_obs_steps: 1, chunk_size: 20, n_action_steps: 10 };
    let mut policy = PolicyThread::spawn(Waver { info, width })?;
    let mut human = TeleopThread::spawn(Box::new(Leader), Identity { width }, robot)?;
    let mut selection = Selection::new(Strategy::Whole, &mut recorder, session.operator());
    let stage = Stage {
        robot: &mut Fake::new(robot),
        cameras: &mut Counting::new(robot),
        environment: &mut Lasting(ticks),
        policy: (driver == Driver::Policy).then_some(&mut policy),
        human: (driver == Driver::Human).then_some(&mut human),
        recorder: Some(&mut selection),
        viewer: None,
    };
    struct Nobody;
    impl sinew_runtime::Attendant for Nobody {}
    let reports = session.run_series(&Series::of(episodes, 1), stage, &mut Nobody)?.reports;
    let faults: Vec<String> = reports.iter().flat_map(|report| &report.faults).map(Fault::chain).collect();
    anyhow::ensure!(faults.is_empty(), "recording {}: {}", robot.title, faults.join("; then: "));
    Ok(reports)
}
