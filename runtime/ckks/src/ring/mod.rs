//! The ring R_Q = Z_Q[X]/(X^N + 1) in residue form: nothing outside this module knows how a residue is stored or reduced.
//!
//! Residues are words in `[0, p)`. A polynomial is a row of limbs, one per prime, each N words on 64-byte lines; in transformed (NTT)
//! form a limb holds values at the odd powers of a root of unity, in bit-reversed order.

mod buffer;
pub(crate) mod convert;
mod divide;
pub(crate) mod kernels;
pub(crate) mod lanes;
mod modulus;
pub(crate) mod permute;
mod poly;
#[cfg(target_arch = "x86_64")]
pub(crate) mod simd;
pub(crate) mod sums;
mod tables;

pub(crate) use buffer::Buffer;
pub use divide::Division;
pub use modulus::Modulus;
pub(crate) use poly::primes;
pub use poly::{Form, RnsPoly};
pub use tables::Primes;
pub(crate) use tables::Ring;
