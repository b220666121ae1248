//! Whatever goes wrong, the arm ends in its safe action, once, and the report says why.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "what fails here fails the test")]

mod common;

use std::sync::Arc;

use common::{Arm, Fake, Leader, PERIOD, Quirk, Scene, Tape, VELOCITY, answer_and_tick, lost, run, run_on};
use proptest::prelude::*;
use sinew_core::{MockClock, Outcome};
use sinew_runtime::{
    EpisodeOutcome, EpisodeReport, Fault, Inference, Keep, Latency, ReturnToRest, SessionConfig, Source, Starvation, StopFlag, StopLevel,
};

fn policy_run(config: &SessionConfig, arm: &mut Arm, policy: &Fake, ticks: u64) -> (EpisodeReport, Tape) {
    let mut tape = Tape::default();
    let report = run(config, arm, &mut Scene::lasting(ticks), Source::Policy(&mut policy.thread()), &mut [&mut tape]);
    assert_eq!(tape.ends.len(), tape.starts.len(), "each episode that was begun was ended");
    (report, tape)
}

fn scripted(script: &[u64]) -> SessionConfig {
    SessionConfig { inference: Inference::Async, latency: Latency::ScriptedTicks(script.to_vec()), ..SessionConfig::default() }
}

#[track_caller]
fn assert_fault(report: &EpisodeReport, tape: &Tape, arm: &Arm, words: &str) {
    assert_eq!(report.outcome, EpisodeOutcome::Fault);
    let reason = report.reason.as_deref().unwrap_or_default();
    assert!(reason.contains(words), "{reason}");
    assert_eq!(arm.enables, arm.stops, "armed and made safe equally often");
    // What led to it is kept, and says why.
    assert_eq!(report.kept, !tape.frames.is_empty());
    for end in &tape.ends {
        assert_eq!((end.keep, &end.outcome), (report.kept, &Outcome::Failure(reason.to_owned())));
    }
}

#[test]
fn a_policy_that_goes_wrong_ends_the_episode_safely_with_the_reason() {
    let cases: [(fn() -> Quirk, &str); 6] = [
        (|| Quirk::Panic, "the policy panicked: index out of bounds"),
        (|| Quirk::Fail, "asking the policy at tick 4: multiplying: no memory"),
        (|| Quirk::NotFinite, "asking the policy at tick 4: its answer has NaN for elbow.pos in row 1, expected a finite number"),
        (|| Quirk::TooWide, "3 values a row, expected 2"),
        (|| Quirk::WrongTick, "rows from tick 5 on, expected 4"),
        (|| Quirk::TooLong, "9 rows, expected 1 to 8"),
    ];
    for config in [SessionConfig::default(), scripted(&[2])] {
        for (quirk, words) in cases {
            // In real time: tests/hangs.rs. 8 rows, of which 4 (synchronous) or 7 - 3 (asynchronous) are executed before asking.
            let steps = if config.inference == Inference::Sync { 4 } else { 7 };
            let policy = Fake::new(8, steps).with(move |call| if call == 1 { quirk() } else { Quirk::None });
            let mut arm = Arm::new();
            let (report, tape) = policy_run(&config, &mut arm, &policy, 40);
            assert_fault(&report, &tape, &arm, words);
            assert_eq!(arm.stops, 1);
            assert!(arm.writes.iter().flatten().all(|goal| goal.is_finite()));
        }
    }
}

#[test]
fn a_policy_that_fails_at_first_never_moves_the_arm() {
    let mut arm = Arm::new();
    let (report, tape) = policy_run(&SessionConfig::default(), &mut arm, &Fake::new(8, 8).with(|_| Quirk::Panic), 40);
    assert_fault(&report, &tape, &arm, "the policy panicked");
    assert_eq!((arm.enables, arm.writes.len(), report.ticks), (0, 0, 0));
}

