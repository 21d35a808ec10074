//! The kernels of sotto-gpu as functions of the processor: the same text, launched by the same code.
//!
//! [`Host`] is a [`Device`] for tests: blocks run one after the other, in the order of the grid, and so do the threads of every phase.
//! It is slow and right. Threads of a phase run forwards in one block and backwards in the next, so that a phase that reads what another
//! of its threads writes shows as a difference from sotto-ckks; on a GPU the race checker looks for it.
//!
//! [`Counting`] is one that computes nothing and counts, and [`Roofline`] makes least times of counts.

mod any;
mod counting;
mod roofline;

pub use any::Any;
pub use counting::Counting;
pub use roofline::Roofline;

use sotto_gpu::{Device, Kernel};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// The processor in place of a GPU.
#[derive(Clone, Debug, Default)]
pub struct Host;

/// Words on lines of eight bytes, which kernels change behind the back of this handle.
#[derive(Debug)]
pub struct Memory {
    words: *mut u64,
    len: usize,
}

// SAFETY: the pointer is to memory that this handle owns; kernels reach it one after the other, under a lock. Copies while a kernel runs
// elsewhere on the same memory would race: an engine makes none, since its operations return when they are done.
unsafe impl Send for Memory {}
// SAFETY: as above.
unsafe impl Sync for Memory {}

impl Drop for Memory {
    fn drop(&mut self) {
        let slice = std::ptr::slice_from_raw_parts_mut(self.words, self.len);
        // SAFETY: made by `alloc` from a box of this length, and dropped once.
        drop(unsafe { Box::from_raw(slice) });
    }
}

impl Device for Host {
    type Memory = Memory;
    type Beside = Vec<u32>;
    type Mark = Instant;

    fn name(&self) -> String {
        "the processor in place of a GPU".into()
    }

    fn check(&self) -> Result<(), String> {
        Ok(())
    }

    fn alloc(&self, words: usize) -> Memory {
        // what kernels do not write must not look like anything
        let junk = vec![0xdead_beef_dead_beef_u64; words.div_ceil(2)].into_boxed_slice();
        Memory {
            len: junk.len(),
            words: Box::into_raw(junk).cast(),
        }
    }

    fn address(&self, memory: &Memory) -> u64 {
        memory.words as u64
    }

    fn write(&self, memory: &Memory, words: &[u32]) {
        assert!(words.len() <= 2 * memory.len, "more words than room");
        // SAFETY: as many words as asserted, and `words` lies elsewhere.
        unsafe {
            std::ptr::copy_nonoverlapping(words.as_ptr(), memory.words.cast(), words.len());
        }
    }

    fn wait(&self) {}

    fn mark(&self) -> Instant {
        Instant::now()
    }

    fn seconds(&self, from: &Instant, to: &Instant) -> Option<f64> {
        Some(to.duration_since(*from).as_secs_f64())
    }

    fn read(&self, memory: &Memory, words: &mut [u32]) {
        assert!(words.len() <= 2 * memory.len, "more words than there are");
        // SAFETY: as many words as asserted, and `words` lies elsewhere.
        unsafe {
            std::ptr::copy_nonoverlapping(memory.words.cast(), words.as_mut_ptr(), words.len());
        }
    }

    fn set_beside(&self, words: &[u32]) -> Vec<u32> {
        words.to_vec()
    }

    fn put_beside(&self, memory: &Memory, words: usize) -> Vec<u32> {
        let mut copy = vec![0; words];
        self.read(memory, &mut copy);
        copy
    }

    fn fetch(&self, beside: &[&Vec<u32>]) -> Memory {
        let words: Vec<u32> = beside
            .iter()
            .flat_map(|words| words.iter().copied())
            .collect();
        let memory = self.alloc(words.len());
        self.write(&memory, &words);
        memory
    }

    unsafe fn launch(&self, kernel: Kernel, grid: [u32; 3], threads: u32, args: &[u8]) {
        let _one_at_a_time = LAUNCH.lock().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: as the caller says: the kernel's own structure, and addresses of memory that is held.
        let fits =
            unsafe { function(kernel)(args.as_ptr(), args.len() as u64, grid.as_ptr(), threads) };
        let (name, given) = (kernel.name(), args.len());
        assert!(
            fits,
            "{name}: its structure in C++ has not the {given} bytes of Rust's"
        );
    }
}

type Function = unsafe extern "C" fn(*const u8, u64, *const u32, u32) -> bool;

/// Kernels run in one order, as a stream's do.
static LAUNCH: Mutex<()> = Mutex::new(());

macro_rules! functions {
    ($($variant:ident = $name:ident,)*) => {
        unsafe extern "C" {
            $(fn $name(args: *const u8, size: u64, grid: *const u32, threads: u32) -> bool;)*
        }

        fn function(kernel: Kernel) -> Function {
            match kernel {
                $(Kernel::$variant => $name,)*
            }
        }
    };
}

functions! {
    ForwardColumns = ntt_forward_columns,
    ExpandColumns = ntt_expand_columns,
    ForwardRows = ntt_forward_rows,
    ForwardRowsDivide = ntt_forward_rows_divide,
    InverseRows = ntt_inverse_rows,
    InverseColumns = ntt_inverse_columns,
    Add = map_add,
    Sub = map_sub,
    Negate = map_negate,
    Mul = map_mul,
    MulAdd = map_mul_add,
    Scale = map_scale,
    ScaleAdd = map_scale_add,
    AddConstant = map_add_constant,
    Copy = map_copy,
    Products = products,
    Combine = combine,
    Convert = convert,
    KeyProduct = key_product,
    DiagonalSum = diagonal_sum,
    RotatedSum = rotated_sum,
    MultiplyChain = multiply_chain,
}
