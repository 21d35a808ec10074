//! An NVIDIA card: its memory, one stream for kernels and one for copies, and kernels compiled for it.
//!
//! The driver's library is looked for when a card is asked for; building and everything else needs none.

mod pinned;

pub use pinned::Pinned;

use crate::device::{Device, Kernel, Source};
use crate::nvrtc;
use cudarc::driver::{CudaContext, CudaEvent, CudaStream, result, sys};
use pinned::{Fetched, Slabs};
use sotto_ckks::CkksError;
use std::collections::HashMap;
use std::ffi::{CString, c_void};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

/// Words up to which an upload goes by way of locked memory, so that nobody waits for it: those of inputs and of vectors.
const PASSING: usize = 1 << 21;
/// Least major compute capability.
const OLDEST: i32 = 8;

/// A card of this machine.
#[derive(Clone)]
pub struct Cuda {
    card: Arc<Card>,
}

struct Card {
    context: Arc<CudaContext>,
    stream: Arc<CudaStream>,
    /// What is fetched from beside the card comes on this one, ahead of its use.
    copies: Arc<CudaStream>,
    slabs: Mutex<Slabs>,
    fetched: Mutex<Fetched>,
    /// Held while something is fetched.
    turn: Mutex<()>,
    name: String,
    functions: HashMap<Kernel, Function>,
    failure: Mutex<Option<String>>,
}

/// A kernel's handle. Its module is never unloaded.
struct Function(sys::CUfunction);

// SAFETY: handles of the driver may be used from any thread on which their context is current, which every use here sees to.
unsafe impl Send for Function {}
// SAFETY: as above.
unsafe impl Sync for Function {}

impl fmt::Debug for Cuda {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cuda({})", self.card.name)
    }
}

impl Cuda {
    /// The card with this number, as the driver counts. Its kernels are compiled, or found compiled on disk.
    ///
    /// # Errors
    /// If there is no driver, no such card, or no compiler, or the kernels do not compile.
    pub fn open(number: usize) -> Result<Self, CkksError> {
        Self::find(number).map_err(|why| CkksError::Device {
            device: format!("NVIDIA card {number}"),
            why: format!("{why}; use --backend cpu"),
        })
    }

    fn find(number: usize) -> Result<Self, String> {
        // SAFETY: looks for a library by its names, and loads it as any use would.
        if !unsafe { sys::is_culib_present() } {
            return Err("there is no NVIDIA driver on this machine (libcuda was not found)".into());
        }
        let failed = |e: result::DriverError| e.to_string();
        let count = CudaContext::device_count().map_err(failed)?;
        if number >= usize::try_from(count).unwrap_or(0) {
            return Err(format!("the driver counts {count} cards, from 0"));
        }
        let context = CudaContext::new(number).map_err(failed)?;
        if !context.has_async_alloc() {
            return Err(
                "card or driver is too old: memory cannot be taken in a stream's order".into(),
            );
        }
        let [stream, copies] = [context.new_stream(), context.new_stream()];
        let (stream, copies) = (stream.map_err(failed)?, copies.map_err(failed)?);
        keep_memory(&context).map_err(failed)?;
        let (major, minor) = context.compute_capability().map_err(failed)?;
        if major < OLDEST {
            return Err(format!(
                "compute capability {major}.{minor}, where {OLDEST}.0 is the least"
            ));
        }
        let name = context.name().map_err(failed)?;
        let functions = load(&format!("sm_{major}{minor}"))?;
        let card = Card {
            context,
            stream,
            copies,
            slabs: Mutex::default(),
            fetched: Mutex::default(),
            turn: Mutex::default(),
            name: format!("{name} (NVIDIA card {number})"),
            functions,
            failure: Mutex::default(),
        };
        Ok(Self {
            card: Arc::new(card),
        })
    }

    /// Bytes of its memory that are free; none if the driver does not say.
    pub fn free_memory(&self) -> Option<u64> {
        let (free, _) = self.card.context.mem_get_info().ok()?;
        Some(free as u64)
    }

