//! Products kept apart until they are needed: sums of tensors share one relinearisation, and the division by P and the rescale
//! that follows are one division (fewer transforms, and one rounding instead of two).

use super::Evaluator;
use super::arithmetic::GaussianInteger;
use super::scale::{below, division_to};
use crate::ciphertext::Ciphertext;
use crate::engine::{Ct, Division, Engine, Uses};
use crate::error::{CkksError, Result};
use crate::keys::{KeyId, KeyKind};

const OP: &str = "mul";

/// Constants of a combination carry at least this many bits: as many as a value's scale at the app levels.
const CONSTANT_BITS: f64 = 40.0;

/// A sum of products of values at one level, before relinearisation: d0 + d1·s + d2·s², at scale Δ².
pub(crate) struct Product<P> {
    parts: [P; 3],
    level: usize,
    key: KeyId,
}

impl<E: Engine> Evaluator<'_, E> {
    /// a·b, relinearised and rescaled: degree 1 at the level below. Cheaper than [`Self::mul`] followed by [`Self::rescale`].
    ///
    /// # Errors
    /// As [`Self::mul`]; also at level 0.
    pub fn mul_rescaled(&self, a: &Ct<E>, b: &Ct<E>) -> Result<Ct<E>> {
        self.relinearise_rescaled(self.product(&[(a, b)])?)
    }

    /// a², relinearised and rescaled.
    ///
    /// # Errors
    /// As [`Self::mul_rescaled`].
    pub fn square_rescaled(&self, a: &Ct<E>) -> Result<Ct<E>> {
        self.mul_rescaled(a, a)
    }

    /// Σ a·b over at least one pair, one limb of all products after the other.
    pub(crate) fn product(&self, pairs: &[(&Ct<E>, &Ct<E>)]) -> Result<Product<E::Poly>> {
        let Some((first, _)) = pairs.first() else {
            return Err(CkksError::Diagonals { given: 0, split: 1 });
        };
        self.check_key(OP, first)?;
        for (a, b) in pairs {
            a.check_degree(OP, 1)?;
            a.check_like(OP, first.level, 1)?;
            self.check_pair(OP, first, a)?;
            self.check_pair(OP, a, b)?;
        }
        let pairs: Vec<_> = pairs
            .iter()
            .map(|(a, b)| [a.halves(), b.halves()])
            .collect();
        Ok(Product {
            parts: self.engine.products(&pairs),
            level: first.level,
            key: first.key,
        })
    }

    /// sum += c.
    pub(crate) fn add_constant_to_product(&self, sum: &mut Product<E::Poly>, c: f64) -> Result<()> {
        self.constant(OP, c.into(), sum.level, 2)?
            .add_to(&self.engine, &mut sum.parts[0]);
        Ok(())
    }

    /// sum += ct, of degree 2.
    pub(crate) fn add_to_product(&self, sum: &mut Product<E::Poly>, ct: &Ct<E>) -> Result<()> {
        ct.check_like(OP, sum.level, 2)?;
        for (part, half) in sum.parts.iter_mut().zip(ct.halves()) {
            self.engine.add_assign(part, half);
        }
        Ok(())
    }

    /// sum -= a at the scale of the sum (a is of degree 1): an integer product with round(Δ).
    pub(crate) fn sub_value_from_product(
        &self,
        sum: &mut Product<E::Poly>,
        a: &Ct<E>,
    ) -> Result<()> {
        a.check_like(OP, sum.level, 1)?;
        let ctx = self.context();
        let factor = -(ctx.scale(a.level, 1).round() as i128);
        let primes = ctx.level_primes(a.level).iter();
        let residues = primes.map(|&prime| ctx.ring().modulus(prime).reduce_i128(factor));
        let residues: Vec<u32> = residues.collect();
        for (part, half) in sum.parts.iter_mut().zip(a.halves()) {
            self.engine.add_multiple(part, half, &residues);
        }
        Ok(())
    }

    /// The sum as a value: relinearised, divided by P and rescaled at once.
    pub(crate) fn relinearise_rescaled(&self, product: Product<E::Poly>) -> Result<Ct<E>> {
        let level = below(product.level)?;
        self.relinearise_to(product, level, 1)
    }

    /// The sum relinearised and brought to a level: its own, at degree 2, or the one below, at degree 1.
    pub(super) fn relinearise_to(
        &self,
        product: Product<E::Poly>,
        level: usize,
        degree: u8,
    ) -> Result<Ct<E>> {
        let [d0, d1, d2] = &product.parts;
        let key = self.key(OP, KeyKind::Relinearization, product.level)?;
        let decomposed = self.decompose(d2, Uses::Once);
        let carry = [Some(d0), Some(d1)];
        let [c0, c1] = self.switched_once(&decomposed, key, carry, product.level, level);
        Ok(Ciphertext {
            c0,
            c1,
            level,
            degree,
            key: product.key,
        })
    }

    /// The sum relinearised, modulo QP and times P.
    pub(super) fn relinearise_wide(&self, product: &Product<E::Poly>) -> Result<[E::Poly; 2]> {
        let [d0, d1, d2] = &product.parts;
        let key = self.key(OP, KeyKind::Relinearization, product.level)?;
        let decomposed = self.decompose(d2, Uses::Once);
        Ok(self
            .engine
            .key_product(&decomposed, key, [Some(d0), Some(d1)]))
    }

    /// Σ terms + constant, brought from the terms' common level to `level` at the scale of `degree` in one division: the constants are
    /// scaled by what the division takes away.
    pub(crate) fn combine_to(
        &self,
        terms: &[(&Ct<E>, f64)],
        constant: f64,
        level: usize,
        degree: u8,
    ) -> Result<Ct<E>> {
        let Some(&(first, _)) = terms.first() else {
            return Err(CkksError::Level {
                op: "empty combination",
                level,
                highest: 0,
            });
        };
        for (ct, _) in terms {
            self.check_pair("combine", first, ct)?;
            ct.check_degree("combine", 1)?;
        }
        let ctx = self.context();
        let gain = ctx.scale(level, degree) / ctx.scale(first.level, 1);
        let (drop, bring, factor) = division_to(ctx, first.level, level, gain, CONSTANT_BITS);
        let combined = first.with(self.weighted(terms, factor)?);
        let mut out = if drop.is_empty() {
            let primes = ctx.level_primes(level);
            let halves = combined.halves();
            first.with(halves.map(|half| self.engine.restrict(half, primes)))
        } else {
            self.divide(&combined, &Division::by(&drop, &bring), level, degree)
        }
        .at(level, degree);
        if constant != 0.0 {
            self.constant("combine", constant.into(), level, degree)?
                .add_to(&self.engine, &mut out.c0);
        }
        Ok(out)
    }

    /// Σ terms times a factor, rounded.
    fn weighted(&self, terms: &[(&Ct<E>, f64)], factor: f64) -> Result<[E::Poly; 2]> {
        let ctx = self.context();
        let weight = |&(ct, c): &(&Ct<E>, f64)| {
            let weight = GaussianInteger::scaled(ctx, "combine", c.into(), factor, ct.level)?;
            let primes = ctx.level_primes(ct.level).iter();
            let residues = primes.map(|&p| weight.real_residue(ctx.ring().modulus(p)));
            Ok(residues.collect::<Vec<u32>>())
        };
        let weights: Vec<Vec<u32>> = terms.iter().map(weight).collect::<Result<_>>()?;
        Ok([0, 1].map(|half| {
            let terms = terms.iter().zip(&weights);
            let terms: Vec<_> = terms
                .map(|((ct, _), weight)| (ct.halves()[half], weight.clone()))
                .collect();
            self.engine.combine(&terms)
        }))
    }
}
