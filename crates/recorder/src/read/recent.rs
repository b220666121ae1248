//! What was used last, up to so many bytes.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;

/// Keeps values while they take fewer bytes together than a limit, those that were used last; the newest
/// one always.
pub(super) struct Recent<K, V> {
    entries: HashMap<K, Entry<V>>,
    bytes: usize,
    most_bytes: usize,
    /// How often anything was used.
    uses: u64,
}

struct Entry<V> {
    value: V,
    bytes: usize,
    used: u64,
}

impl<K: Eq + Hash + Clone, V> Recent<K, V> {
    pub(super) fn new(most_bytes: usize) -> Self {
        Self { entries: HashMap::new(), bytes: 0, most_bytes, uses: 0 }
    }

    pub(super) fn get<Q: Eq + Hash + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        self.uses += 1;
        let entry = self.entries.get_mut(key)?;
        entry.used = self.uses;
        Some(&mut entry.value)
    }

    /// Keeps `value`, which takes `bytes`, and drops what was not used for longest.
    pub(super) fn insert(&mut self, key: K, value: V, bytes: usize) {
        self.uses += 1;
        self.bytes += bytes;
        if let Some(before) = self.entries.insert(key, Entry { value, bytes, used: self.uses }) {
            self.bytes -= before.bytes;
        }
        while self.bytes > self.most_bytes && self.entries.len() > 1 {
            let oldest = self.entries.iter().min_by_key(|(_, entry)| entry.used).map(|(key, _)| key.clone());
            let Some(dropped) = oldest.and_then(|key| self.entries.remove(&key)) else { return };
            self.bytes -= dropped.bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_stays_and_the_rest_goes_by_bytes() {
        let mut recent = Recent::new(100);
        for key in 0..5 {
            recent.insert(key, key, 20);
        }
        assert_eq!((recent.entries.len(), recent.bytes), (5, 100));
        recent.get(&0);
        recent.insert(5, 5, 40);
        let mut kept: Vec<i32> = recent.entries.keys().copied().collect();
        kept.sort_unstable();
        assert_eq!((kept, recent.bytes), (vec![0, 3, 4, 5], 100));
        // In the place of one that is there.
        recent.insert(5, 6, 10);
        assert_eq!((recent.entries.len(), recent.bytes), (4, 70));
        // Alone, and the newest whatever its size.
        recent.insert(6, 6, 1000);
        assert_eq!((recent.entries.len(), recent.bytes), (1, 1000));
    }
}
