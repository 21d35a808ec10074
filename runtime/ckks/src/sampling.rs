//! Randomness: secrets and errors from the operating system's entropy, uniform polynomials from public seeds.

use crate::error::{CkksError, Result};
use crate::ring::{Form, Primes, Ring, RnsPoly};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use zeroize::{Zeroize, Zeroizing};

/// A seed from which a uniform polynomial is expanded. Public.
pub(crate) type Seed = [u8; 32];

/// Fresh bytes from the operating system.
pub(crate) fn os_bytes<const LEN: usize>() -> Result<[u8; LEN]> {
    let mut bytes = [0; LEN];
    getrandom::fill(&mut bytes).map_err(|e| CkksError::Entropy(e.to_string()))?;
    Ok(bytes)
}

/// A generator for secrets and errors, keyed by the operating system. Its state is overwritten when it is dropped.
pub(crate) struct SecretRng(ChaCha20Rng);

impl Drop for SecretRng {
    fn drop(&mut self) {
        self.0 = ChaCha20Rng::from_seed([0; 32]);
        // The generator has no wiping of its own; this keeps the compiler from leaving the write out.
        std::hint::black_box(&self.0);
    }
}

impl SecretRng {
    pub(crate) fn from_os() -> Result<Self> {
        let mut seed = os_bytes::<32>()?;
        let rng = ChaCha20Rng::from_seed(seed);
        seed.zeroize();
        Ok(Self(rng))
    }

    /// Coefficients uniform in {-1, 0, 1}.
    pub(crate) fn ternary(&mut self, n: usize) -> Zeroizing<Vec<i32>> {
        let mut out = Zeroizing::new(Vec::with_capacity(n));
        let mut bytes = Zeroizing::new([0u8; 1024]);
        while out.len() < n {
            self.0.fill_bytes(&mut *bytes);
            // 255 = 3·85: reject the one value too many.
            let fresh = bytes
                .iter()
                .filter(|&&b| b < 255)
                .map(|&b| i32::from(b % 3) - 1);
            let room = n - out.len();
            out.extend(fresh.take(room));
        }
        out
    }

    /// A vector with `h` coefficients ±1 at uniformly random places, zero elsewhere.
    pub(crate) fn sparse_ternary(&mut self, n: usize, h: usize) -> Zeroizing<Vec<i32>> {
        let mut out = Zeroizing::new(vec![0; n]);
        let mut placed = 0;
        while placed < h.min(n) {
            // n is a power of two, so the low bits are uniform.
            let word = self.0.next_u64();
            let place = &mut out[word as usize & (n - 1)];
            if *place == 0 {
                *place = if word >> 63 == 0 { 1 } else { -1 };
                placed += 1;
            }
        }
        out
    }

    /// Discrete Gaussian coefficients, by comparing 63 random bits with every entry of the cumulative table (the time does not
    /// depend on the outcome). The table is computed in float64: probabilities are right to 2^-53,
    /// and what lies beyond eight deviations, less likely than that, does not occur.
    pub(crate) fn gaussian(&mut self, n: usize, std: f64) -> Zeroizing<Vec<i32>> {
        let table = cumulative(std);
        let mut words = Zeroizing::new(vec![0u8; 8 * n]);
        self.0.fill_bytes(&mut words);
        let sample = |bytes: &[u8]| {
            let word = u64::from_le_bytes(bytes.try_into().unwrap_or_default());
            let magnitude = table
                .iter()
                .map(|&t| i32::from(word >> 1 >= t))
                .sum::<i32>();
            let sign = (word & 1) as i32;
            (magnitude ^ -sign) + sign
        };
        Zeroizing::new(words.chunks_exact(8).map(sample).collect())
    }
}

/// `table[k]` = 2^63·P(|x| ≤ k).
fn cumulative(std: f64) -> Vec<u64> {
    let last = (10.0 * std).ceil() as i32;
    let weight =
        |k: i32| (-f64::from(k * k) / (2.0 * std * std)).exp() * if k == 0 { 1.0 } else { 2.0 };
    let total: f64 = (0..=last).map(weight).sum();
    let mut sum = 0.0;
    (0..last)
        .map(|k| {
            sum += weight(k);
            (sum / total * 63f64.exp2()) as u64
        })
        .collect()
}

