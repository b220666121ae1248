//! A wire with motors on it: transactions of bytes, whatever the protocol.

use std::fmt;

use sinew_core::Timestamp;
use thiserror::Error;

use crate::wire::PacketError;

/// A motor's address on its bus.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
pub struct MotorId(pub u16);

impl fmt::Display for MotorId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The most bytes that one answer carries: a block of registers from position to temperature, or a CAN FD frame.
pub const MOST_BYTES: usize = 64;

/// Bytes of one motor, kept without allocation.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Bytes {
    len: u8,
    bytes: [u8; MOST_BYTES],
}

impl Bytes {
    /// `None` when there are more than [`MOST_BYTES`].
    pub fn of(bytes: &[u8]) -> Option<Self> {
        let mut kept = Self { len: u8::try_from(bytes.len()).ok()?, bytes: [0; MOST_BYTES] };
        kept.bytes.get_mut(..bytes.len())?.copy_from_slice(bytes);
        Some(kept)
    }

    pub fn as_slice(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.as_slice()).finish()
    }
}

/// Registers that lie together: from `address` on, so many bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    pub address: u16,
    pub len: u8,
}

/// What was being done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    Ping,
    Read(Block),
    Write(Block),
    /// A frame there, and one back.
    Exchange,
    TorqueOff,
    Reboot,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ping => f.write_str("a ping"),
            Self::Read(Block { address, len }) => write!(f, "reading {len} bytes at {address}"),
            Self::Write(Block { address, len }) => write!(f, "writing {len} bytes at {address}"),
            Self::Exchange => f.write_str("an exchange of frames"),
            Self::TorqueOff => f.write_str("switching off the torque"),
            Self::Reboot => f.write_str("a reboot"),
        }
    }
}

/// What went wrong with one motor, in the last attempt if there were several. Small and without allocation: it
/// is made inside ticks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum MotorFault {
    #[error("it was not asked before the deadline")]
    NotAsked,
    #[error("no answer before the deadline")]
    NoAnswer,
    #[error("checksum {found:#04x}, expected {expected:#04x}")]
    Checksum { found: u16, expected: u16 },
    #[error("{found} bytes, expected {expected}")]
    Length { found: usize, expected: usize },
    #[error("an answer from motor {found}")]
    Sender { found: MotorId },
    /// It refused; the bits are the protocol's.
    #[error("the motor refuses, with error bits {bits:#010b}")]
    Refused { bits: u16 },
    /// The protocol can't say that.
    #[error(transparent)]
    Packet(#[from] PacketError),
}

impl MotorFault {
    /// How many kinds there are to count.
    pub const KINDS: usize = 6;

    /// Which kind it is, to count by: no answer, not asked, checksum, length, refused, other.
    pub const fn kind(&self) -> usize {
        match self {
            Self::NoAnswer => 0,
            Self::NotAsked => 1,
            Self::Checksum { .. } => 2,
            Self::Length { .. } => 3,
            Self::Refused { .. } => 4,
            Self::Sender { .. } | Self::Packet(_) => 5,
        }
    }
}

/// A [`MotorFault`] with its place: "reading 2 bytes at 56 of motor 3: checksum 0x1f, expected 0x2a".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("{operation} of motor {motor}: {fault}")]
pub struct MotorError {
    pub operation: Operation,
    pub motor: MotorId,
    pub fault: MotorFault,
}

/// A bus operation that failed as a whole.
#[derive(Debug, Error)]
pub enum BusError {
    /// One motor couldn't do it, or not be told; the bus is well.
    #[error(transparent)]
    Motor(#[from] MotorError),
    /// The port can't be had: it is not there, somebody else has it, or it doesn't know the speed.
    #[error("opening {port} at {baud} bits a second")]
    Open {
        port: String,
        baud: u32,
        #[source]
        source: std::io::Error,
    },
    /// The port is gone (unplugged, closed by the system).
    #[error("{operation} on {port}: the port is lost")]
    Lost {
        operation: Operation,
        port: String,
        #[source]
        source: std::io::Error,
    },
    /// The answers that arrive are no packets, and dropping what had arrived didn't help: another
    /// program on the port, a wrong baud rate, a broken wire.
    #[error("{operation} on {port}: {bytes} bytes arrived that are no answer")]
    Garbage { operation: Operation, port: String, bytes: usize },
    /// The protocol has no such thing.
    #[error("{operation} on {port}: the protocol {protocol} has no such thing")]
    NotInProtocol { operation: Operation, port: String, protocol: &'static str },
}

/// One motor's answer. It may bring a value and an alarm at once: the value counts, and the alarm is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    pub bytes: Bytes,
    /// The motor's own alarm bits; 0 when all is well.
    pub alert: u16,
}

/// One motor's part of an operation; the caller sets `motor`, the bus the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply {
    pub motor: MotorId,
    pub answer: Result<Answer, MotorError>,
    /// How often it was asked.
    pub attempts: u8,
    /// What went wrong with the attempts before the last, by [`MotorFault::kind`].
    pub failed: [u8; MotorFault::KINDS],
}

