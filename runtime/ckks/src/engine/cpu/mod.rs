//! The engine on the processor: limb by limb over rayon's threads.

mod keyswitch;
mod sums;

pub use keyswitch::CpuDigits;

use super::{
    Babies, Carry, Coefficients, Decomposed, Division, Engine, GaloisKey, Giant, Keep, Primes,
    RnsPoly, Switch, Uses,
};
use crate::context::Context;
use crate::keys::SwitchingKey;
use crate::ring::{self, Form, kernels};
use rayon::prelude::*;

/// Computes on this machine's processor.
#[derive(Clone, Debug)]
pub struct Cpu {
    ctx: Context,
}

impl Cpu {
    /// The engine of a context.
    pub fn new(ctx: &Context) -> Self {
        Self { ctx: ctx.clone() }
    }

    fn dirty(&self, primes: &Primes) -> RnsPoly {
        RnsPoly::dirty(self.ctx.ring(), primes, Form::Transformed)
    }
}

/// A plaintext modulo QP, transformed, in Montgomery form. A diagonal of period n has 2n different values only, each in a run, and holds
/// each once.
#[derive(Debug)]
pub struct CpuDiagonal {
    words: Vec<u32>,
    /// Words per prime.
    len: usize,
}

impl CpuDiagonal {
    fn limb(&self, i: usize) -> &[u32] {
        &self.words[i * self.len..(i + 1) * self.len]
    }
}

impl Engine for Cpu {
    type Poly = RnsPoly;
    type Digits = CpuDigits;
    type Diagonal = CpuDiagonal;
    type Beside = RnsPoly;

    fn context(&self) -> &Context {
        &self.ctx
    }

    fn describe(&self) -> String {
        "the processor".into()
    }

    /// Threads that share the limbs of one polynomial wait for each other after every step; those of two polynomials need not.
    fn each<T: Send, R: Send>(&self, items: Vec<T>, work: impl Fn(T) -> R + Send + Sync) -> Vec<R> {
        items.into_par_iter().map(work).collect()
    }

    fn upload(&self, poly: RnsPoly) -> RnsPoly {
        poly
    }

    fn download(&self, poly: &RnsPoly) -> RnsPoly {
        poly.clone()
    }

    /// There is no other memory: a copy.
    fn put_beside(&self, poly: &RnsPoly) -> RnsPoly {
        poly.clone()
    }

    fn fetch(&self, beside: &RnsPoly) -> RnsPoly {
        beside.clone()
    }

    /// Always ready: an expansion would cost nearly as much as encoding anew.
    fn diagonal(&self, coefficients: &Coefficients, primes: &Primes, _keep: Keep) -> CpuDiagonal {
        let words = coefficients.diagonal(&self.ctx, primes);
        let len = words.len() / primes.len();
        CpuDiagonal { words, len }
    }

