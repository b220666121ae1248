//! A CAN bus with its motors: a frame to each, and one back from each, before a deadline.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use sinew_core::{Clock, Timestamp};

use super::port::{Arrived, CanPort};
use super::{CanAddress, CanAnswer, CanFormat, CanFrame, CanMotor, MotorState, Request};
use crate::{Answer, Block, Bus, BusError, Bytes, Frame, MOST_BYTES, MotorError, MotorFault, MotorId, Operation, Reply};

/// The most frames that are taken before a question is asked: a bus on which others speak without end is not waited for.
const MOST_STALE: u32 = 4096;

/// How a CAN bus is used.
#[derive(Clone, Debug, PartialEq)]
pub struct CanOptions {
    pub address: CanAddress,
    /// Bits a second. An interface of Linux has its own, which the system has set, and this says what it is.
    pub bit_rate: u32,
    /// Of the data of CAN FD; without it, frames are those of CAN 2.0.
    pub data_bit_rate: Option<u32>,
    /// The most that motor, adapter and system may add to the way of an answer.
    pub latency: Duration,
    /// How often a motor is asked within an operation, where its deadline leaves room. One that was silent throughout the
    /// last operation is asked once until it answers again.
    pub attempts: u8,
    /// All that are on the bus and of interest.
    pub motors: Vec<CanMotor>,
}

impl CanOptions {
    /// With what suits most adapters: 1 M bits a second, CAN 2.0, 4 ms of latency, 2 attempts.
    pub fn new(address: CanAddress, motors: Vec<CanMotor>) -> Self {
        Self { address, bit_rate: 1_000_000, data_bit_rate: None, latency: Duration::from_millis(4), attempts: 2, motors }
    }

    fn format(&self) -> CanFormat {
        match self.data_bit_rate {
            None => CanFormat::Classic,
            Some(rate) => CanFormat::Flexible { is_fast: rate != self.bit_rate },
        }
    }
}

/// What happened on a bus since it was made. Nothing of it is an error by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CanCounts {
    /// Frames that were sent.
    pub requests: u64,
    /// Of them those that asked again.
    pub retries: u64,
    /// Answers that came too early to belong to the question that was asked, or that another one followed.
    pub late_answers: u64,
    /// Frames that nobody had asked for, or that answer something else.
    pub foreign_frames: u64,
    /// Frames that had arrived before a question was asked.
    pub stale_frames: u64,
    /// Bytes that were part of no frame.
    pub garbage_bytes: u64,
    /// How often the adapter refused what it was told.
    pub refused: u64,
}

/// What was asked of a motor, and where in the replies its answer belongs.
#[derive(Clone, Copy)]
struct Asked {
    motor: usize,
    frame: CanFrame,
    sent_at: Timestamp,
}

/// A CAN bus with its motors.
///
/// The data of a [`Frame`] and of an [`Answer`] is a message: the identifier in four bytes, little end first, with bit 31
/// set where it has 29 bits; then up to 8 bytes of data. [`CanMotor::ask`] makes frames, [`answer`](Self::answer) reads
/// replies. A [`Block`] of [`Bus::read`] and [`Bus::write`] is one register of a motor, four bytes.
///
/// An answer says who sends it and not what it answers. What had arrived before a question is dropped, and of a serial
/// adapter also what comes sooner than the bits of question and answer take. An answer that is later than that, to a
/// question that nobody waits for any more, can't be told from the right one; when the right one follows in the same
/// operation, that one counts.
pub struct CanBus {
    options: CanOptions,
    clock: Arc<dyn Clock>,
    /// `None` when it is lost.
    port: Option<CanPort>,
    name: String,
    counts: CanCounts,
    /// A place for each reply of the operation that was begun.
    asked: Vec<Asked>,
    sending: Vec<CanFrame>,
    messages: Vec<CanFrame>,
    deadline: Timestamp,
    operation: Operation,
    /// By motor: whether it was silent throughout the last operation.
    silent: Vec<bool>,
    /// How much more than their bits the slowest answers took lately.
    excess: Duration,
    /// And in this operation.
    slowest: Duration,
}

