//! A tick of a robot on a network allocates nothing.

#![allow(clippy::unwrap_used, clippy::panic, reason = "what fails here fails the test")]

mod common;
mod network;

use std::sync::Arc;
use std::time::Duration;

use common::RealClock;
use network::lekiwi::{Playing, decode, encode, with_camera};
use network::{Daemon, reachy_mini, tick, wanted};
use sinew_core::{Armed, Blind, Cameras, Clock, Observation, Robot, Unwatched};
use sinew_drivers::{LeKiwiClient, LeKiwiClientOptions, LeKiwiHost, LeKiwiHostOptions, ReachyMini};
use sinew_testkit::{CountingAllocator, allocator_calls};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

const PERIOD: Duration = Duration::from_millis(5);

/// What 100 ticks of `robot` allocate and free on this thread.
fn ticks(robot: &mut dyn Robot, cameras: &mut dyn Cameras, clock: &RealClock) -> u64 {
    let description = robot.description().clone();
    let mut observation = Observation::for_robot(&description);
    let mut armed = Armed::new(robot, &Unwatched, clock, &tick(clock, 0, PERIOD), &mut observation).unwrap();
    let mut wanted = wanted(&description, armed.commanded(), clock.now());
    let mut calls = 0;
    for turn in 1..=120 {
        let tick = tick(clock, turn, PERIOD);
        wanted.goals.iter_mut().for_each(|goal| *goal += 0.001);
        wanted.time = clock.now();
        let before = allocator_calls();
        let _ = armed.read(&tick, &mut observation);
        cameras.newest(&tick, &mut observation.images).unwrap();
        let _ = armed.drive(Some(&wanted), &observation, PERIOD.as_secs_f64());
        // In the first, buffers of the description's size make room for those that are shared.
        calls += if turn > 20 { allocator_calls() - before } else { 0 };
        clock.sleep_until(clock.now() + PERIOD);
    }
    calls
}

#[test]
fn a_tick_allocates_nothing() {
    let clock = RealClock::new();
    let daemon = Daemon::start();
    let mut robot = ReachyMini::connect(Arc::new(reachy_mini()), &daemon.address(), clock.clone()).unwrap();
    assert_eq!(ticks(&mut robot, &mut Blind, &clock), 0);
    assert!(daemon.told().len() > 50, "it was driven");

    let robot = with_camera(64, 48);
    let token = Some("a token of this test".to_owned());
    let options = LeKiwiHostOptions { command_port: 0, observation_port: 0, token: token.clone(), ..LeKiwiHostOptions::default() };
    let host = LeKiwiHost::open(Arc::new(robot.clone()), &options, clock.clone()).unwrap();
    let _playing = Playing::start(&host, robot.clone(), &clock, Some(Box::new(encode)));
    let [command_port, observation_port] = host.addresses().map(|address| address.port());
    let options = LeKiwiClientOptions { command_port, observation_port, token, ..LeKiwiClientOptions::default() };
    let (mut client, cameras) =
        LeKiwiClient::connect(Arc::new(robot), "127.0.0.1", &options, Some(Box::new(decode)), clock.clone()).unwrap();
    assert_eq!(ticks(&mut client, &mut cameras.unwrap(), &clock), 0);
    assert!(host.counts().commands > 50, "it was driven: {:?}", host.counts());
    // It can count.
    let before = allocator_calls();
    drop(std::hint::black_box(vec![1]));
    assert_eq!(allocator_calls() - before, 2);
}
