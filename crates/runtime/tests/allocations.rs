//! After the first ticks the control thread neither allocates nor frees, in any mode, whatever goes wrong meanwhile.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "what fails here fails the test")]

mod common;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::{Arm, Fake, Leader, Scene, Tape, run_in, transient};
use sinew_core::{Brief, Clock, FrameSink, MockClock, TeleoperatorError};
use sinew_runtime::{Inference, Interpolation, Latency, MonotonicClock, Operator, Session, SessionConfig, Source, Starvation, StopFlag};
use sinew_testkit::{CountingAllocator, allocator_calls};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

/// Ticks after which nothing may be allocated.
const WARM_UP: u64 = 3;
const TICKS: u64 = 100;

/// Who acts.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Who {
    Policy,
    Human,
    Both,
}

/// Pauses, hand-overs in both directions, and other wishes.
fn wish(tick: u64, operator: &Operator) {
    match tick {
        10 | 25 | 30 | 60 => drop(operator.toggle_pause()),
        35 | 50 | 70 | 80 => drop(operator.toggle_correction()),
        _ => {}
    }
    if tick == 40 {
        operator.mark();
    }
}

/// The control thread did not call the allocator from one turn to another after the first ticks. What the fake arm
/// itself does, and this test in its name, is not counted.
fn assert_allocates_nothing(clock: Arc<dyn Clock>, config: &SessionConfig, who: Who, is_flaky: bool) {
    let what = format!("{who:?}, flaky: {is_flaky}, runs: {}, {config:?}", clock.runs_by_itself());
    let multiplier = u64::from(config.control_multiplier);
    let rate_hz = if clock.runs_by_itself() { 200 } else { 50 };
    let mut session = Session::new(config.clone(), clock, StopFlag::new());
    let calls = Arc::new(Mutex::new((Vec::with_capacity(4000), 0)));
    let (seen, operator) = (calls.clone(), session.operator());
    let mut arm = Arm::at([0.0, -0.2]).rate_hz(rate_hz).forgetting();
    let mut looks = 0;
    arm.on_observe = Box::new(move |turn| {
        let mut seen = seen.lock().unwrap();
        looks += 1;
        let outside = seen.1;
        seen.0.push((turn, allocator_calls() - outside));
        // Two in a row, now and then.
        let fails = is_flaky && looks > 4 && turn % (9 * multiplier) < 2;
        let before = allocator_calls();
        if turn.is_multiple_of(multiplier) {
            wish(turn / multiplier, &operator);
        }
        let result = if fails { Err(transient()) } else { Ok(()) };
        seen.1 += allocator_calls() - before;
        result
    });
    if is_flaky {
        arm.on_write = Box::new(move |turn| if turn % (11 * multiplier) < 2 { Err(transient()) } else { Ok(()) });
    }
    // The second loses frames on a clock that runs, and fails near the end.
    let (mut tape, mut view) =
        (Tape::default(), Tape { detaches: true, delay: Duration::from_millis(5), fail_at: Some(TICKS - 20), ..Tape::default() });
    let sinks: &mut [&mut dyn FrameSink] = &mut [&mut tape, &mut view];
    let policy = Fake::new(8, 6).continuing();
    let mut leader = Leader::new(|tick| [0.1 + tick as f64 * 1e-3, -0.2]);
    if is_flaky {
        let busy = || TeleoperatorError::Transient { doing: "hearing the pad", what: Brief::of("busy") };
        leader.on_action = Box::new(move |times| if times % 7 == 3 { Err(busy()) } else { Ok(()) });
    }
    let (mut thread, mut human) = (policy.thread(), leader.thread());
    let source = match who {
        Who::Policy => Source::Policy(&mut thread),
        Who::Human => Source::Teleoperator(&mut human),
        Who::Both => Source::Supervised(&mut thread, &mut human),
    };
    let report = run_in(&mut session, &mut arm, &mut Scene::lasting(TICKS), source, sinks);
    assert!(report.faults.is_empty(), "{what}: {:?}", report.faults);
    assert!(!is_flaky || report.failed_ticks > 10, "{what}: {} failed", report.failed_ticks);
    let calls = calls.lock().unwrap().0.clone();
    let after: Vec<(u64, u64)> = calls.into_iter().skip(4).filter(|(turn, _)| *turn >= WARM_UP * multiplier).collect();
    assert!(after.len() as u64 + report.missed_ticks >= (TICKS - WARM_UP) * multiplier, "{what}: {} turns", after.len());
    let changes: Vec<_> = after.windows(2).filter(|pair| pair[0].1 != pair[1].1).map(|pair| (pair[0].0, pair[1].1 - pair[0].1)).collect();
    assert!(changes.is_empty(), "{what}: the control thread called the allocator (turn, calls): {changes:?}");
}

fn everywhere(check: impl Fn(Arc<dyn Clock>, u32, bool)) {
    let clocks: [fn() -> Arc<dyn Clock>; 2] = [|| Arc::new(MockClock::new()), || Arc::new(MonotonicClock::new())];
    for clock in clocks {
        for multiplier in [1, 4] {
            for is_flaky in [false, true] {
                check(clock(), multiplier, is_flaky);
            }
        }
    }
}

#[test]
fn the_counter_counts() {
    let before = allocator_calls();
    drop(std::hint::black_box(vec![1_u8; 100]));
    assert_eq!(allocator_calls(), before + 2);
}

fn policies(inference: Inference, who: Who) {
    everywhere(|clock, control_multiplier, is_flaky| {
        // The second runs dry again and again.
        for latency in [Latency::Measured, Latency::ScriptedTicks(vec![2, 9])] {
            let (interpolation, starvation) = (Interpolation::Cubic, if is_flaky { Starvation::SlowStop } else { Starvation::Hold });
            let config = SessionConfig {
                inference,
                control_multiplier,
                interpolation,
                latency,
                starvation,
                frame_buffer: 6,
                ..SessionConfig::default()
            };
            assert_allocates_nothing(clock.clone(), &config, who, is_flaky);
        }
    });
}

#[test]
fn a_policy_in_the_loop_has_the_control_thread_allocate_nothing() {
    policies(Inference::Sync, Who::Policy);
}

#[test]
fn a_policy_beside_the_loop_has_it_allocate_nothing() {
    policies(Inference::Async, Who::Policy);
}

#[test]
fn real_time_chunking_has_it_allocate_nothing() {
    policies(Inference::Rtc, Who::Policy);
}

#[test]
fn hand_overs_and_pauses_have_it_allocate_nothing() {
    for inference in [Inference::Sync, Inference::Async, Inference::Rtc] {
        policies(inference, Who::Both);
    }
}

#[test]
fn a_teleoperator_has_it_allocate_nothing() {
    everywhere(|clock, control_multiplier, is_flaky| {
        let config = SessionConfig { control_multiplier, frame_buffer: 6, ..SessionConfig::default() };
        assert_allocates_nothing(clock, &config, Who::Human, is_flaky);
    });
}
