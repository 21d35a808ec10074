//! Exactly rounded division: rescaling, level drops and leaving the special primes are the same step.

use super::poly::{Form, RnsPoly};
use super::tables::{Primes, Ring};
use super::{Modulus, kernels};
use rayon::prelude::*;

/// round(x · k · ΠU / ΠD): drops the primes D, brings back the primes U, multiplies by the integer k.
pub(crate) struct Division<'a> {
    /// D: primes of the input that are divided by. Primes of the input in neither D nor the output are forgotten (the residue is reduced).
    pub drop: &'a [u16],
    /// U: primes of the output that the input lacks.
    pub bring: &'a [u16],
    /// k.
    pub factor: u128,
}

impl Division<'_> {
    /// k·ΠU modulo a prime, if it is not one.
    fn multiplier(&self, ring: &Ring, m: Modulus) -> u32 {
        let k = (self.factor % u128::from(m.p)) as u32;
        m.mul(k, ring.product_mod(self.bring, m))
    }

    fn multiplies(&self) -> bool {
        self.factor != 1 || !self.bring.is_empty()
    }

    /// Applies the division to a transformed polynomial; the result has the primes `to`.
    pub(crate) fn apply(&self, ring: &Ring, x: &RnsPoly, to: &Primes) -> RnsPoly {
        debug_assert_eq!(x.form(), Form::Transformed);
        let dropped: Primes = self.drop.into();
        let mut source = x.restrict(&dropped);
        source.par_limbs(|_, prime, limb| {
            if self.multiplies() {
                let m = ring.modulus(prime);
                kernels::mul_scalar(limb, m.to_mont(self.multiplier(ring, m)), m);
            }
            ring.inverse_times_n(prime, limb);
        });
        let mut out = RnsPoly::dirty(ring, to, Form::Transformed);
        let inputs: Vec<&[u32]> = (0..dropped.len()).map(|i| source.limb(i)).collect();
        ring.conversion(&dropped, to)
            .apply(&inputs, out.limbs_mut().collect());
        let n = ring.n;
        out.words_mut()
            .par_chunks_exact_mut(n)
            .zip(to.par_iter())
            .for_each(|(limb, &prime)| {
                ring.forward(prime, limb);
                self.combine(ring, prime, limb, x);
            });
        out
    }

    /// limb = (x·kU - limb)/D modulo one prime of the output.
    fn combine(&self, ring: &Ring, prime: u16, limb: &mut [u32], x: &RnsPoly) {
        let m = ring.modulus(prime);
        let d_inv = m.inv(ring.product_mod(self.drop, m));
        if self.bring.contains(&prime) {
            // x·kU vanishes modulo a prime of U.
            return kernels::mul_scalar(limb, m.to_mont(m.neg(d_inv)), m);
        }
        let original = x
            .limb_of(prime)
            .expect("output primes come from the input or are brought back");
        let d_inv = m.to_mont(d_inv);
        if self.multiplies() {
            kernels::scale_rsub_scale(
                limb,
                original,
                m.to_mont(self.multiplier(ring, m)),
                d_inv,
                m,
            );
        } else {
            kernels::rsub_scale(limb, original, d_inv, m);
        }
    }
}
