//! Products kept apart until they are needed: sums of tensors share one relinearisation, and the division by P and the rescale
//! that follows are one division (fewer transforms, and one rounding instead of two).

use super::Evaluator;
use super::arithmetic::GaussianInteger;
use super::scale::division_to;
use crate::ciphertext::Ciphertext;
use crate::error::{CkksError, Result};
use crate::keys::{KeyId, KeyKind};
use crate::keyswitch::{self, Matched};
use crate::ring::{Division, Form, RnsPoly, kernels, sums};
use crate::wide::Wide;
use rayon::prelude::*;

const OP: &str = "mul";

/// Constants of a combination carry at least this many bits: as many as a value's scale at the app levels.
const CONSTANT_BITS: f64 = 40.0;

/// A sum of products of values at one level, before relinearisation: d0 + d1·s + d2·s², at scale Δ².
pub(crate) struct Product {
    parts: [RnsPoly; 3],
    level: usize,
    key: KeyId,
}

/// A sum of products after relinearisation, before the division by P.
pub(super) struct Relinearised {
    pub(super) wide: Wide,
    pub(super) level: usize,
    key: KeyId,
}

impl Evaluator<'_> {
    /// a·b, relinearised and rescaled: degree 1 at the level below. Cheaper than [`Self::mul`] followed by [`Self::rescale`].
    ///
    /// # Errors
    /// As [`Self::mul`]; also at level 0.
    pub fn mul_rescaled(&self, a: &Ciphertext, b: &Ciphertext) -> Result<Ciphertext> {
        let mut product = self.no_product(a)?;
        self.add_product(&mut product, a, b)?;
        self.relinearise_rescaled(product)
    }

    /// a², relinearised and rescaled.
    ///
    /// # Errors
    /// As [`Self::mul_rescaled`].
    pub fn square_rescaled(&self, a: &Ciphertext) -> Result<Ciphertext> {
        self.mul_rescaled(a, a)
    }

    /// The empty sum of products at the level of `like`.
    pub(crate) fn no_product(&self, like: &Ciphertext) -> Result<Product> {
        self.check_key(OP, like)?;
        let zero = || {
            RnsPoly::zero(
                self.ctx.ring(),
                self.ctx.level_primes(like.level),
                Form::Transformed,
            )
        };
        Ok(Product {
            parts: [zero(), zero(), zero()],
            level: like.level,
            key: like.key,
        })
    }

    /// sum += a·b.
    pub(crate) fn add_product(
        &self,
        sum: &mut Product,
        a: &Ciphertext,
        b: &Ciphertext,
    ) -> Result<()> {
        self.add_products(sum, &[(a, b)])
    }

    /// sum += Σ a·b, one limb of all products after the other.
    pub(crate) fn add_products(
        &self,
        sum: &mut Product,
        pairs: &[(&Ciphertext, &Ciphertext)],
    ) -> Result<()> {
        for (a, b) in pairs {
            a.check_degree(OP, 1)?;
            a.check_like(OP, sum.level, 1)?;
            self.check_pair(OP, a, b)?;
        }
        let ring = self.ctx.ring();
        let [d0, d1, d2] = &mut sum.parts;
        let primes = d0.primes().clone();
        let n = ring.n;
        d0.words_mut()
            .par_chunks_exact_mut(n)
            .zip(d1.words_mut().par_chunks_exact_mut(n))
            .zip(d2.words_mut().par_chunks_exact_mut(n))
            .enumerate()
            .for_each(|(i, ((x, y), z))| {
                let m = ring.modulus(primes[i]);
                for (a, b) in pairs {
                    sums::tensor_add(
                        x,
                        y,
                        z,
                        a.c0.limb(i),
                        a.c1.limb(i),
                        b.c0.limb(i),
                        b.c1.limb(i),
                        m,
                    );
                }
            });
        Ok(())
    }

    /// sum += c.
    pub(crate) fn add_constant_to_product(&self, sum: &mut Product, c: f64) -> Result<()> {
        self.constant(OP, c.into(), sum.level, 2)?
            .add_assign(self.ctx.ring(), &mut sum.parts[0]);
        Ok(())
    }

    /// sum += ct, of degree 2.
    pub(crate) fn add_to_product(&self, sum: &mut Product, ct: &Ciphertext) -> Result<()> {
        ct.check_like(OP, sum.level, 2)?;
        sum.parts[0].add_assign(self.ctx.ring(), &ct.c0);
        sum.parts[1].add_assign(self.ctx.ring(), &ct.c1);
        Ok(())
    }

    /// sum -= a at the scale of the sum (a is of degree 1): an integer product with round(Δ).
    pub(crate) fn sub_value_from_product(&self, sum: &mut Product, a: &Ciphertext) -> Result<()> {
        a.check_like(OP, sum.level, 1)?;
        let ring = self.ctx.ring();
        let factor = -(self.ctx.scale(a.level, 1).round() as i128);
        for (part, c) in sum.parts.iter_mut().zip([&a.c0, &a.c1]) {
            part.mul_integer_add(ring, c, |prime| ring.modulus(prime).reduce_i128(factor));
        }
        Ok(())
    }

    /// The sum as a value: relinearised, divided by P and rescaled at once.
    pub(crate) fn relinearise_rescaled(&self, product: Product) -> Result<Ciphertext> {
        let Some(below) = product.level.checked_sub(1) else {
            return Err(CkksError::Level {
                op: "rescale to below level 0",
                level: 0,
                highest: 0,
            });
        };
        let Relinearised { wide, level, key } = self.relinearise_wide(product)?;
        let (c0, c1) = wide.leave(self.ctx, level, below);
        Ok(Ciphertext {
            c0,
            c1,
            level: below,
            degree: 1,
            key,
        })
    }

    /// The sum relinearised, modulo QP and times P.
    pub(super) fn relinearise_wide(&self, product: Product) -> Result<Relinearised> {
        let Product {
            parts: [d0, d1, d2],
            level,
            key,
        } = product;
        let ctx = self.ctx;
        let relinearization = self.keys.find(ctx, OP, KeyKind::Relinearization, level)?;
        let mut wide = Wide::lift(
            ctx,
            &Ciphertext {
                c0: d0,
                c1: d1,
                level,
                degree: 2,
                key,
            },
        );
        let decomposed = keyswitch::decompose(ctx, &d2, ctx.special());
        wide.add_key_product(ctx, &Matched::new(&decomposed, relinearization));
        Ok(Relinearised { wide, level, key })
    }

    /// Σ terms + constant, brought from the terms' common level to `level` at the scale of `degree` in one division: the constants are
    /// scaled by what the division takes away.
    pub(crate) fn combine_to(
        &self,
        terms: &[(&Ciphertext, f64)],
        constant: f64,
        level: usize,
        degree: u8,
    ) -> Result<Ciphertext> {
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
        let ctx = self.ctx;
        let gain = ctx.scale(level, degree) / ctx.scale(first.level, 1);
        let (drop, bring, factor) = division_to(ctx, first.level, level, gain, CONSTANT_BITS);
        let weights = self.weights(terms, factor)?;
        let [c0, c1] = [0, 1].map(|half| self.combine_parts(terms, &weights, half));
        let combined = Ciphertext { c0, c1, ..*first };
        let mut out = if drop.is_empty() {
            let primes = ctx.level_primes(level);
            let (c0, c1) = (combined.c0.restrict(primes), combined.c1.restrict(primes));
            Ciphertext {
                c0,
                c1,
                level,
                degree,
                key: first.key,
            }
        } else {
            let division = Division {
                drop: &drop,
                bring: &bring,
                factor: 1,
            };
            self.divide(&combined, &division, level, degree)
        };
        if constant != 0.0 {
            self.constant("combine", constant.into(), level, degree)?
                .add_assign(ctx.ring(), &mut out.c0);
        }
        Ok(out)
    }

    fn weights(&self, terms: &[(&Ciphertext, f64)], factor: f64) -> Result<Vec<GaussianInteger>> {
        let weight = |(ct, c): &(&Ciphertext, f64)| {
            GaussianInteger::scaled(self.ctx, "combine", (*c).into(), factor, ct.level)
        };
        terms.iter().map(weight).collect()
    }

    fn combine_parts(
        &self,
        terms: &[(&Ciphertext, f64)],
        weights: &[GaussianInteger],
        half: usize,
    ) -> RnsPoly {
        let ring = self.ctx.ring();
        let parts: Vec<&RnsPoly> = terms
            .iter()
            .map(|(ct, _)| if half == 0 { &ct.c0 } else { &ct.c1 })
            .collect();
        let mut out = RnsPoly::zero(ring, parts[0].primes(), Form::Transformed);
        out.par_limbs(|i, prime, limb| {
            let m = ring.modulus(prime);
            let residues = weights.iter().map(|w| m.to_mont(w.real_residue(m)));
            let pairs: Vec<(&[u32], u32)> = parts.iter().map(|p| p.limb(i)).zip(residues).collect();
            for chunk in pairs.chunks(kernels::MAX_TERMS) {
                sums::combine_mont_add(limb, chunk, m);
            }
        });
        out
    }
}
