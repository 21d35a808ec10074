//! The CPU backend: a plan's operations on real ciphertexts, by the scheme's evaluator.
//!
//! It holds evaluation keys only. Nothing in this module names a secret key, nor anything that makes or uses one.

mod engine;
mod keys;

pub use engine::{CpuEngine, EngineError, EngineOptions};
pub use keys::{key_name, needed_keys, parameters_digest, request};

use miette::Diagnostic;
use num_complex::Complex64;
use sotto_ckks::bootstrap::Bootstrapper;
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
use std::sync::Arc;

/// Why the CPU backend refused.
#[derive(Debug, thiserror::Error, Diagnostic)]
pub enum CpuError {
    /// The scheme refused.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Scheme(#[from] CkksError),
    /// A bootstrap that the plan does not declare.
    #[error("the plan declares no bootstrap of {} {} slots", kind.slots, if kind.complex { "complex" } else { "real" })]
    #[diagnostic(code(cpu::kind))]
    Kind {
        /// Asked for.
        kind: BootstrapKind,
    },
    /// A bootstrap's operand at another level than its structure states.
    #[error("bootstrap: the operand is at level {found}, its structure starts at level {expected}")]
    #[diagnostic(code(cpu::bootstrap_level))]
    BootstrapLevel {
        /// Level of the operand.
        found: u32,
        /// Level stated.
        expected: u32,
    },
    /// A matrix without a single entry.
    #[error("a matrix of zeros only: it has no diagonals to multiply with")]
    #[diagnostic(code(cpu::empty_matrix))]
    EmptyMatrix,
}

type Done<T> = Result<T, CpuError>;

/// Runs a plan's operations with one set of evaluation keys.
pub struct Cpu {
    context: Context,
    keys: EvaluationKeys,
    bootstraps: BTreeMap<BootstrapKind, Bootstrapper>,
}

impl Cpu {
    /// A backend for `plan` with `keys`. Encodes the bootstraps' own matrices, which takes seconds; `progress` hears how many of
    /// them are ready and how many there are.
    ///
    /// # Errors
    /// If a key of the plan's list is missing, or a bootstrap's structure does not fit the parameters.
    pub fn new(
        context: &Context,
        plan: &Plan,
        keys: EvaluationKeys,
        mut progress: impl FnMut(usize, usize),
    ) -> Done<Self> {
        keys.check(context, &request(&plan.keys, context))?;
        let mut bootstraps = BTreeMap::new();
        for (done, spec) in plan.bootstraps.iter().enumerate() {
            progress(done, plan.bootstraps.len());
            let kind = BootstrapKind {
                slots: spec.slots as u32,
                complex: spec.complex,
            };
            bootstraps.insert(kind, Bootstrapper::new(context, spec)?);
        }
        progress(plan.bootstraps.len(), plan.bootstraps.len());
        Ok(Self {
            context: context.clone(),
            keys,
            bootstraps,
        })
    }

    /// Bytes that keys and bootstraps take in memory.
    pub fn size_bytes(&self) -> usize {
        let bootstraps = self.bootstraps.values().map(Bootstrapper::size_bytes);
        self.keys.size_bytes() + bootstraps.sum::<usize>()
    }

    /// The secret key that the evaluation keys belong to, by its public name.
    pub fn key(&self) -> KeyId {
        self.keys.id()
    }

    /// The keys, which know how they have been used.
    pub fn keys(&self) -> &EvaluationKeys {
        &self.keys
    }

    fn evaluator(&self) -> Evaluator<'_> {
        Evaluator::new(&self.context, &self.keys)
    }
}

impl Backend for Cpu {
    type Ct = Ciphertext;
    type Plain = Plaintext;
    type Linear = LinearTransform;
    type Error = CpuError;

    fn at(&self, ct: &Ciphertext) -> At {
        At {
            level: ct.level() as u32,
            degree: ct.degree(),
        }
    }

    fn encode(&self, values: &[Complex64], at: At) -> Done<Plaintext> {
        let encoder = Encoder::new(&self.context);
        Ok(encoder.encode(values, at.level as usize, at.degree)?)
    }

    fn encode_linear(&self, diagonals: &Diagonals, level: u32) -> Done<LinearTransform> {
        let bsgs = split(diagonals);
        if bsgs.giants.is_empty() {
            return Err(CpuError::EmptyMatrix);
        }
        let by_step = diagonals
            .entries
            .iter()
            .map(|(k, diagonal)| ((k * diagonals.stride) as usize, diagonal.clone()))
            .collect();
        Ok(LinearTransform::new(
            &self.context,
            &bsgs,
            &by_step,
            level as usize,
        )?)
    }

