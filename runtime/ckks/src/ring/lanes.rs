//! Sums of products kept in registers.
//!
//! Base conversion, key products and linear transforms are sums of products of words, reduced once at the end. The compiler vectorizes such loops
//! at half the speed of the registers (it splits the sums unevenly and widens every load), so AVX-512 has its own form here: words are
//! loaded sixteen at a time and multiplied as even and odd halves, which needs no widening and no narrowing.

use super::Modulus;
use super::kernels::mont_sum;

/// Words per step.
pub(crate) const LANES: usize = 32;

/// [`LANES`] sums of up to [`super::kernels::MAX_TERMS`] products each, of a word below 2^30 and a residue.
pub(crate) trait Sums: Sized {
    /// All zero.
    fn zero() -> Self;
    /// self += a·b.
    fn add_products(&mut self, a: &[u32; LANES], b: &[u32; LANES]);
    /// self += a·c.
    fn add_multiples(&mut self, a: &[u32; LANES], c: u32);
    /// The sums times 2^-32, reduced.
    fn reduce(self, m: Modulus) -> [u32; LANES];
}

/// Sums for any processor.
pub(crate) struct Portable([u64; LANES]);

impl Sums for Portable {
    #[inline(always)]
    fn zero() -> Self {
        Self([0; LANES])
    }

    #[inline(always)]
    fn add_products(&mut self, a: &[u32; LANES], b: &[u32; LANES]) {
        for ((sum, &a), &b) in self.0.iter_mut().zip(a).zip(b) {
            *sum += u64::from(a) * u64::from(b);
        }
    }

    #[inline(always)]
    fn add_multiples(&mut self, a: &[u32; LANES], c: u32) {
        for (sum, &a) in self.0.iter_mut().zip(a) {
            *sum += u64::from(a) * u64::from(c);
        }
    }

    #[inline(always)]
    fn reduce(self, m: Modulus) -> [u32; LANES] {
        self.0.map(|t| mont_sum(t, m))
    }
}

#[cfg(target_arch = "x86_64")]
pub(crate) use avx512::Avx512;

#[cfg(target_arch = "x86_64")]
mod avx512 {
    use super::{LANES, Modulus, Sums};
    use std::arch::x86_64::*;

    const REGISTERS: usize = LANES / 16;

    /// Sums of the even and the odd words of each register. To be used in functions compiled for AVX-512 only, which
    /// [`super::laned`] sees to.
    pub(crate) struct Avx512 {
        even: [__m512i; REGISTERS],
        odd: [__m512i; REGISTERS],
    }

    // SAFETY of all blocks below: the intrinsics need AVX-512F, which the only callers (see `laned`) have; loads and stores stay within
    // references to whole arrays.

    #[inline(always)]
    fn load(words: &[u32; LANES], register: usize) -> __m512i {
        let words: &[u32] = &words[16 * register..16 * (register + 1)];
        unsafe { _mm512_loadu_si512(words.as_ptr().cast()) }
    }

    impl Sums for Avx512 {
        #[inline(always)]
        fn zero() -> Self {
            let zero = unsafe { [_mm512_setzero_si512(); REGISTERS] };
            Self {
                even: zero,
                odd: zero,
            }
        }

        #[inline(always)]
        fn add_products(&mut self, a: &[u32; LANES], b: &[u32; LANES]) {
            for i in 0..REGISTERS {
                let (x, y) = (load(a, i), load(b, i));
                unsafe {
                    let (u, v) = (_mm512_srli_epi64::<32>(x), _mm512_srli_epi64::<32>(y));
                    self.even[i] = _mm512_add_epi64(self.even[i], _mm512_mul_epu32(x, y));
                    self.odd[i] = _mm512_add_epi64(self.odd[i], _mm512_mul_epu32(u, v));
                }
            }
        }

        #[inline(always)]
        fn add_multiples(&mut self, a: &[u32; LANES], c: u32) {
            for i in 0..REGISTERS {
                let x = load(a, i);
                unsafe {
                    let c = _mm512_set1_epi64(i64::from(c));
                    let u = _mm512_srli_epi64::<32>(x);
                    self.even[i] = _mm512_add_epi64(self.even[i], _mm512_mul_epu32(x, c));
                    self.odd[i] = _mm512_add_epi64(self.odd[i], _mm512_mul_epu32(u, c));
                }
            }
        }

