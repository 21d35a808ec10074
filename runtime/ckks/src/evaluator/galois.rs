//! Rotations and conjugation.

use super::Evaluator;
use crate::engine::{Ct, Decomposed, Engine, GaloisKey, Uses};
use crate::error::Result;
use crate::keys::KeyKind;
use sotto_params::galois;

/// Rotations whose products are in memory together.
const TOGETHER: usize = 8;

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
        // before the work, so that a missing key costs nothing
        let key = |&step: &i64| {
            let element = galois::rotation(step, self.log_n());
            self.galois_key(OP, element, a.level)
        };
        let keys: Vec<_> = steps.iter().map(key).collect::<Result<_>>()?;
        let decomposed = self.decompose(&a.c1, Uses::Many);
        let some: Vec<_> = keys.iter().flatten().copied().collect();
        let mut turned = some
            .chunks(TOGETHER)
            .flat_map(|keys| self.turned(a, &decomposed, keys));
        let next = |key: &Option<_>| match key {
            Some(_) => turned.next().expect("as many rotations as keys"),
            None => a.clone(),
        };
        Ok(keys.iter().map(next).collect())
    }

    fn log_n(&self) -> u32 {
        self.context().params().log_n
    }

    fn automorphism(&self, op: &'static str, a: &Ct<E>, element: u32) -> Result<Ct<E>> {
        self.check_key(op, a)?;
        // before the work, so that a missing key costs nothing
        let Some(key) = self.galois_key(op, element, a.level)? else {
            return Ok(a.clone());
        };
        let decomposed = self.decompose(&a.c1, Uses::Once);
        let mut turned = self.turned(a, &decomposed, &[key]);
        Ok(turned.pop().expect("one result for one key"))
    }

    /// The key of an automorphism; none for the identity.
    fn galois_key(
        &self,
        op: &'static str,
        element: u32,
        level: usize,
    ) -> Result<Option<GaloisKey<'_, E>>> {
        if element == 1 {
            return Ok(None);
        }
        let key = self.key(op, KeyKind::Galois(element), level)?;
        Ok(Some((element, key)))
    }

    /// Automorphisms of a ciphertext whose second half is decomposed.
    fn turned(
        &self,
        a: &Ct<E>,
        decomposed: &Decomposed<'_, E>,
        keys: &[GaloisKey<'_, E>],
    ) -> Vec<Ct<E>> {
        // P·c0 is divided by P without an error, so it may as well be added before
        let carry = [Some(&a.c0), None];
        let turned = self.switched(decomposed, keys, carry, a.level, a.level);
        turned.into_iter().map(|halves| a.with(halves)).collect()
    }
}
