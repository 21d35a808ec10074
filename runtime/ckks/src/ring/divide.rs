//! Exactly rounded division: rescaling, level drops and leaving the special primes are the same step.

use super::poly::{Form, RnsPoly};
use super::tables::{Primes, Ring};
use super::{Modulus, kernels, permute};

/// round(x · k · ΠU / ΠD): drops the primes D, brings back the primes U, multiplies by the integer k.
#[derive(Clone, Copy, Debug)]
pub struct Division<'a> {
    /// D: primes of the input that are divided by. Primes of the input in neither D nor the output are forgotten (the residue is reduced).
    pub drop: &'a [u16],
    /// U: primes of the output that the input lacks.
    pub bring: &'a [u16],
    /// k.
    pub factor: u128,
}

impl<'a> Division<'a> {
    /// The division by some primes that brings others back.
    pub(crate) fn by(drop: &'a [u16], bring: &'a [u16]) -> Self {
        Self {
            drop,
            bring,
            factor: 1,
        }
    }

    /// k·ΠU modulo a prime, if it is not one.
    fn multiplier(&self, ring: &Ring, m: Modulus) -> u32 {
        let k = (self.factor % u128::from(m.p)) as u32;
        m.mul(k, ring.product_mod(self.bring, m))
    }

    fn multiplies(&self) -> bool {
        self.factor != 1 || !self.bring.is_empty()
    }

    /// Applies the division to a transformed polynomial, and then the automorphism X → X^element. The result has the primes `to`.
    pub(crate) fn apply(&self, ring: &Ring, x: &RnsPoly, to: &Primes, element: u32) -> RnsPoly {
        let mut quotient = self.convert(ring, x, to);
        let divide = |prime, limb: &mut [u32]| {
            ring.forward(prime, limb);
            self.combine(ring, prime, limb, x);
        };
        if element == 1 {
            quotient.par_limbs(|_, prime, limb| divide(prime, limb));
            quotient.set_form(Form::Transformed);
            return quotient;
        }
        let table = ring.permutation(element);
        let mut turned = RnsPoly::dirty(ring, to, Form::Transformed);
        RnsPoly::par_columns([&mut quotient, &mut turned], |_, prime, limbs| {
            let [limb, turned] = limbs else { return };
            divide(prime, limb);
            permute::permute(turned, limb, &table);
        });
        turned
    }

    /// The residue of x·kU modulo ΠD, nearest to zero, modulo the primes `to`; coefficients.
    fn convert(&self, ring: &Ring, x: &RnsPoly, to: &Primes) -> RnsPoly {
        debug_assert_eq!(x.form(), Form::Transformed);
        let dropped: Primes = self.drop.into();
        let mut source = RnsPoly::dirty(ring, &dropped, Form::Coefficients);
        source.par_limbs(|_, prime, limb| {
            let from = x.limb_of(prime).expect("primes dropped are the input's");
            if self.multiplies() {
                let m = ring.modulus(prime);
                kernels::mul_scalar_to(limb, from, m.to_mont(self.multiplier(ring, m)), m);
            } else {
                limb.copy_from_slice(from);
            }
            ring.inverse_times_n(prime, limb);
        });
        let mut out = RnsPoly::dirty(ring, to, Form::Coefficients);
        let inputs: Vec<&[u32]> = source.limbs().collect();
        ring.conversion(&dropped, to)
            .apply(&inputs, out.limbs_mut().collect());
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
