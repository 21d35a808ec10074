//! What an engine on a device hands out.

use crate::args::MOST_LIMBS;
use crate::device::Device;
use sotto_ckks::engine::Primes;
use std::fmt;
use std::sync::Arc;

/// A transformed polynomial in a device's memory, limb after limb. Copies share it until one is written to.
pub struct GpuPoly<D: Device> {
    pub(crate) memory: Arc<D::Memory>,
    pub(crate) primes: Primes,
}

impl<D: Device> Clone for GpuPoly<D> {
    fn clone(&self) -> Self {
        Self {
            memory: self.memory.clone(),
            primes: self.primes.clone(),
        }
    }
}

impl<D: Device> fmt::Debug for GpuPoly<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GpuPoly({} limbs)", self.primes.len())
    }
}

impl<D: Device> GpuPoly<D> {
    pub(crate) fn new(memory: D::Memory, primes: &Primes) -> Self {
        assert!(primes.len() <= MOST_LIMBS, "more primes than kernels take");
        Self {
            memory: Arc::new(memory),
            primes: primes.clone(),
        }
    }

    /// The position of a prime's limb.
    pub(crate) fn limb_of(&self, prime: u16) -> Option<usize> {
        self.primes.iter().position(|&p| p == prime)
    }
}

/// A polynomial's digits, transformed.
pub struct GpuDigits<D: Device> {
    /// The polynomial's primes, then the special primes.
    pub(crate) primes: Primes,
    pub(crate) digits: Vec<Digit<D>>,
}

pub(crate) struct Digit<D: Device> {
    /// Number of the digit in the parameter set.
    pub index: usize,
    /// The digit modulo every prime but its own, where it equals the polynomial.
    pub rest: GpuPoly<D>,
}

/// A polynomial beside a device.
pub struct GpuBeside<D: Device> {
    pub(crate) words: Arc<D::Beside>,
    pub(crate) primes: Primes,
}

impl<D: Device> Clone for GpuBeside<D> {
    fn clone(&self) -> Self {
        Self {
            words: self.words.clone(),
            primes: self.primes.clone(),
        }
    }
}

impl<D: Device> fmt::Debug for GpuBeside<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GpuBeside({} limbs)", self.primes.len())
    }
}

/// A plaintext modulo QP.
pub struct GpuDiagonal<D: Device>(pub(crate) Diagonal<D>);

/// How a plaintext lies there.
pub(crate) enum Diagonal<D: Device> {
    /// Its limbs, transformed and in Montgomery form.
    Ready {
        memory: D::Memory,
        words: usize,
        /// Each word stands for a run of 2^this.
        run: u32,
    },
    /// Its coefficients in X^(2^gap), two words each, the low one first.
    Compact {
        memory: D::Memory,
        words: usize,
        gap: u32,
    },
    /// The same, beside the device.
    Beside { words: D::Beside, gap: u32 },
}
