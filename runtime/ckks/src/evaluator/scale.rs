//! Rescaling and level drops: moves between prime sets.

use super::Evaluator;
use crate::ciphertext::Ciphertext;
use crate::error::{CkksError, Result};
use crate::ring::Division;

/// A level drop scales by an integer over a product of primes; the integer has at least this many bits where the levels leave the choice,
/// so that its rounding is no larger than that of a 64-bit float.
const FACTOR_BITS: f64 = 56.0;

impl Evaluator<'_> {
    /// A product back to a value: degree 2 at level ℓ to degree 1 at level ℓ - 1.
    ///
    /// # Errors
    /// If the operand is not of degree 2, or is at level 0.
    pub fn rescale(&self, a: &Ciphertext) -> Result<Ciphertext> {
        a.check_degree("rescale", 2)?;
        if a.level == 0 {
            return Err(CkksError::Level {
                op: "rescale to below level 0",
                level: 0,
                highest: 0,
            });
        }
        let level = a.level - 1;
        let (from, to) = (self.ctx.level_primes(a.level), self.ctx.level_primes(level));
        let drop: Vec<u16> = from.iter().copied().filter(|p| !to.contains(p)).collect();
        let bring: Vec<u16> = to.iter().copied().filter(|p| !from.contains(p)).collect();
        Ok(self.divide(
            a,
            &Division {
                drop: &drop,
                bring: &bring,
                factor: 1,
            },
            level,
            1,
        ))
    }

    /// The same value at a lower level, at that level's canonical scale.
    ///
    /// # Errors
    /// If the level is above the operand's.
    pub fn drop_to_level(&self, a: &Ciphertext, level: usize) -> Result<Ciphertext> {
        if level > a.level {
            return Err(CkksError::Level {
                op: "drop_to_level",
                level,
                highest: a.level,
            });
        }
        if level == a.level {
            return Ok(a.clone());
        }
        let params = self.ctx.params();
        let (from, to) = (self.ctx.level_primes(a.level), self.ctx.level_primes(level));
        let bring: Vec<u16> = to.iter().copied().filter(|p| !from.contains(p)).collect();
        // Divide by as few primes as leave the factor its bits, and forget the rest: that costs nothing.
        let prime = |p: u16| f64::from(params.q_primes[usize::from(p)]);
        let mut factor = self.ctx.scale(level, a.degree) / self.ctx.scale(a.level, a.degree);
        factor /= bring.iter().map(|&p| prime(p)).product::<f64>();
        let mut drop = Vec::new();
        for &p in from.iter().filter(|p| !to.contains(p)) {
            if factor.log2() >= FACTOR_BITS {
                break;
            }
            factor *= prime(p);
            drop.push(p);
        }
        Ok(self.divide(
            a,
            &Division {
                drop: &drop,
                bring: &bring,
                factor: factor.round() as u128,
            },
            level,
            a.degree,
        ))
    }

    fn divide(
        &self,
        a: &Ciphertext,
        division: &Division<'_>,
        level: usize,
        degree: u8,
    ) -> Ciphertext {
        let (ring, to) = (self.ctx.ring(), self.ctx.level_primes(level));
        let (c0, c1) = (
            division.apply(ring, &a.c0, to),
            division.apply(ring, &a.c1, to),
        );
        Ciphertext {
            c0,
            c1,
            level,
            degree,
            key: a.key,
        }
    }
}
