//! Polynomials in residue form.

use super::buffer::Buffer;
use super::tables::{Primes, Ring};
use super::{kernels, permute};
use crate::context::Context;
use rayon::prelude::*;
use std::sync::Arc;
use zeroize::Zeroize;

/// Which values a polynomial's limbs hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Coefficients, lowest first.
    Coefficients,
    /// Values at roots of unity (NTT), bit-reversed.
    Transformed,
}

/// A polynomial modulo several primes: one limb of N residues per prime.
#[derive(Clone)]
pub struct RnsPoly {
    buffer: Buffer,
    primes: Primes,
    n: usize,
    form: Form,
}

impl std::fmt::Debug for RnsPoly {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "RnsPoly({} limbs of {}, {:?})",
            self.primes.len(),
            self.n,
            self.form
        )
    }
}

impl RnsPoly {
    /// The zero polynomial.
    pub(crate) fn zero(ring: &Ring, primes: &Primes, form: Form) -> Self {
        Self {
            buffer: Buffer::zeroed(ring.n * primes.len()),
            primes: primes.clone(),
            n: ring.n,
            form,
        }
    }

    /// A polynomial with arbitrary limbs, for callers that write every one.
    pub(crate) fn dirty(ring: &Ring, primes: &Primes, form: Form) -> Self {
        Self {
            buffer: Buffer::dirty(ring.n * primes.len()),
            primes: primes.clone(),
            n: ring.n,
            form,
        }
    }

    /// A transformed polynomial from its words, limb after limb; `words` are residues.
    ///
    /// # Panics
    /// If the number of words is not N for each prime.
    pub fn from_words(ctx: &Context, primes: &Primes, words: &[u32]) -> Self {
        let mut poly = Self::dirty(ctx.ring(), primes, Form::Transformed);
        poly.words_mut().copy_from_slice(words);
        poly
    }

    /// The primes of the limbs, in order.
    pub fn primes(&self) -> &Primes {
        &self.primes
    }

    /// What the words are.
    pub fn form(&self) -> Form {
        self.form
    }

    pub(crate) fn limb(&self, i: usize) -> &[u32] {
        &self.buffer.words()[i * self.n..(i + 1) * self.n]
    }

    pub(crate) fn limb_mut(&mut self, i: usize) -> &mut [u32] {
        &mut self.buffer.words_mut()[i * self.n..(i + 1) * self.n]
    }

    /// All words, limb after limb.
    pub fn words(&self) -> &[u32] {
        &self.buffer.words()[..self.n * self.primes.len()]
    }

    pub(crate) fn words_mut(&mut self) -> &mut [u32] {
        let len = self.n * self.primes.len();
        &mut self.buffer.words_mut()[..len]
    }

