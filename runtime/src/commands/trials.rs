//! A plan on the backend asked for, held against a golden file: what `check` and `eval` share.

use super::{Failure, Meter};
use crate::client::{ClientModel, Tokens};
use crate::plan::PlanDir;
use crate::trial::{CipherTrial, ClearTrial, TrialError};
use sotto_ir::exec::Escape;
use sotto_ir::golden::Golden;
use std::path::Path;
use std::sync::Arc;

/// The backends that a plan can be tried on.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackendName {
    /// Cleartext slots under the scheme's rules.
    Clear,
    /// Real ciphertexts.
    Cpu,
}

impl BackendName {
    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Clear => "clear",
            Self::Cpu => "cpu",
        }
    }
}

/// Reads a golden file.
pub(super) fn golden(path: &Path) -> Result<Golden, Failure> {
    Golden::read(path).map_err(|error| {
        let remedy = "make one with `sottoc reference MODEL --input TEXT -o GOLDEN`";
        Failure::Input(format!("--golden: {error}; {remedy}"))
    })
}

/// Refuses a golden file of another model.
pub(super) fn check_vocabulary(path: &Path, golden: &Golden, dir: &PlanDir) -> Result<(), Failure> {
    let vocab = dir.plan().model.vocab;
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
    Cipher(Box<CipherTrial>),
}

impl Trial {
    /// Keys are made for a run on ciphertexts.
    pub fn new(backend: BackendName, noise: bool, dir: &PlanDir) -> Result<Self, Failure> {
        let model = Arc::new(ClientModel::load(dir).map_err(Failure::input)?);
        match backend {
            BackendName::Clear => {
                let noise = noise.then_some(NOISE_SEED);
                let trial = ClearTrial::new(dir, model, noise).map_err(Failure::input)?;
                Ok(Self::Clear(Box::new(trial)))
            }
            BackendName::Cpu if noise => Err(Failure::Input(
                "--noise is for --backend clear: real ciphertexts have their own".into(),
            )),
            BackendName::Cpu => {
                let meter = Meter::bar(0, "generating keys");
                let progress = |done: usize, total: usize| meter.set(done as u64, total as u64);
                let trial = CipherTrial::new(dir, model, progress).map_err(Failure::input)?;
                Ok(Self::Cipher(Box::new(trial)))
            }
        }
    }

    /// Logits after the next tokens.
    pub fn run(&mut self, tokens: Tokens<'_>) -> Result<Vec<f64>, TrialError> {
        match self {
            Self::Clear(trial) => trial.run(tokens),
            Self::Cipher(trial) => trial.run(tokens),
        }
    }

    /// Most tokens of a block.
    pub fn block(&self) -> u32 {
        match self {
            Self::Clear(trial) => trial.block(),
            Self::Cipher(trial) => trial.block(),
        }
    }

    /// Values that left their declared range, where the backend can see them.
    pub fn escapes(&self) -> Vec<Escape> {
        match self {
            Self::Clear(trial) => trial.ranges().escapes(),
            Self::Cipher(_) => Vec::new(),
        }
    }

    /// Begins another conversation, under the same keys and the same noise; what has left its range so far is forgotten.
    pub fn restart(&mut self) {
        match self {
            Self::Clear(trial) => trial.restart(),
            Self::Cipher(trial) => trial.restart(),
        }
    }
}
