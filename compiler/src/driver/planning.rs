//! How a model is planned, wherever it comes from.

use super::CompileError;
use crate::cost::{self, TableError};
use crate::level::Wanted;
use crate::lower::{LowerError, Options};
use crate::place::Strategy;
use crate::search::Guidance;
use sotto_ir::cost::CostTable;
use sotto_ir::params::ParamSet;
use std::path::PathBuf;

/// How a model is planned, wherever it comes from.
#[derive(Clone, Debug)]
pub struct Planning {
    /// Ring and chain.
    pub params: ParamSet,
    /// Context, margin, tolerance, who holds the ends.
    pub options: Options,
    /// Measured prices [default: the committed table, or counts for another ring].
    pub cost_table: Option<PathBuf>,
    /// What is taken from the search.
    pub guidance: Guidance,
    /// Who places bootstraps.
    pub strategy: Strategy,
    /// What is wanted of a placement: memory, and time for keys.
    pub wanted: Wanted,
    /// Most proposals of the search that are placed and compared; 1 takes the first.
    pub proposals: usize,
}

impl Planning {
    /// The defaults for a ring and a context.
    pub fn new(params: ParamSet, context: u32) -> Self {
        Self {
            options: Options::new(params.slots() as u32, context),
            params,
            cost_table: None,
            guidance: Guidance::default(),
            strategy: Strategy::default(),
            wanted: Wanted::default(),
            proposals: 6,
        }
    }

    /// Refuses options that no model goes with.
    pub fn check(&self) -> Result<(), LowerError> {
        self.options.check()
    }

    /// Refuses a context that a model of so many positions does not take.
    pub fn check_context(&self, most: usize) -> Result<(), CompileError> {
        let context = self.options.context;
        match context == 0 || context as usize > most {
            true => Err(CompileError::Context { context, most }),
            false => Ok(()),
        }
    }

    /// The table asked for, or the default of the ring.
    pub fn table(&self) -> Result<CostTable, TableError> {
        match &self.cost_table {
            Some(path) => cost::read(path, &self.params),
            None => cost::of(&self.params),
        }
    }
}
