//! One question and what comes back.

use std::time::Duration;

use sinew_core::Timestamp;

use super::SerialBus;
use super::owed::{Claim, Debts, strip};
use crate::wire::{Kind, PacketError, Protocol, Reason, Scanned};
use crate::{Answer, Block, BusError, Bytes, MotorError, MotorFault, MotorId, Operation, Reply};

/// Motors that a bus can have.
const IDS: usize = 256;
/// So many answers without an echo, and an answer that looks like the question is one.
const CLEAN: u8 = 8;
/// So many attempts wait no longer than answers took lately.
const QUICK: u8 = 2;
/// What is waited for at least.
const LEAST_PATIENCE: Duration = Duration::from_millis(1);
/// What motors need beside their return delay.
const THINKING: Duration = Duration::from_micros(60);

/// Which attempt it is.
#[derive(Clone, Copy)]
pub(super) struct Turn {
    pub deadline: Timestamp,
    /// From 0 on.
    pub attempt: u8,
    pub is_last: bool,
    /// Whether nobody else wants the time until the deadline.
    pub is_alone: bool,
}

/// What is asked, of whom, and what is known of who was asked before. Allocates when it is made and never again.
pub(super) struct Asking {
    packet: Vec<u8>,
    /// In the order in which they are to answer.
    ids: Vec<u16>,
    /// Who did not answer in the last operation at all.
    is_silent: [bool; IDS],
    /// Whether anybody has answered in this operation: the bus is not slow just now.
    is_prompt: bool,
    /// Whether any of those that an operation is about was not silent.
    has_others: bool,
    /// How many bytes each of them is asked for.
    data: usize,
    /// When the packet's last byte leaves.
    sent: Timestamp,
    /// How long after that all have answered, when nothing is wrong.
    answered_after: Duration,
    /// Until when our own bytes, or the answers to a question that nobody waited for, keep the wire busy.
    busy: Timestamp,
    /// Until when answers may come that were asked for in vain: nothing new is read before that.
    settled: Timestamp,
    /// Whether the adapter sends back what it gets.
    has_echoed: bool,
    /// How many questions to one motor were answered without that.
    clean: u8,
    /// By how much answers came later than the wire explains: the longest, which is forgotten slowly. `None` before the
    /// first, and after an answer that came when nobody waited for it any more.
    excess: Option<Duration>,
    debts: Debts,
    buffer: Box<[u8]>,
}

impl Asking {
    pub fn new() -> Self {
        Self {
            packet: Vec::with_capacity(1024),
            ids: Vec::with_capacity(IDS),
            is_silent: [false; IDS],
            is_prompt: false,
            has_others: false,
            data: 0,
            sent: Timestamp::ZERO,
            answered_after: Duration::ZERO,
            busy: Timestamp::ZERO,
            settled: Timestamp::ZERO,
            has_echoed: false,
            clean: 0,
            excess: None,
            debts: Debts::new(),
            buffer: vec![0; 512].into_boxed_slice(),
        }
    }

    /// Another adapter, perhaps.
    pub fn forget(&mut self) {
        (self.has_echoed, self.clean, self.excess) = (false, 0, None);
        self.is_silent = [false; IDS];
    }

    /// A new operation.
    pub fn begin(&mut self) {
        self.is_prompt = false;
    }

    /// What is asked from now on is another question, whose answers are not those to the one before.
    pub fn next_question(&mut self) {
        self.debts.next_question();
    }

    /// The block to ask those for that were chosen, so that no late answer fits it.
    pub fn distinct(&self, block: Block, now: Timestamp) -> Block {
        self.debts.distinct(block, &self.ids, now)
    }

    /// How much longer than the wire needs it is worth to wait: `latency`, or after others have answered in this operation
    /// less, where answers come sooner, so that there is time to ask again.
    fn patience(&self, latency: Duration) -> Duration {
        self.excess.filter(|_| self.is_prompt).map_or(latency, |excess| latency.min(LEAST_PATIENCE + 2 * excess))
    }

    fn learn(&mut self, excess: Duration) {
        self.excess = Some(self.excess.map_or(excess, |known| excess.max(known * 49 / 50)));
    }

    pub fn packet(&mut self) -> &mut Vec<u8> {
        &mut self.packet
    }

    pub fn ids(&self) -> &[u16] {
        &self.ids
    }

    pub fn sync_read(&mut self, protocol: Protocol, block: Block) -> Result<(), PacketError> {
        let ids = self.ids.iter().map(|id| u8::try_from(*id).unwrap_or(u8::MAX));
        protocol.sync_read(&mut self.packet, block, ids)
    }

