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
//! calls degrees or 0..100 is converted at its edge by [`Units`].

#![forbid(unsafe_code)]

mod action;
mod armed;
mod brief;
mod description;
mod environment;
mod hash;
mod image;
mod kinematics;
mod lease;
mod name;
mod observation;
mod policy;
mod robot;
mod safety;
pub mod service;
mod session;
mod teleoperator;
mod time;
mod units;

pub use action::{ActionChunk, ActionQueue, ShapeError, Splice};
pub use armed::{ArmError, Armed, Door, DriveError, Driven};
pub use brief::Brief;
pub use description::*;
pub use environment::{Environment, EnvironmentError, EpisodeSetup, Outcome};
pub use hash::Fnv1a;
pub use image::{Image, ImageBuffers, Pixels};
pub use kinematics::*;
pub use lease::{Lease, LeaseError, LeaseState, Lifeline, LifelineCheck, LifelinePort, Unwatched};
pub use name::{NameError, check_name};
pub use observation::{Observation, Reading, Samples, Validity};
pub use policy::{Continuation, Policy, PolicyError, PolicyInfo};
pub use robot::{Blind, CameraError, Cameras, Robot, RobotError, Sent};
pub use safety::{FAULT_AFTER, GateFault, Impedance, Interventions, SafeCommand, SafetyGate, Verdict, Wanted};
pub use session::{Actor, EpisodeEnd, EpisodeStart, Frame, FrameSink, OnFailure, SinkError};
pub use teleoperator::{ActionSpace, Identity, Retarget, TeleopStatus, Teleoperator, TeleoperatorError};
pub use time::{Clock, MockClock, Tick, Timestamp};
pub use units::{DatasetUnit, Units};
