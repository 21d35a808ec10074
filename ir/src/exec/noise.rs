//! Noise as the scheme would add it, drawn deterministically.

use crate::plan::Plan;
use crate::slot::{BootstrapKind, Slots};
use num_complex::Complex64;
use serde::{Deserialize, Serialize};
use sotto_params::ParamSet;
use sotto_params::bootstrap::BootstrapSpec;
use std::f64::consts::TAU;

/// Standard deviations of what operations add, per real or imaginary part of a slot.
///
/// Sums and products need no entry: they carry their operands' noise, and what they add themselves lies at degree 2, a scale
/// Δ ≈ 2^40 below what the next rescale adds. Polynomials need none either: they are evaluated product by product. The default
/// is no noise.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct NoiseModel {
    /// Per level, for values at degree 1.
    pub levels: Vec<LevelNoise>,
    /// Bootstraps by kind. A kind that is not listed takes the largest entry.
    pub bootstraps: Vec<(BootstrapKind, f64)>,
}

/// Standard deviations at one level.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LevelNoise {
    /// Encryption under the secret key, as the client does.
    pub encrypt: f64,
    /// Rounding of an encoded plaintext.
    pub encode: f64,
    /// A rotation or conjugation.
    pub key_switch: f64,
    /// The rotation of a baby step, before the special primes are divided away: it multiplies the diagonals.
    pub baby: f64,
    /// Rescale or level drop to this level.
    pub rescale: f64,
}

impl NoiseModel {
    /// What theory predicts for every operation but bootstraps, whose deviations are measured.
    ///
    /// A coefficient error of deviation d has deviation d·√(N/2) in each part of a slot, divided by the scale. Dividing by primes
    /// rounds both components of a ciphertext, of which one meets a ternary secret: √((1 + 2N/3)/12). A key switch adds
    /// Σ over digits of (digit ⊛ error)/P, a digit of modulus D being uniform: σ·√(N/12)·√Σ(D/P)².
    pub fn of(params: &ParamSet, bootstraps: Vec<(BootstrapKind, f64)>) -> Self {
        let n = params.n() as f64;
        let rounding = ((1.0 + 2.0 * n / 3.0) / 12.0).sqrt();
        let log_p: f64 = params.p_primes.iter().map(|&p| f64::from(p).log2()).sum();
        let level = |level: usize| {
            let in_slots = |coefficient: f64| coefficient * (n / 2.0).sqrt() / params.scale(level);
            let digits = params.digits_of(&params.levels[level].primes);
            let ratio = |primes: &[u16]| {
                let prime = |i: &u16| f64::from(params.q_primes[usize::from(*i)]).log2();
                (primes.iter().map(prime).sum::<f64>() - log_p).exp2()
            };
            let ratios: f64 = digits.iter().map(|(_, d)| ratio(d).powi(2)).sum();
            let switch = params.error_std * (n / 12.0 * ratios).sqrt();
            let encode = (1.0f64 / 12.0).sqrt();
            LevelNoise {
                encrypt: in_slots(params.error_std.hypot(encode)),
                encode: in_slots(encode),
                key_switch: in_slots(rounding.hypot(switch)),
                baby: in_slots(switch),
                rescale: in_slots(rounding),
            }
        };
        Self {
            levels: (0..=params.top_app_level()).map(level).collect(),
            bootstraps,
        }
    }

    /// What operations add under a plan's parameters, its bootstraps included.
    pub fn for_plan(plan: &Plan) -> Self {
        let bootstrap = |spec: &BootstrapSpec| {
            let kind = BootstrapKind {
                slots: spec.slots as u32,
                complex: spec.complex,
            };
            (kind, spec.noise_std(&plan.params))
        };
        Self::of(
            &plan.params,
            plan.bootstraps.iter().map(bootstrap).collect(),
        )
    }

    /// Standard deviations at a level; none where the model has no entry.
    pub fn at(&self, level: u32) -> LevelNoise {
        self.levels.get(level as usize).copied().unwrap_or_default()
    }

    /// Standard deviation that a bootstrap leaves.
    pub fn bootstrap(&self, kind: BootstrapKind) -> f64 {
        let listed = self.bootstraps.iter().find(|(k, _)| *k == kind);
        let stds = self.bootstraps.iter().map(|&(_, std)| std);
        listed.map_or_else(|| stds.fold(0.0, f64::max), |&(_, std)| std)
    }
}

/// Complex Gaussian noise from a seed; the n-th draw is the same on every machine.
#[derive(Debug)]
pub(super) struct Noise {
    pub(super) model: NoiseModel,
    slots: usize,
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
        let mut stream = stream.finalize_xof();
        let mut bytes = vec![0; 16 * self.slots.max(slots.period())];
        stream.fill(&mut bytes);
        // Box and Muller: one complex Gaussian for two uniforms.
        let noisy = bytes.chunks_exact(16).enumerate().map(|(p, chunk)| {
            let (radius, angle) = chunk.split_at(8);
            let radius = (-2.0 * unit(radius).ln()).sqrt();
            slots.at(p) + Complex64::from_polar(radius * std(p), TAU * unit(angle))
        });
        // The larger of two powers of two.
        Slots::new(noisy.collect()).unwrap_or(slots)
    }
}

/// Uniform in (0, 1] with 53 bits, from the first 8 bytes.
fn unit(bytes: &[u8]) -> f64 {
    let word = bytes.iter().rev().fold(0u64, |w, &b| w << 8 | u64::from(b));
    ((word >> 11) as f64 + 1.0) / (1u64 << 53) as f64
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

    #[test]
    fn theory_at_secure_128_lies_near_26_bits() {
        let model = NoiseModel::of(&ParamSet::secure_128(), vec![]);
        assert_eq!(model.levels.len(), 17);
        for level in &model.levels {
            // √((1 + 2N/3)/12 · N/2) / 2^40 = 2^-26.6, and a little more as scales shrink upwards.
            assert!((-27.0..-26.0).contains(&level.rescale.log2()), "{level:?}");
            assert!(level.key_switch >= level.rescale && level.key_switch < 8.0 * level.rescale);
            assert!(level.encode < level.rescale / 100.0);
        }
    }
}
