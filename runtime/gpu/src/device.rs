//! What kernels run on.

use crate::args;
use std::fmt::Debug;

/// Memory, and kernels that run in the order of their launches. Cheap to clone.
///
/// Nothing here fails by itself: a device keeps its first failure for [`Device::check`], and does no more from then on.
pub trait Device: Clone + Debug + Send + Sync + 'static {
    /// A piece of its memory, given back when dropped.
    type Memory: Debug + Send + Sync + 'static;
    /// Words in memory beside the device, from where it fetches them.
    type Beside: Debug + Send + Sync + 'static;
    /// A moment between two launches.
    type Mark: Debug + Send + 'static;

    /// What it is, in words.
    fn name(&self) -> String;

    /// Its first failure, if anything failed so far.
    ///
    /// # Errors
    /// What went wrong, and what to do.
    fn check(&self) -> Result<(), String>;

    /// Room for `words` words, with arbitrary contents.
    fn alloc(&self, words: usize) -> Self::Memory;

    /// Where it begins.
    fn address(&self, memory: &Self::Memory) -> u64;

    /// Fills memory from its beginning.
    fn write(&self, memory: &Self::Memory, words: &[u32]);

    /// Waits for everything launched so far.
    fn wait(&self);

    /// The moment when everything launched so far is done.
    fn mark(&self) -> Self::Mark;

    /// Seconds from one moment to a later one; waits for both. None if the device has failed.
    fn seconds(&self, from: &Self::Mark, to: &Self::Mark) -> Option<f64>;

    /// Waits for everything launched so far, and reads memory from its beginning.
    fn read(&self, memory: &Self::Memory, words: &mut [u32]);

    /// Puts words beside the device.
    fn set_beside(&self, words: &[u32]) -> Self::Beside;

    /// Copies the first words of memory beside the device, behind everything launched so far.
    fn put_beside(&self, memory: &Self::Memory, words: usize) -> Self::Beside;

    /// Copies words from beside the device to its memory, those of one after the other's, for what is launched from now on. What was launched
    /// before may still run.
    fn fetch(&self, beside: &[&Self::Beside]) -> Self::Memory;

    /// Runs a kernel on a grid of blocks of `threads` threads, with the bytes of its structure.
    ///
    /// # Safety
    /// The bytes are of the kernel's own structure ([`Kernel::args`] of them), and every address in it is of this device's memory, large
    /// enough, that is held until this call returns: memory is given back behind what was launched.
    unsafe fn launch(&self, kernel: Kernel, grid: [u32; 3], threads: u32, args: &[u8]);
}

/// Threads of a block.
pub(crate) const THREADS: u32 = 256;

macro_rules! kernels {
    ($($variant:ident = $name:literal($args:ident) in $source:ident,)*) => {
        /// A kernel.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Kernel {
            $(#[doc = $name] $variant,)*
        }

        impl Kernel {
            /// All of them.
            pub const ALL: &[Kernel] = &[$(Kernel::$variant,)*];

            /// Its name in the sources.
            pub fn name(self) -> &'static str {
                match self {
                    $(Kernel::$variant => $name,)*
                }
            }

            /// Bytes of the structure that it is given.
            pub fn args(self) -> usize {
                match self {
                    $(Kernel::$variant => size_of::<args::$args>(),)*
                }
            }

            /// The source that defines it.
            pub fn source(self) -> Source {
                match self {
                    $(Kernel::$variant => Source::$source,)*
                }
            }
        }
    };
}

kernels! {
    ForwardColumns = "ntt_forward_columns"(Transform) in Ntt,
    ExpandColumns = "ntt_expand_columns"(Transform) in Ntt,
    ForwardRows = "ntt_forward_rows"(Transform) in Ntt,
    ForwardRowsDivide = "ntt_forward_rows_divide"(Transform) in Ntt,
    InverseRows = "ntt_inverse_rows"(Transform) in Ntt,
    InverseColumns = "ntt_inverse_columns"(Transform) in Ntt,
    Add = "map_add"(Map) in Elementwise,
    Sub = "map_sub"(Map) in Elementwise,
    Negate = "map_negate"(Map) in Elementwise,
    Mul = "map_mul"(Map) in Elementwise,
    MulAdd = "map_mul_add"(Map) in Elementwise,
    Scale = "map_scale"(Map) in Elementwise,
    ScaleAdd = "map_scale_add"(Map) in Elementwise,
    AddConstant = "map_add_constant"(Map) in Elementwise,
    Copy = "map_copy"(Map) in Elementwise,
    Products = "products"(Products) in Elementwise,
    Combine = "combine"(Combination) in Elementwise,
    Convert = "convert"(Conversion) in KeySwitch,
    KeyProduct = "key_product"(KeyProduct) in KeySwitch,
    DiagonalSum = "diagonal_sum"(DiagonalSum) in KeySwitch,
    RotatedSum = "rotated_sum"(RotatedSum) in KeySwitch,
    MultiplyChain = "multiply_chain"(Chain) in Measure,
}

/// A source file of kernels, whole: its headers come first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Source {
    /// Transforms.
    Ntt,
    /// Operations on residues one by one.
    Elementwise,
    /// Base conversion and sums of products.
    KeySwitch,
    /// What a card can do at best.
    Measure,
}

impl Source {
    /// All of them.
    pub const ALL: &[Source] = &[
        Source::Ntt,
        Source::Elementwise,
        Source::KeySwitch,
        Source::Measure,
    ];

    /// The file's name.
    pub fn name(self) -> &'static str {
        match self {
            Source::Ntt => "ntt.cu",
            Source::Elementwise => "elementwise.cu",
            Source::KeySwitch => "keyswitch.cu",
            Source::Measure => "measure.cu",
        }
    }

    /// Its text.
    pub fn text(self) -> &'static str {
        match self {
            Source::Ntt => include_str!("../kernels/ntt.cu"),
            Source::Elementwise => include_str!("../kernels/elementwise.cu"),
            Source::KeySwitch => include_str!("../kernels/keyswitch.cu"),
            Source::Measure => include_str!("../kernels/measure.cu"),
        }
    }
}

/// The headers that sources include, by name.
pub const HEADERS: [(&str, &str); 2] = [
    ("device.h", include_str!("../kernels/device.h")),
    ("words.h", include_str!("../kernels/words.h")),
];
