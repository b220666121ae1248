//! What reaches the motors when a robot is flaky, sags, is held fast or falls silent, at any rate.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "what fails here fails the test")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering::SeqCst};
use std::time::Duration;

use common::{Arm, Arrives, Fake, Leader, Scene, Tape, VELOCITY, answer_and_tick, lost, run, run_on, transient};
use sinew_core::{Clock, MockClock, WhenOld};
use sinew_runtime::{EpisodeOutcome, EpisodeReport, Fault, Inference, Latency, ReturnToRest, SessionConfig, Source, StopFlag, StopLevel};

/// Rates of the policy, and turns of the loop for each of its ticks.
const RATES: [(u32, u32); 5] = [(30, 1), (30, 8), (50, 4), (200, 1), (50, 20)];

/// How much faster than what is wanted the gate may be for a moment, having been slower at the beginning.
const CATCHING_UP: f64 = 1.75;

fn config(control_multiplier: u32) -> SessionConfig {
    let latency = Latency::ScriptedTicks(vec![0]);
    SessionConfig { inference: Inference::Async, latency, control_multiplier, ..SessionConfig::default() }
}

fn turn_s((rate_hz, multiplier): (u32, u32)) -> f64 {
    1.0 / f64::from(rate_hz * multiplier)
}

/// A policy's episode of `seconds`.
fn run_for(clock: Arc<dyn Clock>, config: &SessionConfig, arm: &mut Arm, policy: &Fake, seconds: f64) -> (EpisodeReport, Tape) {
    let (mut tape, rate_hz) = (Tape::default(), f64::from(arm.description.control_rate_hz));
    let mut scene = Scene::lasting((seconds * rate_hz) as u64);
    let report = run_on(clock, config, arm, &mut scene, Source::Policy(&mut policy.thread()), &mut [&mut tape], &StopFlag::new());
    (report, tape)
}

/// What fails from a second on for `seconds`, and when the arm was made safe.
fn flaky(rate: (u32, u32), seconds: f64, spoil: fn(&mut Arm, Box<dyn Fn() -> bool + Send>)) -> (EpisodeReport, Tape, Arm, f64) {
    let clock = Arc::new(MockClock::new());
    let mut arm = Arm::new().rate_hz(rate.0);
    let (now, stopped) = (clock.clone(), Arc::new(AtomicI64::new(0)));
    spoil(&mut arm, Box::new(move || (1.0..1.0 + seconds - 1e-9).contains(&now.now().as_secs_f64())));
    let (now, stopping) = (clock.clone(), stopped.clone());
    arm.on_stop = Box::new(move |_| {
        stopping.store(now.now().as_nanos(), SeqCst);
        Ok(())
    });
    let (report, tape) = run_for(clock, &config(rate.1), &mut arm, &Fake::new(100, 50), 3.0);
    let stopped_s = stopped.load(SeqCst) as f64 * 1e-9;
    (report, tape, arm, stopped_s)
}

#[test]
fn writes_that_fail_are_borne_for_a_time_and_not_for_so_many_turns() {
    let spoil: fn(&mut Arm, Box<dyn Fn() -> bool + Send>) =
        |arm, fails| arm.on_write = Box::new(move |_| if fails() { Err(transient()) } else { Ok(()) });
    for rate in RATES {
        let (report, tape, arm, _) = flaky(rate, 0.15, spoil);
        assert!(report.faults.is_empty() && arm.stops == 1, "{rate:?}: {:?}", report.faults);
        assert_eq!(tape.frames.len() as u64, 3 * u64::from(rate.0), "{rate:?}: no tick is lost");
        assert!((report.failed_ticks as f64 * turn_s(rate) - 0.15).abs() <= turn_s(rate) + 1e-9, "{rate:?}: {}", report.failed_ticks);

        let (report, _, _, stopped_s) = flaky(rate, 1.0, spoil);
        assert!(report.reason.unwrap().contains("reading the arm: checksum"), "{rate:?}");
        assert!((1.2 - 1e-9..1.2 + 2.0 * turn_s(rate) + 1e-9).contains(&stopped_s), "{rate:?}: {stopped_s}");
    }
}

