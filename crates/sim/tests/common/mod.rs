//! Runs episodes without the runtime: read, choose, drive.

use std::time::Duration;

use sinew_core::{
    Armed, Cameras, Clock, Environment, Interventions, MockClock, Observation, Outcome, TeleopStatus, Tick, Timestamp, Unwatched, Wanted,
};
use sinew_sim::{RobotModel, SharedWorld, SimCameras, SimEnvironment, SimRobot, Task, World, robots};

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

#[allow(dead_code, reason = "each test file uses its own part of this module")]
pub fn world() -> SharedWorld {
    SharedWorld::new(World::new(&model()).unwrap())
}

#[allow(dead_code, reason = "each test file uses its own part of this module")]
pub fn run(task: &'static dyn Task, seed: u64, wants_images: bool) -> Episode {
    run_in(world(), task, seed, wants_images)
}

#[allow(dead_code, reason = "each test file uses its own part of this module")]
pub fn run_in(world: SharedWorld, task: &'static dyn Task, seed: u64, wants_images: bool) -> Episode {
    let robot = world.robot().clone();
    let mut arm = SimRobot::new(world.clone());
    let mut cameras = SimCameras::in_step(world.clone());
    let mut environment = SimEnvironment::new(world.clone(), task);
    let setup = environment.reset(seed).unwrap();
    let mut teleoperator = task.teleoperator(world, seed);
    let period = Duration::from_nanos(1_000_000_000 / u64::from(robot.control_rate_hz));
    let mut observation = Observation::for_robot(&robot);
    let mut tick = Tick { turn: 0, due: Timestamp::from_nanos(5_000_000_000), period, wants_images };
    let clock = MockClock::new();
    clock.sleep_until(tick.due);
    let mut armed = Armed::new(&mut arm, &Unwatched, &clock, &tick, &mut observation).unwrap();
    teleoperator.reset(&observation).unwrap();
    let mut wanted = Wanted::for_robot(&robot);
    let mut interventions = Interventions::default();
    let (mut outcome, mut done) = (Outcome::Running, false);
    let mut hashes = Vec::new();
    while tick.turn < setup.max_ticks && !done {
        clock.sleep_until(tick.due);
        armed.read(&tick, &mut observation).unwrap();
        cameras.newest(&tick, &mut observation.images).unwrap();
        done = teleoperator.action(&tick, &observation, &mut wanted.goals).unwrap() == TeleopStatus::Done;
        wanted.time = clock.now();
        interventions += armed.drive(Some(&wanted), &observation, period.as_secs_f64()).unwrap().interventions;
        outcome = environment.outcome();
        hashes.push(environment.state_hash());
        // Who reaches a marker stays there.
        done |= task.name() == "reach" && outcome == Outcome::Success;
        tick.turn += 1;
        tick.due = tick.due + period;
    }
    Episode { outcome, done, ticks: tick.turn, interventions, hashes, observation }
}
