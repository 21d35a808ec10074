//! The special discrete Fourier transform of the canonical embedding: evaluation at ζ^(5^j) (Cheon, Kim, Kim, Song 2017).
//!
//! The twiddle factors of the stage of length `len` are exp(2πi·(5^j mod 4·len)/(4·len)), which depend on no larger length: one table
//! serves every number of slots. Real and imaginary parts are kept apart so that the loops vectorize.

use crate::ring::kernels::dispatched;

/// Twiddle factors of all stages.
pub(crate) struct SlotTransform {
    /// Stage s (of length 2^(s+1)) has 2^s factors.
    stages: Vec<(Vec<f64>, Vec<f64>)>,
}

impl SlotTransform {
    /// Tables for up to 2^`log_slots` slots.
    pub(crate) fn new(log_slots: u32) -> Self {
        let stages = (0..log_slots)
            .map(|s| {
                let (half, order) = (1usize << s, 8u64 << s);
                let mut power = 1u64;
                (0..half)
                    .map(|_| {
                        let angle = std::f64::consts::TAU * power as f64 / order as f64;
                        power = power * 5 % order;
                        (angle.cos(), angle.sin())
                    })
                    .unzip()
            })
            .collect();
        Self { stages }
    }

    fn log_len(&self, len: usize) -> usize {
        let log = len.trailing_zeros() as usize;
        assert!(len.is_power_of_two() && log <= self.stages.len());
        log
    }

    /// Coefficients (of the subring, real half and imaginary half) to slots, in place.
    pub(crate) fn forward(&self, re: &mut [f64], im: &mut [f64]) {
        let log = self.log_len(re.len());
        bit_reverse(re);
        bit_reverse(im);
        for (s, (wr, wi)) in self.stages[..log].iter().enumerate() {
            let len = 2usize << s;
            for (r, i) in re.chunks_exact_mut(len).zip(im.chunks_exact_mut(len)) {
                forward_block(r, i, wr, wi);
            }
        }
    }

    /// Slots to coefficients, in place.
    pub(crate) fn inverse(&self, re: &mut [f64], im: &mut [f64]) {
        let log = self.log_len(re.len());
        for (s, (wr, wi)) in self.stages[..log].iter().enumerate().rev() {
            let len = 2usize << s;
            for (r, i) in re.chunks_exact_mut(len).zip(im.chunks_exact_mut(len)) {
                inverse_block(r, i, wr, wi);
            }
        }
        bit_reverse(re);
        bit_reverse(im);
        let scale = 1.0 / re.len() as f64;
        re.iter_mut().chain(im).for_each(|x| *x *= scale);
    }
}

fn bit_reverse(v: &mut [f64]) {
    let log = v.len().trailing_zeros();
    if log == 0 {
        return;
    }
    for i in 0..v.len() {
        let j = i.reverse_bits() >> (usize::BITS - log);
        if i < j {
            v.swap(i, j);
        }
    }
}

dispatched! {
    pub(crate) fn forward_block(re: &mut [f64], im: &mut [f64], wr: &[f64], wi: &[f64]) {
        let half = wr.len();
        let (ar, br) = re.split_at_mut(half);
        let (ai, bi) = im.split_at_mut(half);
        let (br, ai, bi, wi) = (&mut br[..half], &mut ai[..half], &mut bi[..half], &wi[..half]);
        for j in 0..half {
            let tr = br[j] * wr[j] - bi[j] * wi[j];
            let ti = br[j] * wi[j] + bi[j] * wr[j];
            (br[j], bi[j]) = (ar[j] - tr, ai[j] - ti);
            (ar[j], ai[j]) = (ar[j] + tr, ai[j] + ti);
        }
    }

    pub(crate) fn inverse_block(re: &mut [f64], im: &mut [f64], wr: &[f64], wi: &[f64]) {
        let half = wr.len();
        let (ar, br) = re.split_at_mut(half);
        let (ai, bi) = im.split_at_mut(half);
        let (br, ai, bi, wi) = (&mut br[..half], &mut ai[..half], &mut bi[..half], &wi[..half]);
        for j in 0..half {
            let (tr, ti) = (ar[j] - br[j], ai[j] - bi[j]);
            (ar[j], ai[j]) = (ar[j] + br[j], ai[j] + bi[j]);
            br[j] = tr * wr[j] + ti * wi[j];
            bi[j] = ti * wr[j] - tr * wi[j];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn evaluates_the_polynomial_at_the_roots() {
        let n = 8usize;
        let transform = SlotTransform::new(5);
        let coeffs: Vec<f64> = (0..2 * n)
            .map(|i| ((i * 7 + 3) % 11) as f64 - 5.0)
            .collect();
        let (mut re, mut im) = (coeffs[..n].to_vec(), coeffs[n..].to_vec());
        transform.forward(&mut re, &mut im);
        let mut power = 1usize;
        for j in 0..n {
            let (mut r, mut i) = (0.0, 0.0);
            for (k, c) in coeffs.iter().enumerate() {
                let angle = std::f64::consts::TAU * ((power * k) % (4 * n)) as f64 / (4 * n) as f64;
                r += c * angle.cos();
                i += c * angle.sin();
            }
            assert!(
                (re[j] - r).abs() < 1e-12 && (im[j] - i).abs() < 1e-12,
                "slot {j}"
            );
            power = power * 5 % (4 * n);
        }
        transform.inverse(&mut re, &mut im);
        assert!((0..n).all(|i| (re[i] - coeffs[i]).abs() < 1e-12 && (im[i] - coeffs[n + i]).abs() < 1e-12));
    }
}