#[test]
fn a_queue_that_runs_dry_is_counted_and_treated_as_declared() {
    // All 4 rows are to be executed, an answer takes 6 ticks and its own rows are late by then.
    let starving = |starvation| {
        let mut arm = Arm::new();
        let config = SessionConfig { starvation, ..scripted(&[6]) };
        let (report, tape) = policy_run(&config, &mut arm, &Fake::new(4, 4), 30);
        (report, tape, arm)
    };

    let (report, tape, _) = starving(Starvation::Hold);
    assert_eq!(report.starved_ticks, 26);
    assert_eq!(tape.frames.iter().filter(|frame| frame.starved).count(), 26);
    // The motion was one of 0.001 rad a tick.
    let held = tape.frames[3].sent[0];
    assert!(tape.frames[4..].iter().all(|frame| (frame.sent[0] - held).abs() < 2e-3), "it is braked at once");
    assert!(tape.frames[10..].iter().all(|frame| frame.sent == tape.frames[10].sent), "and stands");
    assert!(report.late_rows > 0);

    let (report, tape, _) = starving(Starvation::SlowStop);
    assert_eq!(report.starved_ticks, 26);
    let goals: Vec<f64> = tape.frames.iter().map(|frame| frame.sent[0]).collect();
    let steps: Vec<f64> = goals.windows(2).map(|pair| pair[1] - pair[0]).collect();
    // A tick is 20 ms long: the motion loses a fifth of its speed in each, and ends with the fifth.
    for (turns, step) in (1..).zip(&steps[3..]) {
        let expected = steps[2] * (1.0 - 0.2 * f64::from(turns)).max(0.0);
        assert!(steps[2] != 0.0 && (step - expected).abs() < 1e-9, "the motion runs out: {steps:?}");
    }

    let (report, tape, arm) = starving(Starvation::Stop);
    assert_fault(&report, &tape, &arm, "no action was queued for tick 4");
    assert_eq!(arm.stops, 1);
}

#[test]
fn a_late_answer_is_spliced_by_tick_none_replayed_none_shifted() {
    // Latencies disagree wildly; every row executed is for its tick, and answers never go backwards.
    let (report, tape) = policy_run(&scripted(&[1, 9, 0, 14, 3]), &mut Arm::at([0.0, -0.2]), &Fake::new(20, 12), 200);
    let mut newest = 0;
    for frame in tape.frames.iter().filter(|frame| !frame.starved) {
        let (answer, tick) = answer_and_tick(frame.wanted[0]);
        assert_eq!(tick, frame.tick);
        assert!(answer >= newest);
        newest = answer;
    }
    assert!(newest > 10 && report.late_rows > 0);
}

#[test]
fn a_spike_in_latency_is_remembered_and_then_forgotten() {
    let mut script = vec![1; 40];
    script[5] = 10;
    let policy = Fake::new(40, 16);
    let (report, _) = policy_run(&scripted(&script), &mut Arm::new(), &policy, 400);
    let gaps: Vec<u64> = policy.log().asked_ticks.windows(2).map(|pair| pair[1] - pair[0]).collect();
    // 16 rows less 1 tick less 1 to be safe; after the spike less 10 less 1, for 16 answers.
    assert_eq!(gaps[..6], [14, 14, 14, 14, 14, 14]);
    assert!(gaps[6..22].iter().all(|gap| *gap == 5 || *gap == 10), "{gaps:?}");
    assert_eq!(gaps[23], 14, "{gaps:?}");
    assert_eq!(report.starved_ticks, 0);
}

#[test]
fn missed_ticks_are_skipped_and_counted_never_burst() {
    let clock = Arc::new(MockClock::new());
    let stalling = clock.clone();
    let mut arm = Arm::at([0.0, -0.2]);
    arm.on_observe = Box::new(move |tick| {
        if tick == 5 {
            stalling.advance(PERIOD * 4 + PERIOD / 2);
        }
        Ok(())
    });
    let mut tape = Tape::default();
    let policy = Fake::new(30, 30);
    let report = run_on(
        clock,
        &scripted(&[0]),
        &mut arm,
        &mut Scene::lasting(14),
        Source::Policy(&mut policy.thread()),
        &mut [&mut tape],
        &StopFlag::new(),
    );
    assert_eq!(tape.ticks(), [0, 1, 2, 3, 4, 5, 9, 10, 11, 12, 13]);
    assert_eq!((report.missed_ticks, report.ticks), (3, 11));
    let late_ns = tape.frames[6].lateness_ns;
    assert_eq!(late_ns, PERIOD.as_nanos() as i64 / 2);
    let since_first_missed_ns = (PERIOD * 3).as_nanos() as u64 + late_ns.unsigned_abs();
    assert_eq!(report.cadence.lateness.stats().max_ns, since_first_missed_ns, "a stall is told in full");
    assert_eq!(answer_and_tick(tape.frames[6].wanted[0]).1, 9, "rows of missed ticks are skipped with them");
}

