//! Which table prices a program, and what it says of each kind of work.

use super::model::{self, Machine};
use super::{Prices, Work};
use miette::Diagnostic;
use sotto_ir::cost::{CostError, CostTable, OpClass};
use sotto_ir::params::ParamSet;
use sotto_ir::params::bootstrap::BootstrapError;
use sotto_ir::params::poly::DepthOps;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Why there is no table to price with.
#[derive(Debug, Error, Diagnostic)]
pub enum TableError {
    /// The table's content.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Table(#[from] CostError),
    /// A table file that cannot be used.
    #[error("{path}: {cause}")]
    #[diagnostic(code(cost::file))]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        cause: String,
    },
    /// The table holds for another ring.
    #[error(
        "{path}: it holds for rings of 2^{found}, the plan's has 2^{expected}; measure one with `sotto bench --cost-table`"
    )]
    #[diagnostic(code(cost::ring))]
    Ring {
        /// The file.
        path: PathBuf,
        /// log2 of its ring degree.
        found: u32,
        /// log2 of the plan's.
        expected: u32,
    },
    /// A table from counts could not be made.
    #[error("cost table from counts: {0}")]
    #[diagnostic(code(cost::counted))]
    Counted(#[from] BootstrapError),
}

/// The committed table.
const DEFAULT: &str = include_str!("default.ron");

/// The committed table.
pub fn committed() -> Result<CostTable, CostError> {
    CostTable::parse(DEFAULT)
}

/// The committed table if it is for this ring, else one from counts.
pub fn of(params: &ParamSet) -> Result<CostTable, TableError> {
    let committed = committed()?;
    if committed.log_n == params.log_n {
        return Ok(committed);
    }
    Ok(model::table(params, &Machine::TWO_CORES)?)
}

/// The table in a file, for this ring.
pub fn read(path: &Path, params: &ParamSet) -> Result<CostTable, TableError> {
    let failed = |cause: String| TableError::File {
        path: path.into(),
        cause,
    };
    let text = std::fs::read_to_string(path).map_err(|e| failed(e.to_string()))?;
    let table = CostTable::parse(&text).map_err(|e| failed(e.to_string()))?;
    let (found, expected) = (table.log_n, params.log_n);
    if found != expected {
        let path = path.into();
        return Err(TableError::Ring {
            path,
            found,
            expected,
        });
    }
    Ok(table)
}

/// Seconds of `work` on operands at `level`, by a table.
pub fn seconds(table: &CostTable, work: &Work, level: u32) -> f64 {
    let op = |class| table.op(class, level);
    match work {
        Work::Add => op(OpClass::Add),
        Work::AddPlain => op(OpClass::AddPlain),
        Work::MulPlain => op(OpClass::MulPlain),
        Work::MulConst => op(OpClass::MulConst),
        Work::Mul => op(OpClass::Mul),
        Work::Rotate | Work::Conjugate => op(OpClass::Rotate),
        Work::Rescale => op(OpClass::Rescale),
        Work::Drop => op(OpClass::Drop),
        Work::Encode => op(OpClass::Encode),
        Work::Fold { rotations } => {
            f64::from(*rotations) * (op(OpClass::Rotate) + op(OpClass::Add))
        }
        Work::Linear { diagonals, baby } => {
            let baby = (*baby).clamp(1, (*diagonals).max(1));
            let giants = diagonals.div_ceil(baby).max(1);
            op(OpClass::LinearBase)
                + f64::from(baby - 1) * op(OpClass::HoistedRotation)
                + f64::from(*diagonals) * op(OpClass::DiagonalProduct)
                + f64::from(giants - 1) * op(OpClass::GiantStep)
        }
        Work::Apply { diagonals, baby } => {
            let parts = Switch::of(table, level);
            let (baby, giants) = (
                f64::from(*baby),
                f64::from(diagonals.div_ceil((*baby).max(1))),
            );
            // a product without its relinearisation costs its four limb products, about two plaintext products
            parts.turns(baby)
                + f64::from(*diagonals) * 2.0 * op(OpClass::MulPlain)
                + giants * (parts.decompose + parts.product)
                + (giants - 1.0) * op(OpClass::GiantStep)
                + 2.0 * parts.mod_down
        }
        Work::Spread { turns, masks } => {
            let (turns, masks) = (f64::from(*turns), f64::from(*masks));
            let each = op(OpClass::MulPlain) + op(OpClass::Rescale) + op(OpClass::Add);
            Switch::of(table, level).turns(turns)
                + masks * op(OpClass::Encode)
                + turns * masks * each
        }
        Work::Poly(plan) => {
            let at_depth = |(depth, ops): (usize, DepthOps)| {
                let op = |class| table.op(class, level.saturating_sub(depth as u32));
                // A product that shares its relinearisation costs its four limb products, about two plaintext products.
                let shared = ops.products.saturating_sub(ops.relinearisations) as f64;
                ops.relinearisations as f64 * op(OpClass::Mul)
                    + shared * 2.0 * op(OpClass::MulPlain)
                    + ops.constants as f64 * (op(OpClass::MulConst) + op(OpClass::Add))
                    + ops.rescales as f64 * op(OpClass::Rescale)
                    + ops.drops as f64 * op(OpClass::Drop)
            };
            plan.operations()
                .into_iter()
                .enumerate()
                .map(at_depth)
                .sum()
        }
        Work::Bootstrap(kind) => table.bootstrap(*kind),
    }
}

/// What a key switch consists of, as far as the classes of a table tell.
struct Switch {
    decompose: f64,
    /// With the key, modulo QP.
    product: f64,
    /// Of one component.
    mod_down: f64,
}

impl Switch {
    /// A linear transform's base is a decomposition and two ModDowns; a giant step is one of each and a key product.
    fn of(table: &CostTable, level: u32) -> Self {
        let [base, product, giant] = [
            OpClass::LinearBase,
            OpClass::HoistedRotation,
            OpClass::GiantStep,
        ]
        .map(|class| table.op(class, level));
        let mod_down = (base + product - giant).max(0.0);
        Self {
            decompose: (base - 2.0 * mod_down).max(0.0),
            product,
            mod_down,
        }
    }

    /// So many rotations of one ciphertext, that by 0 among them.
    fn turns(&self, count: f64) -> f64 {
        self.decompose + (count - 1.0) * (self.product + 2.0 * self.mod_down)
    }
}

impl Prices for CostTable {
    fn nanos(&self, work: &Work, level: u32) -> u64 {
        (seconds(self, work, level) * 1e9).round() as u64
    }
}
