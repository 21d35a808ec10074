//! The cost table: data, interpolation, file form.

use super::{Prices, Work};
use serde::{Deserialize, Serialize};
use sotto_ir::params::ParamSet;
use sotto_ir::slot::BootstrapKind;
use std::collections::BTreeMap;
use thiserror::Error;

/// A basic operation with a curve of seconds over levels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum OpClass {
    /// Ciphertext plus ciphertext.
    Add,
    /// Ciphertext plus plaintext.
    AddPlain,
    /// Ciphertext times encoded plaintext.
    MulPlain,
    /// Ciphertext times constant.
    MulConst,
    /// Ciphertext product with relinearisation.
    Mul,
    /// One rotation on its own.
    Rotate,
    /// Rescale, both components.
    Rescale,
    /// Level drop, both components.
    Drop,
    /// Encoding one plaintext.
    Encode,
    /// What a linear transform costs once: raising its operand to QP for all hoisted rotations, and coming back.
    LinearBase,
    /// One hoisted rotation that stays in QP.
    HoistedRotation,
    /// One plaintext product in QP, accumulated.
    DiagonalProduct,
    /// A giant step: ModDown of one component, decomposition, rotation that stays in QP.
    GiantStep,
}

impl OpClass {
    /// Every class a table must have.
    pub const ALL: [OpClass; 13] = [
        OpClass::Add,
        OpClass::AddPlain,
        OpClass::MulPlain,
        OpClass::MulConst,
        OpClass::Mul,
        OpClass::Rotate,
        OpClass::Rescale,
        OpClass::Drop,
        OpClass::Encode,
        OpClass::LinearBase,
        OpClass::HoistedRotation,
        OpClass::DiagonalProduct,
        OpClass::GiantStep,
    ];
}

/// Seconds at some levels, ascending; between them interpolated linearly, beyond them along the outermost segment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Curve(pub Vec<(u32, f64)>);

impl Curve {
    /// Seconds at `level`, never negative.
    pub fn at(&self, level: u32) -> f64 {
        let points = &self.0;
        let (Some(first), Some(last)) = (points.first(), points.last()) else {
            return 0.0;
        };
        if points.len() == 1 {
            return first.1;
        }
        let segment = points
            .windows(2)
            .find(|w| level <= w[1].0)
            .unwrap_or(&points[points.len() - 2..]);
        debug_assert!(first.0 < last.0);
        let ((l0, s0), (l1, s1)) = (segment[0], segment[1]);
        let t = (f64::from(level) - f64::from(l0)) / (f64::from(l1) - f64::from(l0));
        (s0 + t * (s1 - s0)).max(0.0)
    }
}

/// Seconds of one kind of bootstrap.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct BootstrapPrice {
    /// The kind.
    pub kind: BootstrapKind,
    /// Seconds of one.
    pub seconds: f64,
}

/// Seconds per operation, for one ring and machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CostTable {
    /// Name; plans record it together with the digest.
    pub name: String,
    /// How the figures came about: a command, or the formula.
    pub origin: String,
    /// log2 of the ring degree.
    pub log_n: u32,
    /// Threads the figures hold for.
    pub threads: u32,
    /// Curves of the basic operations, every class of [`OpClass::ALL`].
    pub ops: BTreeMap<OpClass, Curve>,
    /// Bootstraps; other slot counts are interpolated over log2 of the slots.
    pub bootstraps: Vec<BootstrapPrice>,
}

/// Why a cost table was refused.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum CostError {
    /// Not the text form of a cost table.
    #[error("cost table: {0}")]
    Parse(String),
    /// A table from counts could not be made.
    #[error("cost table from counts: {0}")]
    Model(String),
    /// A class has no curve, or one that is not ascending in level and finite.
    #[error(
        "cost table `{table}`: the curve of {class:?} is missing, out of order or not a positive number; list (level, seconds) pairs by ascending level"
    )]
    Curve {
        /// Name of the table.
        table: String,
        /// The class.
        class: OpClass,
    },
    /// No usable price for bootstraps.
    #[error(
        "cost table `{table}`: it needs at least one real and one complex bootstrap, with positive seconds"
    )]
    Bootstraps {
        /// Name of the table.
        table: String,
    },
}

