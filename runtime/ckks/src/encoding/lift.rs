//! Real coefficients to residues and back.

use crate::context::Context;
use crate::ring::{Form, Primes, Ring, RnsPoly, kernels};

/// Largest log2 of a scaled coefficient.
pub(crate) const MAX_BITS: f64 = 124.0;

/// Coefficients up to this log2 take the fast path.
const WORD_BITS: f64 = 61.9;

/// The scaled and rounded coefficients of a plaintext, before they are reduced modulo primes: of a polynomial in X^gap, the lower half of
/// its coefficients and then the upper one. As many as twice the period of its slots, and the same for every prime.
#[derive(Clone, Debug)]
pub struct Coefficients(Integers);

#[derive(Clone, Debug)]
enum Integers {
    Words(Vec<i64>),
    Wide(Vec<i128>),
}

impl Coefficients {
    /// round(halves·scale).
    pub(super) fn rounded(halves: &[Vec<f64>; 2], scale: f64) -> Self {
        let scaled = halves.iter().flatten().map(|x| x * scale);
        let largest = scaled.clone().fold(0.0, |m: f64, x| m.max(x.abs()));
        Self(match largest.log2() < WORD_BITS {
            true => Integers::Words(scaled.map(|x| x.round() as i64).collect()),
            false => Integers::Wide(scaled.map(|x| x.round() as i128).collect()),
        })
    }

    /// How many there are; a power of two.
    fn count(&self) -> usize {
        match &self.0 {
            Integers::Words(words) => words.len(),
            Integers::Wide(wide) => wide.len(),
        }
    }

    /// All of them, if none is as large as 2^62.
    pub fn words(&self) -> Option<&[i64]> {
        match &self.0 {
            Integers::Words(words) => Some(words),
            Integers::Wide(_) => None,
        }
    }

    /// The transformed polynomial.
    pub(crate) fn residues(&self, ring: &Ring, primes: &Primes) -> RnsPoly {
        let gap = ring.n / self.count();
        let mut poly = match gap {
            1 => RnsPoly::dirty(ring, primes, Form::Coefficients),
            _ => RnsPoly::zero(ring, primes, Form::Coefficients),
        };
        poly.par_limbs(|_, prime, limb| {
            let m = ring.modulus(prime);
            let places = limb.iter_mut().step_by(gap);
            match &self.0 {
                Integers::Words(words) if gap == 1 => kernels::reduce_i64(limb, words, m),
                Integers::Words(words) => {
                    let mut short = vec![0; words.len()];
                    kernels::reduce_i64(&mut short, words, m);
                    places.zip(short).for_each(|(place, v)| *place = v);
                }
                Integers::Wide(wide) => places
                    .zip(wide)
                    .for_each(|(place, &v)| *place = m.reduce_i128(v)),
            }
        });
        poly.forward(ring);
        poly
    }

    /// The transformed polynomial in Montgomery form, limb after limb. It takes as many different values as it has coefficients, constant
    /// on runs in bit-reversed order: each is there once.
    pub fn diagonal(&self, ctx: &Context, primes: &Primes) -> Vec<u32> {
        let ring = ctx.ring();
        let mut poly = self.residues(ring, primes);
        poly.par_limbs(|_, prime, limb| {
            let m = ring.modulus(prime);
            kernels::mul_scalar(limb, m.r2, m);
        });
        let run = ring.n / self.count();
        poly.words().iter().copied().step_by(run).collect()
    }
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
