//! Buffers for file content, used again and again.

use std::{
    ops::{Deref, DerefMut},
    sync::{Arc, Mutex, PoisonError},
};

/// How many buffers wait for their next use: enough to keep file, worker and writer busy at once.
const KEPT_BLOCKS: usize = 8;

/// Hands out buffers of one length. Their content is whatever the last user left.
///
/// Reading a file into memory that is already mapped, and already zeroed once, costs one copy and nothing else.
#[derive(Debug)]
pub(super) struct BlockPool {
    block_bytes: usize,
    free: Mutex<Vec<Vec<u8>>>,
}

impl BlockPool {
    pub(super) fn new(block_bytes: usize) -> Arc<Self> {
        Arc::new(Self { block_bytes, free: Mutex::default() })
    }

    pub(super) fn take(self: &Arc<Self>) -> Block {
        let kept = self.free.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let bytes = kept.unwrap_or_else(|| vec![0; self.block_bytes]);
        Block { bytes, pool: Some(self.clone()) }
    }

    fn put_back(&self, block: Vec<u8>) {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        if free.len() < KEPT_BLOCKS {
            free.push(block);
        }
    }
}

/// A buffer that goes back to its pool, if it has one, when it is dropped.
#[derive(Debug)]
pub(super) struct Block {
    bytes: Vec<u8>,
    pool: Option<Arc<BlockPool>>,
}

impl Block {
    /// A buffer of zeros that belongs to no pool.
    pub(super) fn zeroed(length: usize) -> Self {
        Self { bytes: vec![0; length], pool: None }
    }
}

impl Deref for Block {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl DerefMut for Block {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        if let Some(pool) = self.pool.take() {
            pool.put_back(std::mem::take(&mut self.bytes));
        }
    }
}
