//! What real-time chunking tells a policy of the time that its answers take, and what becomes of those that
//! take longer.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "what fails here fails the test")]

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::{Arm, Fake, Quirk, Scene, Tape, answer_and_tick, run, run_on};
use sinew_core::{Continuation, MockClock};
use sinew_runtime::{EpisodeOutcome, Fault, Inference, Latency, SessionConfig, Source, StopFlag};

fn scripted(ticks: &[u64]) -> SessionConfig {
    SessionConfig { inference: Inference::Rtc, latency: Latency::ScriptedTicks(ticks.to_vec()), ..SessionConfig::default() }
}

#[test]
fn delays_are_told_in_ticks_of_the_policy_however_often_the_loop_turns() {
    for control_multiplier in [1, 5, 20] {
        let clock = Arc::new(MockClock::new());
        let slow = clock.clone();
        // Three and a half ticks of 20 ms.
        let fake = Fake::new(60, 20).continuing().with(move |_| {
            slow.advance(Duration::from_millis(70));
            Quirk::None
        });
        let config = SessionConfig { inference: Inference::Rtc, control_multiplier, ..SessionConfig::default() };
        let (mut arm, mut tape) = (Arm::new(), Tape::default());
        let source = &mut fake.thread();
        let report = run_on(clock, &config, &mut arm, &mut Scene::lasting(100), Source::Policy(source), &mut [&mut tape], &StopFlag::new());
        assert!(report.faults.is_empty(), "{:?}", report.faults);
        let told: Vec<usize> = fake.log().continuings.iter().flatten().map(|continuing| continuing.delay_rows).collect();
        assert!(told.len() >= 3 && told.iter().all(|delay| *delay == 4), "{control_multiplier} turns a tick: {told:?}");
    }
}

#[test]
fn rows_are_late_by_ticks_of_the_policy_however_often_the_loop_turns() {
    for control_multiplier in [1, 5, 20] {
        let fake = Fake::new(60, 20).continuing();
        let config = SessionConfig { control_multiplier, ..scripted(&[4]) };
        let (mut arm, mut tape) = (Arm::new(), Tape::default());
        let report = run(&config, &mut arm, &mut Scene::lasting(100), Source::Policy(&mut fake.thread()), &mut [&mut tape]);
        // Of 7 answers 6 came beside the loop.
        let log = fake.log();
        assert_eq!(log.asked_ticks, [0, 15, 30, 45, 60, 75, 90], "{control_multiplier} turns a tick");
        assert!(log.continuings[1..].iter().flatten().all(|continuing| (continuing.rows_left, continuing.delay_rows) == (45, 4)));
        assert_eq!((report.late_rows, report.inference.latency.stats().count), (6 * 4, 7), "{control_multiplier} turns a tick");
    }
}

#[test]
fn an_answer_that_took_longer_than_the_rows_it_was_given_is_not_used() {
    let fake = Fake::new(60, 20).within(4);
    let (mut arm, mut tape) = (Arm::at([0.0, -0.2]), Tape::default());
    let config = scripted(&[2, 2, 6, 5, 3]);
    let report = run(&config, &mut arm, &mut Scene::lasting(70), Source::Policy(&mut fake.thread()), &mut [&mut tape]);
    assert!(report.faults.is_empty(), "{:?}", report.faults);
    assert_eq!((report.inference.unused_answers, report.starved_ticks), (2, 0));

    // Asked twice 3 ticks before row 20 is due, and at once after an answer that is of no use.
    let log = fake.log();
    assert_eq!(log.asked_ticks[..6], [0, 14, 28, 42, 48, 53]);
    let told = |rows_left, delay_rows, newest_is_unused| Some(Continuation { rows_left, delay_rows, newest_is_unused });
    let expected = [
        None,
        told(46, 2, false),
        told(46, 2, false),
        // This one takes 6 ticks, and the next 5.
        told(46, 2, false),
        // What is continued is the answer to tick 28 all the time.
        told(40, 4, true),
        told(35, 4, true),
    ];
    assert_eq!(log.continuings[..6], expected);
    let rows: Vec<(u64, u64)> = tape.frames.iter().map(|frame| answer_and_tick(frame.wanted[0])).collect();
    assert!(rows.iter().zip(0..).all(|((_, row), tick)| *row == tick), "{rows:?}");
    assert_eq!([15, 16, 29, 30, 48, 53, 55, 56].map(|tick: usize| rows[tick].0), [0, 1, 1, 2, 2, 2, 2, 5]);
}

#[test]
fn a_policy_that_is_always_slower_than_it_was_trained_for_ends_the_episode() {
    let fake = Fake::new(60, 20).within(4);
    let (mut arm, mut tape) = (Arm::new(), Tape::default());
    let report = run(&scripted(&[5]), &mut arm, &mut Scene::lasting(500), Source::Policy(&mut fake.thread()), &mut [&mut tape]);
    assert_eq!(report.outcome, EpisodeOutcome::Fault);
    let [Fault::Outrun { in_a_row: 5, delay_rows: 5, most: 4, .. }] = report.faults[..] else { panic!("{:?}", report.faults) };
    // It is pulled, as any, where it needn't have been trained for it.
    let fake = Fake::new(60, 20).continuing();
    let report = run(&scripted(&[5]), &mut arm, &mut Scene::lasting(500), Source::Policy(&mut fake.thread()), &mut [&mut tape]);
    assert!(report.faults.is_empty() && report.inference.unused_answers == 0, "{report:?}");
}
