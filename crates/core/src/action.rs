//! Actions: rows of goals, each stamped with the tick it is for.

use thiserror::Error;

/// Values that don't fill whole rows.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("making an action chunk: {len} values are no whole number of rows of {width}")]
pub struct ShapeError {
    pub len: usize,
    pub width: usize,
}

/// What a policy answers: rows of goals in SI, a value a channel of action, `[rows, width]`, row-major. Row `i` is for
/// tick `first_tick + i`.
#[derive(Clone, Debug, PartialEq)]
pub struct ActionChunk {
    first_tick: u64,
    width: usize,
    goals: Vec<f64>,
}

impl ActionChunk {
    /// # Errors
    /// When `goals` is no whole number of rows of `width` (which must not be 0).
    pub fn new(first_tick: u64, width: usize, goals: Vec<f64>) -> Result<Self, ShapeError> {
        if width == 0 || !goals.len().is_multiple_of(width) {
            return Err(ShapeError { len: goals.len(), width });
        }
        Ok(Self { first_tick, width, goals })
    }

    pub fn first_tick(&self) -> u64 {
        self.first_tick
    }

    pub fn width(&self) -> usize {
        self.width
    }

    pub fn len(&self) -> usize {
        self.goals.len() / self.width
    }

    pub fn is_empty(&self) -> bool {
        self.goals.is_empty()
    }

    pub fn rows(&self) -> impl ExactSizeIterator<Item = &[f64]> {
        self.goals.chunks_exact(self.width)
    }
}

/// What [`ActionQueue::splice`] did with a chunk's rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Splice {
    /// Rows for ticks that had passed: dropped.
    pub late_rows: usize,
    /// Rows that took the place of a row queued before.
    pub replaced_rows: usize,
    /// Rows that went in, replacements included.
    pub accepted_rows: usize,
    /// Rows beyond the queue's capacity: dropped.
    pub overflow_rows: usize,
}

/// Actions waiting for their tick. A newer chunk replaces older rows for the same ticks; nothing is
/// replayed, nothing is shifted. Allocates only when made.
#[derive(Clone, Debug)]
pub struct ActionQueue {
    width: usize,
    capacity: usize,
    goals: Vec<f64>,
    /// The tick that slot `tick % capacity` holds, plus one; 0 for an empty slot.
    slots: Vec<u64>,
    end_tick: u64,
}

impl ActionQueue {
    /// Room for rows of `width` channels up to `capacity` ticks ahead (at least 1).
    pub fn new(width: usize, capacity: usize) -> Self {
        let capacity = capacity.max(1);
        Self { width, capacity, goals: vec![0.0; width * capacity], slots: vec![0; capacity], end_tick: 0 }
    }

    pub fn clear(&mut self) {
        self.slots.fill(0);
        self.end_tick = 0;
    }

    /// Puts the rows of `chunk` at their ticks; `now` is the first tick not yet acted on. Rows of
    /// another width than the queue's are all refused as overflow.
    pub fn splice(&mut self, chunk: &ActionChunk, now: u64) -> Splice {
        let mut report = Splice::default();
        if chunk.width() != self.width {
            report.overflow_rows = chunk.len();
            return report;
        }
        for (tick, row) in (chunk.first_tick()..).zip(chunk.rows()) {
            if tick < now {
                report.late_rows += 1;
            } else if tick - now >= self.capacity as u64 {
                report.overflow_rows += 1;
            } else {
                let slot = (tick % self.capacity as u64) as usize;
                report.replaced_rows += usize::from(self.slots[slot] == tick + 1);
                report.accepted_rows += 1;
                self.slots[slot] = tick + 1;
                self.goals[slot * self.width..][..self.width].copy_from_slice(row);
                self.end_tick = self.end_tick.max(tick + 1);
            }
        }
        report
    }

    /// The row for `tick`, or `None` when the queue has run dry there.
    pub fn take(&mut self, tick: u64) -> Option<&[f64]> {
        let slot = (tick % self.capacity as u64) as usize;
        if self.slots[slot] != tick + 1 {
            return None;
        }
        self.slots[slot] = 0;
        Some(&self.goals[slot * self.width..][..self.width])
    }

