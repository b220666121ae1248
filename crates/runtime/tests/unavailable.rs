//! A policy that has no answer for a while, as one behind a network: the loop plays what it has, then does as declared, and goes
//! on by itself.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "what fails here fails the test")]

mod common;

use std::sync::Arc;
use std::time::{Duration, Instant};

use common::{Arm, Fake, Quirk, Scene, Tape, answer_and_tick, run, run_on};
use sinew_core::{Frame, MockClock};
use sinew_runtime::{
    EpisodeOutcome, EpisodeReport, Inference, Latency, MonotonicClock, SessionConfig, Source, Starvation, StopFlag, StopLevel,
};

fn scripted(inference: Inference) -> SessionConfig {
    let latency = if inference == Inference::Sync { Latency::Measured } else { Latency::ScriptedTicks(vec![2]) };
    SessionConfig { inference, latency, ..SessionConfig::default() }
}

/// An episode of 100 ticks in which the calls of `gone` have no answer.
fn run_with(config: &SessionConfig, gone: std::ops::Range<u64>) -> (EpisodeReport, Tape, Fake) {
    let policy = Fake::new(8, 8).with(move |call| if gone.contains(&call) { Quirk::Unavailable } else { Quirk::None });
    let (mut arm, mut tape) = (Arm::at([0.0, 0.0]), Tape::default());
    let report = run(config, &mut arm, &mut Scene::lasting(100), Source::Policy(&mut policy.thread()), &mut [&mut tape]);
    (report, tape, policy)
}

fn starved(frames: &[Frame]) -> Vec<u64> {
    frames.iter().filter(|frame| frame.starved).map(|frame| frame.tick).collect()
}

#[test]
fn what_is_queued_is_played_then_the_arm_holds_and_goes_on_by_itself() {
    for inference in [Inference::Sync, Inference::Async] {
        let (report, tape, policy) = run_with(&scripted(inference), 3..23);
        assert_eq!(report.outcome, EpisodeOutcome::Failure, "{inference:?}: {:?}", report.reason);
        assert_eq!((report.inference.unanswered, report.faults.len()), (20, 0), "{inference:?}");
        let starved = starved(&tape.frames);
        assert_eq!(starved.len() as u64, report.starved_ticks, "{inference:?}");
        assert!(starved.len() > 8, "{inference:?}: {starved:?}");
        let (first, last) = (starved[0], starved[starved.len() - 1]);
        assert_eq!(last - first + 1, starved.len() as u64, "{inference:?}: one gap, and nothing after it: {starved:?}");
        assert!(last < 80, "{inference:?}: {starved:?}");
        for pair in tape.frames.windows(2).filter(|pair| pair[0].starved && pair[1].starved && pair[0].tick > first + 20) {
            assert_eq!(pair[0].sent, pair[1].sent, "{inference:?}: it holds");
        }
        // Each row is for its tick: none is of a question that was left open.
        if inference == Inference::Async {
            for frame in tape.frames.iter().filter(|frame| !frame.starved && frame.tick > last + 20) {
                assert_eq!(answer_and_tick(frame.wanted[0]).1, frame.tick);
            }
        }
        assert_eq!(policy.log().resets, 1, "{inference:?}");
    }
}

#[test]
fn a_policy_that_is_not_there_at_first_is_asked_again() {
    for inference in [Inference::Sync, Inference::Async] {
        let (report, tape, policy) = run_with(&scripted(inference), 0..5);
        assert_eq!((report.outcome, report.inference.unanswered), (EpisodeOutcome::Failure, 5), "{inference:?}: {:?}", report.reason);
        assert!(starved(&tape.frames).is_empty(), "{inference:?}");
        assert_eq!(policy.log().resets, 5 + 1, "{inference:?}: what it was to forget it is told again");
    }
}

