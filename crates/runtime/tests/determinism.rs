//! The contract: on a mock clock, the same seed gives the same bytes, every time.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "what fails here fails the test")]

mod common;

use common::{Arm, Fake, RATE_HZ, Scene, Tape, answer_and_tick, run};
use proptest::prelude::*;
use sinew_core::{
    CameraError, Cameras, Door, Frame, Image, MockClock, Observation, Robot, RobotDescription, RobotError, SafeCommand, Sent, Tick,
    Timestamp,
};
use sinew_runtime::{EpisodeRequest, Inference, Interpolation, Latency, Rig, Session, SessionConfig, Source, Starvation, StopFlag};

/// An arm that saw all this before, and its camera.
struct Seen<'a> {
    arm: Arm,
    tape: &'a Tape,
}

struct SeenBefore<'a>(&'a Tape);

fn frame_of(tape: &Tape, tick: u64) -> &Frame {
    tape.frames.iter().find(|frame| frame.tick == tick).unwrap()
}

impl Robot for Seen<'_> {
    fn description(&self) -> &RobotDescription {
        self.arm.description()
    }

    fn finish_read(&mut self, tick: &Tick, _: Timestamp, observation: &mut Observation) -> Result<(), RobotError> {
        let seen = &frame_of(self.tape, tick.turn).observation;
        observation.time = seen.time;
        observation.state.copy_from(&seen.state);
        Ok(())
    }

    fn enable(&mut self, door: &Door, deadline: Timestamp) -> Result<(), RobotError> {
        self.arm.enable(door, deadline)
    }

    fn write(&mut self, door: &Door, command: &SafeCommand, deadline: Timestamp, sent: &mut Sent) -> Result<(), RobotError> {
        self.arm.write(door, command, deadline, sent)
    }

    fn stop(&mut self, door: &Door, deadline: Timestamp) -> Result<(), RobotError> {
        self.arm.stop(door, deadline)
    }
}

impl Cameras for SeenBefore<'_> {
    fn newest(&mut self, tick: &Tick, images: &mut [Image]) -> Result<(), CameraError> {
        images.clone_from_slice(&frame_of(self.0, tick.turn).observation.images);
        Ok(())
    }
}

/// What the same policy does with the recorded observations.
fn replayed(config: &SessionConfig, policy: &Fake, tape: &Tape) -> Vec<u8> {
    let policy = Fake::new(policy.info.chunk_size, policy.info.n_action_steps).continuing();
    let (mut seen, mut scene, mut again) = (Seen { arm: Arm::new(), tape }, Scene::lasting(120), Tape::default());
    let mut session = Session::new(config.clone(), std::sync::Arc::new(MockClock::new()), StopFlag::new());
    let source = &mut policy.thread();
    let rig = Rig { robot: &mut seen, cameras: &mut SeenBefore(tape), environment: &mut scene };
    session.run_episode(&EpisodeRequest::default(), rig, Source::Policy(source), &mut [&mut again]);
    again.bytes()
}