    /// Whether asking again may help.
    pub fn is_open(&self, reply: &Reply) -> bool {
        !matches!(reply.answer.map_err(|error| error.fault), Ok(_) | Err(MotorFault::Refused { .. } | MotorFault::Packet(_)))
    }

    /// Whether a motor is asked in this attempt.
    pub fn is_wanted(&self, reply: &Reply, attempt: u8) -> bool {
        self.is_open(reply) && !(self.was_silent(reply.motor.0) && self.has_others && attempt > 0)
    }

    fn was_silent(&self, id: u16) -> bool {
        self.is_silent.get(usize::from(id)).copied().unwrap_or(false)
    }

    /// Whether it is worth to wait for those that are asked until there is no time left: where all are silent, the bus may
    /// be slow.
    fn is_patient(&self) -> bool {
        !self.has_others || self.ids.iter().any(|id| !self.was_silent(*id))
    }

    /// Chooses whom to ask: who is still to answer. Those that were silent last time come last, as in some firmwares
    /// they silence those behind them; and each attempt begins with another one.
    pub fn choose(&mut self, replies: &[Reply], attempt: u8) {
        self.has_others = replies.iter().any(|reply| !self.was_silent(reply.motor.0));
        let mut ids = std::mem::take(&mut self.ids);
        ids.clear();
        for is_silent in [false, true] {
            for reply in replies.iter().filter(|reply| self.is_wanted(reply, attempt)) {
                if self.was_silent(reply.motor.0) == is_silent && ids.len() < IDS {
                    ids.push(reply.motor.0);
                }
            }
        }
        let by = usize::from(attempt) % ids.len().max(1);
        ids.rotate_left(by);
        self.ids = ids;
    }

    /// After an operation: who is silent, and whether an answer may still be on its way. Of who has been silent before none is.
    pub fn note(&mut self, replies: &[Reply], latency: Duration) {
        let is_owed = |reply: &Reply| reply.attempts > 1 || reply.attempts == 1 && reply.answer.is_err() && !self.was_silent(reply.motor.0);
        if replies.iter().any(is_owed) {
            self.settled = self.sent + 2 * latency;
        }
        for reply in replies.iter().filter(|reply| reply.attempts > 0) {
            if let Some(is_silent) = self.is_silent.get_mut(usize::from(reply.motor.0)) {
                let has_said_nothing = matches!(reply.answer.map_err(|error| error.fault), Err(MotorFault::NoAnswer));
                *is_silent = has_said_nothing && (*is_silent || reply.attempts > 1);
            }
        }
    }
}

fn times(time: Duration, count: usize) -> Duration {
    time.saturating_mul(u32::try_from(count).unwrap_or(u32::MAX))
}

/// `later - earlier`, or nothing.
fn until(later: Timestamp, earlier: Timestamp) -> Duration {
    Duration::from_nanos(u64::try_from(later.nanos_since(earlier)).unwrap_or(0))
}

impl SerialBus {
    /// Sends the packet that was built, which asks the motors that were chosen for `data` bytes each; `false` when there
    /// is no time for that.
    pub(super) fn ask(&mut self, operation: Operation, replies: &mut [Reply], data: usize, deadline: Timestamp) -> Result<bool, BusError> {
        let byte_time = self.byte_time();
        let options = &self.options;
        let slot = options.return_delay + THINKING + times(byte_time, options.protocol.answer_len(data));
        let now = self.clock.now();
        let is_again = replies.iter().any(|reply| reply.attempts > 0);
        let settled = if is_again || !matches!(operation, Operation::Read(_)) { now } else { self.asking.settled };
        let begin = now.max(self.asking.busy).max(settled);
        let sent = begin + times(byte_time, self.asking.packet.len());
        let answered_after = times(slot, self.asking.ids.len());
        if sent + answered_after + self.asking.patience(options.latency) > deadline {
            return Ok(false);
        }
        if begin > now {
            self.clock.sleep_until(begin);
        }
        self.discard(operation)?;
        self.send(operation)?;
        self.counts.retries += u64::from(is_again);
        for reply in replies.iter_mut().filter(|reply| self.asking.ids.contains(&reply.motor.0)) {
            reply.ask(operation);
        }
        self.asking.debts.ask(&self.asking.ids, data, sent);
        (self.asking.sent, self.asking.data) = (sent, data);
        self.asking.answered_after = answered_after;
        // Who asks something else before the answers have come waits for their end.
        self.asking.busy = sent + answered_after;
        self.scanner.expect_at_most(self.asking.debts.longest().max(data));
        Ok(true)
    }

