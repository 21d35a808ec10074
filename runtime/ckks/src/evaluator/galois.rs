//! Rotations and conjugation.

use super::Evaluator;
use crate::engine::{Ct, Decomposed, Engine, Uses};
use crate::error::Result;
use crate::keys::KeyKind;
use sotto_params::galois;

impl<E: Engine> Evaluator<'_, E> {
    /// Rotates the slots left: slot j receives what slot j + step held (negative steps rotate right).
    ///
    /// # Errors
    /// If the rotation's key is missing.
    pub fn rotate(&self, a: &Ct<E>, step: i64) -> Result<Ct<E>> {
        self.automorphism("rotate", a, galois::rotation(step, self.log_n()))
    }

    /// Conjugates every slot.
    ///
    /// # Errors
    /// If the conjugation key is missing.
    pub fn conjugate(&self, a: &Ct<E>) -> Result<Ct<E>> {
        self.automorphism("conjugate", a, galois::conjugation(self.log_n()))
    }

    /// Several rotations of one ciphertext, decomposed once (hoisted).
    ///
    /// # Errors
    /// If a rotation's key is missing.
    pub fn rotate_many(&self, a: &Ct<E>, steps: &[i64]) -> Result<Vec<Ct<E>>> {
        const OP: &str = "rotate_many";
        self.check_key(OP, a)?;
        let decomposed = self.decompose(&a.c1, Uses::Many);
        steps
            .iter()
            .map(|&step| {
                let element = galois::rotation(step, self.log_n());
                self.automorphism_of(OP, a, &decomposed, element)
            })
            .collect()
    }

    fn log_n(&self) -> u32 {
        self.context().params().log_n
    }

    fn automorphism(&self, op: &'static str, a: &Ct<E>, element: u32) -> Result<Ct<E>> {
        self.check_key(op, a)?;
        if element == 1 {
            return Ok(a.clone());
        }
        // Before the work, so that a missing key costs nothing.
        self.key(op, KeyKind::Galois(element), a.level)?;
        let decomposed = self.decompose(&a.c1, Uses::Once);
        self.automorphism_of(op, a, &decomposed, element)
    }

    fn automorphism_of(
        &self,
        op: &'static str,
        a: &Ct<E>,
        decomposed: &Decomposed<'_, E>,
        element: u32,
    ) -> Result<Ct<E>> {
        if element == 1 {
            return Ok(a.clone());
        }
        let key = self.key(op, KeyKind::Galois(element), a.level)?;
        // P·c0 is divided by P without an error, so it may as well be added before
        let wide = self
            .engine
            .key_product(decomposed, key, [Some(&a.c0), None]);
        Ok(a.with(self.leave(wide.each_ref(), a.level, a.level, element)))
    }
}