/// All that a run leaves behind, but for the policy's computing time.
fn traces(config: &SessionConfig, chunk_size: usize, n_action_steps: usize) -> (Vec<u8>, String, Vec<u64>) {
    let (mut arm, mut scene, mut tape) = (Arm::new(), Scene::lasting(120), Tape::default());
    let policy = Fake::new(chunk_size, n_action_steps).continuing();
    let report = run(config, &mut arm, &mut scene, Source::Policy(&mut policy.thread()), &mut [&mut tape]);
    assert!(report.faults.is_empty(), "{:?}", report.faults);
    assert_eq!((arm.enables, arm.stops), (1, 1));
    assert_eq!(report.ticks + report.missed_ticks, 120 * u64::from(config.control_multiplier));
    if config.control_multiplier == 1 {
        assert_eq!(tape.frames.len() as u64, report.ticks - report.waiting_ticks);
    }
    if config.control_multiplier == 1 && report.waiting_ticks == 0 {
        assert!(replayed(config, &policy, &tape) == tape.bytes(), "replaying the observations gives other frames");
    }
    assert_eq!(report.frames_lost, 0);
    let mut json = serde_json::to_value(&report).unwrap();
    json["inference"]["compute"].take();
    let asked_ticks = policy.log().asked_ticks.clone();
    (tape.bytes(), json.to_string(), asked_ticks)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_same_seed_gives_the_same_bytes(
        inference in prop::sample::select(vec![Inference::Sync, Inference::Async, Inference::Rtc]),
        control_multiplier in 1u32..4,
        interpolation in prop::sample::select(vec![Interpolation::Linear, Interpolation::Cubic]),
        chunk_size in 1usize..40,
        share in 0.05f64..=1.0,
        script in prop::collection::vec(0u64..30, 0..6),
        starvation in prop::sample::select(vec![Starvation::Hold, Starvation::SlowStop]),
        frame_buffer in 0usize..5,
    ) {
        let config = SessionConfig {
            inference,
            control_multiplier,
            interpolation,
            latency: Latency::ScriptedTicks(script),
            starvation,
            frame_buffer,
            ..SessionConfig::default()
        };
        let n_action_steps = (chunk_size as f64 * share).ceil() as usize;
        let first = traces(&config, chunk_size, n_action_steps);
        let second = traces(&config, chunk_size, n_action_steps);
        prop_assert_eq!(first.1, second.1);
        prop_assert_eq!(first.2, second.2);
        prop_assert!(first.0 == second.0, "the frames differ");
    }
}

#[test]
fn without_a_script_an_inference_takes_no_time_and_is_repeatable() {
    for inference in [Inference::Sync, Inference::Async, Inference::Rtc] {
        let config = SessionConfig { inference, ..SessionConfig::default() };
        assert_eq!(traces(&config, 10, 10), traces(&config, 10, 10));
    }
}

#[test]
fn other_actions_give_another_hash() {
    let hashes = [1, 2].map(|n_action_steps| {
        let (mut arm, mut scene, policy) = (Arm::new(), Scene::lasting(20), Fake::new(10, n_action_steps));
        run(&SessionConfig::default(), &mut arm, &mut scene, Source::Policy(&mut policy.thread()), &mut []).action_hash
    });
    assert_ne!(hashes[0], hashes[1]);
}

/// Where the first joint's row for tick 0 is, so that goals are what the rows say from the first tick on.
fn at_first_row() -> Arm {
    Arm::at([0.0, -0.2])
}

/// The rows that reached the frames, as (answer, tick the row was for).
fn rows(tape: &Tape) -> Vec<(u64, u64)> {
    tape.frames.iter().map(|frame| answer_and_tick(frame.wanted[0])).collect()
}

#[test]
fn synchronous_inference_executes_n_action_steps_rows_of_each_answer() {
    let (mut arm, mut scene, policy, mut tape) = (at_first_row(), Scene::lasting(10), Fake::new(8, 4), Tape::default());
    run(&SessionConfig::default(), &mut arm, &mut scene, Source::Policy(&mut policy.thread()), &mut [&mut tape]);
    assert_eq!(policy.log().asked_ticks, [0, 4, 8]);
    assert_eq!(rows(&tape), [(0, 0), (0, 1), (0, 2), (0, 3), (1, 4), (1, 5), (1, 6), (1, 7), (2, 8), (2, 9)]);
    assert_eq!(tape.frames.iter().map(|frame| frame.queued).collect::<Vec<_>>(), [3, 2, 1, 0, 3, 2, 1, 0, 3, 2]);
}

#[test]
fn a_policy_that_looks_back_sees_the_ticks_before_each_question() {
    let (mut arm, mut scene, mut policy) = (Arm::new(), Scene::lasting(9), Fake::new(8, 4));
    policy.info.n_obs_steps = 3;
    run(&SessionConfig::default(), &mut arm, &mut scene, Source::Policy(&mut policy.thread()), &mut []);
    // Asked before tick 0, then every four ticks; at first there is no past.
    assert_eq!(policy.log().seen_ticks, [[0, 0, 0], [2, 3, 4], [6, 7, 8]]);
}