    /// Sends the packet that was built, to which nobody answers; `false` when there is no time for that.
    pub(super) fn tell(&mut self, operation: Operation, deadline: Timestamp) -> Result<bool, BusError> {
        let now = self.clock.now();
        let begin = now.max(self.asking.busy);
        let sent = begin + times(self.byte_time(), self.asking.packet.len());
        if sent > deadline {
            return Ok(false);
        }
        if begin > now {
            self.clock.sleep_until(begin);
        }
        self.send(operation)?;
        self.asking.busy = sent;
        Ok(true)
    }

    fn send(&mut self, operation: Operation) -> Result<(), BusError> {
        let patience = self.options.latency;
        let result = match &mut self.port {
            Some(port) => port.send(&self.asking.packet, patience),
            None => Err(std::io::ErrorKind::NotConnected.into()),
        };
        self.counts.requests += 1;
        result.map_err(|source| self.lose(operation, source))
    }

    /// Drops what has arrived: it answers nothing that is asked from now on. Who has answered owes that no more.
    fn discard(&mut self, operation: Operation) -> Result<(), BusError> {
        let mut stale = self.scanner.pending();
        // Who sends without end is not waited for.
        for _ in 0..16 {
            match self.receive(Duration::ZERO) {
                Ok(0) => break,
                Ok(len) => {
                    stale += len;
                    let mut fed = 0;
                    while fed < len {
                        fed += self.scanner.feed(&self.asking.buffer[fed..len]);
                        while let Some(scanned) = self.scanner.scan() {
                            if let Scanned::Packet(packet) = scanned
                                && matches!(packet.kind, Kind::Status { .. })
                                // An echo may look like an answer.
                                && !self.asking.has_echoed
                            {
                                let now = self.clock.now();
                                self.asking.debts.claim(packet.id.into(), packet.params.len(), now, |_| false);
                            }
                        }
                    }
                }
                Err(source) => return Err(self.lose(operation, source)),
            }
        }
        self.scanner.clear();
        if stale > 0 {
            self.asking.excess = None;
        }
        self.counts.stale_bytes += u64::try_from(stale).unwrap_or(u64::MAX);
        Ok(())
    }

    fn receive(&mut self, patience: Duration) -> std::io::Result<usize> {
        match &mut self.port {
            Some(port) => port.receive(&mut self.asking.buffer, patience),
            None => Err(std::io::ErrorKind::NotConnected.into()),
        }
    }

    /// Takes the answers to what was asked last, until all are there, or none can come any more. After the last attempt that
    /// there is time for, answers may come until the deadline.
    pub(super) fn listen(&mut self, operation: Operation, replies: &mut [Reply], turn: Turn) -> Result<(), BusError> {
        let (sent, data) = (self.asking.sent, self.asking.data);
        let slot = self.options.return_delay + THINKING + times(self.byte_time(), self.options.protocol.answer_len(data));
        let expected = sent + self.asking.answered_after;
        let Turn { deadline, attempt, is_last, is_alone } = turn;
        let mut heard = None;
        let mut has_echoed = false;
        let mut left = self.asking.ids.len();
        let is_done = loop {
            // Twice quickly; a motor that is silent then may hold up the wire, and is given its time.
            let patience = if attempt < QUICK { self.asking.patience(self.options.latency) } else { self.options.latency };
            // Who asks again and again while the bus is slow is answered by nobody: each time it has longer.
            let over = expected + patience * (1 << attempt.min(6));
            // Who is silent for longer than two answers after another has spoken says nothing.
            let after = |heard: Timestamp| heard.max(sent) + times(slot, 2) + patience * (1 << attempt.min(6));
            let end = heard.map_or(over, |heard| over.min(after(heard)));
            let is_last = is_last || end + times(slot, left) + patience > deadline;
            let end = if is_alone && is_last && self.asking.is_patient() { end.max(deadline) } else { end };
            let end = end.min(deadline.max(expected));
            let now = self.clock.now();
            match self.receive(until(end, now)) {
                Ok(0) if self.clock.now() >= end => break false,
                // A clock that does not run by itself does so now.
                Ok(0) if !self.clock.runs_by_itself() => self.clock.sleep_until(end),
                Ok(0) => {}
                Ok(len) => {
                    heard = Some(self.clock.now());
                    let mut fed = 0;
                    while fed < len {
                        fed += self.scanner.feed(&self.asking.buffer[fed..len]);
                        left = left.saturating_sub(self.take(operation, replies, &mut has_echoed));
                    }
                    let last = self.asking.ids.last().copied();
                    let is_last = |reply: &&Reply| Some(reply.motor.0) == last;
                    // Who was passed over by the last has had its turn; unless that answers an attempt before, in another order.
                    if left == 0 || attempt == 0 && replies.iter().find(is_last).is_some_and(|reply| !self.asking.is_open(reply)) {
                        break true;
                    }
                }
                Err(source) => return Err(self.lose(operation, source)),
            }
        };
        if is_done {
            self.asking.learn(until(self.clock.now(), expected));
        } else {
            self.scanner.end();
            self.take(operation, replies, &mut has_echoed);
        }
        self.asking.busy = self.clock.now();
        Ok(())
    }

