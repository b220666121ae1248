//! The parts of files that are in memory or under way, up to so many bytes.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crate::HubError;

/// Parts are kept up to so many bytes of all files together, those that were used last.
pub(super) const MOST_BYTES: u64 = 128 << 20;

/// Which file a part is of, and where it begins.
type Place = (u64, u64);

/// Parts of several files, none of which overlap.
#[derive(Default)]
pub(super) struct Parts {
    held: Mutex<Held>,
    has_changed: Condvar,
}

#[derive(Default)]
struct Held {
    parts: BTreeMap<Place, Part>,
    bytes: u64,
    uses: u64,
}

struct Part {
    end: u64,
    state: State,
    used: u64,
    /// Whether somebody waits for it. Else nobody is told that it failed, and whoever reads it asks anew.
    is_awaited: bool,
}

enum State {
    Coming,
    Here(Arc<[u8]>),
    Failed(HubError),
}

/// What there is at one byte of a file.
pub(super) enum Found {
    /// These bytes, the first of which is that one.
    Bytes { part: Arc<[u8]>, skip: usize },
    /// Nothing, and nothing comes.
    Nothing,
}

/// A part that is to come. Dropped, it has failed.
pub(super) struct Coming {
    parts: Arc<Parts>,
    place: Place,
    end: u64,
    is_settled: bool,
}

