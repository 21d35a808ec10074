//! Aligned word buffers, recycled.
//!
//! Polynomials are megabytes and live for milliseconds; taking them fresh from the system costs a page fault per 4 KiB, several
//! milliseconds per key switch. Dropped buffers go to a pool and are handed out again, with stale contents.

use bytemuck::{Pod, Zeroable};
use sotto_params::POOL_BYTES;
use std::collections::BTreeMap;
use std::mem::MaybeUninit;
use std::sync::{Mutex, MutexGuard};

/// One cache line of words.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C, align(64))]
struct Line([u32; WORDS]);

const WORDS: usize = 16;

/// A pooled buffer may stand in for one of down to this fraction of its size: the polynomials of neighbouring levels share.
const FILL: (usize, usize) = (2, 3);

#[derive(Default)]
struct Pool {
    /// Free buffers by their number of lines.
    free: BTreeMap<usize, Vec<Vec<Line>>>,
    bytes: usize,
}

impl Pool {
    /// The smallest free buffer of at least `count` lines that is not much larger.
    fn take(&mut self, count: usize) -> Option<Vec<Line>> {
        let (&found, free) = self
            .free
            .range_mut(count..=count * FILL.1 / FILL.0)
            .next()?;
        let lines = free.pop();
        if free.is_empty() {
            self.free.remove(&found);
        }
        self.bytes -= found * size_of::<Line>();
        lines
    }

    fn give(&mut self, lines: Vec<Line>) {
        let bytes = lines.len() * size_of::<Line>();
        if bytes > 0 && self.bytes + bytes <= POOL_BYTES {
            self.bytes += bytes;
            self.free.entry(lines.len()).or_default().push(lines);
        }
    }
}

static POOL: Mutex<Pool> = Mutex::new(Pool {
    free: BTreeMap::new(),
    bytes: 0,
});

fn pool() -> MutexGuard<'static, Pool> {
    POOL.lock().unwrap_or_else(|e| e.into_inner())
}

/// A fixed-size buffer of words on 64-byte lines.
pub(crate) struct Buffer {
    /// At least the lines in use.
    lines: Vec<Line>,
    used: usize,
}

impl Buffer {
    /// A buffer of `words` words, rounded up to whole lines, with arbitrary contents (never uninitialised: zeros or an earlier use's values).
    pub(crate) fn dirty(words: usize) -> Self {
        let used = words.div_ceil(WORDS);
        let recycled = pool().take(used);
        Self {
            lines: recycled.unwrap_or_else(|| fresh(used)),
            used,
        }
    }

    /// A buffer of zeros.
    pub(crate) fn zeroed(words: usize) -> Self {
        let mut buffer = Self::dirty(words);
        buffer.words_mut().fill(0);
        buffer
    }

    pub(crate) fn words(&self) -> &[u32] {
        bytemuck::cast_slice(&self.lines[..self.used])
    }

    pub(crate) fn words_mut(&mut self) -> &mut [u32] {
        bytemuck::cast_slice_mut(&mut self.lines[..self.used])
    }
}

/// Zeroed lines from the system, on huge pages where it has them. The advice comes before anything is written, which is when pages are
/// made.
fn fresh(count: usize) -> Vec<Line> {
    let mut lines = Vec::with_capacity(count);
    on_huge_pages(lines.spare_capacity_mut());
    lines.resize(count, Line::zeroed());
    lines
}

/// Asks for huge pages: transforms and base conversions walk many limbs at once, more than the processor remembers small pages of.
#[cfg(target_os = "linux")]
fn on_huge_pages(lines: &mut [MaybeUninit<Line>]) {
    const HUGE: usize = 2 << 20;
    let bytes = lines.as_mut_ptr_range();
    let start = (bytes.start as usize).next_multiple_of(HUGE);
    let end = bytes.end as usize / HUGE * HUGE;
    if start < end {
        let at = bytes.start.wrapping_byte_add(start - bytes.start as usize);
        // SAFETY: whole pages within a live allocation, and the advice changes no contents. A system that does not take it says so,
        // which changes nothing.
        unsafe { libc::madvise(at.cast(), end - start, libc::MADV_HUGEPAGE) };
    }
}

#[cfg(not(target_os = "linux"))]
fn on_huge_pages(_: &mut [MaybeUninit<Line>]) {}

impl Clone for Buffer {
    fn clone(&self) -> Self {
        let mut copy = Self::dirty(self.used * WORDS);
        copy.words_mut().copy_from_slice(self.words());
        copy
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        pool().give(std::mem::take(&mut self.lines));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_free_buffer_serves_what_nearly_fills_it() {
        let mut pool = Pool::default();
        for count in [100, 130, 300] {
            pool.give(bytemuck::zeroed_vec(count));
        }
        assert_eq!(pool.take(99).map(|l| l.len()), Some(100));
        assert_eq!(pool.take(99).map(|l| l.len()), Some(130));
        assert!(pool.take(99).is_none());
        assert_eq!(pool.bytes, 300 * size_of::<Line>());
    }
}
