//! What computes on polynomials: the seam between the scheme and the machine it runs on.
//!
//! The scheme (operations, linear transforms, polynomials, bootstraps) is written once over an [`Engine`]. [`Cpu`] is the one of this
//! crate; another holds its polynomials elsewhere, on a GPU say, and must give the same residues. Polynomials that an engine is given and
//! gives are always transformed (NTT, bit-reversed order); digits are its own affair.
//!
//! Methods cannot fail by themselves: operands have been checked by the caller. An engine on a device that can fail keeps its first
//! failure, for [`Engine::check`] to tell, and computes nothing more that is worth having.

mod cpu;
mod tables;

pub use crate::encoding::Coefficients;
pub use crate::ring::{Division, Form, Modulus, Primes, RnsPoly};
pub use cpu::{Cpu, CpuDiagonal, CpuDigits};
pub use tables::{ConversionTable, Tables};

use crate::ciphertext::Ciphertext;
use crate::context::Context;
use crate::error::Result;
use crate::keys::SwitchingKey;
use crate::yardstick::Yardstick;
use std::fmt::Debug;

/// Computes on transformed polynomials modulo primes of one parameter set. Cheap to clone.
pub trait Engine: Clone + Debug + Send + Sync + Sized + 'static {
    /// A transformed polynomial: N residues for each of its primes.
    type Poly: Clone + Debug + Send + Sync + 'static;
    /// A polynomial's digits, each modulo all its primes and the special ones (ModUp).
    type Digits: Send + Sync + 'static;
    /// A plaintext modulo QP that is only ever multiplied with.
    type Diagonal: Send + Sync + 'static;
    /// A polynomial outside of the memory that the engine computes in.
    type Beside: Clone + Debug + Send + Sync + 'static;

    /// The parameters and their tables.
    fn context(&self) -> &Context;

    /// What computes, in words.
    fn describe(&self) -> String;

    /// Whether all that was computed so far is sound.
    ///
    /// # Errors
    /// The device's first failure: out of memory, lost, or a kernel that went wrong.
    fn check(&self) -> Result<()> {
        Ok(())
    }

    /// Waits until everything asked for so far is computed.
    fn wait(&self) {}

    /// What its times compare by, which no other engine's do.
    fn yardstick(&self) -> Yardstick {
        Yardstick::default()
    }

    /// Carries out pieces of work that do not need each other, at once where that fills the machine better.
    fn each<T: Send, R: Send>(&self, items: Vec<T>, work: impl Fn(T) -> R + Send + Sync) -> Vec<R> {
        items.into_iter().map(work).collect()
    }

    /// Takes a transformed polynomial in.
    fn upload(&self, poly: RnsPoly) -> Self::Poly;
    /// Gives one out.
    fn download(&self, poly: &Self::Poly) -> RnsPoly;
    /// Takes in a plaintext modulo QP by its coefficients.
    fn diagonal(&self, coefficients: &Coefficients, primes: &Primes, keep: Keep) -> Self::Diagonal;
    /// Copies a polynomial out of the memory that the engine computes in.
    fn put_beside(&self, poly: &Self::Poly) -> Self::Beside;
    /// Copies one in again, for what is asked for from now on.
    fn fetch(&self, beside: &Self::Beside) -> Self::Poly;
    /// The primes of a polynomial.
    fn primes<'a>(&self, poly: &'a Self::Poly) -> &'a Primes;
    /// Bytes that a plaintext takes of the memory that the engine computes in.
    fn diagonal_bytes(&self, diagonal: &Self::Diagonal) -> usize;

    /// The zero polynomial.
    fn zero(&self, primes: &Primes) -> Self::Poly;
    /// The polynomial modulo a subset of its primes.
    fn restrict(&self, a: &Self::Poly, primes: &Primes) -> Self::Poly;
    /// a + b.
    fn add(&self, a: &Self::Poly, b: &Self::Poly) -> Self::Poly;
    /// a += b.
    fn add_assign(&self, a: &mut Self::Poly, b: &Self::Poly);
    /// a - b.
    fn sub(&self, a: &Self::Poly, b: &Self::Poly) -> Self::Poly;
    /// -a.
    fn negate(&self, a: &Self::Poly) -> Self::Poly;
    /// a·b; `b` may have more primes.
    fn mul(&self, a: &Self::Poly, b: &Self::Poly) -> Self::Poly;
    /// acc += a·b; `b` may have more primes.
    fn mul_add_assign(&self, acc: &mut Self::Poly, a: &Self::Poly, b: &Self::Poly);
    /// a·c, for a Gaussian integer given by its residues in the two halves of every limb.
    fn scale(&self, a: &Self::Poly, c: &[[u32; 2]]) -> Self::Poly;
    /// a += c, given alike.
    fn add_constant(&self, a: &mut Self::Poly, c: &[[u32; 2]]);
    /// Σ a·c over at least one polynomial and its integer, given by residues.
    fn combine(&self, terms: &[(&Self::Poly, Vec<u32>)]) -> Self::Poly;
    /// a += b·c, for an integer given by its residues.
    fn add_multiple(&self, a: &mut Self::Poly, b: &Self::Poly, c: &[u32]);

    /// Σ a·b over at least one pair of ciphertexts, before relinearisation: d0 + d1·s + d2·s².
    fn products(&self, pairs: &[[[&Self::Poly; 2]; 2]]) -> [Self::Poly; 3];

    /// Splits into digits and extends each to the special primes (ModUp).
    fn decompose(&self, c: &Self::Poly, special: &Primes, uses: Uses) -> Self::Digits;
    /// Σ digit·key + P·carry, under the key's target secret: modulo the source's primes and the special ones, times P. For a Galois key
    /// the automorphism is yet to be applied.
    fn key_product(
        &self,
        decomposed: &Decomposed<'_, Self>,
        key: &SwitchingKey<Self::Poly>,
        carry: [Option<&Self::Poly>; 2],
    ) -> [Self::Poly; 2];
    /// For each key: Σ digit·key + P·carry, divided, and its automorphism. With Galois element 1 there is none.
    fn switched(
        &self,
        decomposed: &Decomposed<'_, Self>,
        switches: &[GaloisKey<'_, Self>],
        carry: [Option<&Self::Poly>; 2],
        division: &Division<'_>,
        to: &Primes,
    ) -> Vec<[Self::Poly; 2]> {
        let switch = |&(element, key): &GaloisKey<'_, Self>| {
            let product = self.key_product(decomposed, key, carry);
            self.divide(product.each_ref(), division, to, element)
        };
        switches.iter().map(switch).collect()
    }
    /// sum += Σ over switches of the automorphism of (Σ digit·key + (carry, 0)).
    fn add_switched(
        &self,
        sum: &mut [Self::Poly; 2],
        switches: &[Switch<'_, Self>],
        carry: Carry<'_, Self::Poly>,
    );
    /// P·a modulo `wide`: the primes of `a`, then the special ones, where it vanishes.
    fn times_p(&self, a: &Self::Poly, wide: &Primes) -> Self::Poly;
    /// Σ diagonal·baby for every giant step, modulo QP and times P.
    fn inner_sums(&self, babies: &Babies<'_, Self>, giants: &[Giant<Self>])
    -> Vec<[Self::Poly; 2]>;

    /// The rounded division of each polynomial, to the primes `to`, and then the automorphism X → X^element.
    fn divide<const K: usize>(
        &self,
        polys: [&Self::Poly; K],
        division: &Division<'_>,
        to: &Primes,
        element: u32,
    ) -> [Self::Poly; K];
    /// The representative nearest to zero, modulo other primes (ModRaise).
    fn raise(&self, c: &Self::Poly, to: &Primes) -> Self::Poly;
}

/// How a plaintext lies there between its uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// Ready to be multiplied with.
    Ready,
    /// As small as the engine has it, even if that must be expanded at every use.
    Compact,
    /// As small, and outside of the memory that the engine computes in: fetched and expanded at every use.
    Beside,
}

