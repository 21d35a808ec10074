//! A plan run in this process, token by token, on either backend.

use super::Failure;
use crate::client::{CkksSealer, ClientModel};
use crate::cpu::{Cpu, request};
use crate::plan::PlanDir;
use sotto_ckks::{Ciphertext, Context, KeyGenerator, SecretKey};
use sotto_ir::exec::{
    Clear, ClearCt, Escape, Event, Executor, NoiseModel, RangeWatch, Session, ignore,
};
use sotto_ir::plan::Plan;
use sotto_ir::slot::{BootstrapKind, Slots};
use sotto_params::bootstrap::BootstrapSpec;
use std::ops::ControlFlow;
use std::sync::Arc;

/// Seed of the noise that `--noise` adds, so that a check repeats.
const NOISE_SEED: u64 = 1;

/// What operations add under a plan's parameters.
fn noise_of(plan: &Plan) -> NoiseModel {
    let bootstrap = |spec: &BootstrapSpec| {
        let kind = BootstrapKind {
            slots: spec.slots as u32,
            complex: spec.complex,
        };
        (kind, spec.noise_std(&plan.params))
    };
    NoiseModel::of(
        &plan.params,
        plan.bootstraps.iter().map(bootstrap).collect(),
    )
}

/// Runs one token after the other.
pub(super) trait Runner {
    /// Logits after the next token.
    fn step(&mut self, token: u32) -> Result<Vec<f64>, Failure>;

    /// Values that left their declared range, where the backend can see them.
    fn escapes(&self) -> Vec<Escape> {
        Vec::new()
    }
}

/// The cleartext backend.
pub(super) struct ClearRunner {
    executor: Executor<Clear>,
    session: Session<ClearCt>,
    model: Arc<ClientModel>,
    ranges: RangeWatch,
}

impl ClearRunner {
    /// A runner at the first token, with the noise that the plan's parameters bring if asked.
    pub fn new(dir: &PlanDir, model: Arc<ClientModel>, noise: bool) -> Result<Self, Failure> {
        let plan = dir.plan();
        let mut backend = Clear::for_plan(plan);
        if noise {
            backend = backend.with_noise(noise_of(plan), plan.slots(), NOISE_SEED);
        }
        let data = dir.data().map_err(Failure::input)?;
        Ok(Self {
            executor: Executor::new(plan.clone(), data, backend, usize::MAX),
            session: Session::default(),
            model,
            ranges: RangeWatch::default(),
        })
    }
}

impl Runner for ClearRunner {
    fn step(&mut self, token: u32) -> Result<Vec<f64>, Failure> {
        let backend = self.executor.backend();
        let slots = self.model.input(token).map_err(Failure::input)?;
        let count = slots.len();
        let slots = Slots::new(slots).ok_or_else(|| {
            Failure::Input(format!("the plan's input width {count} is no power of two"))
        })?;
        let input = backend
            .encrypt(slots, self.model.input_level())
            .map_err(Failure::input)?;
        let ranges = &mut self.ranges;
        let mut observe = |event: &Event<'_, ClearCt>| {
            ranges.observe(backend, event);
            ControlFlow::Continue(())
        };
        let answer = self
            .executor
            .decode(&mut self.session, vec![input], &mut observe)
            .map_err(Failure::input)?;
        let vectors: Vec<Vec<f64>> = answer
            .iter()
            .zip(self.model.output_widths())
            .map(|(ct, width)| (0..width).map(|slot| ct.slots.at(slot).re).collect())
            .collect();
        self.model.logits(&vectors).map_err(Failure::input)
    }

    fn escapes(&self) -> Vec<Escape> {
        self.ranges.escapes()
    }
}

/// Real ciphertexts, with keys generated for this run and forgotten after it.
pub(super) struct CpuRunner {
    executor: Executor<Cpu>,
    session: Session<Ciphertext>,
    sealer: CkksSealer,
}

impl CpuRunner {
    /// Generates keys; `progress` hears how many are done.
    pub fn new(
        dir: &PlanDir,
        model: Arc<ClientModel>,
        progress: impl FnMut(usize, usize),
    ) -> Result<Self, Failure> {
        let plan = dir.plan();
        let context = Context::new(plan.params.clone()).map_err(Failure::input)?;
        let secret = SecretKey::generate(&context).map_err(Failure::input)?;
        let keys = KeyGenerator::new(&secret)
            .evaluation_keys(&request(&plan.keys, &context), progress)
            .map_err(Failure::input)?;
        let backend = Cpu::new(&context, plan, keys, |_, _| {}).map_err(Failure::input)?;
        let data = dir.data().map_err(Failure::input)?;
        let cache = usize::try_from(plan.estimate.plaintext_bytes).unwrap_or(usize::MAX);
        Ok(Self {
            executor: Executor::new(plan.clone(), data, backend, cache),
            session: Session::default(),
            sealer: CkksSealer::new(context, secret, model),
        })
    }
}

impl Runner for CpuRunner {
    fn step(&mut self, token: u32) -> Result<Vec<f64>, Failure> {
        let input = self.sealer.encrypt(token).map_err(Failure::input)?;
        let answer = self
            .executor
            .decode(&mut self.session, vec![input], &mut ignore)
            .map_err(Failure::input)?;
        self.sealer.decrypt(&answer).map_err(Failure::input)
    }
}
