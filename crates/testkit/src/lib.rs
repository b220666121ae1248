//! For tests of several crates: an allocator that counts, to prove that a tick allocates nothing, goals that mean ill
//! with a watch over what is made of them ([`Adversary`], [`Watch`]), and, as feature `hub`, a fake Hugging Face Hub.
//!
//! ```
//! use sinew_testkit::{CountingAllocator, allocator_calls};
//!
//! #[global_allocator]
//! static ALLOCATOR: CountingAllocator = CountingAllocator;
//!
//! let before = allocator_calls();
//! drop(std::hint::black_box(vec![1_u8; 100]));
//! assert_eq!(allocator_calls() - before, 2);
//! ```

mod adversary;
#[cfg(feature = "hub")]
pub mod hub;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

pub use adversary::{Adversary, Bounds, Watch};

thread_local! {
    static CALLS: Cell<u64> = const { Cell::new(0) };
}

/// The system's allocator, which counts what each thread allocates and frees.
#[derive(Clone, Copy, Debug, Default)]
pub struct CountingAllocator;

// SAFETY: every call goes to the system's allocator unchanged; counting touches a constant-initialised
// thread-local cell, which neither allocates nor has a destructor.
#[allow(unsafe_code, reason = "counting allocations needs an allocator")]
unsafe impl GlobalAlloc for CountingAllocator {
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

/// How often this thread has allocated or freed, where [`CountingAllocator`] is the global allocator.
pub fn allocator_calls() -> u64 {
    CALLS.with(Cell::get)
}
