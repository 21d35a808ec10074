//! Choosing the next token from logits.

use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use sotto_ir::fidelity::most_likely;

/// How the next token is chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// Softmax temperature; 0 takes the largest logit.
    pub temperature: f64,
    /// Keep the most likely tokens that together have at least this probability; 1 keeps all.
    pub top_p: f64,
    /// Seed of the sampler.
    pub seed: u64,
}

impl Sampling {
    /// Always the largest logit.
    pub const GREEDY: Self = Self {
        temperature: 0.0,
        top_p: 1.0,
        seed: 0,
    };
}

/// A seeded sampler.
pub struct Sampler {
    sampling: Sampling,
    random: ChaCha20Rng,
}

impl Sampler {
    /// A sampler at the beginning of its seed's stream.
    pub fn new(sampling: Sampling) -> Self {
        Self {
            sampling,
            random: ChaCha20Rng::seed_from_u64(sampling.seed),
        }
    }

    /// Uniform in [0, 1), 53 bits.
    fn uniform(&mut self) -> f64 {
        (self.random.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// The next token; 0 for no logits. Garbage (NaN) counts as least likely, so that it changes nothing that a server sees.
    pub fn choose(&mut self, logits: &[f64]) -> u32 {
        if self.sampling.temperature <= 0.0 {
            return most_likely(logits);
        }
        let mut ranked: Vec<(u32, f64)> = (0u32..).zip(logits.iter().copied()).collect();
        ranked.retain(|(_, logit)| logit.is_finite());
        ranked.sort_by(|a, b| b.1.total_cmp(&a.1));
        let Some(&(_, top)) = ranked.first() else {
            return 0;
        };
        for (_, logit) in &mut ranked {
            *logit = ((*logit - top) / self.sampling.temperature).exp();
        }
        let total: f64 = ranked.iter().map(|(_, weight)| weight).sum();
        let mut kept = 0.0;
        let nucleus = ranked
            .iter()
            .position(|(_, weight)| {
                kept += weight;
                kept >= self.sampling.top_p * total
            })
            .map_or(ranked.len(), |last| last + 1);
        ranked.truncate(nucleus);
        let kept: f64 = ranked.iter().map(|(_, weight)| weight).sum();
        let mut point = self.uniform() * kept;
        for &(id, weight) in &ranked {
            if point < weight {
                return id;
            }
            point -= weight;
        }
        ranked.last().map_or(0, |&(id, _)| id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draws(sampling: Sampling, logits: &[f64], count: usize) -> Vec<u32> {
        let mut sampler = Sampler::new(sampling);
        (0..count).map(|_| sampler.choose(logits)).collect()
    }

    #[test]
    fn greedy_takes_the_first_largest_and_ignores_nan() {
        let mut sampler = Sampler::new(Sampling::GREEDY);
        assert_eq!(sampler.choose(&[f64::NAN, 1.0, 3.0, 3.0]), 2);
        assert_eq!(sampler.choose(&[f64::NAN]), 0);
    }

    #[test]
    fn a_seed_repeats() {
        let sampling = Sampling {
            temperature: 1.0,
            top_p: 1.0,
            seed: 7,
        };
        let logits = [0.0, 0.5, 1.0, 0.2];
        assert_eq!(draws(sampling, &logits, 50), draws(sampling, &logits, 50));
        let other = Sampling {
            seed: 8,
            ..sampling
        };
        assert_ne!(draws(sampling, &logits, 50), draws(other, &logits, 50));
    }

    #[test]
    fn frequencies_follow_the_softmax() {
        let sampling = Sampling {
            temperature: 0.5,
            top_p: 1.0,
            seed: 1,
        };
        // Weights e^0 : e^(2·ln 3 / 2 · …): logits ln(3)/2 apart at temperature ½ are 3 : 1.
        let logits = [0.0, 3f64.ln() / 2.0];
        let ones = draws(sampling, &logits, 4000)
            .iter()
            .filter(|&&id| id == 1)
            .count();
        assert!((2900..3100).contains(&ones), "{ones} of 4000");
    }

    #[test]
    fn top_p_keeps_the_nucleus_only() {
        let sampling = Sampling {
            temperature: 1.0,
            top_p: 0.7,
            seed: 3,
        };
        // Probabilities 0.6, 0.3, 0.1: the nucleus of 0.7 is the first two.
        let logits = [0.1f64.ln(), 0.6f64.ln(), 0.3f64.ln()];
        let drawn = draws(sampling, &logits, 500);
        assert!(!drawn.contains(&0));
        assert!(drawn.contains(&1) && drawn.contains(&2));
    }
}
