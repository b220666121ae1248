//! What was asked of the motors and what they said, for tests.

use std::time::{Duration, Instant};

use sinew_drivers::wire::Instruction;
use sinew_drivers::{Block, ControlTable, MotorId, Register};

/// The most instructions that are kept; older ones are forgotten.
const MOST: usize = 1 << 20;

/// An instruction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    Ping,
    Read(Block),
    Write {
        address: u16,
        bytes: Vec<u8>,
    },
    Prepare {
        address: u16,
        bytes: Vec<u8>,
    },
    Action,
    FactoryReset,
    Reboot,
    Clear,
    SyncRead {
        block: Block,
        ids: Vec<u8>,
        is_fast: bool,
    },
    SyncWrite {
        address: u16,
        frames: Vec<(u8, Vec<u8>)>,
    },
    BulkRead {
        blocks: Vec<(u8, Block)>,
        is_fast: bool,
    },
    /// No instruction of the protocol.
    Unknown(u8),
}

impl Asked {
    pub(crate) fn of(instruction: &Instruction<'_>) -> Self {
        match instruction {
            Instruction::Ping => Self::Ping,
            Instruction::Read(block) => Self::Read(*block),
            Instruction::Write { address, bytes } => Self::Write { address: *address, bytes: bytes.to_vec() },
            Instruction::RegWrite { address, bytes } => Self::Prepare { address: *address, bytes: bytes.to_vec() },
            Instruction::Action => Self::Action,
            Instruction::FactoryReset => Self::FactoryReset,
            Instruction::Reboot => Self::Reboot,
            Instruction::Clear(_) => Self::Clear,
            Instruction::SyncRead { block, ids, is_fast } => Self::SyncRead { block: *block, ids: ids.to_vec(), is_fast: *is_fast },
            Instruction::SyncWrite { address, frames } => {
                Self::SyncWrite { address: *address, frames: frames.clone().map(|(id, bytes)| (id, bytes.to_vec())).collect() }
            }
            Instruction::BulkRead { blocks, is_fast } => Self::BulkRead { blocks: blocks.clone().collect(), is_fast: *is_fast },
        }
    }
}

/// An answer as a motor gave it, whatever became of it on the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    pub id: u8,
    /// As its protocol has it.
    pub error: u8,
    pub data: Vec<u8>,
    /// Whether the host gets it as it was said.
    pub is_whole: bool,
    /// When its last byte has left the wire.
    pub until: Instant,
}

/// An instruction with its time and its answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// When its last byte had come.
    pub at: Instant,
    /// To whom; 254 to all.
    pub id: u8,
    pub asked: Asked,
    /// Whether any motor heard it: not at another speed than theirs, nor when it was lost.
    pub is_heard: bool,
    pub said: Vec<Said>,
}

