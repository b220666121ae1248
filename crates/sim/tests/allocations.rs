//! A turn of a simulated robot allocates and frees no more than the physics engine does.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "what fails here fails the test")]

mod common;

use std::time::Duration;

use sinew_core::{Armed, Cameras, Clock, Environment, MockClock, Observation, Tick, Timestamp, Unwatched, Wanted};
use sinew_sim::{SimCameras, SimEnvironment, SimRobot, tasks};
use sinew_testkit::{CountingAllocator, allocator_calls};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

/// How often `what` calls the allocator.
fn calls(what: impl FnOnce()) -> u64 {
    let before = allocator_calls();
    what();
    allocator_calls() - before
}

#[test]
fn a_turn_allocates_nothing_beside_the_engine_and_looking_allocates_nothing() {
    let period = Duration::from_nanos(1_000_000_000 / 30);
    // Two worlds in the same state: what the engine allocates for a turn is counted in the other one.
    let (world, twin) = (common::world(), common::world());
    for world in [&world, &twin] {
        SimEnvironment::new(world.clone(), tasks::get("push").unwrap()).reset(3).unwrap();
    }
    twin.lock().enable_torque();
    let mut arm = SimRobot::new(world.clone());
    let mut beside = SimCameras::beside(world.clone()).unwrap();
    let mut in_step = SimCameras::in_step(world.clone());
    let clock = MockClock::new();
    let mut observation = Observation::for_robot(world.robot());
    let mut other_images = observation.images.clone();
    let mut wanted = Wanted::for_robot(world.robot());
    let mut tick = Tick { turn: 0, due: Timestamp::ZERO, period, wants_images: true };
    let mut armed = Armed::new(&mut arm, &Unwatched, &clock, &tick, &mut observation).unwrap();
    let rest = observation.state.values().to_vec();
    let mut engine_calls = 0;
    for i in 1..=90 {
        tick = Tick { turn: i, due: tick.due + period, ..tick };
        clock.sleep_until(tick.due);
        let time_s = tick.due.as_secs_f64();
        let mut held = twin.lock();
        let engine = calls(|| held.advance_to(time_s).unwrap());
        engine_calls += engine;
        let read = calls(|| armed.read(&tick, &mut observation).unwrap());
        wanted.goals.iter_mut().zip(&rest).for_each(|(goal, rest)| *goal = rest + 0.2 * (2.0 * time_s).sin());
        wanted.time = clock.now();
        let drive = calls(|| assert_eq!(armed.drive(Some(&wanted), &observation, period.as_secs_f64()).unwrap().unreached, 0));
        held.set_goals(armed.commanded()).unwrap();
        drop(held);
        // The first images take the place of black ones, which are freed; on a busy machine they are late.
        let is_first = observation.images.iter().any(|image| image.sequence == 0);
        let looks = calls(|| beside.newest(&tick, &mut observation.images).unwrap());
        let draws = calls(|| in_step.newest(&tick, &mut other_images).unwrap());
        std::thread::sleep(Duration::from_millis(1));
        assert_eq!(world.newest().state_hash, twin.newest().state_hash, "the worlds go the same way");
        if i > 10 {
            assert_eq!((read, drive), (engine, 0), "turn {i}");
            assert!(looks == 0 || is_first, "turn {i}: {looks}");
            assert_eq!(draws, 0, "turn {i}");
        }
    }
    assert!(observation.images[0].sequence > 3, "images came");
    assert!(engine_calls < 1_000_000, "{engine_calls}");
}
