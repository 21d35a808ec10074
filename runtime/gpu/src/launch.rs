//! Launches: transforms, conversions and maps over limbs, with what they are given filled in.

use crate::args::{self, MOST_LIMBS, MOST_POLYS, MOST_TERMS, NONE};
use crate::device::{Device, Kernel, THREADS};
use crate::engine::Gpu;
use crate::poly::GpuPoly;
use crate::work::Task;
use bytemuck::{Pod, Zeroable, bytes_of};
use sotto_ckks::engine::{Modulus, Primes};

/// A limb that a transform takes: where it lies, its prime, and what it is multiplied with, in Montgomery form.
pub(crate) struct Pick {
    pub limb: usize,
    pub prime: u16,
    pub factor: u32,
}

/// Words that a block of transforms works on.
const TILE_LOG: u32 = 12;
/// log2 of a row's words.
pub(crate) const ROW_LOG: u32 = 8;

impl<D: Device> Gpu<D> {
    /// Launches a kernel with its own structure, whose addresses are of memory that the caller holds.
    pub(crate) fn launch<A: Pod + Task>(&self, kernel: Kernel, grid: [u32; 3], args: &A) {
        assert_eq!(size_of::<A>(), kernel.args(), "{}", kernel.name());
        if grid.contains(&0) {
            return;
        }
        self.listener().around(
            self.device(),
            || (kernel, args.work(kernel, grid)),
            || {
                // SAFETY: the kernel's structure by its size; its lists of limbs are those that polynomials have, and their memory is held
                // by the caller, or given back behind this launch.
                unsafe { self.device().launch(kernel, grid, THREADS, bytes_of(args)) };
            },
        );
    }

    /// The grid of a kernel that takes every word of `limbs` limbs.
    pub(crate) fn each_word(&self, limbs: usize) -> [u32; 3] {
        let threads = THREADS.trailing_zeros();
        [1 << self.log_n().saturating_sub(threads), limbs as u32, 1]
    }

    pub(crate) fn address(&self, memory: &D::Memory) -> u64 {
        self.device().address(memory)
    }

    /// Where a limb of a polynomial's memory begins.
    pub(crate) fn limb_address(&self, memory: &D::Memory, limb: usize) -> u64 {
        self.address(memory) + ((limb as u64) << (self.log_n() + 2))
    }

    pub(crate) fn modulus(&self, prime: u16) -> Modulus {
        self.resident().moduli[usize::from(prime)]
    }

    pub(crate) fn alloc_limbs(&self, limbs: usize) -> D::Memory {
        self.device().alloc(limbs << self.log_n())
    }

    /// Coefficients of some limbs of transformed polynomials, times N and each limb's factor, in the order of `picks`.
    pub(crate) fn coefficients<const K: usize>(
        &self,
        polys: [&D::Memory; K],
        picks: &[Pick],
    ) -> [D::Memory; K] {
        let to = polys.map(|_| self.alloc_limbs(picks.len()));
        let mut args = self.transform(picks.iter().map(|p| p.prime), true);
        for (i, pick) in picks.iter().enumerate() {
            args.from_limb[i] = pick.limb as u8;
            args.factor[i] = pick.factor;
        }
        for (k, (from, to)) in polys.iter().zip(&to).enumerate() {
            args.from[k] = self.address(from);
            args.to[k] = self.address(to);
        }
        self.launch(Kernel::InverseRows, self.rows(picks.len(), K), &args);
        self.launch(Kernel::InverseColumns, self.columns(picks.len(), K), &args);
        to
    }

    /// Transforms coefficients with these primes, in place but for the division by N, which conversions have seen to.
    pub(crate) fn forward(&self, memory: &D::Memory, primes: &[u16]) {
        let mut args = self.transform(primes.iter().copied(), false);
        args.from[0] = self.address(memory);
        args.to = args.from;
        let limbs = primes.len();
        self.launch(Kernel::ForwardColumns, self.columns(limbs, 1), &args);
        self.launch(Kernel::ForwardRows, self.rows(limbs, 1), &args);
    }

    /// Transforms integer polynomials in X^(2^gap), up to [`MOST_POLYS`] of them: from the addresses of their coefficients, 64 bits each,
    /// to those of their limbs, in Montgomery form.
    pub(crate) fn expand(&self, gap: u32, polys: &[[u64; 2]], primes: &[u16]) {
        let mut args = self.transform(primes.iter().copied(), false);
        args.gap = gap;
        for (i, &prime) in primes.iter().enumerate() {
            let m = self.modulus(prime);
            (args.factor[i], args.inverse[i]) = (m.r2, m.to_mont(m.r2));
        }
        for (k, &[from, to]) in polys.iter().enumerate() {
            (args.from[k], args.to[k]) = (from, to);
        }
        let (limbs, count) = (primes.len(), polys.len());
        self.launch(Kernel::ExpandColumns, self.columns(limbs, count), &args);
        args.from = args.to;
        self.launch(Kernel::ForwardRows, self.rows(limbs, count), &args);
    }

