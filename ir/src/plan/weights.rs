//! Where the numbers of a plan's arrays come from.

use super::{Plan, PlanError};
use serde::{Deserialize, Serialize};
use std::fmt::{self, Display, Formatter};
use std::path::Path;

/// Where the numbers of a plan's arrays come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Weights {
    /// A checkpoint.
    Checkpoint,
    /// A seed: the model has the shape and the ranges of a known one, and says nothing.
    Synthetic(u64),
    /// Nowhere. The plan has its programs, keys, costs and decisions, and no array or table made of weights: it can be read,
    /// priced and given keys, not run.
    None,
}

impl Display for Weights {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Weights::Checkpoint => f.write_str("checkpoint"),
            Weights::Synthetic(seed) => write!(f, "synthetic:{seed}"),
            Weights::None => f.write_str("none"),
        }
    }
}

impl Plan {
    /// Refuses a plan without weights, in `dir`, where somebody is about to compute with them.
    ///
    /// # Errors
    /// [`PlanError::NoWeights`].
    pub fn require_weights(&self, dir: &Path) -> Result<(), PlanError> {
        match self.model.weights {
            Weights::None => Err(PlanError::NoWeights { dir: dir.into() }),
            _ => Ok(()),
        }
    }
}
