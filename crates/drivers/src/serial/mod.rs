//! Motors on a serial port: Feetech's protocols 0 and 1, and Dynamixel's 2.0.
//!
//! Who asks knows how long the answer takes: bytes at the port's speed, the motors' return delay, and what adapter and
//! system may add ([`SerialOptions::latency`]). So it knows whether an attempt can still be finished before a deadline,
//! when waiting is over, and which answer comes too early to be one: that one is left from a question before.

mod ask;
mod owed;
mod port;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use sinew_core::{Clock, LifelineCheck, Timestamp};

use crate::wire::{PacketError, Protocol, Scanner, Side};
use crate::{Answer, Block, Bus, BusError, Bytes, Frame, MOST_BYTES, MotorError, MotorFault, MotorId, Operation, Reply};

use ask::{Asking, Turn};
use port::Port;
#[cfg(feature = "can")]
pub(crate) use port::Port as SerialPort;
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
pub(crate) use port::group_of;
pub use port::{PortAddress, slow_adapter, who_may_open};

/// How a port is used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SerialOptions {
    pub address: PortAddress,
    pub protocol: Protocol,
    /// Bits a second.
    pub baud: u32,
    /// The longest that a motor waits before it answers. New motors have 500 us.
    pub return_delay: Duration,
    /// The most that adapter and system may add to the way of an answer. Where answers come sooner, a motor is waited for
    /// less that doesn't answer while others do. FTDI adapters whose latency timer is not set to 1 ms need
    /// 20 ms.
    pub latency: Duration,
    /// How often a motor is asked within an operation, where its deadline leaves room. One that was silent throughout the
    /// last operation is asked once until it answers again, so that a dead motor doesn't cost the others their time.
    pub attempts: u8,
}

impl SerialOptions {
    /// With what suits most adapters: motors as they leave the factory, 4 ms of latency, 4 attempts.
    pub fn new(address: PortAddress, protocol: Protocol, baud: u32) -> Self {
        let (return_delay, latency) = (Duration::from_micros(508), Duration::from_millis(4));
        Self { address, protocol, baud, return_delay, latency, attempts: 4 }
    }
}

/// What happened on a port since it was made. Nothing of it is an error by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SerialCounts {
    /// Packets that were sent.
    pub requests: u64,
    /// Of them those that asked again.
    pub retries: u64,
    /// Answers to a question before the one that was asked.
    pub late_answers: u64,
    /// Packets that nobody had asked for, or that answer something else.
    pub foreign_packets: u64,
    /// Bytes that were part of no packet.
    pub garbage_bytes: u64,
    /// Bytes that had arrived before a question was asked.
    pub stale_bytes: u64,
}

/// What begun reading a block waits for.
#[derive(Clone, Copy)]
struct Begun {
    block: Block,
    deadline: Timestamp,
    /// Whether a question is on the wire.
    is_asked: bool,
}

/// A serial port with motors on it.
///
/// The port is open for nobody else. One that is lost stays so until [`reopen`](Self::reopen). An answer counts when it
/// is a whole packet, from the motor that was asked, of the length that was asked for, and no earlier than the wire's
/// speed allows. While a motor owes an answer, for a second or twice as long as one ever took, other questions ask it for more bytes, from the
/// registers before on, so that an answer that comes late fits none of them. What can't be longer (an acknowledgement, the
/// answer to a ping) is believed when more of them have come than are owed to questions before.
pub struct SerialBus {
    options: SerialOptions,
    clock: Arc<dyn Clock>,
    /// `None` when it is lost.
    port: Option<Port>,
    name: String,
    scanner: Scanner,
    asking: Asking,
    begun: Option<Begun>,
    counts: SerialCounts,
}

impl SerialBus {
    /// Opens the port. Sends nothing.
    ///
    /// # Errors
    /// When it is not there, somebody else has it, or it does not know the speed.
    pub fn open(options: SerialOptions, clock: Arc<dyn Clock>) -> Result<Self, BusError> {
        let scanner = Scanner::new(options.protocol, Side::Master);
        let name = options.address.to_string();
        let (begun, counts) = (None, SerialCounts::default());
        let mut bus = Self { options, clock, port: None, name, scanner, asking: Asking::new(), begun, counts };
        bus.reopen()?;
        Ok(bus)
    }

