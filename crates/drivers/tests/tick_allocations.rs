//! A tick of an arm on a serial bus allocates nothing, with answers that get lost, too.

#![allow(clippy::unwrap_used, clippy::panic, reason = "what fails here fails the test")]

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use common::Bench;
use common::arm::{Loop, PERIOD, arm, connect, so101, wanted};
use sinew_core::{Clock, Observation};
use sinew_emulator::{Event, Rates};

thread_local! {
    /// Of this thread: the emulator's may allocate.
    static CALLS: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: every call is handed to the system's allocator as it is; the counter is a constant-initialised cell of the
// thread, which neither allocates nor has a destructor.
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

#[test]
fn a_tick_allocates_nothing() {
    let bench = Bench::so101();
    let mut robot = connect(&bench, so101());
    let health = robot.health();
    let mut observation = Observation::for_robot(&so101());
    let mut armed = arm(&bench, &mut robot, &mut observation);
    let wanted = wanted(&so101(), observation.state.values(), bench.clock.now());
    let rates = Rates { drop: 0.05, truncate: 0.02, flip_bit: 0.02, foreign: 0.02, duplicate: 0.02, ..Rates::default() };
    bench.emulator.happen(Event::Rates(rates)).unwrap();
    let mut turns = Loop::new(&bench);
    let mut retries = 0;
    let before = CALLS.with(Cell::get);
    for _ in 0..120 {
        let tick = turns.tick(&bench);
        armed.read(&tick, &mut observation).unwrap();
        armed.drive(Some(&wanted), &observation, PERIOD.as_secs_f64()).unwrap();
        retries += observation.bus_retries;
    }
    assert_eq!(CALLS.with(Cell::get) - before, 0);
    // It can count, and what was to go wrong did.
    drop(vec![1]);
    assert_eq!(CALLS.with(Cell::get) - before, 2);
    assert!(retries > 10, "{retries}");
    assert!(health.motors().iter().all(|motor| motor.age_s(bench.clock.now()).is_some_and(|age_s| age_s < 5.0)));
}