impl CanBus {
    /// Opens the bus. Sends no frame.
    ///
    /// # Errors
    /// When it is not there, somebody else has it, or it does not know the bit rates.
    pub fn open(options: CanOptions, clock: Arc<dyn Clock>) -> Result<Self, BusError> {
        let room = options.motors.len();
        let mut bus = Self {
            name: options.address.to_string(),
            clock,
            port: None,
            counts: CanCounts::default(),
            asked: Vec::with_capacity(room),
            sending: Vec::with_capacity(room),
            messages: Vec::with_capacity(room),
            deadline: Timestamp::ZERO,
            operation: Operation::Exchange,
            silent: vec![false; room],
            excess: options.latency,
            slowest: Duration::ZERO,
            options,
        };
        bus.reopen()?;
        Ok(bus)
    }

    /// Opens the bus anew, as after it was lost. What motors hold and do is as it was.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn reopen(&mut self) -> Result<(), BusError> {
        let CanOptions { address, bit_rate, data_bit_rate, .. } = &self.options;
        // Its lock would be in the way.
        self.port = None;
        let failed = |source| BusError::Open { port: address.to_string(), baud: *bit_rate, source };
        self.port = Some(CanPort::open(address, *bit_rate, *data_bit_rate, self.clock.as_ref()).map_err(failed)?);
        self.asked.clear();
        self.silent.fill(false);
        self.excess = self.options.latency;
        Ok(())
    }

    /// Whether it is open, as far as is known.
    pub fn is_open(&self) -> bool {
        self.port.is_some()
    }

    /// The path of the adapter or the name of the interface, for messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn counts(&self) -> CanCounts {
        self.counts
    }

    /// A copy of the port's descriptor, for a process that outlives this one.
    ///
    /// # Errors
    /// When the bus is lost or the system gives none.
    #[cfg(unix)]
    pub fn descriptor(&self) -> io::Result<std::os::fd::OwnedFd> {
        self.port.as_ref().ok_or(io::ErrorKind::NotConnected)?.descriptor()
    }

    /// From now on its motor of that identifier is known to be like this.
    pub fn know(&mut self, motor: CanMotor) {
        self.options.motors.iter_mut().filter(|known| known.id == motor.id).for_each(|known| *known = motor);
    }

    /// What a reply says.
    pub fn answer(&self, reply: &Reply) -> Option<CanAnswer> {
        let frame = CanFrame::of_message(reply.answer.ok()?.bytes.as_slice(), CanFormat::Classic)?;
        self.options.motors.get(self.place(reply.motor)?)?.answer(&frame)
    }

    /// From the end of one frame to the next, for who sends frames without listening.
    pub fn gap(&self) -> Duration {
        Duration::from_millis(1)
    }

    /// How long it takes to exchange `frames`, when all goes well, with the latency that it may have.
    pub fn time_to_exchange(&self, frames: &[CanFrame]) -> Duration {
        let bits: u32 = frames.iter().map(|frame| 2 * frame.most_bits()).sum();
        self.bit_time() * bits + self.options.latency
    }

    fn bit_time(&self) -> Duration {
        Duration::from_secs(1) / self.options.bit_rate.max(1)
    }

    fn place(&self, motor: MotorId) -> Option<usize> {
        self.options.motors.iter().position(|other| other.id == motor.0)
    }

    /// Drops what has arrived and sends a frame to each motor in `replies`, whose answers [`finish`](Self::finish) then waits
    /// for, so that several buses work at once.
    ///
    /// # Errors
    /// When the port is lost, a motor is not of this bus, or there are not as many frames as replies.
    pub fn begin(&mut self, operation: Operation, frames: &[CanFrame], replies: &mut [Reply], deadline: Timestamp) -> Result<(), BusError> {
        self.asked.clear();
        (self.deadline, self.operation) = (deadline, operation);
        for reply in replies.iter_mut() {
            *reply = Reply::of(reply.motor, operation);
        }
        let format = self.options.format();
        for (reply, i) in replies.iter().zip(0..) {
            let Some(frame) = frames.get(i) else {
                let fault = MotorFault::Length { found: frames.len(), expected: replies.len() };
                return Err(MotorError { operation, motor: reply.motor, fault }.into());
            };
            let Some(motor) = self.place(reply.motor) else {
                return Err(MotorError { operation, motor: reply.motor, fault: MotorFault::NotAsked }.into());
            };
            self.asked.push(Asked { motor, frame: frame.in_format(format), sent_at: Timestamp::ZERO });
        }
        self.drain()?;
        self.ask(replies, 0)
    }

    /// Waits for the answers to what [`begin`](Self::begin) sent, with the same replies, and asks again for what does not
    /// come.
    ///
    /// # Errors
    /// When the port is lost.
    pub fn finish(&mut self, replies: &mut [Reply]) -> Result<(), BusError> {
        let attempts = self.options.attempts.max(1);
        self.slowest = Duration::ZERO;
        for attempt in 0..attempts {
            if attempt > 0 {
                self.ask(replies, attempt)?;
            }
            if self.sending.is_empty() {
                break;
            }
            self.listen(replies, attempt, attempt + 1 == attempts)?;
            if replies.iter().all(|reply| reply.answer.is_ok()) {
                break;
            }
        }
        for (asked, reply) in self.asked.iter().zip(replies.iter()).filter(|(_, reply)| reply.attempts > 0) {
            self.silent[asked.motor] = reply.answer.is_err();
        }
        // What was slow once is believed for a while.
        self.excess = self.slowest.max(self.excess * 7 / 8).min(self.options.latency);
        self.asked.clear();
        Ok(())
    }

    /// Begins and finishes.
    ///
    /// # Errors
    /// As [`begin`](Self::begin).
    pub fn transact(
        &mut self,
        operation: Operation,
        frames: &[CanFrame],
        replies: &mut [Reply],
        deadline: Timestamp,
    ) -> Result<(), BusError> {
        self.begin(operation, frames, replies, deadline)?;
        self.finish(replies)
    }

    /// Sends to all that have not answered, where that can still be of use. One that was silent last time is asked once.
    fn ask(&mut self, replies: &mut [Reply], attempt: u8) -> Result<(), BusError> {
        self.sending.clear();
        for (asked, reply) in self.asked.iter().zip(replies.iter()) {
            if reply.answer.is_err() && (attempt == 0 || !self.silent[asked.motor]) {
                self.sending.push(asked.frame);
            }
        }
        let needed = self.time_to_exchange(&self.sending).saturating_sub(self.options.latency);
        let now = self.clock.now();
        if self.sending.is_empty() || now + needed > self.deadline {
            return Ok(());
        }
        let Some(port) = &mut self.port else { return Err(self.lose(io::ErrorKind::NotConnected.into())) };
        let mut sent = match port.send(&self.sending, self.clock.as_ref(), self.deadline) {
            Ok(sent) => sent,
            // The adapter takes no more for now.
            Err(error) if error.kind() == io::ErrorKind::TimedOut => 0,
            Err(error) => return Err(self.lose(error)),
        };
        self.counts.requests += u64::try_from(sent).unwrap_or(0);
        for (asked, reply) in self.asked.iter_mut().zip(replies.iter_mut()) {
            if sent > 0 && reply.answer.is_err() && (attempt == 0 || !self.silent[asked.motor]) {
                sent -= 1;
                asked.sent_at = now;
                self.counts.retries += u64::from(reply.attempts > 0);
                reply.attempts += 1;
                reply.answer = Err(MotorError { operation: self.operation, motor: reply.motor, fault: MotorFault::NoAnswer });
            }
        }
        Ok(())
    }

    /// Drops what has arrived by now.
    fn drain(&mut self) -> Result<(), BusError> {
        for _ in 0..MOST_STALE {
            let Some(port) = &mut self.port else { return Err(self.lose(io::ErrorKind::NotConnected.into())) };
            match port.receive(Duration::ZERO, &mut self.counts) {
                Ok(Arrived::Nothing) => break,
                Ok(Arrived::Frame(_)) => self.counts.stale_frames += 1,
                Ok(Arrived::Other) => {}
                Err(error) => return Err(self.lose(error)),
            }
        }
        Ok(())
    }

    /// While nobody has answered, the bus is given time, in the last attempt until the deadline. After others have answered,
    /// or when only those are left that were silent before, little more than answers took lately.
    fn listen(&mut self, replies: &mut [Reply], attempt: u8, is_last: bool) -> Result<(), BusError> {
        let Some(sent_at) = self.asked.iter().map(|asked| asked.sent_at).max().filter(|at| *at != Timestamp::ZERO) else { return Ok(()) };
        let bits = self.time_to_exchange(&self.sending).saturating_sub(self.options.latency);
        let end = if is_last { self.deadline } else { (sent_at + bits + self.options.latency * (1 << attempt.min(8))).min(self.deadline) };
        let margin = self.excess / 2 + Duration::from_micros(500);
        let mut soon = (sent_at + bits + self.excess + margin).min(self.deadline);
        let mut has_heard = false;
        loop {
            let is_open = |(asked, reply): (&Asked, &Reply), is_silent: bool| {
                reply.answer.is_err() && reply.attempts > 0 && self.silent[asked.motor] == is_silent
            };
            let waits = |is_silent| self.asked.iter().zip(replies.iter()).any(|pair| is_open(pair, is_silent));
            let until = match (waits(false), waits(true)) {
                (false, false) => return Ok(()),
                (true, _) if !has_heard => end,
                _ => soon,
            };
            // What is there already is taken in any case.
            let left = Duration::from_nanos(u64::try_from(until.nanos_since(self.clock.now())).unwrap_or(0));
            let Some(port) = &mut self.port else { return Err(self.lose(io::ErrorKind::NotConnected.into())) };
            match port.receive(left, &mut self.counts) {
                Ok(Arrived::Frame(frame)) => {
                    if self.take(&frame, replies, bits) {
                        has_heard = true;
                        soon = soon.max(self.clock.now() + margin).min(self.deadline);
                    } else if self.clock.now() >= self.deadline {
                        // Others may speak without end.
                        return Ok(());
                    }
                }
                Ok(Arrived::Nothing) if left.is_zero() => return Ok(()),
                Ok(Arrived::Other | Arrived::Nothing) => {}
                Err(error) => return Err(self.lose(error)),
            }
        }
    }

    /// A frame that came while answers are waited for; whether it is one. `bits` is what the exchange takes without delays.
    fn take(&mut self, frame: &CanFrame, replies: &mut [Reply], bits: Duration) -> bool {
        let now = self.clock.now();
        let bit_time = self.bit_time();
        let motors = &self.options.motors;
        let found = self.asked.iter().zip(replies.iter_mut()).find(|(asked, _)| motors[asked.motor].answers(&asked.frame, frame));
        let Some((asked, reply)) = found else {
            self.counts.foreign_frames += 1;
            return false;
        };
        let takes = bit_time * (asked.frame.fewest_bits() + frame.fewest_bits());
        let is_early = now < asked.sent_at + takes && self.port.as_ref().is_some_and(CanPort::is_late_by_its_time);
        if reply.attempts == 0 || is_early {
            self.counts.late_answers += 1;
            return false;
        }
        self.counts.late_answers += u64::from(reply.answer.is_ok() && reply.attempts == 1);
        let alert = match motors[asked.motor].answer(frame) {
            Some(CanAnswer::Feedback(feedback)) => feedback.alert,
            _ => 0,
        };
        let mut message = [0; MOST_BYTES];
        if let Some(bytes) = frame.to_message(&mut message).and_then(|len| Bytes::of(&message[..len])) {
            reply.answer = Ok(Answer { bytes, alert });
        }
        let took = Duration::from_nanos(u64::try_from(now.nanos_since(asked.sent_at)).unwrap_or(0));
        self.slowest = self.slowest.max(took.saturating_sub(bits));
        true
    }

    fn lose(&mut self, source: io::Error) -> BusError {
        self.port = None;
        BusError::Lost { operation: self.operation, port: self.name.clone(), source }
    }

    /// One request to each motor in `replies`.
    fn request(
        &mut self,
        operation: Operation,
        replies: &mut [Reply],
        deadline: Timestamp,
        request: impl Fn(usize) -> Request,
    ) -> Result<(), BusError> {
        let mut frames = Vec::with_capacity(replies.len());
        for (i, reply) in replies.iter().enumerate() {
            let motor = self.place(reply.motor).and_then(|at| self.options.motors.get(at));
            let Some(motor) = motor else {
                return Err(MotorError { operation, motor: reply.motor, fault: MotorFault::NotAsked }.into());
            };
            let missing = || BusError::NotInProtocol { operation, port: self.name.clone(), protocol: "can" };
            frames.push(motor.ask(request(i)).ok_or_else(missing)?);
        }
        self.transact(operation, &frames, replies, deadline)
    }

    /// As [`request`](Self::request), to one motor, with its answer.
    fn request_one(
        &mut self,
        operation: Operation,
        motor: MotorId,
        deadline: Timestamp,
        request: Request,
    ) -> Result<(Reply, Answer), BusError> {
        let mut replies = [Reply::of(motor, operation)];
        self.request(operation, &mut replies, deadline, |_| request)?;
        Ok((replies[0], replies[0].answer?))
    }
}