    /// Opens the port anew, as after it was lost: by its path, or wherever the USB adapter with its serial number is now.
    /// What motors hold and do is as it was.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn reopen(&mut self) -> Result<(), BusError> {
        let SerialOptions { address, baud, .. } = &self.options;
        // The lock would be in the way.
        self.port = None;
        let failed = |source| BusError::Open { port: address.to_string(), baud: *baud, source };
        let port = Port::open(address, *baud).map_err(failed)?;
        self.name = port.name().to_owned();
        self.port = Some(port);
        self.scanner.clear();
        self.asking.forget();
        self.begun = None;
        Ok(())
    }

    /// Gives the port back; it can be [`reopen`](Self::reopen)ed.
    pub fn close(&mut self) {
        self.port = None;
    }

    /// As [`ping`](Bus::ping), with one attempt.
    pub(crate) fn ping_once(&mut self, motor: MotorId, deadline: Timestamp) -> Result<Answer, BusError> {
        let attempts = std::mem::replace(&mut self.options.attempts, 1);
        let result = self.ping(motor, deadline);
        self.options.attempts = attempts;
        result
    }

    /// Whether the port is open, as far as is known.
    pub fn is_open(&self) -> bool {
        self.port.is_some()
    }

    /// The path of the port, for messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn protocol(&self) -> Protocol {
        self.options.protocol
    }

    pub fn counts(&self) -> SerialCounts {
        self.counts
    }

    /// From now on motors are known to wait at most so long before they answer.
    pub fn set_return_delay(&mut self, delay: Duration) {
        self.options.return_delay = delay;
    }

    /// How long an operation takes that asks `motors` for `data` bytes each, when all goes well, with the latency that it
    /// may have.
    pub fn time_to_read(&self, data: usize, motors: usize) -> Duration {
        let protocol = self.options.protocol;
        let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let request = protocol.answer_len(4 + motors);
        let slot = self.options.return_delay + self.byte_time() * count(protocol.answer_len(data));
        self.byte_time() * count(request) + slot * count(motors) + self.options.latency
    }

    /// From the end of one packet to the next, for who sends packets without listening.
    pub fn gap(&self) -> Duration {
        self.options.return_delay + self.byte_time() * 32 + Duration::from_millis(1)
    }

    /// A copy of the port's descriptor, for a process that outlives this one.
    ///
    /// # Errors
    /// When the port is lost or the system gives none.
    #[cfg(unix)]
    pub fn descriptor(&self) -> io::Result<std::os::fd::OwnedFd> {
        self.port.as_ref().ok_or(io::ErrorKind::NotConnected)?.descriptor()
    }

    /// Asks for what [`finish_read`](Self::finish_read) then waits for, so that several buses work at once. In a
    /// protocol that asks one motor at a time nothing is sent yet.
    ///
    /// # Errors
    /// As [`Bus::read`].
    pub fn begin_read(&mut self, block: Block, replies: &mut [Reply], deadline: Timestamp) -> Result<(), BusError> {
        let operation = Operation::Read(block);
        self.asking.begin();
        self.asking.next_question();
        for reply in replies.iter_mut() {
            *reply = Reply::of(reply.motor, operation);
        }
        self.begun = Some(Begun { block, deadline, is_asked: false });
        if usize::from(block.len) > MOST_BYTES {
            let fault = MotorFault::Length { found: usize::from(block.len), expected: MOST_BYTES };
            let motor = replies.first().map_or(MotorId(0), |reply| reply.motor);
            return Err(MotorError { operation, motor, fault }.into());
        }
        let is_asked = self.options.protocol != Protocol::Feetech1 && self.ask_all(block, replies, 0, deadline)?;
        self.begun = Some(Begun { block, deadline, is_asked });
        Ok(())
    }

    /// Waits for what [`begin_read`](Self::begin_read) asked for, with the same replies, and asks again for what does not
    /// come. Without a beginning it does nothing.
    ///
    /// # Errors
    /// As [`Bus::read`].
    pub fn finish_read(&mut self, replies: &mut [Reply]) -> Result<(), BusError> {
        let Some(Begun { block, deadline, mut is_asked }) = self.begun.take() else { return Ok(()) };
        let operation = Operation::Read(block);
        let garbage = self.counts.garbage_bytes;
        let is_single = self.options.protocol == Protocol::Feetech1;
        let attempts = self.options.attempts.max(1);
        for attempt in 0..attempts {
            let is_last = attempt + 1 == attempts;
            if is_single {
                for i in 0..replies.len() {
                    if self.asking.is_wanted(&replies[i], attempt) {
                        self.ask_one(
                            operation,
                            &mut replies[i..=i],
                            usize::from(block.len),
                            Turn { deadline, attempt, is_last, is_alone: false },
                            |protocol, out, id, block| protocol.read(out, id, block),
                        )?;
                    }
                }
                continue;
            }
            if attempt > 0 {
                is_asked = self.ask_all(block, replies, attempt, deadline)?;
            }
            if !is_asked {
                break;
            }
            self.listen(operation, replies, Turn { deadline, attempt, is_last, is_alone: true })?;
        }
        self.asking.note(replies, self.options.latency);
        self.garbage(operation, replies, garbage)
    }

    /// Sends the question for all motors that are still wanted; `false` when there are none, or no time.
    fn ask_all(&mut self, block: Block, replies: &mut [Reply], attempt: u8, deadline: Timestamp) -> Result<bool, BusError> {
        let operation = Operation::Read(block);
        let protocol = self.options.protocol;
        self.asking.choose(replies, attempt);
        let block = self.asking.distinct(block, self.clock.now());
        let ids = self.asking.ids();
        if ids.is_empty() {
            return Ok(false);
        }
        let built = match ids {
            &[one] => protocol.read(self.asking.packet(), one.to_le_bytes()[0], block),
            _ => self.asking.sync_read(protocol, block),
        };
        if let Err(error) = built {
            let motor = replies.first().map_or(MotorId(0), |reply| reply.motor);
            return Err(MotorError { operation, motor, fault: MotorFault::Packet(error) }.into());
        }
        self.ask(operation, replies, usize::from(block.len), deadline)
    }

    /// One attempt to ask the one motor in `replies`, for `data` bytes or the block that it is to be asked for.
    fn ask_one(
        &mut self,
        operation: Operation,
        replies: &mut [Reply],
        data: usize,
        turn: Turn,
        build: impl FnOnce(Protocol, &mut Vec<u8>, u8, Block) -> Result<(), PacketError>,
    ) -> Result<(), BusError> {
        let Some(motor) = replies.first().map(|reply| reply.motor) else { return Ok(()) };
        self.asking.choose(replies, 0);
        // Who has no such id is refused by the protocol.
        let id = u8::try_from(motor.0).unwrap_or(u8::MAX);
        let block = match operation {
            Operation::Read(block) => self.asking.distinct(block, self.clock.now()),
            _ => Block { address: 0, len: u8::try_from(data).unwrap_or(u8::MAX) },
        };
        build(self.options.protocol, self.asking.packet(), id, block).map_err(|error| MotorError {
            operation,
            motor,
            fault: MotorFault::Packet(error),
        })?;
        if self.ask(operation, replies, block.len.into(), turn.deadline)? {
            self.listen(operation, replies, turn)?;
        }
        Ok(())
    }

    /// Asks one motor until it answers, what is no block.
    fn ask_until(
        &mut self,
        operation: Operation,
        motor: MotorId,
        data: usize,
        deadline: Timestamp,
        build: impl Fn(Protocol, &mut Vec<u8>, u8) -> Result<(), PacketError>,
    ) -> Result<Answer, BusError> {
        self.begun = None;
        self.asking.begin();
        let garbage = self.counts.garbage_bytes;
        let mut replies = [Reply::of(motor, operation)];
        for attempt in 0..self.options.attempts.max(1) {
            let before = replies[0].attempts;
            if !self.asking.is_open(&replies[0]) {
                break;
            }
            // Where motors have an attempt each, others want their time.
            let (is_last, is_alone) = (attempt + 1 == self.options.attempts, self.options.attempts > 1);
            let turn = Turn { deadline, attempt, is_last, is_alone };
            self.ask_one(operation, &mut replies, data, turn, |protocol, out, id, _| build(protocol, out, id))?;
            self.counts.retries += u64::from(attempt > 0 && replies[0].attempts > before);
        }
        self.asking.note(&replies, self.options.latency);
        self.garbage(operation, &mut replies, garbage)?;
        Ok(replies[0].answer?)
    }

    /// Writes one motor's registers: an acknowledgement of the same write before counts, too.
    fn write_again(&mut self, address: u16, frame: &Frame, deadline: Timestamp) -> Result<Answer, BusError> {
        let bytes = frame.bytes.as_slice();
        let operation = Operation::Write(Block { address, len: u8::try_from(bytes.len()).unwrap_or(u8::MAX) });
        self.ask_until(operation, frame.motor, 0, deadline, |protocol, out, id| protocol.write(out, id, address, bytes))
    }

    /// Bytes of which nothing makes sense are an error of the port.
    fn garbage(&self, operation: Operation, replies: &mut [Reply], before: u64) -> Result<(), BusError> {
        let bytes = usize::try_from(self.counts.garbage_bytes - before).unwrap_or(usize::MAX);
        let tries: u32 = replies.iter().map(|reply| u32::from(reply.attempts)).sum();
        let is_told = replies.iter().any(|reply| {
            let fault = reply.answer.map_err(|error| error.fault);
            !matches!(fault, Err(MotorFault::NoAnswer | MotorFault::NotAsked))
        });
        if is_told || tries < 2 || bytes < 8 * usize::try_from(tries).unwrap_or(usize::MAX) {
            return Ok(());
        }
        for reply in replies.iter_mut() {
            *reply = Reply::of(reply.motor, operation);
        }
        Err(BusError::Garbage { operation, port: self.name.clone(), bytes })
    }

    /// How long a byte is on the wire, with its start and stop bits.
    fn byte_time(&self) -> Duration {
        Duration::from_secs(10) / self.options.baud.max(1)
    }

    fn lose(&mut self, operation: Operation, source: io::Error) -> BusError {
        self.port = None;
        BusError::Lost { operation, port: self.name.clone(), source }
    }
}

