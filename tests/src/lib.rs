//! What the whole-system tests share: fixtures, compiled plans, and running a plan on either backend.

use sotto_ckks::{Ciphertext, Context, KeyGenerator, SecretKey};
use sotto_compiler::driver::{Outcome, Request, compile};
use sotto_compiler::lower::Options;
use sotto_ir::exec::{Clear, ClearCt, Executor, RangeWatch, Session, ignore};
use sotto_ir::params::ParamSet;
use sotto_ir::slot::Slots;
use sotto_runtime::client::{CkksSealer, ClientModel};
use sotto_runtime::cpu::{Cpu, request};
use sotto_runtime::plan::PlanDir;
use std::error::Error;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tempfile::TempDir;

/// What a test helper can fail with.
pub type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// A directory of `tests/fixtures`.
pub fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fixtures")
        .join(name)
}

/// A request to compile a fixture, calibrated on its calibration ids, into `output`.
pub fn fixture_request(name: &str, params: ParamSet, context: u32, output: &Path) -> Request {
    let model = fixture(name);
    Request {
        calibrate: Some(model.join("calibration.safetensors")),
        options: Options::new(params.slots() as u32, context),
        params,
        memory: None,
        stop_after: None,
        from: None,
        dump_dir: None,
        output: Some(output.into()),
        model,
    }
}

/// A compiled fixture and the directory that holds its plan.
pub struct Compiled {
    /// The plan, opened and checked.
    pub plan: PlanDir,
    /// Removed with the value.
    pub dir: TempDir,
}

/// Compiles a fixture to a plan in a directory of its own.
pub fn compile_fixture(name: &str, params: ParamSet, context: u32) -> Result<Compiled> {
    let dir = TempDir::new()?;
    let output = dir.path().join("plan");
    let request = fixture_request(name, params, context, &output);
    match compile(&request, &mut |_| ())? {
        Outcome::Plan(_) => {}
        Outcome::Stage(_) => return Err("the driver stopped before the plan".into()),
    }
    let plan = PlanDir::open(&output)?;
    plan.check()?;
    sotto_ir::plan::check(plan.plan())?;
    Ok(Compiled { plan, dir })
}

/// Runs a plan on cleartext slots; `watch` collects the values that left their declared range.
pub struct ClearRun {
    executor: Executor<Clear>,
    session: Session<ClearCt>,
    model: ClientModel,
    /// Values out of range so far.
    pub watch: RangeWatch,
}

impl ClearRun {
    /// At the first token.
    pub fn new(plan: &PlanDir) -> Result<Self> {
        let backend = Clear::for_plan(plan.plan());
        Ok(Self {
            executor: Executor::new(plan.plan().clone(), plan.data()?, backend, usize::MAX),
            session: Session::default(),
            model: ClientModel::load(plan)?,
            watch: RangeWatch::default(),
        })
    }

    /// Logits after the next token.
    pub fn step(&mut self, token: u32) -> Result<Vec<f64>> {
        let slots = Slots::new(self.model.input(token)?).ok_or("widths are powers of two")?;
        let input = self
            .executor
            .backend()
            .encrypt(slots, self.model.input_level())?;
        let (executor, watch) = (&self.executor, &mut self.watch);
        let out = executor.decode(&mut self.session, vec![input], &mut |event| {
            watch.observe(executor.backend(), event);
            ControlFlow::Continue(())
        })?;
        let parts: Vec<Vec<f64>> = out
            .iter()
            .zip(self.model.output_widths())
            .map(|(ct, width)| (0..width).map(|p| ct.slots.at(p).re).collect())
            .collect();
        Ok(self.model.logits(&parts)?)
    }
}

/// Runs a plan on real ciphertexts, with keys made for the occasion.
pub struct CipherRun {
    executor: Executor<Cpu>,
    session: Session<Ciphertext>,
    sealer: CkksSealer,
}

impl CipherRun {
    /// Generates keys for exactly the plan's list.
    pub fn new(plan: &PlanDir) -> Result<Self> {
        let context = Context::new(plan.plan().params.clone())?;
        let secret = SecretKey::generate(&context)?;
        let wanted = request(&plan.plan().keys, &context);
        let keys = KeyGenerator::new(&secret).evaluation_keys(&wanted, |_, _| ())?;
        let backend = Cpu::new(&context, plan.plan(), keys, |_, _| ())?;
        let model = Arc::new(ClientModel::load(plan)?);
        Ok(Self {
            executor: Executor::new(plan.plan().clone(), plan.data()?, backend, 1 << 30),
            session: Session::default(),
            sealer: CkksSealer::new(context, secret, model),
        })
    }

    /// Logits after the next token, decrypted.
    pub fn step(&mut self, token: u32) -> Result<Vec<f64>> {
        let input = self.sealer.encrypt(token)?;
        let out = self
            .executor
            .decode(&mut self.session, vec![input], &mut ignore)?;
        Ok(self.sealer.decrypt(&out)?)
    }

    /// The executor, for what it has recorded.
    pub fn executor(&self) -> &Executor<Cpu> {
        &self.executor
    }
}

/// Largest |logit - truth| in standard deviations of the true logits.
pub fn error_in_sigma(logits: &[f64], truth: &[f64]) -> f64 {
    assert_eq!(logits.len(), truth.len());
    let count = truth.len() as f64;
    let mean = truth.iter().sum::<f64>() / count;
    let sigma = (truth.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / count).sqrt();
    let errors = logits.iter().zip(truth).map(|(a, b)| (a - b).abs());
    // NaN must not pass for small, and f64::max would lose it.
    errors.fold(
        0.0,
        |worst: f64, e| if e > worst || e.is_nan() { e } else { worst },
    ) / sigma
}