impl Entry {
    /// As an object of JSON, with its time in seconds after `begun`.
    pub(crate) fn json(&self, begun: Instant) -> String {
        let (what, rest) = match &self.asked {
            Asked::Ping => ("ping", String::new()),
            Asked::Read(block) => ("read", of_block(*block)),
            Asked::Write { address, bytes } => ("write", format!(r#","address":{address},"bytes":{bytes:?}"#)),
            Asked::Prepare { address, bytes } => ("prepare", format!(r#","address":{address},"bytes":{bytes:?}"#)),
            Asked::Action => ("action", String::new()),
            Asked::FactoryReset => ("factory_reset", String::new()),
            Asked::Reboot => ("reboot", String::new()),
            Asked::Clear => ("clear", String::new()),
            Asked::SyncRead { block, ids, .. } => ("sync_read", format!(r#"{},"ids":{ids:?}"#, of_block(*block))),
            Asked::SyncWrite { address, frames } => {
                let frames: Vec<String> = frames.iter().map(|(id, bytes)| format!("[{id},{bytes:?}]")).collect();
                ("sync_write", format!(r#","address":{address},"frames":[{}]"#, frames.join(",")))
            }
            Asked::BulkRead { blocks, .. } => {
                let blocks: Vec<String> = blocks.iter().map(|(id, block)| format!("[{id},{},{}]", block.address, block.len)).collect();
                ("bulk_read", format!(r#","blocks":[{}]"#, blocks.join(",")))
            }
            Asked::Unknown(code) => ("unknown", format!(r#","code":{code}"#)),
        };
        let said =
            |said: &Said| format!(r#"{{"id":{},"error":{},"data":{:?},"is_whole":{}}}"#, said.id, said.error, said.data, said.is_whole);
        let said: Vec<String> = self.said.iter().map(said).collect();
        let at_s = self.at.saturating_duration_since(begun).as_secs_f64();
        format!(r#"{{"at_s":{at_s:.6},"id":{},"asked":"{what}"{rest},"is_heard":{},"said":[{}]}}"#, self.id, self.is_heard, said.join(","))
    }

    /// What it writes into a register: of each motor that it names (254 for all) the value.
    pub fn writes(&self, table: &ControlTable, register: Register) -> Vec<(u8, i32)> {
        let value = |address: u16, bytes: &[u8]| table.decode(register, MotorId(0), address, bytes).ok();
        match &self.asked {
            Asked::Write { address, bytes } => value(*address, bytes).map(|value| (self.id, value)).into_iter().collect(),
            Asked::SyncWrite { address, frames } => {
                frames.iter().filter_map(|(id, bytes)| value(*address, bytes).map(|value| (*id, value))).collect()
            }
            _ => Vec::new(),
        }
    }
}

fn of_block(block: Block) -> String {
    format!(r#","address":{},"len":{}"#, block.address, block.len)
}

/// All instructions since the emulator began or the log was cleared.
#[derive(Clone, Debug, Default)]
pub struct Log {
    pub entries: Vec<Entry>,
    /// Bytes from the host that were part of no instruction.
    pub garbage: usize,
    /// Times that the host began to send while motors still answered, so that both were lost.
    pub collisions: usize,
    /// Bytes of answers that the terminal had no room for, because nobody read.
    pub unread: usize,
    /// How late a byte was handed over at worst: this machine was busy, and its timing is not the wire's.
    pub worst_lateness: Duration,
    /// Instructions that were forgotten because there were too many.
    pub forgotten: usize,
}

impl Log {
    pub(crate) fn push(&mut self, entry: Entry) {
        if self.entries.len() >= MOST {
            self.entries.drain(..MOST / 2);
            self.forgotten += MOST / 2;
        }
        self.entries.push(entry);
    }

    /// How many instructions are of a kind.
    pub fn count(&self, mut is_counted: impl FnMut(&Entry) -> bool) -> usize {
        self.entries.iter().filter(|entry| is_counted(entry)).count()
    }

    pub fn sync_reads(&self) -> usize {
        self.count(|entry| matches!(entry.asked, Asked::SyncRead { .. }))
    }

    pub fn sync_writes(&self) -> usize {
        self.count(|entry| matches!(entry.asked, Asked::SyncWrite { .. }))
    }

    /// Bytes that were written into registers that outlive the power, which wear out.
    pub fn persistent_bytes(&self, table: &ControlTable) -> usize {
        let count = |address: u16, len: usize| (address..).take(len).filter(|at| table.is_persistent(*at)).count();
        let of = |entry: &Entry| match &entry.asked {
            Asked::Write { address, bytes } | Asked::Prepare { address, bytes } => count(*address, bytes.len()),
            Asked::SyncWrite { address, frames } => frames.iter().map(|(_, bytes)| count(*address, bytes.len())).sum(),
            _ => 0,
        };
        self.entries.iter().map(of).sum()
    }

    /// Everything that was written into a register, in order: when, into which motor's (254 for all), what.
    pub fn writes(&self, table: &ControlTable, register: Register) -> Vec<(Instant, u8, i32)> {
        self.entries.iter().flat_map(|entry| entry.writes(table, register).into_iter().map(|(id, value)| (entry.at, id, value))).collect()
    }
}
