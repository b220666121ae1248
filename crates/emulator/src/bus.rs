//! Motors on one wire: who answers what to an instruction, and when.

use std::time::{Duration, Instant};

use sinew_drivers::Block;
use sinew_drivers::wire::{BROADCAST, Instruction, InstructionError, Protocol, code};

use crate::log::Asked;
use crate::motor::Motor;

/// Dynamixel's refusal of what it does not know, or can't understand.
const UNKNOWN_INSTRUCTION: u8 = 2;
/// What motors need to understand an instruction, and vary in.
const THINKING: std::ops::Range<u64> = 15..45;
/// Between the answers to a ping of all.
const PING_SLOT: Duration = Duration::from_micros(300);
/// How far off a speed may be for bytes to be understood.
const TOLERANCE: f64 = 0.025;

/// An answer that goes onto the wire.
pub(crate) struct Answer {
    /// Which motor's, by its place in the robot.
    pub motor: usize,
    pub id: u8,
    pub error: u8,
    pub data: Vec<u8>,
    /// Silence before it, after the instruction or the answer before.
    pub after: Duration,
    /// As it is on the wire.
    pub bytes: Vec<u8>,
    /// Whether nobody else spoke at the same time and nobody is missing.
    pub is_whole: bool,
}

/// What came of an instruction.
pub(crate) struct Heard {
    pub asked: Asked,
    pub is_heard: bool,
    pub answers: Vec<Answer>,
}

pub(crate) struct Bus {
    pub protocol: Protocol,
    pub motors: Vec<Motor>,
    pub rng: fastrand::Rng,
}

/// How much a motor says by itself, by its register of the level.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Need {
    Ping,
    Read,
    Any,
}

impl Bus {
    /// Lets motors hear an instruction whose last byte came at `at`, at `speed` bits a second.
    pub fn hear(&mut self, at: Instant, id: u8, code: u8, params: &[u8], speed: u32) -> Heard {
        let listening: Vec<usize> = (0..self.motors.len()).filter(|at| self.listens(*at, speed)).collect();
        for motor in &listening {
            self.motors[*motor].advance(at);
            self.motors[*motor].hear(at);
        }
        let named: Vec<usize> = listening.iter().copied().filter(|at| id == BROADCAST || self.motors[*at].id() == id).collect();
        let instruction = match Instruction::parse(self.protocol, code, params) {
            Ok(instruction) => instruction,
            Err(InstructionError::Unknown { .. } | InstructionError::Parameters { .. }) => {
                let is_answered = self.protocol == Protocol::Dynamixel2 && id != BROADCAST;
                let named = if is_answered { named.as_slice() } else { &[] };
                let answers = named.iter().filter_map(|motor| self.answer(*motor, Need::Any, UNKNOWN_INSTRUCTION, &[])).collect();
                return Heard { asked: Asked::Unknown(code), is_heard: !named.is_empty(), answers: self.collide(answers) };
            }
        };
        let asked = Asked::of(&instruction);
        let mut is_heard = !named.is_empty();
        let answers = match instruction {
            Instruction::SyncRead { block, ids, is_fast } => {
                let wanted: Vec<(u8, Block)> = ids.iter().map(|id| (*id, block)).collect();
                self.read_several(&listening, &wanted, is_fast, speed)
            }
            Instruction::BulkRead { blocks, is_fast } => {
                let wanted: Vec<(u8, Block)> = blocks.collect();
                self.read_several(&listening, &wanted, is_fast, speed)
            }
            Instruction::SyncWrite { address, frames } => {
                is_heard = false;
                for (id, bytes) in frames {
                    for motor in listening.iter().filter(|motor| self.motors[**motor].id() == id).copied().collect::<Vec<_>>() {
                        is_heard = true;
                        // Nobody answers to that, so nobody hears of a refusal.
                        let _ = self.motors[motor].write(address, bytes);
                    }
                }
                Vec::new()
            }
            Instruction::Ping if id == BROADCAST => self.ping_all(&named),
            one => {
                let mut answers = Vec::new();
                for motor in named {
                    // The answer still comes from the id and at the speed that the instruction found.
                    let before = (self.motors[motor].id(), self.motors[motor].return_delay());
                    let (need, refusal, data) = self.obey(motor, &one, id);
                    if id != BROADCAST {
                        answers.extend(self.answer_as(motor, before, need, refusal, &data));
                    }
                }
                self.collide(answers)
            }
        };
        Heard { asked, is_heard, answers }
    }

