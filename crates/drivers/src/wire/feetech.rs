//! Packets of Feetech's protocols: `FF FF id length code parameters checksum`, where length counts what follows it.

use super::scanner::{Look, Reason, Side};

/// Error bits that motors have; the highest is never set.
const ERROR_BITS: u8 = 0x7f;

pub(super) fn begin(out: &mut Vec<u8>, id: u8, code: u8) {
    out.extend([0xff, 0xff, id, 0, code]);
}

/// Fills in length and checksum. A packet that is too long gets a wrong length; the caller refuses it.
pub(super) fn finish(out: &mut Vec<u8>) {
    let length = u8::try_from(out.len() - 3).unwrap_or(u8::MAX);
    if let Some(byte) = out.get_mut(3) {
        *byte = length;
    }
    out.push(checksum(&out[2..]));
}

fn checksum(bytes: &[u8]) -> u8 {
    !bytes.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte))
}

/// How many bytes lie before what may be a header.
pub(super) fn foreign(bytes: &[u8], side: Side) -> usize {
    let may_begin = |at: &usize| {
        let byte = |offset: usize| bytes.get(at + offset);
        byte(0) == Some(&0xff) && byte(1).is_none_or(|byte| *byte == 0xff) && byte(2).is_none_or(|id| side.has_id(*id, 253))
    };
    (0..bytes.len()).find(may_begin).unwrap_or(bytes.len())
}

/// What begins with `bytes`, which begin with what may be a header.
pub(super) fn look(bytes: &[u8], side: Side, most: usize) -> Look {
    let (Some(id), Some(length)) = (bytes.get(2), bytes.get(3)) else { return Look::Wait };
    let data = match usize::from(*length).checked_sub(2) {
        Some(data) if data <= most => data,
        _ => return Look::Skip(Reason::Length { id: *id, found: usize::from(*length) }),
    };
    if side == Side::Master && bytes.get(4).is_some_and(|error| error & !ERROR_BITS != 0) {
        return Look::Skip(Reason::Code { id: *id, found: bytes[4] });
    }
    let len = data + 6;
    if bytes.len() < len {
        return Look::Wait;
    }
    let (found, expected) = (bytes[len - 1], checksum(&bytes[2..len - 1]));
    if found == expected {
        Look::Packet(len)
    } else {
        Look::Skip(Reason::Checksum { id: *id, found: found.into(), expected: expected.into() })
    }
}
