//! Where frames go out and come in: a serial adapter that speaks lines of text, or a socket of Linux.

use std::fmt;
use std::io;
use std::time::Duration;

use sinew_core::{Clock, Timestamp};

use super::slcan::{self, Decoder, Heard};
use super::{CanCounts, CanFrame};
use crate::PortAddress;
use crate::serial::SerialPort as Port;

/// How long an adapter may take to say whether it does what it is told. Some say nothing.
const ADAPTER: Duration = Duration::from_millis(100);
/// The speed of the port. Adapters on USB take any.
const SERIAL_BAUD: u32 = 921_600;

/// Where a CAN bus is to be found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CanAddress {
    /// A serial adapter, such as a CANable with its `slcan` firmware.
    Serial(PortAddress),
    /// A network interface of Linux, such as `can0`, which the system has set up with its bit rates.
    Socket(String),
}

impl fmt::Display for CanAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Serial(address) => address.fmt(f),
            Self::Socket(name) => f.write_str(name),
        }
    }
}

impl CanAddress {
    /// What a user calls it: a path (as LeRobot has it, what begins with `/` is a serial adapter), or an interface.
    pub fn parse(text: &str) -> Self {
        match text.starts_with('/') {
            true => Self::Serial(PortAddress::Path(text.to_owned())),
            false => Self::Socket(text.to_owned()),
        }
    }
}

/// An open bus.
pub(super) enum CanPort {
    Serial(Box<Serial>),
    #[cfg(target_os = "linux")]
    Socket(socket::Socket),
}

/// What arrived.
pub(super) enum Arrived {
    Frame(CanFrame),
    /// Something that is no frame, or nothing yet.
    Other,
    /// Nothing in all that time.
    Nothing,
}

pub(super) struct Serial {
    port: Port,
    decoder: Decoder,
    lines: Vec<u8>,
    /// The last lines may have been cut, as there was no room for them in time: what comes next begins a line of its own.
    is_cut: bool,
    arrived: [u8; 512],
    /// What of it was not looked at yet.
    fresh: std::ops::Range<usize>,
}

impl CanPort {
    pub fn open(address: &CanAddress, bit_rate: u32, data_bit_rate: Option<u32>, clock: &dyn Clock) -> io::Result<Self> {
        match address {
            CanAddress::Serial(address) => Ok(Self::Serial(Box::new(Serial::open(address, bit_rate, data_bit_rate, clock)?))),
            #[cfg(target_os = "linux")]
            CanAddress::Socket(name) => Ok(Self::Socket(socket::Socket::open(name, data_bit_rate.is_some())?)),
            #[cfg(not(target_os = "linux"))]
            CanAddress::Socket(_) => {
                Err(io::Error::new(io::ErrorKind::Unsupported, "this system has no CAN interfaces: use a serial adapter"))
            }
        }
    }

    /// Sends frames one after the other; how many were sent by `deadline`.
    pub fn send(&mut self, frames: &[CanFrame], clock: &dyn Clock, deadline: Timestamp) -> io::Result<usize> {
        match self {
            Self::Serial(serial) => {
                serial.lines.clear();
                if std::mem::replace(&mut serial.is_cut, true) {
                    serial.lines.push(b'\r');
                }
                frames.iter().for_each(|frame| slcan::encode(frame, &mut serial.lines));
                serial.port.send(&serial.lines, left(clock, deadline))?;
                serial.is_cut = false;
                Ok(frames.len())
            }
            #[cfg(target_os = "linux")]
            Self::Socket(socket) => socket.send(frames, clock, deadline),
        }
    }

    pub fn receive(&mut self, patience: Duration, counts: &mut CanCounts) -> io::Result<Arrived> {
        match self {
            Self::Serial(serial) => serial.receive(patience, counts),
            #[cfg(target_os = "linux")]
            Self::Socket(socket) => socket.receive(patience, counts),
        }
    }

    /// The bytes that say `frame` to whoever has this port open.
    pub fn packet(&self, frame: &CanFrame) -> Vec<u8> {
        let mut packet = Vec::new();
        match self {
            Self::Serial(_) => {
                // Ends the line that somebody may have begun.
                packet.push(b'\r');
                slcan::encode(frame, &mut packet);
            }
            #[cfg(target_os = "linux")]
            Self::Socket(_) => frame.to_socket(&mut packet),
        }
        packet
    }

    /// Whether a frame that came sooner than its bits take was on its way before: what an adapter and its wire still held.
    pub fn is_late_by_its_time(&self) -> bool {
        matches!(self, Self::Serial(_))
    }

    #[cfg(unix)]
    pub fn descriptor(&self) -> io::Result<std::os::fd::OwnedFd> {
        match self {
            Self::Serial(serial) => serial.port.descriptor(),
            #[cfg(target_os = "linux")]
            Self::Socket(socket) => socket.descriptor(),
        }
    }
}

