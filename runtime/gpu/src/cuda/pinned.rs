//! Memory of the machine that a card copies from and to by itself, while it computes.
//!
//! It is locked in its place, which takes the driver long, so it is taken in slabs and blocks are used again. Copies to the card run on a
//! stream of their own: they begin when they are asked for, which is long before the kernels that need them, and those wait for them.
//! How far they are ahead is bounded by the bytes that are on the card for it.

use super::Card;
use cudarc::driver::{CudaEvent, CudaStream, result, sys};
use std::collections::{HashMap, VecDeque};
use std::ffi::c_void;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

/// Words of a slab.
const SLAB: usize = 1 << 24;
/// Blocks of one size that are in use before this machine waits for one to write to.
const SPARE: usize = 16;
/// Bytes on the card that were fetched and not given back, beyond which fetching waits.
const AHEAD: usize = 1 << 30;

type Done<T> = Result<T, result::DriverError>;

/// Words beside a card, in a block that is used again once this is dropped.
pub struct Pinned {
    card: Arc<Card>,
    words: usize,
    /// None if the card has failed.
    block: Option<Block>,
    /// When the words are there, if a card writes them.
    written: Option<Arc<CudaEvent>>,
    /// When the last copy from them is done.
    read: Mutex<Option<Arc<CudaEvent>>>,
}

/// A part of a slab, and when whoever had it before has done with it.
struct Block {
    at: *mut u32,
    /// Which slab.
    slab: usize,
    used: Option<Arc<CudaEvent>>,
}

// SAFETY: the pointer is to memory that only this handle's owner uses, from whichever thread.
unsafe impl Send for Block {}
// SAFETY: as above; through a shared handle the memory is only read, by the card.
unsafe impl Sync for Block {}

/// All memory beside a card.
#[derive(Default)]
pub(super) struct Slabs {
    slabs: Vec<Slab>,
    /// Blocks given back, by their words.
    free: HashMap<usize, VecDeque<Block>>,
    /// Words of the last slab that are taken.
    taken: usize,
}

/// Locked memory, and its words.
struct Slab(*mut c_void, usize);

// SAFETY: a slab is given back once, by whoever owns the list.
unsafe impl Send for Slab {}

/// Pieces of the card's memory that were taken ahead of their use.
#[derive(Default)]
pub(super) struct Fetched {
    bytes: usize,
    /// Given back: from when on the card has done with them, in order.
    returned: VecDeque<(CudaEvent, usize)>,
}

impl fmt::Debug for Pinned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pinned({} words)", self.words)
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        let Some(mut block) = self.block.take() else {
            return;
        };
        // it is read after it was written
        let read = self.read.get_mut().unwrap_or_else(PoisonError::into_inner);
        block.used = read.take().or(self.written.take()).or(block.used);
        let mut slabs = self.card.slabs();
        slabs.free.entry(self.words).or_default().push_back(block);
    }
}

impl Pinned {
    /// Words from this machine's memory.
    pub(super) fn of(card: &Arc<Card>, words: &[u32]) -> Self {
        let place = || {
            let mut block = card.take_block(words.len(), SPARE)?;
            if let Some(used) = block.used.take() {
                used.synchronize()?;
            }
            // SAFETY: a block of so many words that nobody else uses, now or later.
            unsafe { std::ptr::copy_nonoverlapping(words.as_ptr(), block.at, words.len()) };
            Ok(block)
        };
        let block = card.attempt(|| beside(words.len()), place);
        Self::new(card, words.len(), block, None)
    }

    /// Words from the card's memory, behind everything launched so far.
    pub(super) fn from_card(card: &Arc<Card>, at: Option<sys::CUdeviceptr>, words: usize) -> Self {
        let place = |at| {
            // the card waits by itself
            let mut block = card.take_block(words, 0)?;
            if let Some(used) = block.used.take() {
                card.stream.wait(&used)?;
            }
            // SAFETY: a block of so many words that nobody reads before the event; the card's memory has as many.
            unsafe {
                let to = std::slice::from_raw_parts_mut(block.at, words);
                result::memcpy_dtoh_async(to, at, card.stream.cu_stream())?;
            }
            Ok((block, Arc::new(card.stream.record_event(None)?)))
        };
        let placed = at.and_then(|at| card.attempt(|| beside(words), || place(at)));
        let (block, written) = placed.unzip();
        Self::new(card, words, block, written)
    }

    fn new(
        card: &Arc<Card>,
        words: usize,
        block: Option<Block>,
        written: Option<Arc<CudaEvent>>,
    ) -> Self {
        Self {
            card: card.clone(),
            words,
            block,
            written,
            read: Mutex::new(None),
        }
    }

    pub(super) fn words(&self) -> usize {
        self.words
    }

    /// Copies the words to the card's memory, behind everything launched so far.
    pub(super) fn copy_to(mut self, at: sys::CUdeviceptr) {
        let Some(block) = &self.block else { return };
        let (card, words) = (&self.card, self.words);
        let copy = || {
            // SAFETY: as many words as the block has, which nobody writes to before the event; the caller's memory has room for them.
            unsafe {
                let from = std::slice::from_raw_parts(block.at, words);
                result::memcpy_htod_async(at, from, card.stream.cu_stream())?;
            }
            card.stream.record_event(None).map(Arc::new)
        };
        // that it was read there is what whoever has the block next waits for
        self.written = card.attempt(|| "copying to the card".into(), copy);
    }