/// As a server that gave its first answers at rest, and then none, or none that is of use.
#[test]
fn one_that_never_answers_at_first_is_asked_seldom_and_ends_the_episode_before_anything_moves() {
    for is_warm in [true, false] {
        let policy = Fake::new(8, 8).with(|_| Quirk::Unavailable);
        let thread = if is_warm { policy.thread().warm() } else { policy.thread() };
        let config = SessionConfig { answer_deadline_s: Some(1.0), warm_up_deadline_s: 1.0, ..SessionConfig::default() };
        let (mut arm, mut tape, mut thread) = (Arm::at([0.0, 0.0]), Tape::default(), thread);
        let began = Instant::now();
        let clock = Arc::new(MonotonicClock::new());
        let source = Source::Policy(&mut thread);
        let report = run_on(clock, &config, &mut arm, &mut Scene::lasting(100), source, &mut [&mut tape], &StopFlag::new());
        assert_eq!((report.outcome, arm.enables, tape.frames.len()), (EpisodeOutcome::Fault, 0, 0));
        let reason = report.reason.as_deref().unwrap();
        assert!(reason.contains("at tick 0: no answer after 1.") && reason.contains("expected one within 1.0 s"), "{reason}");
        assert!(reason.contains("the link is gone"), "it says what came: {reason}");
        assert!(began.elapsed() < Duration::from_millis(2500), "{:?}", began.elapsed());
        let calls = policy.log().calls;
        assert!((4..=8).contains(&calls), "{calls} questions in a second");
    }
}

#[test]
fn a_stop_ends_the_wait_for_a_first_answer_at_once() {
    let stop = StopFlag::new();
    let policy = Fake::new(8, 8).with(|_| Quirk::Unavailable);
    let asked = (stop.clone(), policy.clone());
    let asks = std::thread::spawn(move || {
        while asked.1.log().calls < 5 {
            std::thread::sleep(Duration::from_millis(1));
        }
        // In the middle of a pause of 320 ms.
        std::thread::sleep(Duration::from_millis(50));
        asked.0.request(StopLevel::Stop);
        Instant::now()
    });
    let (mut arm, mut thread) = (Arm::at([0.0, 0.0]), policy.thread().warm());
    let clock = Arc::new(MonotonicClock::new());
    let source = Source::Policy(&mut thread);
    let report = run_on(clock, &SessionConfig::default(), &mut arm, &mut Scene::lasting(100), source, &mut [], &stop);
    assert_eq!((report.outcome, arm.enables), (EpisodeOutcome::Interrupted, 0));
    let took = asks.join().unwrap().elapsed();
    assert!(took < Duration::from_millis(100), "{took:?}");
}

#[test]
fn stopping_when_starved_stops_here_too() {
    let config = SessionConfig { starvation: Starvation::Stop, ..scripted(Inference::Async) };
    let (report, ..) = run_with(&config, 3..1000);
    assert_eq!(report.outcome, EpisodeOutcome::Fault);
    assert!(report.reason.as_deref().unwrap().contains("no action was queued for tick"), "{:?}", report.reason);
}

#[test]
fn one_that_stays_away_ends_the_episode() {
    let config = SessionConfig { answer_deadline_s: Some(0.3), ..scripted(Inference::Async) };
    let policy = Fake::new(8, 8).with(|call| if call < 3 { Quirk::None } else { Quirk::Unavailable });
    let (mut arm, mut tape) = (Arm::at([0.0, 0.0]), Tape::default());
    let clock = Arc::new(MockClock::new());
    let mut scene = Scene::lasting(100_000);
    let report = run_on(clock, &config, &mut arm, &mut scene, Source::Policy(&mut policy.thread()), &mut [&mut tape], &StopFlag::new());
    assert_eq!((report.outcome, arm.stops), (EpisodeOutcome::Fault, 1));
    // Its last word, unless it is being asked just then.
    let reason = report.reason.as_deref().unwrap();
    assert!(["the link is gone", "no answer after 0.3 s"].iter().any(|known| reason.contains(known)), "{reason}");
    assert!(report.inference.unanswered >= Duration::from_millis(300).as_millis() as u64 / 20, "{}", report.inference.unanswered);
}
