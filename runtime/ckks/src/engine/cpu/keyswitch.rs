//! Hybrid key switching (Han, Ki 2020): digits, and their products with keys.
//!
//! A Galois key switches *before* the automorphism: it holds the secret under the inverse automorphism, so one decomposition serves many
//! rotations (hoisting), and the permutation comes last.
//!
//! All work on one prime is done before the next prime's: its digits are transformed with the same roots one after the other, and
//! digits that serve once are transformed where they are multiplied, so that they never leave the cache.

use super::Cpu;
use crate::context::Context;
use crate::engine::{Carry, Decomposed, Division, Switch, Uses};
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

/// A key product with what is carried, limb by limb.
struct Product<'a> {
    matched: Matched<'a>,
    carry: [Option<&'a RnsPoly>; 2],
    /// The key's special primes, whose product multiplies what is carried.
    special: &'a [u16],
}

impl<'a> Product<'a> {
    fn new(
        decomposed: &'a Decomposed<'_, Cpu>,
        key: &'a SwitchingKey,
        carry: [Option<&'a RnsPoly>; 2],
    ) -> Self {
        Self {
            matched: Matched::new(decomposed, key),
            carry,
            special: &decomposed.digits.primes[decomposed.source.primes().len()..],
        }
    }

    fn limb(
        &self,
        ring: &Ring,
        prime: u16,
        scratch: &mut [&mut [u32]],
        x: &mut [u32],
        y: &mut [u32],
    ) {
        self.matched.limb(ring, prime, scratch, x, y);
        for (limb, carry) in [x, y].into_iter().zip(self.carry) {
            if let Some(carried) = carry.and_then(|c| c.limb_of(prime)) {
                let m = ring.modulus(prime);
                let p = m.to_mont(ring.product_mod(self.special, m));
                kernels::mul_scalar_add(limb, carried, p, m);
            }
        }
    }
}

/// See [`super::Engine::key_product`].
pub(super) fn key_product(
    ctx: &Context,
    decomposed: &Decomposed<'_, Cpu>,
    key: &SwitchingKey,
    carry: [Option<&RnsPoly>; 2],
) -> [RnsPoly; 2] {
    let (ring, all) = (ctx.ring(), &decomposed.digits.primes);
    let product = Product::new(decomposed, key, carry);
    let mut out = [(); 2].map(|()| RnsPoly::dirty(ring, all, Form::Transformed));
    RnsPoly::par_columns(&mut out, |_, prime, limbs| {
        let [x, y] = limbs else { return };
        let mut room = RnsPoly::room(ring, prime, product.matched.scratch());
        let mut scratch: Vec<&mut [u32]> = room.limbs_mut().collect();
        product.limb(ring, prime, &mut scratch, x, y);
    });
    out
}

/// See [`super::Engine::switched`]. Modulo the primes that stay, products go from digits to quotients without leaving the cache, and
/// all switches of one prime follow each other, so that they share its digits.
pub(super) fn switched(
    ctx: &Context,
    decomposed: &Decomposed<'_, Cpu>,
    switches: &[(u32, &SwitchingKey)],
    carry: [Option<&RnsPoly>; 2],
    division: &Division<'_>,
    to: &Primes,
) -> Vec<[RnsPoly; 2]> {
    let ring = ctx.ring();
    let product = |&(_, key)| Product::new(decomposed, key, carry);
    let products: Vec<Product<'_>> = switches.iter().map(product).collect();
    let turn = |&(element, _)| (element != 1).then(|| ring.permutation(element));
    let turns: Vec<_> = switches.iter().map(turn).collect();
    let scratch = products.iter().map(|p| p.matched.scratch()).max();
    // two limbs of the product and one of a transform beside the digits'
    let limbs = 3 + scratch.unwrap_or(0);

    let dropped: Primes = division.drop.into();
    let source = || RnsPoly::dirty(ring, &dropped, Form::Coefficients);
    let mut sources: Vec<RnsPoly> = (0..2 * switches.len()).map(|_| source()).collect();
    RnsPoly::par_columns(&mut sources, |_, prime, columns| {
        let mut room = RnsPoly::room(ring, prime, limbs);
        let mut scratch: Vec<&mut [u32]> = room.limbs_mut().collect();
        for (product, halves) in products.iter().zip(columns.chunks_exact_mut(2)) {
            let [x, y] = halves else { return };
            product.limb(ring, prime, &mut scratch, x, y);
            [x, y]
                .into_iter()
                .for_each(|half| division.source_of(ring, prime, half));
        }
    });
    let convert = |source: &RnsPoly| division.convert(ring, source, to);
    let mut out: Vec<RnsPoly> = sources.iter().map(convert).collect();
    RnsPoly::par_columns(&mut out, |_, prime, columns| {
        let mut room = RnsPoly::room(ring, prime, limbs);
        let mut room: Vec<&mut [u32]> = room.limbs_mut().collect();
        let ([x, y, transform], scratch) = room.split_at_mut(3) else {
            return;
        };
        // what is brought back has no residue in the product
        let known = decomposed.digits.primes.contains(&prime);
        let halves = columns.chunks_exact_mut(2);
        for ((product, turn), halves) in products.iter().zip(&turns).zip(halves) {
            if known {
                product.limb(ring, prime, scratch, x, y);
            }
            for (limb, x) in halves.iter_mut().zip([&*x, &*y]) {
                let x = known.then_some(&**x);
                division.finish(ring, prime, limb, x, turn.as_deref(), transform);
            }
        }
    });
    let mut out = out.into_iter().map(|mut half| {
        half.set_form(Form::Transformed);
        half
    });
    std::iter::from_fn(|| Some([out.next()?, out.next()?])).collect()
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