    /// Copies in the card's memory, one after the other, for what is launched from now on. Nothing if the card has failed.
    pub(super) fn fetch(card: &Card, all: &[&Self]) -> Option<sys::CUdeviceptr> {
        let words: usize = all.iter().map(|one| one.words).sum();
        let bytes = words * size_of::<u32>();
        let what = || format!("{bytes} bytes of the card's memory, to copy what lies beside it");
        card.attempt(what, || {
            // one at a time: what is there is counted, and who fetches the same words again is known to come later
            let _turn = card.turn.lock().unwrap_or_else(PoisonError::into_inner);
            card.wait_for_room(bytes)?;
            let copies = &card.copies;
            for written in all.iter().filter_map(|one| one.written.as_ref()) {
                copies.wait(written)?;
            }
            let at = card.take(copies, bytes)?;
            let mut to = at;
            for (from, words) in runs(all) {
                // SAFETY: memory for as many words as all blocks have, and blocks of as many, side by side, which nobody writes to while
                // their handles live, nor after that before the event below.
                unsafe {
                    let from = std::slice::from_raw_parts(from, words);
                    result::memcpy_htod_async(to, from, copies.cu_stream())?;
                }
                to += (words * size_of::<u32>()) as u64;
            }
            let done = Arc::new(copies.record_event(None)?);
            card.stream.wait(&done)?;
            card.fetched().bytes += bytes;
            for one in all {
                let mut read = one.read.lock().unwrap_or_else(PoisonError::into_inner);
                *read = Some(done.clone());
            }
            Ok(at)
        })
    }
}

/// Where words begin that lie side by side in one slab, and how many there are: a matrix's blocks were taken one after the other.
fn runs(all: &[&Pinned]) -> Vec<(*const u32, usize)> {
    let mut runs: Vec<(*const u32, usize)> = Vec::new();
    let mut slab = None;
    for one in all {
        let Some(block) = &one.block else { continue };
        let same = slab.replace(block.slab) == Some(block.slab);
        match runs.last_mut() {
            Some((at, words)) if same && at.wrapping_add(*words) == block.at.cast_const() => {
                *words += one.words;
            }
            _ => runs.push((block.at.cast_const(), one.words)),
        }
    }
    runs
}

/// What fails where memory beside a card is taken.
fn beside(words: usize) -> String {
    let bytes = words * size_of::<u32>();
    format!(
        "{bytes} bytes of this machine's memory, locked for the card; compile with a smaller --context, or with --memory"
    )
}

impl Card {
    fn slabs(&self) -> std::sync::MutexGuard<'_, Slabs> {
        self.slabs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fetched(&self) -> std::sync::MutexGuard<'_, Fetched> {
        self.fetched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Memory of the card in a stream's order. Where there is none, what others gave back may not have come that far: it is waited for.
    pub(super) fn take(&self, stream: &CudaStream, bytes: usize) -> Done<sys::CUdeviceptr> {
        // SAFETY: nothing reads it before something has written it.
        let take = || unsafe { result::malloc_async(stream.cu_stream(), bytes) };
        match take() {
            Err(result::DriverError(sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY)) => {
                self.stream.synchronize()?;
                self.copies.synchronize()?;
                take()
            }
            taken => taken,
        }
    }

    /// A block of so many words: the one given back first, or of the last slab, or of a new one. One that is still in use is not taken
    /// while there are fewer than `spare`.
    fn take_block(&self, words: usize, spare: usize) -> Done<Block> {
        // no block is nowhere
        let words = words.max(1);
        let mut slabs = self.slabs();
        let free = slabs.free.entry(words).or_default();
        let used = free.front().and_then(|block| block.used.as_ref());
        let ready = used.is_none_or(|used| used.is_complete()) || free.len() >= spare;
        if ready && let Some(block) = free.pop_front() {
            return Ok(block);
        }
        let left = slabs.slabs.last().map_or(0, |slab| slab.1 - slabs.taken);
        if left < words {
            let size = SLAB.max(words);
            // SAFETY: given back when the card is, and not before.
            let slab = unsafe { result::malloc_host(size * size_of::<u32>(), 0) }?;
            slabs.slabs.push(Slab(slab, size));
            slabs.taken = 0;
        }
        let base = slabs
            .slabs
            .last()
            .map_or(std::ptr::null_mut(), |slab| slab.0);
        // SAFETY: so many words of the slab are taken, and at least `words` are left.
        let at = unsafe { base.cast::<u32>().add(slabs.taken) };
        slabs.taken += words;
        Ok(Block {
            at,
            slab: slabs.slabs.len() - 1,
            used: None,
        })
    }

    /// Waits until what was fetched and is still there leaves room for more; what callers hold is not waited for.
    fn wait_for_room(&self, bytes: usize) -> Done<()> {
        loop {
            let mut fetched = self.fetched();
            let full = fetched.bytes + bytes > AHEAD;
            match fetched.returned.pop_front() {
                Some((done, size)) if full || done.is_complete() => {
                    fetched.bytes -= size;
                    drop(fetched);
                    done.synchronize()?;
                }
                Some(earliest) => {
                    fetched.returned.push_front(earliest);
                    return Ok(());
                }
                None => return Ok(()),
            }
        }
    }

    /// A piece that was fetched is given back, behind everything launched so far.
    pub(super) fn given_back(&self, bytes: usize) {
        let record = || self.stream.record_event(None);
        if let Some(done) = self.attempt(|| "giving memory back".into(), record) {
            self.fetched().returned.push_back((done, bytes));
        }
    }
}

impl Drop for Card {
    fn drop(&mut self) {
        // a card that fails here is gone, and the memory with the process
        let idle = self.copies.synchronize().and(self.stream.synchronize());
        if idle.is_ok() {
            let slabs = self.slabs.get_mut();
            for slab in slabs
                .unwrap_or_else(PoisonError::into_inner)
                .slabs
                .drain(..)
            {
                // SAFETY: taken by `malloc_host`, given back once; no copy is under way, and no handle is left: each holds the card.
                let _gone = unsafe { result::free_host(slab.0) };
            }
        }
    }
}
