//! Hybrid key switching (Han, Ki 2020), in three steps that linear transforms take apart: decompose, multiply with a key, leave the
//! special primes.
//!
//! A Galois key switches *before* the automorphism: it holds the secret under the inverse automorphism, so one decomposition serves many
//! rotations (hoisting), and the permutation comes last.

use crate::context::Context;
use crate::keys::{KeyDigit, SwitchingKey};
use crate::ring::{Division, Form, Primes, Ring, RnsPoly, kernels, primes};

/// A polynomial's digits, each modulo all its primes and the special ones.
pub(crate) struct Decomposed<'a> {
    source: &'a RnsPoly,
    /// The polynomial's primes, then the special primes.
    pub(crate) primes: Primes,
    digits: Vec<Digit>,
}

struct Digit {
    index: usize,
    /// The digit modulo every prime but its own, where it equals the source.
    rest: RnsPoly,
}

/// Splits a transformed polynomial into digits and extends each to the special primes (ModUp).
pub(crate) fn decompose<'a>(ctx: &Context, c: &'a RnsPoly, special: &Primes) -> Decomposed<'a> {
    let ring = ctx.ring();
    let mut coefficients = c.clone();
    coefficients.par_limbs(|_, prime, limb| ring.inverse_times_n(prime, limb));
    coefficients.set_form(Form::Coefficients);
    let all = primes(c.primes().iter().chain(special.iter()).copied());
    let digits = ctx
        .params()
        .digits_of(c.primes())
        .into_iter()
        .map(|(index, members)| {
            let others = primes(all.iter().copied().filter(|p| !members.contains(p)));
            let inputs: Vec<&[u32]> = members
                .iter()
                .filter_map(|&p| coefficients.limb_of(p))
                .collect();
            let mut rest = RnsPoly::dirty(ring, &others, Form::Coefficients);
            ring.conversion(&members, &others)
                .apply(&inputs, rest.limbs_mut().collect());
            rest.forward(ring);
            Digit { index, rest }
        })
        .collect();
    Decomposed {
        source: c,
        primes: all,
        digits,
    }
}

impl Decomposed<'_> {
    fn limb<'s>(&'s self, digit: &'s Digit, prime: u16) -> &'s [u32] {
        digit
            .rest
            .limb_of(prime)
            .or_else(|| self.source.limb_of(prime))
            .expect("a digit's own primes are the source's")
    }
}

/// A switching key's digits matched with those of a decomposed polynomial.
pub(crate) struct Matched<'a> {
    decomposed: &'a Decomposed<'a>,
    key: &'a SwitchingKey,
    digits: Vec<(&'a Digit, &'a KeyDigit)>,
}

impl<'a> Matched<'a> {
    /// # Panics
    /// If the key lacks a digit, that is, serves only lower levels: look keys up by level.
    pub(crate) fn new(decomposed: &'a Decomposed<'_>, key: &'a SwitchingKey) -> Self {
        let of = |d: &Digit| {
            let found = key.digits.iter().find(|k| k.index == d.index);
            found.expect("keys are looked up by level")
        };
        let digits = decomposed.digits.iter().map(|d| (d, of(d))).collect();
        Self {
            decomposed,
            key,
            digits,
        }
    }

    /// One limb of Σ digit·key: x = Σ digit·b, y = Σ digit·a.
    pub(crate) fn limb(&self, ring: &Ring, prime: u16, x: &mut [u32], y: &mut [u32]) {
        let m = ring.modulus(prime);
        let at = self.key.primes.iter().position(|&p| p == prime);
        let at = at.expect("keys are looked up by level");
        let (mut with_b, mut with_a) = (Vec::new(), Vec::new());
        for (digit, k) in &self.digits {
            let limb = self.decomposed.limb(digit, prime);
            with_b.push((limb, k.b.limb(at)));
            with_a.push((limb, k.a.limb(at)));
        }
        kernels::dot_mont(x, &with_b, m);
        kernels::dot_mont(y, &with_a, m);
    }
}

/// Σ digit·key, under the key's target secret, modulo the source's primes and the special ones (still times P). For a Galois key the
/// automorphism is yet to be applied to both halves.
///
/// # Panics
/// If the key lacks a digit or prime, that is, serves only lower levels: look keys up by level.
pub(crate) fn key_inner_product(
    ctx: &Context,
    decomposed: &Decomposed<'_>,
    key: &SwitchingKey,
) -> (RnsPoly, RnsPoly) {
    let ring = ctx.ring();
    let mut u0 = RnsPoly::dirty(ring, &decomposed.primes, Form::Transformed);
    let mut u1 = RnsPoly::dirty(ring, &decomposed.primes, Form::Transformed);
    let matched = Matched::new(decomposed, key);
    RnsPoly::par_limbs2(&mut u0, &mut u1, |_, prime, x, y| {
        matched.limb(ring, prime, x, y)
    });
    (u0, u1)
}

/// Divides by the special primes, rounding (ModDown): from the primes `to` and `special` to the primes `to`.
pub(crate) fn mod_down(ctx: &Context, x: &RnsPoly, special: &Primes, to: &Primes) -> RnsPoly {
    Division {
        drop: special,
        bring: &[],
        factor: 1,
    }
    .apply(ctx.ring(), x, to)
}

/// The whole switch of one polynomial: (u0, u1) with u0 + u1·s_to ≈ c·s_from, modulo c's primes.
pub(crate) fn switch(
    ctx: &Context,
    c: &RnsPoly,
    key: &SwitchingKey,
    special: &Primes,
) -> (RnsPoly, RnsPoly) {
    let (u0, u1) = key_inner_product(ctx, &decompose(ctx, c, special), key);
    (
        mod_down(ctx, &u0, special, c.primes()),
        mod_down(ctx, &u1, special, c.primes()),
    )
}