    fn plain_bytes(&self, plain: &Plaintext) -> usize {
        let params = self.context.params();
        params.level_primes(plain.level()).count() * params.n() * size_of::<u32>()
    }

    fn linear_bytes(&self, matrix: &LinearTransform) -> usize {
        matrix.size_bytes()
    }

    fn add(&self, a: &Ciphertext, b: &Ciphertext) -> Done<Ciphertext> {
        Ok(self.evaluator().add(a, b)?)
    }

    fn sub(&self, a: &Ciphertext, b: &Ciphertext) -> Done<Ciphertext> {
        Ok(self.evaluator().sub(a, b)?)
    }

    fn neg(&self, v: &Ciphertext) -> Done<Ciphertext> {
        Ok(self.evaluator().negate(v))
    }

    fn mul_i(&self, v: &Ciphertext) -> Done<Ciphertext> {
        Ok(self.evaluator().mul_by_i(v))
    }

    fn add_plain(&self, v: &Ciphertext, plain: &Plaintext) -> Done<Ciphertext> {
        Ok(self.evaluator().add_plain(v, plain)?)
    }

    fn mul_plain(&self, v: &Ciphertext, plain: &Plaintext) -> Done<Ciphertext> {
        Ok(self.evaluator().mul_plain(v, plain)?)
    }

    fn add_const(&self, v: &Ciphertext, c: f64) -> Done<Ciphertext> {
        Ok(self.evaluator().add_const(v, c)?)
    }

    fn mul_const(&self, v: &Ciphertext, c: f64) -> Done<Ciphertext> {
        Ok(self.evaluator().mul_const(v, c)?)
    }

    fn mul(&self, a: &Ciphertext, b: &Ciphertext) -> Done<Ciphertext> {
        Ok(self.evaluator().mul(a, b)?)
    }

    fn rotate(&self, v: &Ciphertext, by: i32) -> Done<Ciphertext> {
        Ok(self.evaluator().rotate(v, i64::from(by))?)
    }

    fn rotations(&self, v: &Ciphertext, steps: &[i32]) -> Done<Vec<Ciphertext>> {
        let steps: Vec<i64> = steps.iter().map(|&by| by.into()).collect();
        Ok(self.evaluator().rotate_many(v, &steps)?)
    }

    fn conjugate(&self, v: &Ciphertext) -> Done<Ciphertext> {
        Ok(self.evaluator().conjugate(v)?)
    }

    fn linear(&self, v: &Ciphertext, matrix: &LinearTransform) -> Done<Ciphertext> {
        Ok(matrix.apply(&self.evaluator(), v)?)
    }

    fn apply(
        &self,
        diagonals: &[Arc<Ciphertext>],
        v: &Ciphertext,
        baby: u32,
        step: u32,
    ) -> Done<Ciphertext> {
        let diagonals: Vec<&Ciphertext> = diagonals.iter().map(|d| &**d).collect();
        let (ev, baby) = (self.evaluator(), baby as usize);
        Ok(ev.apply_diagonals(&diagonals, v, baby, step.into())?)
    }

    fn poly(&self, v: &Ciphertext, coefficients: &[f64]) -> Done<Ciphertext> {
        let series = ChebyshevSeries::new(coefficients)?;
        Ok(series.evaluate(&self.evaluator(), v)?)
    }

    fn rescale(&self, v: &Ciphertext) -> Done<Ciphertext> {
        Ok(self.evaluator().rescale(v)?)
    }

    fn drop_to(&self, v: &Ciphertext, level: u32) -> Done<Ciphertext> {
        Ok(self.evaluator().drop_to_level(v, level as usize)?)
    }

    fn bootstrap(&self, v: &Ciphertext, kind: BootstrapKind) -> Done<Ciphertext> {
        let bootstrap = self.bootstraps.get(&kind).ok_or(CpuError::Kind { kind })?;
        let expected = bootstrap.spec().input_level;
        if v.level() != expected {
            return Err(CpuError::BootstrapLevel {
                found: v.level() as u32,
                expected: expected as u32,
            });
        }
        Ok(bootstrap.apply(&self.evaluator(), v)?)
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
    }
}
