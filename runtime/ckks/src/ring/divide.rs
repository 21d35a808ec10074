//! Exactly rounded division: rescaling, level drops and leaving the special primes are the same step.

use super::permute::{self, Permutation};
use super::poly::{Form, RnsPoly};
use super::tables::{Primes, Ring};
use super::{Modulus, kernels};

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
        debug_assert_eq!(x.form(), Form::Transformed);
        let mut source = RnsPoly::dirty(ring, &self.drop.into(), Form::Coefficients);
        source.par_limbs(|_, prime, limb| {
            let from = x.limb_of(prime).expect("primes dropped are the input's");
            limb.copy_from_slice(from);
            self.source_of(ring, prime, limb);
        });
        let turn = (element != 1).then(|| ring.permutation(element));
        let turn = turn.as_deref();
        let mut out = self.convert(ring, &source, to);
        out.par_limbs(|_, prime, limb| {
            let mut room = RnsPoly::room(ring, prime, usize::from(turn.is_some()));
            let room = room.words_mut();
            self.finish(ring, prime, limb, x.limb_of(prime), turn, room);
        });
        out.set_form(Form::Transformed);
        out
    }

    /// Makes of a limb of the input's what [`Self::convert`] takes: coefficients of x·kU, times N.
    pub(crate) fn source_of(&self, ring: &Ring, prime: u16, limb: &mut [u32]) {
        if self.multiplies() {
            let m = ring.modulus(prime);
            kernels::mul_scalar(limb, m.to_mont(self.multiplier(ring, m)), m);
        }
        ring.inverse_times_n(prime, limb);
    }

    /// The residue of x·kU modulo ΠD, nearest to zero, modulo the primes `to`: coefficients, from those that [`Self::source_of`] made.
    pub(crate) fn convert(&self, ring: &Ring, source: &RnsPoly, to: &Primes) -> RnsPoly {
        let mut out = RnsPoly::dirty(ring, to, Form::Coefficients);
        let inputs: Vec<&[u32]> = source.limbs().collect();
        ring.conversion(self.drop, to)
            .apply(&inputs, out.limbs_mut().collect());
        out
    }

    /// Makes of a converted limb one of the result's: transformed, subtracted from the input's (none where the prime is brought back),
    /// divided, turned. `room` is a limb of scratch.
    pub(crate) fn finish(
        &self,
        ring: &Ring,
        prime: u16,
        limb: &mut [u32],
        x: Option<&[u32]>,
        turn: Option<&Permutation>,
        room: &mut [u32],
    ) {
        let Some(turn) = turn else {
            ring.forward(prime, limb);
            return self.combine(ring, prime, limb, x);
        };
        // into the cache, and from there to where it goes
        room.copy_from_slice(limb);
        ring.forward(prime, room);
        self.combine(ring, prime, room, x);
        permute::permute(limb, room, turn);
    }

    /// limb = (x·kU - limb)/D modulo one prime of the output.
    fn combine(&self, ring: &Ring, prime: u16, limb: &mut [u32], x: Option<&[u32]>) {
        let m = ring.modulus(prime);
        let d_inv = m.inv(ring.product_mod(self.drop, m));
        if self.bring.contains(&prime) {
            // x·kU vanishes modulo a prime of U.
            return kernels::mul_scalar(limb, m.to_mont(m.neg(d_inv)), m);
        }
        let original = x.expect("output primes come from the input or are brought back");
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