    fn listens(&self, at: usize, speed: u32) -> bool {
        let motor = &self.motors[at];
        let is_near = |baud: u32| (f64::from(speed) - f64::from(baud)).abs() <= TOLERANCE * f64::from(baud);
        !motor.is_dead() && motor.baud().is_some_and(is_near)
    }

    /// One motor does what only it is told.
    fn obey(&mut self, motor: usize, instruction: &Instruction<'_>, to: u8) -> (Need, u8, Vec<u8>) {
        let ping = self.ping_data(motor);
        let motor = &mut self.motors[motor];
        let refusal_of = |result: Result<(), u8>| result.err().unwrap_or(0);
        match instruction {
            Instruction::Ping => (Need::Ping, 0, ping),
            Instruction::Read(block) => match motor.read(*block) {
                Ok(bytes) => (Need::Read, 0, bytes.to_vec()),
                Err(refusal) => (Need::Read, refusal, Vec::new()),
            },
            Instruction::Write { address, bytes } => (Need::Any, refusal_of(motor.write(*address, bytes)), Vec::new()),
            Instruction::RegWrite { address, bytes } => {
                motor.prepare(*address, bytes);
                (Need::Any, 0, Vec::new())
            }
            Instruction::Action => {
                motor.act();
                (Need::Any, 0, Vec::new())
            }
            Instruction::Reboot => {
                motor.restart();
                (Need::Any, 0, Vec::new())
            }
            // To all it does nothing: a robot would lose its ids.
            Instruction::FactoryReset if to != BROADCAST => {
                motor.forget_all();
                (Need::Any, 0, Vec::new())
            }
            _ => (Need::Any, 0, Vec::new()),
        }
    }

    fn ping_data(&self, motor: usize) -> Vec<u8> {
        let motor = &self.motors[motor];
        match self.protocol {
            Protocol::Feetech0 | Protocol::Feetech1 => Vec::new(),
            Protocol::Dynamixel2 => {
                let [low, high] = motor.table().number.to_le_bytes();
                let firmware = motor.value(sinew_drivers::Register::FirmwareVersion).to_le_bytes()[0];
                vec![low, high, firmware]
            }
        }
    }

    fn ping_all(&mut self, listening: &[usize]) -> Vec<Answer> {
        if self.protocol == Protocol::Feetech1 {
            return Vec::new();
        }
        let mut sorted = listening.to_vec();
        sorted.sort_by_key(|motor| self.motors[*motor].id());
        let mut answers = Vec::new();
        while let Some(first) = sorted.first().copied() {
            let id = self.motors[first].id();
            let same = sorted.iter().take_while(|motor| self.motors[**motor].id() == id).count();
            let group: Vec<usize> = sorted.drain(..same).collect();
            let group = group.into_iter().filter_map(|motor| {
                let data = self.ping_data(motor);
                self.answer(motor, Need::Ping, 0, &data)
            });
            let group = group.collect();
            answers.extend(self.collide(group).into_iter().map(|answer| Answer { after: answer.after + PING_SLOT, ..answer }));
        }
        answers
    }

    /// Each of the wanted motors in its turn, or all in one packet.
    fn read_several(&mut self, listening: &[usize], wanted: &[(u8, Block)], is_fast: bool, speed: u32) -> Vec<Answer> {
        let mut answers: Vec<Answer> = Vec::new();
        let mut missed = Duration::ZERO;
        let mut is_cut = false;
        for (id, block) in wanted {
            let of_id: Vec<usize> = listening.iter().copied().filter(|motor| self.motors[*motor].id() == *id).collect();
            let group = of_id.iter().filter_map(|motor| {
                let (refusal, data) = match self.motors[*motor].read(*block) {
                    Ok(bytes) => (0, bytes.to_vec()),
                    Err(refusal) => (refusal, Vec::new()),
                };
                self.answer(*motor, Need::Read, refusal, &data)
            });
            let group = group.collect::<Vec<_>>();
            if group.is_empty() {
                if is_fast || self.motors.first().is_some_and(|motor| motor.firmware().waits_for_predecessor) {
                    is_cut = true;
                    break;
                }
                // Those after it wait as long as it might have answered.
                let bytes = u32::try_from(self.protocol.answer_len(usize::from(block.len))).unwrap_or(0);
                missed += Duration::from_micros(100) + bytes * byte_time(speed);
                continue;
            }
            let group = self.collide(group);
            answers.extend(group.into_iter().map(|answer| Answer { after: answer.after + std::mem::take(&mut missed), ..answer }));
        }
        if is_fast { self.join(answers, wanted, is_cut) } else { answers }
    }

