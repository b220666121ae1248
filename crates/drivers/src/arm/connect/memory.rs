//! What motors hold, read in as few questions as there can be.

use std::time::Duration;

use sinew_core::Clock;

use super::super::joint::Joint;
use super::PATIENCE;
use crate::{Block, Bus, BusError, Bytes, ControlTable, MOST_BYTES, MotorError, MotorId, Operation, Register, Reply, SerialBus};

/// How often those are asked anew that have not answered; the last time each by itself, as some can't be read together.
const ROUNDS: u32 = 3;
/// How long one may take that is asked by itself.
const ALONE: Duration = Duration::from_millis(40);

/// Of each motor of a bus the registers that connecting looks at.
pub(super) struct Memory {
    blocks: Vec<Block>,
    /// By motor, block by block; `None` for what was not to be had.
    held: Vec<Vec<Option<Bytes>>>,
    /// Why, of each motor, something is missing.
    pub errors: Vec<Option<MotorError>>,
}

impl Memory {
    /// Room for `registers` of each of `joints`, which share their control table's addresses.
    pub fn new(joints: &[Joint], registers: &[Register]) -> Self {
        let Some(table) = joints.first().map(|joint| joint.table) else {
            return Self { blocks: Vec::new(), held: Vec::new(), errors: Vec::new() };
        };
        let mut fields: Vec<_> = registers.iter().filter_map(|register| table.field(*register, MotorId(0)).ok()).collect();
        fields.sort_by_key(|field| field.address);
        let mut blocks: Vec<Block> = Vec::new();
        for field in fields {
            let end = field.address + u16::from(field.len);
            let starts_in = |block: &Block| (table.is_persistent(block.address), u16::from(block.len));
            match blocks.last_mut() {
                // What outlives the power and what doesn't are read apart, as they change at different times.
                Some(block)
                    if starts_in(block).0 == table.is_persistent(field.address) && usize::from(end - block.address) <= MOST_BYTES =>
                {
                    block.len = block.len.max(u8::try_from(end - block.address).unwrap_or(u8::MAX));
                }
                _ => blocks.push(Block { address: field.address, len: field.len }),
            }
        }
        let held = vec![vec![None; blocks.len()]; joints.len()];
        Self { blocks, held, errors: vec![None; joints.len()] }
    }

    /// Reads everything anew; motors that don't answer are asked again.
    ///
    /// # Errors
    /// When the port fails. What a motor does not say is in [`errors`](Self::errors).
    pub fn read(&mut self, bus: &mut SerialBus, joints: &[Joint], clock: &dyn Clock) -> Result<(), BusError> {
        self.held.iter_mut().for_each(|held| held.fill(None));
        for (b, block) in self.blocks.iter().copied().enumerate() {
            let mut garbage = None;
            for round in 0..ROUNDS {
                let asked: Vec<usize> = (0..joints.len()).filter(|i| self.held[*i][b].is_none()).collect();
                if asked.is_empty() {
                    break;
                }
                // Who says nothing to the first block of all says nothing to the others.
                if b > 0 && asked.iter().all(|i| self.held[*i][0].is_none()) {
                    break;
                }
                let mut replies: Vec<Reply> = asked.iter().map(|i| Reply::of(joints[*i].motor, Operation::Read(block))).collect();
                let (together, patience) = if round + 1 < ROUNDS { (replies.len(), PATIENCE) } else { (1, ALONE) };
                for some in replies.chunks_mut(together) {
                    match bus.read(block, some, clock.now() + patience) {
                        Ok(()) => garbage = None,
                        Err(error @ BusError::Garbage { .. }) => garbage = Some(error),
                        Err(error) => return Err(error),
                    }
                }
                for (i, reply) in asked.into_iter().zip(replies) {
                    match reply.answer {
                        Ok(answer) => self.held[i][b] = Some(answer.bytes),
                        Err(error) => self.errors[i] = Some(error),
                    }
                }
            }
            // Of one motor alone it is that one's.
            if let Some(error) = garbage.filter(|_| self.heard() == 0) {
                return Err(error);
            }
        }
        for (held, error) in self.held.iter().zip(&mut self.errors) {
            if held.iter().all(Option::is_some) {
                *error = None;
            }
        }
        Ok(())
    }

    /// What a motor holds; `None` for what was not read.
    pub fn get(&self, i: usize, table: &ControlTable, register: Register) -> Option<i32> {
        let field = table.field(register, MotorId(0)).ok()?;
        let is_in =
            |block: &Block| field.address >= block.address && field.address + u16::from(field.len) <= block.address + u16::from(block.len);
        let at = self.blocks.iter().position(is_in)?;
        let bytes = self.held.get(i)?.get(at)?.as_ref()?;
        table.decode(register, MotorId(0), self.blocks[at].address, bytes.as_slice()).ok()
    }

    /// How many motors have said anything.
    pub fn heard(&self) -> usize {
        self.held.iter().filter(|held| held.iter().any(Option::is_some)).count()
    }
}