/// Small signed coefficients as a transformed polynomial.
pub(crate) fn small_poly(ring: &Ring, primes: &Primes, coefficients: &[i32]) -> RnsPoly {
    let mut poly = RnsPoly::dirty(ring, primes, Form::Coefficients);
    poly.par_limbs(|_, prime, limb| {
        let p = ring.modulus(prime).p;
        for (o, &c) in limb.iter_mut().zip(coefficients) {
            *o = (c as u32).wrapping_add(p & (c >> 31) as u32);
        }
    });
    poly.forward(ring);
    poly
}

/// The uniform polynomial of a seed, in transformed form. `label` separates the uses of one seed; each limb has a stream of its own, keyed
/// by seed, label and prime, so any subset of limbs can be expanded alone.
pub(crate) fn uniform_poly(ring: &Ring, primes: &Primes, seed: &Seed, label: u32) -> RnsPoly {
    let mut poly = RnsPoly::dirty(ring, primes, Form::Transformed);
    poly.par_limbs(|_, prime, limb| {
        let p = ring.modulus(prime).p;
        let mut key = blake3::Hasher::new_keyed(seed);
        key.update(b"sotto uniform limb")
            .update(&label.to_le_bytes())
            .update(&p.to_le_bytes());
        let mut rng = ChaCha20Rng::from_seed(*key.finalize().as_bytes());
        let mask = u32::MAX >> p.leading_zeros();
        let mut words = [0u32; 1024];
        let mut filled = 0;
        while filled < limb.len() {
            rng.fill_bytes(bytemuck::cast_slice_mut(&mut words));
            for word in words {
                let candidate = u32::from_le(word) & mask;
                // Branch-free: a rejected candidate is overwritten by the next.
                if filled < limb.len() {
                    limb[filled] = candidate;
                    filled += usize::from(candidate < p);
                }
            }
        }
    });
    poly
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::primes;

    #[test]
    fn gaussian_has_its_moments_and_tail() {
        let mut rng = SecretRng::from_os().unwrap();
        let n = 1 << 18;
        let x = rng.gaussian(n, 3.2);
        let mean = x.iter().map(|&v| f64::from(v)).sum::<f64>() / n as f64;
        let variance = x.iter().map(|&v| f64::from(v * v)).sum::<f64>() / n as f64;
        // Six standard errors.
        assert!(mean.abs() < 6.0 * 3.2 / (n as f64).sqrt(), "{mean}");
        assert!(
            (variance / 10.24 - 1.0).abs() < 6.0 * (2.0 / n as f64).sqrt(),
            "{variance}"
        );
        let far = x.iter().filter(|v| v.abs() > 9).count() as f64 / n as f64;
        // P(|x| > 9.5/3.2 σ) = 0.0030.
        assert!((0.002..0.004).contains(&far), "{far}");
    }

    #[test]
    fn ternary_is_uniform_and_sparse_has_its_weight() {
        let mut rng = SecretRng::from_os().unwrap();
        let n = 1 << 16;
        let x = rng.ternary(n);
        for value in -1..=1 {
            let count = x.iter().filter(|&&v| v == value).count() as f64;
            assert!((count - n as f64 / 3.0).abs() < 6.0 * (n as f64 * 2.0 / 9.0).sqrt());
        }
        let sparse = rng.sparse_ternary(1 << 10, 32);
        assert_eq!(sparse.iter().filter(|&&v| v != 0).count(), 32);
        assert!(sparse.iter().all(|v| v.abs() <= 1));
    }

    #[test]
    fn uniform_limbs_are_separate_reduced_and_reproducible() {
        let set = sotto_params::ParamSet::insecure_test(10);
        let ring = Ring::new(10, &set.q_primes).unwrap();
        let all = primes([0, 1, 23, 24]);
        let a = uniform_poly(&ring, &all, &[7; 32], 0);
        for (i, &prime) in all.iter().enumerate() {
            let p = ring.modulus(prime).p;
            assert!(a.limb(i).iter().all(|&x| x < p));
            let mean = a.limb(i).iter().map(|&x| f64::from(x)).sum::<f64>() / 1024.0 / f64::from(p);
            assert!((mean - 0.5).abs() < 6.0 / (12.0f64 * 1024.0).sqrt());
        }
        assert_eq!(
            a.limb(2),
            uniform_poly(&ring, &primes([23]), &[7; 32], 0).limb(0)
        );
        assert_ne!(a.words(), uniform_poly(&ring, &all, &[7; 32], 1).words());
        assert_ne!(a.words(), uniform_poly(&ring, &all, &[8; 32], 0).words());
    }
}