        #[inline(always)]
        fn reduce(self, m: Modulus) -> [u32; LANES] {
            let mut out = [0; LANES];
            for i in 0..REGISTERS {
                unsafe {
                    let p_inv = _mm512_set1_epi64(i64::from(m.p_inv));
                    let wide_p = _mm512_set1_epi64(i64::from(m.p));
                    // High halves of even sums and of odd sums, side by side again.
                    let join = |even, odd| {
                        _mm512_mask_blend_epi32(0xaaaa, _mm512_srli_epi64::<32>(even), odd)
                    };
                    let quotient = |t| _mm512_mul_epu32(_mm512_mul_epu32(t, p_inv), wide_p);
                    let high = join(self.even[i], self.odd[i]);
                    let taken = join(quotient(self.even[i]), quotient(self.odd[i]));
                    let (p, p2) = (
                        _mm512_set1_epi32(m.p as i32),
                        _mm512_set1_epi32(2 * m.p as i32),
                    );
                    let below = |x, bound| _mm512_min_epu32(x, _mm512_sub_epi32(x, bound));
                    // As in `mont_sum`: below 4p, below 2p, below 3p, below p.
                    let r = _mm512_sub_epi32(_mm512_add_epi32(below(high, p2), p), taken);
                    let r = below(below(r, p2), p);
                    _mm512_storeu_si512(out[16 * i..].as_mut_ptr().cast(), r);
                }
            }
            out
        }
    }
}

/// Defines functions over [`Sums`], compiled per instruction set and chosen at run time. The name in angle brackets stands for the sums.
macro_rules! laned {
    ($($(#[$meta:meta])* pub(crate) fn $name:ident<$sums:ident>($($arg:ident: $ty:ty),* $(,)?) $body:block)*) => {$(
        $(#[$meta])*
        pub(crate) fn $name($($arg: $ty),*) {
            #[inline(always)]
            fn body<$sums: $crate::ring::lanes::Sums>($($arg: $ty),*) $body
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
                fn avx512($($arg: $ty),*) { body::<$crate::ring::lanes::Avx512>($($arg),*) }
                #[target_feature(enable = "avx2")]
                fn avx2($($arg: $ty),*) { body::<$crate::ring::lanes::Portable>($($arg),*) }
                match $crate::ring::simd::simd() {
                    // SAFETY: what `simd` gives, the processor has.
                    $crate::ring::simd::Simd::Avx512 => unsafe { avx512($($arg),*) },
                    $crate::ring::simd::Simd::Avx2 => unsafe { avx2($($arg),*) },
                    $crate::ring::simd::Simd::Portable => {
                        body::<$crate::ring::lanes::Portable>($($arg),*)
                    }
                }
            }
            #[cfg(not(target_arch = "x86_64"))]
            body::<$crate::ring::lanes::Portable>($($arg),*)
        }
    )*};
}
pub(crate) use laned;

/// The steps of a limb.
#[inline(always)]
pub(crate) fn steps(words: &[u32]) -> &[[u32; LANES]] {
    words.as_chunks::<LANES>().0
}

/// The steps of a limb, to write.
#[inline(always)]
pub(crate) fn steps_mut(words: &mut [u32]) -> &mut [[u32; LANES]] {
    words.as_chunks_mut::<LANES>().0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::kernels::{MAX_TERMS, convert_target, dot_mont};

    /// What the processor runs here and what any processor runs agree.
    #[test]
    fn every_form_gives_the_same_sums() {
        for p in [786433, 536608769, 1073479681] {
            let m = Modulus::new(p);
            let row = |seed: u32| -> Vec<u32> {
                (0..LANES as u32)
                    .map(|i| (i + 1).wrapping_mul(seed * 2 + 2654435761) % p)
                    .collect()
            };
            let rows: Vec<Vec<u32>> = (0..MAX_TERMS as u32)
                .map(row)
                .chain([vec![p - 1; LANES]])
                .collect();
            for terms in [1, 5, MAX_TERMS] {
                let (a, b) = (&rows[..terms], &rows[rows.len() - terms..]);
                let (mut products, mut multiples) = (Portable::zero(), Portable::zero());
                for (a, b) in a.iter().zip(b) {
                    products.add_products(&steps(a)[0], &steps(b)[0]);
                    multiples.add_multiples(&steps(a)[0], b[0]);
                }
                let pairs: Vec<(&[u32], &[u32])> =
                    a.iter().zip(b).map(|(a, b)| (&a[..], &b[..])).collect();
                let mut out = vec![0; LANES];
                dot_mont(&mut out, &pairs, m);
                assert_eq!(out, products.reduce(m), "{p}, {terms} products");
                let constants: Vec<u32> = b.iter().map(|b| b[0]).collect();
                convert_target(&mut out, &a.concat(), &constants, m);
                assert_eq!(out, multiples.reduce(m), "{p}, {terms} multiples");
            }
        }
    }
}
