//! Packets to be sent, written into a buffer that is used again and again.

use super::{BROADCAST, Protocol, code, dynamixel, feetech};
use super::{LONGEST, PacketError};
use crate::{Block, MotorId};

/// The longest packet that Feetech's own program sends.
const LONGEST_FEETECH: usize = 250;

type Built = Result<(), PacketError>;

/// A packet that is being written; its error names what for.
struct Draft<'a> {
    protocol: Protocol,
    what: &'static str,
    out: &'a mut Vec<u8>,
}

impl<'a> Draft<'a> {
    fn begin(protocol: Protocol, what: &'static str, out: &'a mut Vec<u8>, id: u8, code: u8) -> Result<Self, PacketError> {
        out.clear();
        if id > protocol.most_id() && id != BROADCAST {
            return Err(PacketError::Id { what, motor: MotorId(u16::from(id)), most: protocol.most_id() });
        }
        match protocol {
            Protocol::Feetech0 | Protocol::Feetech1 => feetech::begin(out, id, code),
            Protocol::Dynamixel2 => dynamixel::begin(out, id, code),
        }
        Ok(Self { protocol, what, out })
    }

    fn of_one(self, id: u8) -> Result<Self, PacketError> {
        if id == BROADCAST {
            self.out.clear();
            return Err(PacketError::Id { what: self.what, motor: MotorId(u16::from(id)), most: self.protocol.most_id() });
        }
        Ok(self)
    }

    /// An address and, where the packet has it, a length; `len` bytes must be within reach.
    fn block(self, address: u16, len: usize, with_len: bool) -> Result<Self, PacketError> {
        let size = if self.protocol == Protocol::Dynamixel2 { 1 << 16 } else { 1 << 8 };
        if usize::from(address) + len > size {
            self.out.clear();
            return Err(PacketError::Outside { what: self.what, address, len, size });
        }
        let [low, high] = address.to_le_bytes();
        let [len_low, len_high] = u16::try_from(len).unwrap_or(u16::MAX).to_le_bytes();
        match self.protocol {
            Protocol::Feetech0 | Protocol::Feetech1 => self.out.extend(&[low, len_low][..1 + usize::from(with_len)]),
            Protocol::Dynamixel2 => self.out.extend(&[low, high, len_low, len_high][..2 + 2 * usize::from(with_len)]),
        }
        Ok(self)
    }

    fn bytes(self, bytes: &[u8]) -> Self {
        // What is too long anyway is not kept.
        let room = (LONGEST + 1).saturating_sub(self.out.len());
        self.out.extend(&bytes[..bytes.len().min(room)]);
        self
    }

    fn finish(self) -> Built {
        let most = match self.protocol {
            Protocol::Feetech0 | Protocol::Feetech1 => {
                feetech::finish(self.out);
                LONGEST_FEETECH
            }
            Protocol::Dynamixel2 => {
                if self.out.len() <= LONGEST {
                    dynamixel::finish(self.out);
                }
                LONGEST
            }
        };
        let bytes = self.out.len();
        if bytes > most {
            self.out.clear();
            return Err(PacketError::TooLong { what: self.what, bytes, most });
        }
        Ok(())
    }
}

/// Every function replaces what is in `out`; after an error it is empty.
impl Protocol {
    /// Asks a motor, or with [`BROADCAST`] all, whether they are there.
    ///
    /// # Errors
    /// When there is no such id.
    pub fn ping(self, out: &mut Vec<u8>, id: u8) -> Built {
        Draft::begin(self, "a ping", out, id, code::PING)?.finish()
    }

    /// Reads a block of one motor.
    ///
    /// # Errors
    /// When the id or the block is outside of what the protocol reaches.
    pub fn read(self, out: &mut Vec<u8>, id: u8, block: Block) -> Built {
        Draft::begin(self, "a read", out, id, code::READ)?.of_one(id)?.block(block.address, block.len.into(), true)?.finish()
    }

    /// Writes registers of one motor, or with [`BROADCAST`] of all, which then don't answer.
    ///
    /// # Errors
    /// When the id or the block is outside of what the protocol reaches, or there are too many bytes.
    pub fn write(self, out: &mut Vec<u8>, id: u8, address: u16, bytes: &[u8]) -> Built {
        Draft::begin(self, "a write", out, id, code::WRITE)?.block(address, bytes.len(), false)?.bytes(bytes).finish()
    }

    /// A write that waits in the motor for [`action`](Self::action).
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub fn reg_write(self, out: &mut Vec<u8>, id: u8, address: u16, bytes: &[u8]) -> Built {
        Draft::begin(self, "a prepared write", out, id, code::REG_WRITE)?.block(address, bytes.len(), false)?.bytes(bytes).finish()
    }

    /// Does what was prepared by [`reg_write`](Self::reg_write).
    ///
    /// # Errors
    /// When there is no such id.
    pub fn action(self, out: &mut Vec<u8>, id: u8) -> Built {
        Draft::begin(self, "an action", out, id, code::ACTION)?.finish()
    }

    /// Switches the torque off, of one motor or with [`BROADCAST`] of all.
    ///
    /// # Errors
    /// When there is no such id.
    pub fn torque_off(self, out: &mut Vec<u8>, id: u8) -> Built {
        let draft = Draft::begin(self, "switching off the torque", out, id, code::WRITE)?;
        draft.block(self.torque_address(), 1, false)?.bytes(&[0]).finish()
    }

    /// Starts a motor anew.
    ///
    /// # Errors
    /// When the protocol has no such thing or there is no such id.
    pub fn reboot(self, out: &mut Vec<u8>, id: u8) -> Built {
        self.only_dynamixel("a reboot", out)?;
        Draft::begin(self, "a reboot", out, id, code::REBOOT)?.finish()
    }

