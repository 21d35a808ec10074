//! Aligned word buffers, recycled.
//!
//! Polynomials are megabytes and live for milliseconds; taking them fresh from the system costs a page fault per 4 KiB, several
//! milliseconds per key switch. Dropped buffers go to a pool and are handed out again, with stale contents.

use bytemuck::{Pod, Zeroable};
use std::collections::HashMap;
use std::sync::Mutex;

/// One cache line of words.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C, align(64))]
struct Line([u32; WORDS]);

const WORDS: usize = 16;

/// The pool keeps at most this many bytes.
const POOL_BYTES: usize = 768 << 20;

#[derive(Default)]
struct Pool {
    free: HashMap<usize, Vec<Vec<Line>>>,
    bytes: usize,
}

static POOL: Mutex<Option<Pool>> = Mutex::new(None);

/// A fixed-size buffer of words on 64-byte lines.
pub(crate) struct Buffer {
    lines: Vec<Line>,
}

impl Buffer {
    /// A buffer of `words` words with arbitrary contents (never uninitialised: zeros or an earlier use's values).
    pub(crate) fn dirty(words: usize) -> Self {
        let count = words.div_ceil(WORDS);
        let mut guard = POOL.lock().unwrap_or_else(|e| e.into_inner());
        let pool = guard.get_or_insert_default();
        if let Some(lines) = pool.free.get_mut(&count).and_then(Vec::pop) {
            pool.bytes -= count * size_of::<Line>();
            return Self { lines };
        }
        drop(guard);
        Self {
            lines: bytemuck::zeroed_vec(count),
        }
    }

    /// A buffer of zeros.
    pub(crate) fn zeroed(words: usize) -> Self {
        let mut buffer = Self::dirty(words);
        buffer.words_mut().fill(0);
        buffer
    }

    pub(crate) fn words(&self) -> &[u32] {
        bytemuck::cast_slice(&self.lines)
    }

    pub(crate) fn words_mut(&mut self) -> &mut [u32] {
        bytemuck::cast_slice_mut(&mut self.lines)
    }
}

impl Clone for Buffer {
    fn clone(&self) -> Self {
        let mut copy = Self::dirty(self.lines.len() * WORDS);
        copy.words_mut().copy_from_slice(self.words());
        copy
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let lines = std::mem::take(&mut self.lines);
        let bytes = lines.len() * size_of::<Line>();
        let mut guard = POOL.lock().unwrap_or_else(|e| e.into_inner());
        let pool = guard.get_or_insert_default();
        if bytes > 0 && pool.bytes + bytes <= POOL_BYTES {
            pool.bytes += bytes;
            pool.free.entry(lines.len()).or_default().push(lines);
        }
    }
}