/// A register's four bytes.
fn four(operation: Operation, motor: MotorId, bytes: &[u8]) -> Result<[u8; 4], MotorError> {
    let wrong = MotorError { operation, motor, fault: MotorFault::Length { found: bytes.len(), expected: 4 } };
    bytes.try_into().map_err(|_| wrong)
}

impl Bus for CanBus {
    fn read(&mut self, block: Block, replies: &mut [Reply], deadline: Timestamp) -> Result<(), BusError> {
        let operation = Operation::Read(block);
        if block.len != 4 {
            let motor = replies.first().map_or(MotorId(0), |reply| reply.motor);
            return Err(MotorError { operation, motor, fault: MotorFault::Length { found: block.len.into(), expected: 4 } }.into());
        }
        self.request(operation, replies, deadline, |_| Request::Read(block.address))?;
        for reply in replies.iter_mut().filter(|reply| reply.answer.is_ok()) {
            let value = match self.answer(reply) {
                Some(CanAnswer::Register(_, value)) => Bytes::of(&value),
                _ => None,
            };
            let motor = reply.motor;
            reply.answer = value.map(|bytes| Answer { bytes, alert: 0 }).ok_or(MotorError {
                operation,
                motor,
                fault: MotorFault::Length { found: 0, expected: 4 },
            });
        }
        Ok(())
    }

