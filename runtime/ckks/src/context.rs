//! A parameter set made ready for computing.

use crate::encoding::SlotTransform;
use crate::error::{CkksError, Result};
use crate::ring::{Primes, Ring, primes};
use sotto_params::{Digest, ParamSet};
use std::sync::{Arc, Once};

/// A checked parameter set with its transforms and tables. Cheap to clone; every key, ciphertext and evaluator works within one.
#[derive(Clone)]
pub struct Context {
    inner: Arc<Inner>,
}

struct Inner {
    params: ParamSet,
    digest: Digest,
    ring: Ring,
    levels: Vec<Primes>,
    special: Primes,
    slots: SlotTransform,
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Context({})", self.params().name)
    }
}

impl Context {
    /// Checks the set, security included, and prepares its tables. A set marked insecure is accepted, with one line on standard error per process.
    ///
    /// # Errors
    /// If the set is inconsistent or claims a security it does not have.
    pub fn new(params: ParamSet) -> Result<Self> {
        params.validate()?;
        if params.insecure {
            static WARNING: Once = Once::new();
            WARNING.call_once(|| {
                eprintln!("INSECURE parameters `{}`: for tests only, nothing encrypted under them is hidden", params.name);
            });
        }
        let all: Vec<u32> = params
            .q_primes
            .iter()
            .chain(&params.p_primes)
            .copied()
            .collect();
        let ring = Ring::new(params.log_n, &all)?;
        let q = params.q_primes.len() as u16;
        Ok(Self {
            inner: Arc::new(Inner {
                digest: params.digest(),
                levels: params
                    .levels
                    .iter()
                    .map(|l| primes(l.primes.iter().copied()))
                    .collect(),
                special: primes((0..params.p_primes.len() as u16).map(|i| q + i)),
                slots: SlotTransform::new(params.log_n - 1),
                ring,
                params,
            }),
        })
    }

    /// The parameter set.
    pub fn params(&self) -> &ParamSet {
        &self.inner.params
    }

    /// Digest of the parameter set, carried by everything serialized.
    pub fn digest(&self) -> Digest {
        self.inner.digest
    }

    /// Transforms of one limb that operations of this context have taken so far, of either direction: what most of an operation's time
    /// goes to, and unlike time the same on every run.
    pub fn transforms(&self) -> u64 {
        self.inner.ring.transforms()
    }

    /// Number of slots.
    pub fn slots(&self) -> usize {
        self.params().slots()
    }

    /// Canonical scale of a ciphertext or plaintext of this level and degree: Δ_ℓ, or Δ_ℓ² for a product not yet rescaled.
    pub fn scale(&self, level: usize, degree: u8) -> f64 {
        self.params().scale(level).powi(i32::from(degree))
    }

    pub(crate) fn ring(&self) -> &Ring {
        &self.inner.ring
    }

    /// Primes of a level.
    pub(crate) fn level_primes(&self, level: usize) -> &Primes {
        &self.inner.levels[level]
    }

    /// The primes dropped and the primes brought back on the way from one level to a lower one.
    pub(crate) fn prime_moves(&self, from: usize, to: usize) -> (Vec<u16>, Vec<u16>) {
        let (from, to) = (self.level_primes(from), self.level_primes(to));
        let only = |a: &Primes, b: &Primes| a.iter().copied().filter(|p| !b.contains(p)).collect();
        (only(from, to), only(to, from))
    }

    /// The same from modulo QP: the special primes are dropped, too.
    pub(crate) fn wide_moves(&self, from: usize, to: usize) -> (Vec<u16>, Vec<u16>) {
        let (mut drop, bring) = self.prime_moves(from, to);
        drop.extend(self.special().iter());
        (drop, bring)
    }

    /// All special primes.
    pub(crate) fn special(&self) -> &Primes {
        &self.inner.special
    }

    /// The primes of a level, then the special primes.
    pub(crate) fn wide_primes(&self, level: usize) -> Primes {
        let special = self.special().iter();
        primes(self.level_primes(level).iter().chain(special).copied())
    }

    pub(crate) fn slot_transform(&self) -> &SlotTransform {
        &self.inner.slots
    }

    /// Primes a key for `level` covers, without special primes.
    pub(crate) fn key_primes(&self, level: usize) -> Primes {
        primes(self.params().key_primes(level))
    }

    /// The special primes of the ephemeral secret's key switch.
    pub(crate) fn ephemeral_special(&self) -> Result<Primes> {
        let params = self.params();
        let e = params
            .ephemeral
            .as_ref()
            .ok_or_else(|| CkksError::NoEphemeral(params.name.clone()))?;
        let position = |p: &u32| {
            params
                .p_primes
                .iter()
                .position(|x| x == p)
                .map(|i| self.special()[i])
        };
        Ok(primes(e.p_primes.iter().filter_map(position)))
    }

    pub(crate) fn check_level(&self, op: &'static str, level: usize) -> Result<()> {
        let highest = self.params().top_level();
        if level <= highest {
            Ok(())
        } else {
            Err(CkksError::Level { op, level, highest })
        }
    }
}