    /// Answers as parts of one packet, which has a gap where somebody is missing.
    fn join(&mut self, answers: Vec<Answer>, wanted: &[(u8, Block)], is_cut: bool) -> Vec<Answer> {
        let Some(first) = answers.first() else { return Vec::new() };
        let len = |id: u8| wanted.iter().find(|(known, _)| *known == id).map_or(0, |(_, block)| usize::from(block.len));
        let is_whole = !is_cut && answers.iter().all(|answer| answer.is_whole && answer.data.len() == len(answer.id));
        let missing = wanted.iter().skip(answers.len()).map(|(id, block)| (0, *id, vec![0; usize::from(block.len)]));
        let parts: Vec<(u8, u8, Vec<u8>)> =
            answers.iter().map(|answer| (answer.error, answer.id, answer.data.clone())).chain(missing).collect();
        let mut bytes = Vec::new();
        if self.protocol.fast_status(&mut bytes, parts.iter().map(|(error, id, data)| (*error, *id, data.as_slice()))).is_err() {
            return Vec::new();
        }
        if is_cut {
            let said: usize = answers.iter().map(|answer| answer.data.len() + 4).sum();
            bytes.truncate(8 + said);
        }
        let (motor, id, after) = (first.motor, BROADCAST, first.after);
        let data = answers.iter().flat_map(|answer| answer.data.clone()).collect();
        vec![Answer { motor, id, error: first.error, data, after, bytes, is_whole }]
    }

    fn answer(&mut self, motor: usize, need: Need, refusal: u8, data: &[u8]) -> Option<Answer> {
        let before = (self.motors[motor].id(), self.motors[motor].return_delay());
        self.answer_as(motor, before, need, refusal, data)
    }

    fn answer_as(&mut self, at: usize, (id, delay): (u8, Duration), need: Need, refusal: u8, data: &[u8]) -> Option<Answer> {
        use sinew_drivers::Register::{ResponseStatusLevel, StatusReturnLevel};
        let motor = &self.motors[at];
        let level =
            if motor.table().has(StatusReturnLevel) { motor.value(StatusReturnLevel) } else { 1 + motor.value(ResponseStatusLevel) };
        let is_said = match need {
            Need::Ping => true,
            Need::Read => level >= 1,
            Need::Any => level >= 2,
        };
        if !is_said {
            return None;
        }
        let error = motor.alert() | refusal;
        let mut bytes = Vec::new();
        self.protocol.status(&mut bytes, id, error, data).ok()?;
        let after = delay + Duration::from_micros(self.rng.u64(THINKING));
        Some(Answer { motor: at, id, error, data: data.to_vec(), after, bytes, is_whole: true })
    }

    /// Who speaks at the same time garbles what the others say.
    fn collide(&mut self, mut answers: Vec<Answer>) -> Vec<Answer> {
        if answers.len() < 2 {
            return answers;
        }
        let longest = answers.iter().map(|answer| answer.bytes.len()).max().unwrap_or(0);
        let mut wire = vec![0xffu8; longest];
        for answer in &answers {
            for (byte, said) in wire.iter_mut().zip(&answer.bytes) {
                *byte &= said;
            }
        }
        // Even the same bytes don't meet bit by bit.
        let mut is_garbled = false;
        for byte in &mut wire {
            if self.rng.u8(..3) == 0 {
                *byte ^= 1 << self.rng.u32(..8);
                is_garbled = true;
            }
        }
        if !is_garbled && let Some(byte) = wire.last_mut() {
            *byte ^= 0x10;
        }
        for answer in &mut answers {
            answer.bytes.clear();
            answer.is_whole = false;
        }
        if let Some(first) = answers.first_mut() {
            first.bytes = wire;
        }
        answers
    }
}

/// How long a byte is on the wire, with its start and stop bits.
pub(crate) fn byte_time(speed: u32) -> Duration {
    Duration::from_secs(10) / speed.max(1)
}

/// Whether a packet's code is one that a motor would hear; others are noise to it.
pub(crate) fn is_instruction(code: u8) -> bool {
    code != code::STATUS
}
