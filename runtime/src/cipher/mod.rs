//! A plan's operations on real ciphertexts, by the scheme's evaluator, on the engine that the backend is named for.
//!
//! It holds evaluation keys only. Nothing in this module names a secret key, nor anything that makes or uses one.

mod keys;
mod residence;
mod serving;
pub use keys::{key_name, needed_keys, parameters_digest, request};
pub use residence::{Demand, Residence, Room, Shortage};
pub use serving::{EngineError, EngineOptions, PlanEngine};

use miette::Diagnostic;
use num_complex::Complex64;
use sotto_ckks::bootstrap::Bootstrapper;
use sotto_ckks::engine::{self, Ct, Engine, Keep};
use sotto_ckks::linear::LinearTransform;
use sotto_ckks::poly::ChebyshevSeries;
use sotto_ckks::{
    Ciphertext, CkksError, Context, Encoder, EvaluationKeys, Evaluator, KeyId, Plaintext,
};
use sotto_ir::exec::{Backend, Diagonals};
use sotto_ir::params::bootstrap::{Bsgs, Giant};
use sotto_ir::plan::Plan;
use sotto_ir::slot::{At, BootstrapKind};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Why a backend on ciphertexts refused.
#[derive(Debug, thiserror::Error, Diagnostic)]
pub enum CipherError {
    /// The scheme refused.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Scheme(#[from] CkksError),
    /// A bootstrap that the plan does not declare.
    #[error("the plan declares no bootstrap of {} {} slots", kind.slots, if kind.complex { "complex" } else { "real" })]
    #[diagnostic(code(cipher::kind))]
    Kind {
        /// Asked for.
        kind: BootstrapKind,
    },
    /// A bootstrap's operand at another level than its structure states.
    #[error("bootstrap: the operand is at level {found}, its structure starts at level {expected}")]
    #[diagnostic(code(cipher::bootstrap_level))]
    BootstrapLevel {
        /// Level of the operand.
        found: u32,
        /// Level stated.
        expected: u32,
    },
    /// A matrix without a single entry.
    #[error("a matrix of zeros only: it has no diagonals to multiply with")]
    #[diagnostic(code(cipher::empty_matrix))]
    EmptyMatrix,
}

type Done<T> = Result<T, CipherError>;

/// Runs a plan's operations with one set of evaluation keys on an engine.
pub struct Ciphers<E: Engine> {
    engine: E,
    keys: EvaluationKeys<E::Poly>,
    key_bytes: usize,
    bootstraps: BTreeMap<BootstrapKind, Bootstrapper<E>>,
    residence: Residence,
    /// Bytes of matrices by their coefficients that lie there.
    here: Mutex<u64>,
    waits: AtomicBool,
}

/// A ciphertext of the KV state.
pub enum Stored<E: Engine> {
    /// Where the engine computes.
    Here(Arc<Ct<E>>),
    /// Outside of that memory.
    Beside(Ciphertext<E::Beside>),
}

impl<E: Engine> Clone for Stored<E> {
    fn clone(&self) -> Self {
        match self {
            Self::Here(ct) => Self::Here(ct.clone()),
            Self::Beside(ct) => Self::Beside(ct.clone()),
        }
    }
}

/// The backend on the processor.
pub type Cpu = Ciphers<engine::Cpu>;

impl Cpu {
    /// A backend on the processor (see [`Ciphers::on`]).
    ///
    /// # Errors
    /// As [`Ciphers::on`].
    pub fn new(
        context: &Context,
        plan: &Plan,
        keys: EvaluationKeys,
        progress: impl FnMut(usize, usize),
    ) -> Done<Self> {
        Self::on(&engine::Cpu::new(context), plan, keys, progress)
    }
}

impl<E: Engine> Ciphers<E> {
    /// A backend for `plan` with `keys`, which go to where the engine computes. Encodes the bootstraps' own matrices, which takes
    /// seconds; `progress` hears how many of them are ready and how many there are.
    ///
    /// # Errors
    /// If a key of the plan's list is missing, a bootstrap's structure does not fit the parameters, or the engine's device fails.
    pub fn on(
        engine: &E,
        plan: &Plan,
        keys: EvaluationKeys,
        mut progress: impl FnMut(usize, usize),
    ) -> Done<Self> {
        let context = engine.context();
        keys.check(context, &request(&plan.keys, context))?;
        let key_bytes = keys.size_bytes();
        let keys = keys.upload(engine)?;
        let mut bootstraps = BTreeMap::new();
        for (done, spec) in plan.bootstraps.iter().enumerate() {
            progress(done, plan.bootstraps.len());
            let kind = BootstrapKind {
                slots: spec.slots as u32,
                complex: spec.complex,
            };
            bootstraps.insert(kind, Bootstrapper::on(engine, spec)?);
            engine.check()?;
        }
        progress(plan.bootstraps.len(), plan.bootstraps.len());
        Ok(Self {
            engine: engine.clone(),
            keys,
            key_bytes,
            bootstraps,
            residence: Residence::READY,
            here: Mutex::default(),
            waits: AtomicBool::new(false),
        })
    }