#[test]
fn after_writes_that_fail_no_register_steps_further_than_its_limit() {
    for rate in RATES {
        for arrives in [Arrives::Nothing, Arrives::HalfAndIsTold, Arrives::AllAndIsNotTold] {
            let mut arm = Arm::new().rate_hz(rate.0);
            arm.arrives = arrives;
            let from = u64::from(rate.1) * 6;
            arm.on_write = Box::new(move |turn| if (from..from + 5).contains(&turn) { Err(transient()) } else { Ok(()) });
            let mut leader = Leader::new(|_| [1.4, 0.9]).thread();
            // As fast as the gate lets it.
            let config = SessionConfig { rest_velocity_per_s: f64::INFINITY, ..config(rate.1) };
            let mut scene = Scene::lasting(u64::from(rate.0));
            let report = run(&config, &mut arm, &mut scene, Source::Teleoperator(&mut leader), &mut []);
            assert_eq!((report.faults.len(), report.failed_ticks), (0, 5), "{rate:?}");
            let most = VELOCITY * turn_s(rate);
            assert!(arm.largest_step() <= most + 1e-9, "{rate:?}: {} in a turn, at most {most}", arm.largest_step());
            assert!(arm.largest_step() > 0.2 * most && (arm.goals[0] - 1.4).abs() < 1e-9, "{rate:?}: it moves, and arrives");
        }
    }
}

#[test]
fn an_arm_that_sags_before_and_while_torque_goes_on_does_not_jump() {
    for rate in RATES {
        for is_policy in [true, false] {
            let mut arm = Arm::at([-0.2, -0.2]).rate_hz(rate.0);
            let mut looks = 0;
            arm.spoil = Box::new(move |_, seen| {
                looks += 1;
                // When it was looked at first it was still held up.
                seen[0] += if looks == 1 { 0.2 } else { 0.0 };
            });
            arm.on_enable = Box::new(|position| {
                position[0] -= 0.1;
                Ok(())
            });
            let (config, mut scene) = (config(rate.1), Scene::lasting(u64::from(rate.0)));
            let (mut policy, mut leader) = (Fake::new(100, 50).thread(), Leader::new(|_| [0.0, -0.2]).thread());
            let source = if is_policy { Source::Policy(&mut policy) } else { Source::Teleoperator(&mut leader) };
            let report = run(&config, &mut arm, &mut scene, source, &mut []);
            assert!(report.faults.is_empty(), "{:?}", report.faults);
            assert!((arm.registers[0][0] + 0.3).abs() < 1e-9 && (arm.writes[0][0] + 0.3).abs() < 1e-9, "{rate:?}: {:?}", arm.writes[0]);
            let stride = (config.rest_velocity_per_s + 0.001 * f64::from(rate.0)) * turn_s(rate) * CATCHING_UP;
            let steps = arm.registers.windows(2).map(|pair| (pair[1][0] - pair[0][0]).abs()).fold(0.0, f64::max);
            assert!(steps <= stride, "{rate:?}: {steps} in a turn");
            assert!(arm.goals[0] > -0.05, "{rate:?}: it gets there: {:?}", arm.goals);
        }
    }
}

#[test]
fn first_goals_that_are_near_are_come_to_no_faster_than_to_rest() {
    for rate in RATES {
        // The policy begins at 0, and then moves by 0.001 a tick.
        let mut arm = Arm::at([-0.3, -0.2]).rate_hz(rate.0);
        let config = config(rate.1);
        let (report, tape) = run_for(Arc::new(MockClock::new()), &config, &mut arm, &Fake::new(100, 50), 2.0);
        assert!(report.faults.is_empty());
        let most = (config.rest_velocity_per_s + 0.001 * f64::from(rate.0)) * turn_s(rate);
        let steps: Vec<f64> = arm.registers.windows(2).map(|pair| pair[1][0] - pair[0][0]).collect();
        // The gate, which smooths how it begins, may be faster for a moment to catch up.
        assert!(steps.iter().all(|step| *step <= most * CATCHING_UP), "{rate:?}: {:?}", steps.iter().copied().fold(0.0, f64::max));
        let wanted: Vec<f64> = tape.frames.iter().map(|frame| frame.wanted[0]).collect();
        assert_eq!(wanted[0], -0.3, "it begins where the arm is");
        let stride = most * f64::from(rate.1);
        assert!(wanted.windows(2).all(|pair| pair[1] - pair[0] <= stride + 1.1e-6), "{rate:?}: {wanted:?}");
        let first =
            tape.frames.iter().position(|frame| answer_and_tick(frame.wanted[0]).1 == frame.tick && frame.wanted[0] >= 0.0).unwrap();
        let took_s = first as f64 / f64::from(rate.0);
        assert!((0.3 / 0.8 - 0.01..0.3 / 0.8 + 0.05).contains(&took_s), "{rate:?}: it is there after {took_s} s");
    }
}

