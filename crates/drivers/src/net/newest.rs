//! The newest value of one thread, for another that never waits for it.

use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};

/// A value that one thread changes, and that another copies when nobody is at it. Changes are short: no IO is done meanwhile.
#[derive(Debug, Default)]
pub(crate) struct Newest<T>(Mutex<T>);

impl<T> Newest<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(Mutex::new(value))
    }

    /// Waits for whoever is at it: not for the control thread.
    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `None` where somebody is at it right now.
    pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        match self.0.try_lock() {
            Ok(guard) => Some(guard),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }
}

impl<T: Clone> Newest<T> {
    /// Copies it to `out`; where somebody is at it right now, `out` stays as it was. Never waits.
    pub(crate) fn copy_to(&self, out: &mut T) {
        if let Some(value) = self.try_lock() {
            out.clone_from(&value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_that_is_being_changed_is_not_waited_for() {
        let newest = Newest::new([1, 2]);
        let mut copy = [0, 0];
        newest.copy_to(&mut copy);
        assert_eq!(copy, [1, 2]);
        let mut at_it = newest.lock();
        at_it[0] = 7;
        newest.copy_to(&mut copy);
        assert_eq!(copy, [1, 2]);
        drop(at_it);
        newest.copy_to(&mut copy);
        assert_eq!(copy, [7, 2]);
    }
}
