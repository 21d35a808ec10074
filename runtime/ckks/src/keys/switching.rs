//! Switching keys.

use super::KeyId;
use crate::context::Context;
use crate::ring::{Primes, RnsPoly};
use crate::sampling::{self, Seed};
use sotto_params::galois;
use std::fmt;

/// What a switching key switches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KeyKind {
    /// s² to s, after a product.
    Relinearization,
    /// The automorphism X → X^element.
    Galois(u32),
    /// The main secret to the ephemeral one, before ModRaise.
    ToEphemeral,
    /// The ephemeral secret to the main one, after ModRaise.
    FromEphemeral,
}

impl KeyKind {
    /// The key in words: Galois keys with element and rotation step.
    pub fn describe(&self, log_n: u32) -> String {
        match *self {
            Self::Relinearization => "the relinearization key".into(),
            Self::Galois(element) if element == galois::conjugation(log_n) => {
                format!("the conjugation key (Galois element {element})")
            }
            Self::Galois(element) => match galois::step_of(element, log_n) {
                Some(step) => {
                    format!("the rotation key for step {step} (Galois element {element})")
                }
                None => format!("the key for Galois element {element}"),
            },
            Self::ToEphemeral => "the key to the ephemeral secret (bootstrapping)".into(),
            Self::FromEphemeral => "the key from the ephemeral secret (bootstrapping)".into(),
        }
    }
}

/// One digit's pair (b, a) with b + a·s_to = e + P·s_from on the digit's primes and e elsewhere; both in Montgomery form.
#[derive(Clone)]
pub struct KeyDigit<P> {
    /// Number of the digit in the parameter set.
    pub index: usize,
    /// b.
    pub b: P,
    /// a.
    pub a: P,
}

/// A hybrid switching key (Han, Ki 2020) for one level and all below.
#[derive(Clone)]
pub struct SwitchingKey<P = RnsPoly> {
    pub(crate) kind: KeyKind,
    pub(crate) level: usize,
    pub(crate) id: KeyId,
    pub(crate) seed: Seed,
    /// Primes of the digits' polynomials: those the level and all below need, then the special primes.
    pub(crate) primes: Primes,
    pub(crate) digits: Vec<KeyDigit<P>>,
}

impl<P> fmt::Debug for SwitchingKey<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "SwitchingKey({:?}, level {}, {} digits)",
            self.kind,
            self.level,
            self.digits.len()
        )
    }
}

/// The layout of a key of some kind and level: its primes and the digits present.
pub(crate) struct KeyShape {
    pub(crate) primes: Primes,
    pub(crate) special: Primes,
    /// Numbers and primes of the digits.
    pub(crate) digits: Vec<(usize, Vec<u16>)>,
}

impl KeyShape {
    pub(crate) fn new(ctx: &Context, kind: KeyKind, level: usize) -> crate::Result<Self> {
        let special = match kind {
            KeyKind::ToEphemeral => ctx.ephemeral_special()?,
            _ => ctx.special().clone(),
        };
        let q = ctx.key_primes(level);
        Ok(Self {
            digits: ctx.params().digits_of(&q),
            primes: crate::ring::primes(q.iter().chain(special.iter()).copied()),
            special,
        })
    }
}

impl<P> SwitchingKey<P> {
    /// What it switches.
    pub fn kind(&self) -> KeyKind {
        self.kind
    }

    /// The highest level it serves.
    pub fn level(&self) -> usize {
        self.level
    }

    /// The primes of its polynomials.
    pub fn primes(&self) -> &Primes {
        &self.primes
    }

    /// Its digits.
    pub fn digits(&self) -> &[KeyDigit<P>] {
        &self.digits
    }

    /// The same key with its polynomials elsewhere.
    pub(crate) fn map<Q>(self, mut f: impl FnMut(P) -> Q) -> SwitchingKey<Q> {
        let digit = |d: KeyDigit<P>| KeyDigit {
            index: d.index,
            b: f(d.b),
            a: f(d.a),
        };
        SwitchingKey {
            kind: self.kind,
            level: self.level,
            id: self.id,
            seed: self.seed,
            primes: self.primes,
            digits: self.digits.into_iter().map(digit).collect(),
        }
    }
}

impl SwitchingKey {
    /// Bytes it takes in memory.
    pub fn size_bytes(&self) -> usize {
        self.digits
            .iter()
            .map(|d| 4 * (d.b.words().len() + d.a.words().len()))
            .sum()
    }

    /// The uniform half of a digit, from the key's seed.
    pub(crate) fn expand(ctx: &Context, seed: &Seed, digit: usize, primes: &Primes) -> RnsPoly {
        sampling::uniform_poly(ctx.ring(), primes, seed, digit as u32)
    }
}
