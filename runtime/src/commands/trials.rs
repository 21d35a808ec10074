//! A plan on the backend asked for, held against a golden file: what `check` and `eval` share.

use super::engines::{CardArgs, residence};
use super::escapes::{FirstEscape, Stopped, note};
use super::traces::create_trace;
use super::{Consent, Failure, Meter, consent};
use crate::StepProgress;
use crate::cipher::Residence;
use crate::client::{ClientModel, Tokens};
use crate::plan::PlanDir;
use crate::trace::Trace;
use crate::trial::{CipherTrial, ClearTrial, TrialError};
use sotto_ckks::Context;
use sotto_ckks::engine::{Cpu, Engine};
use sotto_gpu::{Cuda, Gpu};
use sotto_ir::exec::Escape;
use sotto_ir::golden::Golden;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The backends that a plan can be tried on.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackendName {
    /// Cleartext slots under the scheme's rules.
    Clear,
    /// Real ciphertexts.
    Cpu,
    /// Real ciphertexts, computed on by an NVIDIA card.
    Gpu,
}

impl BackendName {
    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Clear => "clear",
            Self::Cpu => "cpu",
            Self::Gpu => "gpu",
        }
    }
}

/// What to try, and against what.
#[derive(clap::Args, Debug)]
pub struct TrialArgs {
    /// The plan directory.
    #[arg(long)]
    plan: PathBuf,
    /// Golden file, as `sottoc reference` writes it.
    #[arg(long, value_name = "FILE")]
    pub golden: PathBuf,
    /// `clear`: cleartext slots under the scheme's rules; `cpu`, `gpu`: real ciphertexts, keys generated for this run.
    #[arg(long, value_enum)]
    pub backend: BackendName,
    #[command(flatten)]
    card: CardArgs,
    /// Add the noise that operations have under the plan's parameters (`clear` only).
    #[arg(long)]
    pub noise: bool,
    /// Write per-op times to this file, for Perfetto, chrome://tracing or `sotto trace` (not of `clear`).
    #[arg(long, value_name = "FILE")]
    pub trace: Option<PathBuf>,
    #[command(flatten)]
    consent: Consent,
}

impl TrialArgs {
    /// The plan, checked, and a golden file of its model.
    pub(super) fn open(&self) -> Result<(PlanDir, Golden), Failure> {
        let dir = PlanDir::open(&self.plan).map_err(Failure::input)?;
        match self.backend {
            BackendName::Clear => consent::warn(dir.plan()),
            BackendName::Cpu | BackendName::Gpu => self.consent.check(dir.plan())?,
        }
        dir.check().map_err(Failure::input)?;
        let golden = golden(&self.golden)?;
        check_model(&self.golden, &golden, &dir)?;
        Ok((dir, golden))
    }

    /// The plan on the backend asked for.
    pub(super) fn trial(&self, dir: &PlanDir) -> Result<Trial, Failure> {
        if let (BackendName::Clear, Some(path)) = (self.backend, &self.trace) {
            return Err(Failure::Input(format!(
                "--trace {}: slots in the clear have no times worth knowing; use --backend cpu",
                path.display()
            )));
        }
        let trace = self.trace.as_deref().map(|path| create_trace(path, dir));
        Trial::new(self, dir, trace.transpose()?)
    }
}

/// A bound that something can keep or miss: a number above 0, and no NaN, which nothing would miss.
pub(super) fn bound(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(bound) if bound > 0.0 && bound.is_finite() => Ok(bound),
        _ => Err("give a number above 0".into()),
    }
}

/// A share, from 0 to 1.
pub(super) fn share(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
        _ => Err("give a number from 0 to 1".into()),
    }
}

/// Reads a golden file.
fn golden(path: &Path) -> Result<Golden, Failure> {
    Golden::read(path).map_err(|error| {
        let remedy = "make one with `sottoc reference MODEL --input TEXT -o GOLDEN`";
        Failure::Input(format!("--golden: {error}; {remedy}"))
    })
}

/// Refuses a golden file of another model.
fn check_model(path: &Path, golden: &Golden, dir: &PlanDir) -> Result<(), Failure> {
    let model = &dir.plan().model;
    if let Some(checkpoint) = &golden.checkpoint
        && *checkpoint != model.digest
    {
        return Err(Failure::Input(format!(
            "{} was computed from checkpoint {checkpoint}, the plan from {}: make one of this model with `sottoc reference`",
            path.display(),
            model.digest
        )));
    }
    let vocab = model.vocab;
    if golden.logits.shape.last().copied() == Some(vocab as usize) {
        return Ok(());
    }
    Err(Failure::Input(format!(
        "{} has logits of shape {:?}, the plan's vocabulary is {vocab}: it belongs to another model",
        path.display(),
        golden.logits.shape
    )))
}