#[test]
fn a_slow_synchronous_policy_costs_ticks_but_no_rows() {
    let config = SessionConfig { latency: Latency::ScriptedTicks(vec![3]), ..SessionConfig::default() };
    let (mut arm, mut scene, policy, mut tape) = (at_first_row(), Scene::lasting(16), Fake::new(4, 4), Tape::default());
    let report = run(&config, &mut arm, &mut scene, Source::Policy(&mut policy.thread()), &mut [&mut tape]);
    // Asked at tick 4, answered when tick 7 is due: in 4, 5 and 6 the arm stands, looked after at each turn. Row 4 is
    // executed in tick 7, and the rows go on from there.
    assert_eq!(tape.ticks(), [0, 1, 2, 3, 7, 8, 9, 10, 14, 15]);
    assert_eq!(rows(&tape), [(0, 0), (0, 1), (0, 2), (0, 3), (1, 4), (1, 5), (1, 6), (1, 7), (2, 11), (2, 12)]);
    assert_eq!((report.ticks, report.waiting_ticks, report.missed_ticks, report.starved_ticks), (16, 6, 0, 0));
    assert_eq!((arm.observed_ticks[3..].len(), arm.writes.len()), (16, 16), "it is read and commanded in every tick");
}

#[test]
fn asynchronous_rows_are_executed_at_the_tick_they_are_for() {
    let config = SessionConfig { inference: Inference::Async, latency: Latency::ScriptedTicks(vec![2]), ..SessionConfig::default() };
    let (mut arm, mut scene, policy, mut tape) = (at_first_row(), Scene::lasting(18), Fake::new(10, 8), Tape::default());
    let report = run(&config, &mut arm, &mut scene, Source::Policy(&mut policy.thread()), &mut [&mut tape]);
    // 8 rows are meant to be executed; an answer takes 2 ticks, plus one to be safe: asked after 5.
    assert_eq!(policy.log().asked_ticks, [0, 5, 10, 15]);
    let expected: Vec<_> = (0..18)
        .map(|tick| {
            (
                match tick {
                    0..7 => 0,
                    7..12 => 1,
                    12..17 => 2,
                    _ => 3,
                },
                tick,
            )
        })
        .collect();
    assert_eq!(rows(&tape), expected);
    assert_eq!((report.starved_ticks, report.missed_ticks), (0, 0));
    // Of each of the three later answers two rows came too late.
    assert_eq!(report.late_rows, 6);
    assert_eq!(tape.frames[17].inference_ns, 2_000_000_000 / RATE_HZ as i64);
}

#[test]
fn images_are_made_only_for_those_who_look() {
    let (mut arm, mut scene, policy) = (Arm::new(), Scene::lasting(10), Fake::new(8, 4));
    run(&SessionConfig::default(), &mut arm, &mut scene, Source::Policy(&mut policy.thread()), &mut []);
    // The first look is before torque goes on, and so before tick 0, whose own image nobody wants.
    assert_eq!(arm.observed_ticks[..5], [0, 0, 0, 0, 1]);
    assert_eq!(arm.eyes.ticks, [0, 4, 8]);

    let mut tape = Tape::default();
    let mut arm = Arm::new();
    run(&SessionConfig::default(), &mut arm, &mut scene, Source::Policy(&mut policy.thread()), &mut [&mut tape]);
    assert_eq!(arm.eyes.ticks, [0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
}

#[test]
fn many_sessions_at_once_do_not_disturb_each_other() {
    let config = SessionConfig { inference: Inference::Async, latency: Latency::ScriptedTicks(vec![1, 4]), ..SessionConfig::default() };
    let alone = traces(&config, 12, 6);
    let threads: Vec<_> = (0..4)
        .map(|_| {
            std::thread::spawn({
                let config = config.clone();
                move || traces(&config, 12, 6)
            })
        })
        .collect();
    for thread in threads {
        assert_eq!(thread.join().unwrap(), alone);
    }
}