    /// The same, with matrices and KV state lying as told from now on.
    pub fn residing(self, residence: Residence) -> Self {
        Self { residence, ..self }
    }

    /// How the next matrix lies, whose coefficients take so many bytes: what does not fit here lies beside. A residence has room for all of
    /// them, here or beside, so each is encoded once; only one with coefficients beyond 2^62 stays ready, and may find no room.
    fn keep(&self, bytes: u64) -> Keep {
        let Residence {
            matrices,
            matrix_bytes,
            ..
        } = self.residence;
        if matrices == Keep::Ready {
            return Keep::Ready;
        }
        let mut here = self.here.lock().unwrap_or_else(PoisonError::into_inner);
        match here.saturating_add(bytes) <= matrix_bytes {
            true => {
                *here += bytes;
                Keep::Compact
            }
            false => Keep::Beside,
        }
    }

    /// Bytes that keys and bootstraps take in memory.
    pub fn size_bytes(&self) -> usize {
        let bootstraps = self.bootstraps.values().map(Bootstrapper::size_bytes);
        self.key_bytes + bootstraps.sum::<usize>()
    }

    /// The secret key that the evaluation keys belong to, by its public name.
    pub fn key(&self) -> KeyId {
        self.keys.id()
    }

    /// The keys, which know how they have been used.
    pub fn keys(&self) -> &EvaluationKeys<E::Poly> {
        &self.keys
    }

    /// What computes, with the keys: to bring ciphertexts to the engine and back.
    pub fn evaluator(&self) -> Evaluator<'_, E> {
        Evaluator::on(&self.engine, &self.keys)
    }

    /// From now on an operation ends when it is computed, not when a device has been told of it: so that times are its own.
    pub fn wait_for_each(&self) {
        self.waits.store(true, Ordering::Relaxed);
    }

    /// A result, if the engine's device is still sound.
    fn sound<T>(&self, result: T) -> Done<T> {
        if self.waits.load(Ordering::Relaxed) {
            self.engine.wait();
        }
        self.engine.check()?;
        Ok(result)
    }
}

impl<E: Engine> Backend for Ciphers<E> {
    type Ct = Ciphertext<E::Poly>;
    type Stored = Stored<E>;
    type Plain = Plaintext<E::Poly>;
    type Linear = LinearTransform<E>;
    type Error = CipherError;

    fn at(&self, ct: &Self::Ct) -> At {
        At {
            level: ct.level() as u32,
            degree: ct.degree(),
        }
    }

    fn store(&self, ct: Self::Ct, layer: u32) -> Done<Self::Stored> {
        let stored = match layer < self.residence.kv_layers {
            true => Stored::Here(Arc::new(ct)),
            false => Stored::Beside(self.evaluator().put_beside(&ct)),
        };
        self.sound(stored)
    }

    fn load(&self, stored: &Self::Stored) -> Done<Arc<Self::Ct>> {
        match stored {
            Stored::Here(ct) => Ok(ct.clone()),
            Stored::Beside(ct) => self.sound(Arc::new(self.evaluator().fetch(ct))),
        }
    }

    fn encode(&self, values: &[Complex64], at: At) -> Done<Self::Plain> {
        let encoder = Encoder::new(self.engine.context());
        let plain = encoder.encode(values, at.level as usize, at.degree)?;
        self.sound(self.evaluator().upload_plain(plain))
    }

    fn encode_linear(&self, diagonals: &Diagonals, level: u32) -> Done<Self::Linear> {
        let bsgs = split(diagonals);
        if bsgs.giants.is_empty() {
            return Err(CipherError::EmptyMatrix);
        }
        let by_step = diagonals
            .entries
            .iter()
            .map(|(k, diagonal)| ((k * diagonals.stride) as usize, diagonal.clone()))
            .collect();
        let level = level as usize;
        let coefficients = 2 * diagonals.period as usize * diagonals.entries.len();
        let keep = self.keep((coefficients * size_of::<u64>()) as u64);
        let matrix = LinearTransform::on(&self.engine, &bsgs, &by_step, level, keep);
        self.sound(matrix?)
    }

    fn plain_bytes(&self, plain: &Self::Plain) -> usize {
        let params = self.engine.context().params();
        params.level_primes(plain.level()).count() * params.n() * size_of::<u32>()
    }

