//! Sums of products over words: what linear transforms and polynomial evaluation spend their time in beside transforms.

use super::Modulus;
use super::kernels::{add, dispatched, dot_mont, mul};
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

    /// The same for runs shorter than [`LANES`].
    pub(crate) fn dot_mont_short_runs<S>(out: &mut [u32], pairs: &[(&[u32], &[u32])], run: usize, m: Modulus) {
        let few = LANES / run;
        for (i, out) in steps_mut(out).iter_mut().enumerate() {
            let mut sums = S::zero();
            for (a, b) in pairs {
                let b = &b[i * few..(i + 1) * few];
                // known lengths, so that the compiler knows the permutation
                let spread = match run {
                    16 => repeated::<16>(b),
                    8 => repeated::<8>(b),
                    4 => repeated::<4>(b),
                    _ => repeated::<2>(b),
                };
                sums.add_products(&steps(a)[i], &spread);
            }
            *out = sums.reduce(m);
        }
    }
}

/// Every word `RUN` times.
#[inline(always)]
fn repeated<const RUN: usize>(words: &[u32]) -> [u32; LANES] {
    std::array::from_fn(|lane| words[lane / RUN])
}

/// out = Σ a·b over at most [`super::kernels::MAX_TERMS`] pairs of limbs, the second members in Montgomery form, each of their entries
/// standing for a run of equal ones.
pub(crate) fn dot_mont_in_runs(out: &mut [u32], pairs: &[(&[u32], &[u32])], m: Modulus) {
    let run = pairs.first().map_or(1, |(a, b)| a.len() / b.len());
    match run {
        1 => dot_mont(out, pairs, m),
        2..LANES => dot_mont_short_runs(out, pairs, run, m),
        _ => dot_mont_runs(out, pairs, run, m),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_of_any_length_are_as_if_written_out() {
        let m = Modulus::new(0x3fde_0001);
        let n = 256;
        let word = |i: usize| (i as u32).wrapping_mul(2_654_435_761) % m.p;
        for run in [1, 2, 4, 8, 16, 32, 64, 256] {
            let long: Vec<Vec<u32>> = (0..5)
                .map(|k| (0..n).map(|i| word(7 * k + i)).collect())
                .collect();
            let short: Vec<Vec<u32>> = (0..5)
                .map(|k| (0..n / run).map(|i| word(1000 + 31 * k + i)).collect())
                .collect();
            let spread: Vec<Vec<u32>> = short
                .iter()
                .map(|b| (0..n).map(|i| b[i / run]).collect())
                .collect();
            let pairs = |b: &'_ [Vec<u32>]| -> Vec<(Vec<u32>, Vec<u32>)> {
                long.iter().cloned().zip(b.iter().cloned()).collect()
            };
            let dot = |pairs: &[(Vec<u32>, Vec<u32>)]| {
                let pairs: Vec<(&[u32], &[u32])> =
                    pairs.iter().map(|(a, b)| (&a[..], &b[..])).collect();
                let mut out = vec![0; n];
                dot_mont_in_runs(&mut out, &pairs, m);
                out
            };
            assert_eq!(dot(&pairs(&short)), dot(&pairs(&spread)), "runs of {run}");
        }
    }
}
