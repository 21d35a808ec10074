//! Addition and multiplication.

use super::Evaluator;
use crate::context::Context;
use crate::encoding::Plaintext;
use crate::engine::{Ct, Engine};
use crate::error::{CkksError, Result};
use crate::ring::{Modulus, Primes};
use num_complex::Complex64;

/// Largest log2 of an integer constant.
const MAX_CONSTANT_BITS: f64 = 124.0;

/// A Gaussian integer constant, as it acts on transformed limbs: X^(N/2) is the imaginary unit in every slot, and a transformed limb
/// holds one square root of -1 for it in its first half and the other in its second.
#[derive(Clone, Copy)]
pub(crate) struct GaussianInteger {
    re: i128,
    im: i128,
}

impl GaussianInteger {
    /// c·scale, rounded; `level` bounds its size.
    pub(crate) fn scaled(
        ctx: &Context,
        op: &'static str,
        c: Complex64,
        scale: f64,
        level: usize,
    ) -> Result<Self> {
        let magnitude = if c.re.is_nan() {
            c.re
        } else {
            c.re.abs().max(c.im.abs())
        };
        let log_q = ctx.params().log_q(level);
        let fits = (magnitude * scale).log2() < (log_q - 1.0).min(MAX_CONSTANT_BITS);
        if !c.is_finite() || !fits && magnitude > 0.0 {
            return Err(CkksError::Range {
                op,
                magnitude,
                log_scale: scale.log2(),
                level,
                log_q,
            });
        }
        Ok(Self {
            re: (c.re * scale).round() as i128,
            im: (c.im * scale).round() as i128,
        })
    }

    /// Residue of the real part.
    pub(crate) fn real_residue(&self, m: Modulus) -> u32 {
        m.reduce_i128(self.re)
    }

    /// The constant's residues in the two halves of a limb, for every prime.
    fn residues(&self, ctx: &Context, primes: &Primes) -> Vec<[u32; 2]> {
        let ring = ctx.ring();
        let of = |&prime| {
            let m = ring.modulus(prime);
            let re = m.reduce_i128(self.re);
            let im = m.mul(m.reduce_i128(self.im), ring.imaginary(prime));
            [m.sub(re, m.neg(im)), m.sub(re, im)]
        };
        primes.iter().map(of).collect()
    }

    /// poly·constant.
    pub(crate) fn times<E: Engine>(&self, engine: &E, poly: &E::Poly) -> E::Poly {
        let residues = self.residues(engine.context(), engine.primes(poly));
        engine.scale(poly, &residues)
    }

    /// poly += constant.
    pub(crate) fn add_to<E: Engine>(&self, engine: &E, poly: &mut E::Poly) {
        let residues = self.residues(engine.context(), engine.primes(poly));
        engine.add_constant(poly, &residues);
    }
}

