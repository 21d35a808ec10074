//! Ciphertexts.

use crate::context::Context;
use crate::error::{CkksError, Result};
use crate::keys::KeyId;
use crate::ring::RnsPoly;

/// An encrypted slot vector: (c0, c1) with c0 + c1·s ≈ Δ·m.
///
/// Its state is a level and a degree. At degree 1 the scale is the level's canonical Δ_ℓ; a product is left at degree 2, scale Δ_ℓ²,
/// until it is rescaled to degree 1 at the level below.
#[derive(Clone, Debug)]
pub struct Ciphertext {
    pub(crate) c0: RnsPoly,
    pub(crate) c1: RnsPoly,
    pub(crate) level: usize,
    pub(crate) degree: u8,
    pub(crate) key: KeyId,
}

impl Ciphertext {
    /// The level.
    pub fn level(&self) -> usize {
        self.level
    }

    /// 1 for a value, 2 for a product not yet rescaled.
    pub fn degree(&self) -> u8 {
        self.degree
    }

    /// The secret key it was encrypted for.
    pub fn key(&self) -> KeyId {
        self.key
    }

    /// Its canonical scale.
    pub fn scale(&self, ctx: &Context) -> f64 {
        ctx.scale(self.level, self.degree)
    }

    /// Bytes its two polynomials take in memory.
    pub fn size_bytes(&self) -> usize {
        4 * (self.c0.words().len() + self.c1.words().len())
    }

    pub(crate) fn check_degree(&self, op: &'static str, needed: u8) -> Result<()> {
        if self.degree == needed {
            return Ok(());
        }
        Err(CkksError::Degree {
            op,
            level: self.level,
            degree: self.degree,
            needed,
        })
    }

    /// Whether another operand's level and degree agree.
    pub(crate) fn check_like(&self, op: &'static str, level: usize, degree: u8) -> Result<()> {
        if (self.level, self.degree) == (level, degree) {
            return Ok(());
        }
        Err(CkksError::Mismatch {
            op,
            left_level: self.level,
            left_degree: self.degree,
            right_level: level,
            right_degree: degree,
        })
    }
}