#[test]
fn a_joint_that_falls_silent_has_the_whole_arm_brake_and_then_ends_the_episode() {
    type Silence = fn(&mut Arm, Box<dyn Fn() -> bool + Send>);
    let silences: [(Silence, &str); 3] = [
        (|arm, fails| arm.spoil = Box::new(move |_, seen| seen[1] = if fails() { f64::NAN } else { seen[1] }), "elbow.pos"),
        (|arm, fails| arm.spoil = Box::new(move |_, seen| seen[1] = if fails() { f64::INFINITY } else { seen[1] }), "elbow.pos"),
        (|arm, fails| arm.on_observe = Box::new(move |_| if fails() { Err(transient()) } else { Ok(()) }), "shoulder.pos"),
    ];
    for rate in RATES {
        for (silence, who) in silences {
            let turn_s = turn_s(rate);
            // Heard of in time again.
            let (report, tape, arm, _) = flaky(rate, 0.1, silence);
            assert!(report.faults.is_empty() && report.interventions.unknown == 0, "{rate:?}: {:?}", report.faults);
            assert_eq!((tape.frames.len() as u64, arm.stops), (3 * u64::from(rate.0), 1), "{rate:?}");

            let (report, tape, ..) = flaky(rate, 0.4, silence);
            assert!(report.faults.is_empty() && report.interventions.unknown > 0, "{rate:?}: {:?}", report.faults);
            assert_eq!(tape.frames.len() as u64, 3 * u64::from(rate.0), "{rate:?}: all of it is told");

            let (report, tape, _, stopped_s) = flaky(rate, 5.0, silence);
            let reason = report.reason.unwrap();
            assert!(reason.contains(&format!("{who} has not been known for 5")) && reason.contains("within 500 ms"), "{rate:?}: {reason}");
            assert!((1.5 - 2.0 * turn_s..1.5 + 2.0 * turn_s).contains(&stopped_s), "{rate:?}: {stopped_s}");
            let sent = |from: f64, to: f64| -> Vec<f64> {
                let during = |frame: &&sinew_core::Frame| (from..to).contains(&frame.due.as_secs_f64());
                tape.frames.iter().filter(during).map(|frame| frame.sent[0]).collect()
            };
            let (before, still) = (sent(0.5, 1.1), sent(1.3, 1.5));
            assert!(before.windows(2).all(|pair| pair[1] > pair[0]), "{rate:?}: it moves on while it is known");
            assert!(still.len() > 3 && still.iter().all(|sent| (sent - still[0]).abs() < 1e-9), "{rate:?}: it stands: {still:?}");
        }
    }
}

