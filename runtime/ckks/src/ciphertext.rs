//! Ciphertexts.

use crate::context::Context;
use crate::error::{CkksError, Result};
use crate::keys::KeyId;
use crate::ring::RnsPoly;

/// An encrypted slot vector: (c0, c1) with c0 + c1·s ≈ Δ·m.
///
/// Its state is a level and a degree. At degree 1 the scale is the level's canonical Δ_ℓ; a product is left at degree 2, scale Δ_ℓ²,
/// until it is rescaled to degree 1 at the level below.
///
/// Its polynomials lie where its engine keeps them; only those in this process's memory can be encrypted, decrypted and serialized.
#[derive(Clone, Debug)]
pub struct Ciphertext<P = RnsPoly> {
    pub(crate) c0: P,
    pub(crate) c1: P,
    pub(crate) level: usize,
    pub(crate) degree: u8,
    pub(crate) key: KeyId,
}

impl<P> Ciphertext<P> {
    /// Its halves.
    pub(crate) fn halves(&self) -> [&P; 2] {
        [&self.c0, &self.c1]
    }

    /// A ciphertext like this one, of other polynomials.
    pub(crate) fn with<Q>(&self, [c0, c1]: [Q; 2]) -> Ciphertext<Q> {
        Ciphertext {
            c0,
            c1,
            level: self.level,
            degree: self.degree,
            key: self.key,
        }
    }

    /// The same, at another level and degree.
    pub(crate) fn at(self, level: usize, degree: u8) -> Self {
        Self {
            level,
            degree,
            ..self
        }
    }

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

impl Ciphertext {
    /// Bytes its two polynomials take in memory.
    pub fn size_bytes(&self) -> usize {
        4 * (self.c0.words().len() + self.c1.words().len())
    }
}