impl<E: Engine> Evaluator<'_, E> {
    /// a + b.
    ///
    /// # Errors
    /// If the operands differ in level, degree or secret key.
    pub fn add(&self, a: &Ct<E>, b: &Ct<E>) -> Result<Ct<E>> {
        self.check_pair("add", a, b)?;
        Ok(a.with([self.engine.add(&a.c0, &b.c0), self.engine.add(&a.c1, &b.c1)]))
    }

    /// a += b, without a new ciphertext.
    ///
    /// # Errors
    /// As [`Self::add`].
    pub fn add_assign(&self, a: &mut Ct<E>, b: &Ct<E>) -> Result<()> {
        self.check_pair("add", a, b)?;
        self.engine.add_assign(&mut a.c0, &b.c0);
        self.engine.add_assign(&mut a.c1, &b.c1);
        Ok(())
    }

    /// a - b.
    ///
    /// # Errors
    /// As [`Self::add`].
    pub fn sub(&self, a: &Ct<E>, b: &Ct<E>) -> Result<Ct<E>> {
        self.check_pair("sub", a, b)?;
        Ok(a.with([self.engine.sub(&a.c0, &b.c0), self.engine.sub(&a.c1, &b.c1)]))
    }

    /// -a.
    pub fn negate(&self, a: &Ct<E>) -> Ct<E> {
        a.with(a.halves().map(|half| self.engine.negate(half)))
    }

    /// a + p.
    ///
    /// # Errors
    /// If the operands differ in level or degree.
    pub fn add_plain(&self, a: &Ct<E>, p: &Plaintext<E::Poly>) -> Result<Ct<E>> {
        a.check_like("add_plain", p.level, p.degree)?;
        Ok(a.with([self.engine.add(&a.c0, &p.poly), a.c1.clone()]))
    }

    /// a - p.
    ///
    /// # Errors
    /// If the operands differ in level or degree.
    pub fn sub_plain(&self, a: &Ct<E>, p: &Plaintext<E::Poly>) -> Result<Ct<E>> {
        a.check_like("sub_plain", p.level, p.degree)?;
        Ok(a.with([self.engine.sub(&a.c0, &p.poly), a.c1.clone()]))
    }

    /// a·p, of degree 2.
    ///
    /// # Errors
    /// If an operand is not of degree 1 or the levels differ.
    pub fn mul_plain(&self, a: &Ct<E>, p: &Plaintext<E::Poly>) -> Result<Ct<E>> {
        a.check_degree("mul_plain", 1)?;
        a.check_like("mul_plain", p.level, p.degree)?;
        let product = a.halves().map(|half| self.engine.mul(half, &p.poly));
        Ok(a.with(product).at(a.level, 2))
    }

    /// acc += a·p, where acc is of degree 2: one term of an inner product that is rescaled once.
    ///
    /// # Errors
    /// As [`Self::mul_plain`]; also if `acc` is not of degree 2 at the same level, or of another secret key.
    pub fn mul_plain_add(&self, acc: &mut Ct<E>, a: &Ct<E>, p: &Plaintext<E::Poly>) -> Result<()> {
        a.check_degree("mul_plain_add", 1)?;
        a.check_like("mul_plain_add", p.level, p.degree)?;
        acc.check_like("mul_plain_add", a.level, 2)?;
        if acc.key != a.key {
            return Err(CkksError::ForeignKey {
                op: "mul_plain_add",
                what: "one of the ciphertexts",
            });
        }
        self.engine.mul_add_assign(&mut acc.c0, &a.c0, &p.poly);
        self.engine.mul_add_assign(&mut acc.c1, &a.c1, &p.poly);
        Ok(())
    }

    /// a + c in every slot.
    ///
    /// # Errors
    /// If the constant does not fit the level at the operand's scale.
    pub fn add_const(&self, a: &Ct<E>, c: impl Into<Complex64>) -> Result<Ct<E>> {
        let constant = self.constant("add_const", c.into(), a.level, a.degree)?;
        let mut out = a.clone();
        constant.add_to(&self.engine, &mut out.c0);
        Ok(out)
    }

    /// a·c in every slot, of degree 2.
    ///
    /// # Errors
    /// If the operand is not of degree 1 or the constant does not fit.
    pub fn mul_const(&self, a: &Ct<E>, c: impl Into<Complex64>) -> Result<Ct<E>> {
        a.check_degree("mul_const", 1)?;
        let constant = self.constant("mul_const", c.into(), a.level, 1)?;
        let product = a.halves().map(|half| constant.times(&self.engine, half));
        Ok(a.with(product).at(a.level, 2))
    }

    /// i·a: exact and without a level.
    pub fn mul_by_i(&self, a: &Ct<E>) -> Ct<E> {
        self.mul_integer(a, 0, 1)
    }

    /// (re + im·i)·a for integers: exact, without a level, but the value grows at the same scale.
    pub fn mul_integer(&self, a: &Ct<E>, re: i64, im: i64) -> Ct<E> {
        let constant = GaussianInteger {
            re: re.into(),
            im: im.into(),
        };
        a.with(a.halves().map(|half| constant.times(&self.engine, half)))
    }

    /// A constant at the canonical scale of a level and degree.
    pub(crate) fn constant(
        &self,
        op: &'static str,
        c: Complex64,
        level: usize,
        degree: u8,
    ) -> Result<GaussianInteger> {
        let ctx = self.context();
        GaussianInteger::scaled(ctx, op, c, ctx.scale(level, degree), level)
    }

    /// a·b, relinearised, of degree 2.
    ///
    /// # Errors
    /// If the operands differ in level or secret key, are not of degree 1, or the relinearization key is missing.
    pub fn mul(&self, a: &Ct<E>, b: &Ct<E>) -> Result<Ct<E>> {
        self.relinearise_to(self.product(&[(a, b)])?, a.level, 2)
    }

    /// a², relinearised, of degree 2.
    ///
    /// # Errors
    /// As [`Self::mul`].
    pub fn square(&self, a: &Ct<E>) -> Result<Ct<E>> {
        self.mul(a, a)
    }
}
