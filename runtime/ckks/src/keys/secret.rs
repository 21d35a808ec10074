//! The secret key: encryption and decryption.

use super::KeyId;
use crate::ciphertext::Ciphertext;
use crate::context::Context;
use crate::encoding::Plaintext;
use crate::error::{CkksError, Result};
use crate::ring::{Primes, RnsPoly};
use crate::sampling::{self, SecretRng};
use zeroize::{Zeroize, Zeroizing};

/// The secret key, a ternary polynomial. Its memory is wiped on drop; the only way to store it is a key file.
pub struct SecretKey {
    pub(crate) ctx: Context,
    pub(crate) coefficients: Zeroizing<Vec<i32>>,
    pub(crate) id: KeyId,
}

/// A secret polynomial, wiped on drop.
pub(crate) struct SecretPoly(pub(crate) RnsPoly);

impl Drop for SecretPoly {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl std::fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SecretKey({})", self.id)
    }
}

impl SecretKey {
    /// A fresh key from the operating system's entropy.
    ///
    /// # Errors
    /// If the system gives no entropy.
    pub fn generate(ctx: &Context) -> Result<Self> {
        let coefficients = SecretRng::from_os()?.ternary(ctx.params().n());
        Ok(Self {
            ctx: ctx.clone(),
            coefficients,
            id: KeyId(sampling::os_bytes()?),
        })
    }

    /// The key's public name.
    pub fn id(&self) -> KeyId {
        self.id
    }

    pub(crate) fn poly(&self, primes: &Primes) -> SecretPoly {
        SecretPoly(sampling::small_poly(
            self.ctx.ring(),
            primes,
            &self.coefficients,
        ))
    }

    /// Encrypts with the secret key: less noise than with the public key.
    ///
    /// # Errors
    /// If the system gives no entropy.
    pub fn encrypt(&self, plaintext: &Plaintext) -> Result<Ciphertext> {
        let ring = self.ctx.ring();
        let primes = self.ctx.level_primes(plaintext.level).clone();
        let c1 = sampling::uniform_poly(ring, &primes, &sampling::os_bytes()?, 0);
        let error = SecretRng::from_os()?.gaussian(ring.n, self.ctx.params().error_std);
        let mut c0 = sampling::small_poly(ring, &primes, &error);
        c0.add_assign(ring, &plaintext.poly);
        let product = SecretPoly(c1.mul(ring, &self.poly(&primes).0));
        c0.sub_assign(ring, &product.0);
        Ok(Ciphertext {
            c0,
            c1,
            level: plaintext.level,
            degree: plaintext.degree,
            key: self.id,
        })
    }

    /// Decrypts. Sending what follows from a decryption back to whoever holds the ciphertext weakens the key (CKKS is not IND-CPA-D secure).
    ///
    /// # Errors
    /// If the ciphertext was made for another key.
    pub fn decrypt(&self, ct: &Ciphertext) -> Result<Plaintext> {
        if ct.key != self.id {
            return Err(CkksError::ForeignKey {
                op: "decrypt",
                what: "the ciphertext",
            });
        }
        let ring = self.ctx.ring();
        let mut poly = ct.c0.clone();
        poly.mul_add_assign(ring, &ct.c1, &self.poly(ct.c1.primes()).0);
        Ok(Plaintext {
            poly,
            level: ct.level,
            degree: ct.degree,
        })
    }
}
