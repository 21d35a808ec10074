//! What the scheme's tests share: a context with keys, random slots, error measures.
#![allow(dead_code, reason = "each test file uses its part")]

use sotto_ckks::{
    Ciphertext, Complex64, Context, Encoder, EvaluationKeys, KeyGenerator, KeyRequest, SecretKey,
};
use sotto_params::{ParamSet, galois};

pub struct Bench {
    pub ctx: Context,
    pub secret: SecretKey,
    pub keys: EvaluationKeys,
    pub encoder: Encoder,
}

impl Bench {
    /// Keys for relinearization, the rotations and conjugation at one level.
    pub fn new(params: ParamSet, level: usize, steps: &[i64]) -> Self {
        let ctx = Context::new(params).unwrap();
        let secret = SecretKey::generate(&ctx).unwrap();
        let log_n = ctx.params().log_n;
        let mut request = KeyRequest::default();
        request.add_relinearization(level);
        request.add_galois(galois::conjugation(log_n), level);
        steps
            .iter()
            .for_each(|&s| request.add_galois(galois::rotation(s, log_n), level));
        let keys = KeyGenerator::new(&secret)
            .evaluation_keys(&request, |_, _| ())
            .unwrap();
        let encoder = Encoder::new(&ctx);
        Self {
            ctx,
            secret,
            keys,
            encoder,
        }
    }

    pub fn encrypt(&self, slots: &[Complex64], level: usize) -> Ciphertext {
        self.secret
            .encrypt(&self.encoder.encode(slots, level, 1).unwrap())
            .unwrap()
    }

    pub fn decrypt(&self, ct: &Ciphertext) -> Vec<Complex64> {
        self.encoder.decode(&self.secret.decrypt(ct).unwrap())
    }
}

/// Slots uniform in the square [-1, 1]², reproducible.
pub fn random_slots(n: usize, seed: u64) -> Vec<Complex64> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state = state
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        ((state >> 33) as f64) / f64::from(1u32 << 30) - 1.0
    };
    (0..n).map(|_| Complex64::new(next(), next())).collect()
}

/// Largest distance between two slot vectors.
pub fn max_error(a: &[Complex64], b: &[Complex64]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter()
        .zip(b)
        .map(|(x, y)| (x - y).norm())
        // NaN must not pass for small, and f64::max would lose it.
        .fold(
            0.0,
            |worst: f64, e| if e > worst || e.is_nan() { e } else { worst },
        )
}

/// Standard deviation of the error of one real component.
pub fn std_error(a: &[Complex64], b: &[Complex64]) -> f64 {
    assert_eq!(a.len(), b.len());
    (a.iter()
        .zip(b)
        .map(|(x, y)| (x - y).norm_sqr())
        .sum::<f64>()
        / (2 * a.len()) as f64)
        .sqrt()
}

pub fn zip_with(
    a: &[Complex64],
    b: &[Complex64],
    f: impl Fn(Complex64, Complex64) -> Complex64,
) -> Vec<Complex64> {
    a.iter().zip(b).map(|(&x, &y)| f(x, y)).collect()
}

pub fn rotated(a: &[Complex64], step: i64) -> Vec<Complex64> {
    let n = a.len() as i64;
    (0..n)
        .map(|j| a[(j + step).rem_euclid(n) as usize])
        .collect()
}
