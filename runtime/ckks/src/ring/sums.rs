//! Sums of products over words: what linear transforms and polynomial evaluation spend their time in beside transforms.

use super::Modulus;
use super::kernels::{LANES, add, dispatched, mont_sum, mul};

dispatched! {
    /// out += Σ a_i·c_i for at most [`super::kernels::MAX_TERMS`] limbs and constants in Montgomery form.
    pub(crate) fn combine_mont_add(out: &mut [u32], terms: &[(&[u32], u32)], m: Modulus) {
        let mut base = 0;
        for chunk in out.chunks_exact_mut(LANES) {
            let mut acc = [0u64; LANES];
            for (a, c) in terms {
                let a = &a[base..base + LANES];
                for lane in 0..LANES {
                    acc[lane] += u64::from(a[lane]) * u64::from(*c);
                }
            }
            for lane in 0..LANES {
                chunk[lane] = add(chunk[lane], mont_sum(acc[lane], m), m.p);
            }
            base += LANES;
        }
    }

    /// As [`super::kernels::dot_mont`], where entry j of a second member stands for a run of `run` entries, a multiple of [`LANES`].
    pub(crate) fn dot_mont_runs(out: &mut [u32], pairs: &[(&[u32], &[u32])], run: usize, m: Modulus) {
        let mut base = 0;
        for chunk in out.chunks_exact_mut(LANES) {
            let mut acc = [0u64; LANES];
            for (a, b) in pairs {
                let (a, c) = (&a[base..base + LANES], u64::from(b[base / run]));
                for lane in 0..LANES {
                    acc[lane] += u64::from(a[lane]) * c;
                }
            }
            for lane in 0..LANES {
                chunk[lane] = mont_sum(acc[lane], m);
            }
            base += LANES;
        }
    }

    /// d0 += a0·b0, d1 += a0·b1 + a1·b0, d2 += a1·b1.
    pub(crate) fn tensor_add(
        d0: &mut [u32], d1: &mut [u32], d2: &mut [u32], a0: &[u32], a1: &[u32], b0: &[u32], b1: &[u32], m: Modulus,
    ) {
        let n = d0.len();
        let (d1, d2, a0, a1, b0, b1) = (&mut d1[..n], &mut d2[..n], &a0[..n], &a1[..n], &b0[..n], &b1[..n]);
        for i in 0..n {
            let cross = add(mul(a0[i], b1[i], m), mul(a1[i], b0[i], m), m.p);
            d0[i] = add(d0[i], mul(a0[i], b0[i], m), m.p);
            d2[i] = add(d2[i], mul(a1[i], b1[i], m), m.p);
            d1[i] = add(d1[i], cross, m.p);
        }
    }
}
