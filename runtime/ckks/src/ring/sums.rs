//! Sums of products over words: what linear transforms and polynomial evaluation spend their time in beside transforms.

use super::Modulus;
use super::kernels::{add, dispatched, mul};
use super::lanes::{LANES, laned, steps, steps_mut};

laned! {
    /// out += Σ a_i·c_i for at most [`super::kernels::MAX_TERMS`] limbs and constants in Montgomery form.
    pub(crate) fn combine_mont_add<S>(out: &mut [u32], terms: &[(&[u32], u32)], m: Modulus) {
        for (i, out) in steps_mut(out).iter_mut().enumerate() {
            let mut sums = S::zero();
            for (a, c) in terms {
                sums.add_multiples(&steps(a)[i], *c);
            }
            let sums = sums.reduce(m);
            for (out, sum) in out.iter_mut().zip(sums) {
                *out = add(*out, sum, m.p);
            }
        }
    }

    /// As [`super::kernels::dot_mont`], where entry j of a second member stands for a run of `run` entries, a multiple of [`LANES`].
    pub(crate) fn dot_mont_runs<S>(out: &mut [u32], pairs: &[(&[u32], &[u32])], run: usize, m: Modulus) {
        for (i, out) in steps_mut(out).iter_mut().enumerate() {
            let mut sums = S::zero();
            for (a, b) in pairs {
                sums.add_multiples(&steps(a)[i], b[i * LANES / run]);
            }
            *out = sums.reduce(m);
        }
    }
}

dispatched! {
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
