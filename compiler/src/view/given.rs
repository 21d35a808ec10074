//! What a path names: a plan, a stage file or a golden file.

use crate::driver::{CompileError, StageFile, read_stage};
use miette::Diagnostic;
use sotto_ir::Digest;
use sotto_ir::golden::{Golden, GoldenError};
use sotto_ir::plan::{Plan, PlanError};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What a path names.
#[derive(Clone, Debug)]
pub enum Given {
    /// A plan directory, its `plan.ron` read.
    Plan {
        /// The directory.
        dir: PathBuf,
        /// The plan.
        plan: Arc<Plan>,
        /// Digest of `plan.ron`.
        digest: Digest,
    },
    /// A stage file.
    Stage(Box<StageFile>),
    /// A golden file.
    Golden(Box<Golden>),
}

/// Why nothing was read.
#[derive(Debug, thiserror::Error, Diagnostic)]
pub enum GivenError {
    /// Not a plan, or a damaged one.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Plan(#[from] PlanError),
    /// Not a golden, or a damaged one.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Golden(#[from] GoldenError),
    /// Not a stage file, or a damaged one.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Stage(#[from] CompileError),
}

impl Given {
    /// The kind of thing it is, in a word.
    pub fn kind(&self) -> &'static str {
        match self {
            Given::Plan { .. } => "plan",
            Given::Stage(file) => match **file {
                StageFile::Decoder(_) => "decoder",
                StageFile::Packed(_) => "packed",
                StageFile::Leveled(_) => "leveled",
            },
            Given::Golden(_) => "golden",
        }
    }
}

/// Reads what a path names: a directory is a plan, `.safetensors` is a golden, and anything else a stage file.
///
/// # Errors
/// Whatever is missing or damaged, with the file's name.
pub fn read(path: &Path) -> Result<Given, GivenError> {
    if path.is_dir() {
        let (plan, digest) = Plan::open(path)?;
        return Ok(Given::Plan {
            dir: path.into(),
            plan: Arc::new(plan),
            digest,
        });
    }
    if path
        .extension()
        .is_some_and(|suffix| suffix == "safetensors")
    {
        return Ok(Given::Golden(Box::new(Golden::read(path)?)));
    }
    Ok(Given::Stage(Box::new(read_stage(path)?)))
}