impl Parts {
    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is at byte `at` of a file, once it is there if it is under way.
    ///
    /// # Errors
    /// Why it did not come; asked again, nothing is known of that any more.
    pub fn find(&self, file: u64, at: u64) -> Result<Found, HubError> {
        let mut held = self.lock();
        loop {
            held.uses += 1;
            let uses = held.uses;
            let before = held.parts.range_mut((file, 0)..=(file, at)).next_back();
            let Some((place, part)) = before.filter(|(_, part)| part.end > at) else { return Ok(Found::Nothing) };
            part.used = uses;
            let place = *place;
            match &part.state {
                State::Here(bytes) => return Ok(Found::Bytes { part: Arc::clone(bytes), skip: (at - place.1) as usize }),
                State::Failed(_) => match held.parts.remove(&place).map(|part| part.state) {
                    Some(State::Failed(error)) => return Err(error),
                    _ => return Ok(Found::Nothing),
                },
                State::Coming => {
                    part.is_awaited = true;
                    held = self.has_changed.wait(held).unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
    }

    /// What of `range` is neither here nor under way becomes under way, in parts of at most `most` bytes.
    pub fn begin(self: &Arc<Self>, file: u64, range: Range<u64>, most: u64) -> Vec<Coming> {
        let mut held = self.lock();
        let (mut gaps, mut at) = (Vec::new(), range.start);
        let before = held.parts.range((file, 0)..(file, range.start)).next_back();
        if let Some((_, part)) = before {
            at = at.max(part.end);
        }
        for ((_, start), part) in held.parts.range((file, range.start)..(file, range.end.max(range.start))) {
            if *start > at {
                gaps.push(at..*start);
            }
            at = at.max(part.end);
        }
        if at < range.end {
            gaps.push(at..range.end);
        }
        let mut coming = Vec::new();
        for gap in gaps {
            let mut start = gap.start;
            while start < gap.end {
                let end = gap.end.min(start.saturating_add(most));
                held.uses += 1;
                let used = held.uses;
                held.parts.insert((file, start), Part { end, state: State::Coming, used, is_awaited: false });
                coming.push(Coming { parts: Arc::clone(self), place: (file, start), end, is_settled: false });
                start = end;
            }
        }
        coming
    }
}

impl Coming {
    pub fn range(&self) -> Range<u64> {
        self.place.1..self.end
    }

    /// Gives those who wait for it what came, or why nothing did.
    pub fn done(mut self, result: Result<Vec<u8>, HubError>) {
        let state = match result {
            Ok(bytes) => State::Here(bytes.into()),
            Err(error) => State::Failed(error),
        };
        self.settle(state);
    }

    fn settle(&mut self, state: State) {
        // Another may be under way in its place by now.
        if std::mem::replace(&mut self.is_settled, true) {
            return;
        }
        let mut held = self.parts.lock();
        held.uses += 1;
        let uses = held.uses;
        let Some(part) = held.parts.get_mut(&self.place) else { return };
        if matches!(state, State::Failed(_)) && !part.is_awaited {
            held.parts.remove(&self.place);
            return;
        }
        (part.state, part.used) = (state, uses);
        if matches!(part.state, State::Here(_)) {
            held.bytes += self.end - self.place.1;
        }
        while held.bytes > MOST_BYTES {
            let here = held.parts.iter().filter(|(place, part)| **place != self.place && matches!(part.state, State::Here(_)));
            let Some(oldest) = here.min_by_key(|(_, part)| part.used).map(|(place, _)| *place) else { break };
            if let Some(dropped) = held.parts.remove(&oldest) {
                held.bytes -= dropped.end - oldest.1;
            }
        }
        drop(held);
        self.parts.has_changed.notify_all();
    }
}

impl Drop for Coming {
    fn drop(&mut self) {
        let why = "what fetched it has ended".to_owned();
        self.settle(State::Failed(HubError::Broken { doing: "fetching a part of a file".to_owned(), host: "the Hub".to_owned(), why }));
    }
}

#[cfg(test)]
#[allow(clippy::single_range_in_vec_init, reason = "a list of ranges may have one")]
mod tests {
    use super::*;

    fn ranges(coming: &[Coming]) -> Vec<Range<u64>> {
        coming.iter().map(Coming::range).collect()
    }

    fn arrive(coming: Vec<Coming>) {
        for part in coming {
            let bytes = part.range().map(|at| at as u8).collect();
            part.done(Ok(bytes));
        }
    }

    #[test]
    fn only_what_is_missing_comes() {
        let parts = Arc::new(Parts::default());
        let first = parts.begin(1, 10..20, 100);
        assert_eq!(ranges(&first), [10..20]);
        assert_eq!(ranges(&parts.begin(2, 12..14, 100)), [12..14], "another file");
        let second = parts.begin(1, 5..40, 12);
        assert_eq!(ranges(&second), [5..10, 20..32, 32..40]);
        assert!(parts.begin(1, 11..39, 100).is_empty());
        arrive(second);
        arrive(first);
        for at in 5..40 {
            let Found::Bytes { part, skip } = parts.find(1, at).unwrap() else { panic!("byte {at} is missing") };
            assert_eq!(u64::from(part[skip]), at);
        }
        assert!(matches!(parts.find(1, 40).unwrap(), Found::Nothing) && matches!(parts.find(1, 4).unwrap(), Found::Nothing));
    }

    #[test]
    fn a_part_that_failed_is_told_once_and_can_be_asked_for_again() {
        let parts = Arc::new(Parts::default());
        let coming = parts.begin(1, 0..10, 100);
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| parts.find(1, 3).is_err());
            while !parts.lock().parts[&(1, 0)].is_awaited {
                std::thread::yield_now();
            }
            drop(coming);
            assert!(waiting.join().unwrap());
        });
        assert!(matches!(parts.find(1, 3).unwrap(), Found::Nothing));
        // Nobody waits for this one.
        drop(parts.begin(1, 0..10, 100));
        assert!(matches!(parts.find(1, 3).unwrap(), Found::Nothing));
        arrive(parts.begin(1, 0..10, 100));
        assert!(matches!(parts.find(1, 3).unwrap(), Found::Bytes { skip: 3, .. }));
    }

    #[test]
    fn one_who_waits_is_woken() {
        let parts = Arc::new(Parts::default());
        let coming = parts.begin(1, 0..10, 100);
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| matches!(parts.find(1, 9).unwrap(), Found::Bytes { skip: 9, .. }));
            arrive(coming);
            assert!(waiting.join().unwrap());
        });
    }

    #[test]
    fn what_was_not_used_for_longest_goes() {
        let parts = Arc::new(Parts::default());
        let size = MOST_BYTES / 4;
        let get = |number: u64| {
            for part in parts.begin(1, number * size..(number + 1) * size, size) {
                part.done(Ok(vec![0; size as usize]));
            }
        };
        let has = |number: u64| matches!(parts.find(1, number * size).unwrap(), Found::Bytes { .. });
        (0..4).for_each(get);
        assert!(has(0));
        get(4);
        assert!(parts.lock().bytes <= MOST_BYTES);
        assert!(has(0) && !has(1) && has(4));
    }
}