impl SerialBus {
    /// Questions to `motors` whether they have torque, with what those answer that do and have nothing to complain of.
    pub fn torque_checks(&self, motors: &[MotorId]) -> Vec<LifelineCheck> {
        let protocol = self.options.protocol;
        let block = Block { address: protocol.torque_address(), len: 1 };
        let check = |motor: &MotorId| {
            let (mut packet, mut answer) = (Vec::new(), Vec::new());
            let id = u8::try_from(motor.0).ok()?;
            protocol.read(&mut packet, id, block).ok()?;
            protocol.status(&mut answer, id, 0, &[1]).ok()?;
            Some(LifelineCheck { packet, answer })
        };
        motors.iter().filter_map(check).collect()
    }
}

impl Bus for SerialBus {
    fn read(&mut self, block: Block, replies: &mut [Reply], deadline: Timestamp) -> Result<(), BusError> {
        self.begin_read(block, replies, deadline)?;
        self.finish_read(replies)
    }

    fn write(&mut self, address: u16, frames: &[Frame], deadline: Timestamp) -> Result<(), BusError> {
        self.begun = None;
        let Some(first) = frames.first() else { return Ok(()) };
        let len = first.bytes.as_slice().len();
        let block = Block { address, len: u8::try_from(len).unwrap_or(u8::MAX) };
        let operation = Operation::Write(block);
        if let Some(other) = frames.iter().find(|frame| frame.bytes.as_slice().len() != len) {
            let fault = MotorFault::Length { found: other.bytes.as_slice().len(), expected: len };
            return Err(MotorError { operation, motor: other.motor, fault }.into());
        }
        let pairs = frames.iter().map(|frame| (u8::try_from(frame.motor.0).unwrap_or(u8::MAX), frame.bytes.as_slice()));
        self.options.protocol.sync_write(self.asking.packet(), block, pairs).map_err(|error| MotorError {
            operation,
            motor: first.motor,
            fault: MotorFault::Packet(error),
        })?;
        if self.tell(operation, deadline)? {
            return Ok(());
        }
        Err(MotorError { operation, motor: first.motor, fault: MotorFault::NotAsked }.into())
    }