/// The committed table.
const DEFAULT: &str = include_str!("default.ron");

impl CostTable {
    /// The committed table.
    pub fn committed() -> Result<Self, CostError> {
        Self::parse(DEFAULT)
    }

    /// The committed table if it is for this ring, else one from counts.
    pub fn of(params: &ParamSet) -> Result<Self, CostError> {
        let committed = Self::committed()?;
        if committed.log_n == params.log_n {
            return Ok(committed);
        }
        let counted = super::model::table(params, &super::model::Machine::TWO_CORES);
        counted.map_err(|e| CostError::Model(e.to_string()))
    }

    /// Reads and checks the text form.
    pub fn parse(text: &str) -> Result<Self, CostError> {
        let table: Self = ron::from_str(text).map_err(|e| CostError::Parse(e.to_string()))?;
        table.check()?;
        Ok(table)
    }

    /// The text form.
    pub fn print(&self) -> Result<String, CostError> {
        let pretty = ron::ser::PrettyConfig::new().depth_limit(3);
        ron::ser::to_string_pretty(self, pretty)
            .map(|text| text + "\n")
            .map_err(|e| CostError::Parse(e.to_string()))
    }

    /// blake3 of the text form, in hex.
    pub fn digest(&self) -> Result<String, CostError> {
        Ok(blake3::hash(self.print()?.as_bytes()).to_hex().to_string())
    }

    fn check(&self) -> Result<(), CostError> {
        for class in OpClass::ALL {
            let sound = self.ops.get(&class).is_some_and(|Curve(points)| {
                !points.is_empty()
                    && points.windows(2).all(|w| w[0].0 < w[1].0)
                    && points.iter().all(|(_, s)| s.is_finite() && *s > 0.0)
            });
            if !sound {
                let table = self.name.clone();
                return Err(CostError::Curve { table, class });
            }
        }
        let sound = |p: &BootstrapPrice| p.seconds.is_finite() && p.seconds > 0.0;
        let both = [false, true]
            .iter()
            .all(|c| self.bootstraps.iter().any(|p| p.kind.complex == *c));
        if both && self.bootstraps.iter().all(sound) {
            Ok(())
        } else {
            Err(CostError::Bootstraps {
                table: self.name.clone(),
            })
        }
    }

    /// Seconds of a basic operation.
    pub fn op(&self, class: OpClass, level: u32) -> f64 {
        self.ops.get(&class).map_or(0.0, |c| c.at(level))
    }

    /// Seconds of a bootstrap.
    pub fn bootstrap(&self, kind: BootstrapKind) -> f64 {
        let mut points: Vec<(u32, f64)> = self
            .bootstraps
            .iter()
            .filter(|p| p.kind.complex == kind.complex)
            .map(|p| (p.kind.slots.max(1).ilog2(), p.seconds))
            .collect();
        points.sort_by_key(|p| p.0);
        points.dedup_by_key(|p| p.0);
        let (low, high) = match (points.first(), points.last()) {
            (Some(low), Some(high)) => (low.0, high.0),
            _ => return 0.0,
        };
        Curve(points).at(kind.slots.max(1).ilog2().clamp(low, high))
    }

    /// Seconds of `work` on operands at `level`.
    pub fn seconds(&self, work: &Work, level: u32) -> f64 {
        let op = |class| self.op(class, level);
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
            Work::Poly(plan) => {
                let at_depth = |(depth, ops): (usize, sotto_ir::params::poly::DepthOps)| {
                    let op = |class| self.op(class, level.saturating_sub(depth as u32));
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
            Work::Bootstrap(kind) => self.bootstrap(*kind),
        }
    }
}

impl Prices for CostTable {
    fn nanos(&self, work: &Work, level: u32) -> u64 {
        (self.seconds(work, level) * 1e9).round() as u64
    }
}