impl Reply {
    /// To be asked: until then it says so.
    pub fn of(motor: MotorId, operation: Operation) -> Self {
        Self {
            motor,
            answer: Err(MotorError { operation, motor, fault: MotorFault::NotAsked }),
            attempts: 0,
            failed: [0; MotorFault::KINDS],
        }
    }

    /// It is asked, once more if it was before.
    pub(crate) fn ask(&mut self, operation: Operation) {
        if let (1.., Err(error)) = (self.attempts, self.answer) {
            let count = &mut self.failed[error.fault.kind()];
            *count = count.saturating_add(1);
        }
        self.attempts = self.attempts.saturating_add(1);
        self.answer = Err(MotorError { operation, motor: self.motor, fault: MotorFault::NoAnswer });
    }
}

/// Bytes for one motor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    pub motor: MotorId,
    pub bytes: Bytes,
}

/// A motor bus with all that hangs on it, as transactions of bytes. What the bytes mean is the business of a control
/// table above it ([`ControlTable`](crate::ControlTable)).
///
/// Every operation returns at or soon after its deadline (on the session's clock, which the bus was made with),
/// whatever the motors do. Until then it may repeat what failed; it never begins an attempt that
/// could not be finished in time. Bytes that are no answer to the question are dropped before the
/// next attempt, so that one bad operation doesn't spoil those after it, and an answer that comes late belongs to
/// nobody. Nothing is allocated but in a [`BusError`].
pub trait Bus: Send {
    /// Reads the same block of every motor in `replies` with as few packets as the protocol has: an answer a motor,
    /// since that one doesn't answer says nothing of the others.
    ///
    /// # Errors
    /// When no motor could be spoken to; the replies are then those of no motor asked.
    fn read(&mut self, block: Block, replies: &mut [Reply], deadline: Timestamp) -> Result<(), BusError>;

    /// Writes from `address` on of every motor in `frames`, in one packet where the protocol has one. Where it has no
    /// answer to that, that it was sent is all that is known.
    ///
    /// # Errors
    /// When it could not be sent, or frames differ in length; then nothing was sent, to nobody.
    fn write(&mut self, address: u16, frames: &[Frame], deadline: Timestamp) -> Result<(), BusError>;

    /// Writes one motor's registers and waits for its acknowledgement.
    ///
    /// # Errors
    /// When the bus cannot be used or the motor didn't acknowledge.
    fn write_one(&mut self, address: u16, frame: &Frame, deadline: Timestamp) -> Result<Answer, BusError>;

    /// Sends a frame to each motor and takes what each sends back, in one transaction: how CAN motors are commanded and
    /// read at once.
    ///
    /// # Errors
    /// When the protocol has no such exchange, or no motor could be spoken to.
    fn exchange(&mut self, frames: &[Frame], replies: &mut [Reply], deadline: Timestamp) -> Result<(), BusError>;

    /// Whether a motor is there; the answer's bytes are what it says of itself.
    ///
    /// # Errors
    /// When the bus cannot be used or the motor doesn't answer.
    fn ping(&mut self, motor: MotorId, deadline: Timestamp) -> Result<Answer, BusError>;

    /// Switches the torque of all `motors` off, with one packet to all where the protocol has one and motor by
    /// motor after that; one that fails does not keep the others from it.
    ///
    /// # Errors
    /// When not every motor is known to be without torque; the first that isn't.
    fn torque_off(&mut self, motors: &[MotorId], deadline: Timestamp) -> Result<(), BusError>;

    /// Starts a motor anew, as after an overload.
    ///
    /// # Errors
    /// When the bus cannot be used or the protocol has no such thing.
    fn reboot(&mut self, motor: MotorId, deadline: Timestamp) -> Result<(), BusError>;

    /// Packets that switch the torque of all `motors` off, for a process that has only the open port
    /// ([`LifelinePort`](sinew_core::LifelinePort)).
    fn torque_off_packets(&self, motors: &[MotorId]) -> Vec<Vec<u8>>;
}

#[cfg(test)]
mod tests;