    fn write_one(&mut self, address: u16, frame: &Frame, deadline: Timestamp) -> Result<Answer, BusError> {
        self.asking.next_question();
        self.write_again(address, frame, deadline)
    }

    fn exchange(&mut self, _: &[Frame], _: &mut [Reply], _: Timestamp) -> Result<(), BusError> {
        let protocol = self.options.protocol.name();
        Err(BusError::NotInProtocol { operation: Operation::Exchange, port: self.name.clone(), protocol })
    }

    fn ping(&mut self, motor: MotorId, deadline: Timestamp) -> Result<Answer, BusError> {
        self.asking.next_question();
        let data = self.options.protocol.ping_data();
        self.ask_until(Operation::Ping, motor, data, deadline, |protocol, out, id| protocol.ping(out, id))
    }

    fn torque_off(&mut self, motors: &[MotorId], deadline: Timestamp) -> Result<(), BusError> {
        self.begun = None;
        let operation = Operation::TorqueOff;
        let address = self.options.protocol.torque_address();
        let off = |motor: &MotorId| Some(Frame { motor: *motor, bytes: Bytes::of(&[0])? });
        let pairs = motors.iter().map(|motor| (u8::try_from(motor.0).unwrap_or(u8::MAX), &[0u8][..]));
        // One packet that names them all; whoever is not named on the same wire keeps its torque. One that can't be built
        // leaves it to those that follow.
        if self.options.protocol.sync_write(self.asking.packet(), Block { address, len: 1 }, pairs).is_ok() {
            self.tell(operation, deadline)?;
        }
        self.asking.next_question();
        // An attempt for each before anyone has a second one.
        let mut first = None;
        let attempts = std::mem::replace(&mut self.options.attempts, 1);
        let mut is_done = [0u64; 4];
        for _ in 0..attempts.max(1) {
            first = None;
            for motor in motors {
                let (word, bit) = (usize::from(motor.0 / 64), motor.0 % 64);
                if is_done.get(word).is_some_and(|word| word >> bit & 1 == 1) {
                    continue;
                }
                let Some(frame) = off(motor) else { continue };
                match self.write_again(address, &frame, deadline) {
                    Ok(_) => {
                        if let Some(word) = is_done.get_mut(word) {
                            *word |= 1 << bit;
                        }
                    }
                    Err(BusError::Motor(error)) => first = first.or(Some(MotorError { operation, ..error })),
                    Err(error) => {
                        self.options.attempts = attempts;
                        return Err(error);
                    }
                }
            }
            if first.is_none() {
                break;
            }
        }
        self.options.attempts = attempts;
        first.map_or(Ok(()), |error| Err(error.into()))
    }

