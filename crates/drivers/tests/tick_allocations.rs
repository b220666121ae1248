//! A tick of an arm on a serial bus allocates nothing, with answers that get lost, too.

#![allow(clippy::unwrap_used, clippy::panic, reason = "what fails here fails the test")]

mod common;

use common::Bench;
use common::arm::{Loop, PERIOD, arm, connect, so101, wanted};
use sinew_core::{Clock, Observation};
use sinew_emulator::{Event, Rates};
use sinew_testkit::{CountingAllocator, allocator_calls};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

#[test]
fn a_tick_allocates_nothing() {
    let bench = Bench::so101();
    let mut robot = connect(&bench, so101());
    let health = robot.health();
    let mut observation = Observation::for_robot(&so101());
    let mut armed = arm(&bench, &mut robot, &mut observation);
    let wanted = wanted(&so101(), observation.state.values(), bench.clock.now());
    let rates = Rates { drop: 0.05, truncate: 0.02, flip_bit: 0.02, foreign: 0.02, duplicate: 0.02, ..Rates::default() };
    bench.emulator.happen(Event::Rates(rates)).unwrap();
    let mut turns = Loop::new(&bench);
    let mut retries = 0;
    let before = allocator_calls();
    for _ in 0..120 {
        let tick = turns.tick(&bench);
        armed.read(&tick, &mut observation).unwrap();
        armed.drive(Some(&wanted), &observation, PERIOD.as_secs_f64()).unwrap();
        retries += observation.bus_retries;
    }
    assert_eq!(allocator_calls() - before, 0);
    // It can count, and what was to go wrong did.
    drop(vec![1]);
    assert_eq!(allocator_calls() - before, 2);
    assert!(retries > 10, "{retries}");
    assert!(health.motors().iter().all(|motor| motor.reads > 60 && motor.age_s < 5.0 && motor.longest_age_s < 5.0));
}
