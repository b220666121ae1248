//! What the main process and its watchdog say to each other.
//!
//! A message is a header of 16 bytes: the version, the kind, two zeroes, the length of what follows (`u32`) and a
//! number (`u64`); integers are little-endian. The number of a beat is the time when it was made; an answer repeats the
//! number of what it answers. Only ARM has more than a header, and open descriptors with it. No length is believed
//! before it was checked.

use std::collections::VecDeque;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::cmsg_space;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, recvmsg, send,
    sendmsg,
};
use sinew_core::{LeaseError, Lifeline, LifelineCheck, LifelinePort};
use thiserror::Error;

use crate::clock::monotonic_ns;

const VERSION: u8 = 1;
const HEADER_BYTES: usize = 16;
/// Of a lifeline.
const MAX_PORTS: usize = 8;
const MAX_NAME_BYTES: usize = 255;
const MAX_FRAMES: usize = 64;
const MAX_FRAME_BYTES: usize = 1024;
/// So that even the longest lifeline is written in a known time.
const MAX_GAP: Duration = Duration::from_millis(20);
const MAX_PAYLOAD_BYTES: usize = 64 * 1024;

/// A message that is not one.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum WireError {
    #[error("reading a message of the watchdog's socket: expected version {VERSION}, found {found}")]
    Version { found: u8 },
    #[error("reading a message of the watchdog's socket: expected a kind that is sent this way, found {found}")]
    Kind { found: u8 },
    #[error("reading a message of the watchdog's socket: expected at most {most} {what}, found {found}")]
    TooMuch { what: &'static str, most: usize, found: u64 },
    #[error("reading a message of the watchdog's socket: expected {expected} {what}, found {found}")]
    Count { what: &'static str, expected: usize, found: usize },
    #[error("reading a message of the watchdog's socket: expected the number of something that was said, found {found}")]
    Number { found: u64 },
}

#[derive(Debug)]
pub(super) enum Message {
    Arm { number: u64, lifeline: Lifeline },
    Beat { number: u64 },
    Disarm,
    Held { number: u64 },
    Taken,
}

impl Message {
    pub(super) fn kind(&self) -> u8 {
        match self {
            Self::Arm { .. } => 1,
            Self::Beat { .. } => 2,
            Self::Disarm => 3,
            Self::Held { .. } => 4,
            Self::Taken => 5,
        }
    }

    fn header(&self, payload_bytes: u32) -> [u8; HEADER_BYTES] {
        let number = match self {
            Self::Arm { number, .. } | Self::Beat { number } | Self::Held { number } => *number,
            Self::Disarm | Self::Taken => 0,
        };
        let mut header = [0; HEADER_BYTES];
        (header[0], header[1]) = (VERSION, self.kind());
        header[4..8].copy_from_slice(&payload_bytes.to_le_bytes());
        header[8..].copy_from_slice(&number.to_le_bytes());
        header
    }

    /// Sends a message that is a header. Never waits: `false` when the other end has no room for it.
    ///
    /// # Errors
    /// When the other end is gone, or took half of it and can't understand any more.
    pub(super) fn send_short(&self, socket: impl AsFd) -> io::Result<bool> {
        let header = self.header(0);
        match retrying(|| send(&socket, &header, SendFlags::DONTWAIT)) {
            Ok(HEADER_BYTES) => Ok(true),
            Ok(bytes) => Err(io::Error::other(format!("expected to send {HEADER_BYTES} bytes, sent {bytes}"))),
            Err(Errno::AGAIN) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Sends ARM, with the descriptors. Waits for room as long as the socket was told to.
    pub(super) fn send_arm(socket: impl AsFd, number: u64, lifeline: Lifeline) -> Result<(), LeaseError> {
        let payload = encode(&lifeline)?;
        let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
        let arm = Self::Arm { number, lifeline };
        let mut bytes = arm.header(length).to_vec();
        bytes.extend(payload);
        let Self::Arm { lifeline, .. } = &arm else { return Ok(()) };
        let descriptors: Vec<BorrowedFd<'_>> = lifeline.ports.iter().map(|port| port.descriptor.as_fd()).collect();
        let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(MAX_PORTS))];
        let mut rights = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() && !rights.push(SendAncillaryMessage::ScmRights(&descriptors)) {
            return Err(LeaseError::TooMuch { what: "ports", most: MAX_PORTS, found: descriptors.len() });
        }
        let failed = |error: Errno| LeaseError::Send { source: Box::new(io::Error::from(error)) };
        let mut sent = retrying(|| sendmsg(&socket, &[IoSlice::new(&bytes)], &mut rights, SendFlags::empty())).map_err(failed)?;
        while sent < bytes.len() {
            sent += retrying(|| send(&socket, &bytes[sent..], SendFlags::empty())).map_err(failed)?;
        }
        Ok(())
    }
}

/// Calls again what a signal interrupted.
pub(super) fn retrying<T>(mut call: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            result => return result,
        }
    }
}

