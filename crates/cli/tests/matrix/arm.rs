//! The arms that things happen to: the model, and the simulated SO-101.

use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use sinew_core::{Door, Lifeline, Observation, Robot, RobotDescription, RobotError, SafeCommand, Sent, Tick, Timestamp};
use sinew_sim::{SharedWorld, SimRobot};

use super::model::Model;
use super::script::Script;
use super::trouble::Trouble;

/// What reached the robot, in order.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    Enable,
    /// What the registers then held.
    Goals(Vec<f64>),
    Stop {
        worked: bool,
    },
}

/// The arm's own record, by the session's clock.
#[derive(Default)]
pub struct Journal {
    pub events: Vec<(i64, Event)>,
    pub fastest_per_s: f64,
    /// Of the tip; endless for the model.
    pub lowest_m: f64,
}

pub type Log = Arc<Mutex<Journal>>;

/// How a call hangs in a process: 0.3 s, or for good.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Hang {
    Short,
    ForGood,
}

impl Hang {
    pub fn last(self) {
        thread::sleep(if self == Self::Short { Duration::from_millis(300) } else { Duration::from_secs(60) });
    }
}

pub enum Body {
    Model(Model),
    Simulator { robot: Box<SimRobot>, world: SharedWorld, last_due: Option<Timestamp> },
}

pub type Port = Arc<Mutex<Box<dyn Write + Send>>>;

/// An arm with all that goes wrong with it.
pub struct Arm {
    pub description: RobotDescription,
    pub body: Body,
    pub script: Arc<Script>,
    pub log: Log,
    /// What the motors' registers hold.
    pub registers: Vec<f64>,
    /// Of a process: where each goal is written, with what gives its descriptor away.
    pub port: Option<(Port, fn() -> Lifeline)>,
    pub hang: Hang,
    /// Reads before the trouble, which then are all that is known.
    frozen: Option<(Vec<f64>, Timestamp)>,
    stops: u32,
    garbage: u64,
    side: f64,
}

fn transient() -> RobotError {
    RobotError::transient("talking to the arm", "no answer")
}

fn lost() -> RobotError {
    RobotError::lost("talking to the arm", "unplugged")
}

impl Arm {
    pub fn new(description: RobotDescription, body: Body, script: Arc<Script>) -> Self {
        let log: Log = Arc::new(Mutex::new(Journal { lowest_m: f64::INFINITY, ..Journal::default() }));
        let registers = vec![0.0; description.action_channels().len()];
        Self { description, body, script, log, registers, port: None, hang: Hang::Short, frozen: None, stops: 0, garbage: 1, side: 1.0 }
    }

    fn note(&self, event: Event) {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).events.push((self.script.now_ns(), event));
    }

    /// A line to the port, with the time when it was begun.
    fn say(&self, words: &str, begun_ns: i64) {
        if let Some((port, _)) = &self.port {
            // A full port is the watchdog's by now.
            let _ = port.lock().unwrap_or_else(PoisonError::into_inner).write_all(format!("{words} {begun_ns}\n").as_bytes());
        }
    }

    /// The arm has moved by now.
    pub fn advance(&mut self, due: Timestamp) {
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut self.body {
            Body::Model(model) => {
                model.advance_to(due.as_nanos());
                log.fastest_per_s = log.fastest_per_s.max(model.fastest_per_s);
            }
            Body::Simulator { world, last_due, .. } => {
                let elapsed_s = due.nanos_since(last_due.replace(due).unwrap_or(due)).max(0) as f64 * 1e-9;
                watch(world, elapsed_s, &mut log);
            }
        }
    }

    pub fn positions(&self) -> Vec<f64> {
        match &self.body {
            Body::Model(model) => model.positions(),
            Body::Simulator { world, .. } => world.newest().values.clone(),
        }
    }

    fn set(&mut self, goals: &[f64]) {
        self.registers.copy_from_slice(goals);
        match &mut self.body {
            Body::Model(model) => goals.iter().enumerate().for_each(|(i, goal)| model.set_goal(i, *goal)),
            Body::Simulator { world, .. } => world.lock().set_goals(goals).unwrap(),
        }
    }
}

/// Lets the world go on for so long and looks at it often.
fn watch(world: &SharedWorld, seconds: f64, log: &mut Journal) {
    let mut world = world.lock();
    let end_s = world.time_s() + seconds;
    while world.time_s() + 1e-6 < end_s {
        let next_s = (world.time_s() + 0.005).min(end_s);
        let before_s = world.time_s();
        world.advance_to(next_s).unwrap();
        for part in 0..world.robot().parts.len() {
            log.fastest_per_s = log.fastest_per_s.max(world.velocity(part).abs());
        }
        if world.time_s() <= before_s {
            break;
        }
    }
    log.lowest_m = log.lowest_m.min(world.world_from_tool().translation.vector.z);
}

impl Robot for Arm {
    fn description(&self) -> &RobotDescription {
        &self.description
    }

