//! After the first ticks the control thread neither allocates nor frees.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "what fails here fails the test")]

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::{Arc, Mutex};

use common::{Arm, Fake, Leader, Scene, Tape, run_on};
use sinew_core::{Clock, MockClock};
use sinew_runtime::{Inference, Interpolation, Latency, MonotonicClock, SessionConfig, Source, StopFlag};

thread_local! {
    static CALLS: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: every call goes to the system's allocator unchanged; counting touches a constant-initialised
// thread-local cell, which neither allocates nor has a destructor.
#[allow(unsafe_code, reason = "counting allocations needs an allocator")]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        CALLS.with(|calls| calls.set(calls.get() + 1));
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        CALLS.with(|calls| calls.set(calls.get() + 1));
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Ticks after which nothing may be allocated.
const WARM_UP: usize = 3;
const TICKS: u64 = 60;

/// How often the control thread called the allocator by the beginning of each tick. What the fake
/// arm itself does is not counted: its lists have room.
fn calls_by_tick(clock: Arc<dyn Clock>, config: &SessionConfig, source: Source<'_>) -> Vec<u64> {
    let calls = Arc::new(Mutex::new(Vec::with_capacity(1000)));
    let seen = calls.clone();
    let mut arm = Arm::new();
    arm.observed_ticks.reserve(1000);
    arm.eyes.ticks.reserve(1000);
    arm.keep_writes = false;
    arm.on_observe = Box::new(move |_| {
        seen.lock().unwrap().push(CALLS.with(Cell::get));
        Ok(())
    });
    let mut tape = Tape::default();
    let report = run_on(clock, config, &mut arm, &mut Scene::lasting(TICKS), source, &mut [&mut tape], &StopFlag::new());
    assert!(report.faults.is_empty());
    let calls = calls.lock().unwrap().clone();
    assert!(calls.len() as u64 + report.missed_ticks >= TICKS);
    calls
}

#[track_caller]
fn assert_constant(calls: &[u64]) {
    let after = &calls[WARM_UP..];
    assert!(after.iter().all(|count| *count == after[0]), "the control thread called the allocator: {calls:?}");
}

#[test]
fn control_allocates_nothing_in_any_mode_on_either_clock() {
    // The counter itself works: this allocates and frees.
    let before = CALLS.with(Cell::get);
    drop(std::hint::black_box(vec![1_u8; 100]));
    assert_eq!(CALLS.with(Cell::get), before + 2);

    let clocks: [fn() -> Arc<dyn Clock>; 2] = [|| Arc::new(MockClock::new()), || Arc::new(MonotonicClock::new())];
    for clock in clocks {
        for (inference, control_multiplier) in [(Inference::Sync, 1), (Inference::Async, 2), (Inference::Rtc, 1)] {
            for latency in [Latency::Measured, Latency::ScriptedTicks(vec![2, 9])] {
                let interpolation = Interpolation::Cubic;
                let config =
                    SessionConfig { inference, control_multiplier, interpolation, latency, frame_buffer: 6, ..SessionConfig::default() };
                let policy = Fake::new(8, 6).continuing();
                assert_constant(&calls_by_tick(clock(), &config, Source::Policy(&mut policy.thread())));
            }
        }
        let mut leader = Leader::new(|_| [0.1, -0.2]).thread();
        assert_constant(&calls_by_tick(clock(), &SessionConfig::default(), Source::Teleoperator(&mut leader)));
    }
}
