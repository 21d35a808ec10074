//! What an engine outside this crate needs to know of a ring.

use crate::context::Context;
use crate::ring::{Modulus, Primes};

/// The numbers behind a context's transforms and conversions, for engines that keep tables of their own.
#[derive(Clone, Copy, Debug)]
pub struct Tables<'a> {
    ctx: &'a Context,
}

impl<'a> Tables<'a> {
    /// Those of a context.
    pub fn new(ctx: &'a Context) -> Self {
        Self { ctx }
    }

    /// All primes: those of the levels first, then the special ones. Indices into them are what [`Primes`] holds.
    pub fn moduli(&self) -> Vec<Modulus> {
        let params = self.ctx.params();
        let count = params.q_primes.len() + params.p_primes.len();
        (0..count as u16)
            .map(|p| self.ctx.ring().modulus(p))
            .collect()
    }

    /// ψ, the root of unity of order 2N that transforms take modulo a prime: entry i of a transformed limb is the value at ψ^(2·rev(i)+1).
    pub fn root(&self, prime: u16) -> u32 {
        self.ctx.ring().root(prime)
    }

    /// The special primes.
    pub fn special(&self) -> &'a Primes {
        self.ctx.special()
    }

    /// The digits of a polynomial with these primes: number and primes of each.
    pub fn digits_of(&self, primes: &[u16]) -> Vec<(usize, Vec<u16>)> {
        self.ctx.params().digits_of(primes)
    }

    /// The conversion from residues modulo a few primes to residues of the representative nearest to zero modulo others.
    pub fn conversion(&self, from: &[u16], to: &[u16]) -> ConversionTable {
        self.ctx.ring().conversion(from, to).table()
    }

    /// Product of primes modulo another.
    pub fn product_mod(&self, primes: &[u16], modulus: Modulus) -> u32 {
        self.ctx.ring().product_mod(primes, modulus)
    }
}

/// The constants of a base conversion, in Montgomery form but for the reciprocals (see [`Tables::conversion`]).
#[derive(Clone, Debug)]
pub struct ConversionTable {
    /// Per source: what a coefficient times N is multiplied with, to give its digit y.
    pub factors: Vec<u32>,
    /// Per source: (r, s) such that Σ (y·r) << s, plus 2^59, has in its bits from 60 on how often the modulus is to be taken off.
    pub reciprocals: Vec<[u32; 2]>,
    /// Per target: what every y is multiplied with, and then how often the modulus is taken off.
    pub targets: Vec<Vec<u32>>,
}