    fn reboot(&mut self, motor: MotorId, deadline: Timestamp) -> Result<(), BusError> {
        let operation = Operation::Reboot;
        if self.options.protocol != Protocol::Dynamixel2 {
            let protocol = self.options.protocol.name();
            return Err(BusError::NotInProtocol { operation, port: self.name.clone(), protocol });
        }
        self.asking.next_question();
        self.ask_until(operation, motor, 0, deadline, |protocol, out, id| protocol.reboot(out, id)).map(|_| ())
    }

    fn torque_off_packets(&self, motors: &[MotorId]) -> Vec<Vec<u8>> {
        let protocol = self.options.protocol;
        let block = Block { address: protocol.torque_address(), len: 1 };
        let pairs = || motors.iter().map(|motor| (u8::try_from(motor.0).unwrap_or(u8::MAX), &[0u8][..]));
        let mut packet = Vec::new();
        let mut packets = Vec::new();
        if !motors.is_empty() && protocol.sync_write(&mut packet, block, pairs()).is_ok() {
            packets.push(packet.clone());
        }
        for motor in motors {
            if u8::try_from(motor.0).is_ok_and(|id| protocol.torque_off(&mut packet, id).is_ok()) {
                packets.push(packet.clone());
            }
        }
        packets
    }
}