    /// Each motor is told by itself and answers.
    fn write(&mut self, address: u16, frames: &[Frame], deadline: Timestamp) -> Result<(), BusError> {
        let operation = Operation::Write(Block { address, len: 4 });
        let mut values = Vec::with_capacity(frames.len());
        for frame in frames {
            values.push(four(operation, frame.motor, frame.bytes.as_slice())?);
        }
        let mut replies: Vec<Reply> = frames.iter().map(|frame| Reply::of(frame.motor, operation)).collect();
        self.request(operation, &mut replies, deadline, |i| Request::Write(address, values[i]))?;
        replies.iter().find_map(|reply| reply.answer.err()).map_or(Ok(()), |error| Err(error.into()))
    }

    fn write_one(&mut self, address: u16, frame: &Frame, deadline: Timestamp) -> Result<Answer, BusError> {
        let operation = Operation::Write(Block { address, len: 4 });
        let value = four(operation, frame.motor, frame.bytes.as_slice())?;
        Ok(self.request_one(operation, frame.motor, deadline, Request::Write(address, value))?.1)
    }

    fn exchange(&mut self, frames: &[Frame], replies: &mut [Reply], deadline: Timestamp) -> Result<(), BusError> {
        let operation = Operation::Exchange;
        self.messages.clear();
        for frame in frames {
            let Some(message) = CanFrame::of_message(frame.bytes.as_slice(), CanFormat::Classic) else {
                let fault = MotorFault::Length { found: frame.bytes.as_slice().len(), expected: 12 };
                return Err(MotorError { operation, motor: frame.motor, fault }.into());
            };
            self.messages.push(message);
        }
        replies.iter_mut().zip(frames).for_each(|(reply, frame)| reply.motor = frame.motor);
        let messages = std::mem::take(&mut self.messages);
        let result = self.transact(operation, &messages, replies, deadline);
        self.messages = messages;
        result
    }