    /// Takes so many bytes of the card's memory from the driver now, for everything that is computed later.
    ///
    /// # Errors
    /// If there is not so much, or the card has failed before.
    pub fn reserve(&self, bytes: u64) -> Result<(), CkksError> {
        let words = usize::try_from(bytes / size_of::<u32>() as u64);
        drop(self.alloc(words.unwrap_or(usize::MAX / size_of::<u32>())));
        self.wait();
        self.check().map_err(|why| CkksError::Device {
            device: self.name(),
            why,
        })
    }
}

/// Memory given back stays with the process: a token takes the same pieces again and again. And a copy ahead of its use takes other memory
/// rather than wait for kernels to give theirs back.
fn keep_memory(context: &CudaContext) -> Result<(), result::DriverError> {
    use sys::CUmemPool_attribute::{
        CU_MEMPOOL_ATTR_RELEASE_THRESHOLD, CU_MEMPOOL_ATTR_REUSE_ALLOW_INTERNAL_DEPENDENCIES,
    };
    let mut pool = std::ptr::null_mut();
    let (mut all, mut never) = (u64::MAX, 0i32);
    // SAFETY: the pool's handle is written; the attributes are a 64-bit number and an integer.
    unsafe {
        sys::cuDeviceGetDefaultMemPool(&mut pool, context.cu_device()).result()?;
        let all = (&raw mut all).cast();
        sys::cuMemPoolSetAttribute(pool, CU_MEMPOOL_ATTR_RELEASE_THRESHOLD, all).result()?;
        let waiting = CU_MEMPOOL_ATTR_REUSE_ALLOW_INTERNAL_DEPENDENCIES;
        sys::cuMemPoolSetAttribute(pool, waiting, (&raw mut never).cast()).result()
    }
}

fn load(arch: &str) -> Result<HashMap<Kernel, Function>, String> {
    let mut functions = HashMap::new();
    for &source in Source::ALL {
        let cubin = nvrtc::cached(source, arch)?;
        let failed = |e| format!("{} for {arch}: {e}", source.name());
        // SAFETY: machine code as the compiler wrote it, by its digest; the context is current on this thread since it was made.
        let module = unsafe { result::module::load_data(cubin.as_ptr().cast()) };
        let module = module.map_err(failed)?;
        for &kernel in Kernel::ALL.iter().filter(|k| k.source() == source) {
            let name = CString::new(kernel.name()).map_err(|e| e.to_string())?;
            // SAFETY: a module just loaded, never unloaded.
            let function = unsafe { result::module::get_function(module, name) };
            functions.insert(kernel, Function(function.map_err(failed)?));
        }
    }
    Ok(functions)
}

impl Card {
    /// Does something on the card, unless something has failed before. What fails is kept.
    fn attempt<T>(
        &self,
        what: impl FnOnce() -> String,
        act: impl FnOnce() -> Result<T, result::DriverError>,
    ) -> Option<T> {
        let failure = || self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        // not held while it acts: others give memory back meanwhile
        if failure().is_some() {
            return None;
        }
        match self.context.bind_to_thread().and_then(|()| act()) {
            Ok(value) => Some(value),
            Err(error) => {
                failure().get_or_insert_with(|| format!("{}: {error}", what()));
                None
            }
        }
    }
}

/// A piece of a card's memory; nowhere if the card has failed.
pub struct Piece {
    card: Arc<Card>,
    at: Option<sys::CUdeviceptr>,
    words: usize,
    /// Whether it was taken for a copy ahead of its use, of which only so many are allowed.
    fetched: bool,
}

impl fmt::Debug for Piece {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Piece({} words)", self.words)
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        if let Some(at) = self.at {
            let stream = self.card.stream.cu_stream();
            self.card.attempt(
                || "giving memory back".into(),
                // SAFETY: taken by `alloc`, given back once, behind everything launched that uses it.
                || unsafe { result::free_async(at, stream) },
            );
            if self.fetched {
                self.card.given_back(self.words * size_of::<u32>());
            }
        }
    }
}

/// A moment of a card's stream; none if the card has failed.
#[derive(Debug)]
pub struct Moment(Option<CudaEvent>);

