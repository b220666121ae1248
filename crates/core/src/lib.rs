//! The nouns of Sinew: the traits and values that every other crate speaks.
//!
//! Nothing in here does IO, starts a thread, awaits, knows tensors or reads a wall clock, so every
//! rule in this crate can be tested with plain values:
//!
//! ```
//! use sinew_core::{ActionChunk, ActionQueue};
//!
//! // A policy looked at tick 10 and answered three rows for ticks 10, 11 and 12 ...
//! let chunk = ActionChunk::new(10, 1, vec![0.1, 0.2, 0.3]).unwrap();
//! // ... but its answer arrived when tick 11 was next: row 10 is late and is dropped.
//! let mut queue = ActionQueue::new(1, 100);
//! assert_eq!(queue.splice(&chunk, 11).late_rows, 1);
//! assert_eq!(queue.take(11), Some(&[0.2][..]));
//! ```
//!
//! Units are SI throughout: radians, metres, seconds, newton metres. What a dataset or a checkpoint
//! calls degrees or 0..100 is converted at its edge by [`JointUnits`].

#![forbid(unsafe_code)]

mod action;
mod description;
mod hash;
mod image;
mod kinematics;
mod observation;
mod robot;
mod safety;
mod session;
mod simulation;
mod time;
mod units;

pub use action::{ActionChunk, ActionQueue, ShapeError, Splice};
pub use description::*;
pub use hash::Fnv1a;
pub use image::{Image, ImageBuffers, Pixels};
pub use kinematics::*;
pub use observation::Observation;
pub use robot::{
    Armed, Continuation, Environment, EpisodeSetup, Outcome, Policy, PolicyError, PolicyInfo, Robot, RobotError, TeleopStatus, Teleoperator,
};
pub use safety::{Interventions, SafeCommand, SafetyGate};
pub use session::{Actor, EpisodeEnd, EpisodeStart, Frame, FrameSink, SinkError};
pub use simulation::*;
pub use time::{Clock, MockClock, Tick, Timestamp};
pub use units::{JointUnit, JointUnits};