#[test]
fn an_image_that_is_too_old_ends_the_episode_and_names_its_camera() {
    for rate_hz in [30, 50, 200] {
        let mut arm = Arm::new().rate_hz(rate_hz);
        let last = u64::from(rate_hz) / 10;
        arm.eyes.on_look = Box::new(move |tick| tick <= last);
        let (report, tape) = run_for(Arc::new(MockClock::new()), &config(1), &mut arm, &Fake::new(100, 50), 3.0);
        let reason = report.reason.unwrap();
        assert!(reason.starts_with("looking through camera front at tick "), "{reason}");
        assert!(reason.ends_with("s old, expected at most 0.50 s"), "{reason}");
        assert!(matches!(report.faults[..], [Fault::StaleImage { .. }]) && arm.stops == 1);
        let age_ticks = tape.ticks().last().unwrap() - last;
        assert_eq!(age_ticks, u64::from(rate_hz) / 2, "at {rate_hz} Hz");
    }
    // Where it may be shown again it goes on, and its age stands in every frame; its number stays.
    let mut arm = Arm::new();
    arm.description.cameras[0].when_old = WhenOld::Repeat;
    arm.eyes.on_look = Box::new(|tick| tick <= 10);
    let (report, tape) = run_for(Arc::new(MockClock::new()), &config(1), &mut arm, &Fake::new(100, 50), 3.0);
    assert!(report.faults.is_empty(), "{report:?}");
    let last = tape.frames.last().unwrap();
    let image = &last.observation.images[0];
    let age_s = last.observation.time.nanos_since(image.captured_at) as f64 * 1e-9;
    let sequences: Vec<u64> = tape.frames.iter().map(|frame| frame.observation.images[0].sequence).collect();
    assert!(age_s > 2.0 && sequences.last() == sequences.get(sequences.len() / 2), "{age_s} {sequences:?}");
    // Before anything moves there must be one.
    let mut arm = Arm::new();
    arm.eyes.on_look = Box::new(|_| false);
    let clock = Arc::new(MockClock::new());
    clock.advance(Duration::from_secs(9));
    let (report, _) = run_for(clock, &config(1), &mut arm, &Fake::new(100, 50), 3.0);
    let reason = report.reason.unwrap();
    assert!(reason.starts_with("looking through camera front at tick 0: its newest image is 14.0"), "{reason}");
    assert_eq!((arm.enables, arm.stops), (0, 0));
}

#[test]
fn a_safe_action_that_fails_is_tried_again() {
    for error in [lost, transient] {
        let mut arm = Arm::new();
        arm.on_stop = Box::new(move |times| if times == 0 { Err(error()) } else { Ok(()) });
        let (report, _) = run_for(Arc::new(MockClock::new()), &config(1), &mut arm, &Fake::new(100, 50), 1.0);
        assert_eq!((report.outcome, report.faults.len(), arm.stops), (EpisodeOutcome::Failure, 0, 2), "{:?}", report.faults);
    }
}

#[test]
fn torque_that_goes_on_half_way_is_taken_back() {
    for error in [lost, transient] {
        let mut arm = Arm::new();
        arm.on_enable = Box::new(move |_| Err(error()));
        let (report, tape) = run_for(Arc::new(MockClock::new()), &config(1), &mut arm, &Fake::new(100, 50), 1.0);
        assert_eq!((report.outcome, arm.enables, arm.stops), (EpisodeOutcome::Fault, 1, 1));
        assert!(report.reason.unwrap().starts_with("arming the robot: giving the robot torque: reading the arm: "));
        assert!(arm.writes.is_empty() && tape.frames.is_empty());
    }
}

#[test]
fn a_way_that_cannot_be_finished_is_a_fault() {
    for rate in RATES {
        // To the start.
        let mut arm = Arm::at([1.2, -0.2]).rate_hz(rate.0);
        arm.stuck = true;
        let policy = Fake::new(100, 50);
        let (report, tape) = run_for(Arc::new(MockClock::new()), &config(rate.1), &mut arm, &policy, 1.0);
        assert_eq!((report.outcome, report.ticks, arm.stops), (EpisodeOutcome::Fault, 0, 1), "{rate:?}");
        let reason = report.reason.unwrap();
        assert!(reason.starts_with("moving to the start: 0.700 rad or m are left after "), "{rate:?}: {reason}");
        assert_eq!((policy.log().calls, tape.frames.len()), (1, 0));
        // No further than the gate lets it.
        assert!((arm.goals[0] - 0.7).abs() < 1e-6, "{rate:?}: {:?}", arm.goals);

        // To rest.
        let mut arm = Arm::at([-0.2, -0.2]).rate_hz(rate.0);
        arm.stuck = true;
        let config = SessionConfig { return_to_rest: ReturnToRest::Always, ..config(rate.1) };
        let (report, _) = run_for(Arc::new(MockClock::new()), &config, &mut arm, &policy, 0.1);
        let words = report.faults.iter().map(Fault::chain).collect::<Vec<_>>();
        assert!(words.len() == 1 && words[0].starts_with("moving to the rest position: 0.2"), "{rate:?}: {words:?}");
        assert_eq!(arm.stops, 1);
    }
}

