//! Leveled to plan: instruction streams, keys, what it costs and what it discloses.
//!
//! Nothing is decided here any more; the figures follow from the leveled program and the parameter set.

mod counts;
mod disclose;
mod estimate;
pub mod explain;
mod figures;
mod keys;
mod lower;
pub mod memory;
mod summary;
#[cfg(test)]
mod tests;

pub use counts::Counts;
pub use disclose::disclosures;
pub use figures::{Bootstraps, Figures, Measures};
pub use summary::summary;

use miette::Diagnostic;
use sotto_ir::cost::{CostError, CostTable};
use sotto_ir::params::ParamSet;
use sotto_ir::params::bootstrap::{BootstrapError, BootstrapSpec};
use sotto_ir::plan::{Estimate, KeyList, PlanProgram};
use sotto_ir::slot::{Leveled, Program};
use thiserror::Error;

/// What emission contributes to a plan.
#[derive(Clone, Debug, PartialEq)]
pub struct Emitted {
    /// The program as instruction streams.
    pub decode: PlanProgram,
    /// Keys with levels, the bootstraps' included.
    pub keys: KeyList,
    /// The structure of each kind of bootstrap in use.
    pub bootstraps: Vec<BootstrapSpec>,
    /// Predicted time and memory.
    pub estimate: Estimate,
}

/// Why a leveled program could not be emitted.
#[derive(Clone, Debug, PartialEq, Error, Diagnostic)]
pub enum EmitError {
    /// An operand is read before it is defined.
    #[error("template `{template}`, {site}: reads v{value} before it is defined")]
    #[diagnostic(code(emit::undefined))]
    Undefined {
        /// Template name.
        template: String,
        /// Site of the reader.
        site: String,
        /// The value's number.
        value: u32,
    },
    /// An operation names something that is not there.
    #[error("template `{template}`, {site}: {what}")]
    #[diagnostic(code(emit::malformed))]
    Malformed {
        /// Template name.
        template: String,
        /// Site of the instruction.
        site: String,
        /// What is missing.
        what: String,
    },
    /// A bootstrap kind does not exist in the parameter set.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Bootstrap(#[from] BootstrapError),
    /// The cost table is unusable.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Cost(#[from] CostError),
}

/// Emits a leveled program; keys and bootstraps are those of the programs `beside` it too. Same input, same output.
pub fn emit(
    program: &Program<Leveled>,
    params: &ParamSet,
    table: &CostTable,
    beside: &[&PlanProgram],
) -> Result<Emitted, EmitError> {
    let decode = lower::lower(program)?;
    let all = || beside.iter().copied().chain([&decode]);
    let bootstraps = keys::bootstraps(all(), params)?;
    let keys = KeyList::of(all(), &bootstraps, program.slots);
    let mut estimate = estimate::estimate(&decode, program.capacity, table)?;
    memory::fill(
        &mut estimate,
        &decode,
        &bootstraps,
        &keys,
        program.capacity,
        params,
    );
    Ok(Emitted {
        decode,
        keys,
        bootstraps,
        estimate,
    })
}
