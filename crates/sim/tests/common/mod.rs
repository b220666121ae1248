//! Runs episodes without the runtime: observe, choose, gate, write.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use sinew_core::{Armed, Environment, Interventions, Observation, Outcome, SafetyGate, TeleopStatus, Tick, Timestamp};
use sinew_sim::{RobotModel, SharedWorld, SimEnvironment, SimRobot, Task, World, robots};

#[allow(dead_code, reason = "each test file uses its own part of this module")]
pub struct Episode {
    pub outcome: Outcome,
    pub done: bool,
    pub ticks: u64,
    pub interventions: Interventions,
    /// The world's digest after each tick.
    pub hashes: Vec<u64>,
    pub observation: Observation,
}

pub fn model() -> RobotModel {
    robots::get("so101").unwrap()
}

pub fn world() -> SharedWorld {
    Arc::new(Mutex::new(World::new(&model()).unwrap()))
}

#[allow(dead_code, reason = "each test file uses its own part of this module")]
pub fn run(task: &'static dyn Task, seed: u64, wants_images: bool) -> Episode {
    let world = world();
    let robot = world.lock().unwrap().robot().clone();
    let mut arm = SimRobot::new(world.clone());
    let mut environment = SimEnvironment::new(world.clone(), task);
    let setup = environment.reset(seed).unwrap();
    let mut teleoperator = task.teleoperator(world, seed);
    teleoperator.reset().unwrap();
    let gate = SafetyGate::of(&robot);
    let period = Duration::from_nanos(1_000_000_000 / u64::from(robot.control_rate_hz));
    let mut observation = Observation::for_robot(&robot);
    let mut tick = Tick { index: 0, due: Timestamp::from_nanos(5_000_000_000), period, wants_images };
    let mut armed = Armed::new(&mut arm).unwrap();
    armed.observe(&tick, &mut observation).unwrap();
    let mut command = gate.hold(&observation.position_rad);
    let (mut wanted, mut applied) = (vec![0.0; robot.joints.len()], vec![0.0; robot.joints.len()]);
    let mut interventions = Interventions::default();
    let (mut outcome, mut done) = (Outcome::Running, false);
    let mut hashes = Vec::new();
    while tick.index < setup.max_ticks && !done {
        armed.observe(&tick, &mut observation).unwrap();
        done = teleoperator.action(&tick, &mut wanted).unwrap() == TeleopStatus::Done;
        interventions += gate.advance(&mut command, &wanted, &observation, period.as_secs_f64());
        armed.apply(&command, &mut applied).unwrap();
        outcome = environment.outcome();
        hashes.push(environment.state_hash());
        // Who reaches a marker stays there.
        done |= task.name() == "reach" && outcome == Outcome::Success;
        tick.index += 1;
        tick.due = tick.due + period;
    }
    Episode { outcome, done, ticks: tick.index, interventions, hashes, observation }
}