fn left(clock: &dyn Clock, deadline: Timestamp) -> Duration {
    Duration::from_nanos(u64::try_from(deadline.nanos_since(clock.now())).unwrap_or(0))
}

impl Serial {
    /// Opens the adapter's channel. It is not closed again, so that a watchdog can still speak when this process is gone.
    fn open(address: &PortAddress, bit_rate: u32, data_bit_rate: Option<u32>, clock: &dyn Clock) -> io::Result<Self> {
        let unknown = |what: &str, bits: u32| {
            io::Error::new(io::ErrorKind::InvalidInput, format!("serial CAN adapters have no {what} of {bits} bits a second"))
        };
        let nominal = slcan::bit_rate(bit_rate).ok_or_else(|| unknown("bit rate", bit_rate))?;
        let data = data_bit_rate.map(|bits| slcan::data_bit_rate(bits).ok_or_else(|| unknown("bit rate for data", bits))).transpose()?;
        let port = Port::open(address, SERIAL_BAUD)?;
        let mut serial =
            Self { port, decoder: Decoder::default(), lines: Vec::with_capacity(4096), is_cut: false, arrived: [0; 512], fresh: 0..0 };
        // Whatever was half said, and a channel that somebody left open: rates can't be set then. It may say no to both.
        serial.tell(b"\r\r\rC\r", clock, Duration::from_millis(30))?;
        for command in [Some(nominal), data, Some(&b"O\r"[..])].into_iter().flatten() {
            if serial.tell(command, clock, ADAPTER)? == Some(false) {
                let text = String::from_utf8_lossy(command);
                let what =
                    format!("the adapter refuses the command {}: it does not have it, or it can't open its channel", text.trim_end());
                return Err(io::Error::new(io::ErrorKind::Unsupported, what));
            }
        }
        serial.decoder.clear();
        Ok(serial)
    }

    /// Says it, and what the adapter says to it within `patience`.
    fn tell(&mut self, command: &[u8], clock: &dyn Clock, patience: Duration) -> io::Result<Option<bool>> {
        self.port.send(command, patience)?;
        let end = clock.now() + patience;
        let is_alone = command.iter().filter(|byte| **byte == b'\r').count() == 1;
        loop {
            let patience = left(clock, end);
            let len = self.port.receive(&mut self.arrived, patience)?;
            for byte in &self.arrived[..len] {
                match self.decoder.take(*byte) {
                    Some(Heard::Refused) if is_alone => return Ok(Some(false)),
                    Some(Heard::Done) if is_alone => return Ok(Some(true)),
                    // Frames of a channel that was open.
                    _ => {}
                }
            }
            if patience.is_zero() {
                return Ok(None);
            }
        }
    }

    fn receive(&mut self, patience: Duration, counts: &mut CanCounts) -> io::Result<Arrived> {
        if self.fresh.is_empty() {
            let len = self.port.receive(&mut self.arrived, patience)?;
            if len == 0 {
                return Ok(Arrived::Nothing);
            }
            self.fresh = 0..len;
        }
        for at in self.fresh.by_ref() {
            match self.decoder.take(self.arrived[at]) {
                Some(Heard::Frame(frame)) => return Ok(Arrived::Frame(frame)),
                Some(Heard::Garbage(bytes)) => counts.garbage_bytes += u64::try_from(bytes).unwrap_or(u64::MAX),
                Some(Heard::Refused) => counts.refused += 1,
                Some(Heard::Done) | None => {}
            }
        }
        Ok(Arrived::Other)
    }
}

#[cfg(target_os = "linux")]
mod socket {
    use std::io;
    use std::os::fd::{AsFd, OwnedFd};
    use std::time::Duration;

    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    use rustix::io::Errno;
    use sinew_core::{Clock, Timestamp};

    use super::super::frame::SOCKET_FLEXIBLE;
    use super::{Arrived, CanCounts, CanFrame, left};

    /// A raw socket. Frames go through its descriptor as the system has them, so that waiting costs no allocation.
    pub struct Socket {
        line: OwnedFd,
        bytes: Vec<u8>,
    }

    impl Socket {
        pub fn open(name: &str, is_flexible: bool) -> io::Result<Self> {
            use socketcan::Socket as _;
            let raw = if is_flexible {
                let socket = socketcan::CanFdSocket::open(name)?;
                socket.set_nonblocking(true)?;
                socket.as_fd().try_clone_to_owned()?
            } else {
                let socket = socketcan::CanSocket::open(name)?;
                socket.set_nonblocking(true)?;
                socket.as_fd().try_clone_to_owned()?
            };
            Ok(Self::of(raw))
        }

        /// Of a socket that is open, not blocking, and gives a frame each time.
        pub(in crate::can) fn of(line: OwnedFd) -> Self {
            Self { line, bytes: Vec::with_capacity(SOCKET_FLEXIBLE) }
        }

