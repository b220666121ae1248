//! A tick of an arm on a serial bus allocates nothing, with answers that get lost, too.

#![allow(clippy::unwrap_used, clippy::panic, reason = "what fails here fails the test")]

mod common;

use common::arm::{Loop, PERIOD, arm, calibration, connect, connect_all, described, leader_of, options, so101, wanted};
use common::{Bench, light};
use sinew_core::{Clock, Observation, Retarget, Teleoperator, Wanted};
use sinew_drivers::{ByFeature, SerialLeader};
use sinew_emulator::{Event, Options, Rates, Robot as Emulated};
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
    drop(armed);
    // A leader's turns, and those of a base on wheels.
    let leads = Bench::so101();
    let of_leader = leader_of(so101());
    let options = options(&leads, &of_leader);
    let mut leader = SerialLeader::connect(of_leader.into(), &options, &calibration(), leads.clock.clone()).unwrap();
    leads.emulator.happen(Event::Rates(rates)).unwrap();
    let rolls = Bench::new(&light(Emulated::lekiwi()), Options::default());
    let lekiwi = described("lekiwi");
    let mut rolling = connect_all(&[("robot", &rolls)], &lekiwi).unwrap();
    let mut seen = Observation::for_robot(&lekiwi);
    let mut driven = arm(&rolls, &mut rolling, &mut seen);
    let mut there = Wanted::for_robot(&lekiwi);
    there.goals[..6].copy_from_slice(&seen.state.values()[..6]);
    there.goals[6..].copy_from_slice(&[0.05, 0.02, 0.1]);
    rolls.emulator.happen(Event::Rates(rates)).unwrap();
    let mut way = ByFeature::new(leader.description(), &so101()).unwrap();
    let (mut action, mut led, mut goals) = ([0.0; 6], 0, Wanted::for_robot(&so101()));
    let before_others = allocator_calls();
    for _ in 0..120 {
        let tick = turns.tick(&bench);
        there.time = rolls.clock.now();
        if leader.action(&tick, &observation, &mut action).and_then(|_| way.retarget(&action, &observation, &mut goals)).is_ok() {
            led += 1;
        }
        driven.read(&tick, &mut seen).unwrap();
        driven.drive(Some(&there), &seen, PERIOD.as_secs_f64()).unwrap();
    }
    assert_eq!(allocator_calls() - before_others, 0);
    assert!(led > 60, "{led}");
    // It can count, and what was to go wrong did.
    let before = allocator_calls();
    drop(vec![1]);
    assert_eq!(allocator_calls() - before, 2);
    assert!(retries > 10, "{retries}");
    assert!(health.motors().iter().all(|motor| motor.reads > 60 && motor.age_s < 5.0 && motor.longest_age_s < 5.0));
}