    fn finish_read(&mut self, tick: &Tick, deadline: Timestamp, observation: &mut Observation) -> Result<(), RobotError> {
        let now = if self.script.plan.venue.is_mock() { tick.due } else { self.script.clock.now() };
        self.advance(now);
        let script = self.script.clone();
        script.read(tick);
        if script.is(Trouble::DriverPanics) {
            panic!("a bug of the driver");
        }
        if script.is(Trouble::ReadHangs) {
            self.say("hang", script.now_ns());
            self.hang.last();
        }
        if script.is(Trouble::ReadFails) {
            return Err(transient());
        }
        if script.is(Trouble::ReadLost) {
            return Err(lost());
        }
        match &mut self.body {
            Body::Simulator { robot, .. } => robot.finish_read(tick, deadline, observation)?,
            Body::Model(model) => {
                observation.tick = tick.turn;
                observation.time = now;
                observation.state.set_all(&model.measured(), now);
            }
        }
        let truth = observation.state.values().to_vec();
        if script.is(Trouble::ReadStale) {
            if let Some((old, time)) = &self.frozen {
                observation.state.set_all(old, *time);
            }
        } else {
            self.frozen = Some((truth.clone(), now));
        }
        if script.is(Trouble::ReadMissing) {
            observation.state.set(1, f64::NAN, now);
        }
        let is_first = script.struck_ns().is_none();
        if script.is(Trouble::ReadWild) && is_first {
            observation.state.set(1, truth[1] + 1.2, now);
        }
        if script.is(Trouble::ReadGarbage) {
            self.garbage = self.garbage.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            // No two in a row agree.
            self.side = -self.side;
            let (side, share) = (self.side, (self.garbage >> 40) as f64 / 16_777_216.0);
            observation.state.set(1, truth[1] + side * (0.9 + share), now);
        }
        Ok(())
    }

    fn lifeline(&mut self) -> Result<Lifeline, RobotError> {
        Ok(self.port.as_ref().map_or_else(Lifeline::default, |(_, make)| make()))
    }

    fn enable(&mut self, door: &Door, deadline: Timestamp) -> Result<(), RobotError> {
        self.script.enable();
        self.note(Event::Enable);
        let width = self.registers.len();
        // Some are on.
        let reached = if self.script.is(Trouble::EnableHalf) { width / 2 } else { width };
        match &mut self.body {
            Body::Simulator { robot, world, .. } => {
                robot.enable(door, deadline)?;
                (reached..width).for_each(|part| world.lock().disable_torque(part));
            }
            Body::Model(model) => (0..reached).for_each(|joint| model.enable(joint)),
        }
        self.registers = self.positions();
        if self.port.is_some() {
            // Motor by motor, as on a bus.
            for motor in 0..reached {
                self.say(&format!("torque {motor}"), self.script.now_ns());
                thread::sleep(Duration::from_millis(15));
                if !door.alive() {
                    return Err(RobotError::lost("switching torque on", "the watchdog has taken the robot over"));
                }
            }
        }
        if self.script.is(Trouble::DriverPanics) {
            panic!("a bug of the driver");
        }
        if self.script.is(Trouble::EnableHangs) {
            self.say("hang", self.script.now_ns());
            self.hang.last();
        }
        if reached < width { Err(transient()) } else { Ok(()) }
    }

    fn write(&mut self, _: &Door, command: &SafeCommand, _: Timestamp, sent: &mut Sent) -> Result<(), RobotError> {
        let begun_ns = self.script.now_ns();
        if self.script.is(Trouble::WriteFails) {
            return Err(transient());
        }
        if self.script.is(Trouble::WriteLost) {
            return Err(lost());
        }
        let reached = if self.script.is(Trouble::WritePartial) { self.registers.len() / 2 } else { self.registers.len() };
        let mut goals = command.goals().to_vec();
        goals[reached..].copy_from_slice(&self.registers[reached..]);
        self.set(&goals);
        let words = goals.iter().fold("goal".to_owned(), |words, goal| format!("{words} {goal:.6}"));
        self.say(&words, begun_ns);
        self.note(Event::Goals(goals));
        (0..reached).for_each(|i| sent.reach(i, command.goals()[i]));
        if self.script.is(Trouble::WriteHangs) {
            // The bytes have left; their answer is waited for.
            self.say("hang", self.script.now_ns());
            self.hang.last();
        }
        Ok(())
    }

    fn stop(&mut self, door: &Door, deadline: Timestamp) -> Result<(), RobotError> {
        self.stops += 1;
        let script = self.script.clone();
        script.release();
        if script.is(Trouble::StopHangs) {
            self.say("hang", script.now_ns());
            self.hang.last();
        }
        let worked = !(script.is(Trouble::StopFails) || script.is(Trouble::StopFailsOnce) && self.stops == 1);
        self.note(Event::Stop { worked });
        if script.is(Trouble::StopPanics) {
            self.say("hang", script.now_ns());
            panic!("a bug of the driver");
        }
        if !worked {
            self.say("hang", script.now_ns());
            return Err(transient());
        }
        self.say("stop", script.now_ns());
        match &mut self.body {
            Body::Model(model) => model.hold(),
            Body::Simulator { robot, .. } => robot.stop(door, deadline)?,
        }
        Ok(())
    }
}