    fn ping(&mut self, motor: MotorId, deadline: Timestamp) -> Result<Answer, BusError> {
        Ok(self.request_one(Operation::Ping, motor, deadline, Request::Look)?.1)
    }

    fn torque_off(&mut self, motors: &[MotorId], deadline: Timestamp) -> Result<(), BusError> {
        let operation = Operation::TorqueOff;
        let mut replies: Vec<Reply> = motors.iter().map(|motor| Reply::of(*motor, operation)).collect();
        self.request(operation, &mut replies, deadline, |_| Request::Disable)?;
        for reply in &replies {
            reply.answer?;
            if let Some(CanAnswer::Feedback(feedback)) = self.answer(reply)
                && feedback.state == Some(MotorState::Enabled)
            {
                return Err(MotorError { operation, motor: reply.motor, fault: MotorFault::Refused { bits: feedback.alert } }.into());
            }
        }
        Ok(())
    }

    fn reboot(&mut self, _: MotorId, _: Timestamp) -> Result<(), BusError> {
        Err(BusError::NotInProtocol { operation: Operation::Reboot, port: self.name.clone(), protocol: "can" })
    }

    fn torque_off_packets(&self, motors: &[MotorId]) -> Vec<Vec<u8>> {
        let Some(port) = &self.port else { return Vec::new() };
        let off = |motor: &MotorId| self.options.motors.get(self.place(*motor)?)?.ask(Request::Disable);
        motors.iter().filter_map(off).map(|frame| port.packet(&frame.in_format(self.options.format()))).collect()
    }
}
