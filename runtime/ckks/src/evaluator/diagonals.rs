//! Products with a matrix whose diagonals are ciphertexts, in baby and giant steps.
//!
//! The vector's baby rotations share one decomposition. Products of one giant step are summed before they are relinearised, and what
//! relinearising yields stays modulo QP: a giant step divides only its second component, to rotate it, and one division ends the outer
//! sum, as in [`crate::linear`].

use super::Evaluator;
use super::product::Product;
use crate::ciphertext::Ciphertext;
use crate::error::{CkksError, Result};
use crate::keys::KeyKind;
use crate::keyswitch::{self, Matched};
use crate::wide::{Wide, wide_primes};
use sotto_params::galois;

const OP: &str = "product with encrypted diagonals";

impl Evaluator<'_> {
    /// Σ over giants g and babies b < `baby` of rot(diagonals[g·baby + b] ⊙ rot(v, b·step), g·baby·step): degree 2 at the operands' level.
    ///
    /// # Errors
    /// If there is no diagonal or no baby step, the operands differ in level or secret key or are not of degree 1, or a key is missing:
    /// the relinearization key, and those of the rotations by b·step and g·baby·step.
    pub fn apply_diagonals(
        &self,
        diagonals: &[&Ciphertext],
        v: &Ciphertext,
        baby: usize,
        step: i64,
    ) -> Result<Ciphertext> {
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
        let mut outer = Wide::zero(self.ctx, &wide_primes(self.ctx, v.level));
        for (g, chunk) in diagonals.chunks(baby).enumerate() {
            let mut sum = self.no_product(v)?;
            let pairs: Vec<_> = chunk.iter().copied().zip(&turned).collect();
            self.add_products(&mut sum, &pairs)?;
            self.add_turned(&mut outer, sum, (g * baby) as i64 * step)?;
        }
        let (c0, c1) = outer.leave(self.ctx, v.level, v.level);
        Ok(Ciphertext {
            c0,
            c1,
            degree: 2,
            ..*v
        })
    }

    /// outer += the sum, relinearised and rotated.
    fn add_turned(&self, outer: &mut Wide, sum: Product, by: i64) -> Result<()> {
        let ctx = self.ctx;
        let element = galois::rotation(by, ctx.params().log_n);
        let sum = self.relinearise_wide(sum)?;
        if element == 1 {
            outer.add_assign(ctx, &sum.wide);
            return Ok(());
        }
        let key = self
            .keys
            .find(ctx, OP, KeyKind::Galois(element), sum.level)?;
        let primes = ctx.level_primes(sum.level);
        let c1 = keyswitch::mod_down(ctx, &sum.wide.c1, ctx.special(), primes);
        let decomposed = keyswitch::decompose(ctx, &c1, ctx.special());
        let switch = [(element, Matched::new(&decomposed, key))];
        outer.add_switched(ctx, &switch, crate::wide::Carry::Wide(&sum.wide.c0));
        Ok(())
    }
}