    /// Reads the same block of several motors; each answers by itself, in this order.
    ///
    /// # Errors
    /// When the protocol has no such thing, or the packet would be too long.
    pub fn sync_read(self, out: &mut Vec<u8>, block: Block, ids: impl IntoIterator<Item = u8>) -> Built {
        if self == Self::Feetech1 {
            out.clear();
            return Err(PacketError::NotInProtocol { what: "a sync read", protocol: self });
        }
        self.several("a sync read", code::SYNC_READ, out, block, ids)
    }

    /// As [`sync_read`](Self::sync_read), answered by all motors together in one packet ([`FastAnswers`](super::FastAnswers)).
    ///
    /// # Errors
    /// When the protocol has no such thing, or the packet would be too long.
    pub fn fast_sync_read(self, out: &mut Vec<u8>, block: Block, ids: impl IntoIterator<Item = u8>) -> Built {
        self.only_dynamixel("a fast sync read", out)?;
        self.several("a fast sync read", code::FAST_SYNC_READ, out, block, ids)
    }

    /// Writes `len` bytes from `address` on to each motor; none answers.
    ///
    /// # Errors
    /// When frames are not of this length, or the packet would be too long.
    pub fn sync_write<'b>(self, out: &mut Vec<u8>, block: Block, frames: impl IntoIterator<Item = (u8, &'b [u8])>) -> Built {
        let what = "a sync write";
        let expected = usize::from(block.len);
        let mut draft = Draft::begin(self, what, out, BROADCAST, code::SYNC_WRITE)?.block(block.address, expected, true)?;
        for (id, bytes) in frames {
            let motor = MotorId(u16::from(id));
            if id > self.most_id() || bytes.len() != expected {
                draft.out.clear();
                return Err(if bytes.len() == expected {
                    PacketError::Id { what, motor, most: self.most_id() }
                } else {
                    PacketError::Length { what, motor, found: bytes.len(), expected }
                });
            }
            draft = draft.bytes(&[id]).bytes(bytes);
        }
        draft.finish()
    }

    /// Reads a block of its own of each motor; each answers by itself, in this order.
    ///
    /// # Errors
    /// When the protocol has no such thing, or the packet would be too long.
    pub fn bulk_read(self, out: &mut Vec<u8>, blocks: impl IntoIterator<Item = (u8, Block)>) -> Built {
        self.bulk("a bulk read", code::BULK_READ, out, blocks)
    }

    /// As [`bulk_read`](Self::bulk_read), answered in one packet.
    ///
    /// # Errors
    /// When the protocol has no such thing, or the packet would be too long.
    pub fn fast_bulk_read(self, out: &mut Vec<u8>, blocks: impl IntoIterator<Item = (u8, Block)>) -> Built {
        self.bulk("a fast bulk read", code::FAST_BULK_READ, out, blocks)
    }

    /// What a motor answers: `error` as its protocol has it, and data.
    ///
    /// # Errors
    /// When the data is too long.
    pub fn status(self, out: &mut Vec<u8>, id: u8, error: u8, data: &[u8]) -> Built {
        let what = "an answer";
        match self {
            Self::Feetech0 | Self::Feetech1 => Draft::begin(self, what, out, id, error)?.bytes(data).finish(),
            Self::Dynamixel2 => Draft::begin(self, what, out, id, code::STATUS)?.bytes(&[error]).bytes(data).finish(),
        }
    }

    /// The one packet in which several motors answer a fast read: of each its error byte, id and data.
    ///
    /// # Errors
    /// When the protocol has no such thing, or the packet would be too long.
    pub fn fast_status<'b>(self, out: &mut Vec<u8>, answers: impl IntoIterator<Item = (u8, u8, &'b [u8])>) -> Built {
        self.only_dynamixel("a fast answer", out)?;
        dynamixel::begin(out, BROADCAST, code::STATUS);
        let answers = answers.into_iter();
        let mut ends = Vec::with_capacity(answers.size_hint().0);
        for (error, id, data) in answers {
            out.extend([error, id]);
            out.extend(data);
            out.extend([0, 0]);
            ends.push(out.len());
        }
        if out.len() > LONGEST {
            let bytes = out.len();
            out.clear();
            return Err(PacketError::TooLong { what: "a fast answer", bytes, most: LONGEST });
        }
        dynamixel::finish_fast(out, ends.into_iter());
        Ok(())
    }

    fn only_dynamixel(self, what: &'static str, out: &mut Vec<u8>) -> Built {
        out.clear();
        if self == Self::Dynamixel2 { Ok(()) } else { Err(PacketError::NotInProtocol { what, protocol: self }) }
    }

    fn several(self, what: &'static str, code: u8, out: &mut Vec<u8>, block: Block, ids: impl IntoIterator<Item = u8>) -> Built {
        let mut draft = Draft::begin(self, what, out, BROADCAST, code)?.block(block.address, block.len.into(), true)?;
        for id in ids {
            if id > self.most_id() {
                draft.out.clear();
                return Err(PacketError::Id { what, motor: MotorId(u16::from(id)), most: self.most_id() });
            }
            draft = draft.bytes(&[id]);
        }
        draft.finish()
    }

    fn bulk(self, what: &'static str, code: u8, out: &mut Vec<u8>, blocks: impl IntoIterator<Item = (u8, Block)>) -> Built {
        self.only_dynamixel(what, out)?;
        let mut draft = Draft::begin(self, what, out, BROADCAST, code)?;
        for (id, block) in blocks {
            if id > self.most_id() {
                draft.out.clear();
                return Err(PacketError::Id { what, motor: MotorId(u16::from(id)), most: self.most_id() });
            }
            draft = draft.bytes(&[id]).block(block.address, block.len.into(), true)?;
        }
        draft.finish()
    }
}
