//! Slots to plaintext polynomials and back, by the canonical embedding.
//!
//! A vector of n slots (any power of two up to N/2) is encoded in the subring of polynomials in X^(N/2n); seen with all N/2 slots it repeats
//! with period n. So a short vector costs a short transform, and periodic data never loses its period.

mod lift;
mod transform;

pub use lift::Coefficients;
pub(crate) use transform::SlotTransform;

use crate::context::Context;
use crate::error::{CkksError, Result};
use crate::ring::{Primes, RnsPoly};
use num_complex::Complex64;

/// An encoded slot vector: a polynomial at a level, at the canonical scale of its degree.
#[derive(Clone, Debug)]
pub struct Plaintext<P = RnsPoly> {
    pub(crate) poly: P,
    pub(crate) level: usize,
    pub(crate) degree: u8,
}

impl<P> Plaintext<P> {
    /// The level.
    pub fn level(&self) -> usize {
        self.level
    }

    /// 1 at the scale Δ_ℓ of a value, 2 at the scale Δ_ℓ² of a product not yet rescaled.
    pub fn degree(&self) -> u8 {
        self.degree
    }
}

/// Encodes and decodes slot vectors.
#[derive(Clone, Debug)]
pub struct Encoder {
    ctx: Context,
}

impl Encoder {
    /// An encoder for the context's ring.
    pub fn new(ctx: &Context) -> Self {
        Self { ctx: ctx.clone() }
    }

    /// Encodes slots at a level and degree: degree 1 to be added to values or multiplied with them, degree 2 to be added to products not yet rescaled.
    ///
    /// # Errors
    /// If the number of slots is not a power of two up to N/2, the level or degree does not exist, or a value does not fit.
    pub fn encode(&self, slots: &[Complex64], level: usize, degree: u8) -> Result<Plaintext> {
        self.ctx.check_level("encode", level)?;
        if !(1..=2).contains(&degree) {
            return Err(CkksError::Degree {
                op: "encode",
                level,
                degree,
                needed: 1,
            });
        }
        let primes = self.ctx.level_primes(level).clone();
        let poly = self.encode_at(slots, &primes, self.ctx.scale(level, degree), level)?;
        Ok(Plaintext {
            poly,
            level,
            degree,
        })
    }

    /// Encodes real slots (see [`Self::encode`]).
    ///
    /// # Errors
    /// As [`Self::encode`].
    pub fn encode_real(&self, slots: &[f64], level: usize, degree: u8) -> Result<Plaintext> {
        let slots: Vec<Complex64> = slots.iter().map(|&re| Complex64::new(re, 0.0)).collect();
        self.encode(&slots, level, degree)
    }

    /// Encodes at any scale and prime set (special primes included), in transformed form. `level` is what errors name and bounds the range.
    pub(crate) fn encode_at(
        &self,
        slots: &[Complex64],
        primes: &Primes,
        scale: f64,
        level: usize,
    ) -> Result<RnsPoly> {
        let coefficients = self.coefficients(slots, scale, level)?;
        Ok(coefficients.residues(self.ctx.ring(), primes))
    }

    /// The coefficients of slots at any scale. `level` is what errors name and bounds the range.
    pub(crate) fn coefficients(
        &self,
        slots: &[Complex64],
        scale: f64,
        level: usize,
    ) -> Result<Coefficients> {
        self.check_slots("encode", slots.len())?;
        let magnitude = slots.iter().fold(0.0, |m: f64, z| {
            let a = z.re.abs().max(z.im.abs());
            if a.is_nan() || m.is_nan() {
                f64::NAN
            } else {
                m.max(a)
            }
        });
        let log_q = self.ctx.params().log_q(level);
        let range = CkksError::Range {
            op: "encode",
            magnitude,
            log_scale: scale.log2(),
            level,
            log_q,
        };
        // Coefficients are at most √2 times the largest slot; leave a bit for the sign.
        if !magnitude.is_finite() || (magnitude * scale).log2() > (log_q - 1.5).min(lift::MAX_BITS)
        {
            return Err(range);
        }
        let mut re: Vec<f64> = slots.iter().map(|z| z.re).collect();
        let mut im: Vec<f64> = slots.iter().map(|z| z.im).collect();
        self.ctx.slot_transform().inverse(&mut re, &mut im);
        Ok(Coefficients::rounded(&[re, im], scale))
    }

    /// All N/2 slots of a plaintext.
    pub fn decode(&self, plaintext: &Plaintext) -> Vec<Complex64> {
        self.decode_subring(plaintext, self.ctx.slots())
    }

    /// The first `n` slots of a plaintext that repeats with period n (what repeats less exactly, noise for instance, is averaged over the periods).
    ///
    /// # Errors
    /// If `n` is not a power of two up to N/2.
    pub fn decode_periodic(&self, plaintext: &Plaintext, n: usize) -> Result<Vec<Complex64>> {
        self.check_slots("decode", n)?;
        Ok(self.decode_subring(plaintext, n))
    }

    fn decode_subring(&self, plaintext: &Plaintext, n: usize) -> Vec<Complex64> {
        let scale = self.ctx.scale(plaintext.level, plaintext.degree);
        let [mut re, mut im] = lift::from_residues(self.ctx.ring(), &plaintext.poly, n, scale);
        self.ctx.slot_transform().forward(&mut re, &mut im);
        re.into_iter()
            .zip(im)
            .map(|(re, im)| Complex64::new(re, im))
            .collect()
    }

    fn check_slots(&self, op: &'static str, len: usize) -> Result<()> {
        let max = self.ctx.slots();
        if len.is_power_of_two() && len <= max {
            Ok(())
        } else {
            Err(CkksError::Slots { op, len, max })
        }
    }
}
