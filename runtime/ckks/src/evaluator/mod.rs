//! Operations on ciphertexts.
//!
//! | operation | operands | result |
//! |---|---|---|
//! | add, sub, add_plain, sub_plain | same level and degree | the same |
//! | mul, square, mul_plain, mul_const | degree 1, same level | degree 2, same level |
//! | rescale | degree 2 at level ℓ | degree 1 at ℓ - 1 |
//! | drop_to_level | any degree | same degree, lower level, canonical scale |
//! | rotate, conjugate, rotate_many | any degree | the same |
//! | negate, mul_by_i, add_const | any degree | the same |

mod arithmetic;
mod diagonals;
mod galois;
mod product;
mod scale;

pub(crate) use scale::below;

use crate::ciphertext::Ciphertext;
use crate::context::Context;
use crate::encoding::Plaintext;
use crate::engine::{Cpu, Ct, Decomposed, Division, Engine, GaloisKey, Uses};
use crate::error::{CkksError, Result};
use crate::keys::{EvaluationKeys, KeyKind, SwitchingKey};
use crate::ring::Primes;
use std::sync::Arc;

/// Computes on ciphertexts of one secret key with its evaluation keys, on one engine. Shareable between threads.
#[derive(Clone, Debug)]
pub struct Evaluator<'a, E: Engine = Cpu> {
    engine: E,
    keys: &'a EvaluationKeys<E::Poly>,
}

impl<'a> Evaluator<'a> {
    /// An evaluator on the processor.
    pub fn new(ctx: &Context, keys: &'a EvaluationKeys) -> Self {
        Self::on(&Cpu::new(ctx), keys)
    }
}

impl<'a, E: Engine> Evaluator<'a, E> {
    /// An evaluator on an engine, with keys that lie there.
    pub fn on(engine: &E, keys: &'a EvaluationKeys<E::Poly>) -> Self {
        Self {
            engine: engine.clone(),
            keys,
        }
    }

    /// The context.
    pub fn context(&self) -> &Context {
        self.engine.context()
    }

    /// The engine.
    pub fn engine(&self) -> &E {
        &self.engine
    }

    /// The evaluation keys.
    pub fn keys(&self) -> &'a EvaluationKeys<E::Poly> {
        self.keys
    }

    /// A ciphertext, to where the engine computes.
    pub fn upload(&self, ct: Ciphertext) -> Ct<E> {
        let Ciphertext {
            c0,
            c1,
            level,
            degree,
            key,
        } = ct;
        Ciphertext {
            c0: self.engine.upload(c0),
            c1: self.engine.upload(c1),
            level,
            degree,
            key,
        }
    }

    /// A plaintext, likewise.
    pub fn upload_plain(&self, plain: Plaintext) -> Plaintext<E::Poly> {
        Plaintext {
            poly: self.engine.upload(plain.poly),
            level: plain.level,
            degree: plain.degree,
        }
    }

    /// A ciphertext, from there.
    ///
    /// # Errors
    /// If something went wrong there since it was last asked.
    pub fn download(&self, ct: &Ct<E>) -> Result<Ciphertext> {
        let out = ct.with(ct.halves().map(|half| self.engine.download(half)));
        self.engine.check()?;
        Ok(out)
    }

    /// A ciphertext copied out of the memory that the engine computes in.
    pub fn put_beside(&self, ct: &Ct<E>) -> Ciphertext<E::Beside> {
        ct.with(ct.halves().map(|half| self.engine.put_beside(half)))
    }

    /// One copied in again.
    pub fn fetch(&self, ct: &Ciphertext<E::Beside>) -> Ct<E> {
        ct.with(ct.halves().map(|half| self.engine.fetch(half)))
    }

    /// The key of a kind for use at `level`, which is recorded.
    pub(crate) fn key(
        &self,
        op: &'static str,
        kind: KeyKind,
        level: usize,
    ) -> Result<&'a Arc<SwitchingKey<E::Poly>>> {
        self.keys.find(self.context(), op, kind, level)
    }

    /// A polynomial split into digits, for keys over all special primes.
    pub(crate) fn decompose<'p>(&self, c: &'p E::Poly, uses: Uses) -> Decomposed<'p, E> {
        self.decompose_for(c, self.context().special(), uses)
    }

    /// A polynomial split into digits.
    pub(crate) fn decompose_for<'p>(
        &self,
        source: &'p E::Poly,
        special: &Primes,
        uses: Uses,
    ) -> Decomposed<'p, E> {
        let digits = self.engine.decompose(source, special, uses);
        Decomposed { source, digits }
    }

    /// Divides by P, and by the primes between level `from` and level `to`.
    pub(crate) fn leave<const K: usize>(
        &self,
        wide: [&E::Poly; K],
        from: usize,
        to: usize,
    ) -> [E::Poly; K] {
        let ctx = self.context();
        let (drop, bring) = ctx.wide_moves(from, to);
        let division = Division::by(&drop, &bring);
        self.engine.divide(wide, &division, ctx.level_primes(to), 1)
    }

    /// Switches a decomposed polynomial with each key and adds P times what is carried; divides as [`Self::leave`] does, and turns.
    pub(crate) fn switched(
        &self,
        decomposed: &Decomposed<'_, E>,
        switches: &[GaloisKey<'_, E>],
        carry: [Option<&E::Poly>; 2],
        from: usize,
        to: usize,
    ) -> Vec<[E::Poly; 2]> {
        let ctx = self.context();
        let (drop, bring) = ctx.wide_moves(from, to);
        let (division, to) = (Division::by(&drop, &bring), ctx.level_primes(to));
        self.engine
            .switched(decomposed, switches, carry, &division, to)
    }

    /// The same with one key and no automorphism.
    pub(crate) fn switched_once(
        &self,
        decomposed: &Decomposed<'_, E>,
        key: &SwitchingKey<E::Poly>,
        carry: [Option<&E::Poly>; 2],
        from: usize,
        to: usize,
    ) -> [E::Poly; 2] {
        let mut switched = self.switched(decomposed, &[(1, key)], carry, from, to);
        switched.pop().expect("one result for one key")
    }

    pub(crate) fn check_key(&self, op: &'static str, ct: &Ct<E>) -> Result<()> {
        if ct.key == self.keys.id() {
            return Ok(());
        }
        Err(CkksError::ForeignKey {
            op,
            what: "the ciphertext",
        })
    }

    /// Whether two ciphertexts may be combined at the same level and degree.
    pub(crate) fn check_pair(&self, op: &'static str, a: &Ct<E>, b: &Ct<E>) -> Result<()> {
        if a.key != b.key {
            return Err(CkksError::ForeignKey {
                op,
                what: "one of the ciphertexts",
            });
        }
        a.check_like(op, b.level, b.degree)
    }
}
