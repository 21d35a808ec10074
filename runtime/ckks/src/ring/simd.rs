//! Which instruction set of an x86 processor the loops over words use; elsewhere there is one.
//!
//! Every loop is compiled for several ([`super::kernels`], [`super::lanes`]) and gives the same residues with each. `SOTTO_SIMD=off`
//! in the environment takes the portable ones, to rule out a fault of a processor or of these; transforms are another crate's and keep
//! to what the processor has.

use std::sync::OnceLock;

/// An instruction set that this processor has. No value names one that it lacks: calls of functions compiled for one rest on that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Simd {
    /// AVX-512 F, BW, DQ and VL.
    Avx512,
    /// AVX2.
    Avx2,
    /// Whatever the target has.
    Portable,
}

/// The instruction sets of this processor, widest first.
pub(crate) fn available() -> Vec<Simd> {
    let mut found = Vec::new();
    let wide = [
        is_x86_feature_detected!("avx512f"),
        is_x86_feature_detected!("avx512bw"),
        is_x86_feature_detected!("avx512dq"),
        is_x86_feature_detected!("avx512vl"),
    ];
    if wide.iter().all(|has| *has) {
        found.push(Simd::Avx512);
    }
    if is_x86_feature_detected!("avx2") {
        found.push(Simd::Avx2);
    }
    found.push(Simd::Portable);
    found
}

/// The instruction set in use: the widest, unless the environment says otherwise.
pub(crate) fn simd() -> Simd {
    #[cfg(test)]
    if let Some(simd) = tests::FORCED.get() {
        return simd;
    }
    static CHOSEN: OnceLock<Simd> = OnceLock::new();
    *CHOSEN.get_or_init(|| match std::env::var("SOTTO_SIMD") {
        Ok(asked) if asked == "off" => Simd::Portable,
        _ => available()[0],
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::Modulus;
    use crate::ring::kernels::*;
    use crate::ring::permute::{Permutation, permute};
    use crate::ring::sums::*;
    use proptest::prelude::*;
    use std::cell::Cell;

    thread_local! {
        pub(super) static FORCED: Cell<Option<Simd>> = const { Cell::new(None) };
    }

    /// Words of a limb: several steps of the widest loops.
    const WORDS: usize = 128;
    const PRIMES: [u32; 4] = [786433, 1179649, 536608769, 1073479681];

    /// What `case` gives with each instruction set is the same.
    fn agrees<T: PartialEq + std::fmt::Debug>(case: impl Fn() -> T) {
        let with = |simd| {
            FORCED.set(Some(simd));
            let result = case();
            FORCED.set(None);
            result
        };
        let portable = with(Simd::Portable);
        for simd in available() {
            assert_eq!(with(simd), portable, "{simd:?}");
        }
    }

    /// Residues of a prime, the extreme ones often.
    fn limb(p: u32) -> impl Strategy<Value = Vec<u32>> {
        let word = prop_oneof![4 => 0..p, 1 => Just(0), 1 => Just(1), 2 => Just(p - 1)];
        prop::collection::vec(word, WORDS)
    }

    /// A modulus, and as many limbs of it as the longest sum takes, with two to start from.
    fn limbs() -> impl Strategy<Value = (Modulus, Vec<Vec<u32>>)> {
        prop::sample::select(&PRIMES[..]).prop_flat_map(|p| {
            let limbs = prop::collection::vec(limb(p), 2 * MAX_TERMS);
            (Just(Modulus::new(p)), limbs)
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn element_wise((m, x) in limbs()) {
            let (a, b, c) = (&x[0][..], &x[1][..], &x[2][..]);
            type Into = fn(&mut [u32], &[u32], &[u32], Modulus);
            for f in [add_to, sub_to, mul_to, mul_add, mul_sub] as [Into; 5] {
                agrees(|| {
                    let mut out = c.to_vec();
                    f(&mut out, a, b, m);
                    out
                });
            }
            type Assign = fn(&mut [u32], &[u32], Modulus);
            for f in [add_assign, sub_assign] as [Assign; 2] {
                agrees(|| {
                    let mut out = c.to_vec();
                    f(&mut out, a, m);
                    out
                });
            }
            let (k, d) = (m.to_mont(b[0]), m.to_mont(b[1]));
            agrees(|| {
                let mut outs = [(); 7].map(|()| a.to_vec());
                neg_assign(&mut outs[0], m);
                add_scalar(&mut outs[1], b[0], m);
                mul_scalar(&mut outs[2], k, m);
                mul_scalar_add(&mut outs[3], c, k, m);
                rsub_scale(&mut outs[4], c, k, m);
                scale_rsub_scale(&mut outs[5], c, k, d, m);
                mul_scalar_to(&mut outs[6], c, k, m);
                outs
            });
        }

        #[test]
        fn products_of_ciphertexts((m, x) in limbs()) {
            for f in [tensor, tensor_add] {
                agrees(|| {
                    let [mut d0, mut d1, mut d2] = [x[4].clone(), x[5].clone(), x[6].clone()];
                    f(&mut d0, &mut d1, &mut d2, &x[0], &x[1], &x[2], &x[3], m);
                    (d0, d1, d2)
                });
            }
        }

        #[test]
        fn sums_of_products((m, x) in limbs(), terms in 1..=MAX_TERMS, log_run in 0..=7u32) {
            let pairs: Vec<(&[u32], &[u32])> = (0..terms)
                .map(|i| (&x[2 * i][..], &x[2 * i + 1][..WORDS >> log_run]))
                .collect();
            agrees(|| {
                let mut out = vec![0; WORDS];
                dot_mont_in_runs(&mut out, &pairs, m);
                out
            });
            let combined: Vec<(&[u32], u32)> = pairs.iter().map(|(a, b)| (*a, b[0])).collect();
            agrees(|| {
                let mut out = x[0].clone();
                combine_mont_add(&mut out, &combined, m);
                out
            });
        }

        #[test]
        fn base_conversions((m, x) in limbs(), rows in 1..=MAX_TERMS) {
            let reciprocal = |p: u32| (1u64 << (62 - p.leading_zeros())) / u64::from(p);
            let source = Source {
                modulus: m,
                factor: m.to_mont(x[0][0]),
                reciprocal: reciprocal(m.p) as u32,
                align: m.p.leading_zeros() - 2,
            };
            let inputs: Vec<&[u32]> = x[..rows].iter().map(|row| &row[..]).collect();
            agrees(|| {
                let mut y = vec![0; (rows + 1) * WORDS];
                convert_sources(&mut y, &mut [0; WORDS], &inputs, &vec![source; rows]);
                y
            });
            let (y, constants) = (x[..rows].concat(), &x[rows][..rows]);
            agrees(|| {
                let mut out = [vec![0; WORDS], vec![0; WORDS], vec![0; WORDS]];
                let [a, b, c] = &mut out;
                convert_targets([a, b], &y, [constants; 2], [m; 2]);
                convert_target(c, &y, constants, m);
                out
            });
        }

        #[test]
        fn signed_words(x in prop::collection::vec(-(1i64 << 62) + 1..1 << 62, WORDS)) {
            for p in PRIMES {
                agrees(|| {
                    let mut out = vec![0; WORDS];
                    reduce_i64(&mut out, &x, Modulus::new(p));
                    out
                });
            }
        }

        #[test]
        fn automorphisms((_, x) in limbs(), element in 0..256u32) {
            let permutation = Permutation::new(2 * element + 1, 7);
            agrees(|| {
                let mut out = vec![0; WORDS];
                permute(&mut out, &x[0], &permutation);
                out
            });
        }
    }
}
