//! A process beside the main one that brings the robot into its safe action when that can't any more.
//!
//! ```text
//!  main process                                          watchdog process
//!  before torque   ── ARM, ports and packets ──▶         holds them, and confirms
//!  control thread: lease.beat(), once a turn
//!  heartbeat       ── BEAT, if there was a new one ──▶   listens; nothing for 0.1 s, or nobody there: acts
//!  reader          ◀── HELD, for each beat ──
//!  control thread: writes only while lease.state() is Held
//!  safe action that worked ── DISARM ──▶                 waits for the next robot
//!  stops           ◀── TAKEN, once it has acted ──       repeats the safe action until DISARM, or nobody is there
//! ```
//!
//! The watchdog believes the control thread's progress and nothing else: a thread that only says that the process
//! lives would go on saying so while a driver hangs. And the main process believes only what the watchdog confirms: a
//! process that thaws finds its newest confirmed beat too old, and writes nothing. The lease ends 40 ms before the
//! watchdog may act, by the same clock, so there is no time at which both write.
//!
//! [`Watchdog`] is the main process's end, [`watch`] the watchdog's. They speak over a pair of Unix sockets, of which
//! one is the watchdog's standard input.

mod guard;
mod heartbeat;
#[cfg(test)]
mod tests;
mod wire;

use std::time::Duration;

pub use guard::{PortError, WatchError, Watched, check_lifeline, watch, write_lifeline};
pub use heartbeat::Watchdog;
pub use wire::WireError;

/// How long the control thread may make no progress while the watchdog is armed: 0.1 s, so that the safe action is
/// done within 0.15 s.
pub const WATCHDOG_PATIENCE: Duration = Duration::from_millis(100);

/// How long a confirmed beat lets the main process write, from when it was made. Less than [`WATCHDOG_PATIENCE`] by
/// what a write may take.
pub const LEASE: Duration = Duration::from_millis(60);
