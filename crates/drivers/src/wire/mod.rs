//! The packets of serial motor protocols, as pure functions on bytes: no port, no clock, and nothing allocated while
//! packets are read.
//!
//! [`Protocol`] builds packets and says how long answers are; a [`Scanner`] finds packets in what arrives, whatever
//! else does; [`Instruction`] is what an instruction packet asks for, for who plays a motor.
//!
//! Sources: Feetech's "communication protocol manual" and `scservo_sdk` (PyPI `feetech-servo-sdk` 1.0.0), Robotis'
//! e-manual of protocol 2.0 and `dynamixel_sdk` 4.1.0. `golden.json` holds packets that those programs made
//! (`scripts/make_wire_golden.py`).
//!
//! ```
//! use sinew_drivers::wire::Protocol;
//!
//! let mut packet = Vec::new();
//! Protocol::Feetech0.ping(&mut packet, 1)?;
//! assert_eq!(packet, [0xff, 0xff, 1, 2, 1, 0xfb]);
//! # Ok::<(), sinew_drivers::wire::PacketError>(())
//! ```

mod build;
mod dynamixel;
mod feetech;
mod instruction;
mod scanner;

use thiserror::Error;

use crate::MotorId;

pub use dynamixel::{FastAnswer, FastAnswers, crc};
pub use instruction::{Blocks, Frames, Instruction, InstructionError, code};
pub use scanner::{Kind, Packet, Reason, Scanned, Scanner, Side};

/// The id that all motors listen to and none has.
pub const BROADCAST: u8 = 254;

/// The longest packet that is built or recognised, in bytes: more than a motor's buffer holds.
pub const LONGEST: usize = 1024;

/// How motors are spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// STS and SMS servos: numbers of two bytes begin with the low one.
    Feetech0,
    /// SCS servos: as protocol 0, but numbers begin with the high byte, and there are neither reads of several motors
    /// nor an answer to a ping of all.
    Feetech1,
    /// Robotis' protocol 2.0.
    Dynamixel2,
}

/// Which byte of a number comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ByteOrder {
    LowFirst,
    HighFirst,
}

/// A packet that can't be built. Small and without allocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum PacketError {
    #[error("{what}: the protocol {} has no such thing", protocol.name())]
    NotInProtocol { what: &'static str, protocol: Protocol },
    #[error("{what}: a packet of {bytes} bytes, of at most {most}")]
    TooLong { what: &'static str, bytes: usize, most: usize },
    #[error("{what} of motor {motor}: ids go to {most}, and {BROADCAST} means all")]
    Id { what: &'static str, motor: MotorId, most: u8 },
    #[error("{what}: {len} bytes at {address} do not lie in the {size} bytes that the protocol reaches")]
    Outside { what: &'static str, address: u16, len: usize, size: usize },
    #[error("{what} of motor {motor}: {found} bytes, expected {expected}")]
    Length { what: &'static str, motor: MotorId, found: usize, expected: usize },
}

/// What a status packet's error byte says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatusError {
    /// Why the instruction was refused; 0 when it was done. Of Dynamixel a number: 1 failed, 2 unknown instruction, 3
    /// checksum, 4 range of data, 5 length of data, 6 limit, 7 access.
    pub refusal: u8,
    /// The motor's alarm; 0 when it is well. Of Feetech bits: 1 voltage, 2 sensor, 4 temperature, 8 current, 32 overload.
    /// Of Dynamixel 128: its register `hardware_error_status` says why.
    pub alert: u8,
}

impl Protocol {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Feetech0 => "feetech 0",
            Self::Feetech1 => "feetech 1",
            Self::Dynamixel2 => "dynamixel 2",
        }
    }

    pub const fn byte_order(self) -> ByteOrder {
        match self {
            Self::Feetech0 | Self::Dynamixel2 => ByteOrder::LowFirst,
            Self::Feetech1 => ByteOrder::HighFirst,
        }
    }

    /// The highest id of a motor.
    pub const fn most_id(self) -> u8 {
        match self {
            Self::Feetech0 | Self::Feetech1 => 253,
            Self::Dynamixel2 => 252,
        }
    }

    /// Bytes of a status packet that carries so many bytes of data, where none of them needs stuffing.
    pub const fn answer_len(self, data: usize) -> usize {
        match self {
            Self::Feetech0 | Self::Feetech1 => 6 + data,
            Self::Dynamixel2 => 11 + data,
        }
    }

    /// Bytes of the one packet that answers a fast sync read of so many bytes of each motor.
    pub const fn fast_answer_len(data: usize, motors: usize) -> usize {
        8 + motors * (data + 4)
    }

    /// Bytes of data in the answer to a ping.
    pub const fn ping_data(self) -> usize {
        match self {
            Self::Feetech0 | Self::Feetech1 => 0,
            Self::Dynamixel2 => 3,
        }
    }

    /// How a status packet's error byte is to be read.
    pub const fn status_error(self, error: u8) -> StatusError {
        match self {
            Self::Feetech0 | Self::Feetech1 => StatusError { refusal: 0, alert: error },
            Self::Dynamixel2 => StatusError { refusal: error & 0x7f, alert: error & 0x80 },
        }
    }

    /// Address of the register that switches the torque, the same in all models.
    pub const fn torque_address(self) -> u16 {
        match self {
            Self::Feetech0 | Self::Feetech1 => 40,
            Self::Dynamixel2 => 64,
        }
    }
}

#[cfg(test)]
mod golden;
#[cfg(test)]
mod tests;