/// Until `descriptor` is ready for one of `flags` or has failed, or `deadline_ns` of the monotonic clock has passed, if
/// there is one. Whether it is ready.
pub(super) fn wait_for(descriptor: impl AsFd, flags: PollFlags, deadline_ns: Option<i64>) -> io::Result<bool> {
    let ready = retrying(|| {
        let left = deadline_ns.map(|deadline| (deadline - monotonic_ns()).max(0));
        let left = left.map(|ns| Timespec { tv_sec: ns / 1_000_000_000, tv_nsec: (ns % 1_000_000_000) as _ });
        poll(&mut [PollFd::new(&descriptor, flags)], left.as_ref())
    })?;
    Ok(ready > 0)
}

fn encode(lifeline: &Lifeline) -> Result<Vec<u8>, LeaseError> {
    let within = |what, most, found| if found <= most { Ok(()) } else { Err(LeaseError::TooMuch { what, most, found }) };
    let mut bytes = Vec::new();
    within("ports", MAX_PORTS, lifeline.ports.len())?;
    bytes.push(lifeline.ports.len() as u8);
    for port in &lifeline.ports {
        within("bytes of a port's name", MAX_NAME_BYTES, port.name.len())?;
        within("packets for a port", MAX_FRAMES, port.frames.len())?;
        within("microseconds between two packets", MAX_GAP.as_micros() as usize, port.gap.as_micros().try_into().unwrap_or(usize::MAX))?;
        bytes.push(port.name.len() as u8);
        bytes.extend(port.name.as_bytes());
        bytes.extend((port.gap.as_micros() as u32).to_le_bytes());
        bytes.push(port.frames.len() as u8);
        for frame in &port.frames {
            within("bytes of a packet", MAX_FRAME_BYTES, frame.len())?;
            bytes.extend((frame.len() as u16).to_le_bytes());
            bytes.extend(frame);
        }
        within("checks of a port", MAX_FRAMES, port.checks.len())?;
        bytes.push(port.checks.len() as u8);
        for part in port.checks.iter().flat_map(|check| [&check.packet, &check.answer]) {
            within("bytes of a check", MAX_FRAME_BYTES, part.len())?;
            bytes.extend((part.len() as u16).to_le_bytes());
            bytes.extend(part);
        }
    }
    within("bytes in all", MAX_PAYLOAD_BYTES, bytes.len())?;
    Ok(bytes)
}

/// What is left to be read of a payload.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn take(&mut self, what: &'static str, count: usize) -> Result<&'a [u8], WireError> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(WireError::Count { what, expected: count, found: self.0.len() })?;
        self.0 = rest;
        Ok(taken)
    }

    /// An unsigned integer of `bytes` bytes, at most `most`.
    fn integer(&mut self, what: &'static str, bytes: usize, most: usize) -> Result<usize, WireError> {
        let found = self.take("bytes of a count", bytes)?.iter().rev().fold(0, |sum, byte| sum << 8 | usize::from(*byte));
        if found <= most { Ok(found) } else { Err(WireError::TooMuch { what, most, found: found as u64 }) }
    }
}

fn decode(payload: &[u8], descriptors: &mut VecDeque<OwnedFd>) -> Result<Lifeline, WireError> {
    let mut rest = Rest(payload);
    let count = rest.integer("ports", 1, MAX_PORTS)?;
    if descriptors.len() != count {
        return Err(WireError::Count { what: "open ports", expected: count, found: descriptors.len() });
    }
    let mut ports = Vec::new();
    for descriptor in descriptors.drain(..) {
        let length = rest.integer("bytes of a port's name", 1, MAX_NAME_BYTES)?;
        let name = String::from_utf8_lossy(rest.take("bytes of a port's name", length)?).into_owned();
        let gap_us = rest.integer("microseconds between two packets", 4, MAX_GAP.as_micros() as usize)?;
        let mut frames = Vec::new();
        for _ in 0..rest.integer("packets for a port", 1, MAX_FRAMES)? {
            let length = rest.integer("bytes of a packet", 2, MAX_FRAME_BYTES)?;
            frames.push(rest.take("bytes of a packet", length)?.to_vec());
        }
        let mut checks = Vec::new();
        for _ in 0..rest.integer("checks of a port", 1, MAX_FRAMES)? {
            let mut part = || {
                let length = rest.integer("bytes of a check", 2, MAX_FRAME_BYTES)?;
                Ok::<_, WireError>(rest.take("bytes of a check", length)?.to_vec())
            };
            checks.push(LifelineCheck { packet: part()?, answer: part()? });
        }
        ports.push(LifelinePort { name, descriptor, frames, gap: Duration::from_micros(gap_us as u64), checks });
    }
    match rest.0.len() {
        0 => Ok(Lifeline { ports }),
        found => Err(WireError::Count { what: "bytes after the last port", expected: 0, found }),
    }
}

