//! What can go wrong in an episode.

use std::error::Error;

use serde::{Serialize, Serializer};
use sinew_core::{ArmError, CameraError, DriveError, EnvironmentError, PolicyError, RobotError, SinkError, TeleoperatorError};
use thiserror::Error;

/// Why an episode didn't come to its own end, or what was lost at its end. Serialised as one
/// string: the message and those of its sources, joined by `: `.
#[derive(Debug, Error)]
pub enum Fault {
    #[error("setting up the scene")]
    Reset(#[source] EnvironmentError),
    #[error("starting the {who} thread")]
    Thread {
        who: &'static str,
        #[source]
        source: std::io::Error,
    },
    #[error("arming the robot")]
    Arm(#[source] ArmError),
    #[error("reading the robot at tick {tick}")]
    Observe {
        tick: u64,
        #[source]
        source: RobotError,
    },
    #[error("commanding the robot at tick {tick}")]
    Drive {
        tick: u64,
        #[source]
        source: DriveError,
    },
    #[error("looking through the cameras")]
    Camera(#[source] CameraError),
    #[error("looking through camera {camera} at tick {tick}: its newest image is {age_s:.2} s old, expected at most {limit_s:.2} s")]
    StaleImage { tick: u64, camera: String, age_s: f64, limit_s: f64 },
    #[error("moving to {to}: {left:.3} rad or m are left after {after_s:.1} s, and the limits let it come no nearer")]
    NotThere { to: &'static str, left: f64, after_s: f64 },
    #[error("asking the teleoperator at tick {tick}")]
    Teleoperator {
        tick: u64,
        #[source]
        source: TeleoperatorError,
    },
    #[error("asking the teleoperator at tick {tick}: it has said nothing for {silent_s:.1} s")]
    Silent {
        tick: u64,
        silent_s: f64,
        /// What it said instead, the last time.
        #[source]
        source: Option<TeleoperatorError>,
    },
    #[error("asking the policy at tick {tick}")]
    Policy {
        tick: u64,
        #[source]
        source: PolicyError,
    },
    #[error("asking the policy at tick {tick}: its answer has {what}")]
    Answer { tick: u64, what: String },
    /// The policy may still be computing; it is not waited for.
    #[error("asking the policy at tick {tick}: no answer after {waited_s:.1} s, expected one within {deadline_s:.1} s")]
    Unanswered {
        tick: u64,
        waited_s: f64,
        deadline_s: f64,
        /// What it said instead, the last time.
        #[source]
        source: Option<PolicyError>,
    },
    #[error("asking the {family} policy to continue its chunks: it can't; ask for sync or async inference")]
    NoContinuation { family: String },
    #[error(
        "asking the {family} policy to continue its chunks at tick {tick}: {in_a_row} answers in a row took longer than they were \
         expected to, the last {delay_rows} ticks; expected at most {most}, for which the policy was trained. Use a lower rate, or \
         guided real-time chunking"
    )]
    Outrun { family: String, tick: u64, in_a_row: u32, delay_rows: u64, most: usize },
    #[error("running the loop at {rate_hz} Hz: expected 1 to 1000")]
    Rate { rate_hz: u64 },
    #[error("no action was queued for tick {tick}, and the declared behaviour is to stop")]
    Starved { tick: u64 },
    /// `who` is `control`, `policy`, `teleoperator`, `judge` or `sink`.
    #[error("the {who} panicked: {message}")]
    Panic { who: &'static str, message: String },
    #[error("recording or showing the episode")]
    Sink(#[source] SinkError),
    #[error("ending in the safe action")]
    Stop(#[source] RobotError),
}

impl Fault {
    pub(crate) fn panic(who: &'static str, payload: &(dyn std::any::Any + Send)) -> Self {
        let message = payload.downcast_ref::<&str>().map(|text| (*text).to_owned()).or_else(|| payload.downcast_ref::<String>().cloned());
        Self::Panic { who, message: message.unwrap_or_else(|| "without a message".to_owned()) }
    }

    /// The message and those of its sources, joined by `: `.
    pub fn chain(&self) -> String {
        chain(self)
    }
}

/// An error's message and those of its sources, joined by `: `.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}

impl Serialize for Fault {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.chain())
    }
}
