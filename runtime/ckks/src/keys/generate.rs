//! Key generation.

use super::public;
use super::secret::SecretPoly;
use super::switching::{KeyDigit, KeyShape};
use super::{EvaluationKeys, KeyId, KeyKind, KeyRequest, PublicKey, SecretKey, SwitchingKey};
use crate::context::Context;
use crate::error::{CkksError, Result};
use crate::ring::{Primes, RnsPoly, kernels, primes};
use crate::sampling::{self, SecretRng};
use sotto_params::galois;
use std::sync::OnceLock;

/// Makes the public and evaluation keys of a secret key. One generator has one ephemeral secret, drawn when first needed: both
/// bootstrapping keys must come from the same generator.
pub struct KeyGenerator<'a> {
    secret: &'a SecretKey,
    /// The secret modulo every prime, Q then P.
    wide: SecretPoly,
    all: Primes,
    ephemeral: OnceLock<SecretPoly>,
}

impl<'a> KeyGenerator<'a> {
    /// A generator for the secret key.
    pub fn new(secret: &'a SecretKey) -> Self {
        let params = secret.ctx.params();
        let all = primes(0..(params.q_primes.len() + params.p_primes.len()) as u16);
        Self {
            secret,
            wide: secret.poly(&all),
            all,
            ephemeral: OnceLock::new(),
        }
    }

    /// The context of the secret key.
    pub fn context(&self) -> &Context {
        &self.secret.ctx
    }

    /// The secret key's public name.
    pub fn key_id(&self) -> KeyId {
        self.secret.id
    }

    /// The public key for encryption at `level` and below.
    ///
    /// # Errors
    /// If the level does not exist or the system gives no entropy.
    pub fn public_key(&self, level: usize) -> Result<PublicKey> {
        let ctx = self.context();
        ctx.check_level("public key", level)?;
        let ring = ctx.ring();
        let primes = public::key_primes(ctx, level);
        let seed = sampling::os_bytes()?;
        let error = SecretRng::from_os()?.gaussian(ring.n, ctx.params().error_std);
        let mut b = sampling::small_poly(ring, &primes, &error);
        let a = sampling::uniform_poly(ring, &primes, &seed, 0);
        let product = SecretPoly(a.mul(ring, &self.wide.0));
        b.sub_assign(ring, &product.0);
        Ok(PublicKey::new(ctx, self.secret.id, level, seed, b))
    }

    /// Every key of a request. `progress` is called with the number of keys done and the number asked for.
    ///
    /// # Errors
    /// If a level or Galois element does not exist, the set cannot bootstrap, or the system gives no entropy.
    pub fn evaluation_keys(
        &self,
        request: &KeyRequest,
        mut progress: impl FnMut(usize, usize),
    ) -> Result<EvaluationKeys> {
        let kinds = request.kinds();
        let mut keys = EvaluationKeys::empty(self.secret.id);
        for (done, &(kind, level)) in kinds.iter().enumerate() {
            progress(done, kinds.len());
            keys.insert(self.switching_key(kind, level)?)?;
        }
        progress(kinds.len(), kinds.len());
        Ok(keys)
    }

    /// One switching key for use at `level` and below (the key to the ephemeral secret exists at level 0 only).
    ///
    /// # Errors
    /// As [`Self::evaluation_keys`].
    pub fn switching_key(&self, kind: KeyKind, level: usize) -> Result<SwitchingKey> {
        let ctx = self.context();
        ctx.check_level("switching key", level)?;
        let ring = ctx.ring();
        match kind {
            KeyKind::Relinearization => {
                let square = SecretPoly(self.wide.0.mul(ring, &self.wide.0));
                self.encrypt_secret(kind, level, &square.0, &self.wide.0)
            }
            KeyKind::Galois(element) => {
                let log_n = ctx.params().log_n;
                if element.is_multiple_of(2) || u64::from(element) >= 2 << log_n {
                    let why = format!(
                        "{element} is not an odd number below 2N = {}",
                        2u64 << log_n
                    );
                    return Err(CkksError::Corrupt {
                        what: "Galois element",
                        why,
                    });
                }
                // The switch comes before the automorphism (so that rotations can be hoisted), hence the inverse.
                let turned = SecretPoly(
                    self.wide
                        .0
                        .automorphism(ring, galois::inverse(element, log_n)),
                );
                self.encrypt_secret(kind, level, &self.wide.0, &turned.0)
            }
            KeyKind::ToEphemeral if level > 0 => Err(CkksError::Level {
                op: "key to the ephemeral secret",
                level,
                highest: 0,
            }),
            KeyKind::ToEphemeral => {
                self.encrypt_secret(kind, level, &self.wide.0, &self.ephemeral()?.0)
            }
            KeyKind::FromEphemeral => {
                self.encrypt_secret(kind, level, &self.ephemeral()?.0, &self.wide.0)
            }
        }
    }

    fn ephemeral(&self) -> Result<&SecretPoly> {
        if let Some(poly) = self.ephemeral.get() {
            return Ok(poly);
        }
        let params = self.context().params();
        let e = params
            .ephemeral
            .as_ref()
            .ok_or_else(|| CkksError::NoEphemeral(params.name.clone()))?;
        let coefficients = SecretRng::from_os()?.sparse_ternary(params.n(), e.h as usize);
        let poly = SecretPoly(sampling::small_poly(
            self.context().ring(),
            &self.all,
            &coefficients,
        ));
        Ok(self.ephemeral.get_or_init(|| poly))
    }

    /// Encrypts `from` under `to`, times the special primes, digit by digit.
    fn encrypt_secret(
        &self,
        kind: KeyKind,
        level: usize,
        from: &RnsPoly,
        to: &RnsPoly,
    ) -> Result<SwitchingKey> {
        let ctx = self.context();
        let ring = ctx.ring();
        let shape = KeyShape::new(ctx, kind, level)?;
        let seed = sampling::os_bytes()?;
        let mut rng = SecretRng::from_os()?;
        let mut digits = Vec::with_capacity(shape.digits.len());
        for (index, members) in &shape.digits {
            let a = SwitchingKey::expand(ctx, &seed, *index, &shape.primes);
            let error = rng.gaussian(ring.n, ctx.params().error_std);
            let mut b = sampling::small_poly(ring, &shape.primes, &error);
            b.par_limbs(|i, prime, limb| {
                let m = ring.modulus(prime);
                if members.contains(&prime) {
                    let special = m.to_mont(ring.product_mod(&shape.special, m));
                    kernels::mul_scalar_add(limb, from.limb(usize::from(prime)), special, m);
                }
                // To Montgomery form; `a` is uniform and counts as being in it already.
                kernels::mul_scalar(limb, m.r2, m);
                kernels::mul_sub(limb, a.limb(i), to.limb(usize::from(prime)), m);
            });
            digits.push(KeyDigit {
                index: *index,
                b,
                a,
            });
        }
        Ok(SwitchingKey {
            kind,
            level,
            id: self.secret.id,
            seed,
            primes: shape.primes,
            digits,
        })
    }
}