    /// The row for `tick`, left where it is.
    pub fn peek(&self, tick: u64) -> Option<&[f64]> {
        let slot = (tick % self.capacity as u64) as usize;
        (self.slots[slot] == tick + 1).then(|| &self.goals[slot * self.width..][..self.width])
    }

    /// How many ticks from `now` on until the last queued row is consumed.
    pub fn remaining(&self, now: u64) -> usize {
        self.end_tick.saturating_sub(now) as usize
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn chunk(first: u64, values: &[f64]) -> ActionChunk {
        ActionChunk::new(first, 1, values.to_vec()).unwrap()
    }

    #[test]
    fn a_newer_chunk_replaces_rows_for_the_same_tick_and_only_those() {
        let mut queue = ActionQueue::new(1, 10);
        queue.splice(&chunk(0, &[0.0, 1.0, 2.0, 3.0]), 0);
        assert_eq!(queue.take(0), Some(&[0.0][..]));
        let report = queue.splice(&chunk(0, &[10.0, 11.0, 12.0]), 1);
        assert_eq!(report, Splice { late_rows: 1, replaced_rows: 2, accepted_rows: 2, overflow_rows: 0 });
        assert_eq!(queue.take(1), Some(&[11.0][..]));
        assert_eq!(queue.take(2), Some(&[12.0][..]));
        assert_eq!(queue.take(3), Some(&[3.0][..]));
        assert_eq!(queue.take(4), None);
    }

    #[test]
    fn a_row_is_taken_once_and_a_stale_slot_is_never_replayed() {
        let mut queue = ActionQueue::new(1, 4);
        queue.splice(&chunk(0, &[0.0, 1.0, 2.0, 3.0]), 0);
        assert!(queue.take(1).is_some());
        assert!(queue.take(1).is_none());
        // Tick 6 shares its slot with tick 2, which nobody took.
        assert!(queue.take(6).is_none());
    }

    #[test]
    fn rows_beyond_the_capacity_are_counted_not_wrapped() {
        let mut queue = ActionQueue::new(1, 2);
        assert_eq!(queue.splice(&chunk(0, &[0.0, 1.0, 2.0]), 0).overflow_rows, 1);
        assert_eq!(queue.take(0), Some(&[0.0][..]));
    }

    #[test]
    fn ragged_and_empty_widths_are_refused() {
        assert!(ActionChunk::new(0, 2, vec![1.0]).is_err());
        assert!(ActionChunk::new(0, 0, vec![]).is_err());
    }

    proptest! {
        /// Against a map from tick to row: whatever is spliced and taken, in whatever order.
        #[test]
        fn a_queue_is_a_map_from_ticks_ahead_to_their_newest_rows(
            capacity in 1usize..12,
            steps in prop::collection::vec((0u64..20, 0usize..15, 0u64..4, any::<bool>()), 1..60),
        ) {
            let mut queue = ActionQueue::new(1, capacity);
            let mut model = BTreeMap::new();
            let mut now = 0u64;
            for (n, (back, rows, forward, take)) in steps.into_iter().enumerate() {
                let first = (now + 5).saturating_sub(back);
                let values: Vec<f64> = (0..rows).map(|row| (n * 100 + row) as f64).collect();
                let report = queue.splice(&chunk(first, &values), now);
                let (mut late, mut overflow, mut replaced) = (0, 0, 0);
                for (tick, value) in (first..).zip(values) {
                    if tick < now {
                        late += 1;
                    } else if tick >= now + capacity as u64 {
                        overflow += 1;
                    } else {
                        replaced += usize::from(model.insert(tick, value).is_some());
                    }
                }
                prop_assert_eq!(report, Splice { late_rows: late, replaced_rows: replaced, accepted_rows: rows - late - overflow, overflow_rows: overflow });
                if take {
                    prop_assert_eq!(queue.take(now).map(|row| row[0]), model.remove(&now));
                }
                now += forward;
                model.retain(|tick, _| *tick >= now);
                let last = model.keys().next_back().map_or(0, |last| last + 1 - now);
                prop_assert!(queue.remaining(now) as u64 >= last);
            }
        }
    }
}
