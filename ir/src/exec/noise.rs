//! Noise as the scheme would add it, drawn deterministically.

use crate::slot::{BootstrapKind, Slots};
use num_complex::Complex64;
use serde::{Deserialize, Serialize};
use std::f64::consts::TAU;

/// Standard deviations of the noise each operation adds, per real or imaginary part of a slot, for values at degree 1 (slot
/// value 1.0 stands for the level's scale Δ ≈ 2^40).
///
/// Products and sums need no entry: they carry their operands' noise, and what relinearisation adds at degree 2 is divided by
/// the next rescale. The default is no noise.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct NoiseModel {
    /// Fresh encryption.
    pub encrypt: f64,
    /// Rounding of an encoded plaintext.
    pub encode: f64,
    /// One key switch of a degree-1 value: rotation, conjugation, a baby step of a matrix.
    pub key_switch: f64,
    /// Rescale or level drop.
    pub rescale: f64,
    /// Polynomial evaluation, beyond what the input's noise becomes, per unit of Σ |c_k|.
    pub poly: f64,
    /// Bootstraps by kind. A kind that is not listed takes the largest entry.
    pub bootstraps: Vec<(BootstrapKind, f64)>,
}

impl NoiseModel {
    /// Standard deviation that a bootstrap leaves.
    pub fn bootstrap(&self, kind: BootstrapKind) -> f64 {
        let listed = self.bootstraps.iter().find(|(k, _)| *k == kind);
        let largest = || {
            self.bootstraps
                .iter()
                .map(|&(_, std)| std)
                .fold(0.0, f64::max)
        };
        listed.map_or_else(largest, |&(_, std)| std)
    }
}

/// Complex Gaussian noise from a seed; the n-th draw is the same on every machine.
#[derive(Debug)]
pub(super) struct Noise {
    pub(super) model: NoiseModel,
    pub(super) slots: usize,
    seed: u64,
    draws: u64,
}

impl Noise {
    pub(super) fn new(model: NoiseModel, slots: usize, seed: u64) -> Self {
        Self {
            model,
            slots,
            seed,
            draws: 0,
        }
    }

    /// Add noise of standard deviation `std(slot)` per part to every slot of a ciphertext, so that the result no longer repeats.
    pub(super) fn add(&mut self, slots: Slots, std: impl Fn(usize) -> f64) -> Slots {
        let mut stream = blake3::Hasher::new();
        stream.update(b"sotto clear noise");
        stream.update(&self.seed.to_le_bytes());
        stream.update(&self.draws.to_le_bytes());
        self.draws += 1;
        let mut bytes = stream.finalize_xof();
        let mut unit = || {
            let mut word = [0; 8];
            bytes.fill(&mut word);
            // 53 bits, never 0.
            ((u64::from_le_bytes(word) >> 11) as f64 + 1.0) / (1u64 << 53) as f64
        };
        // Box and Muller: one complex Gaussian for two uniforms.
        let mut gaussian = || Complex64::from_polar((-2.0 * unit().ln()).sqrt(), TAU * unit());
        let noisy = (0..self.slots.max(slots.period()))
            .map(|p| slots.at(p) + gaussian() * std(p))
            .collect();
        // A power of two again: the larger of two.
        Slots::new(noisy).unwrap_or(slots)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_is_seeded_and_has_the_stated_deviation() {
        let draw = |seed| {
            let mut noise = Noise::new(NoiseModel::default(), 1 << 14, seed);
            noise.add(Slots::splat(Complex64::ZERO), |_| 0.5)
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
        let (mut sum, mut squares) = (Complex64::ZERO, [0.0, 0.0]);
        let drawn = draw(3);
        for v in drawn.values() {
            sum += v;
            squares = [squares[0] + v.re * v.re, squares[1] + v.im * v.im];
        }
        let n = drawn.period() as f64;
        assert!(sum.norm() / n < 0.02);
        for part in squares {
            assert!(((part / n).sqrt() - 0.5).abs() < 0.01);
        }
    }
}