    fn primes<'a>(&self, poly: &'a RnsPoly) -> &'a Primes {
        poly.primes()
    }

    fn diagonal_bytes(&self, diagonal: &CpuDiagonal) -> usize {
        4 * diagonal.words.len()
    }

    fn zero(&self, primes: &Primes) -> RnsPoly {
        RnsPoly::zero(self.ctx.ring(), primes, Form::Transformed)
    }

    fn restrict(&self, a: &RnsPoly, primes: &Primes) -> RnsPoly {
        a.restrict(primes)
    }

    fn add(&self, a: &RnsPoly, b: &RnsPoly) -> RnsPoly {
        a.add(self.ctx.ring(), b)
    }

    fn add_assign(&self, a: &mut RnsPoly, b: &RnsPoly) {
        a.add_assign(self.ctx.ring(), b);
    }

    fn sub(&self, a: &RnsPoly, b: &RnsPoly) -> RnsPoly {
        a.sub(self.ctx.ring(), b)
    }

    fn negate(&self, a: &RnsPoly) -> RnsPoly {
        let mut out = a.clone();
        out.neg_assign(self.ctx.ring());
        out
    }

    fn mul(&self, a: &RnsPoly, b: &RnsPoly) -> RnsPoly {
        a.mul(self.ctx.ring(), b)
    }

    fn mul_add_assign(&self, acc: &mut RnsPoly, a: &RnsPoly, b: &RnsPoly) {
        acc.mul_add_assign(self.ctx.ring(), a, b);
    }

    fn scale(&self, a: &RnsPoly, c: &[[u32; 2]]) -> RnsPoly {
        let ring = self.ctx.ring();
        let mut out = self.dirty(a.primes());
        out.par_limbs(|i, prime, limb| {
            let m = ring.modulus(prime);
            let middle = limb.len() / 2;
            let from = a.limb(i).chunks_exact(middle);
            for ((to, from), &c) in limb.chunks_exact_mut(middle).zip(from).zip(&c[i]) {
                kernels::mul_scalar_to(to, from, m.to_mont(c), m);
            }
        });
        out
    }

    fn add_constant(&self, a: &mut RnsPoly, c: &[[u32; 2]]) {
        let ring = self.ctx.ring();
        a.par_limbs(|i, prime, limb| {
            let middle = limb.len() / 2;
            for (half, &c) in limb.chunks_exact_mut(middle).zip(&c[i]) {
                kernels::add_scalar(half, c, ring.modulus(prime));
            }
        });
    }

    fn combine(&self, terms: &[(&RnsPoly, Vec<u32>)]) -> RnsPoly {
        let ring = self.ctx.ring();
        let mut out = self.zero(terms[0].0.primes());
        out.par_limbs(|i, prime, limb| {
            let m = ring.modulus(prime);
            let terms = terms.iter().map(|(a, c)| (a.limb(i), m.to_mont(c[i])));
            let terms: Vec<(&[u32], u32)> = terms.collect();
            for chunk in terms.chunks(kernels::MAX_TERMS) {
                ring::sums::combine_mont_add(limb, chunk, m);
            }
        });
        out
    }

    fn add_multiple(&self, a: &mut RnsPoly, b: &RnsPoly, c: &[u32]) {
        let ring = self.ctx.ring();
        a.par_limbs(|i, prime, limb| {
            let m = ring.modulus(prime);
            kernels::mul_scalar_add(limb, b.limb(i), m.to_mont(c[i]), m);
        });
    }

    fn products(&self, pairs: &[[[&RnsPoly; 2]; 2]]) -> [RnsPoly; 3] {
        let (ring, primes) = (self.ctx.ring(), pairs[0][0][0].primes());
        let mut parts = [(); 3].map(|()| self.dirty(primes));
        RnsPoly::par_columns(&mut parts, |i, prime, limbs| {
            let [x, y, z] = limbs else { return };
            let m = ring.modulus(prime);
            for (k, [[a0, a1], [b0, b1]]) in pairs.iter().enumerate() {
                let product = match k {
                    0 => kernels::tensor,
                    _ => ring::sums::tensor_add,
                };
                let [a0, a1, b0, b1] = [a0, a1, b0, b1].map(|poly| poly.limb(i));
                product(x, y, z, a0, a1, b0, b1, m);
            }
        });
        parts
    }

    fn decompose(&self, c: &RnsPoly, special: &Primes, uses: Uses) -> CpuDigits {
        CpuDigits::new(&self.ctx, c, special, uses)
    }

    fn key_product(
        &self,
        decomposed: &Decomposed<'_, Self>,
        key: &SwitchingKey,
        carry: [Option<&RnsPoly>; 2],
    ) -> [RnsPoly; 2] {
        keyswitch::key_product(&self.ctx, decomposed, key, carry)
    }

    fn switched(
        &self,
        decomposed: &Decomposed<'_, Self>,
        switches: &[GaloisKey<'_, Self>],
        carry: [Option<&RnsPoly>; 2],
        division: &Division<'_>,
        to: &Primes,
    ) -> Vec<[RnsPoly; 2]> {
        keyswitch::switched(&self.ctx, decomposed, switches, carry, division, to)
    }

    fn add_switched(
        &self,
        sum: &mut [RnsPoly; 2],
        switches: &[Switch<'_, Self>],
        carry: Carry<'_, RnsPoly>,
    ) {
        keyswitch::add_switched(&self.ctx, sum, switches, carry);
    }

    fn times_p(&self, a: &RnsPoly, wide: &Primes) -> RnsPoly {
        let mut out = self.zero(wide);
        out.par_limbs(|_, prime, limb| keyswitch::add_times_p(&self.ctx, limb, a, prime));
        out
    }

    fn inner_sums(&self, babies: &Babies<'_, Self>, giants: &[Giant<Self>]) -> Vec<[RnsPoly; 2]> {
        sums::inner_sums(&self.ctx, babies, giants)
    }

    fn divide<const K: usize>(
        &self,
        polys: [&RnsPoly; K],
        division: &Division<'_>,
        to: &Primes,
        element: u32,
    ) -> [RnsPoly; K] {
        // one after the other: a whole polynomial stays in the last cache from its conversion to its transforms
        polys.map(|x| division.apply(self.ctx.ring(), x, to, element))
    }

    fn raise(&self, c: &RnsPoly, to: &Primes) -> RnsPoly {
        let ring = self.ctx.ring();
        let coefficients = c.coefficients_times_n(ring, c.primes());
        let others = ring::primes(to.iter().copied().filter(|p| !c.primes().contains(p)));
        let mut converted = RnsPoly::dirty(ring, &others, Form::Coefficients);
        let inputs: Vec<&[u32]> = coefficients.limbs().collect();
        ring.conversion(c.primes(), &others)
            .apply(&inputs, converted.limbs_mut().collect());
        let mut out = self.dirty(to);
        out.par_limbs(|_, prime, limb| match c.limb_of(prime) {
            Some(known) => limb.copy_from_slice(known),
            None => {
                let raised = converted.limb_of(prime);
                limb.copy_from_slice(raised.expect("converted to every prime but its own"));
                ring.forward(prime, limb);
            }
        });
        out
    }
}
