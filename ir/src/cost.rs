//! Cost tables: seconds of the scheme's operations on one machine, measured by the runtime, minimised by the compiler.
//!
//! A [`CostTable`] holds seconds per basic operation at several levels and per bootstrap; levels between are interpolated. A machine
//! changes its speed from minute to minute, so a table also holds its yardstick: what one transform took in the same run.

use crate::slot::BootstrapKind;
use miette::Diagnostic;
use serde::{Deserialize, Serialize};
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
    /// The closest curve that does not fall: neighbours that do are replaced by their mean (pool adjacent violators). Working at a
    /// lower level never costs more, and placement relies on it.
    pub fn rising(self) -> Self {
        // (sum, count) of each pool.
        let mut pools: Vec<(f64, usize)> = Vec::new();
        for (_, seconds) in &self.0 {
            pools.push((*seconds, 1));
            while let [.., a, b] = pools[..]
                && a.0 / a.1 as f64 > b.0 / b.1 as f64
            {
                pools.truncate(pools.len() - 2);
                pools.push((a.0 + b.0, a.1 + b.1));
            }
        }
        let means = pools
            .into_iter()
            .flat_map(|(sum, n)| std::iter::repeat_n(sum / n as f64, n));
        let levels = self.0.iter().map(|(level, _)| *level);
        Self(levels.zip(means).collect())
    }

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
    /// Seconds of one transform of 2^16 points modulo a 30-bit prime on one thread, in the same run: the speed of the machine then.
    pub yardstick_seconds: f64,
    /// Whether matrices lie by their coefficients there, and their prices include expanding them: then there is room for all of them, and
    /// none is encoded anew.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub compact: bool,
    /// Curves of the basic operations, every class of [`OpClass::ALL`].
    pub ops: BTreeMap<OpClass, Curve>,
    /// Bootstraps; other slot counts are interpolated over log2 of the slots.
    pub bootstraps: Vec<BootstrapPrice>,
}

/// Why a cost table was refused.
#[derive(Clone, Debug, PartialEq, Error, Diagnostic)]
pub enum CostError {
    /// Not the text form of a cost table.
    #[error("cost table: {0}; `sotto bench --cost-table FILE` makes one")]
    #[diagnostic(code(cost::parse))]
    Parse(String),
    /// A class has no curve, or one that is not ascending in level and finite.
    #[error(
        "cost table `{table}`: the curve of {class:?} is missing, out of order or not a positive number; list (level, seconds) pairs by ascending level"
    )]
    #[diagnostic(code(cost::curve))]
    Curve {
        /// Name of the table.
        table: String,
        /// The class.
        class: OpClass,
    },
    /// No usable price for bootstraps, or no yardstick.
    #[error(
        "cost table `{table}`: it needs a yardstick and at least one real and one complex bootstrap, with positive seconds"
    )]
    #[diagnostic(code(cost::bootstraps))]
    Bootstraps {
        /// Name of the table.
        table: String,
    },
}

impl CostTable {
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
        let yardstick = self.yardstick_seconds;
        let measured = yardstick.is_finite() && yardstick > 0.0;
        if measured && both && self.bootstraps.iter().all(sound) {
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
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> CostTable {
        let price = |slots, complex, seconds| BootstrapPrice {
            kind: BootstrapKind { slots, complex },
            seconds,
        };
        CostTable {
            name: "test".into(),
            origin: "made up".into(),
            log_n: 16,
            threads: 2,
            yardstick_seconds: 1e-4,
            compact: false,
            ops: OpClass::ALL
                .map(|c| (c, Curve(vec![(0, 1.0), (4, 3.0)])))
                .into(),
            bootstraps: vec![
                price(2, false, 1.0),
                price(32, false, 3.0),
                price(32, true, 4.0),
            ],
        }
    }

    #[test]
    fn curves_interpolate_and_rise() {
        let curve = Curve(vec![(0, 1.0), (4, 3.0), (8, 3.5)]);
        assert_eq!(
            [0, 2, 4, 6, 8].map(|l| curve.at(l)),
            [1.0, 2.0, 3.0, 3.25, 3.5]
        );
        assert_eq!(curve.at(10), 3.75);
        let bumpy = Curve(vec![(0, 1.0), (1, 4.0), (2, 2.0), (3, 5.0)]);
        assert_eq!(bumpy.rising().0, [(0, 1.0), (1, 3.0), (2, 3.0), (3, 5.0)]);
        let kind = |slots, complex| BootstrapKind { slots, complex };
        // Over log2 of the slots, and no further than measured.
        let seconds = [2, 8, 32, 128].map(|slots| table().bootstrap(kind(slots, false)));
        assert_eq!(seconds, [1.0, 2.0, 3.0, 3.0]);
        assert_eq!(table().bootstrap(kind(2, true)), 4.0);
    }

    #[test]
    fn a_table_reads_back_and_a_damaged_one_does_not() {
        let text = table().print().unwrap();
        assert_eq!(CostTable::parse(&text), Ok(table()));
        assert!(matches!(
            CostTable::parse(&text[..200]),
            Err(CostError::Parse(_))
        ));
        let refused = |change: fn(&mut CostTable)| {
            let mut table = table();
            change(&mut table);
            CostTable::parse(&table.print().unwrap()).unwrap_err()
        };
        let class = OpClass::Mul;
        let curve = CostError::Curve {
            table: "test".into(),
            class,
        };
        assert_eq!(refused(|t| drop(t.ops.remove(&OpClass::Mul))), curve);
        let bootstraps = CostError::Bootstraps {
            table: "test".into(),
        };
        assert_eq!(refused(|t| t.bootstraps.truncate(2)), bootstraps);
        assert_eq!(refused(|t| t.yardstick_seconds = 0.0), bootstraps);
    }
}
