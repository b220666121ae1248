//! What an instruction packet asks a motor for.

use thiserror::Error;

use super::{ByteOrder, Protocol};
use crate::Block;

/// Codes of instructions, the same numbers in all protocols where they have them.
pub mod code {
    pub const PING: u8 = 0x01;
    pub const READ: u8 = 0x02;
    pub const WRITE: u8 = 0x03;
    pub const REG_WRITE: u8 = 0x04;
    pub const ACTION: u8 = 0x05;
    pub const FACTORY_RESET: u8 = 0x06;
    pub const REBOOT: u8 = 0x08;
    pub const CLEAR: u8 = 0x10;
    /// Dynamixel's mark of an answer.
    pub const STATUS: u8 = 0x55;
    pub const SYNC_READ: u8 = 0x82;
    pub const SYNC_WRITE: u8 = 0x83;
    pub const FAST_SYNC_READ: u8 = 0x8a;
    pub const BULK_READ: u8 = 0x92;
    pub const BULK_WRITE: u8 = 0x93;
    pub const FAST_BULK_READ: u8 = 0x9a;
}

/// An instruction with what it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Instruction<'a> {
    Ping,
    Read(Block),
    Write {
        address: u16,
        bytes: &'a [u8],
    },
    RegWrite {
        address: u16,
        bytes: &'a [u8],
    },
    Action,
    FactoryReset,
    Reboot,
    /// Of turns or of errors; the parameters say which.
    Clear(&'a [u8]),
    SyncRead {
        block: Block,
        ids: &'a [u8],
        is_fast: bool,
    },
    SyncWrite {
        address: u16,
        frames: Frames<'a>,
    },
    BulkRead {
        blocks: Blocks<'a>,
        is_fast: bool,
    },
}

/// Bytes for several motors, of the same length each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frames<'a> {
    rest: &'a [u8],
    len: usize,
}

impl<'a> Iterator for Frames<'a> {
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<(u8, &'a [u8])> {
        let (id, rest) = self.rest.split_first()?;
        let (bytes, rest) = rest.split_at_checked(self.len)?;
        self.rest = rest;
        Some((*id, bytes))
    }
}

/// A block for each of several motors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blocks<'a> {
    rest: &'a [u8],
}

impl Iterator for Blocks<'_> {
    type Item = (u8, Block);

    fn next(&mut self) -> Option<(u8, Block)> {
        let &[id, low, high, len, 0] = self.rest.get(..5)? else { return None };
        self.rest = &self.rest[5..];
        Some((id, Block { address: u16::from_le_bytes([low, high]), len }))
    }
}

/// An instruction that a motor can't understand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum InstructionError {
    #[error("instruction {code:#04x}: the protocol {} has no such thing", protocol.name())]
    Unknown { code: u8, protocol: Protocol },
    #[error("instruction {code:#04x}: {found} bytes of parameters do not say what it is about")]
    Parameters { code: u8, found: usize },
}

impl<'a> Instruction<'a> {
    /// From a packet's code and parameters.
    ///
    /// # Errors
    /// When the protocol has no such instruction, or its parameters are too few or too many.
    pub fn parse(protocol: Protocol, code: u8, params: &'a [u8]) -> Result<Self, InstructionError> {
        let wrong = InstructionError::Parameters { code, found: params.len() };
        let unknown = InstructionError::Unknown { code, protocol };
        let is_dynamixel = protocol == Protocol::Dynamixel2;
        if matches!(code, code::REBOOT | code::CLEAR | code::FAST_SYNC_READ | code::BULK_READ | code::FAST_BULK_READ) && !is_dynamixel
            || code == code::SYNC_READ && protocol == Protocol::Feetech1
        {
            return Err(unknown);
        }
        let width = if is_dynamixel { 2 } else { 1 };
        let number = |bytes: &[u8]| bytes.iter().rev().fold(0u16, |number, byte| number << 8 | u16::from(*byte));
        let address = || params.split_at_checked(width).map(|(address, rest)| (number(address), rest)).ok_or(wrong);
        let block = || {
            let (address, rest) = address()?;
            let (len, rest) = rest.split_at_checked(width).ok_or(wrong)?;
            let len = u8::try_from(number(len)).map_err(|_long| wrong)?;
            Ok((Block { address, len }, rest))
        };
        match code {
            code::PING => Ok(Self::Ping),
            code::READ => match block()? {
                (block, []) => Ok(Self::Read(block)),
                _ => Err(wrong),
            },
            code::WRITE => address().map(|(address, bytes)| Self::Write { address, bytes }),
            code::REG_WRITE => address().map(|(address, bytes)| Self::RegWrite { address, bytes }),
            code::ACTION => Ok(Self::Action),
            code::FACTORY_RESET => Ok(Self::FactoryReset),
            code::REBOOT => Ok(Self::Reboot),
            code::CLEAR => Ok(Self::Clear(params)),
            code::SYNC_READ | code::FAST_SYNC_READ => {
                let (block, ids) = block()?;
                Ok(Self::SyncRead { block, ids, is_fast: code == code::FAST_SYNC_READ })
            }
            code::SYNC_WRITE => {
                let (block, rest) = block()?;
                let len = usize::from(block.len);
                if !rest.len().is_multiple_of(len + 1) {
                    return Err(wrong);
                }
                Ok(Self::SyncWrite { address: block.address, frames: Frames { rest, len } })
            }
            code::BULK_READ | code::FAST_BULK_READ => {
                if !params.len().is_multiple_of(5) {
                    return Err(wrong);
                }
                Ok(Self::BulkRead { blocks: Blocks { rest: params }, is_fast: code == code::FAST_BULK_READ })
            }
            _ => Err(unknown),
        }
    }
}

impl ByteOrder {
    /// The number that these bytes are, at most four.
    pub fn number(self, bytes: &[u8]) -> u32 {
        let join = |number: u32, byte: &u8| number << 8 | u32::from(*byte);
        match self {
            Self::LowFirst => bytes.iter().rev().fold(0, join),
            Self::HighFirst => bytes.iter().fold(0, join),
        }
    }

    /// The bytes of a number, `len` of them, at most four.
    pub fn bytes(self, number: u32, len: u8) -> [u8; 4] {
        let mut bytes = number.to_le_bytes();
        if self == Self::HighFirst {
            bytes[..usize::from(len.min(4))].reverse();
        }
        bytes
    }
}
