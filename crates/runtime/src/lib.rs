//! The session runtime: joins a robot, a scene, a source of actions and those who observe, and runs
//! them as seeded episodes.
//!
//! It knows the traits of `sinew-core` and nothing else, so a driver, a simulator and a fake of a
//! test are the same to it. [`Session::run_episode`] is the one way in:
//!
//! ```text
//!  caller's thread          control thread                       inference thread
//!  reset the scene
//!  begin the sinks   ──▶    first inference, arm
//!  take frames, give  ◀──   observe ▸ choose ▸ gate ▸ apply      ◀──▶ policy
//!  them to the sinks        ▸ publish, once a tick
//!  end the sinks     ◀──    rest, safe action
//! ```
//!
//! `examples/cadence.rs` is the smallest whole program. Rules that hold everywhere:
//! - The control thread sleeps to absolute deadlines. A tick that was missed is skipped and counted.
//!   After the first ticks it neither allocates nor takes a lock.
//! - On a clock that runs by itself nobody is waited for: what a sink can't take in time is lost and
//!   counted. On a clock that doesn't ([`MockClock`](sinew_core::MockClock)) the loop waits for
//!   sinks, and for an inference at exactly the tick its scripted latency names, so the same seed
//!   gives the same bytes.
//! - Whichever way an episode ends, [`Armed`](sinew_core::Armed) ends it in the robot's safe action,
//!   once.

mod acting;
mod asking;
mod at_work;
mod beside;
mod clock;
mod config;
mod control;
mod fault;
mod frames;
mod hand_over;
mod histogram;
mod inference;
mod interpolation;
mod judge;
mod looking;
mod operator;
pub mod panics;
mod progress;
mod realtime;
mod report;
mod ring;
mod schedule;
mod series;
mod session;
mod sinks;
mod stop;
mod strategy;
mod teleop;
mod travel;
mod watchdog;

pub use at_work::keep_apart;
pub use clock::MonotonicClock;
pub use config::{Inference, Interpolation, Keep, Latency, ReturnToRest, SessionConfig, Starvation};
pub use fault::Fault;
pub use histogram::{Histogram, TimeStats};
pub use inference::PolicyThread;
pub use operator::Operator;
pub use progress::{Progress, ProgressSnapshot};
pub use realtime::{Asked, Realtime, RealtimeRequest, Role, place};
pub use report::{Cadence, EpisodeOutcome, EpisodeReport, InferenceStats, PartTimes, RecentTicks, TickTimes, TurnPart};
pub use series::{AsItIs, Attendant, Counts, Series, SeriesError, SeriesReport, Stage};
pub use session::{EpisodeRequest, Rig, Session, Source};
pub use stop::{StopFlag, StopLevel, before_it_ends};
pub use strategy::{Selection, Strategy};
pub use teleop::TeleopThread;
pub use watchdog::{LEASE, PortError, WATCHDOG_PATIENCE, WatchError, Watchdog, Watched, WireError, check_lifeline, watch, write_lifeline};
