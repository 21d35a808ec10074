//! A device that computes nothing: for counting what would be launched, moved and multiplied, at sizes that the processor is too slow for.

use sotto_gpu::{Device, Kernel};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Takes launches, and does nothing. What is read from it is zero.
#[derive(Clone, Debug, Default)]
pub struct Counting {
    words: Arc<Words>,
}

/// Words of memory that are taken, and that were at the most.
#[derive(Debug, Default)]
struct Words {
    addresses: AtomicU64,
    taken: AtomicU64,
    most: AtomicU64,
}

/// Memory that is not there.
#[derive(Debug)]
pub struct Nothing {
    words: Arc<Words>,
    address: u64,
    len: u64,
}

impl Drop for Nothing {
    fn drop(&mut self) {
        self.words.taken.fetch_sub(self.len, Ordering::Relaxed);
    }
}

impl Counting {
    /// Bytes of memory that were taken at once, at the most, since this was last asked.
    pub fn peak_bytes(&self) -> u64 {
        let now = self.words.taken.load(Ordering::Relaxed);
        size_of::<u32>() as u64 * self.words.most.swap(now, Ordering::Relaxed)
    }
}

impl Device for Counting {
    type Memory = Nothing;
    type Beside = usize;
    type Mark = ();

    fn name(&self) -> String {
        "nothing, which counts".into()
    }

    fn check(&self) -> Result<(), String> {
        Ok(())
    }

    fn alloc(&self, words: usize) -> Nothing {
        let len = words as u64;
        let address = self
            .words
            .addresses
            .fetch_add(4 * len.max(1), Ordering::Relaxed);
        let taken = self.words.taken.fetch_add(len, Ordering::Relaxed) + len;
        self.words.most.fetch_max(taken, Ordering::Relaxed);
        Nothing {
            words: self.words.clone(),
            // 0 stands for no memory
            address: address + 4,
            len,
        }
    }

    fn address(&self, memory: &Nothing) -> u64 {
        memory.address
    }

    fn write(&self, _memory: &Nothing, _words: &[u32]) {}

    fn wait(&self) {}

    fn mark(&self) {}

    fn seconds(&self, _from: &(), _to: &()) -> Option<f64> {
        None
    }

    fn read(&self, _memory: &Nothing, words: &mut [u32]) {
        words.fill(0);
    }

    fn set_beside(&self, words: &[u32]) -> usize {
        words.len()
    }

    fn put_beside(&self, _memory: &Nothing, words: usize) -> usize {
        words
    }

    fn fetch(&self, beside: &[&usize]) -> Nothing {
        self.alloc(beside.iter().copied().sum())
    }

    unsafe fn launch(&self, _kernel: Kernel, _grid: [u32; 3], _threads: u32, _args: &[u8]) {}
}
