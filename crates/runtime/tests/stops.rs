//! A stop that is asked for, in whatever an episode is doing.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "what fails here fails the test")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use common::{Arm, Fake, PERIOD, Quirk, Scene, Tape, run_in, run_on};
use sinew_core::MockClock;
use sinew_runtime::{EpisodeReport, MonotonicClock, ReturnToRest, Session, SessionConfig, Source, StopFlag, StopLevel};

/// A stop asked for in the middle of an episode.
fn interrupt(level: StopLevel, config: &SessionConfig) -> (EpisodeReport, Tape, Arm) {
    let stop = StopFlag::new();
    let raised = stop.clone();
    let mut arm = Arm::new();
    arm.on_observe = Box::new(move |tick| {
        if tick == 10 {
            raised.request(level);
        }
        Ok(())
    });
    let mut tape = Tape::default();
    let policy = Fake::new(8, 8);
    let clock = Arc::new(MockClock::new());
    let report = run_on(clock, config, &mut arm, &mut Scene::lasting(40), Source::Policy(&mut policy.thread()), &mut [&mut tape], &stop);
    (report, tape, arm)
}

#[test]
fn an_interrupt_brings_the_arm_to_rest_and_drops_the_episode() {
    let (report, tape, arm) = interrupt(StopLevel::Stop, &SessionConfig::default());
    assert!(report.was_interrupted() && report.faults.is_empty() && !report.kept);
    assert_eq!((arm.enables, arm.stops), (1, 1));
    assert_eq!(tape.ticks().last(), Some(&10), "the way to rest is no part of the episode");
    assert_eq!(tape.ends.len(), 1);
    assert!(!tape.ends[0].keep);
    let last = arm.writes.last().unwrap();
    assert!((last[0] - 0.5).abs() < 1e-5 && (last[1] + 0.5).abs() < 1e-5, "{last:?}");
    let stride = SessionConfig::default().rest_velocity_per_s * PERIOD.as_secs_f64() + 1e-12;
    for pair in arm.writes[11..].windows(2) {
        assert!((pair[1][0] - pair[0][0]).abs() <= stride && (pair[1][1] - pair[0][1]).abs() <= stride);
    }
    assert!(arm.observed_ticks.windows(2).all(|pair| pair[0] <= pair[1]), "tick indices go on rising");
}

#[test]
fn an_urgent_interrupt_and_a_session_told_so_skip_the_way_to_rest() {
    let never = SessionConfig { return_to_rest: ReturnToRest::Never, ..SessionConfig::default() };
    for (level, config) in [(StopLevel::Now, SessionConfig::default()), (StopLevel::Stop, never)] {
        let (report, tape, arm) = interrupt(level, &config);
        assert!(report.was_interrupted());
        assert_eq!((arm.stops, arm.writes.len()), (1, 11));
        assert_eq!(tape.frames.len(), 11);
    }
}

#[test]
fn a_stop_reaches_a_loop_that_waits_for_a_policy() {
    let stop = StopFlag::new();
    let raised = stop.clone();
    let released = Arc::new(AtomicBool::new(false));
    let release = released.clone();
    let policy = Fake::new(4, 4).with(move |call| {
        if call == 2 {
            raised.request(StopLevel::Stop);
            // Busy until the arm is safe: what the control thread must not wait for.
            while !released.load(SeqCst) {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        Quirk::None
    });
    let mut arm = Arm::new();
    arm.on_stop = Box::new(move |_| {
        release.store(true, SeqCst);
        Ok(())
    });
    let mut session = Session::new(SessionConfig::default(), Arc::new(MonotonicClock::new()), stop);
    let report = run_in(&mut session, &mut arm, &mut Scene::lasting(100), Source::Policy(&mut policy.thread()), &mut []);
    assert!(report.was_interrupted());
    assert_eq!(arm.stops, 1);
    assert!(!session.progress().snapshot().armed);
}

#[test]
fn a_stop_before_the_beginning_begins_nothing() {
    let stop = StopFlag::new();
    stop.escalate();
    let (mut arm, mut tape, policy) = (Arm::new(), Tape::default(), Fake::new(4, 4));
    let clock = Arc::new(MockClock::new());
    let config = SessionConfig::default();
    let report = run_on(clock, &config, &mut arm, &mut Scene::lasting(5), Source::Policy(&mut policy.thread()), &mut [&mut tape], &stop);
    assert!(report.was_interrupted());
    assert_eq!((arm.enables, tape.starts.len(), policy.log().calls), (0, 0, 0));
}