    /// Takes packets out of what has arrived; how many motors have answered with them.
    fn take(&mut self, operation: Operation, replies: &mut [Reply], has_echoed: &mut bool) -> usize {
        let byte_time = self.byte_time();
        let now = self.clock.now();
        // No answer is there before its bytes were on the wire, even by a clock that is 2 % off.
        let is_early = |bytes: usize, sent: Timestamp| now < sent + times(byte_time, bytes) * 49 / 50;
        let protocol = self.options.protocol;
        let mut answered = 0;
        while let Some(scanned) = self.scanner.scan() {
            let packet = match scanned {
                Scanned::Packet(packet) => packet,
                Scanned::Skipped { bytes, reason } => {
                    self.counts.garbage_bytes += u64::try_from(bytes).unwrap_or(u64::MAX);
                    let fault = match reason {
                        Reason::Checksum { id, found, expected } => Some((id, MotorFault::Checksum { found, expected })),
                        _ => None,
                    };
                    if let Some((id, fault)) = fault {
                        blame(replies, &self.asking.ids, id, fault);
                    }
                    continue;
                }
            };
            let Kind::Status { error } = packet.kind else {
                *has_echoed = true;
                continue;
            };
            let may_echo = self.asking.has_echoed || self.asking.clean < CLEAN;
            // Also that of an attempt before, which has come late.
            if packet.raw == self.asking.packet.as_slice() && may_echo {
                (*has_echoed, self.asking.has_echoed) = (true, true);
                continue;
            }
            let id = u16::from(packet.id);
            let is_asked = self.asking.ids.contains(&id);
            let claim = self.asking.debts.claim(id, packet.params.len(), now, |sent| is_early(packet.raw.len(), sent));
            if claim == Claim::Earlier {
                self.counts.late_answers += 1;
                continue;
            }
            let reply = replies.iter_mut().find(|reply| reply.motor.0 == id && is_asked && reply.answer.is_err());
            let Some(reply) = reply else {
                self.counts.foreign_packets += 1;
                let found = MotorId(id);
                if let (false, [reply]) = (is_asked, &mut *replies) {
                    let id = reply.motor.0.to_le_bytes()[0];
                    blame(std::slice::from_mut(reply), &self.asking.ids, id, MotorFault::Sender { found });
                }
                continue;
            };
            if claim == Claim::Nobody && is_early(packet.raw.len(), self.asking.sent) {
                self.counts.late_answers += 1;
                continue;
            }
            let status = protocol.status_error(error);
            let fail = |fault| Err(MotorError { operation, motor: reply.motor, fault });
            reply.answer = if status.refusal != 0 {
                fail(MotorFault::Refused { bits: status.refusal.into() })
            } else {
                let bytes = match operation {
                    Operation::Read(block) => strip(block, packet.params),
                    _ => Some(packet.params),
                };
                match bytes.filter(|_| claim == Claim::Present).and_then(Bytes::of) {
                    Some(bytes) => Ok(Answer { bytes, alert: status.alert.into() }),
                    None => fail(MotorFault::Length { found: packet.params.len(), expected: self.asking.data }),
                }
            };
            if !matches!(reply.answer.map_err(|error| error.fault), Err(MotorFault::Length { .. })) {
                answered += 1;
                self.asking.is_prompt = true;
                // Only of a question that is no longer than its answer an echo would have been seen.
                let would_echo = match operation {
                    Operation::Ping => true,
                    Operation::Read(block) => block.len >= 2,
                    _ => false,
                };
                if self.asking.ids.len() == 1 && !*has_echoed && would_echo {
                    self.asking.clean = self.asking.clean.saturating_add(1);
                }
            }
        }
        answered
    }
}

/// Notes what is wrong with an answer of motor `id`, if it was asked and has not answered.
fn blame(replies: &mut [Reply], asked: &[u16], id: u8, fault: MotorFault) {
    let id = u16::from(id);
    let is_blamed = |reply: &&mut Reply| reply.motor.0 == id && asked.contains(&id) && reply.answer.is_err();
    if let Some(reply) = replies.iter_mut().find(is_blamed)
        && let Err(error) = &mut reply.answer
    {
        error.fault = fault;
    }
}
