//! Addition and multiplication.

use super::Evaluator;
use crate::ciphertext::Ciphertext;
use crate::context::Context;
use crate::encoding::Plaintext;
use crate::error::{CkksError, Result};
use crate::keys::KeyKind;
use crate::keyswitch;
use crate::ring::{Form, Modulus, Ring, RnsPoly, kernels};
use num_complex::Complex64;
use rayon::prelude::*;

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

    /// The constant's residues in the two halves of a transformed limb.
    fn residues(&self, ring: &Ring, prime: u16) -> [u32; 2] {
        let m = ring.modulus(prime);
        let re = m.reduce_i128(self.re);
        let im = m.mul(m.reduce_i128(self.im), ring.imaginary(prime));
        [m.sub(re, m.neg(im)), m.sub(re, im)]
    }

    /// Calls `f` on each half of every limb with the constant's residue there.
    fn on_halves(
        &self,
        ring: &Ring,
        poly: &mut RnsPoly,
        f: impl Fn(&mut [u32], u32, Modulus) + Sync,
    ) {
        poly.par_limbs(|_, prime, limb| {
            let m = ring.modulus(prime);
            let halves = self.residues(ring, prime);
            let middle = limb.len() / 2;
            let (low, high) = limb.split_at_mut(middle);
            f(low, halves[0], m);
            f(high, halves[1], m);
        });
    }

    /// poly *= constant.
    pub(crate) fn mul_assign(&self, ring: &Ring, poly: &mut RnsPoly) {
        self.on_halves(ring, poly, |half, c, m| {
            kernels::mul_scalar(half, m.to_mont(c), m)
        });
    }

    /// poly += constant.
    pub(crate) fn add_assign(&self, ring: &Ring, poly: &mut RnsPoly) {
        self.on_halves(ring, poly, kernels::add_scalar);
    }
}

