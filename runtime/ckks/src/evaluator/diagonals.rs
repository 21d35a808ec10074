//! Products with a matrix whose diagonals are ciphertexts, in baby and giant steps.
//!
//! The vector's baby rotations share one decomposition. Products of one giant step are summed before they are relinearised, and what
//! relinearising yields stays modulo QP: a giant step divides only its second component, to rotate it, and one division ends the outer
//! sum, as in [`crate::linear`].

use super::Evaluator;
use crate::engine::{Carry, Ct, Engine, Switch, Uses};
use crate::error::{CkksError, Result};
use crate::keys::KeyKind;
use sotto_params::galois;

const OP: &str = "product with encrypted diagonals";

impl<E: Engine> Evaluator<'_, E> {
    /// Σ over giants g and babies b < `baby` of rot(diagonals[g·baby + b] ⊙ rot(v, b·step), g·baby·step): degree 2 at the operands' level.
    ///
    /// # Errors
    /// If there is no diagonal or no baby step, the operands differ in level or secret key or are not of degree 1, or a key is missing:
    /// the relinearization key, and those of the rotations by b·step and g·baby·step.
    pub fn apply_diagonals(
        &self,
        diagonals: &[&Ct<E>],
        v: &Ct<E>,
        baby: usize,
        step: i64,
    ) -> Result<Ct<E>> {
        v.check_degree(OP, 1)?;
        if diagonals.is_empty() || baby == 0 {
            return Err(CkksError::Diagonals {
                given: diagonals.len(),
                split: baby,
            });
        }
        let steps: Vec<i64> = (0..baby.min(diagonals.len()) as i64)
            .map(|b| b * step)
            .collect();
        let turned = self.rotate_many(v, &steps)?;
        let wide = self.context().wide_primes(v.level);
        let mut outer = [(); 2].map(|()| self.engine.zero(&wide));
        for (g, chunk) in diagonals.chunks(baby).enumerate() {
            let pairs: Vec<_> = chunk.iter().copied().zip(&turned).collect();
            let sum = self.relinearise_wide(&self.product(&pairs)?)?;
            let by = (g * baby) as i64 * step;
            let element = galois::rotation(by, self.context().params().log_n);
            self.add_turned(OP, &mut outer, sum, element, v.level)?;
        }
        let halves = self.leave(outer.each_ref(), v.level, v.level);
        Ok(v.with(halves).at(v.level, 2))
    }

    /// outer += the automorphism of a pair modulo QP: only its second half is divided by P, to be decomposed.
    pub(crate) fn add_turned(
        &self,
        op: &'static str,
        outer: &mut [E::Poly; 2],
        [c0, c1]: [E::Poly; 2],
        element: u32,
        level: usize,
    ) -> Result<()> {
        if element == 1 {
            self.engine.add_assign(&mut outer[0], &c0);
            self.engine.add_assign(&mut outer[1], &c1);
            return Ok(());
        }
        let key = self.key(op, KeyKind::Galois(element), level)?;
        let [c1] = self.leave([&c1], level, level);
        let decomposed = &self.decompose(&c1, Uses::Once);
        let switch = Switch {
            element,
            decomposed,
            key,
        };
        self.engine.add_switched(outer, &[switch], Carry::Wide(&c0));
        Ok(())
    }
}
