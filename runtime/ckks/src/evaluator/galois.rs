//! Rotations and conjugation.

use super::Evaluator;
use crate::ciphertext::Ciphertext;
use crate::error::Result;
use crate::keys::KeyKind;
use crate::keyswitch::{self, Decomposed};
use sotto_params::galois;

impl Evaluator<'_> {
    /// Rotates the slots left: slot j receives what slot j + step held (negative steps rotate right).
    ///
    /// # Errors
    /// If the rotation's key is missing.
    pub fn rotate(&self, a: &Ciphertext, step: i64) -> Result<Ciphertext> {
        self.automorphism("rotate", a, galois::rotation(step, self.ctx.params().log_n))
    }

    /// Conjugates every slot.
    ///
    /// # Errors
    /// If the conjugation key is missing.
    pub fn conjugate(&self, a: &Ciphertext) -> Result<Ciphertext> {
        self.automorphism("conjugate", a, galois::conjugation(self.ctx.params().log_n))
    }

    /// Several rotations of one ciphertext, decomposed once (hoisted).
    ///
    /// # Errors
    /// If a rotation's key is missing.
    pub fn rotate_many(&self, a: &Ciphertext, steps: &[i64]) -> Result<Vec<Ciphertext>> {
        self.check_key("rotate_many", a)?;
        let decomposed = keyswitch::decompose(self.ctx, &a.c1, self.ctx.special());
        steps
            .iter()
            .map(|&step| {
                let element = galois::rotation(step, self.ctx.params().log_n);
                self.automorphism_of("rotate_many", a, &decomposed, element)
            })
            .collect()
    }

    fn automorphism(&self, op: &'static str, a: &Ciphertext, element: u32) -> Result<Ciphertext> {
        self.check_key(op, a)?;
        if element == 1 {
            return Ok(a.clone());
        }
        // Before the work, so that a missing key costs nothing.
        self.keys
            .find(self.ctx, op, KeyKind::Galois(element), a.level)?;
        let decomposed = keyswitch::decompose(self.ctx, &a.c1, self.ctx.special());
        self.automorphism_of(op, a, &decomposed, element)
    }

    fn automorphism_of(
        &self,
        op: &'static str,
        a: &Ciphertext,
        decomposed: &Decomposed<'_>,
        element: u32,
    ) -> Result<Ciphertext> {
        if element == 1 {
            return Ok(a.clone());
        }
        let (ctx, ring) = (self.ctx, self.ctx.ring());
        let key = self.keys.find(ctx, op, KeyKind::Galois(element), a.level)?;
        let (u0, u1) = keyswitch::key_inner_product(ctx, decomposed, key);
        let primes = a.c0.primes();
        let mut c0 = keyswitch::mod_down(ctx, &u0, ctx.special(), primes);
        let c1 = keyswitch::mod_down(ctx, &u1, ctx.special(), primes);
        c0.add_assign(ring, &a.c0);
        Ok(Ciphertext {
            c0: c0.automorphism(ring, element),
            c1: c1.automorphism(ring, element),
            ..*a
        })
    }
}
