//! The public key.

use super::KeyId;
use super::secret::SecretPoly;
use crate::ciphertext::Ciphertext;
use crate::context::Context;
use crate::encoding::Plaintext;
use crate::error::{CkksError, Result};
use crate::ring::{Division, Primes, RnsPoly, primes};
use crate::sampling::{self, SecretRng, Seed};

/// The public key: an encryption of zero, up to a level. The uniform half is stored as its seed.
///
/// It has one special prime more than the ciphertexts made from it: encryption divides by it at the end, which leaves rounding noise
/// where otherwise the products of the errors would stay.
#[derive(Clone)]
pub struct PublicKey {
    pub(crate) ctx: Context,
    pub(crate) b: RnsPoly,
    pub(crate) a: RnsPoly,
    pub(crate) seed: Seed,
    pub(crate) level: usize,
    pub(crate) id: KeyId,
}

impl std::fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PublicKey({}, level {})", self.id, self.level)
    }
}

/// The primes of a public key for `level`.
pub(crate) fn key_primes(ctx: &Context, level: usize) -> Primes {
    primes(
        ctx.key_primes(level)
            .iter()
            .copied()
            .chain([ctx.special()[0]]),
    )
}

impl PublicKey {
    /// The highest level it encrypts at.
    pub fn level(&self) -> usize {
        self.level
    }

    /// The secret key it belongs to.
    pub fn id(&self) -> KeyId {
        self.id
    }

    pub(crate) fn new(ctx: &Context, id: KeyId, level: usize, seed: Seed, b: RnsPoly) -> Self {
        let a = sampling::uniform_poly(ctx.ring(), &key_primes(ctx, level), &seed, 0);
        Self {
            ctx: ctx.clone(),
            b,
            a,
            seed,
            level,
            id,
        }
    }

    /// Encrypts a plaintext of any level up to the key's.
    ///
    /// # Errors
    /// If the plaintext's level is above the key's, or the system gives no entropy.
    pub fn encrypt(&self, plaintext: &Plaintext) -> Result<Ciphertext> {
        let (level, highest) = (plaintext.level, self.level);
        if level > highest {
            return Err(CkksError::Level {
                op: "encrypt with the public key",
                level,
                highest,
            });
        }
        let (ring, ctx) = (self.ctx.ring(), &self.ctx);
        let special = [ctx.special()[0]];
        let target = ctx.level_primes(level).clone();
        let wide = primes(target.iter().copied().chain(special));
        let mut rng = SecretRng::from_os()?;
        let mask = SecretPoly(sampling::small_poly(ring, &wide, &rng.ternary(ring.n)));
        let mut masked = |key: &RnsPoly| {
            let error = rng.gaussian(ring.n, ctx.params().error_std);
            let mut c = mask.0.mul(ring, key);
            c.add_assign(ring, &sampling::small_poly(ring, &wide, &error));
            c
        };
        let halves = [masked(&self.b), masked(&self.a)];
        let division = Division::by(&special, &[]);
        let [mut c0, c1] = halves.map(|half| division.apply(ring, &half, &target, 1));
        c0.add_assign(ring, &plaintext.poly);
        Ok(Ciphertext {
            c0,
            c1,
            level,
            degree: plaintext.degree,
            key: self.id,
        })
    }
}
