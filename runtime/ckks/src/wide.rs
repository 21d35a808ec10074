//! Ciphertexts modulo QP, times P: what key switching yields before it leaves the special primes.
//!
//! Sums of key switches are taken here, so that the division by P (ModDown) happens once per sum, and together with the rescale
//! where one follows.

use crate::ciphertext::Ciphertext;
use crate::context::Context;
use crate::keyswitch::Matched;
use crate::ring::{Division, Form, Primes, RnsPoly, kernels, permute, primes};
use rayon::prelude::*;

/// A pair modulo QP, times P.
pub(crate) struct Wide {
    pub(crate) c0: RnsPoly,
    pub(crate) c1: RnsPoly,
}

/// The primes of a level, then the special primes.
pub(crate) fn wide_primes(ctx: &Context, level: usize) -> Primes {
    primes(
        ctx.level_primes(level)
            .iter()
            .chain(ctx.special().iter())
            .copied(),
    )
}

/// P modulo a prime, in Montgomery form; zero modulo a special prime.
pub(crate) fn special_product_mont(ctx: &Context, prime: u16) -> u32 {
    let m = ctx.ring().modulus(prime);
    m.to_mont(ctx.ring().product_mod(ctx.special(), m))
}

/// x += P·c modulo one prime, where `c` is a polynomial modulo the level's primes: nothing is added modulo a special prime.
pub(crate) fn add_times_p(ctx: &Context, x: &mut [u32], c: &RnsPoly, prime: u16) {
    if let Some(limb) = c.limb_of(prime) {
        let m = ctx.ring().modulus(prime);
        kernels::mul_scalar_add(x, limb, special_product_mont(ctx, prime), m);
    }
}

/// The limbs of several polynomials with the same primes, prime by prime.
pub(crate) fn columns<'a>(
    polys: impl IntoIterator<Item = &'a mut RnsPoly>,
) -> Vec<Vec<&'a mut [u32]>> {
    let mut columns: Vec<Vec<&mut [u32]>> = Vec::new();
    for poly in polys {
        columns.resize_with(poly.primes().len(), Vec::new);
        columns
            .iter_mut()
            .zip(poly.limbs_mut())
            .for_each(|(column, limb)| column.push(limb));
    }
    columns
}

impl Wide {
    pub(crate) fn zero(ctx: &Context, primes: &Primes) -> Self {
        let zero = || RnsPoly::zero(ctx.ring(), primes, Form::Transformed);
        Self {
            c0: zero(),
            c1: zero(),
        }
    }

    /// P·ct.
    pub(crate) fn lift(ctx: &Context, ct: &Ciphertext) -> Self {
        let mut wide = Self::zero(ctx, &wide_primes(ctx, ct.level));
        RnsPoly::par_limbs2(&mut wide.c0, &mut wide.c1, |_, prime, x, y| {
            add_times_p(ctx, x, &ct.c0, prime);
            add_times_p(ctx, y, &ct.c1, prime);
        });
        wide
    }

    /// Adds Σ over `switches` of the automorphism of (key product + (carry, 0)).
    pub(crate) fn add_switched(
        &mut self,
        ctx: &Context,
        switches: &[(u32, Matched<'_>)],
        carry: Carry<'_>,
    ) {
        let ring = ctx.ring();
        let tables: Vec<_> = switches
            .iter()
            .map(|(element, _)| ring.permutation(*element))
            .collect();
        let all = self.c0.primes().clone();
        let mut limbs = columns([&mut self.c0, &mut self.c1]);
        limbs
            .par_iter_mut()
            .zip(all.par_iter())
            .for_each(|(limbs, &prime)| {
                let m = ring.modulus(prime);
                let mut scratch = RnsPoly::dirty(ring, &primes([prime; 3]), Form::Transformed);
                let [x, y, turned] = &mut scratch.limbs_mut().collect::<Vec<_>>()[..] else {
                    return;
                };
                for ((_, matched), table) in switches.iter().zip(&tables) {
                    matched.limb(ring, prime, x, y);
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

    /// Adds a key product.
    pub(crate) fn add_key_product(&mut self, ctx: &Context, matched: &Matched<'_>) {
        let ring = ctx.ring();
        RnsPoly::par_limbs2(&mut self.c0, &mut self.c1, |_, prime, x, y| {
            let mut scratch = RnsPoly::dirty(ring, &primes([prime; 2]), Form::Transformed);
            let [u, v] = &mut scratch.limbs_mut().collect::<Vec<_>>()[..] else {
                return;
            };
            matched.limb(ring, prime, u, v);
            kernels::add_assign(x, u, ring.modulus(prime));
            kernels::add_assign(y, v, ring.modulus(prime));
        });
    }

    pub(crate) fn add_assign(&mut self, ctx: &Context, other: &Self) {
        self.c0.add_assign(ctx.ring(), &other.c0);
        self.c1.add_assign(ctx.ring(), &other.c1);
    }

    /// Divides by P, and by the primes between level `from` and level `to`: both components modulo the primes of `to`.
    pub(crate) fn leave(&self, ctx: &Context, from: usize, to: usize) -> (RnsPoly, RnsPoly) {
        let (mut drop, bring) = ctx.prime_moves(from, to);
        drop.extend(ctx.special().iter());
        let division = Division {
            drop: &drop,
            bring: &bring,
            factor: 1,
        };
        let target = ctx.level_primes(to);
        (
            division.apply(ctx.ring(), &self.c0, target),
            division.apply(ctx.ring(), &self.c1, target),
        )
    }
}

/// What is added to the first half of a key product before the automorphism.
#[derive(Clone, Copy)]
pub(crate) enum Carry<'a> {
    /// P times a polynomial modulo Q.
    TimesP(&'a RnsPoly),
    /// A polynomial modulo QP that has the factor P already.
    Wide(&'a RnsPoly),
}
