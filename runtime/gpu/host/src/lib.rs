//! The kernels of sotto-gpu as functions of the processor: the same text, launched by the same code.
//!
//! [`Host`] is a [`Device`] for tests: blocks run one after the other, in the order of the grid, and so do the threads of every phase.
//! It is slow and right. A phase that reads what another thread of the same phase writes would show as a difference from
//! sotto-ckks only by chance: kernels must not, and on a GPU the race checker looks for it.

mod any;

pub use any::Any;

use sotto_gpu::{Device, Kernel};

/// The processor in place of a GPU.
#[derive(Clone, Debug, Default)]
pub struct Host;

/// Words on lines of eight bytes, which kernels change behind the back of this handle.
#[derive(Debug)]
pub struct Memory {
    words: *mut u64,
    len: usize,
}

// SAFETY: the pointer is to memory that this handle owns. Kernels and copies reach it one after the other, as a stream's do: tests
// launch from one thread.
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

    fn read(&self, memory: &Memory, words: &mut [u32]) {
        assert!(words.len() <= 2 * memory.len, "more words than there are");
        // SAFETY: as many words as asserted, and `words` lies elsewhere.
        unsafe {
            std::ptr::copy_nonoverlapping(memory.words.cast(), words.as_mut_ptr(), words.len());
        }
    }

    fn launch(&self, kernel: Kernel, grid: [u32; 3], threads: u32, args: &[u8]) {
        // SAFETY: the engine gives every kernel its own structure, and addresses of memory that is still held.
        unsafe { function(kernel)(args.as_ptr(), grid.as_ptr(), threads) };
    }
}

type Function = unsafe extern "C" fn(*const u8, *const u32, u32);

macro_rules! functions {
    ($($variant:ident = $name:ident,)*) => {
        unsafe extern "C" {
            $(fn $name(args: *const u8, grid: *const u32, threads: u32);)*
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
}