/// Seed of the noise that `--noise` adds, so that a check repeats.
const NOISE_SEED: u64 = 1;

/// The plan on the backend asked for.
pub(super) enum Trial {
    Clear(Box<ClearTrial>),
    Cpu(Box<CipherTrial>),
    Gpu(Box<CipherTrial<Gpu<Cuda>>>),
}

impl Trial {
    /// Keys are made for a run on ciphertexts.
    fn new(args: &TrialArgs, dir: &PlanDir, trace: Option<Trace>) -> Result<Self, Failure> {
        let model = Arc::new(ClientModel::load(dir).map_err(Failure::input)?);
        if args.noise && args.backend != BackendName::Clear {
            return Err(Failure::Input(
                "--noise is for --backend clear: real ciphertexts have their own".into(),
            ));
        }
        if args.backend != BackendName::Gpu {
            args.card.unused()?;
        }
        let params = &dir.plan().params;
        Ok(match args.backend {
            BackendName::Clear => {
                let noise = args.noise.then_some(NOISE_SEED);
                let trial = ClearTrial::new(dir, model, noise).map_err(Failure::input)?;
                Self::Clear(Box::new(trial))
            }
            BackendName::Cpu => {
                let cpu = Cpu::new(&Context::new(params.clone()).map_err(Failure::input)?);
                let trial = cipher_trial(&cpu, dir, model, Residence::READY, trace)?;
                Self::Cpu(Box::new(trial))
            }
            BackendName::Gpu => {
                let (gpu, room) = args.card.open_for(dir.plan(), None)?;
                let residence = residence(dir.plan(), room, args.card.matrices())?;
                Self::Gpu(Box::new(cipher_trial(&gpu, dir, model, residence, trace)?))
            }
        })
    }

    /// Logits after the next tokens, the last of them at `step`, with `escapes` brought up to date; None, and why in `stopped`, where values
    /// have left their ranges so far that nothing can be computed. `hear` is told how far the step is, where that takes long.
    pub fn step(
        &mut self,
        tokens: Tokens<'_>,
        step: usize,
        escapes: &mut Vec<FirstEscape>,
        stopped: &mut Option<Stopped>,
        hear: &mut dyn FnMut(&StepProgress),
    ) -> Result<Option<Vec<f64>>, Failure> {
        let computed = self.run(tokens, hear);
        note(escapes, step, self.escapes());
        match computed {
            Ok(logits) => Ok(Some(logits)),
            Err(error) if escapes.is_empty() => Err(Failure::input(error)),
            Err(error) => {
                let cause = error.to_string();
                *stopped = Some(Stopped { step, cause });
                Ok(None)
            }
        }
    }

    /// Logits after the next tokens.
    fn run(
        &mut self,
        tokens: Tokens<'_>,
        hear: &mut dyn FnMut(&StepProgress),
    ) -> Result<Vec<f64>, TrialError> {
        match self {
            Self::Clear(trial) => trial.run(tokens),
            Self::Cpu(trial) => trial.run_heard(tokens, hear),
            Self::Gpu(trial) => trial.run_heard(tokens, hear),
        }
    }

    /// Most tokens of a block.
    pub fn block(&self) -> u32 {
        match self {
            Self::Clear(trial) => trial.block(),
            Self::Cpu(trial) => trial.block(),
            Self::Gpu(trial) => trial.block(),
        }
    }

    /// Values that left their declared range, where the backend can see them.
    fn escapes(&self) -> Vec<Escape> {
        match self {
            Self::Clear(trial) => trial.ranges().escapes(),
            Self::Cpu(_) | Self::Gpu(_) => Vec::new(),
        }
    }

    /// Begins another conversation, under the same keys and the same noise; what has left its range so far is forgotten.
    pub fn restart(&mut self) {
        match self {
            Self::Clear(trial) => trial.restart(),
            Self::Cpu(trial) => trial.restart(),
            Self::Gpu(trial) => trial.restart(),
        }
    }
}

/// A trial on an engine, with keys made for it.
pub(super) fn cipher_trial<E: Engine>(
    engine: &E,
    dir: &PlanDir,
    model: Arc<ClientModel>,
    residence: Residence,
    trace: Option<Trace>,
) -> Result<CipherTrial<E>, Failure> {
    let meter = Meter::bar(0, "generating keys");
    let progress = |done: usize, total: usize| meter.set(done as u64, total as u64);
    let trial = CipherTrial::on(engine, dir, model, residence, progress).map_err(Failure::input)?;
    Ok(match trace {
        Some(trace) => trial.traced(trace),
        None => trial,
    })
}