#[test]
fn a_way_takes_as_long_as_its_speed_says_at_any_rate() {
    for rate in RATES {
        for [acceleration, jerk] in [[None, None], [Some(2.0), Some(20.0)]] {
            let mut arm = Arm::at([1.2, -0.2]).rate_hz(rate.0);
            for part in &mut arm.description.parts {
                (part.limits.acceleration, part.limits.jerk) = (acceleration, jerk);
            }
            let config = config(rate.1);
            let (report, tape) = run_for(Arc::new(MockClock::new()), &config, &mut arm, &Fake::new(100, 50), 0.5);
            assert!(report.faults.is_empty(), "{rate:?}: {:?}", report.faults);
            let interventions = tape.frames[0].interventions.total();
            assert!(interventions <= 2, "{rate:?}: the way is no part of the episode: {interventions}");
            assert!(u64::from(report.interventions.total()) <= 2 * report.ticks, "{rate:?}");
            let way_s = (arm.writes.len() as u64 - report.ticks) as f64 * turn_s(rate);
            let planned_s = 1.2 / config.rest_velocity_per_s;
            assert!((planned_s - 0.01..planned_s + 1.5).contains(&way_s), "{rate:?}, {acceleration:?}: {way_s} s, not {planned_s} s");
            let most = config.rest_velocity_per_s * turn_s(rate) * CATCHING_UP;
            let way = &arm.registers[..arm.registers.len() - report.ticks as usize];
            let step = way.windows(2).map(|pair| (pair[1][0] - pair[0][0]).abs()).fold(0.0, f64::max);
            assert!(step <= most, "{rate:?}, {acceleration:?}: {step} in a turn, at most {most}");
        }
    }
}

#[test]
fn a_first_turn_that_fails_loses_neither_the_policys_tick_nor_its_frame() {
    for inference in [Inference::Sync, Inference::Async] {
        for (multiplier, is_read) in [(4, true), (4, false), (1, true)] {
            let fails = move |turn: u64| if turn.is_multiple_of(3 * multiplier) { Err(transient()) } else { Ok(()) };
            let mut arm = Arm::at([0.0, -0.2]);
            let mut looks = 0;
            if is_read {
                arm.on_observe = Box::new(move |turn| {
                    looks += 1;
                    if looks > 3 { fails(turn) } else { Ok(()) }
                });
            } else {
                arm.on_write = Box::new(fails);
            }
            let config = SessionConfig { inference, ..config(multiplier as u32) };
            let (report, tape) = run_for(Arc::new(MockClock::new()), &config, &mut arm, &Fake::new(10, 10), 0.6);
            assert!(report.faults.is_empty() && report.failed_ticks == 10, "{:?}, {} failed", report.faults, report.failed_ticks);
            assert_eq!(tape.ticks(), (0..30).collect::<Vec<_>>());
            let rows: Vec<u64> = tape.frames.iter().map(|frame| answer_and_tick(frame.wanted[0]).1).collect();
            assert_eq!(rows, tape.ticks(), "{inference:?}, {multiplier} turns a tick: each row at its tick");
        }
    }
}

#[test]
fn a_stop_on_the_way_to_the_start_is_heard() {
    for level in [StopLevel::Stop, StopLevel::Now] {
        let stop = StopFlag::new();
        let mut arm = Arm::at([1.2, -0.2]);
        let raised = stop.clone();
        arm.on_write = Box::new(move |turn| {
            if turn == 10 {
                raised.request(level);
            }
            Ok(())
        });
        let (clock, policy) = (Arc::new(MockClock::new()), Fake::new(100, 50));
        let report = run_on(clock, &config(1), &mut arm, &mut Scene::lasting(50), Source::Policy(&mut policy.thread()), &mut [], &stop);
        assert!(report.was_interrupted() && report.faults.is_empty() && arm.stops == 1);
        let at_rest = (arm.goals[0] - 0.5).abs() < 1e-5;
        assert_eq!((at_rest, policy.log().calls), (level == StopLevel::Stop, 1), "{level:?}");
    }
}
