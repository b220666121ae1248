//! The right to write to a robot, and what another process needs to end it.
//!
//! A process that is killed, frozen or hung can't bring its robot into the safe action. A watchdog beside it does so,
//! over the same ports. So that the two never both command the robot, the main process writes only while the watchdog
//! has confirmed, a short time ago, that it still hears of the control thread's progress: the lease.

use std::error::Error;
#[cfg(unix)]
use std::os::fd::OwnedFd;
use std::time::Duration;

use thiserror::Error;

/// What another process needs to bring a robot into its safe action: open ports and the bytes to send. Without a port
/// it is for a robot that needs nothing.
#[derive(Debug, Default)]
pub struct Lifeline {
    pub ports: Vec<LifelinePort>,
}

/// One port of a [`Lifeline`].
#[derive(Debug)]
pub struct LifelinePort {
    /// For messages, such as `/dev/ttyACM0`.
    pub name: String,
    /// An open, writable descriptor of the port. It may be a copy of the driver's own.
    #[cfg(unix)]
    pub descriptor: OwnedFd,
    /// Packets of the motors' protocol, in the order in which they are sent. They need no answer, and may be sent
    /// any number of times.
    pub frames: Vec<Vec<u8>>,
    /// From the end of one packet to the next.
    pub gap: Duration,
    /// What tells whether motors that hold by themselves do so. Asked after the packets.
    pub checks: Vec<LifelineCheck>,
}

/// Whether a motor holds: a question to it, and what it answers then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LifelineCheck {
    pub packet: Vec<u8>,
    pub answer: Vec<u8>,
}

/// Whether this process may write to the robot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseState {
    /// It may, now.
    Held,
    /// Not this turn: the watchdog has not confirmed a beat for a while, or does not watch the robot. It may come back.
    Unconfirmed,
    /// Never again: the watchdog has acted or is gone.
    Lost,
}

/// A watchdog that could not be armed. Torque stays off.
#[derive(Debug, Error)]
pub enum LeaseError {
    #[error("arming the watchdog: expected at most {most} {what}, found {found}")]
    TooMuch { what: &'static str, most: usize, found: usize },
    #[error("arming the watchdog: handing it the robot's ports")]
    Send {
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    #[error("arming the watchdog: expected its confirmation within {waited:?}, found none")]
    Unconfirmed { waited: Duration },
    #[error("arming the watchdog: expected one that waits for work, found one that has acted or is gone")]
    Lost,
}

/// The right to write to a robot, which a watchdog confirms.
///
/// From [`arm`](Self::arm) to [`disarm`](Self::disarm) the control thread calls [`beat`](Self::beat) each time it has
/// come round, while it switches torque on and in its safe action too, and it asks [`state`](Self::state) right
/// before each write. Nobody else calls `beat`: a beat says that the control thread lives.
pub trait Lease: Send + Sync {
    /// Before torque goes on: returns once the watchdog has confirmed that it holds `lifeline`. Counts as a beat.
    ///
    /// # Errors
    /// When `lifeline` is too large, or the watchdog is gone, has acted or does not answer.
    fn arm(&self, lifeline: Lifeline) -> Result<(), LeaseError>;

    /// The control thread has come round once more. Never waits, allocates or makes a system call.
    fn beat(&self);

    /// Whether this process may write now. Never waits or allocates.
    fn state(&self) -> LeaseState;

    /// After a safe action that worked, and only then.
    fn disarm(&self);
}

/// For a robot that can hurt nobody (a simulator whose arm is gone with its process) or a test: always held.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unwatched;

impl Lease for Unwatched {
    fn arm(&self, _: Lifeline) -> Result<(), LeaseError> {
        Ok(())
    }

    fn beat(&self) {}

    fn state(&self) -> LeaseState {
        LeaseState::Held
    }

    fn disarm(&self) {}
}
