//! On the system's clock: the loop keeps its time whatever others do. Bounds are wide, since other
//! programs share the machine.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "what fails here fails the test")]

mod common;

use std::sync::Arc;
use std::time::{Duration, Instant};

use common::{Arm, Fake, Leader, Quirk, Scene, Tape, run_on};
use sinew_runtime::{EpisodeOutcome, Inference, MonotonicClock, SessionConfig, Source, StopFlag};

fn clock() -> Arc<MonotonicClock> {
    Arc::new(MonotonicClock::new())
}

#[test]
fn an_episode_takes_the_time_its_rate_says() {
    let (mut arm, policy) = (Arm::new(), Fake::new(10, 10));
    let start = Instant::now();
    let report = run_on(
        clock(),
        &SessionConfig::default(),
        &mut arm,
        &mut Scene::lasting(50),
        Source::Policy(&mut policy.thread()),
        &mut [],
        &StopFlag::new(),
    );
    let elapsed = start.elapsed();
    assert!(elapsed >= Duration::from_millis(49 * 20), "{elapsed:?}");
    assert_eq!(report.ticks + report.missed_ticks, 50);
    assert_eq!(report.cadence.lateness.count(), report.ticks);
    assert!(report.cadence.achieved_rate_hz <= 50.5, "never faster: {}", report.cadence.achieved_rate_hz);
    assert_eq!((arm.enables, arm.stops), (1, 1));
    // Once for warm-up, forgotten by a reset, then each time the rows are used up.
    let answers = (report.ticks - report.waiting_ticks).div_ceil(10);
    let calls = policy.log().calls;
    let resets = policy.log().resets;
    assert_eq!((calls, resets, report.inference.latency.count()), (answers + 1, 2, answers));
}

#[test]
fn the_policy_and_the_sinks_have_the_bytes_that_the_robot_brought() {
    let policy = Fake::new(8, 6);
    let mut tape = Tape::default();
    let config = SessionConfig { inference: Inference::Async, ..SessionConfig::default() };
    let mut scene = Scene::lasting(50);
    run_on(clock(), &config, &mut Arm::new(), &mut scene, Source::Policy(&mut policy.thread()), &mut [&mut tape], &StopFlag::new());
    let log = policy.log();
    // What was asked before the first tick was observed anew in it.
    let asked = log.images.iter().filter(|(tick, _)| *tick > 0);
    let seen = |tick: u64| tape.frames.iter().find(|frame| frame.tick == tick).map(|frame| frame.observation.images[0].rgb.as_ptr());
    let pairs: Vec<_> = asked.filter_map(|(tick, image)| Some((image.as_ptr(), seen(*tick)?))).collect();
    assert!(pairs.len() > 3 && pairs.iter().all(|(policy, sink)| policy == sink), "an image was copied: {pairs:?}");
}

#[test]
fn a_slow_sink_loses_frames_and_never_slows_the_loop() {
    let mut tape = Tape { delay: Duration::from_millis(100), ..Tape::default() };
    let mut leader = Leader::new(|_| [0.1, -0.2]).thread();
    let config = SessionConfig { frame_buffer: 4, ..SessionConfig::default() };
    let report = run_on(
        clock(),
        &config,
        &mut Arm::new(),
        &mut Scene::lasting(50),
        Source::Teleoperator(&mut leader),
        &mut [&mut tape],
        &StopFlag::new(),
    );
    assert_eq!(report.outcome, EpisodeOutcome::Failure);
    assert_eq!(report.ticks + report.missed_ticks, 50);
    assert!(report.frames_lost > 0);
    assert_eq!(tape.frames.len() as u64 + report.frames_lost, report.ticks);
    assert_eq!(tape.ends[0].lost_frames, report.frames_lost);
    assert!(tape.ticks().windows(2).all(|pair| pair[0] < pair[1]));
    for frame in &tape.frames {
        assert_eq!(
            (frame.observation.tick, frame.observation.images[0].sequence),
            (frame.tick, frame.tick),
            "a row and its images are one unit"
        );
    }
    let work = report.cadence.work.stats();
    assert!(work.p50_ns < 20_000_000, "ticks waited for the sink: {work:?}");
}

#[test]
fn a_slow_policy_beside_the_loop_starves_nobody_when_its_chunks_are_long_enough() {
    let policy = Fake::new(80, 30).with(|_| Quirk::Sleep(Duration::from_millis(150)));
    let mut arm = Arm::new();
    let config = SessionConfig { inference: Inference::Async, ..SessionConfig::default() };
    let report =
        run_on(clock(), &config, &mut arm, &mut Scene::lasting(100), Source::Policy(&mut policy.thread()), &mut [], &StopFlag::new());
    assert_eq!(report.starved_ticks, 0);
    assert!(report.late_rows > 0);
    assert!(report.inference.latency.stats().p50_ns >= 150_000_000);
    let work = report.cadence.work.stats();
    assert!(work.p50_ns < 20_000_000, "ticks waited for the policy: {work:?}");
}

#[test]
fn a_first_call_that_is_ten_times_slower_counts_for_nothing() {
    let policy = Fake::new(80, 30).with(|call| Quirk::Sleep(Duration::from_millis(if call == 0 { 1000 } else { 100 })));
    let config = SessionConfig { inference: Inference::Async, ..SessionConfig::default() };
    let source = &mut policy.thread();
    let mut arm = Arm::new();
    let report = run_on(clock(), &config, &mut arm, &mut Scene::lasting(60), Source::Policy(source), &mut [], &StopFlag::new());
    assert_eq!(report.starved_ticks, 0);
    let latency = report.inference.latency.stats();
    assert!(latency.count >= 2 && latency.max_ns < 900_000_000, "{latency:?}");
    assert_eq!(policy.log().resets, 2, "what it saw in warm-up is forgotten");
}

#[test]
fn a_slow_policy_in_the_loop_costs_ticks_that_are_counted() {
    let policy = Fake::new(10, 10).with(|_| Quirk::Sleep(Duration::from_millis(110)));
    let mut arm = Arm::new();
    let report = run_on(
        clock(),
        &SessionConfig::default(),
        &mut arm,
        &mut Scene::lasting(60),
        Source::Policy(&mut policy.thread()),
        &mut [],
        &StopFlag::new(),
    );
    // Each answer costs at least 4 ticks, but for the first, and the last if it meets the end.
    assert!(report.waiting_ticks + report.missed_ticks >= 4 * (report.inference.latency.count() - 2), "{report:?}");
    assert!(report.waiting_ticks > 10, "they are run, and counted: {report:?}");
    assert_eq!(report.starved_ticks, 0);
}