    fn linear_bytes(&self, matrix: &Self::Linear) -> usize {
        matrix.size_bytes()
    }

    fn add(&self, a: &Self::Ct, b: &Self::Ct) -> Done<Self::Ct> {
        self.sound(self.evaluator().add(a, b)?)
    }

    fn sub(&self, a: &Self::Ct, b: &Self::Ct) -> Done<Self::Ct> {
        self.sound(self.evaluator().sub(a, b)?)
    }

    fn neg(&self, v: &Self::Ct) -> Done<Self::Ct> {
        self.sound(self.evaluator().negate(v))
    }

    fn mul_i(&self, v: &Self::Ct) -> Done<Self::Ct> {
        self.sound(self.evaluator().mul_by_i(v))
    }

    fn add_plain(&self, v: &Self::Ct, plain: &Self::Plain) -> Done<Self::Ct> {
        self.sound(self.evaluator().add_plain(v, plain)?)
    }

    fn mul_plain(&self, v: &Self::Ct, plain: &Self::Plain) -> Done<Self::Ct> {
        self.sound(self.evaluator().mul_plain(v, plain)?)
    }

    fn add_const(&self, v: &Self::Ct, c: f64) -> Done<Self::Ct> {
        self.sound(self.evaluator().add_const(v, c)?)
    }

    fn mul_const(&self, v: &Self::Ct, c: f64) -> Done<Self::Ct> {
        self.sound(self.evaluator().mul_const(v, c)?)
    }

    fn mul(&self, a: &Self::Ct, b: &Self::Ct) -> Done<Self::Ct> {
        self.sound(self.evaluator().mul(a, b)?)
    }

    fn rotate(&self, v: &Self::Ct, by: i32) -> Done<Self::Ct> {
        self.sound(self.evaluator().rotate(v, i64::from(by))?)
    }

    fn rotations(&self, v: &Self::Ct, steps: &[i32]) -> Done<Vec<Self::Ct>> {
        let steps: Vec<i64> = steps.iter().map(|&by| by.into()).collect();
        self.sound(self.evaluator().rotate_many(v, &steps)?)
    }

    fn conjugate(&self, v: &Self::Ct) -> Done<Self::Ct> {
        self.sound(self.evaluator().conjugate(v)?)
    }

    fn linear(&self, v: &Self::Ct, matrix: &Self::Linear) -> Done<Self::Ct> {
        self.sound(matrix.apply(&self.evaluator(), v)?)
    }

    fn apply(
        &self,
        diagonals: &[Arc<Self::Ct>],
        v: &Self::Ct,
        baby: u32,
        step: u32,
    ) -> Done<Self::Ct> {
        let diagonals: Vec<&Self::Ct> = diagonals.iter().map(|d| &**d).collect();
        let (ev, baby) = (self.evaluator(), baby as usize);
        self.sound(ev.apply_diagonals(&diagonals, v, baby, step.into())?)
    }

    fn poly(&self, v: &Self::Ct, coefficients: &[f64]) -> Done<Self::Ct> {
        let series = ChebyshevSeries::new(coefficients)?;
        self.sound(series.evaluate(&self.evaluator(), v)?)
    }

    fn rescale(&self, v: &Self::Ct) -> Done<Self::Ct> {
        self.sound(self.evaluator().rescale(v)?)
    }

    fn drop_to(&self, v: &Self::Ct, level: u32) -> Done<Self::Ct> {
        self.sound(self.evaluator().drop_to_level(v, level as usize)?)
    }

    fn bootstrap(&self, v: &Self::Ct, kind: BootstrapKind) -> Done<Self::Ct> {
        let bootstrap = self
            .bootstraps
            .get(&kind)
            .ok_or(CipherError::Kind { kind })?;
        let expected = bootstrap.spec().input_level;
        if v.level() != expected {
            return Err(CipherError::BootstrapLevel {
                found: v.level() as u32,
                expected: expected as u32,
            });
        }
        self.sound(bootstrap.apply(&self.evaluator(), v)?)
    }
}

/// The matrix's own split as the scheme's data: diagonal k = g·B + j is baby j of giant g·B.
fn split(diagonals: &Diagonals) -> Bsgs {
    let width = diagonals.baby.max(1);
    let slots = |k: u32| (k * diagonals.stride) as usize;
    let mut giants: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
    for &(k, _) in &diagonals.entries {
        let baby = k % width;
        giants.entry(k - baby).or_default().push(slots(baby));
    }
    let giant = |(k, babies)| Giant {
        step: slots(k),
        babies,
    };
    Bsgs {
        slots: diagonals.period as usize,
        giants: giants.into_iter().map(giant).collect(),
        chained: false,
    }
}
