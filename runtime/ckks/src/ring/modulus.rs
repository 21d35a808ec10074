//! One prime and its constants.

/// A prime below 2^30 with the constants of Montgomery (R = 2^32) and Barrett reduction.
#[derive(Clone, Copy, Debug)]
pub struct Modulus {
    /// The prime.
    pub p: u32,
    /// p^-1 mod 2^32.
    pub p_inv: u32,
    /// 2^32 mod p: the Montgomery form of 1.
    pub r1: u32,
    /// 2^64 mod p.
    pub r2: u32,
    /// Bits of p minus 2: the product's first Barrett shift.
    pub shift: u32,
    /// floor(2^(2·bits) / p).
    pub mu: u32,
}

impl Modulus {
    pub(crate) fn new(p: u32) -> Self {
        debug_assert!(p % 2 == 1 && p < 1 << 30);
        // Newton's iteration; p is its own inverse modulo 8.
        let mut p_inv = p;
        for _ in 0..4 {
            p_inv = p_inv.wrapping_mul(2u32.wrapping_sub(p.wrapping_mul(p_inv)));
        }
        let bits = 32 - p.leading_zeros();
        let wide = u64::from(p);
        let r1 = (1u64 << 32) % wide;
        Self {
            p,
            p_inv,
            r1: r1 as u32,
            r2: (r1 * r1 % wide) as u32,
            shift: bits - 2,
            mu: ((1u64 << (2 * bits)) / wide) as u32,
        }
    }

    /// a·b.
    pub fn mul(&self, a: u32, b: u32) -> u32 {
        (u64::from(a) * u64::from(b) % u64::from(self.p)) as u32
    }

    /// a - b.
    pub fn sub(&self, a: u32, b: u32) -> u32 {
        if a >= b { a - b } else { a + self.p - b }
    }

    /// -a.
    pub fn neg(&self, a: u32) -> u32 {
        self.sub(0, a)
    }

    /// base^exp.
    pub fn pow(&self, mut base: u32, mut exp: u32) -> u32 {
        let mut acc = 1;
        while exp > 0 {
            if exp & 1 == 1 {
                acc = self.mul(acc, base);
            }
            base = self.mul(base, base);
            exp >>= 1;
        }
        acc
    }

    /// Inverse of a nonzero residue.
    pub fn inv(&self, a: u32) -> u32 {
        self.pow(a, self.p - 2)
    }

    /// a·2^32 mod p.
    pub fn to_mont(self, a: u32) -> u32 {
        self.mul(a, self.r1)
    }

    /// a mod p.
    pub fn reduce_u64(&self, a: u64) -> u32 {
        (a % u64::from(self.p)) as u32
    }

    /// Residue of a signed integer.
    pub(crate) fn reduce_i128(&self, a: i128) -> u32 {
        a.rem_euclid(i128::from(self.p)) as u32
    }
}