impl Evaluator<'_> {
    /// a + b.
    ///
    /// # Errors
    /// If the operands differ in level, degree or secret key.
    pub fn add(&self, a: &Ciphertext, b: &Ciphertext) -> Result<Ciphertext> {
        self.check_pair("add", a, b)?;
        let ring = self.ctx.ring();
        Ok(Ciphertext {
            c0: a.c0.add(ring, &b.c0),
            c1: a.c1.add(ring, &b.c1),
            ..*a
        })
    }

    /// a += b, without a new ciphertext.
    ///
    /// # Errors
    /// As [`Self::add`].
    pub fn add_assign(&self, a: &mut Ciphertext, b: &Ciphertext) -> Result<()> {
        self.check_pair("add", a, b)?;
        let ring = self.ctx.ring();
        a.c0.add_assign(ring, &b.c0);
        a.c1.add_assign(ring, &b.c1);
        Ok(())
    }

    /// a - b.
    ///
    /// # Errors
    /// As [`Self::add`].
    pub fn sub(&self, a: &Ciphertext, b: &Ciphertext) -> Result<Ciphertext> {
        self.check_pair("sub", a, b)?;
        let ring = self.ctx.ring();
        Ok(Ciphertext {
            c0: a.c0.sub(ring, &b.c0),
            c1: a.c1.sub(ring, &b.c1),
            ..*a
        })
    }

    /// -a.
    pub fn negate(&self, a: &Ciphertext) -> Ciphertext {
        let mut out = a.clone();
        out.c0.neg_assign(self.ctx.ring());
        out.c1.neg_assign(self.ctx.ring());
        out
    }

    /// a + p.
    ///
    /// # Errors
    /// If the operands differ in level or degree.
    pub fn add_plain(&self, a: &Ciphertext, p: &Plaintext) -> Result<Ciphertext> {
        a.check_like("add_plain", p.level, p.degree)?;
        Ok(Ciphertext {
            c0: a.c0.add(self.ctx.ring(), &p.poly),
            c1: a.c1.clone(),
            ..*a
        })
    }

    /// a - p.
    ///
    /// # Errors
    /// If the operands differ in level or degree.
    pub fn sub_plain(&self, a: &Ciphertext, p: &Plaintext) -> Result<Ciphertext> {
        a.check_like("sub_plain", p.level, p.degree)?;
        Ok(Ciphertext {
            c0: a.c0.sub(self.ctx.ring(), &p.poly),
            c1: a.c1.clone(),
            ..*a
        })
    }

    /// a·p, of degree 2.
    ///
    /// # Errors
    /// If an operand is not of degree 1 or the levels differ.
    pub fn mul_plain(&self, a: &Ciphertext, p: &Plaintext) -> Result<Ciphertext> {
        a.check_degree("mul_plain", 1)?;
        a.check_like("mul_plain", p.level, p.degree)?;
        let ring = self.ctx.ring();
        Ok(Ciphertext {
            c0: a.c0.mul(ring, &p.poly),
            c1: a.c1.mul(ring, &p.poly),
            degree: 2,
            ..*a
        })
    }

    /// acc += a·p, where acc is of degree 2: one term of an inner product that is rescaled once.
    ///
    /// # Errors
    /// As [`Self::mul_plain`]; also if `acc` is not of degree 2 at the same level, or of another secret key.
    pub fn mul_plain_add(&self, acc: &mut Ciphertext, a: &Ciphertext, p: &Plaintext) -> Result<()> {
        a.check_degree("mul_plain_add", 1)?;
        a.check_like("mul_plain_add", p.level, p.degree)?;
        acc.check_like("mul_plain_add", a.level, 2)?;
        if acc.key != a.key {
            return Err(CkksError::ForeignKey {
                op: "mul_plain_add",
                what: "one of the ciphertexts",
            });
        }
        let ring = self.ctx.ring();
        acc.c0.mul_add_assign(ring, &a.c0, &p.poly);
        acc.c1.mul_add_assign(ring, &a.c1, &p.poly);
        Ok(())
    }

    /// a + c in every slot.
    ///
    /// # Errors
    /// If the constant does not fit the level at the operand's scale.
    pub fn add_const(&self, a: &Ciphertext, c: impl Into<Complex64>) -> Result<Ciphertext> {
        let constant = self.constant("add_const", c.into(), a.level, a.degree)?;
        let mut out = a.clone();
        constant.add_assign(self.ctx.ring(), &mut out.c0);
        Ok(out)
    }

    /// a·c in every slot, of degree 2.
    ///
    /// # Errors
    /// If the operand is not of degree 1 or the constant does not fit.
    pub fn mul_const(&self, a: &Ciphertext, c: impl Into<Complex64>) -> Result<Ciphertext> {
        a.check_degree("mul_const", 1)?;
        let constant = self.constant("mul_const", c.into(), a.level, 1)?;
        let mut out = Ciphertext {
            degree: 2,
            ..a.clone()
        };
        constant.mul_assign(self.ctx.ring(), &mut out.c0);
        constant.mul_assign(self.ctx.ring(), &mut out.c1);
        Ok(out)
    }

    /// i·a: exact and without a level.
    pub fn mul_by_i(&self, a: &Ciphertext) -> Ciphertext {
        self.mul_integer(a, 0, 1)
    }

    /// (re + im·i)·a for integers: exact, without a level, but the value grows at the same scale.
    pub fn mul_integer(&self, a: &Ciphertext, re: i64, im: i64) -> Ciphertext {
        let constant = GaussianInteger {
            re: re.into(),
            im: im.into(),
        };
        let mut out = a.clone();
        constant.mul_assign(self.ctx.ring(), &mut out.c0);
        constant.mul_assign(self.ctx.ring(), &mut out.c1);
        out
    }

    /// A constant at the canonical scale of a level and degree.
    pub(crate) fn constant(
        &self,
        op: &'static str,
        c: Complex64,
        level: usize,
        degree: u8,
    ) -> Result<GaussianInteger> {
        GaussianInteger::scaled(self.ctx, op, c, self.ctx.scale(level, degree), level)
    }

    /// a·b, relinearised, of degree 2.
    ///
    /// # Errors
    /// If the operands differ in level or secret key, are not of degree 1, or the relinearization key is missing.
    pub fn mul(&self, a: &Ciphertext, b: &Ciphertext) -> Result<Ciphertext> {
        a.check_degree("mul", 1)?;
        self.check_pair("mul", a, b)?;
        self.check_key("mul", a)?;
        let key = self
            .keys
            .find(self.ctx, "mul", KeyKind::Relinearization, a.level)?;
        let ring = self.ctx.ring();
        let (mut d0, mut d1, d2) = tensor(ring, a, b);
        let (u0, u1) = keyswitch::switch(self.ctx, &d2, key, self.ctx.special());
        d0.add_assign(ring, &u0);
        d1.add_assign(ring, &u1);
        Ok(Ciphertext {
            c0: d0,
            c1: d1,
            degree: 2,
            ..*a
        })
    }

    /// a², relinearised, of degree 2.
    ///
    /// # Errors
    /// As [`Self::mul`].
    pub fn square(&self, a: &Ciphertext) -> Result<Ciphertext> {
        self.mul(a, a)
    }
}

/// The three components of a product before relinearization.
fn tensor(ring: &Ring, a: &Ciphertext, b: &Ciphertext) -> (RnsPoly, RnsPoly, RnsPoly) {
    let primes = a.c0.primes();
    let [mut d0, mut d1, mut d2] =
        [(); 3].map(|()| RnsPoly::dirty(ring, primes, Form::Transformed));
    let n = ring.n;
    d0.words_mut()
        .par_chunks_exact_mut(n)
        .zip(d1.words_mut().par_chunks_exact_mut(n))
        .zip(d2.words_mut().par_chunks_exact_mut(n))
        .enumerate()
        .for_each(|(i, ((x, y), z))| {
            let m = ring.modulus(primes[i]);
            kernels::tensor(
                x,
                y,
                z,
                a.c0.limb(i),
                a.c1.limb(i),
                b.c0.limb(i),
                b.c1.limb(i),
                m,
            );
        });
    (d0, d1, d2)
}
