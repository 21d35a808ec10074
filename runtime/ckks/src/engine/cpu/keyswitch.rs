//! Hybrid key switching (Han, Ki 2020): digits, and their products with keys.
//!
//! A Galois key switches *before* the automorphism: it holds the secret under the inverse automorphism, so one decomposition serves many
//! rotations (hoisting), and the permutation comes last.
//!
//! All work on one prime is done before the next prime's: its digits are transformed with the same roots one after the other, and
//! digits that serve once are transformed where they are multiplied, so that they never leave the cache.

use super::Cpu;
use crate::context::Context;
use crate::engine::{Carry, Decomposed, Switch, Uses};
use crate::keys::{KeyDigit, SwitchingKey};
use crate::ring::{Form, Primes, Ring, RnsPoly, kernels, permute, primes};

/// A polynomial's digits.
pub struct CpuDigits {
    /// The polynomial's primes, then the special primes.
    primes: Primes,
    digits: Vec<Digit>,
}

struct Digit {
    index: usize,
    /// The digit modulo every prime but its own, where it equals the source. Coefficients, if it serves once.
    rest: RnsPoly,
}

impl CpuDigits {
    pub(super) fn new(ctx: &Context, c: &RnsPoly, special: &Primes, uses: Uses) -> Self {
        let ring = ctx.ring();
        let coefficients = c.coefficients_times_n(ring, c.primes());
        let all = primes(c.primes().iter().chain(special.iter()).copied());
        let digit = |(index, members): (usize, Vec<u16>)| {
            let others = primes(all.iter().copied().filter(|p| !members.contains(p)));
            let inputs = members.iter().filter_map(|&p| coefficients.limb_of(p));
            let mut rest = RnsPoly::dirty(ring, &others, Form::Coefficients);
            ring.conversion(&members, &others)
                .apply(&inputs.collect::<Vec<_>>(), rest.limbs_mut().collect());
            Digit { index, rest }
        };
        let digits = ctx.params().digits_of(c.primes());
        let mut digits: Vec<Digit> = digits.into_iter().map(digit).collect();
        if uses == Uses::Many {
            transform(ring, &all, &mut digits);
        }
        Self {
            primes: all,
            digits,
        }
    }
}

/// Transforms all digits, prime by prime.
fn transform(ring: &Ring, all: &Primes, digits: &mut [Digit]) {
    use rayon::prelude::*;
    let mut by_prime: Vec<(u16, Vec<&mut [u32]>)> = all.iter().map(|&p| (p, Vec::new())).collect();
    for digit in digits.iter_mut() {
        let own = digit.rest.primes().clone();
        let mut limbs = digit.rest.limbs_mut();
        for (prime, column) in &mut by_prime {
            if own.contains(prime) {
                column.extend(limbs.next());
            }
        }
    }
    by_prime
        .par_iter_mut()
        .for_each(|(prime, limbs)| limbs.iter_mut().for_each(|limb| ring.forward(*prime, limb)));
    for digit in digits {
        digit.rest.set_form(Form::Transformed);
    }
}

/// A switching key's digits matched with those of a decomposed polynomial.
pub(super) struct Matched<'a> {
    source: &'a RnsPoly,
    key: &'a SwitchingKey,
    digits: Vec<(&'a Digit, &'a KeyDigit<RnsPoly>)>,
}

impl<'a> Matched<'a> {
    /// # Panics
    /// If the key lacks a digit, that is, serves only lower levels: look keys up by level.
    pub(super) fn new(decomposed: &'a Decomposed<'_, Cpu>, key: &'a SwitchingKey) -> Self {
        let of = |d: &Digit| {
            let found = key.digits.iter().find(|k| k.index == d.index);
            found.expect("keys are looked up by level")
        };
        let digits = &decomposed.digits.digits;
        Self {
            source: decomposed.source,
            key,
            digits: digits.iter().map(|d| (d, of(d))).collect(),
        }
    }

    /// Limbs of scratch that [`Self::limb`] takes.
    pub(super) fn scratch(&self) -> usize {
        let once = |(digit, _): &&(&Digit, _)| digit.rest.form() == Form::Coefficients;
        self.digits.iter().filter(once).count()
    }

