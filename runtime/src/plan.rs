//! A plan on disk, opened.

use miette::Diagnostic;
use sotto_ir::plan::{FileEntry, Plan, PlanData, PlanError, check};
use sotto_ir::{Digest, Violations};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A plan that keeps the plan checker's rules, and the directory it came from.
#[derive(Clone, Debug)]
pub struct PlanDir {
    path: PathBuf,
    plan: Arc<Plan>,
    digest: Digest,
}

/// Why a plan must not run.
#[derive(Debug, thiserror::Error, Diagnostic)]
pub enum CheckError {
    /// The plan breaks rules of the plan checker.
    #[error("{path} breaks the plan's rules; compile the model again\n{violations}")]
    #[diagnostic(code(open::rules))]
    Rules {
        /// The plan directory.
        path: PathBuf,
        /// Every rule it breaks.
        violations: Violations,
    },
    /// A file of the plan is missing or damaged.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Files(#[from] PlanError),
}

impl PlanDir {
    /// Reads `plan.ron` of a plan directory and runs the plan checker, so that nobody computes or allocates by a number that
    /// breaks a rule.
    pub fn open(path: &Path) -> Result<Self, CheckError> {
        let (plan, digest) = Plan::open(path)?;
        check(&plan).map_err(|violations| CheckError::Rules {
            path: path.to_path_buf(),
            violations,
        })?;
        Ok(Self {
            path: path.to_path_buf(),
            plan: Arc::new(plan),
            digest,
        })
    }

    /// The plan.
    pub fn plan(&self) -> &Arc<Plan> {
        &self.plan
    }

    /// What names the plan in messages.
    pub fn digest(&self) -> String {
        self.digest.to_string()
    }

    /// Refuses a plan without weights.
    pub fn require_weights(&self) -> Result<(), PlanError> {
        self.plan.require_weights(&self.path)
    }

    /// Checks every byte of the server's side.
    pub fn check(&self) -> Result<(), CheckError> {
        Ok(self.data()?.check()?)
    }

    /// The server's arrays.
    pub fn data(&self) -> Result<Arc<PlanData>, PlanError> {
        Ok(Arc::new(PlanData::open(&self.path, self.plan.clone())?))
    }

    /// A file of the plan, checked.
    pub fn file(&self, entry: &FileEntry) -> Result<Vec<u8>, PlanError> {
        entry.read(&self.path)
    }

    /// A table of little-endian f32, checked.
    pub fn table(&self, entry: &FileEntry) -> Result<Vec<f32>, PlanError> {
        entry.read_table(&self.path)
    }
}