#[test]
fn a_lost_robot_ends_the_episode_and_is_still_told_to_be_safe() {
    let mut arm = Arm::new();
    arm.on_observe = Box::new(|tick| if tick == 9 { Err(lost()) } else { Ok(()) });
    arm.on_stop = Box::new(|_| Err(lost()));
    let (report, tape) = policy_run(&SessionConfig::default(), &mut arm, &Fake::new(8, 8), 40);
    assert_eq!(std::mem::take(&mut arm.stops), 3, "it is tried again and again");
    arm.enables = 0;
    assert_fault(&report, &tape, &arm, "reading the robot at tick 9: reading the arm: the robot is lost: unplugged");
    assert!(matches!(report.faults[..], [Fault::Observe { .. }, Fault::Stop(_)]), "{:?}", report.faults);
}

#[test]
fn a_robot_that_panics_is_made_safe_on_the_way_out() {
    let mut arm = Arm::new();
    arm.on_write = Box::new(|tick| if tick == 6 { panic!("driver") } else { Ok(()) });
    let (report, tape) = policy_run(&SessionConfig::default(), &mut arm, &Fake::new(8, 8), 40);
    assert_fault(&report, &tape, &arm, "the control panicked: driver");
    assert_eq!(arm.stops, 1);
}

#[test]
fn a_position_that_is_not_known_at_the_start_is_refused_before_anything_moves() {
    for spoilt in [f64::NAN, f64::INFINITY] {
        let mut arm = Arm::new();
        arm.spoil = Box::new(move |_, position| position[1] = spoilt);
        let (report, tape) = policy_run(&SessionConfig::default(), &mut arm, &Fake::new(8, 8), 40);
        assert_fault(&report, &tape, &arm, "arming the robot: holding the robot where it is: elbow.pos is not known");
        assert_eq!(arm.enables, 0);

        let mut leader = Leader::new(|_| [0.0, 0.0]).thread();
        let report = run(&SessionConfig::default(), &mut arm, &mut Scene::lasting(5), Source::Teleoperator(&mut leader), &mut []);
        assert_fault(&report, &Tape::default(), &arm, "elbow.pos is not known");
        assert!(arm.writes.is_empty());
    }
}

#[test]
fn a_sink_that_fails_drops_the_episode_and_leaves_the_arm_safe() {
    let failing = |spoil: fn(&mut Tape)| {
        let (mut arm, mut broken, mut healthy, policy) = (Arm::new(), Tape::default(), Tape::default(), Fake::new(8, 8));
        spoil(&mut broken);
        let mut scene = Scene { success_after: Some(20), ..Scene::lasting(40) };
        let sinks: &mut [&mut dyn sinew_core::FrameSink] = &mut [&mut broken, &mut healthy];
        let report = run(&SessionConfig::default(), &mut arm, &mut scene, Source::Policy(&mut policy.thread()), sinks);
        assert_eq!(arm.enables, arm.stops);
        assert!(!report.kept);
        (report, arm, broken, healthy)
    };

    for spoil in [(|tape| tape.fail_at = Some(5)) as fn(&mut Tape), |tape| tape.panic_at = Some(5)] {
        let (report, arm, broken, healthy) = failing(spoil);
        assert_eq!((report.outcome, arm.stops, broken.frames.len()), (EpisodeOutcome::Fault, 1, 5));
        assert!(!broken.ends[0].keep && !healthy.ends[0].keep);
    }
    let (report, arm, broken, healthy) = failing(|tape| tape.fail_begin = true);
    assert!(report.reason.unwrap().contains("beginning: disk full"));
    assert_eq!((arm.enables, arm.observed_ticks.len()), (0, 0), "it fails before anything moves");
    assert_eq!((broken.ends.len(), healthy.starts.len(), healthy.ends.len()), (1, 1, 1));
    assert!(!broken.ends[0].keep && !healthy.ends[0].keep);

    // The episode came to its own end; only its recording is lost.
    let (report, ..) = failing(|tape| tape.fail_end = true);
    assert_eq!(report.outcome, EpisodeOutcome::Success);
    assert!(report.faults[0].chain().contains("committing: disk full"));
}

#[test]
fn what_is_kept_is_what_was_declared() {
    let kept = |success_after, keep| {
        let (mut arm, mut tape, policy) = (Arm::new(), Tape::default(), Fake::new(8, 8));
        let mut scene = Scene { success_after, ..Scene::lasting(10) };
        let config = SessionConfig { keep, ..SessionConfig::default() };
        let report = run(&config, &mut arm, &mut scene, Source::Policy(&mut policy.thread()), &mut [&mut tape]);
        assert_eq!(report.kept, tape.ends[0].keep);
        (report.kept, tape.ends[0].outcome.clone())
    };
    assert_eq!(kept(Some(5), Keep::Successes), (true, Outcome::Success));
    assert_eq!(kept(Some(5), Keep::Finished), (true, Outcome::Success));
    let limit = || Outcome::Failure("the time limit of 10 ticks has passed".into());
    assert_eq!(kept(None, Keep::Successes), (false, limit()));
    assert_eq!(kept(None, Keep::Finished), (true, limit()));
}

