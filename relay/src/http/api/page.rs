//! A part of a long list.

use serde::{Deserialize, Deserializer};

/// How many entries an answer may have.
#[derive(Clone, Copy, Debug)]
pub(super) struct PageSize(pub(super) usize);

impl PageSize {
    const DEFAULT: usize = 100;
    const MAX: usize = 1000;
}

impl Default for PageSize {
    fn default() -> Self {
        Self(Self::DEFAULT)
    }
}

impl<'de> Deserialize<'de> for PageSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match usize::deserialize(deserializer)? {
            size @ 1..=Self::MAX => Ok(Self(size)),
            size => Err(serde::de::Error::custom(format!("a limit of {size}; it is 1 to {}", Self::MAX))),
        }
    }
}

/// Goes through a list in its order, from behind `after`, and takes what fits `filter` until there are `size` entries.
/// `next` yields at most so many entries from behind another. Returns the page, and where the next one begins.
pub(super) fn collect<T, K: Clone>(
    after: Option<K>,
    size: PageSize,
    key: impl Fn(&T) -> K,
    next: impl Fn(Option<&K>, usize) -> Vec<T>,
    filter: impl Fn(&T) -> bool,
) -> (Vec<T>, Option<K>) {
    /// Looked at in one go; the list may change between two.
    const CHUNK: usize = 512;
    let mut page: Vec<T> = Vec::new();
    let mut at = after;
    loop {
        let chunk = next(at.as_ref(), CHUNK);
        let is_last = chunk.len() < CHUNK;
        for entry in chunk {
            let here = key(&entry);
            if filter(&entry) {
                if page.len() == size.0 {
                    return (page, at);
                }
                page.push(entry);
            }
            at = Some(here);
        }
        if is_last {
            return (page, None);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(after: Option<&u32>, limit: usize) -> Vec<u32> {
        (after.map_or(0, |after| after + 1)..2000).take(limit).collect()
    }

    #[test]
    fn pages_follow_each_other_without_gap_or_repetition() {
        let (mut all, mut after) = (vec![], None);
        loop {
            let (page, next) =
                collect(after, PageSize(300), |number| *number, list, |number| number % 3 == 0);
            assert!(page.len() <= 300);
            all.extend(page);
            if next.is_none() {
                break;
            }
            after = next;
        }
        assert!(all.iter().copied().eq((0..2000).filter(|number| number % 3 == 0)));
    }

    #[test]
    fn full_page_that_is_the_last_has_no_next() {
        let (page, next) = collect(None, PageSize(1000), |number| *number, list, |number| number % 2 == 0);
        assert_eq!((page.len(), next), (1000, None));
    }
}