impl Device for Cuda {
    type Memory = Piece;
    type Beside = Pinned;
    type Mark = Moment;

    fn name(&self) -> String {
        self.card.name.clone()
    }

    fn check(&self) -> Result<(), String> {
        let failure = self
            .card
            .failure
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        failure.clone().map_or(Ok(()), Err)
    }

    fn alloc(&self, words: usize) -> Piece {
        let bytes = words.max(1) * size_of::<u32>();
        let at = self.card.attempt(
            || format!("{bytes} bytes of the card's memory; compile with a smaller --context, or with --memory"),
            || self.card.take(&self.card.stream, bytes),
        );
        Piece {
            card: self.card.clone(),
            at,
            words,
            fetched: false,
        }
    }

    fn address(&self, memory: &Piece) -> u64 {
        memory.at.unwrap_or(0)
    }

    fn write(&self, memory: &Piece, words: &[u32]) {
        assert!(words.len() <= memory.words, "more words than room");
        let Some(at) = memory.at else { return };
        if words.len() <= PASSING {
            return Pinned::of(&self.card, words).copy_to(at);
        }
        let stream = &self.card.stream;
        self.card.attempt(
            || "copying to the card".into(),
            || {
                // SAFETY: as much room as asserted, and the words are there until the copy is done.
                unsafe { result::memcpy_htod_async(at, words, stream.cu_stream()) }?;
                stream.synchronize()
            },
        );
    }

    fn wait(&self) {
        let stream = &self.card.stream;
        self.card
            .attempt(|| "what was computed".into(), || stream.synchronize());
    }

    fn mark(&self) -> Moment {
        let timed = Some(sys::CUevent_flags::CU_EVENT_DEFAULT);
        let record = || self.card.stream.record_event(timed);
        Moment(self.card.attempt(|| "taking the time".into(), record))
    }

    fn seconds(&self, from: &Moment, to: &Moment) -> Option<f64> {
        let (from, to) = (from.0.as_ref()?, to.0.as_ref()?);
        let elapsed = || from.elapsed_ms(to);
        let ms = self.card.attempt(|| "what was computed".into(), elapsed)?;
        Some(f64::from(ms) / 1e3)
    }

    fn read(&self, memory: &Piece, words: &mut [u32]) {
        assert!(words.len() <= memory.words, "more words than there are");
        let Some(at) = memory.at else { return };
        let stream = &self.card.stream;
        self.card.attempt(
            || "what was computed".into(),
            || {
                // SAFETY: as many words as asserted, and they are there once the stream has come so far.
                unsafe { result::memcpy_dtoh_async(words, at, stream.cu_stream()) }?;
                stream.synchronize()
            },
        );
    }

    fn set_beside(&self, words: &[u32]) -> Pinned {
        Pinned::of(&self.card, words)
    }

    fn put_beside(&self, memory: &Piece, words: usize) -> Pinned {
        assert!(words <= memory.words, "more words than there are");
        Pinned::from_card(&self.card, memory.at, words)
    }

    fn fetch(&self, beside: &[&Pinned]) -> Piece {
        Piece {
            at: Pinned::fetch(&self.card, beside),
            card: self.card.clone(),
            words: beside.iter().map(|one| one.words()).sum(),
            fetched: true,
        }
    }

    unsafe fn launch(&self, kernel: Kernel, grid: [u32; 3], threads: u32, args: &[u8]) {
        let Some(function) = self.card.functions.get(&kernel) else {
            unreachable!("every kernel is loaded when a card is opened");
        };
        let mut params = [args.as_ptr().cast_mut().cast::<c_void>()];
        let [x, y, z] = grid;
        let stream = self.card.stream.cu_stream();
        self.card.attempt(
            || format!("kernel {}", kernel.name()),
            // SAFETY: as the caller says; the driver copies the structure before it returns.
            || unsafe {
                let blocks = (x, y, z);
                result::launch_kernel(function.0, blocks, (threads, 1, 1), 0, stream, &mut params)
            },
        );
    }
}