    /// What transforms of limbs with these primes are given: limb by limb, no factors.
    pub(crate) fn transform(
        &self,
        primes: impl Iterator<Item = u16>,
        inverse: bool,
    ) -> args::Transform {
        let mut args = args::Transform::zeroed();
        let roots = &self.resident().roots[usize::from(inverse)];
        args.roots = self.address(&roots.columns);
        args.rows = self.address(&roots.rows);
        args.primes = self.address(&self.resident().primes);
        args.log_n = self.log_n();
        args.element = 1;
        for (i, prime) in primes.enumerate() {
            args.prime[i] = prime;
            args.from_limb[i] = i as u8;
        }
        args
    }

    /// The grid of a transform's first stages.
    pub(crate) fn columns(&self, limbs: usize, polys: usize) -> [u32; 3] {
        assert!(polys <= MOST_POLYS, "more polynomials than a launch takes");
        let bits = self.log_n() - ROW_LOG;
        let neighbours = ROW_LOG.min(TILE_LOG - bits);
        [1 << (ROW_LOG - neighbours), limbs as u32, polys as u32]
    }

    /// The grid of its last stages.
    pub(crate) fn rows(&self, limbs: usize, polys: usize) -> [u32; 3] {
        assert!(polys <= MOST_POLYS, "more polynomials than a launch takes");
        let blocks = self.log_n() - self.log_n().min(TILE_LOG);
        [1 << blocks, limbs as u32, polys as u32]
    }

    /// Converts digits (see [`Gpu::coefficients`]) from some primes to others: coefficients.
    pub(crate) fn convert(&self, from: u64, sources: &[u16], to: &Primes) -> D::Memory {
        assert!(
            sources.len() < MOST_TERMS,
            "a conversion's sources, and how often the modulus is taken off"
        );
        let table = self
            .resident()
            .conversion(self.device(), self.context_of(), sources, to);
        let out = self.alloc_limbs(to.len());
        let mut args = args::Conversion::zeroed();
        args.from = from;
        args.to = self.address(&out);
        args.reciprocals = self.address(&table.reciprocals);
        args.constants = self.address(&table.constants);
        args.primes = self.address(&self.resident().primes);
        args.log_n = self.log_n();
        args.sources = sources.len() as u32;
        args.targets = to.len() as u32;
        args.prime[..to.len()].copy_from_slice(to);
        let [x, ..] = self.each_word(1);
        let groups = to.len().div_ceil(TARGETS) as u32;
        self.launch(Kernel::Convert, [x, groups, 1], &args);
        out
    }

    /// What a map over limbs with these primes is given: operands limb by limb, no constants.
    pub(crate) fn map(&self, out: u64, primes: &[u16]) -> args::Map {
        let mut args = args::Map::zeroed();
        args.out = out;
        args.primes = self.address(&self.resident().primes);
        args.log_n = self.log_n();
        args.prime[..primes.len()].copy_from_slice(primes);
        for i in 0..MOST_LIMBS {
            (args.a_limb[i], args.b_limb[i]) = (i as u8, i as u8);
        }
        args
    }

    /// A new polynomial, by a map of one or two: of limbs of the same primes.
    pub(crate) fn mapped(
        &self,
        kernel: Kernel,
        primes: &Primes,
        a: &GpuPoly<D>,
        b: Option<&GpuPoly<D>>,
    ) -> GpuPoly<D> {
        let out = self.alloc_limbs(primes.len());
        let mut args = self.map(self.address(&out), primes);
        args.a = self.address(&a.memory);
        args.a_limb = limbs_in(a, primes);
        if let Some(b) = b {
            args.b = self.address(&b.memory);
            args.b_limb = limbs_in(b, primes);
        }
        self.launch(kernel, self.each_word(primes.len()), &args);
        GpuPoly::new(out, primes)
    }
}

/// Targets that one block of a conversion writes.
pub(crate) const TARGETS: usize = 8;

/// The limbs of a polynomial for each of some primes, [`NONE`] where it has none.
pub(crate) fn limbs_of<D: Device>(poly: &GpuPoly<D>, primes: &[u16]) -> [u8; MOST_LIMBS] {
    let mut limbs = [NONE; MOST_LIMBS];
    for (limb, &prime) in limbs.iter_mut().zip(primes) {
        *limb = poly.limb_of(prime).map_or(NONE, |at| at as u8);
    }
    limbs
}

/// The limbs of a polynomial for each of some primes, all of which it has.
///
/// # Panics
/// If it lacks one: a broken invariant of the caller, which would read other memory.
pub(crate) fn limbs_in<D: Device>(poly: &GpuPoly<D>, primes: &[u16]) -> [u8; MOST_LIMBS] {
    let limbs = limbs_of(poly, primes);
    let missing = limbs.iter().zip(primes).find(|(limb, _)| **limb == NONE);
    assert!(missing.is_none(), "a polynomial without prime {missing:?}");
    limbs
}
