//! Real coefficients to residues and back.

use crate::ring::{Form, Primes, Ring, RnsPoly, kernels};

/// Largest log2 of a scaled coefficient.
pub(crate) const MAX_BITS: f64 = 124.0;

/// Coefficients up to this log2 take the fast path.
const WORD_BITS: f64 = 61.9;

/// round(halves·scale) as a transformed polynomial: coefficient i·gap from the first half, N/2 + i·gap from the second.
pub(super) fn to_residues(
    ring: &Ring,
    primes: &Primes,
    halves: &[Vec<f64>; 2],
    scale: f64,
) -> RnsPoly {
    let largest = halves
        .iter()
        .flatten()
        .fold(0.0, |m: f64, x| m.max(x.abs()));
    let gap = ring.n / 2 / halves[0].len();
    let mut poly = if gap == 1 {
        RnsPoly::dirty(ring, primes, Form::Coefficients)
    } else {
        RnsPoly::zero(ring, primes, Form::Coefficients)
    };
    if (largest * scale).log2() < WORD_BITS {
        let words: Vec<i64> = halves
            .iter()
            .flatten()
            .map(|x| (x * scale).round() as i64)
            .collect();
        poly.par_limbs(|_, prime, limb| {
            let m = ring.modulus(prime);
            if gap == 1 {
                kernels::reduce_i64(limb, &words, m);
            } else {
                let mut short = vec![0; words.len()];
                kernels::reduce_i64(&mut short, &words, m);
                limb.iter_mut()
                    .step_by(gap)
                    .zip(short)
                    .for_each(|(o, v)| *o = v);
            }
        });
    } else {
        let wide: Vec<i128> = halves
            .iter()
            .flatten()
            .map(|x| (x * scale).round() as i128)
            .collect();
        poly.par_limbs(|_, prime, limb| {
            let m = ring.modulus(prime);
            limb.iter_mut()
                .step_by(gap)
                .zip(&wide)
                .for_each(|(o, &v)| *o = m.reduce_i128(v));
        });
    }
    poly.forward(ring);
    poly
}

/// Primes that decoding looks at: their product bounds what a plaintext may hold, and fits a 128-bit word.
const DECODE_PRIMES: usize = 4;

/// The coefficients at multiples of N/2n of a transformed polynomial, divided by `scale`: real half and imaginary half.
///
/// Only the first few primes are read: a coefficient that does not fit their product is noise anyway.
pub(super) fn from_residues(ring: &Ring, poly: &RnsPoly, n: usize, scale: f64) -> [Vec<f64>; 2] {
    let used: Primes = poly.primes().iter().copied().take(DECODE_PRIMES).collect();
    let mut few = poly.restrict(&used);
    few.inverse(ring);
    let moduli: Vec<_> = used.iter().map(|&p| ring.modulus(p)).collect();
    // Garner: digit i of the mixed-radix form needs the inverse of the earlier primes' product.
    let inverses: Vec<u32> = moduli
        .iter()
        .enumerate()
        .map(|(i, &m)| m.inv(ring.product_mod(&used[..i], m)))
        .collect();
    let product: u128 = moduli.iter().map(|m| u128::from(m.p)).product();
    let gap = ring.n / 2 / n;
    let coefficient = |index: usize| -> f64 {
        let (mut value, mut radix) = (0u128, 1u128);
        for (i, &m) in moduli.iter().enumerate() {
            let have = (value % u128::from(m.p)) as u32;
            let digit = m.mul(m.sub(few.limb(i)[index], have), inverses[i]);
            value += u128::from(digit) * radix;
            radix *= u128::from(m.p);
        }
        let centered = if value > product / 2 {
            -((product - value) as f64)
        } else {
            value as f64
        };
        centered / scale
    };
    [0, ring.n / 2].map(|start| (0..n).map(|i| coefficient(start + i * gap)).collect())
}