    pub(crate) fn limbs(&self) -> std::slice::ChunksExact<'_, u32> {
        self.words().chunks_exact(self.n)
    }

    pub(crate) fn limbs_mut(&mut self) -> std::slice::ChunksExactMut<'_, u32> {
        let n = self.n;
        self.words_mut().chunks_exact_mut(n)
    }

    /// The limb of a prime, if the polynomial has it.
    pub(crate) fn limb_of(&self, prime: u16) -> Option<&[u32]> {
        self.primes
            .iter()
            .position(|&p| p == prime)
            .map(|i| self.limb(i))
    }

    /// Calls `f(position, prime, limb)` on every limb, in parallel.
    pub(crate) fn par_limbs(&mut self, f: impl Fn(usize, u16, &mut [u32]) + Sync) {
        let primes = self.primes.clone();
        let n = self.n;
        self.words_mut()
            .par_chunks_exact_mut(n)
            .enumerate()
            .for_each(|(i, limb)| f(i, primes[i], limb));
    }

    /// As [`Self::par_limbs`] over several polynomials with the same primes: `f(position, prime, limbs)`.
    pub(crate) fn par_columns<'a>(
        polys: impl IntoIterator<Item = &'a mut Self>,
        f: impl Fn(usize, u16, &mut [&mut [u32]]) + Sync,
    ) {
        let mut columns: Vec<(u16, Vec<&mut [u32]>)> = Vec::new();
        for poly in polys {
            if columns.is_empty() {
                columns = poly.primes.iter().map(|&p| (p, Vec::new())).collect();
            }
            debug_assert!(columns.iter().map(|(p, _)| p).eq(poly.primes.iter()));
            let limbs = columns.iter_mut().zip(poly.limbs_mut());
            limbs.for_each(|((_, column), limb)| column.push(limb));
        }
        columns
            .par_iter_mut()
            .enumerate()
            .for_each(|(i, (prime, column))| f(i, *prime, column));
    }

    /// Room for `count` limbs of one prime, with arbitrary contents.
    pub(crate) fn room(ring: &Ring, prime: u16, count: usize) -> Self {
        Self::dirty(ring, &primes(vec![prime; count]), Form::Transformed)
    }

    /// The coefficients of a transformed polynomial modulo a subset of its primes, times N.
    ///
    /// # Panics
    /// As [`Self::restrict`].
    pub(crate) fn coefficients_times_n(&self, ring: &Ring, primes: &Primes) -> Self {
        debug_assert_eq!(self.form, Form::Transformed);
        let mut out = Self::dirty(ring, primes, Form::Coefficients);
        out.par_limbs(|_, prime, limb| {
            limb.copy_from_slice(self.known(prime));
            ring.inverse_times_n(prime, limb);
        });
        out
    }

    /// The limb of a prime that the polynomial has.
    fn known(&self, prime: u16) -> &[u32] {
        self.limb_of(prime)
            .expect("restriction to a subset of the primes")
    }

    /// The same polynomial modulo a subset of its primes.
    ///
    /// # Panics
    /// If a prime is not among the polynomial's (a broken invariant of the caller).
    pub(crate) fn restrict(&self, primes: &Primes) -> Self {
        let mut out = Self {
            buffer: Buffer::dirty(self.n * primes.len()),
            primes: primes.clone(),
            n: self.n,
            form: self.form,
        };
        for (i, &p) in primes.iter().enumerate() {
            out.limb_mut(i).copy_from_slice(self.known(p));
        }
        out
    }

    /// To transformed form.
    pub(crate) fn forward(&mut self, ring: &Ring) {
        debug_assert_eq!(self.form, Form::Coefficients);
        self.par_limbs(|_, prime, limb| ring.forward(prime, limb));
        self.form = Form::Transformed;
    }

    /// To coefficients.
    pub(crate) fn inverse(&mut self, ring: &Ring) {
        debug_assert_eq!(self.form, Form::Transformed);
        self.par_limbs(|_, prime, limb| ring.inverse(prime, limb));
        self.form = Form::Coefficients;
    }

    fn check_like(&self, other: &Self) {
        debug_assert_eq!((&self.primes, self.form), (&other.primes, other.form));
    }

    pub(crate) fn add_assign(&mut self, ring: &Ring, other: &Self) {
        self.check_like(other);
        self.par_limbs(|i, prime, limb| {
            kernels::add_assign(limb, other.limb(i), ring.modulus(prime))
        });
    }

    pub(crate) fn sub_assign(&mut self, ring: &Ring, other: &Self) {
        self.check_like(other);
        self.par_limbs(|i, prime, limb| {
            kernels::sub_assign(limb, other.limb(i), ring.modulus(prime))
        });
    }

    /// self + other.
    pub(crate) fn add(&self, ring: &Ring, other: &Self) -> Self {
        self.check_like(other);
        let mut out = Self::dirty(ring, &self.primes, self.form);
        out.par_limbs(|i, prime, limb| {
            kernels::add_to(limb, self.limb(i), other.limb(i), ring.modulus(prime))
        });
        out
    }

    /// self - other.
    pub(crate) fn sub(&self, ring: &Ring, other: &Self) -> Self {
        self.check_like(other);
        let mut out = Self::dirty(ring, &self.primes, self.form);
        out.par_limbs(|i, prime, limb| {
            kernels::sub_to(limb, self.limb(i), other.limb(i), ring.modulus(prime))
        });
        out
    }

    pub(crate) fn neg_assign(&mut self, ring: &Ring) {
        self.par_limbs(|_, prime, limb| kernels::neg_assign(limb, ring.modulus(prime)));
    }

    /// Product of transformed polynomials; `other` may have more primes.
    pub(crate) fn mul(&self, ring: &Ring, other: &Self) -> Self {
        debug_assert_eq!(
            (self.form, other.form),
            (Form::Transformed, Form::Transformed)
        );
        let mut out = Self::dirty(ring, &self.primes, self.form);
        out.par_limbs(|i, prime, limb| {
            kernels::mul_to(limb, self.limb(i), other.like(self, i), ring.modulus(prime))
        });
        out
    }

    /// self += a·b for transformed polynomials; `b` may have more primes.
    pub(crate) fn mul_add_assign(&mut self, ring: &Ring, a: &Self, b: &Self) {
        self.check_like(a);
        self.par_limbs(|i, prime, limb| {
            kernels::mul_add(limb, a.limb(i), b.like(a, i), ring.modulus(prime))
        });
    }

    /// The limb of `other`'s i-th prime: in place if the prime lists agree there, else found.
    fn like(&self, other: &Self, i: usize) -> &[u32] {
        if self.primes.get(i) == Some(&other.primes[i]) {
            self.limb(i)
        } else {
            self.limb_of(other.primes[i])
                .expect("the second operand has every prime of the first")
        }
    }

    /// The polynomial under X → X^element (transformed form).
    pub(crate) fn automorphism(&self, ring: &Ring, element: u32) -> Self {
        debug_assert_eq!(self.form, Form::Transformed);
        let table = ring.permutation(element);
        let mut out = Self::dirty(ring, &self.primes, self.form);
        out.par_limbs(|i, _, limb| permute::permute(limb, self.limb(i), &table));
        out
    }

    /// Sets limbs' form after a caller changed their meaning.
    pub(crate) fn set_form(&mut self, form: Form) {
        self.form = form;
    }
}

impl Zeroize for RnsPoly {
    fn zeroize(&mut self) {
        self.buffer.words_mut().zeroize();
    }
}

/// A prime list from indices.
pub(crate) fn primes(list: impl IntoIterator<Item = u16>) -> Primes {
    list.into_iter().collect::<Arc<[u16]>>()
}
