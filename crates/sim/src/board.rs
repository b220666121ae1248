//! A value that one thread writes and others look at, where none of them keeps the writer waiting.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};

/// Copies of a value in slots, one of which is the newest. The writer takes a slot that is neither the
/// newest nor looked at; so with more slots than readers and two there always is one.
///
/// A slot is whole whenever its lock is free, also after a panic: readers change nothing.
#[derive(Debug)]
pub(crate) struct Board<T> {
    slots: Vec<Mutex<T>>,
    newest: AtomicUsize,
}

impl<T> Board<T> {
    /// `slots` hold the same value; there is at least one.
    pub fn new(slots: impl Iterator<Item = T>) -> Self {
        Self { slots: slots.map(Mutex::new).collect(), newest: AtomicUsize::new(0) }
    }

    /// The newest value. Waits for others who look at the same slot, and never gives an older one than the
    /// same thread has had.
    pub fn read(&self) -> MutexGuard<'_, T> {
        self.slots[self.newest.load(Ordering::Acquire)].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// As [`read`](Self::read) without waiting, for a board's only reader; `None` when the writer went round
    /// in the meantime, again and again.
    pub fn try_read(&self) -> Option<MutexGuard<'_, T>> {
        (0..4).find_map(|_| try_lock(&self.slots[self.newest.load(Ordering::Acquire)]))
    }

    /// Writes a newer value over some old one, without waiting. Says whether there was a slot for it. One
    /// thread at a time may write.
    pub fn publish(&self, write: impl FnOnce(&mut T)) -> bool {
        let newest = self.newest.load(Ordering::Acquire);
        let count = self.slots.len();
        let free = (1..count).map(|i| (newest + i) % count).find_map(|i| Some((i, try_lock(&self.slots[i])?)));
        let Some((i, mut slot)) = free else { return false };
        write(&mut slot);
        // Before others can have it: who gets this value must not find an older one the next time.
        self.newest.store(i, Ordering::Release);
        drop(slot);
        true
    }

    /// Writes a newer value over all others, waiting for those who look at them. Room that it needs is then
    /// there in every slot.
    pub fn publish_everywhere(&self, write: impl Fn(&mut T)) {
        let newest = self.newest.load(Ordering::Acquire);
        let count = self.slots.len();
        for i in (1..=count).map(|i| (newest + i) % count) {
            write(&mut self.slots[i].lock().unwrap_or_else(PoisonError::into_inner));
            self.newest.store(i, Ordering::Release);
        }
    }
}

pub(crate) fn try_lock<T>(mutex: &Mutex<T>) -> Option<MutexGuard<'_, T>> {
    match mutex.try_lock() {
        Ok(guard) => Some(guard),
        Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
        Err(TryLockError::WouldBlock) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_writer_goes_past_whoever_looks() {
        let board = Board::new([0; 4].into_iter());
        let first = board.read();
        for i in 1..100 {
            assert!(board.publish(|slot| *slot = i));
        }
        let second = board.read();
        assert!(board.publish(|slot| *slot = 100));
        let third = board.try_read();
        assert_eq!((*first, *second, third.as_deref()), (0, 99, Some(&100)));
        // One slot is left beside the newest, then none.
        assert!(board.publish(|slot| *slot = 101));
        assert!(!board.publish(|slot| *slot = 102), "all others are looked at");
        assert_eq!(*board.read(), 101);
        drop(first);
        assert!(board.publish(|slot| *slot = 103));
    }

    #[test]
    fn readers_beside_the_writer_see_whole_values_and_never_go_back() {
        let board = Board::new([[0u64; 8]; 6].into_iter());
        std::thread::scope(|scope| {
            let readers: Vec<_> = (0..3)
                .map(|_| {
                    scope.spawn(|| {
                        let mut last = 0;
                        while last < 20_000 {
                            let slot = board.read();
                            assert!(slot.iter().all(|word| *word == slot[0]), "{slot:?}");
                            assert!(slot[0] >= last);
                            last = slot[0];
                        }
                    })
                })
                .collect();
            for i in 1..=20_000 {
                assert!(board.publish(|slot| slot.fill(i)));
            }
            readers.into_iter().for_each(|reader| reader.join().unwrap());
        });
    }
}