#[derive(Debug)]
pub(super) enum Received {
    Message(Message),
    /// The deadline has passed, and nothing waits to be read.
    Nothing,
    /// The other end is gone.
    Closed,
    /// What comes can't be understood; nor can anything after it.
    Garbled(WireError),
}

/// What has come in of messages.
#[derive(Default)]
pub(super) struct Inbox {
    bytes: VecDeque<u8>,
    descriptors: VecDeque<OwnedFd>,
    /// Reads on after something garbled, to see the other end go.
    is_deaf: bool,
}

impl Inbox {
    /// The next message. Everything that waits is read before a deadline counts as passed, so a reader that was
    /// kept waiting doesn't blame the other end.
    pub(super) fn next(&mut self, socket: impl AsFd, deadline_ns: Option<i64>) -> io::Result<Received> {
        loop {
            match self.parse() {
                Ok(Some(message)) => return Ok(Received::Message(message)),
                Ok(None) => {}
                Err(error) => {
                    self.is_deaf = true;
                    return Ok(Received::Garbled(error));
                }
            }
            match self.fill(&socket) {
                Ok(0) | Err(Errno::CONNRESET) => return Ok(Received::Closed),
                Ok(_) => {}
                Err(Errno::AGAIN) => {
                    if !wait_for(&socket, PollFlags::IN, deadline_ns)? {
                        return Ok(Received::Nothing);
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn fill(&mut self, socket: impl AsFd) -> Result<usize, Errno> {
        #[cfg(target_os = "linux")]
        const FLAGS: RecvFlags = RecvFlags::DONTWAIT.union(RecvFlags::CMSG_CLOEXEC);
        #[cfg(not(target_os = "linux"))]
        const FLAGS: RecvFlags = RecvFlags::DONTWAIT;
        let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(MAX_PORTS))];
        let mut rights = RecvAncillaryBuffer::new(&mut space);
        let mut bytes = [0; 4096];
        let received = retrying(|| recvmsg(&socket, &mut [IoSliceMut::new(&mut bytes)], &mut rights, FLAGS))?;
        for message in rights.drain() {
            if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                self.descriptors.extend(descriptors);
            }
        }
        // Where descriptors were cut off, or come with no ARM, their number is found to be wrong.
        if received.flags.contains(ReturnFlags::CTRUNC) {
            self.descriptors.clear();
        }
        if self.is_deaf {
            self.descriptors.clear();
        } else {
            self.bytes.extend(&bytes[..received.bytes.min(bytes.len())]);
        }
        Ok(received.bytes)
    }

    fn parse(&mut self) -> Result<Option<Message>, WireError> {
        if self.is_deaf || self.bytes.len() < HEADER_BYTES {
            return Ok(None);
        }
        let bytes = self.bytes.make_contiguous();
        let (&[version, kind, ..], number) = (&bytes[..4], &bytes[8..HEADER_BYTES]) else { return Ok(None) };
        if version != VERSION {
            return Err(WireError::Version { found: version });
        }
        let number = number.iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
        let most = if kind == 1 { MAX_PAYLOAD_BYTES } else { 0 };
        let length = Rest(&bytes[4..8]).integer("bytes of a message", 4, most)?;
        let Some(payload) = bytes.get(HEADER_BYTES..HEADER_BYTES + length) else { return Ok(None) };
        let message = match kind {
            1 => Message::Arm { number, lifeline: decode(payload, &mut self.descriptors)? },
            2 => Message::Beat { number },
            3 => Message::Disarm,
            4 => Message::Held { number },
            5 => Message::Taken,
            found => return Err(WireError::Kind { found }),
        };
        self.bytes.drain(..HEADER_BYTES + length);
        Ok(Some(message))
    }
}
