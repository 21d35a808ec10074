//! Rescaling and level drops: moves between prime sets.

use super::Evaluator;
use crate::context::Context;
use crate::engine::{Ct, Division, Engine};
use crate::error::{CkksError, Result};

/// A level drop scales by an integer over a product of primes; the integer has at least this many bits where the levels leave the choice,
/// so that its rounding is no larger than that of a 64-bit float.
const FACTOR_BITS: f64 = 56.0;

/// How to get from level `from` to a lower level `to` while the scale grows by `gain`: primes to divide by, primes brought back, and
/// the factor to multiply with. Divides by as few primes as leave the factor `bits`, and forgets the rest: that costs nothing.
pub(super) fn division_to(
    ctx: &Context,
    from: usize,
    to: usize,
    gain: f64,
    bits: f64,
) -> (Vec<u16>, Vec<u16>, f64) {
    let prime = |p: u16| f64::from(ctx.params().q_primes[usize::from(p)]);
    let (candidates, bring) = ctx.prime_moves(from, to);
    let mut factor = gain / bring.iter().map(|&p| prime(p)).product::<f64>();
    let mut drop = Vec::new();
    for p in candidates {
        if factor.log2() >= bits && (bring.is_empty() || !drop.is_empty()) {
            break;
        }
        factor *= prime(p);
        drop.push(p);
    }
    (drop, bring, factor)
}

impl<E: Engine> Evaluator<'_, E> {
    /// A product back to a value: degree 2 at level ℓ to degree 1 at level ℓ - 1.
    ///
    /// # Errors
    /// If the operand is not of degree 2, or is at level 0.
    pub fn rescale(&self, a: &Ct<E>) -> Result<Ct<E>> {
        a.check_degree("rescale", 2)?;
        let level = below(a.level)?;
        let (drop, bring) = self.context().prime_moves(a.level, level);
        Ok(self.divide(a, &Division::by(&drop, &bring), level, 1))
    }

    /// The same value at a lower level, at that level's canonical scale.
    ///
    /// # Errors
    /// If the level is above the operand's.
    pub fn drop_to_level(&self, a: &Ct<E>, level: usize) -> Result<Ct<E>> {
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
        let ctx = self.context();
        let gain = ctx.scale(level, a.degree) / ctx.scale(a.level, a.degree);
        let (drop, bring, factor) = division_to(ctx, a.level, level, gain, FACTOR_BITS);
        let division = Division {
            factor: factor.round() as u128,
            ..Division::by(&drop, &bring)
        };
        Ok(self.divide(a, &division, level, a.degree))
    }

    pub(super) fn divide(
        &self,
        a: &Ct<E>,
        division: &Division<'_>,
        level: usize,
        degree: u8,
    ) -> Ct<E> {
        let to = self.context().level_primes(level);
        let halves = self.engine.divide(a.halves(), division, to, 1);
        a.with(halves).at(level, degree)
    }
}

/// The level that a rescale leads to.
///
/// # Errors
/// At level 0.
pub(crate) fn below(level: usize) -> Result<usize> {
    level.checked_sub(1).ok_or(CkksError::Level {
        op: "rescale to below level 0",
        level: 0,
        highest: 0,
    })
}
