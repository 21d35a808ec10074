//! The small set of leveled operations that a backend provides on opaque values.

use crate::slot::{At, BootstrapKind};
use num_complex::Complex64;
use std::sync::Arc;

/// A matrix in diagonal form, ready for encoding: out = Σ_k diagonals[k] ⊙ rot(v, k·stride).
#[derive(Clone, Debug)]
pub struct Diagonals {
    /// Period of each diagonal, a power of two.
    pub period: u32,
    /// Baby steps B: k = g·B + j.
    pub baby: u32,
    /// Slots that one step turns by.
    pub stride: u32,
    /// (k, the diagonal's `period` slots); all-zero diagonals are left out.
    pub entries: Vec<(u32, Vec<Complex64>)>,
}

/// Leveled operations on ciphertext-like values. See [`crate::slot::Op`] for the level rules; every method refuses operands
/// that break them with an error naming the operation, the levels found and those expected.
pub trait Backend: Sync {
    /// A ciphertext, or what stands for one.
    type Ct: Clone + Send + Sync;
    /// A ciphertext of the KV state between its uses.
    type Stored: Clone + Send + Sync;
    /// An encoded plaintext vector.
    type Plain: Send + Sync;
    /// An encoded matrix.
    type Linear: Send + Sync;
    /// What can go wrong.
    type Error: std::error::Error + Send + Sync + 'static;

    /// Level and degree of a value.
    fn at(&self, ct: &Self::Ct) -> At;
    /// Puts a ciphertext of a layer's KV state where it lies until it is used again.
    fn store(&self, ct: Self::Ct, layer: u32) -> Result<Self::Stored, Self::Error>;
    /// One that was put there, for use.
    fn load(&self, stored: &Self::Stored) -> Result<Arc<Self::Ct>, Self::Error>;
    /// Encode `values` (a power-of-two count, tiled to all slots) at the level's canonical scale (degree 1) or its square
    /// (degree 2, for adding to products).
    fn encode(&self, values: &[Complex64], at: At) -> Result<Self::Plain, Self::Error>;
    /// Encode a matrix for inputs at `level`.
    fn encode_linear(&self, diagonals: &Diagonals, level: u32)
    -> Result<Self::Linear, Self::Error>;

    /// Bytes an encoded plaintext occupies, for the executor's memory budget.
    fn plain_bytes(&self, plain: &Self::Plain) -> usize;
    /// Bytes an encoded matrix occupies.
    fn linear_bytes(&self, matrix: &Self::Linear) -> usize;

    /// a + b.
    fn add(&self, a: &Self::Ct, b: &Self::Ct) -> Result<Self::Ct, Self::Error>;
    /// a - b.
    fn sub(&self, a: &Self::Ct, b: &Self::Ct) -> Result<Self::Ct, Self::Error>;
    /// -v.
    fn neg(&self, v: &Self::Ct) -> Result<Self::Ct, Self::Error>;
    /// i·v.
    fn mul_i(&self, v: &Self::Ct) -> Result<Self::Ct, Self::Error>;
    /// v + plaintext.
    fn add_plain(&self, v: &Self::Ct, plain: &Self::Plain) -> Result<Self::Ct, Self::Error>;
    /// v · plaintext, degree 2.
    fn mul_plain(&self, v: &Self::Ct, plain: &Self::Plain) -> Result<Self::Ct, Self::Error>;
    /// v + c.
    fn add_const(&self, v: &Self::Ct, c: f64) -> Result<Self::Ct, Self::Error>;
    /// c·v, degree 2.
    fn mul_const(&self, v: &Self::Ct, c: f64) -> Result<Self::Ct, Self::Error>;
    /// a·b relinearised, degree 2.
    fn mul(&self, a: &Self::Ct, b: &Self::Ct) -> Result<Self::Ct, Self::Error>;
    /// Left rotation by `by` slots.
    fn rotate(&self, v: &Self::Ct, by: i32) -> Result<Self::Ct, Self::Error>;
    /// v rotated left by each of `steps`.
    fn rotations(&self, v: &Self::Ct, steps: &[i32]) -> Result<Vec<Self::Ct>, Self::Error> {
        steps.iter().map(|&by| self.rotate(v, by)).collect()
    }
    /// Complex conjugate.
    fn conjugate(&self, v: &Self::Ct) -> Result<Self::Ct, Self::Error>;
    /// Matrix times vector, degree 2.
    fn linear(&self, v: &Self::Ct, matrix: &Self::Linear) -> Result<Self::Ct, Self::Error>;
    /// Encrypted matrix times vector, by diagonals as [`crate::slot::apply`] takes them; relinearised, degree 2.
    fn apply(
        &self,
        diagonals: &[Arc<Self::Ct>],
        v: &Self::Ct,
        baby: u32,
        step: u32,
    ) -> Result<Self::Ct, Self::Error>;
    /// Chebyshev series on [-1, 1]; consumes ⌈log2(deg+1)⌉ levels.
    fn poly(&self, v: &Self::Ct, coefficients: &[f64]) -> Result<Self::Ct, Self::Error>;
    /// Degree 2 at ℓ to degree 1 at ℓ-1.
    fn rescale(&self, v: &Self::Ct) -> Result<Self::Ct, Self::Error>;
    /// Degree 1 at ℓ to degree 1 at `level` ≤ ℓ.
    fn drop_to(&self, v: &Self::Ct, level: u32) -> Result<Self::Ct, Self::Error>;
    /// Refresh to the top application level.
    fn bootstrap(&self, v: &Self::Ct, kind: BootstrapKind) -> Result<Self::Ct, Self::Error>;
    /// Σ over i < count of v rotated left by i·step.
    fn fold(&self, v: &Self::Ct, step: i32, count: u32) -> Result<Self::Ct, Self::Error> {
        let doublings = (0..32).map(|i| 1u32 << i).take_while(|done| *done < count);
        self.sum_turned(v, doublings.map(|done| step * done as i32))
    }
    /// v plus itself rotated, again for each step.
    fn sum_turned(
        &self,
        v: &Self::Ct,
        steps: impl Iterator<Item = i32>,
    ) -> Result<Self::Ct, Self::Error> {
        let mut sum = v.clone();
        for by in steps {
            sum = self.add(&sum, &self.rotate(&sum, by)?)?;
        }
        Ok(sum)
    }
}