    /// One limb of Σ digit·key: x = Σ digit·b, y = Σ digit·a.
    pub(super) fn limb(
        &self,
        ring: &Ring,
        prime: u16,
        scratch: &mut [&mut [u32]],
        x: &mut [u32],
        y: &mut [u32],
    ) {
        let m = ring.modulus(prime);
        let at = self.key.primes.iter().position(|&p| p == prime);
        let at = at.expect("keys are looked up by level");
        let (mut with_b, mut with_a) = (Vec::new(), Vec::new());
        let mut scratch = scratch.iter_mut();
        for (digit, k) in &self.digits {
            let limb: &[u32] = match (digit.rest.limb_of(prime), digit.rest.form()) {
                (Some(limb), Form::Transformed) => limb,
                (Some(limb), Form::Coefficients) => {
                    let room = scratch.next().expect("as many limbs as `scratch` says");
                    room.copy_from_slice(limb);
                    ring.forward(prime, room);
                    room
                }
                (None, _) => {
                    let own = self.source.limb_of(prime);
                    own.expect("a digit's own primes are the source's")
                }
            };
            with_b.push((limb, k.b.limb(at)));
            with_a.push((limb, k.a.limb(at)));
        }
        kernels::dot_mont(x, &with_b, m);
        kernels::dot_mont(y, &with_a, m);
    }
}

/// x += P·c modulo one prime, where `c` is a polynomial modulo a level's primes: nothing is added modulo a special prime.
pub(super) fn add_times_p(ctx: &Context, x: &mut [u32], c: &RnsPoly, prime: u16) {
    if let Some(limb) = c.limb_of(prime) {
        let m = ctx.ring().modulus(prime);
        let p = m.to_mont(ctx.ring().product_mod(ctx.special(), m));
        kernels::mul_scalar_add(x, limb, p, m);
    }
}

/// See [`super::Engine::key_product`]. The carry's factor is that of the key's special primes.
pub(super) fn key_product(
    ctx: &Context,
    decomposed: &Decomposed<'_, Cpu>,
    key: &SwitchingKey,
    carry: [Option<&RnsPoly>; 2],
) -> [RnsPoly; 2] {
    let ring = ctx.ring();
    let all = &decomposed.digits.primes;
    let special = primes(all[decomposed.source.primes().len()..].iter().copied());
    let matched = Matched::new(decomposed, key);
    let mut product = [(); 2].map(|()| RnsPoly::dirty(ring, all, Form::Transformed));
    RnsPoly::par_columns(&mut product, |_, prime, limbs| {
        let [x, y] = limbs else { return };
        let mut room = RnsPoly::room(ring, prime, matched.scratch());
        let mut scratch: Vec<&mut [u32]> = room.limbs_mut().collect();
        matched.limb(ring, prime, &mut scratch, x, y);
        for (limb, carry) in [x, y].into_iter().zip(carry) {
            if let Some(carried) = carry.and_then(|c| c.limb_of(prime)) {
                let m = ring.modulus(prime);
                let p = m.to_mont(ring.product_mod(&special, m));
                kernels::mul_scalar_add(limb, carried, p, m);
            }
        }
    });
    product
}

/// See [`super::Engine::add_switched`].
pub(super) fn add_switched(
    ctx: &Context,
    sum: &mut [RnsPoly; 2],
    switches: &[Switch<'_, Cpu>],
    carry: Carry<'_, RnsPoly>,
) {
    let ring = ctx.ring();
    let switches: Vec<_> = switches
        .iter()
        .map(|s| {
            let matched = Matched::new(s.decomposed, s.key);
            (ring.permutation(s.element), matched)
        })
        .collect();
    let most = switches.iter().map(|(_, m)| m.scratch()).max();
    RnsPoly::par_columns(sum, |_, prime, limbs| {
        let m = ring.modulus(prime);
        let mut room = RnsPoly::room(ring, prime, 3 + most.unwrap_or(0));
        let mut room: Vec<&mut [u32]> = room.limbs_mut().collect();
        let ([x, y, turned], scratch) = room.split_at_mut(3) else {
            return;
        };
        for (table, matched) in &switches {
            matched.limb(ring, prime, scratch, x, y);
            match carry {
                Carry::TimesP(c) => add_times_p(ctx, x, c, prime),
                Carry::Wide(c) => {
                    if let Some(limb) = c.limb_of(prime) {
                        kernels::add_assign(x, limb, m);
                    }
                }
            }
            for (part, sum) in [&*x, &*y].into_iter().zip(limbs.iter_mut()) {
                permute::permute(turned, part, table);
                kernels::add_assign(sum, turned, m);
            }
        }
    });
}