/// How often digits will be multiplied with keys: what serves once need not be kept in the form that serves best.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Uses {
    /// With one key.
    Once,
    /// With several (hoisting).
    Many,
}

/// A polynomial and its digits. Modulo its own primes a digit equals the polynomial.
pub struct Decomposed<'a, E: Engine> {
    /// The polynomial.
    pub source: &'a E::Poly,
    /// Its digits.
    pub digits: E::Digits,
}

/// One of several key switches that are summed.
pub struct Switch<'a, E: Engine> {
    /// Galois element of the automorphism that follows.
    pub element: u32,
    /// What is switched.
    pub decomposed: &'a Decomposed<'a, E>,
    /// The key.
    pub key: &'a SwitchingKey<E::Poly>,
}

/// What is added to the first half of a key product before the automorphism.
#[derive(Clone, Copy)]
pub enum Carry<'a, P> {
    /// P times a polynomial modulo Q.
    TimesP(&'a P),
    /// A polynomial modulo QP that has the factor P already.
    Wide(&'a P),
}

/// A ciphertext where the engine keeps it.
pub type Ct<E> = Ciphertext<<E as Engine>::Poly>;

/// A Galois element and the key that switches before its automorphism.
pub type GaloisKey<'a, E> = (u32, &'a SwitchingKey<<E as Engine>::Poly>);

/// The rotations of one ciphertext that a linear transform multiplies with.
pub struct Babies<'a, E: Engine> {
    /// The ciphertext, its second half decomposed.
    pub c0: &'a E::Poly,
    /// See `c0`.
    pub c1: Decomposed<'a, E>,
    /// Per baby its Galois element and key; none for the ciphertext itself.
    pub rotations: Vec<Option<GaloisKey<'a, E>>>,
    /// The level's primes, then the special ones.
    pub wide: Primes,
}

/// The diagonals of one giant step, each with the position of its baby.
pub type Giant<E> = Vec<(usize, <E as Engine>::Diagonal)>;
