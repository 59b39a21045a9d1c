//! A table that forgets what was longest not used.

use std::{
    collections::{BTreeMap, HashMap},
    hash::Hash,
};

/// At most so many entries; one more takes the place of that which was longest not used.
pub(super) struct Recent<K, V> {
    capacity: usize,
    /// The value, and when it was used last.
    entries: HashMap<K, (V, u64)>,
    /// The same by time of use. Each use has a time of its own.
    by_use: BTreeMap<u64, K>,
    uses: u64,
}

impl<K: Clone + Eq + Hash, V: Clone> Recent<K, V> {
    pub(super) fn new(capacity: usize) -> Self {
        Self { capacity, entries: HashMap::new(), by_use: BTreeMap::new(), uses: 0 }
    }

    /// The value of this key, which is used by that.
    pub(super) fn get(&mut self, key: &K) -> Option<V> {
        let (value, used) = self.entries.get_mut(key)?;
        self.uses += 1;
        self.by_use.remove(used);
        *used = self.uses;
        self.by_use.insert(self.uses, key.clone());
        Some(value.clone())
    }

    /// Sets the value of this key, and returns what was forgotten for it.
    pub(super) fn insert(&mut self, key: K, value: V) -> Option<(K, V)> {
        self.uses += 1;
        if let Some((_, used)) = self.entries.insert(key.clone(), (value, self.uses)) {
            self.by_use.remove(&used);
        }
        self.by_use.insert(self.uses, key);
        if self.entries.len() <= self.capacity {
            return None;
        }
        let (_, forgotten) = self.by_use.pop_first()?;
        let (value, _) = self.entries.remove(&forgotten)?;
        Some((forgotten, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_longest_not_used_is_forgotten() {
        let mut recent = Recent::new(2);
        assert_eq!(recent.insert('a', 1), None);
        assert_eq!(recent.insert('b', 2), None);
        assert_eq!(recent.get(&'a'), Some(1));
        assert_eq!(recent.insert('c', 3), Some(('b', 2)));
        assert_eq!(recent.insert('a', 4), None, "there already");
        assert_eq!(recent.insert('d', 5), Some(('c', 3)));
        assert_eq!(['a', 'b', 'c', 'd'].map(|key| recent.get(&key)), [Some(4), None, None, Some(5)]);
        assert_eq!((recent.entries.len(), recent.by_use.len()), (2, 2));
    }
}