        fn wait(&self, flags: PollFlags, patience: Duration) -> io::Result<()> {
            let timeout =
                Timespec { tv_sec: i64::try_from(patience.as_secs()).unwrap_or(i64::MAX), tv_nsec: patience.subsec_nanos().into() };
            match poll(&mut [PollFd::new(&self.line, flags)], Some(&timeout)) {
                Ok(_) | Err(Errno::INTR) => Ok(()),
                Err(errno) => Err(errno.into()),
            }
        }

        pub fn send(&mut self, frames: &[CanFrame], clock: &dyn Clock, deadline: Timestamp) -> io::Result<usize> {
            for (sent, frame) in frames.iter().enumerate() {
                self.bytes.clear();
                frame.to_socket(&mut self.bytes);
                loop {
                    match rustix::io::write(&self.line, &self.bytes) {
                        Ok(_) => break,
                        Err(Errno::INTR) => {}
                        // The interface's queue is full: nobody is on the bus, or it is busy.
                        Err(Errno::AGAIN | Errno::NOBUFS) => {
                            let patience = left(clock, deadline);
                            if patience.is_zero() {
                                return Ok(sent);
                            }
                            clock.sleep_until(clock.now() + patience.min(Duration::from_micros(100)));
                        }
                        Err(errno) => return Err(errno.into()),
                    }
                }
            }
            Ok(frames.len())
        }

        pub fn receive(&mut self, patience: Duration, counts: &mut CanCounts) -> io::Result<Arrived> {
            let mut buffer = [0; SOCKET_FLEXIBLE];
            let mut has_waited = patience.is_zero();
            loop {
                match rustix::io::read(&self.line, &mut buffer) {
                    Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                    Ok(len) => {
                        let frame = buffer.get(..len).and_then(CanFrame::of_socket);
                        if frame.is_none() {
                            counts.garbage_bytes += u64::try_from(len).unwrap_or(u64::MAX);
                        }
                        return Ok(frame.map_or(Arrived::Other, Arrived::Frame));
                    }
                    Err(Errno::INTR) => {}
                    Err(Errno::AGAIN) if has_waited => return Ok(Arrived::Nothing),
                    Err(Errno::AGAIN) => {
                        has_waited = true;
                        self.wait(PollFlags::IN, patience)?;
                    }
                    Err(errno) => return Err(errno.into()),
                }
            }
        }

        pub fn descriptor(&self) -> io::Result<OwnedFd> {
            self.line.try_clone()
        }
    }

    #[cfg(test)]
    mod tests {
        use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

        use super::*;
        use crate::can::CanFormat;
        use crate::can::frame::SOCKET_CLASSIC;

        /// A pair of sockets that keep messages apart, as those of a CAN bus do.
        fn pair() -> (Socket, OwnedFd) {
            let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::NONBLOCK, None).unwrap();
            (Socket::of(ours), theirs)
        }

        #[test]
        fn frames_go_through_a_socket_as_the_system_has_them() {
            let (mut socket, theirs) = pair();
            let clock = sinew_core::MockClock::default();
            let fast = CanFormat::Flexible { is_fast: true };
            let frames = [
                CanFrame::standard(1, &[0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFD]).unwrap(),
                CanFrame::extended(0x0300_FF01, &[0; 8]).unwrap(),
                CanFrame::new(0x12, false, fast, &[7; 12]).unwrap(),
            ];
            assert_eq!(socket.send(&frames, &clock, clock.now()).unwrap(), 3);
            let mut buffer = [0; 100];
            let sizes = [SOCKET_CLASSIC, SOCKET_CLASSIC, SOCKET_FLEXIBLE];
            for (frame, size) in frames.iter().zip(sizes) {
                let len = rustix::io::read(&theirs, &mut buffer).unwrap();
                assert_eq!((len, CanFrame::of_socket(&buffer[..len])), (size, Some(*frame)));
                rustix::io::write(&theirs, &buffer[..len]).unwrap();
            }
            let mut counts = CanCounts::default();
            for frame in frames {
                assert!(matches!(socket.receive(Duration::ZERO, &mut counts).unwrap(), Arrived::Frame(found) if found == frame));
            }
            assert!(matches!(socket.receive(Duration::from_millis(1), &mut counts).unwrap(), Arrived::Nothing));
            // A request for a frame, and something short.
            let mut remote = [0; SOCKET_CLASSIC];
            remote[..4].copy_from_slice(&(1u32 << 30 | 5).to_ne_bytes());
            rustix::io::write(&theirs, &remote).unwrap();
            rustix::io::write(&theirs, &remote[..3]).unwrap();
            for _ in 0..2 {
                assert!(matches!(socket.receive(Duration::ZERO, &mut counts).unwrap(), Arrived::Other));
            }
            assert_eq!(counts.garbage_bytes, 19);
            drop(theirs);
            assert!(socket.receive(Duration::ZERO, &mut counts).is_err(), "the other end is gone");
        }
    }
}
