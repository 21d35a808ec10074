//! The loops over words. Each is written once in plain Rust and compiled for AVX-512, AVX2 and the baseline; the processor decides.
//!
//! Products are taken in 64-bit lanes. The masks below are what lets the compiler see a 32×32→64 multiplication.

use super::Modulus;
use super::lanes::{laned, steps, steps_mut};

/// Defines functions whose bodies are compiled once per instruction set and chosen at run time.
macro_rules! dispatched {
    ($($(#[$meta:meta])* pub(crate) fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $body:block)*) => {$(
        $(#[$meta])*
        #[allow(clippy::too_many_arguments)]
        pub(crate) fn $name($($arg: $ty),*) {
            #[inline(always)]
            fn body($($arg: $ty),*) $body
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
                fn avx512($($arg: $ty),*) { body($($arg),*) }
                #[target_feature(enable = "avx2")]
                fn avx2($($arg: $ty),*) { body($($arg),*) }
                match $crate::ring::simd::simd() {
                    // SAFETY: what `simd` gives, the processor has.
                    $crate::ring::simd::Simd::Avx512 => unsafe { avx512($($arg),*) },
                    $crate::ring::simd::Simd::Avx2 => unsafe { avx2($($arg),*) },
                    $crate::ring::simd::Simd::Portable => body($($arg),*),
                }
            }
            #[cfg(not(target_arch = "x86_64"))]
            body($($arg),*)
        }
    )*};
}
pub(crate) use dispatched;

const LOW: u64 = 0xffff_ffff;

/// Most products of two residues that may be summed before [`mont_sum`].
pub(crate) const MAX_TERMS: usize = 16;

/// x in [0, 2p) to [0, p); both below 2^32.
#[inline(always)]
fn once(x: u32, p: u32) -> u32 {
    x.min(x.wrapping_sub(p))
}

/// t·2^-32 mod p for t < 2^32·p.
#[inline(always)]
fn mont(t: u64, m: Modulus) -> u32 {
    let p = u64::from(m.p);
    let k = ((t & LOW) * u64::from(m.p_inv)) & LOW;
    once(((t >> 32) + p - ((k * p) >> 32)) as u32, m.p)
}

/// t·2^-32 mod p for a sum of up to [`MAX_TERMS`] products of a word below 2^30 and a residue.
#[inline(always)]
pub(super) fn mont_sum(t: u64, m: Modulus) -> u32 {
    let p = u64::from(m.p);
    let k = ((t & LOW) * u64::from(m.p_inv)) & LOW;
    // The high half is below 4p; bring it below 2p so that adding p stays within a word.
    let high = once((t >> 32) as u32, 2 * m.p);
    let r = high + m.p - ((k * p) >> 32) as u32;
    once(once(r, 2 * m.p), m.p)
}

/// a·b mod p by Barrett.
#[inline(always)]
pub(super) fn mul(a: u32, b: u32, m: Modulus) -> u32 {
    let t = u64::from(a) * u64::from(b);
    let q = (((t >> m.shift) & LOW) * u64::from(m.mu)) >> (m.shift + 4);
    let r = (t as u32).wrapping_sub((q as u32).wrapping_mul(m.p));
    once(once(r, 2 * m.p), m.p)
}

#[inline(always)]
pub(super) fn add(a: u32, b: u32, p: u32) -> u32 {
    once(a + b, p)
}

#[inline(always)]
fn sub(a: u32, b: u32, p: u32) -> u32 {
    let d = a.wrapping_sub(b);
    d.min(d.wrapping_add(p))
}

dispatched! {
    /// a += b.
    pub(crate) fn add_assign(a: &mut [u32], b: &[u32], m: Modulus) {
        for (x, &y) in a.iter_mut().zip(b) {
            *x = add(*x, y, m.p);
        }
    }

    /// a -= b.
    pub(crate) fn sub_assign(a: &mut [u32], b: &[u32], m: Modulus) {
        for (x, &y) in a.iter_mut().zip(b) {
            *x = sub(*x, y, m.p);
        }
    }

    /// out = a + b.
    pub(crate) fn add_to(out: &mut [u32], a: &[u32], b: &[u32], m: Modulus) {
        for ((o, &x), &y) in out.iter_mut().zip(a).zip(b) {
            *o = add(x, y, m.p);
        }
    }

    /// out = a - b.
    pub(crate) fn sub_to(out: &mut [u32], a: &[u32], b: &[u32], m: Modulus) {
        for ((o, &x), &y) in out.iter_mut().zip(a).zip(b) {
            *o = sub(x, y, m.p);
        }
    }

    /// a = -a.
    pub(crate) fn neg_assign(a: &mut [u32], m: Modulus) {
        for x in a {
            *x = sub(0, *x, m.p);
        }
    }

    /// a += c.
    pub(crate) fn add_scalar(a: &mut [u32], c: u32, m: Modulus) {
        for x in a {
            *x = add(*x, c, m.p);
        }
    }

    /// out = a·b.
    pub(crate) fn mul_to(out: &mut [u32], a: &[u32], b: &[u32], m: Modulus) {
        for ((o, &x), &y) in out.iter_mut().zip(a).zip(b) {
            *o = mul(x, y, m);
        }
    }

    /// acc += a·b.
    pub(crate) fn mul_add(acc: &mut [u32], a: &[u32], b: &[u32], m: Modulus) {
        for ((o, &x), &y) in acc.iter_mut().zip(a).zip(b) {
            *o = add(*o, mul(x, y, m), m.p);
        }
    }

    /// acc -= a·b.
    pub(crate) fn mul_sub(acc: &mut [u32], a: &[u32], b: &[u32], m: Modulus) {
        for ((o, &x), &y) in acc.iter_mut().zip(a).zip(b) {
            *o = sub(*o, mul(x, y, m), m.p);
        }
    }

    /// The three parts of a product of ciphertexts: d0 = a0·b0, d1 = a0·b1 + a1·b0, d2 = a1·b1.
    pub(crate) fn tensor(
        d0: &mut [u32], d1: &mut [u32], d2: &mut [u32], a0: &[u32], a1: &[u32], b0: &[u32], b1: &[u32], m: Modulus,
    ) {
        let n = d0.len();
        let (d1, d2, a0, a1, b0, b1) = (&mut d1[..n], &mut d2[..n], &a0[..n], &a1[..n], &b0[..n], &b1[..n]);
        for i in 0..n {
            let cross = add(mul(a0[i], b1[i], m), mul(a1[i], b0[i], m), m.p);
            d0[i] = mul(a0[i], b0[i], m);
            d2[i] = mul(a1[i], b1[i], m);
            d1[i] = cross;
        }
    }

    /// a *= c, where `c_mont` is c in Montgomery form.
    pub(crate) fn mul_scalar(a: &mut [u32], c_mont: u32, m: Modulus) {
        for x in a {
            *x = mont(u64::from(*x) * u64::from(c_mont), m);
        }
    }

    /// out = a·c, where `c_mont` is c in Montgomery form.
    pub(crate) fn mul_scalar_to(out: &mut [u32], a: &[u32], c_mont: u32, m: Modulus) {
        for (o, &x) in out.iter_mut().zip(a) {
            *o = mont(u64::from(x) * u64::from(c_mont), m);
        }
    }

    /// acc += a·c, where `c_mont` is c in Montgomery form.
    pub(crate) fn mul_scalar_add(acc: &mut [u32], a: &[u32], c_mont: u32, m: Modulus) {
        for (o, &x) in acc.iter_mut().zip(a) {
            *o = add(*o, mont(u64::from(x) * u64::from(c_mont), m), m.p);
        }
    }

    /// t = (a - t)·d for a constant d in Montgomery form: the last step of a rounded division.
    pub(crate) fn rsub_scale(t: &mut [u32], a: &[u32], d_mont: u32, m: Modulus) {
        for (y, &x) in t.iter_mut().zip(a) {
            *y = mont(u64::from(sub(x, *y, m.p)) * u64::from(d_mont), m);
        }
    }

    /// t = (a·k - t)·d for constants k and d in Montgomery form.
    pub(crate) fn scale_rsub_scale(t: &mut [u32], a: &[u32], k_mont: u32, d_mont: u32, m: Modulus) {
        for (y, &x) in t.iter_mut().zip(a) {
            let scaled = mont(u64::from(x) * u64::from(k_mont), m);
            *y = mont(u64::from(sub(scaled, *y, m.p)) * u64::from(d_mont), m);
        }
    }

    /// out = x mod p for signed words |x| < 2^62.
    pub(crate) fn reduce_i64(out: &mut [u32], x: &[i64], m: Modulus) {
        // Shift to nonnegative, reduce the two halves against 2^32 and 2^64, shift back.
        let offset = 1i64 << 62;
        let back = ((1u64 << 62) % u64::from(m.p)) as u32;
        for (o, &v) in out.iter_mut().zip(x) {
            let w = v.wrapping_add(offset) as u64;
            let t = (w >> 32) * u64::from(m.r2) + (w & LOW) * u64::from(m.r1);
            let p = u64::from(m.p);
            let k = ((t & LOW) * u64::from(m.p_inv)) & LOW;
            let r = ((t >> 32) + p - ((k * p) >> 32)) as u32;
            *o = sub(once(once(r, 2 * m.p), m.p), back, m.p);
        }
    }
}

/// One source prime of a base conversion.
#[derive(Clone, Copy)]
pub(crate) struct Source {
    pub modulus: Modulus,
    /// What the residue is multiplied by first, in Montgomery form.
    pub factor: u32,
    /// floor(2^(bits + 30) / p): the fixed-point reciprocal.
    pub reciprocal: u32,
    /// 30 - bits of p: brings the reciprocal's product to 60 fractional bits.
    pub align: u32,
}

dispatched! {
    /// First half of a base conversion, on one block of coefficients: row i of `y` becomes x_i·factor_i mod p_i, and the last row the
    /// number of times the modulus must be taken off to get the representative nearest to zero. `overflow` is scratch for one row.
    pub(crate) fn convert_sources(y: &mut [u32], overflow: &mut [u64], inputs: &[&[u32]], sources: &[Source]) {
        let len = overflow.len();
        overflow.fill(1 << 59);
        let (rows, last) = y.split_at_mut(inputs.len() * len);
        for ((row, x), s) in rows.chunks_exact_mut(len).zip(inputs).zip(sources) {
            for ((v, &x), u) in row.iter_mut().zip(*x).zip(overflow.iter_mut()) {
                *v = mont(u64::from(x) * u64::from(s.factor), s.modulus);
                *u += (u64::from(*v) * u64::from(s.reciprocal)) << s.align;
            }
        }
        for (v, u) in last.iter_mut().zip(overflow) {
            *v = (*u >> 60) as u32;
        }
    }
}

laned! {
    /// Second half of a base conversion, for two target primes: out = Σ y_i·c_i over the rows of `y`, with constants in Montgomery form.
    pub(crate) fn convert_targets<S>(
        out: [&mut [u32]; 2], y: &[u32], constants: [&[u32]; 2], moduli: [Modulus; 2],
    ) {
        let [first, second] = out;
        let len = first.len();
        let steps = steps_mut(first).iter_mut().zip(steps_mut(second));
        for (i, (first, second)) in steps.enumerate() {
            let (mut a, mut b) = (S::zero(), S::zero());
            for ((row, &c), &d) in y.chunks_exact(len).zip(constants[0]).zip(constants[1]) {
                let row = &row.as_chunks().0[i];
                a.add_multiples(row, c);
                b.add_multiples(row, d);
            }
            *first = a.reduce(moduli[0]);
            *second = b.reduce(moduli[1]);
        }
    }

    /// As [`convert_targets`] for one target prime.
    pub(crate) fn convert_target<S>(out: &mut [u32], y: &[u32], constants: &[u32], m: Modulus) {
        let len = out.len();
        for (i, out) in steps_mut(out).iter_mut().enumerate() {
            let mut sums = S::zero();
            for (row, &c) in y.chunks_exact(len).zip(constants) {
                sums.add_multiples(&row.as_chunks().0[i], c);
            }
            *out = sums.reduce(m);
        }
    }

    /// out = Σ a_i·b_i for at most [`MAX_TERMS`] pairs whose second members are in Montgomery form.
    pub(crate) fn dot_mont<S>(out: &mut [u32], pairs: &[(&[u32], &[u32])], m: Modulus) {
        for (i, out) in steps_mut(out).iter_mut().enumerate() {
            let mut sums = S::zero();
            for (a, b) in pairs {
                sums.add_products(&steps(a)[i], &steps(b)[i]);
            }
            *out = sums.reduce(m);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRIMES: [u32; 4] = [786433, 1179649, 536608769, 1073479681];

    fn words(seed: u64, p: u32, n: usize) -> Vec<u32> {
        let mut state = seed | 1;
        let mut v: Vec<u32> = (0..n - 3)
            .map(|_| {
                state = state
                    .wrapping_mul(6364136223846793005)
                    .wrapping_add(1442695040888963407);
                ((state >> 33) % u64::from(p)) as u32
            })
            .collect();
        v.extend([0, 1, p - 1]);
        v
    }

    #[test]
    fn products_agree_with_division() {
        for p in PRIMES {
            let m = Modulus::new(p);
            let (a, b, c) = (words(1, p, 256), words(2, p, 256), words(3, p, 256));
            let exact = |i: usize| (u64::from(a[i]) * u64::from(b[i]) % u64::from(p)) as u32;
            let mut out = vec![0; 256];
            mul_to(&mut out, &a, &b, m);
            assert!((0..256).all(|i| out[i] == exact(i)));
            let mut acc = c.clone();
            mul_add(&mut acc, &a, &b, m);
            assert!((0..256).all(|i| acc[i] == (exact(i) + c[i]) % p));
            let mut scaled = a.clone();
            mul_scalar(&mut scaled, m.to_mont(b[7]), m);
            assert!((0..256).all(|i| scaled[i] == m.mul(a[i], b[7])));
        }
    }

    #[test]
    fn sums_of_sixteen_largest_products() {
        for p in PRIMES {
            let m = Modulus::new(p);
            let a = vec![p - 1; 64];
            let b = vec![p - 1; 64];
            for terms in [1, 2, 4, 12, MAX_TERMS] {
                let pairs: Vec<(&[u32], &[u32])> = (0..terms).map(|_| (&a[..], &b[..])).collect();
                let mut out = vec![0; 64];
                dot_mont(&mut out, &pairs, m);
                // (p-1)·(p-1)·2^-32 summed.
                let expected = m.mul(terms as u32, m.inv(m.r1));
                assert!(out.iter().all(|&o| o == expected), "{p} {terms}");
            }
        }
    }

    #[test]
    fn signed_words_reduce() {
        let limit = (1i64 << 62) - 1;
        let x: Vec<i64> = [0, 1, -1, limit, -limit, 1 << 40, -(1 << 40), 12345678901].repeat(8);
        for p in PRIMES {
            let m = Modulus::new(p);
            let mut out = vec![0; x.len()];
            reduce_i64(&mut out, &x, m);
            for (o, v) in out.iter().zip(&x) {
                assert_eq!(*o, m.reduce_i128(i128::from(*v)));
            }
        }
    }
}