/// What may break in the middle of an episode, and where in a tick.
#[derive(Clone, Copy, Debug)]
enum Accident {
    LostReading,
    LostWriting,
    PanicReading,
    PanicWriting,
    Stop,
    StopNow,
    SinkFails,
    PolicyPanics,
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 80, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_breaks_wherever_the_arm_is_made_safe_once_and_moves_within_its_limits(
        accident in prop::sample::select(vec![
            Accident::LostReading, Accident::LostWriting, Accident::PanicReading, Accident::PanicWriting,
            Accident::Stop, Accident::StopNow, Accident::SinkFails, Accident::PolicyPanics,
        ]),
        at in 0u64..30,
        asynchronous: bool,
        always_rest: bool,
    ) {
        let stop = StopFlag::new();
        let (reading, writing) = (stop.clone(), stop.clone());
        let mut arm = Arm::new();
        let mut observed = 0;
        arm.on_observe = Box::new(move |tick| {
            // Tick 0 is looked at before it begins: once, and before and after torque goes on.
            observed += 1;
            match accident {
                _ if tick != at || observed <= 3 => {}
                Accident::LostReading => return Err(lost()),
                Accident::PanicReading => panic!("reading"),
                Accident::Stop => reading.request(StopLevel::Stop),
                _ => {}
            }
            Ok(())
        });
        arm.on_write = Box::new(move |tick| {
            match accident {
                _ if tick != at => {}
                Accident::LostWriting => return Err(lost()),
                Accident::PanicWriting => panic!("writing"),
                Accident::StopNow => writing.request(StopLevel::Now),
                _ => {}
            }
            Ok(())
        });
        let policy = Fake::new(8, 4).with(move |call| match accident {
            Accident::PolicyPanics if call == at / 4 => Quirk::Panic,
            _ => Quirk::None,
        });
        let mut tape = Tape { fail_at: matches!(accident, Accident::SinkFails).then_some(at), ..Tape::default() };
        let config = SessionConfig {
            return_to_rest: if always_rest { ReturnToRest::Always } else { ReturnToRest::WhenInterrupted },
            ..if asynchronous { scripted(&[2, 0, 5]) } else { SessionConfig::default() }
        };
        let report = run_on(
            Arc::new(MockClock::new()),
            &config,
            &mut arm,
            &mut Scene::lasting(60),
            Source::Policy(&mut policy.thread()),
            &mut [&mut tape],
            &stop,
        );
        prop_assert_eq!(arm.enables, arm.stops);
        let stopped = matches!(accident, Accident::Stop | Accident::StopNow);
        prop_assert_eq!(report.outcome, if stopped { EpisodeOutcome::Interrupted } else { EpisodeOutcome::Fault });
        prop_assert_eq!(report.faults.is_empty(), stopped);
        let kept = !stopped && !matches!(accident, Accident::SinkFails) && !tape.frames.is_empty();
        prop_assert_eq!((report.kept, tape.ends[0].keep, tape.ends.len()), (kept, kept, 1));
        let reach = VELOCITY * PERIOD.as_secs_f64() + 1e-12;
        for pair in arm.writes.windows(2) {
            prop_assert!(pair[0].iter().zip(&pair[1]).all(|(a, b)| (a - b).abs() <= reach));
        }
    }
}

#[test]
fn real_time_chunking_is_refused_where_the_policy_cannot_do_it() {
    let mut arm = Arm::new();
    let config = SessionConfig { inference: Inference::Rtc, ..SessionConfig::default() };
    let (report, tape) = policy_run(&config, &mut arm, &Fake::new(8, 4), 40);
    assert_fault(&report, &tape, &arm, "asking the fake policy to continue its chunks: it can't");
    assert_eq!(arm.enables, 0);
}

#[test]
fn a_loop_that_would_turn_too_fast_is_refused() {
    let mut arm = Arm::new();
    let config = SessionConfig { control_multiplier: 21, ..SessionConfig::default() };
    let (report, tape) = policy_run(&config, &mut arm, &Fake::new(8, 4), 40);
    assert_fault(&report, &tape, &arm, "running the loop at 1050 Hz: expected 1 to 1000");
}
