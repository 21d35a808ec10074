//! What operations cost: the price list that placement minimises and the plan's estimate adds up.
//!
//! A [`CostTable`] holds seconds per basic operation at several levels and per bootstrap; levels between are interpolated. The
//! committed table, measured, is `default.ron` beside this file; plans name the table and its digest. [`model`] derives a table from
//! transform counts for rings where nothing has been measured. [`Work`] says which basic operations an operation of a program consists of, from the
//! same structure that the executor follows.

pub mod model;
mod table;
#[cfg(test)]
mod tests;
mod work;

pub use table::{BootstrapPrice, CostError, CostTable, Curve, OpClass};
pub use work::{Work, WorkError, depends_on_position};

/// Prices of work by level.
pub trait Prices {
    /// Nanoseconds of `work` on operands at `level`.
    fn nanos(&self, work: &Work, level: u32) -> u64;
}
